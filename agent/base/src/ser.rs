use std::fmt::Display;
use std::time::{Duration, Instant};

use debug_policy::MAX_SEGMENT;
use serde::ser::{self, Serialize};

use crate::error::TreeError;
use crate::fence::{Panicked, fenced};
use crate::marks::SECRET_NAME;
use crate::scope::SecretScope;
use crate::tree::Tree;
use crate::tree::{Unreadable, Wide};

/// Limits on the size of a tree and on the time to build it. Exceeding one is an error: a part is never shown as the whole.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Size of text and keys, plus `NODE_COST` per node, in bytes.
    pub bytes: usize,
    /// Number of leaves.
    pub leaves: usize,
    /// Nesting depth of containers.
    pub depth: usize,
    /// Time since the walk began, checked every `NODES_BETWEEN_LOOKS` nodes.
    pub time: Option<Duration>,
}

impl Limits {
    /// For a state, serialized under its lock: 1 MiB, 10,000 leaves and 5 ms, so that the agent delays no service thread
    /// longer. The depth is that of the longest path, including the state's name.
    pub const STATE: Self = Self {
        bytes: 1024 * 1024,
        leaves: 10_000,
        depth: debug_policy::MAX_SEGMENTS - 1,
        time: Some(Duration::from_millis(5)),
    };

    /// For a copy of a state, which no lock protects: as `STATE`, without a time limit.
    pub const COPY: Self = Self {
        time: None,
        ..Self::STATE
    };

    /// For the arguments and the result of one patched call: 256 KiB, 64 levels (the depth allowed for script values).
    pub const ARGUMENTS: Self = Self {
        bytes: 256 * 1024,
        depth: 64,
        ..Self::STATE
    };
}

/// Cost of one node against `Limits::bytes`: about its size in memory.
const NODE_COST: usize = 8;

/// Nodes between two reads of the clock. One read costs as much as serializing a few nodes.
const NODES_BETWEEN_LOOKS: usize = 64;

/// Limit on the capacity reserved for an announced length.
const MAX_RESERVED: usize = 256;

/// The tree of `value`, in serde_json's shape, with every `Secret<T>` marked and its value kept.
///
/// An `f32` becomes the `f64` of its shortest decimal, so that `0.1` shows as `0.1`; a `char` is text, bytes are a list. Keys
/// may be strings, integers, booleans, characters and unit variants.
///
/// A part that cannot be shown becomes a leaf with the reason:
/// - an integer of more than 64 bits
/// - an entry with a name that is not text, is too long for a path or occurs twice
/// - a part nested too deeply
/// - a part with a `Serialize` that fails or panics
/// - a part that alone takes more than half of a limit of the whole
///
/// # Errors
/// The path at which a limit of the whole was reached, or why nothing of the value can be shown.
pub fn to_tree<T: Serialize + ?Sized>(value: &T, limits: &Limits) -> Result<Tree, TreeError> {
    let _scope = SecretScope::enter();
    value.serialize(&mut TreeSerializer::new(*limits, ends(limits)))
}

