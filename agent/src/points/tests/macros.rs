use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use serde::{Deserialize, Serialize};

use super::{Heard, fake, in_a_minute, patch};
use crate::points::{Layer, PatchFailure, Point, Registry};
use crate::patchable;
use crate::state::Tree;

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Rota {
    names: Vec<String>,
}

/// Neither `Serialize` nor `Clone`.
struct Pool(u32);

#[derive(Debug, PartialEq)]
struct NotSerde(u8);

/// Who is on duty.
#[patchable]
pub(super) fn on_duty(rota: &Rota, week: usize) -> Option<String> {
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
fn fails_to_serialize(map: &std::collections::BTreeMap<(u8, u8), u8>) -> usize {
    map.len()
}

#[patchable]
#[track_caller]
fn line_of_the_caller() -> u32 {
    std::panic::Location::caller().line()
}

fn point(name: &str) -> Point {
    Registry::new(Vec::new()).unwrap().find(name).unwrap()
}

fn local(name: &str) -> Point {
    point(&format!("{}::{name}", module_path!()))
}

/// Futures here are ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("pending"),
    }
}

fn text(text: &str) -> Tree {
    Tree::Str(text.to_owned())
}

#[test]
fn a_function_is_a_point_with_its_place_and_arguments() {
    let point = local("on_duty");
    let (file, line) = point.place().unwrap();
    assert!(file.ends_with("macros.rs") && 0 < line);
    assert_eq!(point.arguments().iter().map(|a| (a.name, a.given)).collect::<Vec<_>>(), [("rota", true), ("week", true)]);
    assert_eq!(point.patchable(), Ok(()));
}

#[test]
fn a_patched_function_gets_arguments_and_answers_through_serde() {
    let rota = Rota { names: vec!["ada".into(), "bob".into()] };
    assert_eq!(on_duty(&rota, 1).as_deref(), Some("bob"));
    patch(&local("on_duty"), 1, fake(|arguments| {
        let names = Tree::Map(vec![("names".into(), Tree::Seq(vec![text("ada"), text("bob")]))]);
        assert_eq!(arguments, [names, Tree::I64(1)]);
        Ok(text("eve"))
    }));
    assert_eq!(on_duty(&rota, 1).as_deref(), Some("eve"));
    local("on_duty").end(1);
    assert_eq!(on_duty(&rota, 1).as_deref(), Some("bob"));
}

#[test]
fn an_async_function_with_a_result_is_answered_by_the_ok_value() {
    let point = point("prices.quote");
    assert_eq!(point.arguments().iter().map(|a| a.given).collect::<Vec<_>>(), [false, true]);
    assert_eq!(now(quote(&Pool(3), 0)), Err(NotSerde(1)));
    assert_eq!(now(quote(&Pool(3), 1)), Ok(3.0));
    let heard = patch(&point, 1, fake(|arguments| {
        assert_eq!(arguments, [Tree::Null, Tree::I64(0)]);
        Ok(Tree::F64(9.5))
    }));
    assert_eq!(now(quote(&Pool(3), 0)), Ok(9.5));
    assert_eq!(heard.lines(), ["1 ran"]);
}

#[test]
fn an_async_function_can_still_be_sent_between_threads() {
    fn is_send(_: impl Send) {}
    is_send(quote(&Pool(1), 1));
}

#[test]
fn what_serde_does_not_know_is_unit_for_the_patch() {
    let point = local("unknown_types");
    assert_eq!(point.arguments().iter().map(|a| a.given).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(unknown_types(Pool(1), &NotSerde(2), 3), 6);
    patch(&point, 1, fake(|arguments| {
        assert_eq!(arguments, [Tree::Null, Tree::Null, Tree::I64(3)]);
        Err(PatchFailure::Threw("x".into()))
    }));
    assert_eq!(unknown_types(Pool(1), &NotSerde(2), 3), 6, "the original gets them untouched");
}

#[test]
fn patterns_and_mutable_bindings_reach_both_sides() {
    let point = local("patterns");
    assert_eq!(point.arguments().iter().map(|a| a.name).collect::<Vec<_>>(), ["arg0", "total", "arg2", "arg3"]);
    assert_eq!(patterns((1, 2), 3, 0, [4, 5]), 10);
    patch(&point, 1, fake(|arguments| Ok(arguments[1].clone())));
    assert_eq!(patterns((1, 2), 3, 0, [4, 5]), 3);
    assert_eq!(now(async_patterns((1, 2), 3)), 6);
    patch(&local("async_patterns"), 1, fake(|_| Ok(Tree::I64(0))));
    assert_eq!(now(async_patterns((1, 2), 3)), 0);
}

#[test]
fn a_mutable_argument_is_a_copy_for_the_patch() {
    let mut list = vec![7];
    patch(&local("fill"), 1, fake(|arguments| {
        assert_eq!(arguments, [Tree::Seq(vec![Tree::I64(7)])]);
        Ok(Tree::I64(100))
    }));
    assert_eq!((fill(&mut list), &list), (100, &vec![7]));
    local("fill").end(1);
    assert_eq!((fill(&mut list), &list), (2, &vec![7, 1]));
}

#[track_caller]
fn check_refused(name: &str, why: &str) {
    let point = local(name);
    let layer = Layer::new(1, in_a_minute(), fake(|_| Ok(Tree::Null)), std::sync::Arc::new(Heard::default()));
    let refusal = point.push(std::sync::Arc::new(layer)).unwrap_err();
    assert!(refusal.why.contains(why), "{}", refusal.why);
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
    let heard = patch(&local("nothing"), 1, fake(|_| Ok(Tree::Null)));
    nothing();
    assert_eq!(heard.lines(), ["1 ran"]);
}

#[test]
fn raw_identifiers_are_named_without_their_mark() {
    assert_eq!(local("type").arguments()[0].name, "match");
    assert_eq!(r#type(3), 3);
}

#[test]
fn an_original_that_calls_itself_asks_the_patch_each_time() {
    patch(&local("recursive"), 1, fake(|arguments| match arguments[0] {
        Tree::I64(2) => Ok(Tree::I64(100)),
        _ => Err(PatchFailure::Threw("not mine".into())),
    }));
    assert_eq!(recursive(4), 102);
}

#[test]
fn an_argument_whose_own_serde_code_fails_leaves_the_call_to_the_original() {
    let heard = patch(&local("fails_to_serialize"), 1, fake(|_| Ok(Tree::I64(100))));
    assert_eq!(fails_to_serialize(&[((1, 2), 3)].into()), 1);
    assert!(heard.lines()[0].starts_with("1 failed: an argument cannot be shown to the patch"), "{:?}", heard.lines());
}

#[test]
fn track_caller_still_sees_the_caller() {
    assert_eq!(line_of_the_caller(), line!());
}
