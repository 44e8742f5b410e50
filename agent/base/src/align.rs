//! Locates a list element in a later version of the list, by its content and never by position alone.
//!
//! Invariant: if there is doubt, there is no answer. Values that we changed are left out of the comparison, so they never
//! count as the identity of an element.

use crate::canonical::unordered_bytes;
use crate::path::{Path, index_of};
use crate::tree::Tree;

/// Evidence by which an element was located.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Basis {
    /// No list lies on the path: names alone.
    Names,
    /// The whole list is unchanged, except for our changes.
    WholeList,
    /// The identity of the element occurs once in the old list and once in the new one.
    Identity,
    /// Same length and same neighbours.
    Neighbours,
}

/// A current path and the weakest evidence of all lists on it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trail {
    /// The path from the root of the value.
    pub path: Vec<String>,
    /// The weakest evidence on it.
    pub basis: Basis,
}

/// Evidence that may be used to locate an element.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Evidence {
    /// All of it.
    #[default]
    All,
    /// Text only: a lookup has failed since the reference list was recorded, so another element may now be in its position.
    Text,
}

/// Why an element cannot be located.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Doubt {
    /// The container is gone or has become another kind of value.
    Gone(Vec<String>),
    /// The list has other elements.
    List {
        /// Path of the list, from where the walk began.
        path: Vec<String>,
        /// Number of elements in the old list.
        had: usize,
        /// Number of elements in the new list.
        has: usize,
        /// Whether some element looks like the changed one.
        alike: bool,
    },
}

impl Doubt {
    /// The reason in words; paths are shown from `root`.
    pub fn words(&self, root: &Path) -> String {
        match self {
            Self::Gone(path) => format!("`{}` is not there any more", root.join(path)),
            Self::List {
                path,
                had,
                has,
                alike,
            } => {
                let path = root.join(path);
                let elements = if *had == 1 { "element" } else { "elements" };
                let what = match alike {
                    true => "the element that was changed cannot be told from others by a text of its own",
                    false => "the element that was changed is not among them",
                };
                format!("the list `{path}` had {had} {elements}, now {has}; {what}")
            }
        }
    }

    /// Where the doubt arose.
    #[cfg(any(test, feature = "test-util"))]
    pub fn path(&self) -> &[String] {
        match self {
            Self::Gone(path) | Self::List { path, .. } => path,
        }
    }

    fn under(self, segment: &str) -> Self {
        let longer = |mut path: Vec<String>| {
            path.insert(0, segment.to_owned());
            path
        };
        match self {
            Self::Gone(path) => Self::Gone(longer(path)),
            Self::List {
                path,
                had,
                has,
                alike,
            } => Self::List {
                path: longer(path),
                had,
                has,
                alike,
            },
        }
    }
}

/// Follows `path` from an old version of a tree to the current one. `changed`: the places that we changed, relative to
/// `then`. The last segment may name an entry that its map does not have.
///
/// # Errors
/// Where the walk could not be continued with certainty.
pub fn follow(
    path: &[String],
    changed: &[Vec<String>],
    then: &Tree,
    now: &Tree,
    evidence: Evidence,
) -> Result<Trail, Doubt> {
    let Some((segment, rest)) = path.split_first() else {
        return Ok(Trail {
            path: Vec::new(),
            basis: Basis::Names,
        });
    };
    let gone = || Doubt::Gone(Vec::new());
    let inside = |segment: &str| -> Vec<Vec<String>> {
        let below = changed
            .iter()
            .filter(|place| place.first().is_none_or(|first| first == segment));
        below
            .map(|place| place.get(1..).unwrap_or_default().to_vec())
            .collect()
    };
    let (name, basis, then, now) = match (then.without_mark(), now.without_mark()) {
        (Tree::Seq(had), Tree::Seq(has)) => {
            let from = index_of(segment)
                .filter(|&index| index < had.len())
                .ok_or_else(gone)?;
            let (to, basis) = locate(had, from, has, &inside(segment), evidence)?;
            (to.to_string(), basis, had.get(from), has.get(to))
        }
        (Tree::Map(_), Tree::Map(_)) => {
            let step = std::slice::from_ref(segment);
            (segment.clone(), Basis::Names, then.at(step), now.at(step))
        }
        _ => return Err(gone()),
    };
    if rest.is_empty() {
        return Ok(Trail {
            path: vec![name],
            basis,
        });
    }
    let (Some(then), Some(now)) = (then, now) else {
        return Err(gone().under(&name));
    };
    let below = follow(rest, &inside(segment), then, now, evidence).map_err(|doubt| doubt.under(&name))?;
    Ok(Trail {
        path: [vec![name], below.path].concat(),
        basis: basis.max(below.basis),
    })
}

