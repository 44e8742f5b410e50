//! Reads from the log of earlier processes what this one must continue.

use std::collections::BTreeMap;

use debug_audit::kinds::LEASE_ENDS;
use serde_json::Value;
use sha2::{Digest, Sha256};

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
    pub(super) open: BTreeMap<u64, Value>,
    /// The revocation lists used last: the CA's digest and the list's number, hex.
    lists: BTreeMap<String, String>,
}

impl History {
    /// Refuses a revocation list older than one used before: it would accept certificates that were revoked since.
    ///
    /// # Errors
    /// The list and what to do.
    pub(super) fn check_lists(&self, config: &Config, tls: &Tls) -> Result<(), String> {
        for authority in &tls.authorities {
            let Some(seen) = self.lists.get(&digest(&authority.subject)) else {
                continue;
            };
            let now = &authority.crl_number;
            // Hex numbers without leading zeros: compare the length first.
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

/// Names a CA by the SHA-256 of its subject's DER, hex.
pub(super) fn digest(subject: &[u8]) -> String {
    debug_base::hex(&Sha256::digest(subject))
}

/// Reads the log once, after it was verified, for what this process must continue: open leases and the highest numbers.
///
/// # Errors
/// The log cannot be read.
pub(super) fn history(config: &Config) -> Result<History, String> {
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
        let record: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        match record["kind"].as_str() {
            Some("session.open") => {
                history.sessions = history.sessions.max(record["session"].as_u64().unwrap_or(0))
            }
            Some("crl.loaded") => {
                let lists = record["lists"].as_array().into_iter().flatten();
                history.lists.extend(lists.filter_map(|list| {
                    Some((
                        list["ca"].as_str()?.to_owned(),
                        list["number"].as_str()?.to_owned(),
                    ))
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
