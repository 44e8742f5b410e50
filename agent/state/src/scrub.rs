use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use zeroize::{Zeroize, Zeroizing};

use crate::origin::Origin;
use crate::redact::is_field_name;
use crate::shapes::url_userinfo;
use debug_base::{PLACEHOLDER, Path, Tree};

/// Shorter secrets are not searched for. Replacing every `12345` or `admin` would destroy the output and show where the
/// secret occurs.
const MIN_SECRET_LEN: usize = 6;

/// The unreserved characters of RFC 3986.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Replaces every known secret in text that leaves the agent.
///
/// It knows the secrets of the last `learn` for each origin. Each secret text of 6 bytes or more is searched for verbatim, in
/// base64 (both alphabets, padded or not, at any offset within a larger text, as in `Basic` credentials), percent-encoded,
/// and JSON-escaped. One pass; each byte costs at most one binary search among the patterns. The search is written here
/// because the automata of libraries keep copies of their patterns that are not wiped.
#[derive(Default)]
pub struct Scrubber(RwLock<KnownSecrets>);

#[derive(Default)]
struct KnownSecrets {
    secrets: BTreeMap<Origin, Vec<Zeroizing<String>>>,
    identifiers: BTreeSet<String>,
    patterns: Patterns,
    unsearched: Vec<Origin>,
}

/// How many earlier texts of one place in a state stay known until the whole state is read again.
const MAX_EARLIER: usize = 16;

impl Scrubber {
    /// Learns the secrets in `tree`, which is marked. A whole state, a replaced value or an argument replaces what was known
    /// of it. A part of a state adds to that: a secret that is not there any more may be elsewhere in the state, because the
    /// service moves elements of lists.
    pub fn learn(&self, origin: impl Into<Origin>, tree: &Tree) {
        let origin = origin.into();
        let mut found = BTreeMap::new();
        for (below, leaf) in tree.leaves() {
            let hidden = match leaf {
                Tree::Secret(inner) => Some(&**inner),
                Tree::Unreadable(leaf) => leaf.hidden(),
                _ => None,
            };
            if let Some(inner) = hidden {
                let mut texts = Vec::new();
                secret_texts(inner, &mut texts);
                if !texts.is_empty() {
                    found.insert(origin.join(&below.0), texts);
                }
            }
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if origin.path().is_some_and(|path| path.0.len() > 1) {
            known.add(found);
            return;
        }
        let same = known
            .secrets
            .iter()
            .filter(|(at, _)| at.is_within(&origin))
            .eq(found.iter());
        if !same {
            known.secrets.retain(|at, _| !at.is_within(&origin));
            known.secrets.append(&mut found);
            known.rebuild();
        }
    }

    /// Sets the names that are shown everywhere (service, operators, points, paths). A secret equal to a name, or to a whole
    /// segment of one, is not searched for: a password equal to the service's name would make every line unreadable, and
    /// thereby reveal itself.
    pub fn protect_identifiers<'a>(&self, identifiers: impl IntoIterator<Item = &'a str>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.identifiers = identifiers
            .into_iter()
            .flat_map(segments)
            .map(str::to_owned)
            .collect();
        known.rebuild();
    }

    /// `text` with `‹secret›` in place of each known secret. Of overlapping matches the first wins, of those the longest.
    pub fn scrub<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.scrub_but(text, &Shown::default())
    }

    /// As [`Scrubber::scrub`], but revealed secrets stay.
    pub fn scrub_but<'t>(&self, text: &'t str, shown: &Shown) -> Cow<'t, str> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut clean = String::new();
        let mut copied = 0;
        let mut at = 0;
        while let Some((start, end)) = known.patterns.find(text, at) {
            if shown
                .0
                .iter()
                .any(|form| text.get(start..end) == Some(form.as_str()))
            {
                at = end;
                continue;
            }
            clean.push_str(text.get(copied..start).unwrap_or_default());
            clean.push_str(PLACEHOLDER);
            (copied, at) = (end, end);
        }
        if copied == 0 {
            return Cow::Borrowed(text);
        }
        clean.push_str(text.get(copied..).unwrap_or_default());
        Cow::Owned(clean)
    }

    /// `tree` with each text that contains a known secret marked, and each map with such a name.
    pub fn mark(&self, tree: Tree) -> Tree {
        fn walk(patterns: &Patterns, tree: Tree) -> Tree {
            match tree {
                Tree::Str(text) if patterns.find(&text, 0).is_some() => {
                    Tree::Secret(Box::new(Tree::Str(text)))
                }
                Tree::Seq(items) => Tree::Seq(items.into_iter().map(|item| walk(patterns, item)).collect()),
                // The names of a map appear in paths.
                Tree::Map(entries) if entries.iter().any(|(key, _)| patterns.find(key, 0).is_some()) => {
                    Tree::Secret(Box::new(Tree::Map(entries)))
                }
                Tree::Map(entries) => Tree::Map(
                    entries
                        .into_iter()
                        .map(|(key, value)| (key, walk(patterns, value)))
                        .collect(),
                ),
                other => other,
            }
        }
        walk(
            &self.0.read().unwrap_or_else(PoisonError::into_inner).patterns,
            tree,
        )
    }

    /// The secrets contained in `text`, which is at `path`, each with whether `text` equals it. Empty if the value at `path`
    /// is itself a known secret.
    pub fn alike(&self, path: &Path, text: &str) -> Vec<(Origin, bool)> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if known.secrets.contains_key(&Origin::from(path)) {
            return Vec::new();
        }
        let alike = known.secrets.iter().filter_map(|(at, texts)| {
            let found = texts.iter().find(|secret| text.contains(secret.as_str()))?;
            Some((at.clone(), found.as_str() == text))
        });
        alike.collect()
    }

    /// Whether `text` contains a known secret, in any form.
    pub fn find(&self, text: &str) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .patterns
            .find(text, 0)
            .is_some()
    }

    /// Origins of secrets that are not searched for because they equal an identifier.
    pub fn unsearched(&self) -> Vec<Origin> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .unsearched
            .clone()
    }
}

