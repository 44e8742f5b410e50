use serde::de::value::StringDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Unexpected, Visitor};

use crate::error::TreeError;
use crate::key::KeyDeserializer;
use crate::known;
use crate::marks::{PLACEHOLDER, SECRET_NAME};
use crate::scope::SecretScope;
use crate::tree::Tree;
use crate::tree::Wide;

/// Deserializes a value from its tree.
///
/// Accepts an integer for a float, text for a character or unit variant, `null` for `Option`, a list for bytes, and text for
/// every kind of key that `to_tree` writes. A `Secret<T>` accepts only a marked secret.
///
/// # Errors
/// Names the path and what was expected there, never the value; inside a secret only that it was refused. The placeholder for
/// secrets is refused everywhere, so it is never stored.
pub fn from_tree<T: DeserializeOwned>(tree: Tree) -> Result<T, TreeError> {
    let _scope = SecretScope::enter();
    watched(tree, |tree| T::deserialize(tree))
}

/// Reads `tree`. If it holds a secret, removes the service type's own words from an error: a type may validate what it read
/// (`try_from`) long after the deserializer handed it over.
fn watched<T>(tree: Tree, read: impl FnOnce(TreeDeserializer) -> Result<T>) -> Result<T> {
    let secret = tree.holds_secret();
    read(TreeDeserializer(tree)).map_err(|error| {
        if secret {
            error.without_service_words()
        } else {
            error
        }
    })
}

/// Deserializes from a tree. Visible in the crate only so that `Secret<T>` can recognise it.
pub struct TreeDeserializer(Tree);

type Result<T, E = TreeError> = std::result::Result<T, E>;

impl TreeDeserializer {
    /// Whether `D` is this deserializer; see `TreeSerializer::is`.
    pub fn is<D>() -> bool {
        std::any::type_name::<D>() == std::any::type_name::<TreeDeserializer>()
    }

    /// Runs `read` on the value inside a mark, for a type that knows no marks (a `String` that is secret by its name). Errors
    /// then reveal nothing.
    fn open<T>(self, read: impl FnOnce(Tree) -> Result<T>) -> Result<T> {
        match self.0 {
            Tree::Secret(inner) => Self(*inner).open(read).map_err(TreeError::hidden),
            tree => read(tree),
        }
    }
}

/// Visits the tree's own kind of value, independent of the kind requested; the visitor's error then names what it expected.
fn visit<'de, V: Visitor<'de>>(tree: Tree, visitor: V) -> Result<V::Value> {
    match tree {
        Tree::Null => visitor.visit_unit(),
        Tree::Bool(value) => visitor.visit_bool(value),
        // As in serde_json: hand-written visitors often accept only unsigned integers.
        Tree::I64(value) => match u64::try_from(value) {
            Ok(value) => visitor.visit_u64(value),
            Err(_) => visitor.visit_i64(value),
        },
        Tree::U64(value) => visitor.visit_u64(value),
        Tree::F64(value) => visitor.visit_f64(value),
        Tree::Str(value) if value == PLACEHOLDER => {
            Err(TreeError::ours("the placeholder for a secret cannot be stored"))
        }
        Tree::Str(value) => visitor.visit_string(value),
        Tree::Seq(items) => visit_seq(items, visitor),
        Tree::Map(entries) => visit_map(entries, visitor),
        // serde's buffers (for flattened and untagged types) keep this apart from ordinary values.
        Tree::Secret(inner) => visitor
            .visit_newtype_struct(TreeDeserializer(*inner))
            .map_err(TreeError::hidden),
        Tree::Unreadable(leaf) => match leaf.kept() {
            Some(Wide::Unsigned(value)) => visitor.visit_u128(value),
            Some(Wide::Signed(value)) => visitor.visit_i128(value),
            None => Err(TreeError::lost(leaf.reason())),
        },
    }
}

fn visit_seq<'de, V: Visitor<'de>>(items: Vec<Tree>, visitor: V) -> Result<V::Value> {
    let length = items.len();
    let mut items = Items {
        items: items.into_iter(),
        index: 0,
    };
    let value = visitor.visit_seq(&mut items)?;
    match items.items.len() {
        0 => Ok(value),
        rest => Err(TreeError::ours(format!(
            "invalid length {length}, expected {}",
            length - rest
        ))),
    }
}

fn visit_map<'de, V: Visitor<'de>>(entries: Vec<(String, Tree)>, visitor: V) -> Result<V::Value> {
    let length = entries.len();
    let mut entries = Entries {
        entries: entries.into_iter(),
        value: None,
    };
    let value = visitor.visit_map(&mut entries)?;
    match entries.entries.len() {
        0 => Ok(value),
        rest => Err(TreeError::ours(format!(
            "invalid length {length}, expected {}",
            length - rest
        ))),
    }
}

/// The bytes of a list of integers that each fit into a byte.
fn as_bytes(items: &[Tree]) -> Option<Vec<u8>> {
    let byte = |item: &Tree| match item {
        Tree::I64(value) => u8::try_from(*value).ok(),
        _ => None,
    };
    items.iter().map(byte).collect()
}

