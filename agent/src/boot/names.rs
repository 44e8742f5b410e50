//! Detects names in the author's code and in the policy that match nothing. A misspelt protection protects nothing, and
//! nothing else would report it.

use debug_policy::{NamedResource, Resource};

use super::notices::{Notices, guess};
use crate::core::Core;
use crate::recorder::notes::Note;
use debug_base::{Path, Tree, Wait, nearest};
use debug_points::Kind;
use debug_state::StateError;

/// The most unreadable leaves of one state that are named; one fault of a type often causes many.
const MAX_LEAVES: usize = 5;

/// The names that must match something.
#[derive(Debug)]
pub(crate) struct AuthorNames {
    never_write: Vec<Path>,
    never_patch: Vec<String>,
    /// From the configuration: the paths that stay visible with `redact.all`.
    visible: Vec<String>,
}

/// A state as found at start.
struct Seen {
    path: Path,
    found: Result<Tree, StateError>,
}

/// Why a name matches nothing, and the paths of states that this reveals.
struct Why {
    text: String,
    paths: Vec<Path>,
}

impl Why {
    fn note(self, text: impl FnOnce(&str) -> String) -> Note {
        let text = text(&self.text);
        Note::about(self.paths, text)
    }
}

impl AuthorNames {
    /// The names from the builder and the configuration.
    pub(crate) fn new(never_write: Vec<Path>, never_patch: Vec<String>, visible: Vec<String>) -> Self {
        Self {
            never_write,
            never_patch,
            visible,
        }
    }

    /// Checks all names, reports those that match nothing, and stays with the core for routes that may become known
    /// later.
    pub(crate) fn tell(self, core: &Core, mut notices: Notices) {
        let seen: Vec<Seen> = core
            .exposed
            .states
            .list()
            .map(|(name, _)| seen(core, name))
            .collect();
        seen.iter().for_each(|seen| unreadable(seen, &mut notices));
        for path in &self.never_write {
            if let Some(note) = never_write(core, &seen, path) {
                notices.add_note(note);
            }
        }
        for text in &self.visible {
            let Ok(path) = text.parse::<Path>() else { continue };
            if let Some(missing) = missing(&seen, &path) {
                notices.add_note(
                    missing.note(|why| {
                        format!("`visible` in the configuration: {why}; it makes nothing visible")
                    }),
                );
            }
        }
        for name in self.never_patch.iter().filter(|name| !is_route(name)) {
            if core.exposed.points.find(name).is_none() {
                let near = core
                    .exposed
                    .points
                    .nearest(name)
                    .map(|near| format!("; did you mean `{near}`?"));
                let near = near.unwrap_or_default();
                notices.add(format!(
                    "`.never_patch`: no function that is a point is called `{name}`{near}; it closes nothing"
                ));
            }
        }
        for named in core.rules.policy.named_resources() {
            if let Some(why) = unmatched(core, &seen, &named) {
                notices.add_note(in_policy(&named, why));
            }
        }
        // Routes become known with their first request, so most of these are no mistakes. Report only those that
        // resemble a known route.
        for (notice, is_near) in self.unknown_routes(core) {
            if is_near {
                notices.add_note(notice);
            }
        }
        notices.tell(core);
        drop(core.unmatched.set(Box::new(move |core| self.not_yet(core))));
    }

    /// The names of routes that are no points yet, for `info()`, without those reported at start.
    pub(crate) fn not_yet(&self, core: &Core) -> Vec<Note> {
        let routes = self.unknown_routes(core).into_iter().map(|(notice, _)| notice);
        routes
            .filter(|notice| !core.at_start().contains(notice))
            .collect()
    }