/// Index in `has` of the element at `from` of `had`. `changed`: the places in the element that we changed.
///
/// # Errors
/// The element cannot be identified beyond doubt.
pub fn locate(
    had: &[Tree],
    from: usize,
    has: &[Tree],
    changed: &[Vec<String>],
    evidence: Evidence,
) -> Result<(usize, Basis), Doubt> {
    let here = Looking {
        had,
        from,
        has,
        changed,
    };
    let full = (
        here.identities(had, ElementKind::All),
        here.identities(has, ElementKind::All),
    );
    let by_all = evidence == Evidence::All;
    if by_all && here.is_untouched(&full) {
        return Ok((from, Basis::WholeList));
    }
    let texts = (
        here.identities(had, ElementKind::Text),
        here.identities(has, ElementKind::Text),
    );
    let by_text = here.by_identity(&texts, ElementKind::Text);
    let by_identity = by_text.or_else(|| here.by_identity(&full, ElementKind::All).filter(|_| by_all));
    if let Some(to) = by_identity {
        return Ok((to, Basis::Identity));
    }
    if by_all && here.is_in_place(&full) {
        return Ok((from, Basis::Neighbours));
    }
    let known = if texts.0[from].is_empty() { &full } else { &texts };
    let alike = known.0[from].is_empty() || known.1.contains(&known.0[from]);
    Err(Doubt::List {
        path: Vec::new(),
        had: had.len(),
        has: has.len(),
        alike,
    })
}

/// Which leaves make up the identity of an element.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ElementKind {
    /// Text: the names that the service gives.
    Text,
    /// All leaves that we did not change.
    All,
}

/// Identity of an element: the canonical bytes of its leaves, sorted. Empty if it holds only values that we changed.
type ElementIdentity = Vec<Vec<u8>>;

struct Looking<'a> {
    had: &'a [Tree],
    from: usize,
    has: &'a [Tree],
    changed: &'a [Vec<String>],
}

