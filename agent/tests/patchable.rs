//! `#[patchable]` in a crate that forbids `unsafe`, as services do.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, outside the test functions")]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use serde::{Deserialize, Serialize};

use debug_agent::__private::for_test::{self, Patched};
use debug_agent::patchable;
use serde_json::{Value, json};

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Rota {
    names: Vec<String>,
}

/// Neither `Serialize` nor `Clone`.
struct Pool(u32);

#[derive(Debug, PartialEq)]
struct NotSerde(u8);

struct Refusing;

impl Serialize for Refusing {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
}

/// Who is on duty.
#[patchable]
fn on_duty(rota: &Rota, week: usize) -> Option<String> {
    rota.names.get(week).cloned()
}

#[patchable(name = "prices.quote", skip(pool))]
async fn quote(pool: &Pool, article: u64) -> Result<f64, NotSerde> {
    std::future::ready(()).await;
    if article == 0 { Err(NotSerde(1)) } else { Ok(f64::from(pool.0)) }
}

#[patchable]
fn unknown_types(pool: Pool, thing: &NotSerde, n: i64) -> i64 {
    i64::from(pool.0) + i64::from(thing.0) + n
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
fn not_decodable(n: u8) -> NotSerde {
    NotSerde(n)
}

#[patchable]
fn borrowed<'a>(rota: &'a Rota, _other: &str) -> &'a str {
    &rota.names[0]
}

#[patchable]
fn hidden(n: u8) -> impl Iterator<Item = u8> {
    0..n
}

#[patchable(watch_only)]
async fn only_watched(n: u8) -> u8 {
    n
}

#[patchable]
fn nothing() {}

#[patchable]
fn r#type(r#match: u8) -> u8 {
    r#match
}

#[patchable]
fn recursive(n: u64) -> u64 {
    if n == 0 { 0 } else { 1 + recursive(n - 1) }
}

#[patchable]
fn fails_to_serialize(_value: &Refusing) -> u8 {
    1
}

#[patchable]
#[track_caller]
fn line_of_the_caller() -> u32 {
    std::panic::Location::caller().line()
}

fn local(name: &str) -> String {
    format!("patchable::{name}")
}

#[track_caller]
fn patch(
    name: &str,
    answer: impl Fn(Vec<Value>) -> Result<Value, String> + Send + Sync + 'static,
) -> Patched {
    for_test::patch(name, answer).unwrap()
}

#[track_caller]
fn given(name: &str) -> Vec<bool> {
    for_test::arguments(name).unwrap().into_iter().map(|(_, given)| given).collect()
}

/// Futures here are ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("pending"),
    }
}

#[test]
fn a_function_is_a_point_with_its_place_and_arguments() {
    let (file, line) = for_test::place(&local("on_duty")).unwrap().unwrap();
    assert!(file.ends_with("patchable.rs") && 0 < line);
    assert_eq!(for_test::arguments(&local("on_duty")).unwrap(), [("rota", true), ("week", true)]);
}

#[test]
fn a_patched_function_gets_arguments_and_answers_through_serde() {
    let rota = Rota { names: vec!["ada".into(), "bob".into()] };
    assert_eq!(on_duty(&rota, 1).as_deref(), Some("bob"));
    let patched = patch(&local("on_duty"), |arguments| {
        assert_eq!(arguments, [json!({"names": ["ada", "bob"]}), json!(1)]);
        Ok(json!("eve"))
    });
    assert_eq!(on_duty(&rota, 1).as_deref(), Some("eve"));
    drop(patched);
    assert_eq!(on_duty(&rota, 1).as_deref(), Some("bob"));
}

#[test]
fn an_async_function_with_a_result_is_answered_by_the_ok_value() {
    assert_eq!(given("prices.quote"), [false, true]);
    assert_eq!(now(quote(&Pool(3), 0)), Err(NotSerde(1)));
    assert_eq!(now(quote(&Pool(3), 1)), Ok(3.0));
    let patched = patch("prices.quote", |arguments| {
        assert_eq!(arguments, [Value::Null, json!(0)]);
        Ok(json!(9.5))
    });
    assert_eq!(now(quote(&Pool(3), 0)), Ok(9.5));
    assert_eq!(patched.heard(), ["ran"]);
}

