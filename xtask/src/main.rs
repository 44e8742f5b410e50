//! The project's tasks: `cargo xtask test`, `cargo xtask demo`, `cargo xtask bench`, `cargo xtask fuzz`,
//! `cargo xtask mutants`.
//!
//! It is built before anything else, so it has few dependencies; the programs that it starts do the cryptography.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people at a terminal"
)]

mod bench;
mod demo;
mod fuzz;
mod mutants;
mod process;
mod progress;
mod scratch;
mod test;

use std::process::ExitCode;

use clap::Parser;

/// The project's tasks.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Task {
    /// Checks everything: format, lints, documentation, sources, all tests, and what foreign tools see.
    Test {
        /// Only these steps.
        steps: Vec<String>,
        /// Leave out the part that needs tools other than cargo's.
        #[arg(long, conflicts_with = "steps")]
        core: bool,
        /// Play 10,000 random histories of leases instead of 500.
        #[arg(long)]
        long: bool,
    },
    /// Builds and runs the services of `tests/hosts`, with and without the agent.
    Hosts {
        /// Only these.
        names: Vec<String>,
        /// Write their lock files, from ours, instead of running them.
        #[arg(long)]
        lock: bool,
    },
    /// Plays the README's scenario with real programs, and leaves you attached if you sit at a terminal.
    ///
    /// In a running service the health check becomes a teapot, a function is replaced, and both revert by themselves.
    Demo(demo::Options),
    /// Measures the rows of the performance table against their limits.
    Bench {
        /// Only these rows.
        rows: Vec<String>,
        /// How often each side of a row is measured.
        #[arg(long, default_value_t = bench::DEFAULT_RUNS)]
        runs: usize,
    },
    /// Fuzzes everything that reads bytes of strangers; needs a C++ compiler.
    Fuzz {
        /// Only these targets.
        targets: Vec<String>,
        /// How long each runs.
        #[arg(long, default_value_t = fuzz::DEFAULT_SECONDS)]
        seconds: u64,
    },
    /// Changes the code that decides, one place at a time, and tells which changes no test notices; takes hours.
    Mutants {
        /// Only these areas: lease, gate, policy, audit.
        areas: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Test { steps, core, long } => test::run(&steps, core, long),
        Task::Hosts { names, lock } => test::hosts::run_named(&names, lock),
        Task::Demo(options) => demo::run(&options),
        Task::Bench { rows, runs } => bench::run(&rows, runs),
        Task::Fuzz { targets, seconds } => fuzz::run(&targets, seconds),
        Task::Mutants { areas } => mutants::run(&areas),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("\n{message}");
            ExitCode::FAILURE
        }
    }
}
