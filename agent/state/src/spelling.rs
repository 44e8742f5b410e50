//! Values that a type writes in another spelling than given: `PT90S`, written as `PT1M30S`.

use debug_base::Tree;

/// Whether `stored`, which a type made of `given`, may be the same value in another spelling: they differ only in single
/// values of which at least one is text. Whether they are equal only the type can decide, by reading both.
///
/// A number that became another number is another value, and a truncated text is no spelling of the whole.
pub(crate) fn may_be_respelled(given: &Tree, stored: &Tree) -> bool {
    given
        .differences(stored)
        .into_iter()
        .all(|(_, given, stored)| match (given, stored) {
            (Some(given), Some(stored)) => is_spelling(given.without_mark(), stored.without_mark()),
            _ => false,
        })
}

fn is_spelling(given: &Tree, stored: &Tree) -> bool {
    match (given, stored) {
        (Tree::Str(given), Tree::Str(stored)) => !is_cut(given, stored),
        (
            Tree::Str(_),
            Tree::Bool(_) | Tree::I64(_) | Tree::U64(_) | Tree::F64(_) | Tree::Seq(_) | Tree::Map(_),
        )
        | (Tree::Bool(_) | Tree::I64(_) | Tree::U64(_) | Tree::F64(_), Tree::Str(_)) => true,
        _ => false,
    }
}

/// Whether `stored` is `given` cut at the end, with more lost than spaces, zeros and punctuation.
fn is_cut(given: &str, stored: &str) -> bool {
    let rest = given.strip_prefix(stored);
    rest.is_some_and(|rest| rest.chars().any(|c| c.is_alphanumeric() && c != '0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spelling_is_text_and_nothing_is_cut() {
        let text = |text: &str| Tree::Str(text.to_owned());
        let cases = [
            (text("PT90S"), text("PT1M30S"), true),
            (text("LOCALHOST"), text("localhost"), true),
            (text("http://a"), text("http://a/"), true),
            (text("::0"), text("::"), true),
            (text("1.50"), text("1.5"), true),
            (text("a "), text("a"), true),
            (text("90s"), Tree::I64(90), true),
            (Tree::I64(90), text("PT1M30S"), true),
            (text("abcdef"), text("abc"), false),
            (Tree::I64(300), Tree::I64(255), false),
            (Tree::F64(0.1234567890123), Tree::F64(0.12345679), false),
            (Tree::Null, Tree::I64(0), false),
        ];
        for (given, stored, is_one) in cases {
            let within = |tree: &Tree| Tree::Map(vec![("a".to_owned(), tree.clone())]);
            assert_eq!(
                may_be_respelled(&within(&given), &within(&stored)),
                is_one,
                "{given:?} {stored:?}"
            );
        }
        let more = Tree::Map(vec![("a".to_owned(), text("x")), ("b".to_owned(), Tree::I64(1))]);
        assert!(!may_be_respelled(
            &Tree::Map(vec![("a".to_owned(), text("x"))]),
            &more
        ));
    }
}
