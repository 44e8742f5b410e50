//! Explains why a state cannot be written: which part does not survive the round trip through serde, and why.

use serde::Serialize;

use crate::edit::Edit;
use crate::error::StateError;
use debug_base::{Kinds, Limits, Look, Path, Tree, TreeError, fenced, kinds, to_tree};

const LOST: &str = "it does not survive being written back";

/// Where serde reads values into a buffer of its own.
const BUFFERED: &str = "under `flatten` and in tagged and untagged enums";

/// Limit on substitutions tried to find the part that a type does not deserialize.
const MAX_TRIES: usize = 2_000;
/// Limit on values deserialized for that in total.
const MAX_NODES: usize = 200_000;

/// Explains why the type does not deserialize what it serialized. `takes`: whether the type accepts a tree.
pub(crate) fn unreadable(
    root: &Path,
    error: &TreeError,
    tree: &Tree,
    takes: &dyn Fn(Tree) -> bool,
) -> StateError {
    let lossy = |place: &[String], reason: String| StateError::Lossy {
        path: root.join(place),
        reason,
    };
    if error.is_lost() {
        return lossy(&error.path.0, error.clone().pathless());
    }
    if let Some(field) = error.missing_field_name() {
        let reason = "its type wants it when it is read back, and does not write it out under this name \
                      (`skip_serializing`, or another name for reading)";
        return lossy(&error.path.child(field).0, reason.to_owned());
    }
    let place = culprit(tree, &error.path.0, takes).unwrap_or_else(|| error.path.0.clone());
    let reason = match tree.at(&place) {
        Some(Tree::Map(entries))
            if !entries.is_empty() && entries.iter().all(|(name, _)| is_no_text(name)) =>
        {
            format!("its names are numbers, which serde reads back as text {BUFFERED}")
        }
        Some(Tree::Unreadable(leaf)) => {
            format!("{}, which serde does not read back {BUFFERED}", leaf.reason())
        }
        _ => "the live value cannot be read back by the service's type".to_owned(),
    };
    lossy(&place, reason)
}

/// Explains why the deserialized copy differs from the live value. `look`: what the type asked for while it read.
pub(crate) fn lossy<T: Serialize>(edit: &Edit<T>, look: &Look) -> StateError {
    let at = |place: Vec<String>, reason: String| StateError::Lossy {
        path: edit.root.join(&place),
        reason,
    };
    let copied = fenced(|| to_tree(edit.copy.get(), &Limits::COPY));
    if let Ok(Ok(copied)) = &copied
        && let Some(place) = copied.first_difference(&edit.tree)
    {
        return at(place, LOST.to_owned());
    }
    if let Some(place) = not_a_number(&edit.tree) {
        return at(place, format!("{LOST}: NaN is not equal to itself"));
    }
    let read = fenced(|| kinds(edit.copy.get(), &Limits::COPY)).unwrap_or_default();
    if let Some((place, why)) = edit.kinds.get().and_then(|live| other_kind(live, &read)) {
        return at(place, format!("{LOST}: {why}"));
    }
    let mut lacking: Vec<String> = look
        .lacking
        .iter()
        .map(|(name, field)| format!("`{field}` of struct `{name}`"))
        .collect();
    lacking.dedup();
    let which = match lacking.as_slice() {
        [] => "a field may be left out by serde (`#[serde(skip)]`), or an untagged enum reads back as another variant".to_owned(),
        known => format!("a field may be left out by serde: {}, or one under `#[serde(skip)]`", known.join(", ")),
    };
    at(
        Vec::new(),
        format!("the value as a whole does not survive being written back; {which}"),
    )
}

fn not_a_number(tree: &Tree) -> Option<Vec<String>> {
    tree.leaves()
        .find(|(_, leaf)| matches!(leaf.without_mark(), Tree::F64(value) if value.is_nan()))
        .map(|(p, _)| p.0)
}

/// The first place at which serde saw another kind of value, and the explanation.
fn other_kind(live: &Kinds, read: &Kinds) -> Option<(Vec<String>, String)> {
    // Maps may iterate in another order.
    let by_place = |kinds: &Kinds| {
        let mut kinds = kinds.clone();
        kinds.sort_by(|(one, _), (other, _)| one.cmp(other));
        kinds
    };
    let (live, read) = (by_place(live), by_place(read));
    let at = live.iter().zip(&read).position(|(live, read)| live != read)?;
    let ((place, kind), (_, other)) = (live.get(at)?, read.get(at)?);
    let why = match *kind {
        "`Some`" => "it is `Some` of nothing, which serde reads back as `None`".to_owned(),
        kind => format!("{kind} is read back as {other}, as by an untagged enum"),
    };
    Some((place.clone(), why))
}

/// Whether a name in a map was serialized from something other than text.
fn is_no_text(name: &str) -> bool {
    name.parse::<i128>().is_ok() || name.parse::<u128>().is_ok() || name.parse::<bool>().is_ok()
}

/// The smallest part of `tree`, at or below a place, that the type accepts a substitute for.
fn culprit(tree: &Tree, from: &[String], takes: &dyn Fn(Tree) -> bool) -> Option<Vec<String>> {
    // Each try deserializes the whole tree.
    let nodes = tree.leaves().count().max(1);
    search(tree, from.to_vec(), takes, &mut MAX_TRIES.min(MAX_NODES / nodes))
}

fn search(
    tree: &Tree,
    place: Vec<String>,
    takes: &dyn Fn(Tree) -> bool,
    tries: &mut usize,
) -> Option<Vec<String>> {
    let here = tree.at(&place)?;
    let names: Vec<String> = match here {
        Tree::Map(entries) => entries.iter().map(|(name, _)| name.clone()).collect(),
        Tree::Seq(items) => (0..items.len()).map(|index| index.to_string()).collect(),
        _ => Vec::new(),
    };
    for name in names {
        let part = place.iter().cloned().chain([name]).collect();
        if let Some(found) = search(tree, part, takes, tries) {
            return Some(found);
        }
    }
    let taken = substitutes(here).into_iter().any(|substitute| {
        *tries = tries.saturating_sub(1);
        0 < *tries && tree.clone().replaced(&place, substitute).is_ok_and(takes)
    });
    taken.then_some(place)
}

/// Substitutes of the same kind that a type is likely to accept.
fn substitutes(value: &Tree) -> Vec<Tree> {
    match value {
        Tree::Map(_) => vec![Tree::Map(Vec::new()), Tree::Null],
        Tree::Seq(_) => vec![Tree::Seq(Vec::new()), Tree::Null],
        Tree::Null | Tree::Bool(_) => Vec::new(),
        Tree::Str(_) => vec![Tree::Str(String::new()), Tree::Null],
        Tree::I64(_) | Tree::U64(_) | Tree::F64(_) | Tree::Unreadable(_) => vec![Tree::I64(0), Tree::Null],
        Tree::Secret(inner) => substitutes(inner)
            .into_iter()
            .map(|inner| Tree::Secret(Box::new(inner)))
            .collect(),
    }
}
