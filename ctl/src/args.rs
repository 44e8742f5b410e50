//! The command line.

pub(crate) mod certs;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Attach to the debug agent inside a running service, change what it does for a while, and check its audit log.
#[derive(Debug, Parser)]
#[command(name = "debugctl", version, max_term_width = 110, after_help = ends())]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The text below the help.
fn ends() -> String {
    format!(
        "Exit codes, each with one meaning:\n{}\n{STEPS}",
        crate::ui::failure::exits()
    )
}

const STEPS: &str = "\
First steps:
  debugctl attach 127.0.0.1:7777 --identity operators/alice     then `help()` at the prompt
  debugctl eval 127.0.0.1:7777 'config.db.host' --identity operators/alice
  export DEBUGCTL_IDENTITY=$PWD/operators/alice                 and leave --identity out

Something is on fire:
  debugctl leases 127.0.0.1:7777          what is changed, by whom, and when it reverts
  debugctl revert 127.0.0.1:7777 3        end change 3 now; one's own may always be reverted
  debugctl revert-all 127.0.0.1:7777      end all of them that are yours

These three work with anything wrong on this side: no HOME, a full disk, a clock that is off. What could
not be remembered or checked is a warning and exit code 6.
TARGET is an address; without a port it is 7777. Where a working set is in the current folder and has one
operator, it is used and named.";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Open the REPL inside the service
    #[command(after_help = "\
Examples:
  debugctl attach 127.0.0.1:7777
  debugctl attach 127.0.0.1:7777 --change --reason 'INC-42 healthcheck flaps'
  debugctl attach 127.0.0.1:7777 < steps.rhai       no prompts; results on stdout

At the prompt: help() lists what can be called, :help the commands, Ctrl-C cancels, Ctrl-D leaves.
Lines of a file or pipe end at the first one that fails, with its exit code, unless --keep-going.
Leases of the session revert 60 s after it is lost; attach again in that time to take them over.")]
    Attach(Attach),
    /// Run code once and print its value
    #[command(override_usage = EVAL_USAGE, after_help = "\
Examples:
  debugctl eval 127.0.0.1:7777 'config.db.host'
  debugctl eval 127.0.0.1:7777 'get(path)' --arg path=config.db.host --json
  echo 'points()' | debugctl eval 127.0.0.1:7777 -
  debugctl eval 127.0.0.1:7777 --file fix.rhai --change --reason 'INC-42' --hold
  debugctl eval 127.0.0.1:7777 'set(\"config.db.password\", pw)' --arg-secret pw=@new-password \\
      --change --reason 'INC-42 rotate' --persist

With --json, stdout holds one object:
  {\"value\", \"display\", \"output\", \"leases\", \"audit\"} or {\"error\"}
Exit code 6 beside a value: the agent never proved that the eval is in its log. stderr tells more.")]
    Eval(EvalArgs),
    /// Show the changes in force, whose they are and when they revert
    #[command(after_help = "\
Examples:
  debugctl leases 127.0.0.1:7777
  debugctl leases 127.0.0.1:7777 --watch            counts down, until Ctrl-C
  debugctl leases 127.0.0.1:7777 --watch > file     a table for each change

A lease in the state `conflict` has ended, but the service itself had changed what it was to put back;
it is listed until it is settled.")]
    Leases(LeasesArgs),
    /// Show what can be patched, and what is
    Points(Show),
    /// Show who is attached
    Sessions(Show),
    /// End a change now; one's own may always be reverted
    #[command(after_help = "Example:\n  debugctl revert 127.0.0.1:7777 3")]
    Revert(Revert),
    /// End all changes of your own now, and with the right to, those of others
    #[command(
        alias = "revert_all",
        after_help = "Example:\n  debugctl revert-all 127.0.0.1:7777"
    )]
    RevertAll(TargetArgs),
    /// Keep a change past its first deadline, until a later one
    #[command(after_help = "Example:\n  debugctl confirm 127.0.0.1:7777 3 20m --reason 'INC-42 holds'")]
    Confirm(Prolong),
    /// Give a change another deadline, counted from now
    #[command(
        after_help = "Example:\n  debugctl extend 127.0.0.1:7777 3 10m --reason 'INC-42 still looking'"
    )]
    Extend(Prolong),
    /// Make another operator's change your own, so that it no longer depends on them
    #[command(after_help = "\
Example:
  debugctl adopt 127.0.0.1:7777 3 --reason 'INC-42 alice goes home'

