use crate::shapes::has_secret_shape;
use debug_base::{Found, Path, Tree, Unreadable};

/// Segments that make the values at and below them secret, independent of the configuration. Case is ignored.
const SECRET_SEGMENTS: [&str; 9] = [
    "*pass*", "*secret*", "*token*", "*key*", "*sign*", "*dsn*", "*cred*", "*cookie*", "*auth*",
];

/// Decides which values are secret although their type does not mark them.
#[derive(Debug)]
pub struct Redactor {
    globs: Vec<String>,
    /// With `redact = "all"`: paths of text that stays visible.
    all_but: Option<Vec<Path>>,
}

impl Redactor {
    /// The built-in globs and `extra`; `*` matches any characters of one segment.
    pub fn new(extra: &[String]) -> Self {
        let globs = SECRET_SEGMENTS.iter().map(|glob| (*glob).to_owned());
        Self {
            globs: globs
                .chain(extra.iter().map(|glob| glob.to_lowercase()))
                .collect(),
            all_but: None,
        }
    }

    /// Makes all text secret except at or below `visible`. Secret names and shapes stay secret there too.
    pub fn redact_all(mut self, visible: Vec<Path>) -> Self {
        self.all_but = Some(visible);
        self
    }

    /// Marks every secret leaf of `tree`, which is at `path`. `null`, empty text and empty containers stay visible: an
    /// operator must see that something is not configured, and this reveals no secret.
    pub fn mark(&self, path: &Path, tree: Tree) -> Tree {
        let named = path.0.iter().any(|segment| self.is_secret_segment(segment));
        self.walk(&mut path.clone(), named, tree)
    }

    /// Marks a value read along `path` as a full read would. `None` if a container above it is secret as a whole because one
    /// of its names is.
    pub fn mark_found(&self, path: &Path, found: Found) -> Option<Tree> {
        for (depth, names) in found.above.iter().enumerate() {
            // Path of the container with these names.
            let at = Path(path.0.get(..=depth)?.to_vec());
            let named = at.0.iter().any(|segment| self.is_secret_segment(segment));
            let hidden = names.others && (named || self.is_hidden(&at));
            if hidden || names.texts().any(|name| self.is_secret_key(&at, named, name)) {
                return None;
            }
        }
        Some(self.mark(path, found.tree))
    }

    /// Whether a path segment or header name makes its value secret.
    pub fn is_secret_segment(&self, segment: &str) -> bool {
        let segment = segment.to_lowercase();
        self.globs
            .iter()
            .any(|glob| matches(glob.as_bytes(), segment.as_bytes()))
    }

    fn walk(&self, path: &mut Path, named: bool, tree: Tree) -> Tree {
        match tree {
            // The names of a map appear in paths.
            Tree::Map(entries)
                if entries
                    .iter()
                    .any(|(key, _)| self.is_secret_key(path, named, key)) =>
            {
                secret(Tree::Map(entries))
            }
            Tree::Map(entries) => {
                let mark = |(key, value): (String, Tree)| {
                    let named = named || self.is_secret_segment(&key);
                    path.0.push(key.clone());
                    let value = self.walk(path, named, value);
                    path.0.pop();
                    (key, value)
                };
                Tree::Map(entries.into_iter().map(mark).collect())
            }
            Tree::Seq(items) => {
                let mark = |(index, item): (usize, Tree)| {
                    path.0.push(index.to_string());
                    let item = self.walk(path, named, item);
                    path.0.pop();
                    item
                };
                Tree::Seq(items.into_iter().enumerate().map(mark).collect())
            }
            leaf if is_visible(&leaf) => leaf,
            leaf if named || self.is_secret_text(path, &leaf) => Tree::Secret(Box::new(leaf)),
            leaf => leaf,
        }
    }

    /// Whether a name in a map is itself a secret: it has the shape of one, or the map's values are secret and the name does
    /// not look like a programmer's.
    fn is_secret_key(&self, path: &Path, named: bool, key: &str) -> bool {
        has_secret_shape(key) || (named || self.is_hidden(path)) && !is_field_name(key)
    }

    fn is_hidden(&self, path: &Path) -> bool {
        let hidden = |visible: &Vec<Path>| !visible.iter().any(|visible| path.is_within(visible));
        self.all_but.as_ref().is_some_and(hidden)
    }

    fn is_secret_text(&self, path: &Path, leaf: &Tree) -> bool {
        let Tree::Str(text) = leaf else { return false };
        self.is_hidden(path) || has_secret_shape(text)
    }
}

/// Whether a map name looks like a field name: short, plain characters and few digits. Tokens and ids have more digits.
pub(crate) fn is_field_name(key: &str) -> bool {
    const MAX_LENGTH: usize = 40;
    const MAX_DIGITS: usize = 3;
    let plain = key
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    let digits = key.bytes().filter(u8::is_ascii_digit).count();
    plain && key.len() <= MAX_LENGTH && digits <= MAX_DIGITS && digits < key.len()
}

/// Marks a container as a whole. If a part is unreadable, the container becomes unreadable, so that it is never compared.
fn secret(container: Tree) -> Tree {
    match container.holds_unreadable() {
        true => {
            let leaf = Unreadable::because("a secret of which a part cannot be read");
            Tree::Unreadable(leaf.hiding(container))
        }
        false => Tree::Secret(Box::new(container)),
    }
}

/// Whether a leaf is already marked or cannot be a secret.
fn is_visible(leaf: &Tree) -> bool {
    match leaf {
        Tree::Secret(_) | Tree::Null | Tree::Unreadable(_) => true,
        Tree::Str(text) => text.is_empty(),
        _ => false,
    }
}

/// Whether `text` matches `glob`; `*` matches any bytes, including none.
fn matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    // Where to resume after a mismatch: just after the last star, one byte further in the text.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if glob.get(g) == Some(&b'*') {
            retry = Some((g + 1, t));
            g += 1;
        } else if glob.get(g) == Some(&text[t]) {
            (g, t) = (g + 1, t + 1);
        } else if let Some((after_star, from)) = retry {
            retry = Some((after_star, from + 1));
            (g, t) = (after_star, from + 1);
        } else {
            return false;
        }
    }
    glob.get(g..)
        .is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}
