//! Lists with a key named by the author: shown and addressed as maps by that key.
//!
//! Invariant: a list shown by key converts back to the same list in the same order. A list with keys that do not distinguish
//! its elements is shown as a list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use debug_base::{Path, Tree, TreeError};

/// Reason for a place that is a map in the service already.
const OWN_NAMES: &str = "it has names of its own";

/// Lists by path, and why they are not shown by key.
type Unkeyed = BTreeMap<Vec<String>, String>;

/// The keys of a state's lists.
#[derive(Default)]
pub(crate) struct Keys {
    /// Keys by path from the state's root; `*` matches any one segment.
    keys: Vec<(Vec<String>, String)>,
    /// Lists not shown by key at the last read, and why.
    unkeyed: Mutex<Unkeyed>,
    /// Places with a key that held a map when read: they are not lists and are not converted to lists.
    maps: Mutex<BTreeSet<Vec<String>>>,
}

impl Keys {
    pub(crate) fn add(&mut self, path: &[String], field: &str) {
        self.keys.push((path.to_vec(), field.to_owned()));
    }

    /// Whether the author named any key.
    pub(crate) fn are_named(&self) -> bool {
        !self.keys.is_empty()
    }

    fn field(&self, path: &[String]) -> Option<&str> {
        let fits = |pattern: &[String]| {
            pattern.len() == path.len() && pattern.iter().zip(path).all(|(p, s)| p == "*" || p == s)
        };
        self.keys
            .iter()
            .find(|(pattern, _)| fits(pattern))
            .map(|(_, field)| field.as_str())
    }

    /// Whether the map at a path is a list of the service.
    pub(crate) fn is_list(&self, path: &[String]) -> bool {
        self.field(path).is_some()
            && !self
                .maps
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(path)
    }

    /// Converts each keyed list of a live value to a map, and records the lists for which this fails.
    pub(crate) fn live(&self, tree: &Tree) -> Tree {
        if self.keys.is_empty() {
            return tree.clone();
        }
        let mut unkeyed = BTreeMap::new();
        let shown = self.shown(tree, &mut Vec::new(), &mut unkeyed);
        let (maps, unkeyed) = unkeyed.into_iter().partition(|(_, why)| why == OWN_NAMES);
        let maps: Unkeyed = maps;
        self.maps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(maps.into_keys());
        *self.lock() = unkeyed;
        shown
    }

    /// Converts each keyed list of a value to a map.
    pub(crate) fn by_key(&self, tree: &Tree) -> Tree {
        match self.keys.is_empty() {
            true => tree.clone(),
            false => self.shown(tree, &mut Vec::new(), &mut BTreeMap::new()),
        }
    }

    fn shown(&self, tree: &Tree, path: &mut Vec<String>, unkeyed: &mut Unkeyed) -> Tree {
        let items = match tree {
            Tree::Map(entries) => {
                if self.field(path).is_some() {
                    unkeyed.insert(path.clone(), OWN_NAMES.to_owned());
                }
                let shown = entries
                    .iter()
                    .map(|(name, value)| (name.clone(), self.shown_at(name, value, path, unkeyed)));
                return Tree::Map(shown.collect());
            }
            Tree::Seq(items) => items,
            leaf => return leaf.clone(),
        };
        match self.field(path).map(|field| keys_of(items, field)) {
            Some(Ok(names)) => {
                let named = names.into_iter().zip(items);
                Tree::Map(
                    named
                        .map(|(name, item)| (name.clone(), self.shown_at(&name, item, path, unkeyed)))
                        .collect(),
                )
            }
            other => {
                if let Some(Err(why)) = other {
                    unkeyed.insert(path.clone(), why);
                }
                let at =
                    |(index, item): (usize, &Tree)| self.shown_at(&index.to_string(), item, path, unkeyed);
                Tree::Seq(items.iter().enumerate().map(at).collect())
            }
        }
    }

    fn shown_at(&self, name: &str, value: &Tree, path: &mut Vec<String>, unkeyed: &mut Unkeyed) -> Tree {
        path.push(name.to_owned());
        let shown = self.shown(value, path, unkeyed);
        path.pop();
        shown
    }

