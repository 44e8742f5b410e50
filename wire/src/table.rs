//! The one table: every host function and every method, each with the action that policy decides about.
//!
//! Dispatch, `help()`, completion and the documentation are derived from it. A function or method without an
//! action cannot be written down.

use debug_policy::Action;

/// What an action of a function is decided on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum On {
    /// The agent itself.
    Agent,
    /// The leaves of the state path in the first argument.
    State,
    /// The point named by the first argument.
    Point,
    /// The target of the service's log named by the first argument.
    Target,
    /// The target of the lease in the first argument, and its owner if that is somebody else.
    Lease,
}

/// How what a function did is undone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Undo {
    /// It changes nothing.
    Nothing,
    /// It is a lease with a deadline.
    Lease,
    /// The end of the session.
    Session,
    /// It cannot be undone.
    Cannot,
}

/// A host function.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Function {
    /// Its name in Rhai.
    pub name: &'static str,
    /// The action that policy decides about.
    pub action: Action,
    /// What the decision is about.
    pub on: On,
    /// How it is undone.
    pub undo: Undo,
    /// Whether a single call of it works while the audit log cannot be written (invariant 2).
    pub emergency: bool,
    /// Whether frozen code, in which there is no operator, may call it.
    pub in_patches: bool,
    /// Each form it can be called in, such as `patch(point, fn, opts?)`; `?` marks what may be left out.
    pub usage: &'static str,
    /// One line.
    pub about: &'static str,
    /// One line of Rhai that works on the demo service.
    pub example: &'static str,
}

impl Function {
    /// The numbers of arguments it takes, the smallest first: `patch(point, fn, opts?)` takes 2 or 3.
    pub fn arities(&self) -> std::ops::RangeInclusive<usize> {
        let inside = self.usage.split_once('(').map_or("", |(_, rest)| rest.trim_end_matches(')'));
        let args = inside.split(',').map(str::trim).filter(|a| !a.is_empty());
        let (required, all) =
            args.fold((0, 0), |(required, all), a| (required + usize::from(!a.ends_with('?')), all + 1));
        required..=all
    }
}

/// A method of the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Method {
    /// Its name in JSON-RPC.
    pub name: &'static str,
    /// The action that policy decides about; an eval's effects are decided one by one besides.
    pub action: Action,
    /// One line.
    pub about: &'static str,
}

