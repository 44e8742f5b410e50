//! The state that the steps share: the folder, the programs, the running processes.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::sabotage::Sabotage;
use super::session::AttachedTerminal;
use crate::process::{self, POLL, Said, finish, quoted, shown};
use crate::scratch::{Folder, free_address};
use debug_kit::http::{self, Answer};
use debug_kit::{Program, SLACK_SIGN, SLACK_TOKEN, listening_on};

/// The deadline of a single command of the client.
pub(super) const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// The deadline for the service to stop before it is killed: longer than its own drain.
const STOP_LIMIT: Duration = Duration::from_secs(12);

/// The running service, stopped when dropped.
pub(super) struct DemoService {
    pub(super) program: Program,
    /// Its HTTP address.
    pub(super) http: SocketAddr,
}

/// A change that the demo has made.
pub(super) struct DemoLease {
    /// Its number.
    pub(super) id: u64,
    /// The time before the request for it.
    pub(super) asked: Instant,
    /// The time after it was seen in force.
    pub(super) seen: Instant,
}

/// The state of the demo, for its steps.
pub(super) struct DemoWorld {
    sabotage: Option<Sabotage>,
    /// The folder of the workspace.
    pub(super) root: PathBuf,
    programs: PathBuf,
    // In the order in which they must end: the session leaves, the service stops, the folder is removed.
    /// The session in which the changes are made.
    pub(super) session: Option<AttachedTerminal>,
    /// The running service; with some sabotages, a second one before it.
    pub(super) services: Vec<DemoService>,
    /// The process id at the beginning of the demo.
    pub(super) pid: u32,
    /// The patch of the health check.
    pub(super) teapot: Option<DemoLease>,
    /// The agent's address.
    pub(super) agent: SocketAddr,
    operator: &'static str,
    folder: Folder,
}

impl DemoWorld {
    pub(super) fn new(sabotage: Option<Sabotage>, keep: bool) -> Result<Self, String> {
        let root = process::root()?;
        Ok(Self {
            sabotage,
            programs: process::target(&root)?.join("debug"),
            root,
            session: None,
            services: Vec::new(),
            pid: 0,
            teapot: None,
            agent: free_address()?,
            operator: "",
            folder: Folder::new(keep)?,
        })
    }

    /// Whether this sabotage was chosen.
    pub(super) fn is(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    /// The working set of certificates.
    pub(super) fn set(&self) -> PathBuf {
        self.folder.path.join("set")
    }

    /// A path beside the working set.
    pub(super) fn scratch(&self, name: &str) -> PathBuf {
        self.folder.path.join(name)
    }

    /// One of our programs, without the environment of the demo itself.
    pub(super) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        let ours = |name: &str| {
            [
                "DEBUG", "APP__", "SLACK__", "ALERTS__", "SERVER__", "DB__", "XDG_",
            ]
            .iter()
            .any(|p| name.starts_with(p))
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
            command.env_remove(name);
        }
        // The client stores checkpoints and history: not in the home folder of the person who plays the demo.
        command.env("HOME", &self.folder.path).env("NO_COLOR", "1");
        command
    }

    /// `debugctl`, as an operator of the working set.
    pub(super) fn debugctl(&mut self, operator: &'static str) -> Command {
        let identity = self.set().join("operators").join(operator);
        if self.operator != operator {
            println!("$ export DEBUGCTL_IDENTITY={}", quoted(identity.as_os_str()));
            self.operator = operator;
        }
        let mut command = self.program("debugctl");
        command.env("DEBUGCTL_IDENTITY", identity);
        command
    }

    /// Runs a command to its end; prints the command line and its output.
    pub(super) fn show(&self, command: &mut Command) -> Result<Said, String> {
        println!("$ {}", shown(command));
        let said = finish(command, COMMAND_LIMIT)?;
        print!("{}{}", said.out, said.err);
        Ok(said)
    }

    /// Evaluates code in a session of its own.
    pub(super) fn eval(
        &mut self,
        operator: &'static str,
        code: &str,
        options: &[&str],
    ) -> Result<Said, String> {
        let target = self.agent.to_string();
        let mut command = self.debugctl(operator);
        self.show(command.args(["eval", &target, code]).args(options))
    }

    /// Evaluates code in a session of its own, again while its output satisfies `not_yet` and until the limit; prints only the
    /// last output.
    pub(super) fn eval_once(
        &mut self,
        operator: &'static str,
        code: &str,
        not_yet: impl Fn(&Said) -> bool,
        limit: Duration,
    ) -> Result<Said, String> {
        let target = self.agent.to_string();
        let mut command = self.debugctl(operator);
        println!("$ {}", shown(command.args(["eval", &target, code])));
        let start = Instant::now();
        loop {
            let said = finish(&mut command, COMMAND_LIMIT)?;
            if !not_yet(&said) || limit <= start.elapsed() {
                print!("{}{}", said.out, said.err);
                return Ok(said);
            }
            thread::sleep(POLL * 10);
        }
    }

