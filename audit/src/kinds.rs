//! The kinds of records that end a lease (FORMAT.md, section 9), shared by writers and verifiers.

/// Ends a lease that an earlier process left in force.
pub const LEASE_RESTART: &str = "lease.restart";
/// Ends a lease that could not be fully undone.
pub const LEASE_CONFLICT: &str = "lease.conflict";

/// All kinds that end a lease; each lease of a run that has ended has exactly one such record.
pub const LEASE_ENDS: [&str; 10] = [
    "lease.reverted",
    "lease.expired",
    "lease.undone",
    "lease.session-lost",
    "lease.guard-failed",
    "lease.breaker",
    "lease.revoked",
    "lease.shutdown",
    LEASE_RESTART,
    LEASE_CONFLICT,
];
