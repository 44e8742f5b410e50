//! What a log is verified against: a key and an operators' CA that did not come from the log.

use std::path::{Path, PathBuf};

use debug_audit::{Reader, VerifierKey};
use serde_json::Value;

use super::authority::{self, IssuingCa};
use crate::args::AnchorArgs;
use crate::trust::identity;
use crate::ui::failure::CommandFailure;

/// Where the key of a log came from.
pub(super) struct Vouched {
    pub(super) key: VerifierKey,
    /// For people: `the key given` or the inventory's path.
    pub(super) source: String,
    /// The certificates that the inventory holds (DER in lower-case hex of their SHA-256), if it holds any.
    pub(super) certificates: Vec<String>,
}

/// Everything that vouches for a log.
pub(super) struct Anchors {
    /// For the log itself.
    pub(super) vouched: Option<Vouched>,
    /// For its operators.
    pub(super) authority: Option<IssuingCa>,
}

/// Finds the log's key: the one given, else the one in the inventory given, else in one beside the folder. Finds the operators'
/// CA: the one given, else the one beside that inventory.
///
/// # Errors
/// The key, inventory or CA given is not one, or an inventory has no key for this log.
pub(super) fn find(anchor: &AnchorArgs) -> Result<Anchors, CommandFailure> {
    let path = match anchor.vkey {
        Some(_) => None,
        None => anchor.inventory.clone().or_else(|| beside(&anchor.dir)),
    };
    let vouched = match (&anchor.vkey, &path) {
        (Some(text), _) => Some(given(text)?),
        (None, Some(path)) => Some(inventory(&anchor.dir, path)?),
        (None, None) => None,
    };
    let found = || {
        path.as_deref()
            .and_then(|inventory| authority::beside(inventory, &anchor.dir))
    };
    let ca = anchor.ca.clone().or_else(found);
    let authority = ca.as_deref().map(IssuingCa::read).transpose()?;
    Ok(Anchors { vouched, authority })
}

fn given(text: &str) -> Result<Vouched, CommandFailure> {
    let key = VerifierKey::parse(text)
        .map_err(|error| CommandFailure::usage(format!("`{text}` is no key of a log: {error}")))?;
    Ok(Vouched {
        key,
        source: "the key given".to_owned(),
        certificates: Vec::new(),
    })
}

/// The inventory of the set that the folder is part of, as `debugctl certs init` lays it out: `agent/audit` and `inventory.json`
/// in one folder. Never one in the log's folder itself: then anyone who can write the log could vouch for it.
fn beside(dir: &Path) -> Option<PathBuf> {
    let dir = dir.canonicalize().ok()?;
    let set = dir
        .ends_with("agent/audit")
        .then(|| dir.ancestors().nth(2))
        .flatten()?;
    Some(set.join("inventory.json")).filter(|path| path.is_file())
}

fn inventory(dir: &Path, path: &Path) -> Result<Vouched, CommandFailure> {
    let value: Value = serde_json::from_slice(&identity::read(path)?)
        .map_err(|error| CommandFailure::usage(format!("`{}` is no inventory: {error}", path.display())))?;
    let mut keys = Vec::new();
    strings(&value, "vkey", &mut keys);
    let mut certificates = Vec::new();
    strings(&value, "sha256", &mut certificates);
    let keys: Vec<VerifierKey> = keys
        .iter()
        .filter_map(|text| VerifierKey::parse(text).ok())
        .collect();
    let origin = claimed_origin(dir);
    let of_this_log = |key: &VerifierKey| {
        let below = origin
            .as_deref()
            .and_then(|origin| origin.strip_prefix(key.name()));
        below.is_some_and(|rest| rest.starts_with('/'))
    };
    let only = keys.len() == 1;
    let key = keys
        .iter()
        .find(|key| of_this_log(key))
        .or(keys.first().filter(|_| only))
        .cloned();
    let key = key.ok_or_else(|| {
        let log = origin.unwrap_or_else(|| "this folder".to_owned());
        CommandFailure::verification(format!(
            "the inventory `{}` has no key for the log `{log}`",
            path.display()
        ))
        .help("give the key with `--vkey`, or the inventory of the CA that made this agent's files")
    })?;
    Ok(Vouched {
        key,
        source: format!("the inventory `{}`", path.display()),
        certificates,
    })
}

/// All strings that are members with that name, at any depth.
fn strings(value: &Value, name: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(text) if key == name => found.push(text.clone()),
                    other => strings(other, name, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| strings(item, name, found)),
        _ => {}
    }
}

/// The origin that the log claims. It only selects the key, which then has to verify the log.
fn claimed_origin(dir: &Path) -> Option<String> {
    let boot = Reader::open(dir).ok()?.next()?.ok()?;
    let boot: Value = serde_json::from_slice(&boot.bytes).ok()?;
    boot.get("origin")?.as_str().map(str::to_owned)
}
