//! Asks types what serde can do with them, so that the macro needs no hints.
//!
//! Method lookup tries receivers with more references first. So a trait implemented for `&&Probe<…>` with a bound is
//! preferred over one for `Probe<…>` without, and the bound only decides whether the first one applies.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::values;
use super::values::{Answer, Argument, Encoded};
use debug_base::Tree;

/// Stands for a type without a value.
pub struct Probe<T: ?Sized>(PhantomData<fn() -> Box<T>>);

impl<T: ?Sized> Probe<T> {
    /// The only value.
    pub const NEW: Self = Self(PhantomData);
}

/// Makes a value from the answer of a patch.
pub type Make<T> = fn(Answer) -> Result<T, String>;

/// The results that can be made at a point.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Makes {
    /// Whether a value can be made: the result, or the content of its `Ok`.
    pub value: bool,
    /// Whether an `Err` can be made; `None` if the function returns no `Result`.
    pub error: Option<bool>,
}

/// Converts a patch's answer to a result.
pub trait Decode<R> {
    /// Makes a result from an answer.
    ///
    /// # Errors
    /// The error of the service's types.
    fn value(&self, answer: Answer) -> Result<R, String>;

    /// Makes a result from an answer of `Err(..)`.
    ///
    /// # Errors
    /// The error of the service's types.
    fn error(&self, answer: Answer) -> Result<R, String>;

    /// The results that can be made at all.
    fn makes(&self) -> Makes;
}

const NOT_DECODABLE: &str = "its result lacks `Deserialize`, so nothing can be made into it";
/// Why no `Err` can be made.
pub const NO_ERR: &str = "no `Err` can be made here: its error has neither `Deserialize` nor `From` of a text or of `std::io::Error`";
/// Why there is no `Err`.
pub const NO_RESULT: &str = "the function returns no `Result`, so there is no `Err` to answer";

impl Makes {
    /// Why the function cannot be patched, if it cannot.
    pub fn why_not(self) -> Option<&'static str> {
        (!self.value && self.error != Some(true)).then_some(NOT_DECODABLE)
    }
}

/// Stands for a `Result<T, E>`.
pub struct Fallible<T, E>(PhantomData<fn() -> (T, E)>);

/// Stands for a result type other than `Result`.
pub struct Plain<R>(PhantomData<fn() -> R>);

/// First choice for results: `Result<T, E>`. A patch answers the `T`, or `Err(..)`.
pub trait IsFallible<T, E> {
    /// The types of `Ok` and `Err`.
    fn shape(&self) -> Fallible<T, E>;
}

impl<T, E> IsFallible<T, E> for &Probe<Result<T, E>> {
    fn shape(&self) -> Fallible<T, E> {
        Fallible(PhantomData)
    }
}

/// Second choice: all other types.
pub trait IsPlain<R> {
    /// The type itself.
    fn shape(&self) -> Plain<R>;
}

impl<R> IsPlain<R> for Probe<R> {
    fn shape(&self) -> Plain<R> {
        Plain(PhantomData)
    }
}

impl<T, E> Fallible<T, E> {
    /// Creates a decoder from the makers of both halves.
    pub fn decoder(&self, ok: Option<Make<T>>, err: Option<Make<E>>) -> FallibleDecoder<T, E> {
        FallibleDecoder { ok, err }
    }
}

impl<R> Plain<R> {
    /// Creates a decoder from the maker of the value.
    pub fn decoder(&self, value: Option<Make<R>>, (): ()) -> PlainDecoder<R> {
        PlainDecoder { value }
    }
}

/// Makes `Ok` from a value and `Err` from an `Err`.
pub struct FallibleDecoder<T, E> {
    ok: Option<Make<T>>,
    err: Option<Make<E>>,
}

impl<T, E> Decode<Result<T, E>> for FallibleDecoder<T, E> {
    fn value(&self, answer: Answer) -> Result<Result<T, E>, String> {
        let ok = self
            .ok
            .ok_or("only an `Err` can be made here: the value in `Ok` lacks `Deserialize`")?;
        // The form in which serde writes an `Err`.
        let like_err = matches!(&answer.0, Tree::Map(entries)
            if matches!(entries.as_slice(), [(key, _)] if key.eq_ignore_ascii_case("err")));
        ok(answer).map(Ok).map_err(|why| match like_err {
            true => format!("{why}; `Err(..)` in the patch makes the function fail"),
            false => why,
        })
    }

    fn error(&self, answer: Answer) -> Result<Result<T, E>, String> {
        self.err.ok_or(NO_ERR)?(answer).map(Err)
    }

    fn makes(&self) -> Makes {
        Makes {
            value: self.ok.is_some(),
            error: Some(self.err.is_some()),
        }
    }
}

/// Makes the value itself.
pub struct PlainDecoder<R> {
    value: Option<Make<R>>,
}

impl<R> Decode<R> for PlainDecoder<R> {
    fn value(&self, answer: Answer) -> Result<R, String> {
        self.value.ok_or(NOT_DECODABLE)?(answer)
    }

    fn error(&self, _answer: Answer) -> Result<R, String> {
        Err(NO_RESULT.to_owned())
    }

    fn makes(&self) -> Makes {
        Makes {
            value: self.value.is_some(),
            error: None,
        }
    }
}

