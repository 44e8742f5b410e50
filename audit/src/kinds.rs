//! The kinds of records that end a lease (FORMAT.md, section 9): for those who write them and those who check them.

/// Of a lease that the process before this one left in force.
pub const LEASE_RESTART: &str = "lease.restart";
/// Of a lease that could not be undone whole.
pub const LEASE_CONFLICT: &str = "lease.conflict";

/// All of them; each lease of a run that has ended has exactly one such record.
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
