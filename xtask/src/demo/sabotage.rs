//! The faults that can be introduced, and the steps that must notice them.

/// A fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum Sabotage {
    /// A program is to be built that does not exist
    ProgramMissing,
    /// The operator's role has a name that no role can have
    RoleMisspelt,
    /// SERVER__PORT is not a number
    PortMisspelt,
    /// The health check is asked of a port without a listener
    NobodyListens,
    /// The service starts without DEBUG_AGENT
    AgentOff,
    /// The service has another database configured
    OtherDatabase,
    /// The token is read by a lead, who reveals it
    SecretShown,
    /// The first patch asks for the mode change, and so is not refused
    ModeChanged,
    /// The session patches without entering the mode change
    ChangeForgotten,
    /// Requests go to a second instance, in which nothing is patched
    PatchIgnored,
    /// The patch writes nothing to the log
    WarningLeftOut,
    /// The other route's request is signed with another secret
    SignedByAnother,
    /// The service is restarted while the patch is in force
    ServiceRestarted,
    /// The patch has a deadline far away
    RevertOff,
    /// The patch is reverted by hand, long before its deadline
    RevertEarly,
    /// The function is not patched
    FunctionNotPatched,
    /// The viewer has the role oncall
    ViewerAllowed,
    /// The audit log that is listed has lost its records
    LogNotWritten,
    /// The log is verified against the key of another agent
    SignatureWrong,
    /// The log is verified without having been tampered with
    TamperForgotten,
}

impl Sabotage {
    /// The step that must fail.
    pub(super) const fn noticed_by(self) -> &'static str {
        match self {
            Self::ProgramMissing => "build",
            Self::RoleMisspelt => "certificates",
            Self::PortMisspelt => "start",
            Self::NobodyListens => "healthcheck-ok",
            Self::AgentOff => "attach",
            Self::OtherDatabase => "read-config",
            Self::SecretShown => "secret-opaque",
            Self::ModeChanged => "patch-refused-in-observe",
            Self::ChangeForgotten => "change-and-patch",
            Self::PatchIgnored => "teapot-418",
            Self::WarningLeftOut => "teapot-warning-in-service-log",
            Self::SignedByAnother => "other-route-unaffected",
            Self::ServiceRestarted => "same-process",
            Self::RevertOff | Self::RevertEarly => "deadline-reverts",
            Self::FunctionNotPatched => "function-point",
            Self::ViewerAllowed => "viewer-denied",
            Self::LogNotWritten => "audit-list",
            Self::SignatureWrong => "audit-verify",
            Self::TamperForgotten => "tamper-found",
        }
    }
}