/// Every host function of this version.
pub const FUNCTIONS: &[Function] = &[
    Function {
        name: "help",
        action: Action::Attach,
        on: On::Agent,
        undo: Undo::Nothing,
        emergency: true,
        in_patches: false,
        usage: "help(name?)",
        about: "what can be called; with a name, how",
        example: r#"help("patch")"#,
    },
    Function {
        name: "info",
        action: Action::List,
        on: On::Agent,
        undo: Undo::Nothing,
        emergency: true,
        in_patches: false,
        usage: "info()",
        about: "the service, the agent, its limits, and notes on what needs attention",
        example: "info()",
    },
    Function {
        name: "ls",
        action: Action::List,
        on: On::Agent,
        undo: Undo::Nothing,
        emergency: false,
        in_patches: false,
        usage: "ls(path?)",
        about: "the names below a state path; without one, the states",
        example: r#"ls("config")"#,
    },
    Function {
        name: "get",
        action: Action::Read,
        on: On::State,
        undo: Undo::Nothing,
        emergency: false,
        in_patches: true,
        usage: "get(path)",
        about: "a copy of the value at a state path",
        example: r#"get("config.db.host")"#,
    },
    Function {
        name: "reveal",
        action: Action::Reveal,
        on: On::State,
        undo: Undo::Cannot,
        emergency: false,
        in_patches: false,
        usage: "reveal(path)",
        about: "a secret in the clear; recorded",
        example: r#"reveal("config.slack.token")"#,
    },
    Function {
        name: "set",
        action: Action::Write,
        on: On::State,
        undo: Undo::Lease,
        emergency: false,
        in_patches: false,
        usage: "set(path, value, opts?)",
        about: "changes the value at a state path until a deadline; opts: ttl, reason, over, persist, guard",
        example: r#"set("config.server.port", 9090, #{ ttl: "5m" })"#,
    },
    Function {
        name: "points",
        action: Action::List,
        on: On::Agent,
        undo: Undo::Nothing,
        emergency: false,
        in_patches: false,
        usage: "points()",
        about: "the points that can be patched, and which are",
        example: "points()",
    },
    Function {
        name: "describe",
        action: Action::List,
        on: On::Agent,
        undo: Undo::Nothing,
        emergency: false,
        in_patches: false,
        usage: "describe(name)",
        about: "a point or state: where it is, its arguments, its layers",
        example: r#"describe("GET /api/healthcheck")"#,
    },
    Function {
        name: "patch",
        action: Action::Patch,
        on: On::Point,
        undo: Undo::Lease,
        emergency: false,
        in_patches: false,
        usage: "patch(point, fn, opts?)",
        about: "puts a function in the place of a point until a deadline; opts: ttl, reason, over, persist, guard, unseen",
        example: r#"patch("GET /api/healthcheck", |req| #{ status: 418, body: #{ status: "I'm a teapot" } }, #{ ttl: "5m" })"#,
    },
    Function {
        name: "log_level",
        action: Action::SetLevel,
        on: On::Target,
        undo: Undo::Lease,
        emergency: false,
        in_patches: false,
        usage: "log_level(target, level, opts?)",
        about: "lets more or less of a target into the service's log until a deadline; opts: ttl, reason, over",
        example: r#"log_level("dienstplan::rota", "debug", #{ ttl: "5m" })"#,
    },
    Function {
        name: "leases",
        action: Action::List,
        on: On::Agent,
        undo: Undo::Nothing,
        emergency: true,
        in_patches: false,
        usage: "leases()",
        about: "the changes in force, whose they are and when they revert",
        example: "leases()",
    },
    Function {
        name: "confirm",
        action: Action::Confirm,
        on: On::Lease,
        undo: Undo::Nothing,
        emergency: false,
        in_patches: false,
        usage: "confirm(id, ttl)",
        about: "keeps a change past its first deadline, until a later one",
        example: r#"confirm(1, "20m")"#,
    },
    Function {
        name: "extend",
        action: Action::Extend,
        on: On::Lease,
        undo: Undo::Nothing,
        emergency: false,
        in_patches: false,
        usage: "extend(id, ttl)",
        about: "sets another deadline",
        example: r#"extend(1, "10m")"#,
    },
    Function {
        name: "adopt",
        action: Action::Adopt,
        on: On::Lease,
        undo: Undo::Nothing,
        emergency: false,
        in_patches: false,
        usage: "adopt(id)",
        about: "makes a change one's own, so that it no longer depends on who made it",
        example: "adopt(1)",
    },
    Function {
        name: "guard",
        action: Action::Guard,
        on: On::Lease,
        undo: Undo::Nothing,
        emergency: false,
        in_patches: false,
        usage: "guard(id, fn)",
        about: "ends a change once a condition is false; it sees calls, errors, failures, mean_us, p99_us, points, gauges",
        example: r#"guard(1, |s| s.errors < 10 && s.p99_us < 50000)"#,
    },
    Function {
        name: "settle",
        action: Action::Settle,
        on: On::Lease,
        undo: Undo::Nothing,
        emergency: false,
        in_patches: false,
        usage: "settle(id, how)",
        about: "after a conflict: \"keep\" what the service made of it, or \"force\" the undo",
        example: r#"settle(1, "keep")"#,
    },
    Function {
        name: "revert",
        action: Action::Revert,
        on: On::Lease,
        undo: Undo::Nothing,
        emergency: true,
        in_patches: false,
        usage: "revert(id)",
        about: "ends a change now; one's own always",
        example: "revert(1)",
    },
    Function {
        name: "revert_all",
        action: Action::Revert,
        on: On::Lease,
        undo: Undo::Nothing,
        emergency: true,
        in_patches: false,
        usage: "revert_all()",
        about: "ends every change that the operator may end now",
        example: "revert_all()",
    },
    Function {
        name: "sessions",
        action: Action::List,
        on: On::Agent,
        undo: Undo::Nothing,
        emergency: true,
        in_patches: false,
        usage: "sessions()",
        about: "who is attached",
        example: "sessions()",
    },
    Function {
        name: "plan",
        action: Action::Attach,
        on: On::Agent,
        undo: Undo::Nothing,
        emergency: false,
        in_patches: false,
        usage: "plan(fn)",
        about: "what a function would do and what policy says of it, without doing it",
        example: r#"plan(|| config.server.port = 9090)"#,
    },
    Function {
        name: "snapshot",
        action: Action::Read,
        on: On::State,
        undo: Undo::Nothing,
        emergency: false,
        in_patches: false,
        usage: "snapshot(name, paths?)",
        about: "keeps what stands at some state paths, or in all states, under a name",
        example: r#"snapshot("before", ["config.db"])"#,
    },
    Function {
        name: "snapshots",
        action: Action::List,
        on: On::Agent,
        undo: Undo::Nothing,
        emergency: false,
        in_patches: false,
        usage: "snapshots()",
        about: "the snapshots that are kept; one is taken before each eval's first change of a state",
        example: "snapshots()",
    },
    Function {
        name: "diff",
        action: Action::Read,
        on: On::State,
        undo: Undo::Nothing,
        emergency: false,
        in_patches: false,
        usage: "diff(name)",
        about: "where the states differ now from a snapshot, path by path",
        example: r#"diff("before")"#,
    },
    Function {
        name: "restore",
        action: Action::Write,
        on: On::State,
        undo: Undo::Lease,
        emergency: false,
        in_patches: false,
        usage: "restore(name, opts?)",
        about: "puts the states back to a snapshot until a deadline; opts: ttl, reason, over (a list, too), persist, guard",
        example: r#"restore("before", #{ ttl: "5m" })"#,
    },
    Function {
        name: "change",
        action: Action::Change,
        on: On::Agent,
        undo: Undo::Session,
        emergency: false,
        in_patches: false,
        usage: "change(reason)",
        about: "enters the mode in which changes are possible",
        example: r#"change("INC-42 healthcheck flaps")"#,
    },
    Function {
        name: "observe",
        action: Action::Attach,
        on: On::Agent,
        undo: Undo::Nothing,
        emergency: false,
        in_patches: false,
        usage: "observe()",
        about: "leaves the mode in which changes are possible",
        example: "observe()",
    },
    Function {
        name: "log_info",
        action: Action::Log,
        on: On::Agent,
        undo: Undo::Cannot,
        emergency: false,
        in_patches: true,
        usage: "log_info(text)",
        about: "writes a line into the service's log, marked as ours",
        example: r#"log_info("looking at INC-42")"#,
    },
    Function {
        name: "log_warn",
        action: Action::Log,
        on: On::Agent,
        undo: Undo::Cannot,
        emergency: false,
        in_patches: true,
        usage: "log_warn(text)",
        about: "writes a warning into the service's log, marked as ours",
        example: r#"log_warn("a china teapot revolving about the sun")"#,
    },
];