#[test]
fn an_async_function_can_still_be_sent_between_threads() {
    fn is_send(_: impl Send) {}
    is_send(quote(&Pool(1), 1));
}

#[test]
fn what_serde_does_not_know_is_unit_for_the_patch() {
    assert_eq!(given(&local("unknown_types")), [false, false, true]);
    let patched = patch(&local("unknown_types"), |arguments| {
        assert_eq!(arguments, [Value::Null, Value::Null, json!(3)]);
        Err("teapot".into())
    });
    assert_eq!(unknown_types(Pool(1), &NotSerde(2), 3), 6, "the original gets them untouched");
    assert_eq!(patched.heard(), ["failed: the patch threw `teapot`"]);
}

#[test]
fn patterns_and_mutable_bindings_reach_both_sides() {
    let names = for_test::arguments(&local("patterns"))
        .unwrap()
        .into_iter()
        .map(|(name, _)| name)
        .collect::<Vec<_>>();
    assert_eq!(names, ["arg0", "total", "arg2", "arg3"]);
    assert_eq!(patterns((1, 2), 3, 0, [4, 5]), 10);
    let _patched = patch(&local("patterns"), |arguments| Ok(arguments[1].clone()));
    assert_eq!(patterns((1, 2), 3, 0, [4, 5]), 3);
    assert_eq!(now(async_patterns((1, 2), 3)), 6);
    let _patched = patch(&local("async_patterns"), |_| Ok(json!(0)));
    assert_eq!(now(async_patterns((1, 2), 3)), 0);
}

#[test]
fn a_mutable_argument_is_a_copy_for_the_patch() {
    let mut list = vec![7];
    let patched = patch(&local("fill"), |arguments| {
        assert_eq!(arguments, [json!([7])]);
        Ok(json!(100))
    });
    assert_eq!((fill(&mut list), &list), (100, &vec![7]));
    drop(patched);
    assert_eq!((fill(&mut list), &list), (2, &vec![7, 1]));
}

#[track_caller]
fn check_refused(name: &str, why: &str) {
    let Err(refusal) = for_test::patch(&local(name), |_| Ok(Value::Null)) else {
        panic!("`{name}` was patched");
    };
    assert!(refusal.contains(why), "{refusal}");
}

#[test]
fn functions_whose_result_cannot_be_made_are_points_that_refuse_patches() {
    check_refused("not_decodable", "lacks `Deserialize`");
    check_refused("borrowed", "borrowed");
    check_refused("hidden", "`impl`");
    check_refused("only_watched", "`watch_only`");
    assert_eq!(not_decodable(3), NotSerde(3));
    assert_eq!(borrowed(&Rota { names: vec!["ada".into()] }, ""), "ada");
    assert_eq!(hidden(3).count(), 3);
    assert_eq!(now(only_watched(3)), 3);
}

#[test]
fn a_function_without_a_result_is_answered_by_unit() {
    let patched = patch(&local("nothing"), |_| Ok(Value::Null));
    nothing();
    assert_eq!(patched.heard(), ["ran"]);
}

#[test]
fn raw_identifiers_are_named_without_their_mark() {
    assert_eq!(for_test::arguments(&local("type")).unwrap(), [("match", true)]);
    assert_eq!(r#type(3), 3);
}

#[test]
fn an_original_that_calls_itself_asks_the_patch_each_time() {
    let _patched = patch(&local("recursive"), |arguments| match arguments[0].as_u64() {
        Some(2) => Ok(json!(100)),
        _ => Err("not mine".into()),
    });
    assert_eq!(recursive(4), 102);
}

#[test]
fn an_argument_whose_own_serde_code_fails_leaves_the_call_to_the_original() {
    let patched = patch(&local("fails_to_serialize"), |_| Ok(json!(100)));
    assert_eq!(fails_to_serialize(&Refusing), 1);
    assert_eq!(patched.heard(), ["failed: an argument cannot be shown to the patch: not today"]);
}

#[test]
fn track_caller_still_sees_the_caller() {
    assert_eq!(line_of_the_caller(), line!());
}