/// First choice for values: types that serde can read.
pub trait MakesValue<T> {
    /// The maker of the value.
    fn ok(&self) -> Option<Make<T>>;
}

impl<T: DeserializeOwned, E> MakesValue<T> for &Fallible<T, E> {
    fn ok(&self) -> Option<Make<T>> {
        Some(|answer| values::decode(answer.0))
    }
}

impl<R: DeserializeOwned> MakesValue<R> for &Plain<R> {
    fn ok(&self) -> Option<Make<R>> {
        Some(|answer| values::decode(answer.0))
    }
}

/// Second choice: no value can be made.
pub trait MakesNoValue<T> {
    /// No maker.
    fn ok(&self) -> Option<Make<T>> {
        None
    }
}

impl<T, E> MakesNoValue<T> for Fallible<T, E> {}
impl<R> MakesNoValue<R> for Plain<R> {}

/// First choice for errors: read by serde, or else made from text.
pub trait ErrOfValueOrText<E> {
    /// The maker of the error.
    fn err(&self) -> Option<Make<E>>;
}

impl<T, E: DeserializeOwned + From<String>> ErrOfValueOrText<E> for &&&&&Fallible<T, E> {
    fn err(&self) -> Option<Make<E>> {
        Some(|answer| match answer.0 {
            Tree::Str(text) => Ok(values::decode(Tree::Str(text.clone())).unwrap_or_else(|_| E::from(text))),
            tree => values::decode(tree),
        })
    }
}

/// Second choice: read by serde.
pub trait ErrOfValue<E> {
    /// The maker of the error.
    fn err(&self) -> Option<Make<E>>;
}

impl<T, E: DeserializeOwned> ErrOfValue<E> for &&&&Fallible<T, E> {
    fn err(&self) -> Option<Make<E>> {
        Some(|answer| values::decode(answer.0))
    }
}

/// Third choice: made from text.
pub trait ErrOfText<E> {
    /// The maker of the error.
    fn err(&self) -> Option<Make<E>>;
}

impl<T, E: From<String>> ErrOfText<E> for &&&Fallible<T, E> {
    fn err(&self) -> Option<Make<E>> {
        Some(|answer| values::text(answer.0).map(E::from))
    }
}

/// Fourth choice: made from text that lives as long as the process. (Whether any lifetime would do cannot be tested: a bound
/// on all lifetimes is a compile error if only one of them holds.)
pub trait ErrOfStaticText<E> {
    /// The maker of the error.
    fn err(&self) -> Option<Make<E>>;
}

impl<T, E: From<&'static str>> ErrOfStaticText<E> for &&Fallible<T, E> {
    fn err(&self) -> Option<Make<E>> {
        Some(|answer| values::static_text(answer.0).map(E::from))
    }
}

/// Fifth choice: made from an I/O error, which most error types of services accept.
pub trait ErrOfIo<E> {
    /// The maker of the error.
    fn err(&self) -> Option<Make<E>>;
}

impl<T, E: From<std::io::Error>> ErrOfIo<E> for &Fallible<T, E> {
    fn err(&self) -> Option<Make<E>> {
        Some(|answer| values::text(answer.0).map(|text| E::from(std::io::Error::other(text))))
    }
}

/// Last choice: no error can be made.
pub trait MakesNoErr<E> {
    /// No maker.
    fn err(&self) -> Option<Make<E>> {
        None
    }
}

impl<T, E> MakesNoErr<E> for Fallible<T, E> {}

/// For results without an `Err`.
pub trait HasNoErr {
    /// No maker.
    fn err(&self) {}
}

impl<R> HasNoErr for Plain<R> {}

/// First choice for counting errors: a `Result` shows whether it is one.
pub trait TellsErrors<R> {
    /// Whether the answer is an error.
    fn is_error(&self, answer: &R) -> bool;
}

impl<T, E> TellsErrors<Result<T, E>> for &Probe<Result<T, E>> {
    fn is_error(&self, answer: &Result<T, E>) -> bool {
        answer.is_err()
    }
}

/// Second choice: other types are never errors.
pub trait TellsNoErrors<R> {
    /// Always false.
    fn is_error(&self, _answer: &R) -> bool {
        false
    }
}

impl<R> TellsNoErrors<R> for Probe<R> {}

/// First choice for arguments: types that serde can write are passed to patches.
pub trait Given {
    /// Whether the argument is passed to patches.
    fn is_given(&self) -> bool;
}

impl<T: Serialize> Given for &Probe<T> {
    fn is_given(&self) -> bool {
        true
    }
}

/// Second choice: other arguments are not passed.
pub trait Withheld {
    /// Whether the argument is passed to patches.
    fn is_given(&self) -> bool;
}

impl<T> Withheld for Probe<T> {
    fn is_given(&self) -> bool {
        false
    }
}

/// First choice for the values of arguments: through serde.
pub trait EncodeValue {
    /// The argument for the patch.
    fn encode(&self) -> Encoded;
}

impl<T: Serialize> EncodeValue for &Argument<'_, T> {
    fn encode(&self) -> Encoded {
        Encoded(values::encode(self.0))
    }
}

/// Second choice: `()`.
pub trait EncodeNothing {
    /// The argument for the patch.
    fn encode(&self) -> Encoded;
}

impl<T> EncodeNothing for Argument<'_, T> {
    fn encode(&self) -> Encoded {
        Encoded(Ok(Tree::Null))
    }
}
