//! The one table: every host function and every method, each with the action that policy decides about.
//!
//! Dispatch, `help()`, completion and the documentation are derived from it. A function or method without an action cannot be
//! expressed.

use debug_policy::Action;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The resource that the action of a function is decided for.
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
    /// The target of the lease in the first argument, and its owner if that is another operator.
    Lease,
}

/// How the effect of a function is undone.
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
    /// Its id.
    pub id: HostFunction,
    /// Its name in Rhai.
    pub name: &'static str,
    /// The action that policy decides about.
    pub action: Action,
    /// What the decision is about.
    pub on: On,
    /// How its effect is undone.
    pub undo: Undo,
    /// Whether a single call of it works while the audit log cannot be written (invariant 2).
    pub emergency: bool,
    /// Whether a single call of it has a thread of its own, so that running code cannot keep an operator from ending a change.
    pub reserved: bool,
    /// Whether frozen code, which runs without an operator, may call it.
    pub in_patches: bool,
    /// Its call forms, such as `patch(point, fn, opts?)`; `?` marks optional arguments.
    pub usage: &'static str,
    /// A description of one line.
    pub about: &'static str,
    /// One line of Rhai that works on the demo service.
    pub example: &'static str,
}

impl Function {
    /// The numbers of arguments that it takes, ascending: `patch(point, fn, opts?)` takes 2 or 3.
    pub fn arities(&self) -> std::ops::RangeInclusive<usize> {
        let inside = self
            .usage
            .split_once('(')
            .map_or("", |(_, rest)| rest.trim_end_matches(')'));
        let args = inside.split(',').map(str::trim).filter(|a| !a.is_empty());
        let (required, all) = args.fold((0, 0), |(required, all), a| {
            (required + usize::from(!a.ends_with('?')), all + 1)
        });
        required..=all
    }
}

/// A method of the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Method {
    /// Its id.
    pub id: MethodId,
    /// Its name in JSON-RPC.
    pub name: &'static str,
    /// The action that policy decides about; an eval's effects are also decided one by one.
    pub action: Action,
    /// A description of one line.
    pub about: &'static str,
}

/// Defines the rows of a table: the enum of their ids, its `ALL`, and the row of each.
macro_rules! table {
    ($(#[$about:meta])* $id:ident, $(#[$rows_about:meta])* $rows:ident of $row:ident:
     $($variant:ident { name: $name:literal, $($field:ident: $value:expr,)* })*) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum $id {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl $id {
            /// All of them, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// What the table says of it.
            pub const fn row(self) -> &'static $row {
                match self {
                    $(Self::$variant => const { &$row { id: Self::$variant, name: $name, $($field: $value,)* } },)*
                }
            }

            /// Its name in a call.
            pub const fn name(self) -> &'static str {
                self.row().name
            }
        }

        $(#[$rows_about])*
        pub const $rows: &[$row] = &[$(*$id::$variant.row()),*];
    };
}