/// The kind that serde saw at each place, which the tree does not show: the difference between two values with equal trees.
pub type Kinds = Vec<(Vec<String>, &'static str)>;

/// The kinds of the values in `value`, as far as it serializes.
pub fn kinds<T: Serialize + ?Sized>(value: &T, limits: &Limits) -> Kinds {
    let _scope = SecretScope::enter();
    let mut serializer = TreeSerializer::new(*limits, ends(limits));
    serializer.kinds = Some((Vec::new(), Vec::new()));
    // After an error, the kinds seen so far are kept.
    drop(value.serialize(&mut serializer));
    serializer.kinds.map(|(_, kinds)| kinds).unwrap_or_default()
}

/// Deadline of a walk that begins now.
pub(crate) fn ends(limits: &Limits) -> Option<Instant> {
    limits.time.and_then(|time| Instant::now().checked_add(time))
}

/// Whether a walk that has visited this number of nodes is late. Reads the clock only for some numbers.
pub(crate) fn is_late(nodes: usize, ends: Option<Instant>) -> bool {
    nodes.is_multiple_of(NODES_BETWEEN_LOOKS) && ends.is_some_and(|ends| ends < Instant::now())
}

/// The error for a late walk.
pub(crate) fn late() -> TreeError {
    TreeError::bound("takes longer to read than the service may be held up", true)
}

/// The error for a walk that exceeds the byte limit.
pub(crate) fn too_large(limits: &Limits) -> TreeError {
    TreeError::bound(format!("larger than {} bytes", limits.bytes), false)
}

/// Builds a tree within limits. Visible in the crate only so that `Secret<T>` can recognise it.
pub struct TreeSerializer {
    limits: Limits,
    ends: Option<Instant>,
    bytes: usize,
    leaves: usize,
    nodes: usize,
    depth: usize,
    /// Path of the walk and the kinds seen; set only for [`kinds`].
    kinds: Option<(Vec<String>, Kinds)>,
}

impl TreeSerializer {
    /// Whether `S` is this serializer. A type name is unique within the crate, and wrappers (such as serde's own, for tagged
    /// enums) have other names. If in doubt, a secret is written as its placeholder.
    pub fn is<S>() -> bool {
        std::any::type_name::<S>() == std::any::type_name::<&mut TreeSerializer>()
    }

    pub(crate) fn new(limits: Limits, ends: Option<Instant>) -> Self {
        Self {
            limits,
            ends,
            bytes: 0,
            leaves: 0,
            nodes: 0,
            depth: 0,
            kinds: None,
        }
    }

    fn node(&mut self, bytes: usize) -> Result<(), TreeError> {
        self.nodes += 1;
        self.bytes = self.bytes.saturating_add(bytes).saturating_add(NODE_COST);
        if self.limits.bytes < self.bytes {
            return Err(too_large(&self.limits));
        }
        if is_late(self.nodes, self.ends) {
            Err(late())
        } else {
            Ok(())
        }
    }

    fn leaf(&mut self, bytes: usize, tree: Tree) -> Result<Tree, TreeError> {
        self.node(bytes)?;
        self.leaves += 1;
        if self.limits.leaves < self.leaves {
            return Err(TreeError::bound(
                format!("more than {} values", self.limits.leaves),
                false,
            ));
        }
        Ok(tree)
    }

    fn deeper(&mut self) -> Result<&mut Self, TreeError> {
        self.node(0)?;
        self.depth += 1;
        if self.limits.depth < self.depth {
            return Err(TreeError::ours(format!(
                "nested deeper than {} levels",
                self.limits.depth
            )));
        }
        Ok(self)
    }

    fn kind(&mut self, kind: &'static str) {
        if let Some((place, kinds)) = &mut self.kinds {
            kinds.push((place.clone(), kind));
        }
    }

    /// The tree of the part with this name.
    fn named_part<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<Tree, TreeError> {
        if let Some((place, _)) = &mut self.kinds {
            place.push(name.to_owned());
        }
        let part = self.part(value);
        if let Some((place, _)) = &mut self.kinds {
            place.pop();
        }
        part
    }

    fn text(&mut self, text: &str) -> Result<Tree, TreeError> {
        // Counted before the text is copied.
        self.leaf(text.len(), Tree::Null)?;
        Ok(Tree::Str(text.to_owned()))
    }

    /// The tree of a part. If the part cannot be shown, it becomes an unreadable leaf and the rest is not affected.
    ///
    /// # Errors
    /// A limit of the whole was reached, and not by this part alone.
    pub fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<Tree, TreeError> {
        let (depth, bytes, leaves) = (self.depth, self.bytes, self.leaves);
        let error = match fenced(|| value.serialize(&mut *self)) {
            Ok(Ok(tree)) => return Ok(tree),
            Ok(Err(error)) => error,
            Err(Panicked) => TreeError::ours("its type panics where it writes itself out"),
        };
        self.depth = depth;
        if error.is_bound() {
            let alone = self.limits.leaves / 2 < self.leaves - leaves
                || self.limits.bytes / 2 < self.bytes.saturating_sub(bytes);
            if error.is_late() || !alone {
                return Err(error);
            }
            (self.bytes, self.leaves) = (bytes, leaves);
        }
        self.leaf(0, Tree::Unreadable(error.unreadable()))
    }
}

/// Implements serde's container traits for a type with `element` or `field`, and with `seq` or `map` at the end.
macro_rules! containers {
    ($open:ty => $ok:ty) => {
        containers!(@list $open => $ok: SerializeSeq serialize_element);
        containers!(@list $open => $ok: SerializeTuple serialize_element);
        containers!(@list $open => $ok: SerializeTupleStruct serialize_field);
        containers!(@list $open => $ok: SerializeTupleVariant serialize_field);
        containers!(@fields $open => $ok: SerializeStruct);
        containers!(@fields $open => $ok: SerializeStructVariant);
    };
    (@list $open:ty => $ok:ty: $kind:ident $add:ident) => {
        impl serde::ser::$kind for $open {
            type Ok = $ok;
            type Error = TreeError;
            fn $add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), TreeError> {
                self.element(value)
            }
            fn end(self) -> Result<$ok, TreeError> {
                self.seq()
            }
        }
    };
    (@fields $open:ty => $ok:ty: $kind:ident) => {
        impl serde::ser::$kind for $open {
            type Ok = $ok;
            type Error = TreeError;
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), TreeError> {
                self.field(name, value)
            }
            fn end(self) -> Result<$ok, TreeError> {
                self.map()
            }
        }
    };
}
pub(crate) use containers;