impl Looking<'_> {
    fn identities(&self, items: &[Tree], kind: ElementKind) -> Vec<ElementIdentity> {
        items
            .iter()
            .map(|item| identity(item, self.changed, kind))
            .collect()
    }

    /// Whether the list is unchanged except for our changes.
    fn is_untouched(&self, (had, has): &(Vec<ElementIdentity>, Vec<ElementIdentity>)) -> bool {
        self.same_length()
            && had[self.from] == has[self.from]
            && self.is_no_other(has)
            && (0..self.had.len().min(self.has.len()))
                .filter(|&at| at != self.from)
                .all(|at| self.had[at].same_unordered(&self.has[at]))
    }

    /// Whether the element now at the old position holds our value, or is the only one with its identity. Otherwise it may be
    /// a replacement, and ours may be elsewhere.
    fn is_no_other(&self, has: &[ElementIdentity]) -> bool {
        self.is_ours(self.from) || positions(has, &has[self.from]).len() == 1
    }

    fn same_length(&self) -> bool {
        self.had.len() == self.has.len()
    }

    fn by_identity(
        &self,
        (had, has): &(Vec<ElementIdentity>, Vec<ElementIdentity>),
        kind: ElementKind,
    ) -> Option<usize> {
        let mine = &had[self.from];
        let once =
            |identities: &[ElementIdentity]| identities.iter().filter(|other| *other == mine).count() == 1;
        let unique = once(had) && once(has);
        if mine.is_empty() || !unique {
            return None;
        }
        let to = has.iter().position(|other| other == mine)?;
        let count =
            |of: &[ElementIdentity], one: &ElementIdentity| of.iter().filter(|other| *other == one).count();
        let gone = had.iter().any(|one| count(has, one) < count(had, one));
        let came = has.iter().any(|one| count(had, one) < count(has, one));
        // An added element that holds our value may be ours after the service changed it; the one found here may only look
        // alike.
        let has_come = |at: usize| count(had, &has[at]) < count(has, &has[at]);
        let elsewhere = |at: usize| at != to && has_come(at) && self.is_ours(at);
        if kind == ElementKind::All && !self.is_ours(to) && (0..has.len()).any(elsewhere) {
            return None;
        }
        // Identified by values, some of which the service may have changed. An added element with the same name may then be
        // ours, and this one may only look alike. Exception: everything before it is unchanged and it still holds our value.
        let text = |item: &Tree| identity(item, self.changed, ElementKind::Text);
        let mine = text(&self.had[self.from]);
        let came_beside = (0..has.len()).any(|at| at != to && has_come(at) && text(&self.has[at]) == mine);
        let gone_beside = (0..had.len()).any(|at| {
            at != self.from && count(has, &had[at]) < count(had, &had[at]) && text(&self.had[at]) == mine
        });
        let is_named = !mine.is_empty();
        if kind == ElementKind::All
            && (is_named && gone_beside || (is_named || came_beside) && !self.stays(to))
        {
            return None;
        }
        if to == self.from || !(gone && came) {
            return Some(to);
        }
        // Elements went and others came, or counters make elements look like their former neighbours: only text is trusted.
        let ours_in_place = self.had.len() == self.has.len() && self.is_ours(self.from);
        (kind == ElementKind::Text && !ours_in_place).then_some(to)
    }

    /// Whether the element holds our value and every element before it is unchanged.
    fn stays(&self, to: usize) -> bool {
        let before = |at: usize| {
            self.has
                .get(at)
                .is_some_and(|item| item.same_unordered(&self.had[at]))
        };
        to == self.from && self.is_ours(to) && (0..to).all(before)
    }

    /// Whether the element now at `at` holds the value that we wrote to ours.
    fn is_ours(&self, at: usize) -> bool {
        self.changed.iter().all(
            |place| match (self.had[self.from].at(place), self.has[at].at(place)) {
                (Some(ours), Some(theirs)) => ours.same_unordered(theirs),
                (ours, theirs) => ours.is_none() && theirs.is_none(),
            },
        )
    }

    /// Whether length and neighbours show that the element has not moved, and no equal-looking one has moved either.
    fn is_in_place(&self, (had, has): &(Vec<ElementIdentity>, Vec<ElementIdentity>)) -> bool {
        let from = self.from;
        if !self.same_length() || had[from] != has[from] || !self.is_no_other(has) {
            return false;
        }
        let beside = [from.checked_sub(1), Some(from + 1)];
        let both = self.had.len().min(self.has.len());
        let neighbours = beside.into_iter().flatten().filter(|&at| at < both);
        let neighbours_stayed = neighbours
            .into_iter()
            .all(|at| self.had[at].same_unordered(&self.has[at]));
        if !had[from].is_empty() {
            // An equal-looking element with a changed value may have replaced one that went.
            let (was, is) = (positions(had, &had[from]), positions(has, &has[from]));
            let twins = was.iter().filter(|&&at| at != from);
            let same = |at: usize| at < both && self.had[at].same_unordered(&self.has[at]);
            let twins_stayed = twins.into_iter().all(|&at| same(at));
            return neighbours_stayed && was == is && twins_stayed;
        }
        // The element consists only of the value that we changed.
        let value = |items: &[Tree]| -> Vec<ElementIdentity> {
            items.iter().map(|item| vec![unordered_bytes(item)]).collect()
        };
        let (had, has) = (value(self.had), value(self.has));
        let (was, is) = (positions(&had, &had[from]), positions(&has, &had[from]));
        let changed = had[from] != has[from];
        neighbours_stayed && (changed || was == is) || was == [from] && is == [from]
    }
}

