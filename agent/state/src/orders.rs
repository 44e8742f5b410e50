//! What a type keeps of the order of a list, found by trying it on copies.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cell::Cell;
use crate::writable::Writable;
use debug_base::{Limits, Orders, Tree, fenced, to_tree};

impl<C: Cell> Orders for Writable<C>
where
    C::Value: Serialize + DeserializeOwned + PartialEq,
{
    /// A list is a set if two values that differ only in its order are equal and the type does not keep the given order.
    /// (`PartialEq` may ignore what serde writes.)
    fn is_set(&self, whole: &Tree, path: &[String], items: &[&Tree]) -> bool {
        /// A hash set of two elements keeps the given order by chance half of the time.
        const TRIALS: usize = 20;
        let made = |items: &[Tree]| {
            let tree = whole
                .clone()
                .with(path, Some(Tree::Seq(items.to_vec())), &[])
                .ok()?;
            self.value.value_of(tree).ok()?.ok()
        };
        let written = |made: &C::Value| match fenced(|| to_tree(made, &Limits::COPY)) {
            Ok(Ok(raw)) => self.value.keys.by_key(&raw).at(path).cloned(),
            _ => None,
        };
        let items = distinct(items.iter().copied());
        if items.len() < 2 {
            return false;
        }
        // As the type writes them: two elements that it reads as equal count as one.
        let stored = made(&items).and_then(|made| written(made.get()));
        let Some(Tree::Seq(stored)) = stored else {
            return false;
        };
        let distinct = distinct(stored.iter());
        if distinct.len() < 2 {
            return false;
        }
        let backwards: Vec<Tree> = distinct.iter().rev().cloned().collect();
        let (Some(one), Some(other)) = (made(&distinct), made(&backwards)) else {
            return false;
        };
        if !fenced(|| one.get() == other.get()).unwrap_or(false) {
            return false;
        }
        let keeps = |items: &[Tree]| {
            let written = made(items).and_then(|made| written(made.get()));
            written.is_none_or(|written| written.same(&Tree::Seq(items.to_vec())))
        };
        (0..TRIALS).any(|trial| !keeps(if trial % 2 == 0 { &distinct } else { &backwards }))
    }

    fn is_by_key(&self, path: &[String]) -> bool {
        self.value.keys.is_list(path)
    }

    fn in_order(&self, edited: Tree, live: &Tree) -> Tree {
        self.value.keys.in_order(edited, live)
    }

    fn is_timed(&self) -> bool {
        C::TIMED
    }
}

/// The items without duplicates.
fn distinct<'t>(items: impl Iterator<Item = &'t Tree>) -> Vec<Tree> {
    let mut distinct: Vec<Tree> = Vec::new();
    for item in items {
        if !distinct.iter().any(|known| known.same_unordered(item)) {
            distinct.push(item.clone());
        }
    }
    distinct
}
