//! The forms that `#[patchable]` refuses, and where its errors point. `TRYBUILD=overwrite` rewrites the expected texts.

#[test]
fn what_cannot_be_a_point_is_refused_with_the_reason() {
    trybuild::TestCases::new().compile_fail("tests/refused/*.rs");
}
