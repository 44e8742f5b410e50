//! Reads the value at one path; serializes nothing beside it.

use std::fmt::Display;
use std::time::Instant;

use debug_policy::MAX_SEGMENT;
use serde::ser::{self, Serialize};

use crate::error::TreeError;
use crate::key::{KeySerializer, no_names};
use crate::marks::SECRET_NAME;
use crate::path::index_of;
use crate::scope::SecretScope;
use crate::ser::{Limits, TreeSerializer, containers, ends, is_late, late, too_large};
use crate::tree::Tree;
use crate::tree::Unreadable;

/// The value at a path, and the names in the maps above it: these may make it a secret.
#[derive(Clone, Debug)]
pub struct Found {
    /// The value at the path.
    pub tree: Tree,
    /// Names per container, from the outermost, one entry per segment of the path.
    pub above: Vec<Names>,
}

/// The names in a map; empty for a list.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// All names, concatenated.
    texts: String,
    /// End of each name in `texts`.
    ends: Vec<usize>,
    /// Whether other names exist: integers, which are not kept, or names that no path can hold.
    pub others: bool,
}

impl Names {
    /// The names that are text.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins
            .zip(&self.ends)
            .filter_map(|(begin, end)| self.texts.get(begin..*end))
    }

    /// Adds a name.
    pub fn add(&mut self, name: &str) {
        self.texts.push_str(name);
        self.ends.push(self.texts.len());
    }
}

/// The value at `path` in `value`; `None` if the walk does not reach it.
///
/// # Errors
/// A limit was reached, or the type's own `Serialize` failed.
pub fn found_along<T: Serialize + ?Sized>(
    value: &T,
    path: &[String],
    limits: &Limits,
) -> Result<Option<Found>, TreeError> {
    let _scope = SecretScope::enter();
    let (above, ends) = (vec![Names::default(); path.len()], ends(limits));
    let number = |segment: &String| {
        segment
            .parse()
            .ok()
            .filter(|number: &i128| number.to_string() == *segment)
    };
    let numbers = path.iter().map(number).collect();
    let mut along = Along {
        path,
        numbers,
        depth: 0,
        limits,
        ends,
        nodes: 0,
        bytes: 0,
        found: None,
        above,
        is_over: false,
    };
    let walked = value.serialize(&mut along);
    if !along.is_over {
        walked?;
    }
    let (found, above) = (along.found, along.above);
    Ok(found.map(|tree| Found { tree, above }))
}

struct Along<'w> {
    path: &'w [String],
    /// The segments that are integers in canonical spelling.
    numbers: Vec<Option<i128>>,
    /// Number of segments already walked.
    depth: usize,
    limits: &'w Limits,
    ends: Option<Instant>,
    nodes: usize,
    bytes: usize,
    found: Option<Tree>,
    above: Vec<Names>,
    /// Set when the wanted element of the outermost list is found: the rest of the list cannot change the result.
    is_over: bool,
}

impl Along<'_> {
    fn node(&mut self) -> Result<(), TreeError> {
        self.nodes += 1;
        if is_late(self.nodes, self.ends) {
            Err(late())
        } else {
            Ok(())
        }
    }

    fn wanted(&self) -> Option<&str> {
        self.path.get(self.depth).map(String::as_str)
    }

    /// Whether the path continues with this name; records the name.
    fn is_wanted(&mut self, name: &str) -> Result<bool, TreeError> {
        self.node()?;
        let Some(names) = self.above.get_mut(self.depth) else {
            return Ok(false);
        };
        if MAX_SEGMENT < name.len() {
            names.others = true;
            return Ok(false);
        }
        self.bytes += name.len();
        if self.limits.bytes < self.bytes {
            return Err(too_large(self.limits));
        }
        names.add(name);
        Ok(self.wanted() == Some(name))
    }

    /// Records an integer name, which is never formatted.
    fn number(&mut self, is_wanted: bool) -> Result<bool, TreeError> {
        self.node()?;
        if let Some(names) = self.above.get_mut(self.depth) {
            names.others = true;
        }
        Ok(is_wanted)
    }

    /// Ends the walk early after the wanted element of a list at the root. A list has no names that could make it a secret,
    /// and no index twice.
    fn over(&mut self) -> Result<(), TreeError> {
        if 0 < self.depth || self.found.is_none() {
            return Ok(());
        }
        self.is_over = true;
        Err(TreeError::ours("what was looked for is found"))
    }

    /// Descends into this part, or reads it if the path ends here.
    fn enter<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), TreeError> {
        if self.depth + 1 < self.path.len() {
            self.depth += 1;
            let walked = value.serialize(&mut *self);
            self.depth -= 1;
            return walked;
        }
        let tree = match self.found {
            None => TreeSerializer::new(*self.limits, self.ends).part(value)?,
            Some(_) => Tree::Unreadable(Unreadable::because("two values have this name")),
        };
        self.found = Some(tree);
        Ok(())
    }
}

