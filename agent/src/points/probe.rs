//! Asks types what serde can do with them, so that the macro need not be told.
//!
//! Method lookup tries receivers from the most references to the fewest; a trait implemented for `&&Probe<…>` with a
//! bound is therefore preferred to one for `Probe<…>` without, and the bound only decides whether it takes part.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::call::{Answer, Argument, Encoded};
use super::values;
use crate::state::Tree;

/// Stands for a type of which there is no value yet.
pub struct Probe<T: ?Sized>(PhantomData<fn() -> Box<T>>);

impl<T: ?Sized> Probe<T> {
    /// The one value.
    pub const NEW: Self = Self(PhantomData);
}

/// How a patch's answer becomes a result.
pub type Decode<R> = fn(Answer) -> Result<R, String>;

/// [`Decode`], and why it cannot work if it cannot.
pub struct Decoder<R> {
    pub(super) decode: Decode<R>,
    why_not: Option<&'static str>,
}

impl<R> Decoder<R> {
    /// Why nothing can become the result; `None` if something can.
    pub fn why_not(&self) -> Option<&'static str> {
        self.why_not
    }
}

/// First choice for results: `Result<T, E>`, of which the patch answers the `T`.
pub trait DecodeOk<R> {
    /// Makes `Ok` of what decodes as `T`.
    fn decoder(&self) -> Decoder<R>;
}

impl<T: DeserializeOwned, E> DecodeOk<Result<T, E>> for &&Probe<Result<T, E>> {
    fn decoder(&self) -> Decoder<Result<T, E>> {
        Decoder { decode: |answer| values::decode(answer.0).map(Ok), why_not: None }
    }
}

/// Second choice: whatever serde can make.
pub trait DecodeValue<R> {
    /// Makes the value itself.
    fn decoder(&self) -> Decoder<R>;
}

impl<R: DeserializeOwned> DecodeValue<R> for &Probe<R> {
    fn decoder(&self) -> Decoder<R> {
        Decoder { decode: |answer| values::decode(answer.0), why_not: None }
    }
}

/// Last: nothing can be made, the point can only be listed.
pub trait DecodeNothing<R> {
    /// Fails, and says why.
    fn decoder(&self) -> Decoder<R>;
}

const NOT_DECODABLE: &str = "its result lacks `Deserialize`, so nothing can be made into it";

impl<R> DecodeNothing<R> for Probe<R> {
    fn decoder(&self) -> Decoder<R> {
        Decoder { decode: |_| Err(NOT_DECODABLE.to_owned()), why_not: Some(NOT_DECODABLE) }
    }
}

/// First choice for what was answered: `Result` tells whether it is an error.
pub trait TellsErrors<R> {
    /// Whether it is one.
    fn is_error(&self, answer: &R) -> bool;
}

impl<T, E> TellsErrors<Result<T, E>> for &Probe<Result<T, E>> {
    fn is_error(&self, answer: &Result<T, E>) -> bool {
        answer.is_err()
    }
}

/// Others are none.
pub trait TellsNoErrors<R> {
    /// Never.
    fn is_error(&self, _answer: &R) -> bool {
        false
    }
}

impl<R> TellsNoErrors<R> for Probe<R> {}

/// First choice for arguments: what serde can write is given to the patch.
pub trait Given {
    /// Whether a patch gets the argument.
    fn is_given(&self) -> bool;
}

impl<T: Serialize> Given for &Probe<T> {
    fn is_given(&self) -> bool {
        true
    }
}

/// Other arguments are not.
pub trait Withheld {
    /// Whether a patch gets the argument.
    fn is_given(&self) -> bool;
}

impl<T> Withheld for Probe<T> {
    fn is_given(&self) -> bool {
        false
    }
}

/// First choice for arguments' values: through serde.
pub trait EncodeValue {
    /// The argument for the patch.
    fn encode(&self) -> Encoded;
}

impl<T: Serialize> EncodeValue for &Argument<'_, T> {
    fn encode(&self) -> Encoded {
        Encoded(values::encode(self.0))
    }
}

/// Others become `()`.
pub trait EncodeNothing {
    /// The argument for the patch.
    fn encode(&self) -> Encoded;
}

impl<T> EncodeNothing for Argument<'_, T> {
    fn encode(&self) -> Encoded {
        Encoded(Ok(Tree::Null))
    }
}