    /// The names of routes that are no points, each with whether a known route resembles it.
    fn unknown_routes(&self, core: &Core) -> Vec<(Note, bool)> {
        let mut unknown = Vec::new();
        let mut add = |name: &str, notice: &dyn Fn(Why) -> Note| {
            let near = core.exposed.points.nearest(name).filter(|near| is_route(near));
            let text = format!("matches no point yet{}", guess(near.as_deref()));
            unknown.push((
                notice(Why {
                    text,
                    paths: Vec::new(),
                }),
                near.is_some(),
            ));
        };
        for name in self.never_patch.iter().filter(|name| is_route(name)) {
            if core.exposed.points.find(name).is_none() {
                add(name, &|why| {
                    why.note(|why| format!("`.never_patch`: `{name}` {why}"))
                });
            }
        }
        let routes = core
            .rules
            .policy
            .named_resources()
            .filter(NamedResource::is_of_routes);
        for named in routes.filter(|named| !matches_point(core, named)) {
            let text = named.to_string();
            // A pattern with `*` resembles no route.
            let name = text.strip_prefix("point:").unwrap_or(&text);
            if !name.contains('*') {
                add(name, &|why| in_policy(&named, why));
            }
        }
        unknown
    }
}

fn in_policy(named: &NamedResource<'_>, why: Why) -> Note {
    why.note(|why| format!("policy, rule `{}`, `{}`: `{named}` {why}", named.rule, named.list))
        .in_rule(named.rule)
}

fn is_route(name: &str) -> bool {
    name.contains(' ')
}

fn seen(core: &Core, name: &str) -> Seen {
    let path = Path(vec![name.to_owned()]);
    let found = core.exposed.read(&path, Wait::AGENT);
    Seen { path, found }
}

/// Reports the values of a state that cannot be shown, and hence are not searched for secrets either.
fn unreadable(seen: &Seen, notices: &mut Notices) {
    let tree = match &seen.found {
        Ok(tree) => tree,
        // Reported elsewhere, or gone at the next read.
        Err(StateError::DuplicateName(_) | StateError::InsideState(_) | StateError::Busy(_)) => return,
        Err(error) if error.is_large_container() => {
            let what = format!(
                "{error}; parts of it are read by their paths, and secrets in it are known once they were read"
            );
            return notices.add_note(Note::about([seen.path.clone()], what));
        }
        Err(error) => return notices.add_note(Note::about([seen.path.clone()], error.to_string())),
    };
    let leaves = tree.leaves().filter_map(|(below, leaf)| match leaf {
        Tree::Unreadable(leaf) => Some((seen.path.join(&below.0), leaf.reason())),
        _ => None,
    });
    let leaves: Vec<_> = leaves.collect();
    for (path, reason) in leaves.iter().take(MAX_LEAVES) {
        notices.add_note(Note::about(
            [path.clone()],
            format!("`{path}` cannot be shown: {reason}"),
        ));
    }
    if let Some(more @ 1..) = leaves.len().checked_sub(MAX_LEAVES) {
        let what = format!("{more} more values of `{}` cannot be shown", seen.path);
        notices.add_note(Note::about([seen.path.clone()], what));
    }
}

/// Why a path matches nothing, if so: there is no such state, or no value at the path now.
fn missing(seen: &[Seen], path: &Path) -> Option<Why> {
    let name = path.0.first().map(String::as_str).unwrap_or_default();
    let Some(state) = seen
        .iter()
        .find(|seen| seen.path.0.first().is_some_and(|known| known == name))
    else {
        return Some(no_state(seen, name, &format!("no state is named `{name}`")));
    };
    // An unreadable value may contain it.
    let error = state.found.as_ref().ok()?.known_at(path.below()).err()?;
    let at = state.path.join(&error.path.0);
    let wanted = error.path.0.last().map(String::as_str).unwrap_or_default();
    let above = error
        .path
        .0
        .split_last()
        .map(|(_, above)| above)
        .unwrap_or_default();
    let container = state.path.join(above);
    match state.found.as_ref().ok()?.at(above)? {
        Tree::Map(entries) => {
            let near = nearest(wanted, entries.iter().map(|(name, _)| name.as_str()));
            let text = format!("nothing stands at `{at}` now{}", guess(near));
            let near = near.map(|near| container.child(near));
            Some(Why {
                text,
                paths: [container].into_iter().chain(near).collect(),
            })
        }
        Tree::Secret(_) | Tree::Unreadable(_) => None,
        _ => Some(Why {
            text: format!("nothing stands at `{at}` now"),
            paths: vec![container],
        }),
    }
}

