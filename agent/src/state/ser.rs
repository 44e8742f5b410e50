use std::fmt::Display;
use std::time::{Duration, Instant};

use serde::ser::{self, Serialize};

use super::SECRET_NAME;
use super::error::TreeError;
use super::scope::SecretScope;
use super::tree::Tree;

/// How large a tree may become, and how long that may take. Reaching one is an error: a part is never shown as the
/// whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Text and keys, plus `NODE_COST` for every node, in bytes.
    pub(crate) bytes: usize,
    /// Leaves.
    pub(crate) leaves: usize,
    /// Containers inside each other.
    pub(crate) depth: usize,
    /// Time since the walk began, looked at every `NODES_BETWEEN_LOOKS` nodes.
    pub(crate) time: Option<Duration>,
}

impl Limits {
    /// For a state, serialized while its lock is held: 1 MiB, 10,000 leaves and 5 ms, so that no thread of the
    /// service waits longer than that for us.
    pub(crate) const STATE: Self =
        Self { bytes: 1024 * 1024, leaves: 10_000, depth: 64, time: Some(Duration::from_millis(5)) };

    /// For a state's copy, which no lock protects: as `STATE`, but nobody waits.
    pub(crate) const COPY: Self = Self { time: None, ..Self::STATE };

    /// For the arguments and the result of one patched call: 256 KiB.
    pub(crate) const ARGUMENTS: Self = Self { bytes: 256 * 1024, ..Self::STATE };
}

/// What one node counts against `Limits::bytes`: about what it takes in memory.
const NODE_COST: usize = 8;

/// A clock is read once per so many nodes: reading it costs as much as serializing a few of them.
const NODES_BETWEEN_LOOKS: usize = 64;

/// Up to how many elements a length announced by the value is believed before they have come.
const MAX_RESERVED: usize = 256;

/// The tree of `value`, in serde_json's shape, with every `Secret<T>` marked and its value kept.
///
/// An `f32` becomes the `f64` of its own shortest decimal, so that `0.1` shows as `0.1`; a `char` is text, bytes are a
/// list. Keys may be strings, integers, truth values, characters and unit variants.
///
/// # Errors
/// Names the path where a limit was reached, an integer needs more than 64 bits, a key has another type or comes
/// twice, or the value's own `Serialize` refused.
pub(crate) fn to_tree<T: Serialize + ?Sized>(value: &T, limits: &Limits) -> Result<Tree, TreeError> {
    let _scope = SecretScope::enter();
    let ends = limits.time.and_then(|time| Instant::now().checked_add(time));
    value.serialize(&mut TreeSerializer { limits: *limits, ends, bytes: 0, leaves: 0, nodes: 0, depth: 0 })
}

/// Builds a tree within limits. Public to the crate only so that `Secret<T>` can recognise it.
pub(crate) struct TreeSerializer {
    limits: Limits,
    ends: Option<Instant>,
    bytes: usize,
    leaves: usize,
    nodes: usize,
    depth: usize,
}

impl TreeSerializer {
    /// Whether `S` is this serializer. The name of a type is unique within our crate, and a wrapper around it (such
    /// as serde's own, for tagged enums) has another, so what is not surely ours gets the placeholder.
    pub(crate) fn is<S>() -> bool {
        std::any::type_name::<S>() == std::any::type_name::<&mut TreeSerializer>()
    }

    fn node(&mut self, bytes: usize) -> Result<(), TreeError> {
        self.nodes += 1;
        self.bytes = self.bytes.saturating_add(bytes).saturating_add(NODE_COST);
        if self.limits.bytes < self.bytes {
            return Err(TreeError::ours(format!("larger than {} bytes", self.limits.bytes)));
        }
        let late = || self.ends.is_some_and(|ends| ends < Instant::now());
        if self.nodes.is_multiple_of(NODES_BETWEEN_LOOKS) && late() {
            return Err(TreeError::ours("takes longer to read than the service may be held up"));
        }
        Ok(())
    }