/// Secrets that one reply may show, in every form.
#[derive(Default)]
pub struct Shown(Vec<Zeroizing<String>>);

impl Shown {
    /// Adds a revealed value.
    pub fn add(&mut self, tree: &Tree) {
        let mut texts = Vec::new();
        secret_texts(tree, &mut texts);
        texts.iter().for_each(|text| forms(text, &mut self.0));
    }
}

impl KnownSecrets {
    /// Adds secrets, and keeps the latest [`MAX_EARLIER`] earlier ones of each origin.
    fn add(&mut self, found: BTreeMap<Origin, Vec<Zeroizing<String>>>) {
        let mut is_new = false;
        for (origin, texts) in found {
            let known = self.secrets.entry(origin).or_default();
            is_new |= texts.iter().any(|text| !known.contains(text));
            known.retain(|text| !texts.contains(text));
            known.drain(..known.len().saturating_sub(MAX_EARLIER));
            known.extend(texts);
        }
        if is_new {
            self.rebuild();
        }
    }

    fn rebuild(&mut self) {
        let mut patterns = Vec::new();
        self.unsearched.clear();
        for (origin, texts) in &self.secrets {
            let (named, searched): (Vec<_>, Vec<_>) = texts
                .iter()
                .partition(|text| self.identifiers.contains(text.as_str()));
            if !named.is_empty() {
                self.unsearched.push(origin.clone());
            }
            for text in searched {
                forms(text, &mut patterns);
            }
        }
        self.patterns = Patterns::new(patterns);
    }
}

/// An identifier and its segments.
fn segments(identifier: &str) -> impl Iterator<Item = &str> {
    let parts = identifier.split(['.', '/', ':', ' ', '[', ']', '"', '{', '}']);
    std::iter::once(identifier)
        .chain(parts)
        .filter(|part| !part.is_empty())
}

/// The texts that identify a secret value: its text, and the decimals of its numbers.
fn secret_texts(tree: &Tree, texts: &mut Vec<Zeroizing<String>>) {
    match tree {
        Tree::Null | Tree::Bool(_) => {}
        Tree::I64(value) => add(value.to_string(), texts),
        Tree::U64(value) => add(value.to_string(), texts),
        Tree::F64(value) => add(value.to_string(), texts),
        Tree::Str(text) => {
            add(text.clone(), texts);
            // A driver's error may show the password of a URL without the URL.
            for userinfo in url_userinfo(text) {
                add(
                    userinfo
                        .split_once(':')
                        .map_or(userinfo, |(_, password)| password)
                        .to_owned(),
                    texts,
                );
            }
        }
        Tree::Seq(items) => items.iter().for_each(|item| secret_texts(item, texts)),
        Tree::Map(entries) => {
            for (key, value) in entries {
                if !is_field_name(key) {
                    add(key.clone(), texts);
                }
                secret_texts(value, texts);
            }
        }
        Tree::Secret(inner) => secret_texts(inner, texts),
        Tree::Unreadable(leaf) => {
            leaf.kept().iter().for_each(|kept| add(kept.to_string(), texts));
            leaf.hidden()
                .iter()
                .for_each(|hidden| secret_texts(hidden, texts));
        }
    }
}

fn add(text: String, texts: &mut Vec<Zeroizing<String>>) {
    let text = Zeroizing::new(text);
    if MIN_SECRET_LEN <= text.len() {
        texts.push(text);
    }
}