It keeps its deadline. If it was not confirmed it still depends on a session, which now is the one of
this command: attach within 60 s to take it over, or confirm it.")]
    Adopt(Adopt),
    /// Say what becomes of a change whose place the service itself had changed when it ended
    #[command(after_help = "\
Examples:
  debugctl settle 127.0.0.1:7777 3 keep  --reason 'INC-42 the new value is right'
  debugctl settle 127.0.0.1:7777 3 force --reason 'INC-42 back to what it was'")]
    Settle(Settle),
    /// Read and verify an audit log
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Make the CA, and certificates for agents and operators
    #[command(subcommand)]
    Certs(certs::Certs),
}

/// The usage of `eval`, with all flags that belong together: the one made by the parser leaves out `--persist` and `--hold`.
const EVAL_USAGE: &str = "\
debugctl eval [OPTIONS] <TARGET> <CODE|-|--file FILE>
       debugctl eval [OPTIONS] <TARGET> <CODE|-|--file FILE> --change --reason <TEXT> <--persist|--hold>";

/// How to reach the agent, and what to trust it by.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Connection {
    /// Your folder, with cert.pem, key.pem, ca.pem and agents.toml
    #[arg(
        long,
        help_heading = "Connection",
        value_name = "DIR",
        env = "DEBUGCTL_IDENTITY"
    )]
    pub(crate) identity: Option<PathBuf>,
    /// Your certificate, if it is not in the folder
    #[arg(long, help_heading = "Connection", value_name = "FILE", env = "DEBUGCTL_CERT")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, help_heading = "Connection", value_name = "FILE", env = "DEBUGCTL_KEY")]
    pub(crate) key: Option<PathBuf>,
    /// The CA that vouches for agents
    #[arg(long, help_heading = "Connection", value_name = "FILE", env = "DEBUGCTL_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// The agent's SPIFFE id; no other is talked to
    #[arg(
        long,
        help_heading = "Connection",
        value_name = "ID",
        env = "DEBUGCTL_AGENT_ID"
    )]
    pub(crate) agent_id: Option<String>,
    /// The key of the agent's audit log
    #[arg(long, help_heading = "Connection", value_name = "VKEY", env = "DEBUGCTL_VKEY")]
    pub(crate) vkey: Option<String>,
}

