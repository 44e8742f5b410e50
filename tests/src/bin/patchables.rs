//! A service with functions that are hard on `#[patchable]`. Tests start it as a program.
//!
//! HTTP on a port that the system chooses: `GET /call/NAME` calls the function with the arguments in [`called`]. It shows the
//! result and, where it matters, the arguments or the service after the call.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a program for tests: what fails here fails the test"
)]

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::panic::{self, Location};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use debug_agent::{Agent, Secret, patchable};
use debug_tests::serve::{block_on, serve};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracing_subscriber::prelude::*;

#[derive(Serialize)]
struct Rota {
    names: Vec<String>,
}

/// A type that could be passed to a patch.
#[derive(Serialize)]
struct Pool {
    rate: f64,
}

/// A type without `Serialize`, `Deserialize` and `Clone`.
#[derive(Debug)]
struct NotSerde(i64);

/// Refuses to serialize.
struct Refusing;

impl Serialize for Refusing {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
}

/// Panics when it is serialized.
struct Panicking;

impl Serialize for Panicking {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("nobody shows this")
    }
}

/// Ends the process when it is serialized, as a stack overflow would.
struct Aborting;

impl Serialize for Aborting {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        process::abort()
    }
}

/// Panics when 13 is deserialized.
struct Level(u32);

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let level = u32::deserialize(deserializer)?;
        assert_ne!(level, 13, "nobody wants this number");
        Ok(Self(level))
    }
}

/// The person on duty.
#[patchable]
fn on_duty(rota: &Rota, week: usize) -> Option<String> {
    rota.names.get(week).cloned()
}

#[patchable(name = "prices.quote", skip(pool))]
async fn quote(pool: &Pool, article: u64) -> Result<f64, NotSerde> {
    std::future::ready(()).await;
    if article == 0 {
        Err(NotSerde(1))
    } else {
        Ok(pool.rate)
    }
}

#[patchable]
fn parsed(text: &str) -> Result<u8, NotSerde> {
    text.parse().map_err(|_| NotSerde(2))
}

/// Serde could also deserialize this result as a whole.
#[patchable]
fn checked(text: &str) -> Result<u8, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

/// The error is the system's, and the `Ok` value cannot be deserialized.
#[patchable]
fn connected(host: &str) -> io::Result<NotSerde> {
    if host.is_empty() {
        Err(io::Error::other("no host"))
    } else {
        Ok(NotSerde(3))
    }
}

/// Fails by `?`, before its end.
#[patchable]
async fn parsed_later(text: &str) -> Result<u8, String> {
    std::future::ready(()).await;
    let number: u8 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    Ok(number + 1)
}

struct Retail;
struct Wholesale;

impl Retail {
    #[patchable]
    fn rate(cents: i64) -> i64 {
        cents / 10
    }
}

impl Wholesale {
    #[patchable]
    fn rate(cents: i64) -> i64 {
        cents / 5
    }
}

#[patchable]
fn unknown_types(owned: NotSerde, lent: &NotSerde, out: &mut dyn fmt::Write, number: i64) -> i64 {
    out.write_str("written").unwrap();
    owned.0 + lent.0 + number
}

#[patchable]
fn lifetimes<'a, 'b>(left: &'a [String], right: &'b mut Vec<&'a str>) -> usize
where
    'a: 'b,
{
    right.extend(left.iter().map(String::as_str));
    right.len()
}

#[patchable]
fn patterns((a, b): (i64, i64), mut total: i64, _: u8, [x, ..]: [i64; 2]) -> i64 {
    total += a + b + x;
    total
}

#[patchable]
async fn async_patterns((a, b): (i64, i64), mut total: i64) -> i64 {
    total += a + b;
    total
}

#[patchable]
fn fill(list: &mut Vec<i64>) -> usize {
    list.push(1);
    list.len()
}

#[patchable]
fn secret(password: &Secret<String>, user: &str) -> String {
    format!("{user} has {} characters", password.expose().len())
}

#[patchable]
fn not_decodable(number: i64) -> NotSerde {
    NotSerde(number)
}

#[patchable]
fn not_decodable_within(number: i64) -> Result<NotSerde, String> {
    Ok(NotSerde(number))
}

#[patchable]
fn borrowed<'a>(rota: &'a Rota, _other: &str) -> &'a str {
    &rota.names[0]
}

#[patchable]
fn borrowed_within<'a>(rota: &'a Rota, _other: &str) -> Cow<'a, str> {
    Cow::Borrowed(&rota.names[0])
}

#[patchable]
fn hidden(count: u8) -> impl Iterator<Item = u8> {
    0..count
}

#[patchable]
fn never() -> ! {
    panic::resume_unwind(Box::new("as always"))
}

#[patchable(watch_only)]
async fn only_watched(number: u8) -> u8 {
    number
}