/// A container on the walk; only the wanted parts are entered.
struct OpenLevel<'a, 'w> {
    along: &'a mut Along<'w>,
    /// Whether the path leads into it.
    is_on_the_way: bool,
    /// Index of the next element of a list.
    index: usize,
    /// Whether the next value of a map is wanted.
    is_wanted: bool,
    /// Number of path segments consumed by opening it.
    levels: usize,
}

impl<'a, 'w> OpenLevel<'a, 'w> {
    fn plain(along: &'a mut Along<'w>) -> Self {
        Self {
            along,
            is_on_the_way: true,
            index: 0,
            is_wanted: false,
            levels: 0,
        }
    }

    fn variant(along: &'a mut Along<'w>, variant: &'static str) -> Result<Self, TreeError> {
        // A path that ends here wants the whole variant, which only a full read can show.
        let is_on_the_way = along.is_wanted(variant)? && along.depth + 1 < along.path.len();
        along.depth += usize::from(is_on_the_way);
        Ok(Self {
            levels: usize::from(is_on_the_way),
            is_on_the_way,
            ..Self::plain(along)
        })
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), TreeError> {
        self.along.node()?;
        let is_wanted = self.is_on_the_way && self.along.wanted().and_then(index_of) == Some(self.index);
        self.index += 1;
        if is_wanted {
            self.along.enter(value).and_then(|()| self.along.over())
        } else {
            Ok(())
        }
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), TreeError> {
        if self.is_on_the_way && self.along.is_wanted(name)? {
            self.along.enter(value)
        } else {
            Ok(())
        }
    }

    fn seq(self) -> Result<(), TreeError> {
        self.along.depth -= self.levels;
        Ok(())
    }

    fn map(self) -> Result<(), TreeError> {
        self.seq()
    }
}

macro_rules! nothing {
    ($($method:ident: $type:ty),*) => {$(
        fn $method(self, _: $type) -> Result<(), TreeError> {
            Ok(())
        }
    )*};
}

impl<'a, 'w> ser::Serializer for &'a mut Along<'w> {
    type Ok = ();
    type Error = TreeError;
    type SerializeSeq = OpenLevel<'a, 'w>;
    type SerializeTuple = OpenLevel<'a, 'w>;
    type SerializeTupleStruct = OpenLevel<'a, 'w>;
    type SerializeTupleVariant = OpenLevel<'a, 'w>;
    type SerializeMap = OpenLevel<'a, 'w>;
    type SerializeStruct = OpenLevel<'a, 'w>;
    type SerializeStructVariant = OpenLevel<'a, 'w>;

    nothing!(serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_f32: f32, serialize_f64: f64, serialize_char: char, serialize_str: &str);

