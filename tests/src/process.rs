//! `dienstplan` and `debugctl` as processes.

use std::ffi::OsStr;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;

use debug_kit::{Program, listening_on};
pub use debug_kit::{SLACK_SIGN, SLACK_TOKEN};
use rustix::process::{Pid, Signal};

use crate::certificates::Certificates;
use crate::http;
use crate::wait;

/// Names the folder of the programs if they are built: `cargo xtask test` builds them once for all tests.
const BUILT: &str = "DEBUG_TESTS_PROGRAMS";

/// The folder of the programs, built once per test process unless that is done.
pub fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        if let Some(folder) = std::env::var_os(BUILT) {
            return folder.into();
        }
        let this = std::env::current_exe().unwrap();
        let folder = this
            .ancestors()
            .find(|a| a.file_name() == Some(OsStr::new("deps")))
            .unwrap()
            .parent()
            .unwrap();
        // As the demo builds them: with the same features of everything.
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--quiet",
            "--locked",
            "-p",
            "dienstplan",
            "-p",
            "debugctl",
            "--bins",
            "--example",
            "slack-sign",
        ]);
        if folder.ends_with("release") {
            build.arg("--release");
        }
        build
            .arg("--target-dir")
            .arg(folder.parent().unwrap())
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        assert!(
            build.status().unwrap().success(),
            "dienstplan and debugctl do not build"
        );
        folder.to_owned()
    })
}

/// A running `dienstplan`. Killed when dropped.
#[derive(Debug)]
pub struct Service {
    program: Program,
    /// Its HTTP address.
    pub http: SocketAddr,
}

impl Service {
    /// Starts it with the agent on, and waits until both listen.
    pub fn start(certificates: &Certificates) -> Self {
        let service = Self::start_with(certificates, &[("DEBUG_AGENT", "1")]);
        service.wait_for_log("the debug agent listens on");
        service
    }

    /// Starts it with these variables, and waits until HTTP answers.
    pub fn start_with(certificates: &Certificates, variables: &[(&str, &str)]) -> Self {
        Self::start_program("dienstplan", certificates, variables)
    }

    /// Like [`Service::start_with`], for another program with the configuration of `dienstplan`.
    pub fn start_program(program: &str, certificates: &Certificates, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(programs().join(program));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("DEBUG_AGENT_CONFIG", certificates.agent_config());
        command
            .env("SERVER__PORT", "0")
            .env("SERVER__LOGLEVEL", "info")
            .env("NO_COLOR", "1");
        command
            .env("DB__SERVER_NAME", "localhost")
            .env("DB__PORT_NUMBER", "5432")
            .env("DB__PASSWORD", "not-a-real-password");
        command
            .env("SLACK__TOKEN", SLACK_TOKEN)
            .env("SLACK__SIGN", SLACK_SIGN);
        command.envs(variables.iter().copied());
        Self::spawn(command)
    }

    /// Starts a command that logs as `dienstplan` does.
    pub fn spawn(mut command: Command) -> Self {
        let mut program = Program::start(&mut command).unwrap();
        let http = program.wait_for(listening_on);
        let http = http.unwrap_or_else(|log| panic!("the service does not listen:\n{log}"));
        Self { program, http }
    }

    /// Its output so far.
    pub fn log(&self) -> String {
        self.program.said()
    }

    /// Waits for a text in its log and returns the line.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        wait::until(
            &format!("`{text}` stands in the log of the service:\n{}", self.log()),
            || {
                self.log()
                    .lines()
                    .find(|line| line.contains(text))
                    .map(str::to_owned)
            },
        )
    }

    /// The agent's address.
    pub fn agent(&self) -> SocketAddr {
        let line = self.wait_for_log("the debug agent listens on");
        let (_, rest) = line.split_once("listens on ").unwrap();
        rest.split([';', ' ']).next().unwrap().parse().unwrap()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.program.id()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.program.is_alive()
    }

    /// `GET /api/healthcheck`.
    pub fn health(&self) -> http::Answer {
        http::get(self.http, "/api/healthcheck").unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self::signal(&self.program, signal);
    }

    /// Ends it as an operator would, and waits.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.program.wait().unwrap()
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.program.kill().unwrap();
    }
}

/// Sends a program a signal.
fn signal(program: &Program, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(program.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// A running `debugctl`. Killed when dropped.
#[derive(Debug)]
pub struct Running(Program);

impl Running {
    /// Starts it without a terminal.
    pub fn start(certificates: &Certificates, operator: &str, args: &[&str]) -> Self {
        Self(Program::start(Ctl::command(certificates, operator).args(args)).unwrap())
    }

    /// Waits for a text in its output.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let found = self.0.wait_for(|said| said.contains(text).then_some(()));
        found.unwrap_or_else(|said| panic!("waited in vain until debugctl says `{text}`:\n{said}"));
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self::signal(&self.0, signal);
    }

    /// Waits until it has ended; returns its exit code, unless a signal ended it.
    #[track_caller]
    pub fn exit_code(&mut self) -> Option<i32> {
        wait::until("debugctl has ended", || self.0.ended().unwrap()).code()
    }
}

/// The output of a `debugctl`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ctl {
    /// Its exit code.
    pub code: i32,
    /// Standard output: results.
    pub out: String,
    /// Standard error: everything else.
    pub err: String,
}

impl Ctl {
    /// Runs `debugctl` with a home of its own inside the certificates' folder.
    pub fn run(certificates: &Certificates, operator: &str, args: &[&str]) -> Self {
        Self::run_with_input(certificates, operator, args, "")
    }

    /// Like [`Ctl::run`], with this text on its standard input.
    pub fn run_with_input(certificates: &Certificates, operator: &str, args: &[&str], input: &str) -> Self {
        let mut child = Self::command(certificates, operator)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that needs no input may be gone before it is written.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        Self::from(child.wait_with_output().unwrap())
    }

    /// The command, without arguments.
    pub fn command(certificates: &Certificates, operator: &str) -> Command {
        let mut command = Command::new(programs().join("debugctl"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("HOME", certificates.folder())
            .env("XDG_STATE_HOME", certificates.folder().join("state"));
        command
            .env("DEBUGCTL_IDENTITY", certificates.operator(operator))
            .env("NO_COLOR", "1");
        command
    }
}

impl From<Output> for Ctl {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