#[patchable]
fn closed(number: u8) -> u8 {
    number
}

/// The number of runs of `counted`.
static RUNS: AtomicU32 = AtomicU32::new(0);

#[patchable]
fn counted(n: u32) -> u32 {
    RUNS.fetch_add(1, Ordering::SeqCst);
    n + 1
}

/// The number of times that the bell was rung.
static RUNG: AtomicU32 = AtomicU32::new(0);

#[patchable]
fn ring() {
    RUNG.fetch_add(1, Ordering::Relaxed);
}

#[patchable]
fn r#type(r#match: u8) -> u8 {
    r#match
}

#[patchable]
fn recursive(number: u64) -> u64 {
    if number == 0 { 0 } else { 1 + recursive(number - 1) }
}

#[patchable]
fn refuses_to_be_shown(_value: &Refusing) -> u8 {
    1
}

#[patchable]
fn aborts_when_shown(_value: &Aborting) -> u8 {
    1
}

#[patchable]
fn panics_when_shown(_value: &Panicking) -> u8 {
    1
}

#[patchable]
fn panics_when_made() -> Level {
    Level(1)
}

#[patchable]
#[track_caller]
fn line_of_the_caller() -> u32 {
    Location::caller().line()
}

fn rota() -> Rota {
    Rota {
        names: vec!["ada".to_owned(), "bob".to_owned()],
    }
}

fn called(name: &str) -> String {
    match name {
        "on_duty" => format!("{:?}", on_duty(&rota(), 1)),
        "quote" => format!("{:?}", block_on(quote(&Pool { rate: 3.0 }, 0))),
        "parsed" => format!("{:?}", parsed("seven")),
        "checked" => format!("{:?}", checked("seven")),
        "connected" => format!("{:?}", connected("db")),
        "parsed_later" => format!("{:?}", block_on(parsed_later("seven"))),
        "rate" => format!("{} {}", Retail::rate(100), Wholesale::rate(100)),
        "unknown_types" => {
            let mut out = String::new();
            let sum = unknown_types(NotSerde(1), &NotSerde(2), &mut out, 3);
            format!("{sum} {out:?}")
        }
        "lifetimes" => {
            let (left, mut right) = (rota().names, vec!["eve"]);
            format!("{} {right:?}", lifetimes(&left, &mut right))
        }
        "patterns" => patterns((1, 2), 3, 6, [4, 5]).to_string(),
        "async_patterns" => block_on(async_patterns((1, 2), 3)).to_string(),
        "fill" => {
            let mut list = vec![7];
            format!("{} {list:?}", fill(&mut list))
        }
        "secret" => secret(&Secret::new("correct horse".to_owned()), "ada"),
        "not_decodable" => format!("{:?}", not_decodable(3)),
        "not_decodable_within" => format!("{:?}", not_decodable_within(3)),
        "borrowed" => borrowed(&rota(), "").to_owned(),
        "borrowed_within" => borrowed_within(&rota(), "").into_owned(),
        "hidden" => format!("{:?}", hidden(3).collect::<Vec<_>>()),
        "counted" => {
            let answer = counted(4);
            format!("{answer} in run {}", RUNS.load(Ordering::SeqCst))
        }
        "never" => {
            let caught: Result<(), _> = panic::catch_unwind(|| never());
            format!("{:?}", caught.unwrap_err().downcast_ref::<&str>())
        }
        "only_watched" => block_on(only_watched(3)).to_string(),
        "closed" => closed(3).to_string(),
        "ring" => {
            let before = RUNG.load(Ordering::Relaxed);
            ring();
            format!("rung {} times", RUNG.load(Ordering::Relaxed) - before)
        }
        "type" => r#type(3).to_string(),
        "recursive" => recursive(4).to_string(),
        "refuses_to_be_shown" => refuses_to_be_shown(&Refusing).to_string(),
        "aborts_when_shown" => aborts_when_shown(&Aborting).to_string(),
        "panics_when_shown" => panics_when_shown(&Panicking).to_string(),
        "panics_when_made" => format!("level {}", panics_when_made().0),
        "line_of_the_caller" => {
            let (line, here) = (line_of_the_caller(), line!());
            if line == here {
                "here".to_owned()
            } else {
                format!("line {line}")
            }
        }
        other => panic!("there is no function `{other}`"),
    }
}

fn main() -> io::Result<()> {
    let agent = Agent::builder("patchables")
        .never_patch(["patchables::closed"])
        .routes(["no route"])
        .start_from_env();
    let log = tracing_subscriber::fmt::layer().with_ansi(false);
    tracing_subscriber::registry()
        .with(log)
        .with(agent.tracing_layer())
        .init();
    serve(|path| called(path.strip_prefix("/call/").unwrap()))
}
