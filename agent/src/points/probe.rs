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

/// Makes something of what a patch answered.
pub type Make<T> = fn(Answer) -> Result<T, String>;

/// What can be made at a point.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Makes {
    /// Whether a value can: the result, or what is in its `Ok`.
    pub(crate) value: bool,
    /// Whether an `Err` can; nothing if the function returns no `Result`.
    pub(crate) error: Option<bool>,
}

/// How a patch's answer becomes a result.
pub trait Decode<R> {
    /// The result of what the patch answered.
    ///
    /// # Errors
    /// What the service's types refused.
    fn value(&self, answer: Answer) -> Result<R, String>;

    /// The result where the patch answered `Err(..)`.
    ///
    /// # Errors
    /// Likewise.
    fn error(&self, answer: Answer) -> Result<R, String>;

    /// What of it can be made at all.
    fn makes(&self) -> Makes;
}

const NOT_DECODABLE: &str = "its result lacks `Deserialize`, so nothing can be made into it";
/// Why an `Err` cannot be made.
pub(crate) const NO_ERR: &str = "no `Err` can be made here: its error has neither `Deserialize` nor `From` of a text or of `std::io::Error`";
/// Why there is no `Err`.
pub(crate) const NO_RESULT: &str = "the function returns no `Result`, so there is no `Err` to answer";

impl Makes {
    /// Why no patch is possible, if none is.
    pub(crate) fn why_not(self) -> Option<&'static str> {
        (!self.value && self.error != Some(true)).then_some(NOT_DECODABLE)
    }
}

/// Stands for a `Result<T, E>`.
pub struct Fallible<T, E>(PhantomData<fn() -> (T, E)>);

/// Stands for a result that is no `Result`.
pub struct Plain<R>(PhantomData<fn() -> R>);

/// First choice for results: `Result<T, E>`, of which the patch answers the `T`, or `Err(..)`.
pub trait IsFallible<T, E> {
    /// Its two halves.
    fn shape(&self) -> Fallible<T, E>;
}

impl<T, E> IsFallible<T, E> for &Probe<Result<T, E>> {
    fn shape(&self) -> Fallible<T, E> {
        Fallible(PhantomData)
    }
}

/// Second choice: all others.
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
    /// Of what makes each half.
    pub fn decoder(&self, ok: Option<Make<T>>, err: Option<Make<E>>) -> FallibleDecoder<T, E> {
        FallibleDecoder { ok, err }
    }
}

impl<R> Plain<R> {
    /// Of what makes it.
    pub fn decoder(&self, value: Option<Make<R>>, (): ()) -> PlainDecoder<R> {
        PlainDecoder { value }
    }
}

/// Makes `Ok` of a value and `Err` of an `Err`.
pub struct FallibleDecoder<T, E> {
    ok: Option<Make<T>>,
    err: Option<Make<E>>,
}

impl<T, E> Decode<Result<T, E>> for FallibleDecoder<T, E> {
    fn value(&self, answer: Answer) -> Result<Result<T, E>, String> {
        let ok = self.ok.ok_or("only an `Err` can be made here: the value in `Ok` lacks `Deserialize`")?;
        // What serde calls a `Result`.
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
        Makes { value: self.ok.is_some(), error: Some(self.err.is_some()) }
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
        Makes { value: self.value.is_some(), error: None }
    }
}

/// First choice for values: what serde can read.
pub trait MakesValue<T> {
    /// Makes one.
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

/// Others cannot be made.
pub trait MakesNoValue<T> {
    /// Nothing.
    fn ok(&self) -> Option<Make<T>> {
        None
    }
}

impl<T, E> MakesNoValue<T> for Fallible<T, E> {}
impl<R> MakesNoValue<R> for Plain<R> {}

/// First choice for errors: what serde can read, or else a text.
pub trait ErrOfValueOrText<E> {
    /// Makes one.
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

/// Second: what serde can read.
pub trait ErrOfValue<E> {
    /// Makes one.
    fn err(&self) -> Option<Make<E>>;
}

impl<T, E: DeserializeOwned> ErrOfValue<E> for &&&&Fallible<T, E> {
    fn err(&self) -> Option<Make<E>> {
        Some(|answer| values::decode(answer.0))
    }
}

/// Third: a text.
pub trait ErrOfText<E> {
    /// Makes one.
    fn err(&self) -> Option<Make<E>>;
}

impl<T, E: From<String>> ErrOfText<E> for &&&Fallible<T, E> {
    fn err(&self) -> Option<Make<E>> {
        Some(|answer| values::text(answer.0).map(E::from))
    }
}

/// Fourth: a text that must live for ever. (Whether any text would do cannot be asked: a bound on all lifetimes is an error
/// where only one of them will do.)
pub trait ErrOfStaticText<E> {
    /// Makes one.
    fn err(&self) -> Option<Make<E>>;
}

impl<T, E: From<&'static str>> ErrOfStaticText<E> for &&Fallible<T, E> {
    fn err(&self) -> Option<Make<E>> {
        Some(|answer| values::static_text(answer.0).map(E::from))
    }
}

/// Fifth: an error of the system, which most errors of services can be made of.
pub trait ErrOfIo<E> {
    /// Makes one.
    fn err(&self) -> Option<Make<E>>;
}

impl<T, E: From<std::io::Error>> ErrOfIo<E> for &Fallible<T, E> {
    fn err(&self) -> Option<Make<E>> {
        Some(|answer| values::text(answer.0).map(|text| E::from(std::io::Error::other(text))))
    }
}

/// Others cannot be made.
pub trait MakesNoErr<E> {
    /// Nothing.
    fn err(&self) -> Option<Make<E>> {
        None
    }
}

impl<T, E> MakesNoErr<E> for Fallible<T, E> {}

/// There is none.
pub trait HasNoErr {
    /// Nothing.
    fn err(&self) {}
}

impl<R> HasNoErr for Plain<R> {}

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
