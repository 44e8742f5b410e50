//! Hidden characters, and names that nearly match.

/// Whether a character is invisible, or changes how the text around it is displayed.
///
/// Control characters, Unicode's Default_Ignorable_Code_Point (zero width, joiners, variation selectors, tags), line and
/// paragraph separators, and the bidirectional controls. Two names that differ by such a character look the same.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The first `max` characters of a text at most, hidden ones written as escapes.
pub(crate) fn shown(text: &str, max: usize) -> String {
    let mut out = String::new();
    for c in text.chars().take(max) {
        if is_hidden(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    if text.chars().nth(max).is_some() {
        out.push('…');
    }
    out
}

/// The known name that a mistyped one most likely means.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    // A longer word is no typing mistake, and the distance costs the product of the lengths.
    if word.len() > 64 {
        return None;
    }
    let close = |name: &str| distance(word, name) <= (name.len() / 2).clamp(1, 3);
    known
        .iter()
        .copied()
        .filter(|name| close(name))
        .min_by_key(|name| distance(word, name))
}

/// The number of letters to add, remove or change (Levenshtein); two swapped neighbours count twice.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut left = i + 1;
        let mut diagonal = i;
        for (y, cell) in b.chars().zip(row.iter_mut().skip(1)) {
            let best = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("pach", "patch", 1),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn a_typing_mistake_finds_its_name_and_another_word_none() {
        let known = ["roles", "operators", "environments"];
        assert_eq!(nearest("rolse", &known), Some("roles"));
        assert_eq!(nearest("role", &known), Some("roles"));
        assert_eq!(nearest("enviroments", &known), Some("environments"));
        assert_eq!(nearest("banana", &known), None);
        assert_eq!(nearest(&"r".repeat(100_000), &known), None);
        assert_eq!(nearest("xy", &["ab"]), None, "nothing of it is the same");
        let long = "n".repeat(64);
        assert_eq!(nearest(&long, &[&long[1..]]), Some(&long[1..]));
        assert_eq!(nearest(&format!("{long}n"), &[&long]), None);
    }

    #[test]
    fn characters_that_cannot_be_seen_are_hidden() {
        for c in [
            '\0',
            '\n',
            '\u{7f}',
            '\u{85}',
            '\u{200b}',
            '\u{202e}',
            '\u{2066}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            assert!(is_hidden(c), "{c:?}");
        }
        for c in ['a', ' ', 'ö', '語', '🫖'] {
            assert!(!is_hidden(c), "{c:?}");
        }
    }
}