    /// Starts the service with its variables. A second service gets a log of its own.
    pub(super) fn start_service(&mut self, agent: bool) -> Result<(), String> {
        let mut command = self.program("dienstplan");
        let port = if self.is(Sabotage::PortMisspelt) {
            "eighty-eighty"
        } else {
            "0"
        };
        let database = if self.is(Sabotage::OtherDatabase) {
            "elsewhere"
        } else {
            "localhost"
        };
        let mut variables = vec![
            ("APP__DEBUG", "false"),
            ("SLACK__TOKEN", SLACK_TOKEN),
            ("SLACK__SIGN", SLACK_SIGN),
            ("ALERTS__SENTRY_DSN", "https://not-a-real-key@localhost/1"),
            ("SERVER__PORT", port),
            ("SERVER__LOGLEVEL", "INFO"),
            ("DB__SERVER_NAME", database),
            ("DB__PORT_NUMBER", "15432"),
            ("DB__DATABASE_NAME", "dienstplan"),
            ("DB__USERNAME", "dienstplan"),
            ("DB__PASSWORD", "not-a-real-password"),
        ];
        let config = self.set().join("agent/agent.toml").to_string_lossy().into_owned();
        if agent {
            variables.extend([("DEBUG_AGENT", "1"), ("DEBUG_AGENT_CONFIG", config.as_str())]);
        }
        for (name, value) in &variables {
            println!("$ export {name}={}", quoted(value.as_ref()));
        }
        println!("$ {} &", shown(&command));
        let log = self
            .folder
            .path
            .join(format!("dienstplan-{}.log", self.services.len() + 1));
        let program = Program::start_into(command.envs(variables), log);
        let mut program = program
            .map_err(|e| format!("cannot start the service: {e}"))?
            .ends_within(STOP_LIMIT);
        let http = program.wait_for(listening_on)?;
        print!("{}", program.said());
        self.services.push(DemoService { program, http });
        Ok(())
    }

    /// The service that was started last.
    pub(super) fn service(&mut self) -> Result<&mut DemoService, String> {
        self.services
            .last_mut()
            .ok_or_else(|| "the service is not running".into())
    }

    /// Requests the health check; prints the request as a command line.
    pub(super) fn healthcheck(&mut self) -> Result<Answer, String> {
        let address = self.service()?.http;
        println!("$ curl -i http://{address}/api/healthcheck");
        let answer = http::get(address, "/api/healthcheck").map_err(|e| e.to_string())?;
        println!("{}", answer.shown());
        Ok(answer)
    }

    /// Sends an event as Slack would, signed with `secret`.
    pub(super) fn event(&mut self, body: &str, secret: &str) -> Result<Answer, String> {
        let address = self.service()?.http;
        println!(
            "$ curl -H @signature --data {} http://{address}/api/events",
            quoted(body.as_ref())
        );
        let file = self.scratch("event.json");
        fs::write(&file, body).map_err(|e| e.to_string())?;
        let input = fs::File::open(&file).map_err(|e| e.to_string())?;
        let mut signer = self.program("examples/slack-sign");
        let output = signer
            .env("SLACK__SIGN", secret)
            .stdin(input)
            .output()
            .map_err(|e| e.to_string())?;
        let headers = String::from_utf8_lossy(&output.stdout);
        let headers: Vec<(&str, &str)> = headers.lines().filter_map(|line| line.split_once(": ")).collect();
        let answer =
            http::request(address, "POST", "/api/events", &headers, body).map_err(|e| e.to_string())?;
        println!("{}", answer.shown());
        Ok(answer)
    }

    /// Leaves the person in a session with the service running; stops the service and cleans up when they leave.
    ///
    /// A shell replaces this process for that, because a shell can ignore the Ctrl-C with which the person cancels an eval, and
    /// this program cannot.
    pub(super) fn hand_over(mut self) -> Result<(), String> {
        const SCRIPT: &str = r#"trap : INT
            "$1" attach "$2"
            kill -TERM "$3"
            while kill -0 "$3" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$3/status"; do sleep 0.1; done
            test -z "$4" || rm -rf "$4""#;
        let address = self.service()?.http;
        let target = self.agent.to_string();
        println!("\nthe service goes on at http://{address}; Ctrl-D leaves the session and stops it");
        let debugctl = self.debugctl("alice");
        let mut shell = Command::new("sh");
        shell
            .args(["-c", SCRIPT, "demo"])
            .arg(debugctl.get_program())
            .arg(target)
            .arg(self.pid.to_string());
        shell.arg(self.folder.removed_at_the_end().unwrap_or(Path::new("")));
        // The environment that `debugctl` and `program` chose for the client.
        for (name, value) in debugctl.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        drop(self.session.take());
        // Returns only if the shell cannot be started; then everything ends here.
        Err(format!("cannot start sh: {}", shell.exec()))
    }
}
