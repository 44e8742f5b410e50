//! The maps that the agent handed to a script. Reading a name that such a map lacks is an error, where Rhai gives `()`.
//!
//! In a map that the script made, a missing name is `()`, as in plain Rhai. Rhai's callback does not tell a read from an
//! assignment; [`Uses`] does, where no assigned name is read as well.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use rhai::{Array, Dynamic, EvalAltResult, Map, Position, Target};

use crate::ScriptResult;
use crate::walk::Uses;
use debug_base::known_names;

/// The maps handed out, by a digest of their names. A map of the script's with exactly the same names counts as handed
/// out.
#[derive(Clone, Debug, Default)]
pub struct HandedOut {
    digests: HashSet<u64>,
}

/// The most maps kept; beyond that some missing names are not detected.
const MAX_MAPS: usize = 2_000;
/// The most values of one result that are examined.
const MAX_SEEN: usize = 10_000;

impl HandedOut {
    /// Records the maps in a value.
    pub fn note(&mut self, value: &Dynamic) {
        self.note_below(value, &mut 0);
    }

    fn note_below(&mut self, value: &Dynamic, seen: &mut usize) {
        *seen += 1;
        if *seen > MAX_SEEN {
            return;
        }
        if let Some(items) = value.read_lock::<Array>() {
            items.iter().for_each(|item| self.note_below(item, seen));
        } else if let Some(entries) = value.read_lock::<Map>() {
            self.note_map(&entries);
            entries.values().for_each(|value| self.note_below(value, seen));
        }
    }

    /// Records a map, without those in it. An empty map is not recorded: every empty map has the same names.
    pub fn note_map(&mut self, map: &Map) {
        if !map.is_empty() && self.digests.len() < MAX_MAPS {
            self.digests.insert(digest(map));
        }
    }

    /// Records those maps in a value that `other` has recorded.
    pub fn note_known(&mut self, value: &Dynamic, other: &Self) {
        let mut all = Self::default();
        all.note(value);
        self.digests.extend(all.digests.intersection(&other.digests));
    }

    /// Handles Rhai's callback for a name that a map lacks; `None` if the map was not handed out.
    ///
    /// # Errors
    /// The name is read, and the agent handed out the map.
    pub fn missing<'a>(&self, uses: &Uses, map: &'a mut Map, name: &str) -> Option<ScriptResult<Target<'a>>> {
        if uses.assigns(name) {
            return Some(map.entry(name.into()).or_insert(Dynamic::UNIT).try_into());
        }
        if !self.digests.contains(&digest(map)) {
            return None;
        }
        let known = known_names(name, map.keys().map(|key| key.as_str()));
        let text = format!("there is no `{name}` in it; {known}");
        Some(Err(
            EvalAltResult::ErrorRuntime(text.into(), Position::NONE).into()
        ))
    }
}

fn digest(map: &Map) -> u64 {
    let mut hasher = DefaultHasher::new();
    map.keys().for_each(|name| name.hash(&mut hasher));
    hasher.finish()
}
