//! What the log of earlier processes says that this one must go on from.

use std::collections::BTreeMap;

use debug_audit::kinds::LEASE_ENDS;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::net::Tls;

/// What the log tells about the previous process.
#[derive(Default)]
pub(super) struct History {
    /// The highest lease id so far.
    pub(super) highest: u64,
    /// The highest session so far.
    pub(super) sessions: u64,
    /// Leases without a terminal record: id and target.
    pub(super) open: BTreeMap<u64, Value>,
    /// The revocation lists that were in force last: the CA and the list's number, in hex.
    lists: BTreeMap<String, String>,
}

impl History {
    /// Refuses revocation lists that are older than those that were in force: with them whoever was revoked since would
    /// get in again.
    ///
    /// # Errors
    /// Which list it is, and what to do.
    pub(super) fn check_lists(&self, config: &Config, tls: &Tls) -> Result<(), String> {
        for authority in &tls.authorities {
            let Some(seen) = self.lists.get(&digest(&authority.subject)) else { continue };
            let now = &authority.crl_number;
            // Hex without leading zeros.
            if (now.len(), now) < (seen.len(), seen) {
                return Err(format!(
                    "the revocation list in `{}` has the number {now} (hex), the audit log has seen {seen} in force\n\
                     help: put the newest list back; with an older one whoever was revoked since would get in again",
                    config.trust.crl.display()
                ));
            }
        }
        Ok(())
    }
}

/// Names a CA by its subject: the SHA-256 of its DER, in hex.
pub(super) fn digest(subject: &[u8]) -> String {
    Sha256::digest(subject).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads the log once, after it was verified, for what must go on: leases that never ended, numbers that only rise.
///
/// # Errors
/// The log cannot be read.
pub(super) fn history(config: &Config) -> Result<History, String> {
    let mut history = History::default();
    let reader = debug_audit::Reader::open(&config.audit.folder).map_err(|e| e.to_string())?;
    for line in reader {
        let line = line.map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&line.bytes);
        // Most records are none of these; parsing them all would make starting slow.
        let kinds = ["\"kind\":\"lease.", "\"kind\":\"session.open\"", "\"kind\":\"crl.loaded\""];
        if !kinds.iter().any(|kind| text.contains(kind)) {
            continue;
        }
        let record: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        match record["kind"].as_str() {
            Some("session.open") => {
                history.sessions = history.sessions.max(record["session"].as_u64().unwrap_or(0))
            }
            Some("crl.loaded") => {
                let lists = record["lists"].as_array().into_iter().flatten();
                history.lists.extend(lists.filter_map(|list| {
                    Some((list["ca"].as_str()?.to_owned(), list["number"].as_str()?.to_owned()))
                }));
            }
            Some("lease.made") => {
                let id = record["lease"]["id"].as_u64().unwrap_or(0);
                history.highest = history.highest.max(id);
                history.open.insert(id, record["lease"]["target"].clone());
            }
            Some(kind) if LEASE_ENDS.contains(&kind) => {
                history.open.remove(&record["lease"].as_u64().unwrap_or(0));
            }
            _ => {}
        }
    }
    Ok(history)
}
