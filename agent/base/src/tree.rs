use std::fmt;

use crate::non_empty::NonEmpty;
use crate::path::{Path, PathError, index_of, known_names};

/// A service's value between serde and the agent: for reads, writes, undo, digests and arguments of patches.
///
/// Numbers that a script does not touch never pass through Rhai. A secret keeps its value, marked. `Debug` shows no secret.
#[derive(Clone, PartialEq)]
pub enum Tree {
    /// `None`, `()` and unit structs.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer that fits.
    I64(i64),
    /// An integer above `i64::MAX`.
    U64(u64),
    /// A floating-point number.
    F64(f64),
    /// Text, also of a `char`.
    Str(String),
    /// A list, tuple or byte string.
    Seq(Vec<Tree>),
    /// A map or struct, in the order of serialization. Keys are strings, or integers, booleans and unit variants written as
    /// strings.
    Map(Vec<(String, Tree)>),
    /// The value of a `Secret<T>`, or a value marked as secret. Shown only with a permit to reveal.
    Secret(Box<Tree>),
    /// A value that cannot be shown, with the reason.
    Unreadable(Unreadable),
}

impl Tree {
    /// The bytes of its leaves and names.
    pub fn size(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::I64(_) | Self::U64(_) | Self::F64(_) => 8,
            Self::Str(text) => text.len(),
            Self::Seq(items) => items.iter().map(Self::size).sum(),
            Self::Map(entries) => entries.iter().map(|(k, v)| k.len() + v.size()).sum(),
            Self::Secret(inner) => inner.size(),
            Self::Unreadable(_) => 16,
        }
    }

    /// As JSON for a record; secrets as their placeholder.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::I64(value) => (*value).into(),
            Self::U64(value) => (*value).into(),
            Self::F64(value) => (*value).into(),
            Self::Str(text) => text.as_str().into(),
            Self::Seq(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(entries) => entries.iter().map(|(k, v)| (k.clone(), v.to_json())).collect(),
            Self::Secret(_) => crate::PLACEHOLDER.into(),
            Self::Unreadable(leaf) => leaf.to_string().into(),
        }
    }

    /// A JSON value as a tree.
    pub fn from_json(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(integer), _) => Self::I64(integer),
                (None, Some(integer)) => Self::U64(integer),
                (None, None) => Self::F64(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => Self::Str(text.clone()),
            serde_json::Value::Array(items) => Self::Seq(items.iter().map(Self::from_json).collect()),
            serde_json::Value::Object(entries) => Self::Map(
                entries
                    .iter()
                    .map(|(k, v)| (k.clone(), Self::from_json(v)))
                    .collect(),
            ),
        }
    }

    /// The value at `path`, relative to this one. A secret is a leaf: no path leads into it.
    pub fn at(&self, path: &[String]) -> Option<&Tree> {
        let mut here = self;
        for segment in path {
            here = match here {
                Tree::Map(entries) => &entries.iter().find(|(key, _)| key == segment)?.1,
                Tree::Seq(items) => items.get(index_of(segment)?)?,
                _ => return None,
            };
        }
        Some(here)
    }

    /// This tree with `value` in place of the value at `path`.
    ///
    /// # Errors
    /// A segment does not exist: nothing is added to a map or list. The error lists the names that exist there.
    pub fn replaced(mut self, path: &[String], value: Tree) -> Result<Tree, PathError> {
        let mut here = &mut self;
        for (depth, segment) in path.iter().enumerate() {
            if here.child_index(segment).is_none() {
                return Err(no_such(&path[..=depth], here));
            }
            here = match here.child_mut(segment) {
                Some(child) => child,
                None => return Err(no_such(&path[..=depth], &Tree::Null)),
            };
        }
        *here = value;
        Ok(self)
    }

    /// This tree with `value` at `path`, or with nothing there. A new name goes after the last of the names that precede it
    /// in `order`; to the end if `order` does not have it.
    ///
    /// # Errors
    /// The container does not exist, or is a list without this element, or would lose an element.
    pub fn with(mut self, path: &[String], value: Option<Tree>, order: &[String]) -> Result<Tree, PathError> {
        let Some((last, above)) = path.split_last() else {
            return value.ok_or_else(|| no_such(path, &Tree::Null));
        };
        self.known_at(above)?;
        let parent = above
            .iter()
            .try_fold(&mut self, |here, segment| here.child_mut(segment));
        let parent = parent.ok_or_else(|| no_such(path, &Tree::Null))?;
        let index = parent.child_index(last);
        match (parent, index, value) {
            (Tree::Map(entries), Some(index), Some(value)) => entries[index].1 = value,
            (Tree::Map(entries), Some(index), None) => drop(entries.remove(index)),
            (Tree::Map(entries), None, Some(value)) => insert(entries, last, value, order),
            (Tree::Map(_), None, None) => {}
            (Tree::Seq(items), Some(index), Some(value)) => items[index] = value,
            (parent, ..) => return Err(no_such(path, parent)),
        }
        Ok(self)
    }

    /// The names of a map, in order; empty for other values.
    pub fn names(&self) -> Vec<String> {
        match self {
            Tree::Map(entries) => entries.iter().map(|(name, _)| name.clone()).collect(),
            _ => Vec::new(),
        }
    }

    /// The value at `path`, or an error that lists the names that exist there.
    pub fn known_at(&self, path: &[String]) -> Result<&Tree, PathError> {
        let mut here = self;
        for (depth, segment) in path.iter().enumerate() {
            let next = here.at(std::slice::from_ref(segment));
            here = next.ok_or_else(|| no_such(&path[..=depth], here))?;
        }
        Ok(here)
    }

    fn child_index(&self, segment: &str) -> Option<usize> {
        match self {
            Tree::Map(entries) => entries.iter().position(|(key, _)| key == segment),
            Tree::Seq(items) => index_of(segment).filter(|&index| index < items.len()),
            _ => None,
        }
    }

    fn child_mut(&mut self, segment: &str) -> Option<&mut Tree> {
        let index = self.child_index(segment)?;
        match self {
            Tree::Map(entries) => entries.get_mut(index).map(|(_, value)| value),
            Tree::Seq(items) => items.get_mut(index),
            _ => None,
        }
    }

    /// All leaves with their paths from here, in the tree's order.
    ///
    /// Reads and writes of a container are checked for each of these, so an empty container is a leaf too: otherwise it would
    /// be accessible without a check. A secret is one leaf, independent of its content.
    pub fn leaves(&self) -> impl Iterator<Item = (Path, &Tree)> {
        let mut pending = vec![(Vec::new(), self)];
        std::iter::from_fn(move || {
            loop {
                let (path, tree) = pending.pop()?;
                match tree {
                    Tree::Map(entries) if !entries.is_empty() => {
                        pending.extend(
                            entries
                                .iter()
                                .rev()
                                .map(|(key, value)| (joined(&path, key), value)),
                        );
                    }
                    Tree::Seq(items) if !items.is_empty() => {
                        let indexed = items.iter().enumerate().rev();
                        pending
                            .extend(indexed.map(|(index, item)| (joined(&path, &index.to_string()), item)));
                    }
                    _ => return Some((Path(path), tree)),
                }
            }
        })
    }

    /// Whether this is or contains a secret.
    pub fn holds_secret(&self) -> bool {
        match self {
            Tree::Secret(_) => true,
            Tree::Seq(items) => items.iter().any(Tree::holds_secret),
            Tree::Map(entries) => entries.iter().any(|(_, value)| value.holds_secret()),
            Tree::Unreadable(leaf) => leaf.hidden().is_some(),
            _ => false,
        }
    }

    /// Whether this is or contains a leaf that would be lost in a round trip through serde.
    pub fn holds_unreadable(&self) -> bool {
        match self {
            Tree::Unreadable(leaf) => leaf.kept().is_none(),
            Tree::Secret(inner) => inner.holds_unreadable(),
            Tree::Seq(items) => items.iter().any(Tree::holds_unreadable),
            Tree::Map(entries) => entries.iter().any(|(_, value)| value.holds_unreadable()),
            _ => false,
        }
    }

    /// Every secret, without its mark.
    pub fn secrets(&self) -> impl Iterator<Item = &Tree> {
        self.leaves().filter_map(|(_, leaf)| match leaf {
            Tree::Secret(_) => Some(leaf.without_mark()),
            Tree::Unreadable(leaf) => leaf.hidden(),
            _ => None,
        })
    }

    /// The value without its mark, if it has one.
    pub fn without_mark(&self) -> &Tree {
        match self {
            Tree::Secret(inner) => inner.without_mark(),
            other => other,
        }
    }

    /// The kind of value, in words for an error.
    pub fn kind(&self) -> &'static str {
        match self {
            Tree::Null => "nothing",
            Tree::Bool(_) => "a truth value",
            Tree::I64(_) | Tree::U64(_) => "an integer",
            Tree::F64(_) => "a number",
            Tree::Str(_) => "text",
            Tree::Seq(_) => "a list",
            Tree::Map(_) => "a map",
            Tree::Secret(_) => "a secret",
            Tree::Unreadable(_) => "unreadable",
        }
    }
}

