//! The names in the maps that a session was handed: one that such a map lacks is a mistake, where Rhai says `()`.
//!
//! In a map of the operator's own a missing name is `()`, as the language has it. Rhai tells a name that is read and one that is
//! assigned apart for nobody; so where code assigns a name in a map of its own and reads the same name anywhere, or computes one
//! that it assigns, all missing names of that submission are `()`.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use rhai::{AST, Array, Dynamic, EvalAltResult, Map, Position, Target};

use crate::script::walk::{self, Uses};
use crate::session::Session;
use crate::state::known_names;

/// The maps handed out, by a digest of their names: one of the operator's with the very same names is taken for one of them.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    handed_out: HashSet<u64>,
    /// What the functions of the session do with maps.
    functions: Uses,
    /// Their names.
    defined: HashSet<String>,
}

/// How many are remembered; a session that was handed more different ones is not told of all mistakes.
const MAX_SHAPES: usize = 2_000;
/// How many values of one result are looked at.
const MAX_SEEN: usize = 10_000;

impl Shapes {
    /// What submitted code does with maps, with the functions that it may call. `is_state` says whether a name that is no
    /// variable is that of a state.
    pub(crate) fn uses(&mut self, ast: &AST, is_state: impl Fn(&str) -> bool) -> Uses {
        let mut uses = Uses::of(ast, is_state);
        if ast.has_functions() {
            self.defined.extend(walk::defined(ast).into_iter().map(|(name, _)| name));
            self.functions.extend(uses);
            return self.functions.clone();
        }
        uses.extend(self.functions.clone());
        uses
    }

    /// Whether the session has defined a function of that name.
    pub(crate) fn defines(&self, name: &str) -> bool {
        self.defined.contains(name)
    }

    /// Notes the maps in what a function returned.
    pub(crate) fn note(&mut self, value: &Dynamic) {
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

    fn note_map(&mut self, map: &Map) {
        if !map.is_empty() && self.handed_out.len() < MAX_SHAPES {
            self.handed_out.insert(digest(map));
        }
    }
}

fn digest(map: &Map) -> u64 {
    let mut hasher = DefaultHasher::new();
    map.keys().for_each(|name| name.hash(&mut hasher));
    hasher.finish()
}

/// What Rhai asks when a map lacks a name, without saying whether it is read or assigned: of code whose uses are apart, the
/// name tells it.
///
/// # Errors
/// The name is read, and the map was handed out by the agent.
pub(crate) fn missing<'a>(
    session: &Session,
    uses: &Uses,
    map: &'a mut Map,
    name: &str,
) -> Result<Target<'a>, Box<EvalAltResult>> {
    let is_ours = session.shapes().handed_out.contains(&digest(map));
    if uses.assigns(name) {
        let entry = map.entry(name.into()).or_insert(Dynamic::UNIT);
        return entry.try_into();
    }
    if !is_ours {
        return Ok(Target::from(Dynamic::UNIT));
    }
    let known = known_names(name, map.keys().map(|key| key.as_str()));
    let text = format!("there is no `{name}` in it; {known}");
    Err(EvalAltResult::ErrorRuntime(text.into(), Position::NONE).into())
}
