//! The shapes of the maps that a session was handed. Reading a name that such a map lacks is an error, where Rhai gives
//! `()`.
//!
//! In a map of the operator's own a missing name is `()`, as in plain Rhai. Rhai's callback does not tell a read from
//! an assignment. So if code assigns a name in a map of its own and reads the same name anywhere, or assigns a computed
//! name, all missing names of that submission are `()`.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use rhai::{AST, Array, Dynamic, EvalAltResult, Map, Position, Target};

use debug_base::known_names;
use debug_script::walk::{self, Uses};

/// The maps handed out, by a digest of their names. A map of the operator's with exactly the same names counts as
/// handed out.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    handed_out: HashSet<u64>,
    /// How the functions of the session use maps.
    functions: Uses,
    /// The names of these functions.
    defined: HashSet<String>,
}

/// The most shapes kept; beyond that some errors are not detected.
const MAX_SHAPES: usize = 2_000;
/// The most values of one result that are examined.
const MAX_SEEN: usize = 10_000;

impl Shapes {
    /// How submitted code, with the functions that it may call, uses maps. `is_state` tells whether a name that is no
    /// variable is a state.
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

    /// Whether the session has defined a function of this name.
    pub(crate) fn defines(&self, name: &str) -> bool {
        self.defined.contains(name)
    }

    /// Records the maps in a function's result.
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

/// Handles Rhai's callback for a missing name, which does not tell a read from an assignment. Where the uses are apart,
/// the name tells.
///
/// # Errors
/// The name is read, and the agent handed out the map.
pub(crate) fn missing<'a>(
    shapes: &Shapes,
    uses: &Uses,
    map: &'a mut Map,
    name: &str,
) -> Result<Target<'a>, Box<EvalAltResult>> {
    let is_ours = shapes.handed_out.contains(&digest(map));
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
