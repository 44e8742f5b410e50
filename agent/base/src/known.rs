//! Records which fields a type's structs know while the type reads a tree, including fields absent from the tree.

use std::cell::RefCell;

use crate::tree::Tree;

/// Value at a place of which the caller asks whether the type knows it.
const SOUGHT: &str = "‹sought›";

thread_local! {
    static LOOK: RefCell<Option<Look>> = const { RefCell::new(None) };
}

/// What was recorded while a type read a tree.
#[derive(Debug, Default)]
pub struct Look {
    sought: Option<String>,
    /// Whether the struct around [`sought`] knows its name. `None` if there is no such struct, or it was not read as one:
    /// serde's buffers, for `flatten` and for tagged and untagged enums, accept any name.
    pub is_known: Option<bool>,
    /// Fields that a struct knows and the tree lacks, with the struct's name.
    pub lacking: Vec<(&'static str, &'static str)>,
}

/// The value for the place to ask about.
pub fn sought() -> Tree {
    Tree::Str(SOUGHT.to_owned())
}

/// Runs `read`, which reads a tree, and returns what was recorded. `name`: the name of [`sought`] in the tree.
pub fn looking<R>(name: Option<&str>, read: impl FnOnce() -> R) -> (R, Look) {
    LOOK.set(Some(Look {
        sought: name.map(str::to_owned),
        ..Look::default()
    }));
    let result = read();
    (result, LOOK.take().unwrap_or_default())
}

/// Called when a type is about to read a struct.
pub(crate) fn on_struct(name: &'static str, fields: &'static [&'static str], entries: &[(String, Tree)]) {
    let note = |look: &mut Option<Look>| {
        let Some(look) = look else { return };
        let is_there = |field: &str| entries.iter().any(|(name, _)| name == field);
        look.lacking.extend(
            fields
                .iter()
                .filter(|field| !is_there(field))
                .map(|field| (name, *field)),
        );
        if let Some(sought) = &look.sought {
            let is_sought = |(name, value): &(String, Tree)| {
                name == sought && matches!(value, Tree::Str(text) if text == SOUGHT)
            };
            if entries.iter().any(is_sought) {
                look.is_known = Some(fields.contains(&sought.as_str()));
            }
        }
    };
    // A type may read another tree while it is read; only the outer read is recorded.
    LOOK.with(|look| drop(look.try_borrow_mut().map(|mut look| note(&mut look))));
}
