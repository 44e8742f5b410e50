//! How an `Err` is made when a patch answers one.

use std::fmt;

use crate::probe::*;
use crate::{Answer, Makes, Probe};
use debug_base::Tree;

/// As the macro generates it.
macro_rules! decoder {
    ($result:ty) => {{
        let shape = (&&Probe::<$result>::NEW).shape();
        shape.decoder((&&shape).ok(), (&&&&&&shape).err())
    }};
}

fn text(text: &str) -> Answer {
    Answer(Tree::Str(text.to_owned()))
}

#[derive(Debug, PartialEq, serde::Deserialize)]
enum Known {
    Lost,
    Code(u8),
}

#[derive(Debug)]
enum Wrapping {
    Io(std::io::Error),
}

impl From<std::io::Error> for Wrapping {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

#[derive(Debug, PartialEq)]
struct OfProgramText(&'static str);

impl From<&'static str> for OfProgramText {
    fn from(text: &'static str) -> Self {
        Self(text)
    }
}

#[derive(Debug)]
struct Nothing;

/// Readable by serde, and made from any text.
#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(from = "u8")]
enum Both {
    Code(u8),
    Text(String),
}

impl From<u8> for Both {
    fn from(code: u8) -> Self {
        Self::Code(code)
    }
}

impl From<String> for Both {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

#[track_caller]
fn said<T: fmt::Debug, E: fmt::Display>(result: Result<Result<T, E>, String>) -> String {
    result.unwrap().unwrap_err().to_string()
}

#[test]
fn an_err_is_made_of_what_its_type_is_made_of() {
    assert_eq!(said(decoder!(Result<u8, String>).error(text("no"))), "no");
    assert_eq!(
        said(decoder!(Result<u8, Box<dyn std::error::Error + Send + Sync>>).error(text("no"))),
        "no"
    );
    assert_eq!(said(decoder!(std::io::Result<u8>).error(text("no"))), "no");
    assert_eq!(
        decoder!(Result<u8, Known>).error(text("Lost")),
        Ok(Err(Known::Lost))
    );
    let code = Answer(Tree::Map(vec![("Code".to_owned(), Tree::I64(7))]));
    assert_eq!(decoder!(Result<u8, Known>).error(code), Ok(Err(Known::Code(7))));
    assert_eq!(
        decoder!(Result<u8, OfProgramText>).error(text("no")),
        Ok(Err(OfProgramText("no")))
    );
    let Ok(Err(Wrapping::Io(error))) = decoder!(Result<u8, Wrapping>).error(text("no")) else {
        panic!()
    };
    assert_eq!(error.to_string(), "no");
    assert_eq!(
        decoder!(Result<u8, Both>).error(Answer(Tree::I64(7))),
        Ok(Err(Both::Code(7)))
    );
    assert_eq!(
        decoder!(Result<u8, Both>).error(text("no")),
        Ok(Err(Both::Text("no".to_owned())))
    );
    assert_eq!(decoder!(Result<u8, ()>).error(Answer(Tree::Null)), Ok(Err(())));
}

#[test]
fn what_cannot_be_made_says_so() {
    let makes = |value, error| Makes { value, error };
    assert_eq!(decoder!(Result<u8, Nothing>).makes(), makes(true, Some(false)));
    assert_eq!(
        decoder!(Result<Nothing, String>).makes(),
        makes(false, Some(true))
    );
    assert_eq!(
        decoder!(Result<Nothing, Nothing>).makes(),
        makes(false, Some(false))
    );
    assert_eq!(decoder!(u8).makes(), makes(true, None));
    assert_eq!(decoder!(Nothing).makes(), makes(false, None));
    assert!(makes(false, Some(true)).why_not().is_none() && makes(false, Some(false)).why_not().is_some());
    let why = decoder!(Result<u8, Nothing>).error(text("no")).unwrap_err();
    assert!(why.starts_with("no `Err` can be made here"), "{why}");
    let why = decoder!(u8).error(text("no")).unwrap_err();
    assert!(why.contains("returns no `Result`"), "{why}");
    let why = decoder!(Result<Nothing, String>).value(text("no")).unwrap_err();
    assert!(why.starts_with("only an `Err` can be made here"), "{why}");
    let why = decoder!(Result<u8, std::io::Error>)
        .error(Answer(Tree::I64(1)))
        .unwrap_err();
    assert!(why.contains("is made of a text"), "{why}");
    let like_serde = Answer(Tree::Map(vec![("Err".to_owned(), Tree::Null)]));
    let why = decoder!(Result<u8, String>).value(like_serde).unwrap_err();
    assert!(
        why.ends_with("`Err(..)` in the patch makes the function fail"),
        "{why}"
    );
}

#[test]
fn texts_that_live_for_ever_are_few_and_each_is_kept_once() {
    let decoder = decoder!(Result<u8, OfProgramText>);
    let made = |word: &str| decoder.error(text(word)).map(|result| result.unwrap_err().0);
    assert!(std::ptr::eq(made("again").unwrap(), made("again").unwrap()));
    assert!(made(&"x".repeat(2_000)).is_err());
    let mut kept = (0..1_000)
        .filter(|number| made(&format!("text {number}")).is_ok())
        .count();
    assert!((1..=256).contains(&kept), "{kept}");
    kept = (0..1_000)
        .filter(|number| made(&format!("text {number}")).is_ok())
        .count();
    assert!(kept <= 256 && made("again").is_ok());
}
