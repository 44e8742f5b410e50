//! Three-way merge of our value, the live value and the value that should be there without us.
//!
//! Invariant: a change by the service that we did not make stays. A list element is written only if it is beyond doubt the
//! one that we changed. An absent name is `None`.

use debug_base::{Doubt, Evidence, Here, Path, Tree, alike, changed_places, insert, locate, reordered};

/// How a place is resolved that both we and the service changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Otherwise {
    /// The service's value stays; this is a conflict.
    Keep,
    /// Our change is undone anyway, if the changed place is identified beyond doubt.
    Force,
}

/// A place that kept its value although the merge should have replaced it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeptPlace {
    /// From the state's root.
    pub place: Vec<String>,
    /// Why it did.
    pub why: KeptBecause,
}

/// Reason why a place kept its value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeptBecause {
    /// The service wrote there.
    Changed,
    /// The changed element cannot be told from others, or is gone.
    Doubt(Doubt),
    /// The earlier value does not fit the rest as changed by the service.
    Unfit,
    /// Another lease's change inside would lose its place.
    Inside(u64),
    /// A layer above ended with a conflict, and its value is still there.
    Below(u64),
    /// The service moved what was changed after the conflict.
    Moved,
}

impl KeptBecause {
    /// The reason in words; paths are shown from `root`.
    pub fn words(&self, place: &[String], root: &Path) -> String {
        match self {
            Self::Changed => format!("the service itself changed `{}` meanwhile", root.join(place)),
            Self::Doubt(doubt) => doubt.words(root),
            Self::Unfit => format!(
                "what stood at `{}` before does not fit what the service itself has made of it",
                root.join(place)
            ),
            Self::Inside(lease) => {
                format!(
                    "lease {lease} inside `{}` would have no place any more",
                    root.join(place)
                )
            }
            Self::Moved => {
                format!(
                    "what was changed is at `{}` now, which the conflict does not name",
                    root.join(place)
                )
            }
            Self::Below(lease) => {
                format!(
                    "what stands at `{}` is what lease {lease} left there",
                    root.join(place)
                )
            }
        }
    }
}

/// Result of a merge, and the places that kept their value.
#[derive(Clone, Debug)]
pub(crate) struct Merged {
    pub value: Option<Tree>,
    pub left: Vec<KeptPlace>,
}

/// Undoes a change from `target` to `ours` in `live`, which the service may have changed too. Changes by the service alone
/// stay; our changes alone become as in `target`.
pub(crate) fn merge(
    ours: Option<&Tree>,
    live: Option<&Tree>,
    target: Option<&Tree>,
    otherwise: Otherwise,
    here: Here<'_>,
) -> Merged {
    let mut merging = Merging {
        otherwise,
        here,
        place: here.path.to_vec(),
        left: Vec::new(),
    };
    let value = merging.merge(ours, live, target);
    Merged {
        value,
        left: merging.left,
    }
}

struct Merging<'a> {
    otherwise: Otherwise,
    here: Here<'a>,
    place: Vec<String>,
    left: Vec<KeptPlace>,
}

