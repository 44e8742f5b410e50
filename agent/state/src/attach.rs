//! Attaches what the author declared besides the values: checks of new values, and keys of lists.

use std::any::Any;
use std::sync::Arc;

use crate::redact::Redactor;
use crate::typed::State;
use debug_base::{Path, Tree, nearest};

/// A check that could not be attached to its state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnusedCheck {
    /// The state's name as the author wrote it.
    pub name: String,
    /// Reason, in words.
    pub why: String,
    /// Whether the state exists.
    pub is_known: bool,
    /// Whether the state can be written, so that the check would be skipped.
    pub is_writable: bool,
}

/// Attaches the registered checks to their states. Returns those that could not be attached: no such state, a read-only
/// state, or another type.
pub fn add_checks(
    states: &mut [Arc<dyn State>],
    checks: &[(String, Box<dyn Any + Send>)],
) -> Vec<UnusedCheck> {
    let mut unused = Vec::new();
    for (name, check) in checks {
        let mut add = |why: String, is_known, is_writable| {
            unused.push(UnusedCheck {
                name: name.clone(),
                why,
                is_known,
                is_writable,
            });
        };
        let named = states.iter_mut().find(|state| state.root().to_string() == *name);
        // Before the agent starts, this is the only reference.
        let Some(state) = named.and_then(Arc::get_mut) else {
            add(format!("no state is named `{name}`"), false, false);
            continue;
        };
        if !state.add_check(&**check) {
            match state.writable() {
                true => add(format!("state `{name}` is of another type"), true, true),
                false => add(format!("state `{name}` is only read"), true, false),
            }
        }
    }
    unused
}

/// Attaches the registered keys to their states. Returns a note, with the paths it concerns, for each key without effect: an
/// invalid path, no such state (with the nearest name), or a secret key, which would appear in every path.
pub fn add_keys(
    states: &mut [Arc<dyn State>],
    keys: &[(String, String)],
    redactor: &Redactor,
) -> Vec<(Vec<Path>, String)> {
    let mut notes = Vec::new();
    let names: Vec<String> = states.iter().map(|state| state.root().to_string()).collect();
    for (text, field) in keys {
        let Ok(path) = text.parse::<Path>() else {
            let state = text.split(['.', '[']).next().unwrap_or_default();
            let what = format!("`key` of `{text}` has no effect: that is no path, such as `pool.backends`");
            notes.push((vec![Path(vec![state.to_owned()])], what));
            continue;
        };
        let of_one = path.child("*").child(field);
        if redactor
            .mark(&of_one, Tree::Str("plain".to_owned()))
            .holds_secret()
        {
            let what = format!("`key` of `{text}` has no effect: what stands there is a secret by its name");
            notes.push((vec![path], what));
            continue;
        }
        let of = states.iter_mut().find(|state| path.is_within(state.root()));
        // Before the agent starts, this is the only reference.
        let added = of.and_then(Arc::get_mut).is_some_and(|state| {
            let below = path.0.get(state.root().0.len()..).unwrap_or_default().to_vec();
            state.add_key(&below, field)
        });
        if !added {
            let first = path.0.first().map(String::as_str).unwrap_or_default();
            let near = nearest(first, names.iter().map(String::as_str));
            let about = near.map(|near| Path(vec![near.to_owned()])).into_iter().collect();
            let near = near
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            notes.push((
                about,
                format!("`key` of `{text}` has no effect: no state is named `{first}`{near}"),
            ));
        }
    }
    notes
}