/// Every form in which a secret is searched for.
fn forms(secret: &str, patterns: &mut Vec<Zeroizing<String>>) {
    let mut add = |form: String| patterns.push(Zeroizing::new(form));
    add(secret.to_owned());
    for engine in [&STANDARD, &URL_SAFE] {
        add(engine.encode(secret));
        for offset in 0..3 {
            add(base64_core(engine, secret, offset));
        }
    }
    for set in [NON_ALPHANUMERIC, UNRESERVED] {
        let encoded = Zeroizing::new(percent_encode(secret.as_bytes(), set).to_string());
        add(lower_escapes(&encoded));
        add(encoded.replace("%20", "+"));
        add(encoded.to_string());
    }
    let quoted = Zeroizing::new(serde_json::to_string(secret).unwrap_or_default());
    add(quoted
        .get(1..quoted.len().saturating_sub(1))
        .unwrap_or_default()
        .to_owned());
}

/// The base64 characters that depend on `secret` alone, if `offset` bytes (modulo 3) of a larger text precede it.
fn base64_core(engine: &impl Engine, secret: &str, offset: usize) -> String {
    let mut bytes = Zeroizing::new(vec![0; offset]);
    bytes.extend_from_slice(secret.as_bytes());
    let encoded = Zeroizing::new(engine.encode(&*bytes));
    // A character holds 6 bits. Leading characters with bits of the preceding bytes are dropped, and so is the last one
    // unless all its bits belong to the secret.
    let (first, end) = ((offset * 8).div_ceil(6), bytes.len() * 8 / 6);
    encoded.get(first..end).unwrap_or_default().to_owned()
}

/// `%2F` as `%2f`.
fn lower_escapes(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let mut lower = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        lower.push('%');
        lower.push_str(&digits.to_ascii_lowercase());
        lower.push_str(rest);
    }
    lower
}

/// Texts to search for, sorted, without duplicates.
#[derive(Default)]
struct Patterns {
    sorted: Vec<Zeroizing<String>>,
    /// For each pattern, the longest other pattern that is a prefix of it.
    shorter: Vec<Option<usize>>,
    /// Bit set of the first two bytes of all patterns: most positions cost one lookup. Wiped like the patterns.
    begins: Vec<u64>,
}

impl Patterns {
    fn new(mut sorted: Vec<Zeroizing<String>>) -> Self {
        sorted.retain(|pattern| MIN_SECRET_LEN <= pattern.len());
        sorted.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        sorted.dedup();
        let mut begins = vec![0_u64; 1024];
        let mut shorter = Vec::with_capacity(sorted.len());
        for (index, pattern) in sorted.iter().enumerate() {
            if let Some(bit) = first_two(pattern.as_bytes()) {
                begins[bit / 64] |= 1 << (bit % 64);
            }
            // The longest prefix is the predecessor, or the longest prefix of the predecessor, and so on.
            let mut candidate = index.checked_sub(1);
            while let Some(before) = candidate.filter(|before| !pattern.starts_with(sorted[*before].as_str()))
            {
                candidate = shorter.get(before).copied().flatten();
            }
            shorter.push(candidate);
        }
        Self {
            sorted,
            shorter,
            begins,
        }
    }

    /// The first match at or after `from`; the longest if several begin there.
    fn find(&self, text: &str, from: usize) -> Option<(usize, usize)> {
        if self.sorted.is_empty() {
            return None;
        }
        let bytes = text.as_bytes();
        (from..bytes.len()).find_map(|start| {
            let rest = bytes.get(start..)?;
            let bit = first_two(rest)?;
            let begins = self
                .begins
                .get(bit / 64)
                .is_some_and(|word| word & (1 << (bit % 64)) != 0);
            begins
                .then(|| self.longest_at(rest))
                .flatten()
                .map(|length| (start, start + length))
        })
    }

    /// The length of the longest pattern that `rest` begins with.
    fn longest_at(&self, rest: &[u8]) -> Option<usize> {
        // Patterns that are prefixes of `rest` sort at or before it, and each is a prefix of the longer ones. So all of them
        // are the last pattern that sorts at or before `rest`, or on its chain.
        let mut candidate = self
            .sorted
            .partition_point(|pattern| pattern.as_bytes() <= rest)
            .checked_sub(1);
        while let Some(index) = candidate {
            let pattern = self.sorted.get(index)?;
            if rest.starts_with(pattern.as_bytes()) {
                return Some(pattern.len());
            }
            candidate = self.shorter.get(index).copied().flatten();
        }
        None
    }
}

impl Drop for Patterns {
    fn drop(&mut self) {
        self.begins.zeroize();
    }
}

fn first_two(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [first, second, ..] => Some(usize::from(*first) * 256 + usize::from(*second)),
        _ => None,
    }
}