/// There is no state of this name; adds the nearest one.
fn no_state(seen: &[Seen], name: &str, what: &str) -> Why {
    let near = nearest(
        name,
        seen.iter()
            .filter_map(|seen| seen.path.0.first())
            .map(String::as_str),
    );
    let paths = near.map(|near| Path(vec![near.to_owned()])).into_iter().collect();
    Why {
        text: format!("{what}{}", guess(near)),
        paths,
    }
}

/// Checks a path that the author closed. A path that the state's type does not know closes nothing; a path that is only
/// missing now stays closed.
fn never_write(core: &Core, seen: &[Seen], path: &Path) -> Option<Note> {
    let why = missing(seen, path)?;
    let is_known = core.exposed.states.named(path.0.first()?).is_ok();
    if is_known && core.exposed.states.may_come(path) {
        return Some(why.note(|why| format!("`.never_write`: {why}; it is closed whenever something does")));
    }
    core.exposed.states.open(path);
    Some(why.note(|why| format!("`.never_write`: `{path}`: {why}; it closes nothing")))
}

/// Why a pattern of the policy matches nothing, if that is known.
fn unmatched(core: &Core, seen: &[Seen], named: &NamedResource<'_>) -> Option<Why> {
    if named.is_of_functions() {
        let text = named.to_string();
        let name = text.strip_prefix("point:").unwrap_or(&text);
        let text = format!(
            "matches no point{}",
            guess(core.exposed.points.nearest(name).as_deref())
        );
        return (!matches_point(core, named)).then_some(Why {
            text,
            paths: Vec::new(),
        });
    }
    // A pattern that begins with `*` may match anything.
    let exact = named.state_path().filter(|exact| !exact.is_empty())?;
    let mut reached = seen.iter().filter(|seen| named.reaches(&seen.path.0)).peekable();
    if reached.peek().is_none() {
        return Some(no_state(
            seen,
            exact.first().copied().unwrap_or_default(),
            "matches no state",
        ));
    }
    if reached.any(|seen| covers_something(named, seen)) {
        return None;
    }
    let path = Path(exact.into_iter().map(str::to_owned).collect());
    Some(match missing(seen, &path) {
        Some(why) => Why {
            text: format!("matches nothing: {}", why.text),
            ..why
        },
        None => Why {
            text: "matches nothing that stands there now".to_owned(),
            paths: vec![path],
        },
    })
}

/// Whether a pattern covers a value of a state, or a value that cannot be searched.
fn covers_something(named: &NamedResource<'_>, seen: &Seen) -> bool {
    let Ok(tree) = &seen.found else { return true };
    tree.leaves().any(|(below, leaf)| {
        let path = seen.path.join(&below.0);
        let is_closed = matches!(leaf, Tree::Secret(_) | Tree::Unreadable(_) | Tree::Null);
        let mut prefixes =
            (1..=path.0.len()).map(|end| Resource::State(path.0.iter().take(end).cloned().collect()));
        (is_closed && named.reaches(&path.0)) || prefixes.any(|prefix| named.covers(&prefix))
    })
}

fn matches_point(core: &Core, named: &NamedResource<'_>) -> bool {
    let points = core.exposed.points.points();
    let mut of_kind = points
        .iter()
        .filter(|point| (point.kind == Kind::Route) == named.is_of_routes());
    of_kind.any(|point| named.covers(&Resource::Point(point.name.clone())))
}