macro_rules! opened {
    ($($method:ident($($argument:ident: $type:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value> {
            self.open(|tree| visit(tree, visitor))
        }
    )*};
}

macro_rules! opened_float {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            self.open(|tree| match tree {
                Tree::I64(value) => visitor.visit_f64(value as f64),
                Tree::U64(value) => visitor.visit_f64(value as f64),
                tree => visit(tree, visitor),
            })
        }
    )*};
}

macro_rules! opened_bytes {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            self.open(|tree| match &tree {
                Tree::Seq(items) => match as_bytes(items) {
                    Some(bytes) => visitor.visit_byte_buf(bytes),
                    None => visit(tree, visitor),
                },
                _ => visit(tree, visitor),
            })
        }
    )*};
}

impl<'de> de::Deserializer<'de> for TreeDeserializer {
    type Error = TreeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visit(self.0, visitor)
    }

    opened! {
        deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64()
        deserialize_i128() deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64()
        deserialize_u128() deserialize_char() deserialize_str() deserialize_string() deserialize_unit()
        deserialize_unit_struct(_name: &'static str) deserialize_seq() deserialize_tuple(_length: usize)
        deserialize_tuple_struct(_name: &'static str, _length: usize) deserialize_map()
        deserialize_identifier()
    }
    opened_float! { deserialize_f32 deserialize_f64 }
    opened_bytes! { deserialize_bytes deserialize_byte_buf }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.0 {
            Tree::Null => visitor.visit_none(),
            // The mark stays: the `Option` may hold a `Secret<T>`.
            tree => visitor.visit_some(TreeDeserializer(tree)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value> {
        match self.0 {
            Tree::Secret(inner) if name == SECRET_NAME => visitor
                .visit_newtype_struct(TreeDeserializer(*inner))
                .map_err(TreeError::hidden),
            _ if name == SECRET_NAME => Err(TreeError::no_secret()),
            tree => visitor.visit_newtype_struct(TreeDeserializer(tree)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.open(|tree| {
            if let Tree::Map(entries) = &tree {
                known::on_struct(name, fields, entries);
            }
            visit(tree, visitor)
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.open(|tree| match tree {
            Tree::Str(variant) => visitor.visit_enum(Variant { variant, value: None }),
            Tree::Map(mut entries) if entries.len() == 1 => match entries.pop() {
                Some((variant, value)) => visitor.visit_enum(Variant {
                    variant,
                    value: Some(value),
                }),
                None => visit(Tree::Map(entries), visitor),
            },
            tree => visit(tree, visitor),
        })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }
}

struct Items {
    items: std::vec::IntoIter<Tree>,
    index: usize,
}

impl<'de> de::SeqAccess<'de> for &mut Items {
    type Error = TreeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        let Some(item) = self.items.next() else {
            return Ok(None);
        };
        let value = watched(item, |item| seed.deserialize(item));
        let value = value.map_err(|error| error.under(&self.index.to_string()))?;
        self.index += 1;
        Ok(Some(value))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries {
    entries: std::vec::IntoIter<(String, Tree)>,
    value: Option<(String, Tree)>,
}

impl<'de> de::MapAccess<'de> for &mut Entries {
    type Error = TreeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        let read = seed.deserialize(KeyDeserializer(key.clone()));
        let read = read.map_err(|error| error.of_key().under(&key))?;
        self.value = Some((key, value));
        Ok(Some(read))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value> {
        let (key, value) = self
            .value
            .take()
            .ok_or_else(|| TreeError::ours("a value was read before its key"))?;
        watched(value, |value| seed.deserialize(value)).map_err(|error| error.under(&key))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

struct Variant {
    variant: String,
    value: Option<Tree>,
}

impl<'de> de::EnumAccess<'de> for Variant {
    type Error = TreeError;
    type Variant = VariantContent;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, VariantContent)> {
        let name: StringDeserializer<TreeError> = self.variant.clone().into_deserializer();
        let variant = seed.deserialize(name)?;
        Ok((
            variant,
            VariantContent {
                variant: self.variant,
                value: self.value,
            },
        ))
    }
}

/// The content of a variant.
struct VariantContent {
    variant: String,
    value: Option<Tree>,
}

impl VariantContent {
    fn read<T>(self, expected: &str, read: impl FnOnce(Tree) -> Result<T>) -> Result<T> {
        let Some(value) = self.value else {
            return Err(de::Error::invalid_type(Unexpected::UnitVariant, &expected));
        };
        read(value).map_err(|error| error.under(&self.variant))
    }
}

impl<'de> de::VariantAccess<'de> for VariantContent {
    type Error = TreeError;

    fn unit_variant(self) -> Result<()> {
        match self.value {
            None | Some(Tree::Null) => Ok(()),
            Some(_) => Err(TreeError::ours("expected the name of the variant alone").under(&self.variant)),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value> {
        self.read("a variant with a value", |value| {
            watched(value, |value| seed.deserialize(value))
        })
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value> {
        self.read("a variant with a list", |value| {
            TreeDeserializer(value).open(|tree| visit(tree, visitor))
        })
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.read("a variant with a map", |value| {
            TreeDeserializer(value).open(|tree| visit(tree, visitor))
        })
    }
}
