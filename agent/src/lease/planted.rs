//! Faults that tests plant to prove that they would be found. Other builds contain none.

/// One way in which leases could be wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// A lease becomes due just after its deadline instead of at it.
    DeadlineLate,
    /// The base of a layer is lost when a layer below ends.
    BaseLost,
    /// An ended lease stays in force.
    EndsTwice,
    /// A lease past its deadline can be confirmed until it is undone.
    LateConfirm,
    /// A lost session starts no grace period.
    NoGrace,
    /// A takeover does not clear the grace period.
    GraceStays,
    /// An adopted lease keeps its owner.
    AdoptKeepsOwner,
    /// A new deadline is added to the old one.
    ExtendAdds,
    /// A value written by the service is overwritten.
    Overwrites,
    /// Ids start again with each process.
    IdsAgain,
    /// A lease can be confirmed more than once.
    ConfirmsTwice,
    /// A point does not receive a new deadline.
    PointNotTold,
    /// A list element is identified by its position.
    PositionTrusted,
    /// Lists of different lengths are compared as if of equal length.
    LengthIgnored,
    /// The first of several equal elements is taken for the changed one.
    IdentityNotUnique,
    /// A place that was filled stays filled when its lease ends.
    AbsenceForgotten,
    /// A list without positions is merged by position.
    SetAsList,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Whether this fault is planted on this thread.
#[cfg(test)]
pub(crate) fn planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

/// No fault is planted outside tests.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn planted(_fault: Fault) -> bool {
    false
}

/// Plants a fault on this thread while `run` runs.
#[cfg(test)]
pub(crate) fn with<T>(fault: Fault, run: impl FnOnce() -> T) -> T {
    PLANTED.set(Some(fault));
    let result = run();
    PLANTED.set(None);
    result
}