    fn leaf(&mut self, bytes: usize, tree: Tree) -> Result<Tree, TreeError> {
        self.node(bytes)?;
        self.leaves += 1;
        if self.limits.leaves < self.leaves {
            return Err(TreeError::ours(format!("more than {} values", self.limits.leaves)));
        }
        Ok(tree)
    }

    fn deeper(&mut self) -> Result<&mut Self, TreeError> {
        self.node(0)?;
        self.depth += 1;
        if self.limits.depth < self.depth {
            return Err(TreeError::ours(format!("nested deeper than {} levels", self.limits.depth)));
        }
        Ok(self)
    }

    fn text(&mut self, text: &str) -> Result<Tree, TreeError> {
        // Counted before it is copied.
        self.leaf(text.len(), Tree::Null)?;
        Ok(Tree::Str(text.to_owned()))
    }
}

/// A list, tuple, map or struct that is not complete yet, and the variants that wrap it.
pub(crate) struct Open<'a> {
    serializer: &'a mut TreeSerializer,
    variant: Option<&'static str>,
    items: Vec<Tree>,
    entries: Vec<(String, Tree)>,
    key: Option<String>,
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
        let items = Vec::with_capacity(length.unwrap_or(0).min(MAX_RESERVED));
        Ok(Self { serializer, variant, items, entries: Vec::new(), key: None })
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), TreeError> {
        let index = self.items.len();
        let item = value.serialize(&mut *self.serializer).map_err(|error| error.under(&index.to_string()))?;
        self.items.push(item);
        Ok(())
    }

    fn entry<T: Serialize + ?Sized>(&mut self, key: String, value: &T) -> Result<(), TreeError> {
        self.serializer.node(key.len())?;
        let value = value.serialize(&mut *self.serializer).map_err(|error| error.under(&key))?;
        self.entries.push((key, value));
        Ok(())
    }

    fn seq(self) -> Tree {
        let items = self.items;
        close(self.serializer, self.variant, Tree::Seq(items))
    }

    fn map(self) -> Result<Tree, TreeError> {
        let mut keys: Vec<&str> = self.entries.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            // A path must name one value.
            return Err(TreeError::ours("two values have this key").under(twice[0]));
        }
        let entries = self.entries;
        Ok(close(self.serializer, self.variant, Tree::Map(entries)))
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

