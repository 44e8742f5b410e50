//! Suggestions for mistyped names.

/// The name most similar to `wanted`. Its edit distance is at most a third of the length of `wanted` (at least 1) and less
/// than half of the longer length. Otherwise, the shortest name that is a prefix of `wanted` or starts with it, if both have
/// at least two characters.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = wanted.chars().count();
    let allowed = (length / 3).max(1);
    let names: Vec<&str> = names.into_iter().collect();
    // A script reads `config.max-conn` as `config.max - conn`.
    let hyphened = |name: &&&str| {
        name.strip_prefix(wanted)
            .is_some_and(|rest| rest.starts_with('-'))
    };
    if let Some(name) = names.iter().find(hyphened).filter(|_| 0 < length) {
        return Some(name);
    }
    let measured = names.iter().map(|name| (bounded(wanted, name, allowed), *name));
    let near = measured
        .filter(|(distance, name)| *distance <= allowed && 2 * distance < length.max(name.chars().count()))
        .min_by_key(|(distance, _)| *distance);
    let begins = |name: &&str| {
        2 <= length.min(name.chars().count()) && (name.starts_with(wanted) || wanted.starts_with(*name))
    };
    let begun = || {
        names
            .iter()
            .filter(|name| begins(name))
            .min_by_key(|name| name.len())
            .copied()
    };
    near.map(|(_, name)| name).or_else(begun)
}

/// Edit distance: the number of insertions, deletions, replacements and swaps of neighbours that turn one text into the other.
pub fn distance(from: &str, to: &str) -> usize {
    bounded(from, to, usize::MAX - 1)
}

/// Edit distance by insertions, deletions, replacements and swaps of neighbours (optimal string alignment); `allowed + 1` if
/// the lengths alone exceed `allowed`.
fn bounded(from: &str, to: &str, allowed: usize) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    if allowed < from.len().abs_diff(to.len()) {
        return allowed + 1;
    }
    // The table's rows for successive characters of `from`; only two are kept.
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (line, a) in from.iter().enumerate() {
        let mut row = vec![line + 1];
        for (column, b) in to.iter().enumerate() {
            let replaced = above[column] + usize::from(a != b);
            let mut least = replaced.min(above[column + 1] + 1).min(row[column] + 1);
            let swapped = 0 < line && 0 < column && *a == to[column - 1] && from[line - 1] == *b;
            if swapped {
                least = least.min(before[column - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[to.len()]
}