/// Names of functions that are planned and not part of this version, so that an eval that calls one is told just that. A
/// name leaves this list when its function enters [`FUNCTIONS`].
pub const LATER: &[&str] = &[
    "watch",
    "tail",
    "trace",
    "record",
    "profile",
    "threads",
    "stats",
    "spans",
    "stop",
    "call",
    "request",
    "approve",
    "deny",
    "run",
    "end_session",
    "lock",
    "pending",
    "can",
];

/// Every method of this version.
pub const METHODS: &[Method] = &[
    Method {
        name: "hello",
        action: Action::Attach,
        about: "opens the session; answers with the signed checkpoint",
    },
    Method {
        name: "eval",
        action: Action::Attach,
        about: "runs signed code; each effect is decided besides",
    },
    Method { name: "cancel", action: Action::Attach, about: "ends one's own running eval" },
    Method {
        name: "ping",
        action: Action::Attach,
        about: "shows that the client is alive; tells what is in force and what has ended",
    },
    Method { name: "audit.checkpoint", action: Action::Attach, about: "the newest signed checkpoint" },
    Method {
        name: "audit.proof",
        action: Action::Attach,
        about: "that a record is in the log, or that it only grew",
    },
];

/// The function of that name.
pub fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|f| f.name == name)
}

/// The method of that name.
pub fn method(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|m| m.name == name)
}

#[cfg(test)]
mod tests;
