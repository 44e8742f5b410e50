use super::*;

#[test]
fn a_digest_is_hmac_sha256_over_the_canonical_bytes() {
    let keyed = Keyed::new([7; 32]).unwrap();
    // Computed independently: HMAC-SHA256 with a key of 32 bytes `07` over the bytes documented at `feed`.
    let value = Tree::Map(vec![
        ("b".into(), Tree::I64(1)),
        ("a".into(), Tree::Seq(vec![text("x"), Tree::Null])),
    ]);
    assert_eq!(
        keyed.digest(&value),
        "29cd4ba51ff8aff85cea463bfb6147454334ca789a406315b7fd507a5e4a710e"
    );
}

#[test]
fn a_value_has_one_digest_whatever_its_marks_and_order() {
    let keyed = Keyed::new([7; 32]).unwrap();
    let one = Tree::Map(vec![("a".into(), Tree::I64(1)), ("b".into(), text("x"))]);
    let other = Tree::Map(vec![
        ("b".into(), Tree::Secret(Box::new(text("x")))),
        ("a".into(), Tree::I64(1)),
    ]);
    assert_eq!(keyed.digest(&one), keyed.digest(&other));
    assert_eq!(keyed.fingerprint(&one), keyed.fingerprint(&other));
    assert_eq!(keyed.fingerprint(&one).len(), 8);
}

#[test]
fn values_that_differ_have_digests_that_differ() {
    let keyed = Keyed::new([7; 32]).unwrap();
    let values = [
        Tree::Null,
        Tree::Bool(false),
        Tree::I64(0),
        Tree::U64(u64::MAX),
        Tree::F64(0.0),
        text(""),
        text("ab"),
        Tree::Seq(vec![]),
        Tree::Seq(vec![text("a"), text("b")]),
        Tree::Seq(vec![text("ab"), text("")]),
        Tree::Seq(vec![Tree::Seq(vec![]), Tree::Null]),
        Tree::Seq(vec![Tree::Seq(vec![Tree::Null])]),
        Tree::Map(vec![]),
        Tree::Map(vec![("a".into(), text("b"))]),
        Tree::Map(vec![("ab".into(), text(""))]),
    ];
    let digests: std::collections::HashSet<_> = values.iter().map(|value| keyed.digest(value)).collect();
    assert_eq!(digests.len(), values.len());
}

#[test]
fn another_key_gives_another_digest_and_each_start_another_fingerprint() {
    let (one, other) = (Keyed::new([7; 32]).unwrap(), Keyed::new([8; 32]).unwrap());
    assert_ne!(one.digest(&Tree::Null), other.digest(&Tree::Null));
    assert_eq!(
        one.digest(&Tree::Null),
        Keyed::new([7; 32]).unwrap().digest(&Tree::Null)
    );
    assert_ne!(
        one.fingerprint(&Tree::Null),
        Keyed::new([7; 32]).unwrap().fingerprint(&Tree::Null)
    );
}
