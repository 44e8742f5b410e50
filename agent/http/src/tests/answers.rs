use super::super::response::from_tree;
use super::*;

fn accepted(entries: impl IntoIterator<Item = (&'static str, Tree)>) -> Response {
    from_tree(map(entries)).unwrap()
}

#[track_caller]
fn refused(answer: Tree, expected: &str) {
    let error = from_tree(answer).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

async fn body_of(response: Response) -> String {
    String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn bodies_have_the_content_type_of_their_kind_unless_one_is_given() {
    let response = accepted([("body", text("hi"))]);
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "text/plain; charset=utf-8"
    );
    assert_eq!(body_of(response).await, "hi");
    let html = map([("Content-Type", text("text/html"))]);
    let response = accepted([("body", text("<p>")), ("headers", html)]);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html");
    let response = accepted([(
        "body",
        Tree::Seq(vec![Tree::F64(0.5), Tree::Bool(true), Tree::U64(u64::MAX)]),
    )]);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    assert_eq!(body_of(response).await, "[0.5,true,18446744073709551615]");
    assert!(accepted([("body", Tree::Null)]).headers().is_empty());
}

#[tokio::test]
async fn secrets_are_written_as_their_placeholder() {
    let secret = || Tree::Secret(Box::new(text("hush")));
    let response = accepted([
        ("body", map([("a", secret())])),
        ("headers", map([("x", secret())])),
    ]);
    assert_eq!(response.headers()["x"].as_bytes(), "‹secret›".as_bytes());
    assert_eq!(body_of(response).await, r#"{"a":"‹secret›"}"#);
    assert_eq!(body_of(accepted([("body", secret())])).await, "‹secret›");
}

#[test]
fn repeated_headers_are_lists() {
    let cookies = Tree::Seq(vec![text("a=1"), text("b=2")]);
    let response = accepted([("headers", map([("set-cookie", cookies)]))]);
    assert_eq!(response.headers().get_all("set-cookie").iter().count(), 2);
}

#[test]
fn what_is_no_response_is_refused_with_what_was_expected() {
    refused(
        text("teapot"),
        "a map with `status`, `headers` and `body`, not a string",
    );
    refused(map([("ok", Tree::Bool(true))]), "it has `ok`");
    for status in [99, 100, 101, 199, 600, -1, 70_000] {
        refused(map([("status", Tree::I64(status))]), "from 200 to 599");
    }
    refused(map([("status", text("200"))]), "not a string");
    refused(
        map([("status", Tree::I64(204)), ("body", text("x"))]),
        "status 204 has no body",
    );
    refused(map([("headers", text("x"))]), "`headers` is a map");
    refused(
        map([("headers", map([("a b", text("x"))]))]),
        "not a header's name",
    );
    refused(
        map([("headers", map([("x", text("a\r\nb: c"))]))]),
        "control character",
    );
    refused(
        map([("headers", map([("x", Tree::I64(1))]))]),
        "a string or a list of strings",
    );
    refused(
        map([("headers", map([("Content-Length", text("1"))]))]),
        "`content-length` follows from the body",
    );
    refused(
        map([("headers", map([("transfer-encoding", text("chunked"))]))]),
        "`transfer-encoding`",
    );
    refused(
        map([("body", Tree::I64(1))]),
        "`body` is a string, a map, a list or `()`, not a number",
    );
}

#[test]
fn what_is_written_down_of_an_answer_is_looked_at_before_it_is_given() {
    use crate::check_answer;
    use debug_base::LiteralValue::{self, Map, Unknown, Value};
    let entry = |key: &str, value: LiteralValue| (key.to_owned(), value);
    let refused = |answer: LiteralValue, expected: &str| {
        let why = check_answer(&answer).unwrap_err();
        assert!(why.contains(expected), "{why}");
    };
    refused(
        Map(vec![entry("staus", Unknown)]),
        "it has `staus`; did you mean `status`?",
    );
    refused(Map(vec![entry("Body", Unknown)]), "did you mean `body`?");
    refused(
        Map(vec![
            entry("body", Unknown),
            entry("status", Value(Tree::I64(99))),
        ]),
        "from 200 to 599",
    );
    refused(
        Map(vec![
            entry("body", Unknown),
            entry("status", Map(vec![entry("a", Unknown)])),
        ]),
        "not a map",
    );
    refused(
        Map(vec![entry("headers", Map(vec![entry("a b", Unknown)]))]),
        "not a header's name",
    );
    refused(
        Map(vec![entry("headers", Map(vec![entry("Connection", Unknown)]))]),
        "about the connection",
    );
    refused(
        Map(vec![
            entry("status", Value(Tree::I64(204))),
            entry("body", Value(text("x"))),
        ]),
        "has no body",
    );
    refused(Value(Tree::Null), "not `()`");
    for fine in [
        Unknown,
        Map(Vec::new()),
        Map(vec![
            entry("status", Unknown),
            entry("headers", Unknown),
            entry("body", Unknown),
        ]),
        Map(vec![
            entry("headers", Map(vec![entry("x-id", Unknown)])),
            entry("status", Value(Tree::I64(204))),
        ]),
    ] {
        check_answer(&fine).unwrap();
    }
}
