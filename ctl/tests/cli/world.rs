//! A folder with everything a client needs, an agent, and the binary.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use debug_audit::SigningKey;
use tempfile::TempDir;

use crate::agent::{Agent, Lies};
use crate::authority::{AGENT_ID, Authority, Leaf};

pub(crate) const KEY_NAME: &str = "example.internal/dienstplan/1";

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) authority: Authority,
    pub(crate) key: SigningKey,
    pub(crate) agent: Agent,
    pub(crate) lies: Arc<Mutex<Lies>>,
}

pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let authority = Authority::new();
        let leaf = authority.agent();
        Self::with(authority, &leaf)
    }

    /// A world with an agent that has that certificate.
    pub(crate) fn with(authority: Authority, leaf: &Leaf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::generate(KEY_NAME).unwrap();
        let lies = Arc::new(Mutex::new(Lies::default()));
        let audit = folder.path().join("agent/audit");
        std::fs::create_dir_all(&audit).unwrap();
        let agent = Agent::start(&authority, leaf, key.clone(), &audit, lies.clone());
        let world = Self {
            folder,
            authority,
            key,
            agent,
            lies,
        };
        let operator = world.authority.operator();
        world.identity(&operator, AGENT_ID, &world.key.verifier().to_string());
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn audit(&self) -> PathBuf {
        self.path("agent/audit")
    }

    /// Writes the operator's folder.
    pub(crate) fn identity(&self, operator: &Leaf, id: &str, vkey: &str) {
        let dir = self.path("alice");
        std::fs::create_dir_all(&dir).unwrap();
        write(&dir.join("cert.pem"), &operator.pem);
        write(&dir.join("key.pem"), &operator.key.serialize_pem());
        write(&dir.join("ca.pem"), &self.authority.pem());
        let agents = format!(
            "[[agent]]\naddress = \"{}\"\nid = \"{id}\"\nvkey = \"{vkey}\"\n",
            self.agent.address
        );
        write(&dir.join("agents.toml"), &agents);
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_debugctl"));
        command.env_clear().env("XDG_STATE_HOME", self.path("state"));
        command.env("DEBUGCTL_IDENTITY", self.path("alice"));
        command.args(args.iter().map(|arg| match *arg {
            "TARGET" => self.agent.address.to_string(),
            "DIR" => self.audit().display().to_string(),
            other => other.to_owned(),
        }));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command(args).spawn().unwrap()
    }

    /// Runs the binary with that input. `TARGET` stands for the agent's address, `DIR` for its log.
    pub(crate) fn run_with(&self, args: &[&str], input: &str) -> Ended {
        let mut child = self.start(args);
        // The binary may end before it has read everything.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Ended::of(child)
    }

    /// Runs the binary with a stdout that has no reader. The socket is shut down, which holds for all its holders, also for
    /// children of other tests between their fork and their exec.
    pub(crate) fn run_unread(&self, args: &[&str]) -> Ended {
        let (stdout, reader) = std::os::unix::net::UnixStream::pair().unwrap();
        reader.shutdown(std::net::Shutdown::Both).unwrap();
        let mut command = self.command(args);
        command.stdout(std::os::fd::OwnedFd::from(stdout));
        Ended::of(command.spawn().unwrap())
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.run_with(args, "")
    }

    pub(crate) fn eval(&self, code: &str) -> Ended {
        self.run(&["eval", "TARGET", code])
    }
}

impl Ended {
    pub(crate) fn of(child: Child) -> Self {
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    #[track_caller]
    pub(crate) fn check(&self, code: i32, stdout: &str, in_stderr: &str) {
        let Self {
            stdout: out,
            stderr: err,
            ..
        } = self;
        assert_eq!(self.code, code, "stdout: {out}\nstderr: {err}");
        assert_eq!(out, stdout, "stderr: {err}");
        assert!(err.contains(in_stderr), "`{in_stderr}` is not in stderr: {err}");
        let hidden = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!out.contains(hidden) && !err.contains(hidden), "{out:?} {err:?}");
    }
}

pub(crate) fn write(path: &Path, text: &str) {
    let _ = std::fs::remove_file(path);
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
