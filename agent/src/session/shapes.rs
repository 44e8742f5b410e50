//! What a session knows of maps: those that it was handed, and how its functions use them.

use std::collections::HashSet;

use rhai::{AST, Dynamic, Map, Target};

use debug_script::ScriptResult;
use debug_script::handed_out::HandedOut;
use debug_script::walk::{self, Uses};

#[derive(Debug, Default)]
pub(crate) struct Shapes {
    handed_out: HandedOut,
    /// How the functions of the session use maps.
    functions: Uses,
    /// The names of these functions.
    defined: HashSet<String>,
}

impl Shapes {
    /// How submitted code, with the functions that it may call, uses maps. `is_state` tells whether a name that is no
    /// variable is a state.
    ///
    /// If code assigns a name in a map of its own and reads the same name anywhere, or assigns a computed name, the uses
    /// are not apart, and all missing names of that submission are `()`.
    pub(crate) fn uses(&mut self, ast: &AST, is_state: impl Fn(&str) -> bool) -> Uses {
        let mut uses = Uses::of(ast, is_state);
        if ast.has_functions() {
            self.defined
                .extend(walk::defined(ast).into_iter().map(|(name, _)| name));
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
        self.handed_out.note(value);
    }

    /// The maps that the session was handed.
    pub(crate) fn handed_out(&self) -> &HandedOut {
        &self.handed_out
    }
}

/// Handles Rhai's callback for a name that a map lacks.
///
/// # Errors
/// The name is read, and the agent handed out the map.
pub(crate) fn missing<'a>(
    shapes: &Shapes,
    uses: &Uses,
    map: &'a mut Map,
    name: &str,
) -> ScriptResult<Target<'a>> {
    match shapes.handed_out.missing(uses, map, name) {
        Some(target) => target,
        None => Ok(Target::from(Dynamic::UNIT)),
    }
}