/// A list, tuple, map or struct under construction, with the variant that wraps it.
pub struct Open<'a> {
    serializer: &'a mut TreeSerializer,
    variant: Option<&'static str>,
    /// Length announced by the value.
    length: Option<usize>,
    items: Vec<Tree>,
    entries: Vec<(String, Tree)>,
    key: Option<Result<String, TreeError>>,
    /// Number of entries with names that no path can hold.
    unnamed: usize,
}

impl<'a> Open<'a> {
    fn new(
        serializer: &'a mut TreeSerializer,
        variant: Option<&'static str>,
        length: Option<usize>,
    ) -> Result<Self, TreeError> {
        if variant.is_some() {
            serializer.deeper()?;
        }
        serializer.deeper()?;
        let (items, entries, key) = (Vec::new(), Vec::new(), None);
        Ok(Self {
            serializer,
            variant,
            length,
            items,
            entries,
            key,
            unnamed: 0,
        })
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), TreeError> {
        let index = self.items.len();
        if index == 0 {
            self.items.reserve(self.length.unwrap_or(0).min(MAX_RESERVED));
        }
        let item = match self.serializer.kinds {
            None => self.serializer.part(value),
            Some(_) => self.serializer.named_part(&index.to_string(), value),
        };
        let item = item.map_err(|error| self.of_variant(self.seen_from_here(error, &index.to_string())))?;
        self.items.push(item);
        Ok(())
    }

    fn entry<T: Serialize + ?Sized>(&mut self, key: String, value: &T) -> Result<(), TreeError> {
        if MAX_SEGMENT < key.len() {
            let what = format!(
                "its name has {} bytes, and a path's may have {MAX_SEGMENT}",
                key.len()
            );
            return self.unnamed(&TreeError::ours(what));
        }
        let counted = self
            .serializer
            .node(key.len())
            .and_then(|()| self.serializer.named_part(&key, value));
        let value = counted.map_err(|error| self.seen_from_here(error, &key))?;
        self.entries.push((key, value));
        Ok(())
    }

    /// Adds an entry with a name that no path can hold: an unreadable leaf under a generated name.
    fn unnamed(&mut self, why: &TreeError) -> Result<(), TreeError> {
        self.unnamed += 1;
        let leaf = self.serializer.leaf(0, Tree::Unreadable(why.unreadable()));
        let leaf = leaf.map_err(|error| self.seen_from_here(error, ""))?;
        self.entries
            .push((format!("‹entry {}›", self.entries.len()), leaf));
        Ok(())
    }

    fn seen_from_here(&self, error: TreeError, segment: &str) -> TreeError {
        error.of_part(segment, self.length)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), TreeError> {
        self.entry(name.to_owned(), value)
            .map_err(|error| self.of_variant(error))
    }

    fn of_variant(&self, error: TreeError) -> TreeError {
        match self.variant {
            Some(variant) => error.of_part(variant, None),
            None => error,
        }
    }

    fn seq(self) -> Result<Tree, TreeError> {
        let items = self.items;
        Ok(close(self.serializer, self.variant, Tree::Seq(items)))
    }

