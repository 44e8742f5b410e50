//! Equality of values where a type does not keep the order of a list.

use crate::tree::Tree;

/// What only a state's type knows of its values.
pub trait Orders {
    /// Whether the list at `path` of `whole` has no positions: the type does not keep the order of `items`.
    fn is_set(&self, whole: &Tree, path: &[String], items: &[&Tree]) -> bool;

    /// Whether the map at `path` is a list that is shown by a key of its elements: then the order of its names is the service's.
    fn is_by_key(&self, _path: &[String]) -> bool {
        false
    }

    /// `edited` with the elements of each list shown by key in the order of `live`, new ones last: a map that an operator gives has no
    /// order.
    fn in_order(&self, edited: Tree, _live: &Tree) -> Tree {
        edited
    }

    /// Whether changes end on reads at the deadline, without an undo.
    fn is_timed(&self) -> bool {
        false
    }
}

/// A place in a state at which values are compared.
#[derive(Clone, Copy)]
pub struct Here<'a> {
    /// The whole state.
    pub whole: &'a Tree,
    /// Path of the compared values from the state's root.
    pub path: &'a [String],
    /// What the state's type knows of its lists.
    pub orders: &'a dyn Orders,
}

/// Whether the lists shown by key have their elements in the same order in two values that are [`alike`].
pub fn is_in_order(one: Option<&Tree>, other: Option<&Tree>, here: Here<'_>) -> bool {
    let (Some(Tree::Map(entries)), Some(Tree::Map(others))) =
        (one.map(Tree::without_mark), other.map(Tree::without_mark))
    else {
        return true;
    };
    let names = |entries: &[(String, Tree)]| entries.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    if here.orders.is_by_key(here.path) && names(entries) != names(others) {
        return false;
    }
    entries.iter().all(|(name, value)| {
        let path = [here.path, std::slice::from_ref(name)].concat();
        let beside = others
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value);
        is_in_order(Some(value), beside, Here { path: &path, ..here })
    })
}

/// Whether two values are equal at this place; the order of a list without positions does not count.
pub fn alike(one: Option<&Tree>, other: Option<&Tree>, here: Here<'_>) -> bool {
    let (Some(one), Some(other)) = (one, other) else {
        return one.is_none() && other.is_none();
    };
    if one.same(other) {
        return true;
    }
    one.same_unordered(other) && same_but_for_order(one.without_mark(), other.without_mark(), here)
}

/// Whether values with the same elements in another order are equal: only in lists without positions.
fn same_but_for_order(one: &Tree, other: &Tree, here: Here<'_>) -> bool {
    let below = |name: &str, one: Option<&Tree>, other: Option<&Tree>| {
        let path = [here.path, &[name.to_owned()]].concat();
        alike(one, other, Here { path: &path, ..here })
    };
    match (one, other) {
        (Tree::Map(entries), Tree::Map(others)) => {
            let named = |name: &str| others.iter().find(|(key, _)| key == name).map(|(_, value)| value);
            entries.len() == others.len()
                && entries
                    .iter()
                    .all(|(name, value)| below(name, Some(value), named(name)))
        }
        (Tree::Seq(items), Tree::Seq(others)) => {
            let in_order = items.len() == others.len()
                && items
                    .iter()
                    .zip(others)
                    .enumerate()
                    .all(|(at, (item, other))| below(&at.to_string(), Some(item), Some(other)));
            let all: Vec<&Tree> = items.iter().chain(others).collect();
            in_order || here.orders.is_set(here.whole, here.path, &all)
        }
        (one, other) => one.same(other),
    }
}