impl Merging<'_> {
    fn merge(&mut self, ours: Option<&Tree>, live: Option<&Tree>, target: Option<&Tree>) -> Option<Tree> {
        if self.same(live, target) || self.same(ours, target) {
            return live.cloned();
        }
        if self.same(live, ours) {
            return match (ours, live, target) {
                // The service may have moved the elements of a list that is shown by key: they stay where it put them.
                (Some(Tree::Map(ours)), Some(Tree::Map(live)), Some(Tree::Map(target)))
                    if !ours
                        .iter()
                        .map(|(name, _)| name)
                        .eq(live.iter().map(|(name, _)| name)) =>
                {
                    Some(Tree::Map(self.maps(ours, live, target)))
                }
                _ => target.cloned(),
            };
        }
        match (ours, live, target) {
            (Some(Tree::Map(ours)), Some(Tree::Map(live)), Some(Tree::Map(target))) => {
                Some(Tree::Map(self.maps(ours, live, target)))
            }
            (Some(Tree::Seq(ours)), Some(Tree::Seq(live)), Some(Tree::Seq(target))) => {
                Some(Tree::Seq(self.lists(ours, live, target)))
            }
            _ => match self.otherwise {
                Otherwise::Force => target.cloned(),
                Otherwise::Keep => self.leave(live, KeptBecause::Changed),
            },
        }
    }

    fn leave(&mut self, live: Option<&Tree>, why: KeptBecause) -> Option<Tree> {
        self.left.push(KeptPlace {
            place: self.place.clone(),
            why,
        });
        live.cloned()
    }

    fn below<T>(&mut self, name: &str, then: impl FnOnce(&mut Self) -> T) -> T {
        self.place.push(name.to_owned());
        let result = then(self);
        self.place.pop();
        result
    }

    /// Keeps the order of the live map; restored names go where they were in `target`.
    fn maps(
        &mut self,
        ours: &[(String, Tree)],
        live: &[(String, Tree)],
        target: &[(String, Tree)],
    ) -> Vec<(String, Tree)> {
        let order: Vec<String> = target.iter().map(|(name, _)| name.clone()).collect();
        let mut merged = Vec::new();
        for (name, value) in live {
            let value = self.below(name, |here| {
                here.merge(named(ours, name), Some(value), named(target, name))
            });
            merged.extend(value.map(|value| (name.clone(), value)));
        }
        for (name, value) in target.iter().filter(|(name, _)| named(live, name).is_none()) {
            let value = self.below(name, |here| here.merge(named(ours, name), None, Some(value)));
            if let Some(value) = value {
                insert(&mut merged, name, value, &order);
            }
        }
        merged
    }

    fn lists(&mut self, ours: &[Tree], live: &[Tree], target: &[Tree]) -> Vec<Tree> {
        let all: Vec<&Tree> = ours.iter().chain(live).chain(target).collect();
        if self.here.orders.is_set(self.here.whole, &self.place, &all) {
            return sets(ours, live, target);
        }
        // Our change added, removed or moved elements: it can only be undone as a whole.
        if ours.len() != target.len() || reordered(ours, target) {
            if self.otherwise == Otherwise::Force {
                return target.to_vec();
            }
            self.leave(None, KeptBecause::Changed);
            return live.to_vec();
        }
        let mut merged = live.to_vec();
        for (from, (mine, target)) in ours.iter().zip(target).enumerate() {
            if mine.same(target) {
                continue;
            }
            match locate(
                ours,
                from,
                live,
                &changed_places(Some(target), Some(mine)),
                Evidence::All,
            ) {
                Ok((at, _)) => {
                    let value = self.below(&at.to_string(), |here| {
                        here.merge(Some(mine), live.get(at), Some(target))
                    });
                    if let (Some(value), Some(item)) = (value, merged.get_mut(at)) {
                        *item = value;
                    }
                }
                Err(doubt) => {
                    let doubt = match doubt {
                        Doubt::List {
                            path,
                            had,
                            has,
                            alike,
                        } => Doubt::List {
                            path: [self.place.clone(), path].concat(),
                            had,
                            has,
                            alike,
                        },
                        Doubt::Gone(path) => Doubt::Gone([self.place.clone(), path].concat()),
                    };
                    self.leave(None, KeptBecause::Doubt(doubt));
                }
            }
        }
        merged
    }

    fn same(&self, one: Option<&Tree>, other: Option<&Tree>) -> bool {
        alike(
            one,
            other,
            Here {
                path: &self.place,
                ..self.here
            },
        )
    }
}

/// Merges sets: removes the elements we added, restores those we removed, keeps the service's changes.
fn sets(ours: &[Tree], live: &[Tree], target: &[Tree]) -> Vec<Tree> {
    let take = |from: &mut Vec<&Tree>, item: &Tree| {
        let at = from.iter().position(|other| other.same_unordered(item));
        at.map(|at| from.remove(at)).is_some()
    };
    let mut added: Vec<&Tree> = ours.iter().collect();
    let mut removed = Vec::new();
    for item in target {
        if !take(&mut added, item) {
            removed.push(item);
        }
    }
    let (mut known, mut merged) = (ours.iter().collect(), Vec::new());
    for item in live {
        match take(&mut known, item) {
            true if take(&mut added, item) => {}
            true => merged.push(item.clone()),
            // The service added it; this may restore one that we removed.
            false => {
                take(&mut removed, item);
                merged.push(item.clone());
            }
        }
    }
    merged.extend(removed.into_iter().cloned());
    merged
}

fn named<'t>(entries: &'t [(String, Tree)], name: &str) -> Option<&'t Tree> {
    entries
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value)
}