/// Inserts an entry after the last of the names that precede it in `order`; first if none of them exists; last if `order`
/// does not have the name.
pub fn insert(entries: &mut Vec<(String, Tree)>, name: &str, value: Tree, order: &[String]) {
    let before = order
        .iter()
        .position(|known| known == name)
        .and_then(|at| order.get(..at));
    let at = match before {
        None => entries.len(),
        Some(before) => {
            let last = entries.iter().rposition(|(known, _)| before.contains(known));
            last.map_or(0, |last| last + 1)
        }
    };
    entries.insert(at, (name.to_owned(), value));
}

fn joined(path: &[String], segment: &str) -> Vec<String> {
    path.iter().cloned().chain([segment.to_owned()]).collect()
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tree::Null => f.write_str("null"),
            Tree::Bool(value) => value.fmt(f),
            Tree::I64(value) => value.fmt(f),
            Tree::U64(value) => value.fmt(f),
            Tree::F64(value) => value.fmt(f),
            Tree::Str(value) => value.fmt(f),
            Tree::Seq(items) => f.debug_list().entries(items).finish(),
            Tree::Map(entries) => f
                .debug_map()
                .entries(entries.iter().map(|(key, value)| (key, value)))
                .finish(),
            Tree::Secret(_) => f.write_str(super::PLACEHOLDER),
            Tree::Unreadable(leaf) => leaf.fmt(f),
        }
    }
}