    fn map(mut self) -> Result<Tree, TreeError> {
        // If no entry has a usable name, the whole map is unreadable.
        if 0 < self.unnamed
            && self.unnamed == self.entries.len()
            && let Some((_, Tree::Unreadable(leaf))) = self.entries.pop()
        {
            return Err(TreeError::ours(leaf.reason()));
        }
        each_name_once(&mut self.entries);
        let entries = self.entries;
        Ok(close(self.serializer, self.variant, Tree::Map(entries)))
    }
}

/// Replaces all entries that share a name with one unreadable leaf: a path must name one value.
fn each_name_once(entries: &mut Vec<(String, Tree)>) {
    let mut names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let mut twice: Vec<String> = names
        .windows(2)
        .filter(|pair| pair[0] == pair[1])
        .map(|pair| pair[0].to_owned())
        .collect();
    twice.dedup();
    for name in twice {
        let mut first = true;
        entries.retain_mut(|(other, value)| {
            let keep = *other != name || std::mem::take(&mut first);
            if *other == name {
                *value = Tree::Unreadable(Unreadable::because("two values have this name"));
            }
            keep
        });
    }
}

fn close(serializer: &mut TreeSerializer, variant: Option<&'static str>, tree: Tree) -> Tree {
    serializer.depth -= 1;
    match variant {
        None => tree,
        Some(name) => {
            serializer.depth -= 1;
            Tree::Map(vec![(name.to_owned(), tree)])
        }
    }
}

impl<'a> ser::Serializer for &'a mut TreeSerializer {
    type Ok = Tree;
    type Error = TreeError;
    type SerializeSeq = Open<'a>;
    type SerializeTuple = Open<'a>;
    type SerializeTupleStruct = Open<'a>;
    type SerializeTupleVariant = Open<'a>;
    type SerializeMap = Open<'a>;
    type SerializeStruct = Open<'a>;
    type SerializeStructVariant = Open<'a>;