    fn serialize_bytes(self, value: &[u8]) -> Result<(), TreeError> {
        let byte = self
            .wanted()
            .and_then(index_of)
            .and_then(|index| value.get(index));
        byte.map_or(Ok(()), |byte| self.enter(byte))
    }
    fn serialize_none(self) -> Result<(), TreeError> {
        Ok(())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), TreeError> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), TreeError> {
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), TreeError> {
        Ok(())
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), TreeError> {
        Ok(())
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), TreeError> {
        // No path leads into a secret.
        if name == SECRET_NAME {
            Ok(())
        } else {
            value.serialize(self)
        }
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), TreeError> {
        if self.is_wanted(variant)? {
            self.enter(value)
        } else {
            Ok(())
        }
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<OpenLevel<'a, 'w>, TreeError> {
        Ok(OpenLevel::plain(self))
    }
    fn serialize_tuple(self, _: usize) -> Result<OpenLevel<'a, 'w>, TreeError> {
        Ok(OpenLevel::plain(self))
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<OpenLevel<'a, 'w>, TreeError> {
        Ok(OpenLevel::plain(self))
    }
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<OpenLevel<'a, 'w>, TreeError> {
        OpenLevel::variant(self, variant)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<OpenLevel<'a, 'w>, TreeError> {
        Ok(OpenLevel::plain(self))
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<OpenLevel<'a, 'w>, TreeError> {
        Ok(OpenLevel::plain(self))
    }
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<OpenLevel<'a, 'w>, TreeError> {
        OpenLevel::variant(self, variant)
    }
    fn collect_str<T: Display + ?Sized>(self, _: &T) -> Result<(), TreeError> {
        Ok(())
    }
}

containers!(OpenLevel<'_, '_> => ());

impl ser::SerializeMap for OpenLevel<'_, '_> {
    type Ok = ();
    type Error = TreeError;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), TreeError> {
        if !self.is_on_the_way {
            return Ok(());
        }
        self.is_wanted = match key.serialize(KeyMatch(&mut *self.along)) {
            // A full read shows this entry under a name made by the agent.
            Err(error) if !error.is_bound() => self.along.number(false)?,
            is_wanted => is_wanted?,
        };
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), TreeError> {
        if !std::mem::take(&mut self.is_wanted) {
            return Ok(());
        }
        // All names of a map are read to the end, integers too: a later one may make the whole map a secret.
        self.along.enter(value)
    }
    fn end(self) -> Result<(), TreeError> {
        self.map()
    }
}

/// Compares a key with the wanted name. Integers are compared as integers, for speed in large maps.
struct KeyMatch<'a, 'w>(&'a mut Along<'w>);

impl KeyMatch<'_, '_> {
    fn integer(self, value: i128) -> Result<bool, TreeError> {
        let wanted = self.0.numbers.get(self.0.depth).copied().flatten();
        self.0.number(wanted == Some(value))
    }

    /// Compares by the name that a full read would show.
    fn other(self, name: Result<String, TreeError>) -> Result<bool, TreeError> {
        match name {
            Ok(name) => self.0.is_wanted(&name),
            Err(_) => self.0.number(false),
        }
    }
}

macro_rules! integers {
    ($($method:ident: $type:ty),*) => {$(
        fn $method(self, value: $type) -> Result<bool, TreeError> {
            self.integer(value.into())
        }
    )*};
}

impl ser::Serializer for KeyMatch<'_, '_> {
    type Ok = bool;
    type Error = TreeError;
    type SerializeSeq = ser::Impossible<bool, TreeError>;
    type SerializeTuple = ser::Impossible<bool, TreeError>;
    type SerializeTupleStruct = ser::Impossible<bool, TreeError>;
    type SerializeTupleVariant = ser::Impossible<bool, TreeError>;
    type SerializeMap = ser::Impossible<bool, TreeError>;
    type SerializeStruct = ser::Impossible<bool, TreeError>;
    type SerializeStructVariant = ser::Impossible<bool, TreeError>;

    integers!(serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64);

    fn serialize_u128(self, value: u128) -> Result<bool, TreeError> {
        self.other(Ok(value.to_string()))
    }
    fn serialize_bool(self, value: bool) -> Result<bool, TreeError> {
        self.other(Ok(value.to_string()))
    }
    fn serialize_char(self, value: char) -> Result<bool, TreeError> {
        self.other(Ok(value.to_string()))
    }
    fn serialize_str(self, value: &str) -> Result<bool, TreeError> {
        self.0.is_wanted(value)
    }
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<bool, TreeError> {
        self.other(KeySerializer.collect_str(value))
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<bool, TreeError> {
        self.0.is_wanted(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<bool, TreeError> {
        value.serialize(self)
    }

    // An entry with a key that no path can hold cannot be wanted; a full read reports it.
    no_names!(bool);
}
