//! The log is opened, and its first records written.

use std::fmt::Display;
use std::path::Path;

use debug_audit::kinds::LEASE_RESTART;
use debug_audit::{Entry, Log, OpenError, OpenedLog, Until};
use debug_wire::records::{
    Boot, ConfigLoaded, LeaseRestarted, List, ListsLoaded, PolicyLoaded, RecoveredRecord, TornRecord,
};
use serde_json::json;

use super::Machinery;
use super::error::{Mistake, StartError};
use super::history::{History, digest};
use super::prepare::{Prepared, whole};
use super::status::Occupied;
use crate::core::Core;
use crate::recorder::records::{self, record};
use debug_config as config;
use debug_config::Config;
use debug_net::{Authority, Tls};
use debug_points::FoundAfterCrash;

/// Opens the log, waiting for as long as another process holds its folder. `None` if the agent stops or does not start.
pub(super) fn open(prepared: &Prepared, machinery: &Machinery) -> Option<(Log, OpenedLog)> {
    loop {
        if machinery.stopping() {
            return None;
        }
        match Log::open(&prepared.config.audit.folder, prepared.key.clone()) {
            Ok(opened) => return Some(opened),
            Err(OpenError::Held { .. }) => {
                machinery.wait(Occupied::AuditFolder(prepared.config.audit.folder.clone()));
            }
            Err(error) => {
                machinery.refuse(StartError::Log(Mistake::new(whole(&error), error.advice())));
                return None;
            }
        }
    }
}

/// Writes the records with which a process begins, to the disk.
///
/// # Errors
/// The log cannot be written.
pub(super) fn begin(
    core: &Core,
    config: &Config,
    opened: &OpenedLog,
    history: &History,
    found: &FoundAfterCrash,
    tls: &Tls,
) -> Result<(), StartError> {
    tell_crash(core, found);
    let mut entries = vec![record(&boot(core, config, found))];
    if let Some(recovered) = &opened.recovered {
        entries.push(record(&recovery(recovered)));
    }
    entries.extend(loaded(core, config, tls));
    entries.extend(
        history
            .open
            .iter()
            .map(|(lease, target)| restarted(*lease, target, found)),
    );
    core.recorder
        .log
        .append(entries, Until::Durable)
        .durable()
        .map(drop)
        .map_err(|e| failed(format!("the audit log cannot be written: {}", whole(&e))))
}

fn boot(core: &Core, config: &Config, found: &FoundAfterCrash) -> Boot {
    Boot {
        service: core.service.clone(),
        instance: core.instance.clone(),
        environment: core.rules.environment.clone(),
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        from_environment: json!(config.from_environment),
        notices: core.at_start().iter().map(|note| note.text.clone()).collect(),
        ended_inside: found.leases.iter().copied().collect(),
        ended_inside_unknown: found.unknown,
    }
}

/// Tells the operators of the service in which patched calls the process before ended.
fn tell_crash(core: &Core, found: &FoundAfterCrash) {
    let tell = |what: String| {
        core.recorder.emitter.alarm(&what);
        core.note(what);
    };
    if !found.leases.is_empty() {
        let leases: Vec<String> = found.leases.iter().map(u64::to_string).collect();
        tell(format!(
            "the process before this one ended inside a patched call, or less than a second after it, of lease {}",
            leases.join(", ")
        ));
    }
    if found.unknown {
        tell(
            "the process before this one may have ended inside a patched call: it noted none at the time"
                .to_owned(),
        );
    }
}

/// The records of what was loaded: configuration, policy, revocation lists.
fn loaded(core: &Core, config: &Config, tls: &Tls) -> [Entry; 3] {
    let list = |authority: &Authority| List {
        ca: digest(&authority.subject),
        number: authority.crl_number.clone(),
        next_update: json!(authority.next_update),
    };
    [
        record(&ConfigLoaded {
            file: config.file.display().to_string(),
            listen: config.listen.to_string(),
        }),
        record(&PolicyLoaded {
            file: config.policy.display().to_string(),
            sha256: core.rules.policy_digest.clone(),
        }),
        record(&ListsLoaded {
            file: config.trust.crl.display().to_string(),
            lists: tls.authorities.iter().map(list).collect(),
        }),
    ]
}

/// The end of a lease that the process before held.
fn restarted(lease: u64, target: &str, found: &FoundAfterCrash) -> Entry {
    let how = match found.leases.contains(&lease) {
        true => "the process that held it ended inside a call of this patch, or less than a second after it",
        false => "the process that held it ended",
    };
    let body = LeaseRestarted {
        lease,
        target: target.to_owned(),
        by: "agent".to_owned(),
        detail: how.to_owned(),
    };
    records::entry(LEASE_RESTART, &body)
}

/// What a crash left behind, and how it was repaired.
fn recovery(recovered: &debug_audit::Recovered) -> RecoveredRecord {
    let torn = recovered.torn.as_ref().map(|torn| TornRecord {
        file: torn.file.clone(),
        moved_to: torn.moved_to.clone(),
        seq: torn.seq,
        bytes: torn.bytes,
    });
    RecoveredRecord {
        covered: recovered.covered,
        adopted: recovered.adopted,
        torn,
    }
}

/// The key of the log's digests, stored beside the log: 32 random bytes, generated with it.
///
/// # Errors
/// It cannot be read, made or written.
pub(super) fn digest_key(folder: &Path) -> Result<[u8; 32], StartError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = folder.join("digest.key");
    if path.exists() {
        let bytes = config::private_file(&path)
            .map_err(|e| StartError::Log(Mistake::new(e.to_string(), &e.advice())))?;
        return bytes
            .as_slice()
            .try_into()
            .map_err(|_| failed(format!("`{}` does not hold 32 bytes", path.display())));
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(no_randomness)?;
    // Atomic: a crash in between must not leave an empty key that is refused for ever. Only this process uses the
    // folder.
    let new = folder.join("digest.key.new");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&key)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().map_err(|e| failed(format!("cannot write `{}`: {e}", path.display())))?;
    Ok(key)
}

pub(super) fn no_randomness(error: impl Display) -> StartError {
    StartError::System(Mistake::new(format!("no randomness: {error}"), ""))
}

fn failed(what: String) -> StartError {
    StartError::Log(Mistake::new(what, ""))
}