fn positions(identities: &[ElementIdentity], of: &ElementIdentity) -> Vec<usize> {
    identities
        .iter()
        .enumerate()
        .filter(|(_, other)| *other == of)
        .map(|(at, _)| at)
        .collect()
}

fn identity(item: &Tree, changed: &[Vec<String>], kind: ElementKind) -> ElementIdentity {
    let mut found = Vec::new();
    let changed: Vec<&[String]> = changed.iter().map(Vec::as_slice).collect();
    collect(item, &mut Vec::new(), &changed, kind, &mut found);
    found.sort();
    found
}

fn collect(
    tree: &Tree,
    path: &mut Vec<u8>,
    changed: &[&[String]],
    kind: ElementKind,
    found: &mut ElementIdentity,
) {
    if changed.iter().any(|place| place.is_empty()) {
        return;
    }
    let before = path.len();
    match tree.without_mark() {
        Tree::Map(entries) if !entries.is_empty() => {
            for (name, value) in entries {
                path.extend(name.as_bytes());
                path.push(0);
                let inside = changed.iter().filter_map(|place| {
                    let (first, rest) = place.split_first()?;
                    (first == name).then_some(rest)
                });
                collect(value, path, &inside.collect::<Vec<_>>(), kind, found);
                path.truncate(before);
            }
        }
        // A list in the element in which we changed something is no evidence: its elements may have moved too.
        Tree::Seq(_) if !changed.is_empty() => {}
        Tree::Seq(items) if !items.is_empty() => {
            path.extend(b"*\0");
            for item in items {
                collect(item, path, &[], kind, found);
            }
            path.truncate(before);
        }
        leaf => {
            if kind == ElementKind::All || matches!(leaf, Tree::Str(_)) {
                found.push([path.as_slice(), &unordered_bytes(leaf)].concat());
            }
        }
    }
}

/// Whether elements of one list are in another order in the other, so that comparing by position is meaningless.
pub fn reordered(one: &[Tree], other: &[Tree]) -> bool {
    let of = |items: &[Tree]| -> Vec<ElementIdentity> {
        let kind = if items
            .iter()
            .all(|item| identity(item, &[], ElementKind::Text).is_empty())
        {
            ElementKind::All
        } else {
            ElementKind::Text
        };
        items.iter().map(|item| identity(item, &[], kind)).collect()
    };
    let containers = |items: &[Tree]| {
        items
            .iter()
            .all(|item| matches!(item, Tree::Map(_) | Tree::Seq(_)))
    };
    if !containers(one) || !containers(other) {
        return false;
    }
    let (one, other) = (of(one), of(other));
    let moved = |from: &[ElementIdentity], to: &[ElementIdentity]| {
        from.iter().enumerate().any(|(at, mine)| {
            !mine.is_empty()
                && to.get(at) != Some(mine)
                && to
                    .iter()
                    .enumerate()
                    .any(|(there, other)| there != at && other == mine)
        })
    };
    moved(&one, &other) || moved(&other, &one)
}

/// The places at which two values differ, relative to them; the root if only one of them exists.
pub fn changed_places(before: Option<&Tree>, after: Option<&Tree>) -> Vec<Vec<String>> {
    match (before, after) {
        (Some(before), Some(after)) => before
            .differences(after)
            .into_iter()
            .map(|(place, ..)| place)
            .collect(),
        _ => vec![Vec::new()],
    }
}

#[cfg(test)]
mod tests;
