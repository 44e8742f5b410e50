//! A fresh working set of certificates for each test.

use std::path::{Path, PathBuf};

use crate::process::Ctl;

/// The folder that `debugctl certs init` wrote. Removed when dropped.
#[derive(Debug)]
pub struct Certificates {
    temporary: tempfile::TempDir,
    folder: PathBuf,
}

impl Certificates {
    /// For the service `dienstplan`, listening on a port that the system chooses: `alice` is on call, `vera` looks on,
    /// `lea` leads.
    pub fn new() -> Self {
        Self::for_service("dienstplan")
    }

    /// As [`Certificates::new`], for a service of another name.
    pub fn for_service(service: &str) -> Self {
        let temporary = tempfile::Builder::new().prefix("debug-tests-").tempdir().unwrap();
        let folder = temporary.path().join("set");
        let new = Self { temporary, folder };
        let dir = new.folder.to_str().unwrap().to_owned();
        let init = [
            "certs",
            "init",
            &dir,
            "--service",
            service,
            "--operator",
            "alice",
            "--role",
            "oncall",
            "--listen",
            "127.0.0.1:0",
        ];
        new.ctl(&init);
        new.ctl(&["certs", "issue", &dir, "--operator", "vera", "--role", "viewer"]);
        new.ctl(&["certs", "issue", &dir, "--operator", "lea", "--role", "lead"]);
        new.ctl(&["certs", "issue", &dir, "--operator", "bob", "--role", "oncall"]);
        new
    }

    fn ctl(&self, args: &[&str]) {
        let ctl = Ctl::run(self, "alice", args);
        assert_eq!(ctl.code, 0, "debugctl {args:?}: {}", ctl.err);
    }

    /// The working set.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder that vanishes with this value; for what a test wants to keep beside the set.
    pub fn scratch(&self) -> &Path {
        self.temporary.path()
    }

    /// The agent's configuration file.
    pub fn agent_config(&self) -> PathBuf {
        self.folder.join("agent/agent.toml")
    }

    /// Puts another policy in the place of the one that `certs init` wrote.
    pub fn write_policy(&self, text: &str) {
        std::fs::write(self.folder.join("agent/policy.toml"), text).unwrap();
    }

    /// The audit log's folder.
    pub fn audit(&self) -> PathBuf {
        self.folder.join("agent/audit")
    }

    /// An operator's folder.
    pub fn operator(&self, name: &str) -> PathBuf {
        self.folder.join("operators").join(name)
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}
