//! A fresh working set of certificates for each test.

use std::path::{Path, PathBuf};

use rcgen::{Issuer, KeyPair};

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

    /// The records of the audit log as they are on disk now, the oldest first.
    pub fn records(&self) -> String {
        let files = std::fs::read_dir(self.audit()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "jsonl")).collect();
        files.sort();
        files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
    }

    /// Our CA with its key, for what `debugctl certs` would never issue.
    pub fn issuer(&self) -> Issuer<'static, KeyPair> {
        let read = |name: &str| std::fs::read_to_string(self.folder.join("ca").join(name)).unwrap();
        let key = KeyPair::from_pem(&read("ca.key")).unwrap();
        Issuer::from_ca_cert_pem(&read("ca.pem"), key).unwrap()
    }

    /// Puts an empty revocation list in the agent's place, current from and until so many seconds from now.
    pub fn write_revocation_list(&self, number: u64, from: i64, until: i64) {
        let moment = |seconds| time::OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
        let list = rcgen::CertificateRevocationListParams {
            this_update: moment(from),
            next_update: moment(until),
            crl_number: rcgen::SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer()).unwrap().pem().unwrap();
        std::fs::write(self.revocation_list(), list).unwrap();
    }

    /// The revocation list that the agent reads.
    pub fn revocation_list(&self) -> PathBuf {
        self.folder.join("agent/crl.pem")
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
