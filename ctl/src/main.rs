//! The client of the debug agent.
//!
//! Deliberately absent: trust in anything an agent says beyond what its certificate, its log's key and the remembered checkpoints
//! prove; host names; a way to run unsigned code. Nothing that an agent sends is executed, and all of it is escaped before it is
//! shown ([`ui::term`]).
//!
//! The rooms, lowest first; each imports only from rooms before it (ARCHITECTURE.md: the floors of the client):
//! - [`ui`]: what is shown: the terminal, tables, failures and exit codes
//! - [`args`]: the command line
//! - [`trust`]: the operator's identity, the agents that it pins, what is remembered of their logs
//! - [`net`]: TLS to the pinned agent, messages, news, interrupts
//! - [`session`]: calls and signed evals over a connection, and the proofs that each is in the log as it was sent
//! - [`certs`]: certificates are made and renewed, without an agent
//! - [`audit`]: a log's folder is read and verified, without an agent
//! - [`commands`]: each other subcommand that asks an agent
//! - [`repl`]: `debugctl attach`
//! - this file, which picks the room for a subcommand

mod args;
mod audit;
mod certs;
mod commands;
mod net;
mod repl;
mod session;
mod trust;
mod ui;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command, TargetArgs};
use crate::commands::{eval, found, watch};
use crate::session::AgentTarget;
use crate::trust::address::address;
use crate::trust::identity::Identity;
use crate::trust::provider::provider;
use crate::trust::store::TrustStore;
use crate::ui::failure::CommandFailure;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // What is wrong with the command line, or the requested help.
        Err(error) => error.exit(),
    };
    let json = cli.command.wants_json();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if json && !failure.answered {
                failure.print_json();
            }
            failure.print();
            failure.exit_code()
        }
    }
}

fn run(command: Command) -> Result<(), CommandFailure> {
    match command {
        Command::Attach(args) => online(&args.at.clone(), async |target| {
            repl::attach(
                &AgentTarget {
                    takes_over: true,
                    ..target
                },
                &args,
            )
            .await
        }),
        Command::Eval(args) => {
            let prepared = eval::prepare(&args)?;
            online(&args.at.clone(), async |target| {
                eval::run(&target, &args, prepared).await
            })
        }
        Command::Leases(args) if args.watch => {
            online(&args.show.at.clone(), async |t| watch::watch(&t).await)
        }
        Command::Leases(args) => online(&args.show.at.clone(), async |t| {
            commands::show(&t, &args.show, "leases").await
        }),
        Command::Points(args) => online(&args.at.clone(), async |t| {
            commands::show(&t, &args, "points").await
        }),
        Command::Sessions(args) => online(&args.at.clone(), async |t| {
            commands::show(&t, &args, "sessions").await
        }),
        Command::Revert(args) => online(&args.at.clone(), async |t| commands::revert(&t, &args).await),
        Command::RevertAll(at) => online(&at, async |t| commands::revert_all(&t).await),
        Command::Confirm(args) => online(&args.at.clone(), async |t| {
            commands::prolong(&t, &args, "confirm").await
        }),
        Command::Extend(args) => online(&args.at.clone(), async |t| {
            commands::prolong(&t, &args, "extend").await
        }),
        Command::Adopt(args) => online(&args.at.clone(), async |t| commands::adopt(&t, &args).await),
        Command::Settle(args) => online(&args.at.clone(), async |t| commands::settle(&t, &args).await),
        Command::Audit(command) => audit::run(command),
        Command::Certs(command) => certs::run(&command),
    }
}

impl Command {
    /// Whether a failure is also printed as a JSON object.
    fn wants_json(&self) -> bool {
        match self {
            Self::Eval(args) => args.json,
            Self::Leases(args) => args.show.json,
            Self::Points(args) | Self::Sessions(args) => args.json,
            Self::Attach(_)
            | Self::Revert(_)
            | Self::RevertAll(_)
            | Self::Confirm(_)
            | Self::Extend(_)
            | Self::Adopt(_)
            | Self::Settle(_)
            | Self::Audit(_)
            | Self::Certs(_) => false,
        }
    }
}

/// Resolves target, identity and pin, then runs `act`.
fn online(
    at: &TargetArgs,
    act: impl AsyncFnOnce(AgentTarget) -> Result<(), CommandFailure>,
) -> Result<(), CommandFailure> {
    let address = address(&at.target)?;
    let given = at.words();
    let mut connection = at.connection.clone();
    found::complete(&mut connection, Path::new("."))?;
    let identity = Identity::load(&connection, &provider())?;
    let pin = identity.pin(&at.target, &connection)?;
    let store = TrustStore::open();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CommandFailure::local(format!("cannot start: {error}")))?;
    let result = runtime.block_on(act(AgentTarget {
        address,
        identity,
        pin,
        store,
        given,
        takes_over: false,
    }));
    // A thread blocked on a line of input must not keep the process alive.
    runtime.shutdown_background();
    result
}
