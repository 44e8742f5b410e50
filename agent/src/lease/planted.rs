//! Faults that a test plants to show that it would find them. In every other build there are none.

/// One way in which leases could be wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// A lease is due a moment after its deadline.
    DeadlineLate,
    /// What stood below a layer is not handed on when it ends.
    BaseLost,
    /// A lease that has ended is still in force.
    EndsTwice,
    /// A lease past its deadline can be confirmed as long as nobody has ended it.
    LateConfirm,
    /// A lost session changes nothing.
    NoGrace,
    /// Coming back does not take the grace away.
    GraceStays,
    /// A lease stays whose it was.
    AdoptKeepsOwner,
    /// A new deadline counts from the old one.
    ExtendAdds,
    /// What the service wrote is overwritten.
    Overwrites,
    /// Ids begin anew with the process.
    IdsAgain,
    /// A lease can be confirmed again and again.
    ConfirmsTwice,
    /// A point is not told of another deadline.
    PointNotTold,
    /// An element of a list is what stands at its position.
    PositionTrusted,
    /// A list that became shorter or longer is compared as if it had not.
    LengthIgnored,
    /// The first of several elements that look alike is taken for the one that was changed.
    IdentityNotUnique,
    /// What was filled is left as it is when its lease ends.
    AbsenceForgotten,
    /// What has no positions is merged position by position.
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

/// No fault is.
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
