//! A new working set of certificates for each test.

use std::path::{Path, PathBuf};

use rcgen::{Issuer, KeyPair};
use serde_json::Value;

use crate::process::Ctl;

/// The folder that `debugctl certs init` wrote. Removed when dropped.
#[derive(Debug)]
pub struct Certificates {
    temporary: tempfile::TempDir,
    folder: PathBuf,
}

impl Certificates {
    /// A working set for the service `dienstplan`, listening on a port that the system chooses: `alice` is on call, `vera` is a
    /// viewer, `lea` is a lead.
    pub fn new() -> Self {
        Self::for_service("dienstplan")
    }

    /// Like [`Certificates::new`], for a service of another name.
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
        for (operator, role) in [("vera", "viewer"), ("lea", "lead"), ("bob", "oncall")] {
            new.issue(operator, role, "8h");
        }
        new
    }

    /// Gives an operator a certificate with that lifetime, in place of the one before.
    pub fn issue(&self, operator: &str, role: &str, ttl: &str) {
        let dir = self.folder.to_str().unwrap();
        self.ctl(&[
            "certs",
            "issue",
            dir,
            "--operator",
            operator,
            "--role",
            role,
            "--ttl",
            ttl,
        ]);
    }

    fn ctl(&self, args: &[&str]) {
        let ctl = Ctl::run(self, "alice", args);
        assert_eq!(ctl.code, 0, "debugctl {args:?}: {}", ctl.err);
    }

    /// The working set.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder that is removed with this value; for files that a test keeps beside the set.
    pub fn scratch(&self) -> &Path {
        self.temporary.path()
    }

    /// The agent's configuration file.
    pub fn agent_config(&self) -> PathBuf {
        self.folder.join("agent/agent.toml")
    }

    /// Replaces the policy that `certs init` wrote.
    pub fn write_policy(&self, text: &str) {
        std::fs::write(self.folder.join("agent/policy.toml"), text).unwrap();
    }

    /// The audit log's folder.
    pub fn audit(&self) -> PathBuf {
        self.folder.join("agent/audit")
    }

    /// The records of the audit log as on disk now, the oldest first.
    pub fn records(&self) -> String {
        let files = std::fs::read_dir(self.audit())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files
            .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
            .collect();
        files.sort();
        files
            .iter()
            .map(|file| std::fs::read_to_string(file).unwrap())
            .collect()
    }

    /// The records of one kind, or of all kinds with that prefix if it ends in `.`, as JSON values.
    pub fn records_of(&self, kind: &str) -> Vec<Value> {
        let is_one = |seen: &str| seen == kind || (kind.ends_with('.') && seen.starts_with(kind));
        let records = self.records();
        // A last line may be incomplete while the service runs.
        let whole = records.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let records = whole.map(|line| serde_json::from_str::<Value>(line).unwrap());
        records
            .filter(|record| record["kind"].as_str().is_some_and(is_one))
            .collect()
    }

    /// Verifies the audit log as an operator does. Returns the report.
    #[track_caller]
    pub fn verified(&self) -> String {
        let verified = Ctl::run(
            self,
            "alice",
            &["audit", "verify", self.audit().to_str().unwrap()],
        );
        assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
        verified.out
    }

    /// Our CA with its key, for certificates that `debugctl certs` would never issue.
    pub fn issuer(&self) -> Issuer<'static, KeyPair> {
        let read = |name: &str| std::fs::read_to_string(self.folder.join("ca").join(name)).unwrap();
        let key = KeyPair::from_pem(&read("ca.key")).unwrap();
        Issuer::from_ca_cert_pem(&read("ca.pem"), key).unwrap()
    }

    /// Gives the agent an empty revocation list, current from `from` to `until`, in seconds from now.
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
