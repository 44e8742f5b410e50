//! Keys of maps: text in a tree, independent of their type in the service.

use std::fmt::Display;

use serde::de::{self, IntoDeserializer, Visitor};
use serde::ser::{self, Impossible, Serialize};

use crate::error::TreeError;

/// Serializes a key as text.
pub(crate) struct KeySerializer;

/// The error for a key that cannot be a name in a path.
pub(crate) fn no_name<T>() -> Result<T, TreeError> {
    Err(TreeError::ours(
        "a key that is neither text, an integer, a truth value, a character nor a plain variant",
    ))
}

/// Implements the serializer methods for kinds of values that are no names.
macro_rules! no_names {
    ($ok:ty) => {
        no_names! { @
            serialize_f32(f32) -> $ok;
            serialize_f64(f64) -> $ok;
            serialize_bytes(&[u8]) -> $ok;
            serialize_none() -> $ok;
            serialize_unit() -> $ok;
            serialize_unit_struct(&'static str) -> $ok;
            serialize_seq(Option<usize>) -> Self::SerializeSeq;
            serialize_tuple(usize) -> Self::SerializeTuple;
            serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
            serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
            serialize_map(Option<usize>) -> Self::SerializeMap;
            serialize_struct(&'static str, usize) -> Self::SerializeStruct;
            serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
        }
        fn serialize_some<T: serde::Serialize + ?Sized>(self, _: &T) -> Result<$ok, TreeError> {
            $crate::key::no_name()
        }
        fn serialize_newtype_variant<T: serde::Serialize + ?Sized>(
            self,
            _name: &'static str,
            _index: u32,
            _variant: &'static str,
            _value: &T,
        ) -> Result<$ok, TreeError> {
            $crate::key::no_name()
        }
    };
    (@ $($method:ident($($argument:ty),*) -> $result:ty;)*) => {$(
        fn $method(self, $(_: $argument),*) -> Result<$result, TreeError> {
            $crate::key::no_name()
        }
    )*};
}
pub(crate) use no_names;

macro_rules! as_text {
    ($($method:ident: $type:ty),*) => {$(
        fn $method(self, value: $type) -> Result<String, TreeError> {
            Ok(value.to_string())
        }
    )*};
}

impl ser::Serializer for KeySerializer {
    type Ok = String;
    type Error = TreeError;
    type SerializeSeq = Impossible<String, TreeError>;
    type SerializeTuple = Impossible<String, TreeError>;
    type SerializeTupleStruct = Impossible<String, TreeError>;
    type SerializeTupleVariant = Impossible<String, TreeError>;
    type SerializeMap = Impossible<String, TreeError>;
    type SerializeStruct = Impossible<String, TreeError>;
    type SerializeStructVariant = Impossible<String, TreeError>;

    as_text!(serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_char: char, serialize_str: &str);

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<String, TreeError> {
        Ok(value.to_string())
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<String, TreeError> {
        Ok(variant.to_owned())
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<String, TreeError> {
        // A `Secret<T>` never arrives here: it serializes as its placeholder for every serializer except the tree's own.
        value.serialize(self)
    }
    no_names!(String);
}

/// Deserializes a key as the type that the service's map has.
pub(crate) struct KeyDeserializer(pub(crate) String);

macro_rules! parsed {
    ($($method:ident => $visit:ident),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
            match self.0.parse() {
                Ok(value) => visitor.$visit(value),
                Err(_) => visitor.visit_string(self.0),
            }
        }
    )*};
}

impl<'de> de::Deserializer<'de> for KeyDeserializer {
    type Error = TreeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
        visitor.visit_string(self.0)
    }

    parsed!(deserialize_bool => visit_bool, deserialize_i8 => visit_i64, deserialize_i16 => visit_i64,
        deserialize_i32 => visit_i64, deserialize_i64 => visit_i64, deserialize_i128 => visit_i128,
        deserialize_u8 => visit_u64, deserialize_u16 => visit_u64, deserialize_u32 => visit_u64,
        deserialize_u64 => visit_u64, deserialize_u128 => visit_u128);

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
        visitor.visit_some(self)
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TreeError> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TreeError> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}