table! {
    /// A host function of this version. Its implementation is selected by a `match` over this enum, so that a missing one does
    /// not compile.
    HostFunction,
    /// Every host function of this version.
    FUNCTIONS of Function:

    Help {
        name: "help", action: Action::Attach, on: On::Agent, undo: Undo::Nothing,
        emergency: true, reserved: false, in_patches: false,
        usage: "help(name?)",
        about: "what can be called; with a name, how",
        example: r#"help("patch")"#,
    }
    Info {
        name: "info", action: Action::List, on: On::Agent, undo: Undo::Nothing,
        emergency: true, reserved: false, in_patches: false,
        usage: "info()",
        about: "the service, the agent, its limits, and notes on what needs attention",
        example: "info()",
    }
    Ls {
        name: "ls", action: Action::List, on: On::Agent, undo: Undo::Nothing,
        emergency: false, reserved: false, in_patches: false,
        usage: "ls(path?)",
        about: "the names below a state path; without one, the states",
        example: r#"ls("config")"#,
    }
    Get {
        name: "get", action: Action::Read, on: On::State, undo: Undo::Nothing,
        emergency: false, reserved: false, in_patches: true,
        usage: "get(path)",
        about: "a copy of the value at a state path",
        example: r#"get("config.db.host")"#,
    }
    Reveal {
        name: "reveal", action: Action::Reveal, on: On::State, undo: Undo::Cannot,
        emergency: false, reserved: false, in_patches: false,
        usage: "reveal(path)",
        about: "a secret in the clear; recorded",
        example: r#"reveal("config.slack.token")"#,
    }
    Set {
        name: "set", action: Action::Write, on: On::State, undo: Undo::Lease,
        emergency: false, reserved: false, in_patches: false,
        usage: "set(path, value, opts?)",
        about: "changes the value at a state path until a deadline; opts: ttl, reason, over, persist, guard",
        example: r#"set("config.server.port", 9090, #{ ttl: "5m" })"#,
    }
    Points {
        name: "points", action: Action::List, on: On::Agent, undo: Undo::Nothing,
        emergency: false, reserved: false, in_patches: false,
        usage: "points()",
        about: "the points that can be patched, and which are",
        example: "points()",
    }
    Describe {
        name: "describe", action: Action::List, on: On::Agent, undo: Undo::Nothing,
        emergency: false, reserved: false, in_patches: false,
        usage: "describe(name)",
        about: "a point or state: where it is, its arguments, its layers",
        example: r#"describe("GET /api/healthcheck")"#,
    }
    Patch {
        name: "patch", action: Action::Patch, on: On::Point, undo: Undo::Lease,
        emergency: false, reserved: false, in_patches: false,
        usage: "patch(point, fn, opts?)",
        about: "puts a function at a point until a deadline; `Err(\"no\")` makes it fail; opts: ttl, reason, over, persist, guard, unseen",
        example: r#"patch("GET /api/healthcheck", |req| #{ status: 418, body: #{ status: "I'm a teapot" } }, #{ ttl: "5m" })"#,
    }
    LogLevel {
        name: "log_level", action: Action::SetLevel, on: On::Target, undo: Undo::Lease,
        emergency: false, reserved: false, in_patches: false,
        usage: "log_level(target, level, opts?)",
        about: "lets more or less of a target into the service's log until a deadline; opts: ttl, reason, over",
        example: r#"log_level("dienstplan::rota", "debug", #{ ttl: "5m" })"#,
    }
    Leases {
        name: "leases", action: Action::List, on: On::Agent, undo: Undo::Nothing,
        emergency: true, reserved: true, in_patches: false,
        usage: "leases()",
        about: "the changes in force, whose they are and when they revert",
        example: "leases()",
    }
    Confirm {
        name: "confirm", action: Action::Confirm, on: On::Lease, undo: Undo::Nothing,
        emergency: false, reserved: true, in_patches: false,
        usage: "confirm(id, ttl)",
        about: "keeps a change past its first deadline, until a later one",
        example: r#"confirm(1, "20m")"#,
    }
    Extend {
        name: "extend", action: Action::Extend, on: On::Lease, undo: Undo::Nothing,
        emergency: false, reserved: true, in_patches: false,
        usage: "extend(id, ttl)",
        about: "sets another deadline",
        example: r#"extend(1, "10m")"#,
    }
    Adopt {
        name: "adopt", action: Action::Adopt, on: On::Lease, undo: Undo::Nothing,
        emergency: false, reserved: false, in_patches: false,
        usage: "adopt(id)",
        about: "makes a change one's own, so that it no longer depends on who made it",
        example: "adopt(1)",
    }
    Guard {
        name: "guard", action: Action::Guard, on: On::Lease, undo: Undo::Nothing,
        emergency: false, reserved: false, in_patches: false,
        usage: "guard(id, fn)",
        about: "ends a change once a condition is false; it sees calls, errors, failures, mean_us, p99_us, points, gauges",
        example: r#"guard(1, |s| s.errors < 10 && s.p99_us < 50000)"#,
    }
    Settle {
        name: "settle", action: Action::Settle, on: On::Lease, undo: Undo::Nothing,
        emergency: false, reserved: false, in_patches: false,
        usage: "settle(id, how)",
        about: "after a conflict: \"keep\" what the service made of it, or \"force\" the undo",
        example: r#"settle(1, "keep")"#,
    }
    Revert {
        name: "revert", action: Action::Revert, on: On::Lease, undo: Undo::Nothing,
        emergency: true, reserved: true, in_patches: false,
        usage: "revert(id)",
        about: "ends a change now; one's own always",
        example: "revert(1)",
    }
    RevertAll {
        name: "revert_all", action: Action::Revert, on: On::Lease, undo: Undo::Nothing,
        emergency: true, reserved: true, in_patches: false,
        usage: "revert_all()",
        about: "ends every change that the operator may end now",
        example: "revert_all()",
    }
    Sessions {
        name: "sessions", action: Action::List, on: On::Agent, undo: Undo::Nothing,
        emergency: true, reserved: false, in_patches: false,
        usage: "sessions()",
        about: "who is attached",
        example: "sessions()",
    }
    Plan {
        name: "plan", action: Action::Attach, on: On::Agent, undo: Undo::Nothing,
        emergency: false, reserved: false, in_patches: false,
        usage: "plan(fn)",
        about: "what a function would do and what policy says of it, without doing it",
        example: r#"plan(|| config.server.port = 9090)"#,
    }
    Snapshot {
        name: "snapshot", action: Action::Read, on: On::State, undo: Undo::Nothing,
        emergency: false, reserved: false, in_patches: false,
        usage: "snapshot(name, paths?)",
        about: "keeps what stands at some state paths, or in all states, under a name",
        example: r#"snapshot("before", ["config.db"])"#,
    }
    Snapshots {
        name: "snapshots", action: Action::List, on: On::Agent, undo: Undo::Nothing,
        emergency: false, reserved: false, in_patches: false,
        usage: "snapshots()",
        about: "the snapshots that are kept; one is taken before each eval's first change of a state",
        example: "snapshots()",
    }
    Diff {
        name: "diff", action: Action::Read, on: On::State, undo: Undo::Nothing,
        emergency: false, reserved: false, in_patches: false,
        usage: "diff(name)",
        about: "where the states differ now from a snapshot, path by path",
        example: r#"diff("before")"#,
    }
    Restore {
        name: "restore", action: Action::Write, on: On::State, undo: Undo::Lease,
        emergency: false, reserved: false, in_patches: false,
        usage: "restore(name, opts?)",
        about: "puts the states back to a snapshot until a deadline; opts: ttl, reason, over (a list, too), persist, guard",
        example: r#"restore("before", #{ ttl: "5m" })"#,
    }
    Change {
        name: "change", action: Action::Change, on: On::Agent, undo: Undo::Session,
        emergency: false, reserved: false, in_patches: false,
        usage: "change(reason)",
        about: "enters the mode in which changes are possible",
        example: r#"change("INC-42 healthcheck flaps")"#,
    }
    Observe {
        name: "observe", action: Action::Attach, on: On::Agent, undo: Undo::Nothing,
        emergency: false, reserved: false, in_patches: false,
        usage: "observe()",
        about: "leaves the mode in which changes are possible",
        example: "observe()",
    }
    LogInfo {
        name: "log_info", action: Action::Log, on: On::Agent, undo: Undo::Cannot,
        emergency: false, reserved: false, in_patches: true,
        usage: "log_info(text)",
        about: "writes a line into the service's log, marked as ours",
        example: r#"log_info("looking at INC-42")"#,
    }
    LogWarn {
        name: "log_warn", action: Action::Log, on: On::Agent, undo: Undo::Cannot,
        emergency: false, reserved: false, in_patches: true,
        usage: "log_warn(text)",
        about: "writes a warning into the service's log, marked as ours",
        example: r#"log_warn("a china teapot revolving about the sun")"#,
    }
}