fn no_such(path: &[String], parent: &Tree) -> PathError {
    let wanted = path.last().map(String::as_str).unwrap_or_default();
    let entries: &[(String, Tree)] = if let Tree::Map(entries) = parent {
        entries
    } else {
        &[]
    };
    let names = entries.iter().map(|(key, _)| key.as_str());
    let known = match parent {
        Tree::Map(_) => known_names(wanted, names.clone()),
        Tree::Seq(items) if items.is_empty() => "the list is empty".to_owned(),
        Tree::Seq(items) => format!("the list has the elements 0 to {}", items.len() - 1),
        Tree::Secret(_) => "a secret stands above it, which is read and written as a whole".to_owned(),
        Tree::Unreadable(leaf) => format!("what stands above it cannot be shown: {}", leaf.reason()),
        other => format!("{} stands above it", other.kind()),
    };
    PathError::new(path, &known, names)
}

/// A value that has no form in a tree, or that its type does not serialize.
///
/// It can be shown, with the reason, and refuses every other use. The reason contains only the agent's words: the service's
/// words may contain anything, and an unreadable value cannot be searched for secrets.
#[derive(Clone, PartialEq)]
pub struct Unreadable {
    reason: String,
    kept: Option<Wide>,
    hidden: Option<Box<Tree>>,
}

/// An integer of more than 64 bits, kept so that its surroundings can be written.
#[derive(Clone, Copy, PartialEq)]
pub enum Wide {
    /// Negative, or of a signed type.
    Signed(i128),
    /// Of an unsigned type.
    Unsigned(u128),
}

impl Unreadable {
    /// Creates a leaf with a reason in the agent's words.
    pub fn because(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            kept: None,
            hidden: None,
        }
    }

    /// For a secret with an unreadable part. Its readable parts are shown to no operator, but outgoing text is searched for
    /// them.
    pub fn hiding(self, secret: Tree) -> Self {
        Self {
            hidden: Some(Box::new(secret)),
            ..self
        }
    }

    /// The secret with an unreadable part.
    pub fn hidden(&self) -> Option<&Tree> {
        self.hidden.as_deref()
    }

    /// An integer too wide for a script.
    pub fn wide(value: Wide) -> Self {
        Self {
            reason: "an integer of more than 64 bits".to_owned(),
            kept: Some(value),
            hidden: None,
        }
    }

    /// Why it cannot be shown.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The integer, if the value is one and survives being written back.
    pub fn kept(&self) -> Option<Wide> {
        self.kept
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "‹unreadable: {}›", self.reason)
    }
}

impl fmt::Debug for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Wide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed(value) => value.fmt(f),
            Self::Unsigned(value) => value.fmt(f),
        }
    }
}

/// The paths that policy decides about for a value: its leaves, or `path` itself if it has none.
pub fn leaves(path: &Path, tree: &Tree) -> NonEmpty<Path> {
    let leaves = NonEmpty::of(tree.leaves().map(|(below, _)| path.join(&below.0)));
    leaves.unwrap_or_else(|| NonEmpty::one(path.clone()))
}

/// Whether a value has names or elements, so that a path to it stays a handle.
pub fn is_container(tree: &Tree) -> bool {
    matches!(tree, Tree::Map(_) | Tree::Seq(_))
}