fn too_wide<T>() -> Result<T, TreeError> {
    Err(TreeError::ours("an integer of more than 64 bits"))
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
        self.serialize_i64(value.into())
    }
    fn serialize_i16(self, value: i16) -> Result<Tree, TreeError> {
        self.serialize_i64(value.into())
    }
    fn serialize_i32(self, value: i32) -> Result<Tree, TreeError> {
        self.serialize_i64(value.into())
    }
    fn serialize_i64(self, value: i64) -> Result<Tree, TreeError> {
        self.leaf(0, Tree::I64(value))
    }
    fn serialize_i128(self, value: i128) -> Result<Tree, TreeError> {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => self.serialize_i64(value),
            (_, Ok(value)) => self.serialize_u64(value),
            _ => too_wide(),
        }
    }
    fn serialize_u8(self, value: u8) -> Result<Tree, TreeError> {
        self.serialize_i64(value.into())
    }
    fn serialize_u16(self, value: u16) -> Result<Tree, TreeError> {
        self.serialize_i64(value.into())
    }
    fn serialize_u32(self, value: u32) -> Result<Tree, TreeError> {
        self.serialize_i64(value.into())
    }
    fn serialize_u64(self, value: u64) -> Result<Tree, TreeError> {
        self.leaf(0, i64::try_from(value).map_or(Tree::U64(value), Tree::I64))
    }
    fn serialize_u128(self, value: u128) -> Result<Tree, TreeError> {
        u64::try_from(value).map_or_else(|_| too_wide(), |value| self.serialize_u64(value))
    }
    fn serialize_f32(self, value: f32) -> Result<Tree, TreeError> {
        // Widening the bits would show 0.10000000149011612 for 0.1.
        let widened = value.to_string().parse().unwrap_or(f64::from(value));
        self.leaf(0, Tree::F64(if value.is_finite() { widened } else { f64::from(value) }))
    }
    fn serialize_f64(self, value: f64) -> Result<Tree, TreeError> {
        self.leaf(0, Tree::F64(value))
    }
    fn serialize_char(self, value: char) -> Result<Tree, TreeError> {
        self.text(value.encode_utf8(&mut [0; 4]))
    }
    fn serialize_str(self, value: &str) -> Result<Tree, TreeError> {
        self.text(value)
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<Tree, TreeError> {
        let serializer = self.deeper()?;
        let bytes: Result<_, _> =
            value.iter().map(|byte| serializer.leaf(0, Tree::I64((*byte).into()))).collect();
        Ok(close(serializer, None, Tree::Seq(bytes?)))
    }
    fn serialize_none(self) -> Result<Tree, TreeError> {
        self.leaf(0, Tree::Null)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Tree, TreeError> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Tree, TreeError> {
        self.leaf(0, Tree::Null)
    }
    fn serialize_unit_struct(self, _name: &'static str) -> Result<Tree, TreeError> {
        self.leaf(0, Tree::Null)
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Tree, TreeError> {
        self.text(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Tree, TreeError> {
        if name == SECRET_NAME {
            let inner = value.serialize(self.deeper()?).map_err(TreeError::hidden)?;
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
        let inner = value.serialize(self.deeper()?).map_err(|error| error.under(variant))?;
        Ok(close(self, None, Tree::Map(vec![(variant.to_owned(), inner)])))
    }
    fn serialize_seq(self, length: Option<usize>) -> Result<Open<'a>, TreeError> {
        Open::new(self, None, length)
    }
    fn serialize_tuple(self, length: usize) -> Result<Open<'a>, TreeError> {
        Open::new(self, None, Some(length))
    }
    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Open<'a>, TreeError> {
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
    fn serialize_map(self, _length: Option<usize>) -> Result<Open<'a>, TreeError> {
        Open::new(self, None, None)
    }
    fn serialize_struct(self, _: &'static str, _length: usize) -> Result<Open<'a>, TreeError> {
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

impl ser::SerializeSeq for Open<'_> {
    type Ok = Tree;
    type Error = TreeError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), TreeError> {
        self.item(value)
    }
    fn end(self) -> Result<Tree, TreeError> {
        Ok(self.seq())
    }
}

impl ser::SerializeTuple for Open<'_> {
    type Ok = Tree;
    type Error = TreeError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), TreeError> {
        self.item(value)
    }
    fn end(self) -> Result<Tree, TreeError> {
        Ok(self.seq())
    }
}

impl ser::SerializeTupleStruct for Open<'_> {
    type Ok = Tree;
    type Error = TreeError;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), TreeError> {
        self.item(value)
    }
    fn end(self) -> Result<Tree, TreeError> {
        Ok(self.seq())
    }
}

impl ser::SerializeTupleVariant for Open<'_> {
    type Ok = Tree;
    type Error = TreeError;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), TreeError> {
        self.item(value).map_err(|error| error.under(self.variant.unwrap_or_default()))
    }
    fn end(self) -> Result<Tree, TreeError> {
        Ok(self.seq())
    }
}

impl ser::SerializeMap for Open<'_> {
    type Ok = Tree;
    type Error = TreeError;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), TreeError> {
        self.key = Some(key.serialize(super::key::KeySerializer)?);
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), TreeError> {
        let key = self.key.take().ok_or_else(|| TreeError::ours("a map gave a value without its key"))?;
        self.entry(key, value)
    }
    fn end(self) -> Result<Tree, TreeError> {
        self.map()
    }
}

impl ser::SerializeStruct for Open<'_> {
    type Ok = Tree;
    type Error = TreeError;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), TreeError> {
        self.entry(key.to_owned(), value)
    }
    fn end(self) -> Result<Tree, TreeError> {
        self.map()
    }
}

impl ser::SerializeStructVariant for Open<'_> {
    type Ok = Tree;
    type Error = TreeError;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), TreeError> {
        let variant = self.variant.unwrap_or_default();
        self.entry(key.to_owned(), value).map_err(|error| error.under(variant))
    }
    fn end(self) -> Result<Tree, TreeError> {
        self.map()
    }
}