/// Names of functions that are planned and not part of this version, so that an eval that calls one gets that answer. A name
/// leaves this list when its function enters [`FUNCTIONS`].
#[rustfmt::skip]
pub const LATER: &[&str] = &[
    "watch", "tail", "trace", "record", "profile", "threads", "stats", "spans", "stop", "call", "request",
    "approve", "deny", "run", "end_session", "lock", "pending", "can",
];

table! {
    /// A method of this version. Its handler is selected by a `match` over this enum.
    MethodId,
    /// Every method of this version.
    METHODS of Method:

    Hello {
        name: "hello", action: Action::Attach,
        about: "opens the session; answers with the signed checkpoint",
    }
    Eval {
        name: "eval", action: Action::Attach,
        about: "runs signed code; each effect is decided besides",
    }
    Cancel {
        name: "cancel", action: Action::Attach,
        about: "ends one's own running eval",
    }
    Ping {
        name: "ping", action: Action::Attach,
        about: "shows that the client is alive; tells what is in force and what has ended",
    }
    AuditCheckpoint {
        name: "audit.checkpoint", action: Action::Attach,
        about: "the newest signed checkpoint",
    }
    AuditProof {
        name: "audit.proof", action: Action::Attach,
        about: "that a record is in the log, or that it only grew",
    }
}

/// A method is its name in a message.
impl Serialize for MethodId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for MethodId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = method(&name).ok_or_else(|| D::Error::custom("it is no method of this version"))?;
        Ok(known.id)
    }
}

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