/// Where the agent is, and who is asking.
#[derive(Args, Clone, Debug)]
pub(crate) struct TargetArgs {
    /// Address of the agent, such as `localhost`, `127.0.0.1:7777` or `[::1]:7777`; without a port it is 7777
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

impl TargetArgs {
    /// The words of the command line, or of the environment, that name the agent and the operator, quoted for a shell.
    pub(crate) fn words(&self) -> String {
        let Connection {
            identity,
            cert,
            key,
            ca,
            agent_id,
            vkey,
        } = &self.connection;
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let flags = [
            ("--identity", file(identity)),
            ("--cert", file(cert)),
            ("--key", file(key)),
            ("--ca", file(ca)),
            ("--agent-id", agent_id.clone()),
            ("--vkey", vkey.clone()),
        ];
        let flags = flags
            .into_iter()
            .filter_map(|(flag, value)| Some(format!(" {flag} {}", quoted(&value?))));
        quoted(&self.target) + &flags.collect::<String>()
    }
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&b);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The command that confirms a lease, for as long as a change usually lives; `given` are the [words](TargetArgs::words) of the connection.
pub(crate) fn confirm(given: &str, id: u64) -> String {
    format!("debugctl confirm {given} {id} 10m --reason 'WHY'")
}

/// Entering the mode in which changes are possible.
#[derive(Args, Clone, Debug)]
pub(crate) struct ChangeArgs {
    /// Enter the mode in which changes are possible
    #[arg(long, requires = "reason")]
    pub(crate) change: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", requires = "change")]
    pub(crate) reason: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Attach {
    #[command(flatten)]
    pub(crate) at: TargetArgs,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
    /// Without a terminal: go on after a failure; the exit code is that of the first one
    #[arg(long)]
    pub(crate) keep_going: bool,
}

#[derive(Args, Debug)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    pub(crate) at: TargetArgs,
    /// The code, or - to read it from stdin
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub(crate) code: Option<String>,
    /// Read the code from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Bind a value to a name in the code: JSON if it parses as such, else text
    #[arg(long = "arg", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub(crate) args: Vec<(String, String)>,
    /// Bind a secret to a name: the content of a file, of which the log keeps only a commitment
    #[arg(long = "arg-secret", value_name = "NAME=@FILE", value_parser = name_and_file)]
    pub(crate) secrets: Vec<(String, PathBuf)>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
    /// Changes keep their deadline when this command ends
    #[arg(long, requires = "change", conflicts_with = "hold")]
    pub(crate) persist: bool,
    /// Stay connected until the changes end; Ctrl-C reverts them
    #[arg(long, requires = "change")]
    pub(crate) hold: bool,
    /// Change nothing: list what the code would do, and what policy says of it
    #[arg(long, conflicts_with_all = ["persist", "hold"])]
    pub(crate) plan: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) at: TargetArgs,
    /// Print the value as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct LeasesArgs {
    #[command(flatten)]
    pub(crate) show: Show,
    /// Go on showing them, with the time that they have left
    #[arg(long, conflicts_with = "json")]
    pub(crate) watch: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Revert {
    #[command(flatten)]
    pub(crate) at: TargetArgs,
    /// The change, as `leases` shows it
    pub(crate) id: u64,
}

#[derive(Args, Debug)]
pub(crate) struct Prolong {
    #[command(flatten)]
    pub(crate) at: TargetArgs,
    /// The change, as `leases` shows it
    pub(crate) id: u64,
    /// How long from now, with its unit: 90s, 5m, 2h
    pub(crate) ttl: String,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

#[derive(Args, Debug)]
pub(crate) struct Adopt {
    #[command(flatten)]
    pub(crate) at: TargetArgs,
    /// The change, as `leases` shows it
    pub(crate) id: u64,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

#[derive(Args, Debug)]
pub(crate) struct Settle {
    #[command(flatten)]
    pub(crate) at: TargetArgs,
    /// The change, as `leases` shows it
    pub(crate) id: u64,
    /// Leave what the service made of it, or undo the change all the same
    #[arg(value_parser = ["keep", "force"])]
    pub(crate) how: String,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

/// What can be done with an audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Print a line for each record, after the whole log was verified
    #[command(after_help = "\
Examples:
  debugctl audit list agent/audit --kind eval
  debugctl audit list agent/audit --kind lease. --operator alice
A kind that ends in `.` stands for all kinds that begin so.")]
    List(ListArgs),
    /// Print a record whole
    Show(ShowRecord),
    /// Verify a log: its records, its signed checkpoint, and every operator's certificate and signature
    #[command(after_help = "\
Examples:
  debugctl audit verify agent/audit
  debugctl audit verify copy-of-audit --vkey example.internal/dienstplan/1+c4a1…+AZ… --ca ca.pem

The key of the log comes from --vkey, from --inventory, or from an inventory.json beside the folder,
which is then named. Without a key the log is only consistent in itself, and the exit code is 6.
The operators' CA comes from --ca, or from ca/ca.pem or ca.pem beside the inventory. Without it,
a holder of the log's key could have made up operators, and the report says so.
Exit code 0 comes with the word `verified` on stdout, and never without it.")]
    Verify(Verify),
}

/// What a log is verified against.
#[derive(Args, Clone, Debug)]
pub(crate) struct AnchorArgs {
    /// The log's folder; reading it through the agent is not part of this version
    pub(crate) dir: PathBuf,
    /// The inventory that `debugctl certs` keeps
    #[arg(long, value_name = "FILE")]
    pub(crate) inventory: Option<PathBuf>,
    /// The key of the log
    #[arg(long, value_name = "VKEY", conflicts_with = "inventory")]
    pub(crate) vkey: Option<String>,
    /// The CA that issued the operators' certificates
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) anchor: AnchorArgs,
    /// Only records of this kind, or of all kinds that begin so if it ends in `.`
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,
    /// Only records of this operator
    #[arg(long, value_name = "NAME")]
    pub(crate) operator: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ShowRecord {
    #[command(flatten)]
    pub(crate) anchor: AnchorArgs,
    /// The record's number
    pub(crate) seq: u64,
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) anchor: AnchorArgs,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if !is_name(name) {
        return Err(format!(
            "`{name}` is not a name: letters, digits and `_`, not beginning with a digit"
        ));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn name_and_file(text: &str) -> Result<(String, PathBuf), String> {
    let (name, value) = name_and_value(text)?;
    // On the command line a secret would stand in the shell's history and in the list of processes.
    let file = value
        .strip_prefix('@')
        .ok_or("expected NAME=@FILE: a secret is read from a file")?;
    Ok((name, PathBuf::from(file)))
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests;