    fn lock(&self) -> MutexGuard<'_, Unkeyed> {
        self.unkeyed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Converts each map that represents a keyed list back to the list.
    ///
    /// # Errors
    /// The key of an element differs from its name in the map.
    pub(crate) fn as_lists(&self, tree: Tree) -> Result<Tree, TreeError> {
        if self.keys.is_empty() {
            return Ok(tree);
        }
        self.list(tree, &mut Vec::new())
    }

    fn list(&self, tree: Tree, path: &mut Vec<String>) -> Result<Tree, TreeError> {
        let is_map = self
            .maps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(path);
        match (tree, self.field(path).filter(|_| !is_map).map(str::to_owned)) {
            (Tree::Map(entries), Some(field)) => {
                let mut items = Vec::new();
                for (name, value) in entries {
                    // The mark of a key that is secret by its path hides nothing: the same text is a name in the path.
                    let key = value.at(std::slice::from_ref(&field)).map(Tree::without_mark);
                    if key.and_then(key_of).as_ref() != Some(&name) {
                        let why = format!(
                            "the key of an element is not changed through its path: `{field}` must be \"{name}\" here"
                        );
                        return Err(TreeError::ours(why).below(&Path(path.clone()).child(&name)));
                    }
                    items.push(self.list_at(&name, value, path)?);
                }
                Ok(Tree::Seq(items))
            }
            (Tree::Map(entries), None) => {
                let listed = entries.into_iter().map(|(name, value)| {
                    let value = self.list_at(&name, value, path)?;
                    Ok((name, value))
                });
                Ok(Tree::Map(listed.collect::<Result<_, TreeError>>()?))
            }
            (Tree::Seq(items), _) => {
                let items = items.into_iter().enumerate();
                let listed = items.map(|(index, item)| self.list_at(&index.to_string(), item, path));
                Ok(Tree::Seq(listed.collect::<Result<_, _>>()?))
            }
            (leaf, _) => Ok(leaf),
        }
    }

    fn list_at(&self, name: &str, value: Tree, path: &mut Vec<String>) -> Result<Tree, TreeError> {
        path.push(name.to_owned());
        let listed = self.list(value, path);
        path.pop();
        listed
    }

    /// Orders the elements of each keyed list as in `live`, new ones last: a map given by an operator has no order.
    pub(crate) fn in_order(&self, tree: Tree, live: &Tree) -> Tree {
        if self.keys.is_empty() {
            return tree;
        }
        self.ordered(tree, Some(live), &mut Vec::new())
    }

    fn ordered(&self, tree: Tree, live: Option<&Tree>, path: &mut Vec<String>) -> Tree {
        let Tree::Map(mut entries) = tree else { return tree };
        if let (Some(_), Some(Tree::Map(known))) = (self.field(path), live) {
            let at = |name: &String| {
                known
                    .iter()
                    .position(|(other, _)| other == name)
                    .unwrap_or(known.len())
            };
            entries.sort_by_key(|(name, _)| at(name));
        }
        let ordered = entries.into_iter().map(|(name, value)| {
            path.push(name.clone());
            let beside = live.and_then(|live| live.at(std::slice::from_ref(&name)));
            let value = self.ordered(value, beside, path);
            path.pop();
            (name, value)
        });
        Tree::Map(ordered.collect())
    }

    /// Lists that have a key but are shown as lists, and why.
    pub(crate) fn unkeyed(&self, root: &Path) -> Vec<(Path, String)> {
        self.lock()
            .iter()
            .map(|(path, why)| (root.join(path), why.clone()))
            .collect()
    }
}

/// The keys of all elements, or why the list cannot be shown by key.
fn keys_of(items: &[Tree], field: &str) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let key = item
            .at(&[field.to_owned()])
            .ok_or_else(|| format!("element {index} has no `{field}`"))?;
        let name = key_of(key)
            .ok_or_else(|| format!("`{field}` of element {index} is neither text nor an integer"))?;
        if names.contains(&name) {
            return Err(format!("two elements have the same `{field}`"));
        }
        names.push(name);
    }
    Ok(names)
}

/// The name given by a key. A secret gives none: it would appear in every path.
fn key_of(key: &Tree) -> Option<String> {
    match key {
        Tree::Str(text) => Some(text.clone()),
        Tree::I64(number) => Some(number.to_string()),
        Tree::U64(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
