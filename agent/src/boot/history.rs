//! Reads from the log of earlier processes what this one must continue.

use std::collections::BTreeMap;

use debug_audit::kinds::LEASE_ENDS;
use debug_wire::records::{LeaseEnded, LeaseMade, ListsLoaded, Record as _, SessionOpen};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::error::{Mistake, StartError};
use debug_config::Config;
use debug_net::Tls;

/// What the log says about earlier processes.
#[derive(Default)]
pub(super) struct History {
    /// The highest lease id so far.
    pub(super) highest: u64,
    /// The highest session id so far.
    pub(super) sessions: u64,
    /// Leases without a terminal record: id and target.
    pub(super) open: BTreeMap<u64, String>,
    /// The revocation lists used last: the CA's digest and the list's number, hex.
    lists: BTreeMap<String, String>,
}

impl History {
    /// Refuses a revocation list older than one used before: it would accept certificates that were revoked since.
    ///
    /// # Errors
    /// The list and what to do.
    pub(super) fn check_lists(&self, config: &Config, tls: &Tls) -> Result<(), StartError> {
        for authority in tls.authorities.iter() {
            let Some(seen) = self.lists.get(&digest(&authority.subject)) else {
                continue;
            };
            let now = &authority.crl_number;
            // Hex numbers without leading zeros: compare the length first.
            if (now.len(), now) < (seen.len(), seen) {
                let what = format!(
                    "the revocation list in `{}` has the number {now} (hex), the audit log has seen {seen} in force",
                    config.trust.crl.display()
                );
                let help = "put the newest list back; with an older one an operator revoked since would get in again";
                return Err(StartError::Trust(Mistake::new(what, help)));
            }
        }
        Ok(())
    }
}

impl History {
    /// Takes in one record.
    fn read(&mut self, text: &str) -> Result<(), String> {
        let RecordKind { kind } = parse(text)?;
        match kind.as_str() {
            SessionOpen::KIND => {
                let SessionOpen { session, .. } = parse(text)?;
                self.sessions = self.sessions.max(session);
            }
            ListsLoaded::KIND => {
                let ListsLoaded { lists, .. } = parse(text)?;
                self.lists
                    .extend(lists.into_iter().map(|list| (list.ca, list.number)));
            }
            LeaseMade::KIND => {
                let LeaseMade { lease, .. } = parse(text)?;
                self.highest = self.highest.max(lease.id);
                self.open.insert(lease.id, lease.target);
            }
            kind if LEASE_ENDS.contains(&kind) => {
                let LeaseEnded { lease, .. } = parse(text)?;
                self.open.remove(&lease);
            }
            _ => {}
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
struct RecordKind {
    kind: String,
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|e| format!("a record is not of its kind: {e}"))
}

/// Names a CA by the SHA-256 of its subject's DER, hex.
pub(super) fn digest(subject: &[u8]) -> String {
    debug_base::hex(&Sha256::digest(subject))
}

/// Reads the log once, after it was verified, for what this process must continue: open leases and the highest numbers.
///
/// # Errors
/// The log cannot be read.
pub(super) fn history(config: &Config) -> Result<History, StartError> {
    read(config).map_err(|what| StartError::Log(Mistake::new(what, "")))
}

fn read(config: &Config) -> Result<History, String> {
    let mut history = History::default();
    let reader = debug_audit::Reader::open(&config.audit.folder).map_err(|e| e.to_string())?;
    for line in reader {
        let line = line.map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&line.bytes);
        // Skip other records unparsed: parsing them all would make the start slow.
        let kinds = [
            "\"kind\":\"lease.",
            "\"kind\":\"session.open\"",
            "\"kind\":\"crl.loaded\"",
        ];
        if !kinds.iter().any(|kind| text.contains(kind)) {
            continue;
        }
        history.read(&text)?;
    }
    Ok(history)
}