    fn serialize_bool(self, value: bool) -> Result<Tree, TreeError> {
        self.leaf(0, Tree::Bool(value))
    }
    fn serialize_i8(self, value: i8) -> Result<Tree, TreeError> {
        self.kind("a signed integer");
        self.serialize_i64(value.into())
    }
    fn serialize_i16(self, value: i16) -> Result<Tree, TreeError> {
        self.kind("a signed integer");
        self.serialize_i64(value.into())
    }
    fn serialize_i32(self, value: i32) -> Result<Tree, TreeError> {
        self.kind("a signed integer");
        self.serialize_i64(value.into())
    }
    fn serialize_i64(self, value: i64) -> Result<Tree, TreeError> {
        self.kind("a signed integer");
        self.leaf(0, Tree::I64(value))
    }
    fn serialize_i128(self, value: i128) -> Result<Tree, TreeError> {
        self.kind("a signed integer");
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => self.serialize_i64(value),
            (_, Ok(value)) => self.serialize_u64(value),
            _ => self.leaf(0, Tree::Unreadable(Unreadable::wide(Wide::Signed(value)))),
        }
    }
    fn serialize_u8(self, value: u8) -> Result<Tree, TreeError> {
        self.kind("an unsigned integer");
        self.serialize_i64(value.into())
    }
    fn serialize_u16(self, value: u16) -> Result<Tree, TreeError> {
        self.kind("an unsigned integer");
        self.serialize_i64(value.into())
    }
    fn serialize_u32(self, value: u32) -> Result<Tree, TreeError> {
        self.kind("an unsigned integer");
        self.serialize_i64(value.into())
    }
    fn serialize_u64(self, value: u64) -> Result<Tree, TreeError> {
        self.kind("an unsigned integer");
        self.leaf(0, i64::try_from(value).map_or(Tree::U64(value), Tree::I64))
    }
    fn serialize_u128(self, value: u128) -> Result<Tree, TreeError> {
        self.kind("an unsigned integer");
        match u64::try_from(value) {
            Ok(value) => self.serialize_u64(value),
            Err(_) => self.leaf(0, Tree::Unreadable(Unreadable::wide(Wide::Unsigned(value)))),
        }
    }
    fn serialize_f32(self, value: f32) -> Result<Tree, TreeError> {
        self.kind("a float");
        // Widening the bits would show 0.10000000149011612 for 0.1.
        let widened = value.to_string().parse().unwrap_or(f64::from(value));
        self.leaf(
            0,
            Tree::F64(if value.is_finite() {
                widened
            } else {
                f64::from(value)
            }),
        )
    }
    fn serialize_f64(self, value: f64) -> Result<Tree, TreeError> {
        self.kind("a float");
        self.leaf(0, Tree::F64(value))
    }
    fn serialize_char(self, value: char) -> Result<Tree, TreeError> {
        self.kind("a character");
        self.text(value.encode_utf8(&mut [0; 4]))
    }
    fn serialize_str(self, value: &str) -> Result<Tree, TreeError> {
        self.kind("text");
        self.text(value)
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<Tree, TreeError> {
        self.kind("bytes");
        let serializer = self.deeper()?;
        let bytes: Result<_, _> = value
            .iter()
            .map(|byte| serializer.leaf(0, Tree::I64((*byte).into())))
            .collect();
        Ok(close(serializer, None, Tree::Seq(bytes?)))
    }
    fn serialize_none(self) -> Result<Tree, TreeError> {
        self.kind("`None`");
        self.leaf(0, Tree::Null)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Tree, TreeError> {
        self.kind("`Some`");
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Tree, TreeError> {
        self.kind("`()`");
        self.leaf(0, Tree::Null)
    }
    fn serialize_unit_struct(self, _name: &'static str) -> Result<Tree, TreeError> {
        self.kind("a unit");
        self.leaf(0, Tree::Null)
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Tree, TreeError> {
        self.kind("a variant");
        self.text(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Tree, TreeError> {
        if name == SECRET_NAME {
            let inner = value.serialize(self.deeper()?).map_err(TreeError::in_secret)?;
            if inner.holds_unreadable() {
                let leaf = TreeError::ours("refused inside of a secret")
                    .hidden()
                    .unreadable();
                return Ok(close(self, None, Tree::Unreadable(leaf.hiding(inner))));
            }
            return Ok(close(self, None, Tree::Secret(Box::new(inner))));
        }
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Tree, TreeError> {
        self.kind("a variant");
        let inner = self
            .deeper()?
            .part(value)
            .map_err(|error| error.of_part(variant, None))?;
        Ok(close(self, None, Tree::Map(vec![(variant.to_owned(), inner)])))
    }
    fn serialize_seq(self, length: Option<usize>) -> Result<Open<'a>, TreeError> {
        self.kind("a list");
        Open::new(self, None, length)
    }
    fn serialize_tuple(self, length: usize) -> Result<Open<'a>, TreeError> {
        self.kind("a tuple");
        Open::new(self, None, Some(length))
    }
    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Open<'a>, TreeError> {
        self.kind("a tuple struct");
        Open::new(self, None, Some(length))
    }
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Open<'a>, TreeError> {
        Open::new(self, Some(variant), Some(length))
    }
    fn serialize_map(self, length: Option<usize>) -> Result<Open<'a>, TreeError> {
        self.kind("a map");
        Open::new(self, None, length)
    }
    fn serialize_struct(self, _: &'static str, _length: usize) -> Result<Open<'a>, TreeError> {
        self.kind("a struct");
        Open::new(self, None, None)
    }
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Open<'a>, TreeError> {
        Open::new(self, Some(variant), None)
    }
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<Tree, TreeError> {
        self.text(&value.to_string())
    }
}

containers!(Open<'_> => Tree);

impl ser::SerializeMap for Open<'_> {
    type Ok = Tree;
    type Error = TreeError;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), TreeError> {
        let key = fenced(|| key.serialize(crate::key::KeySerializer));
        let panicked = |Panicked| {
            Err(TreeError::ours(
                "its name's type panics where it writes itself out",
            ))
        };
        self.key = Some(key.unwrap_or_else(panicked));
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), TreeError> {
        match self.key.take() {
            Some(Ok(key)) => self.entry(key, value),
            Some(Err(why)) => self.unnamed(&why),
            None => Err(TreeError::ours("a map gave a value without its key")),
        }
    }
    fn end(self) -> Result<Tree, TreeError> {
        self.map()
    }
}
