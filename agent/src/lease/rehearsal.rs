//! One state as a plan would have changed it: its whole value and the stack of its writes, of which nothing is in force.

use super::change::outlived;
use super::undo::{self, Layer, Otherwise};
use crate::clock::BootTime;
use crate::state::{Path, Tree};

/// A state in a plan.
#[derive(Clone)]
pub(crate) struct Rehearsal {
    tree: Tree,
    layers: Vec<Layer>,
}

impl Rehearsal {
    /// As the state is: its whole value as its type writes it, and the writes in force.
    pub(super) fn new(tree: Tree, layers: Vec<Layer>) -> Self {
        Self { tree, layers }
    }

    /// The whole value.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The write whose end would take away what stands at `path`: its lease, and its path below the state.
    pub(crate) fn outlived(&self, path: &[String]) -> Option<(u64, Vec<String>)> {
        outlived(&self.layers, path)
    }

    /// Takes a write in. `whole` is what it makes of the whole value.
    pub(crate) fn write(
        &mut self,
        lease: u64,
        path: &[String],
        change: (Tree, Tree),
        deadline: BootTime,
        whole: Tree,
    ) {
        let (base, after) = change;
        self.layers.push(Layer { lease, path: path.to_vec(), after, base, deadline });
        self.tree = whole;
    }

    /// Ends a write as its lease would. The places that stay as the service made them.
    pub(crate) fn end(&mut self, lease: u64, path: &[String]) -> Vec<Path> {
        let stands = self.tree.at(path).cloned();
        let Some((_, ending)) =
            undo::take_out(&mut self.layers, lease, stands.as_ref().unwrap_or(&Tree::Null))
        else {
            return Vec::new();
        };
        let mut places = ending.conflicts;
        if ending.covered_by.is_none() {
            match stands {
                None => places.push(Vec::new()),
                Some(stands) => {
                    let merged = undo::merge(&ending.ours, &stands, &ending.target, Otherwise::Keep);
                    places.extend(merged.conflicts);
                    self.put(path, merged.tree);
                }
            }
        }
        places.into_iter().map(|place| Path([path, &place].concat())).collect()
    }

    /// Undoes what a conflict left.
    ///
    /// # Errors
    /// Another write stands there, whose lease is told.
    pub(crate) fn force(&mut self, path: &[String], left: Option<&(Tree, Tree)>) -> Result<(), u64> {
        let above = self.layers.iter().find(|layer| layer.path.iter().zip(path).all(|(a, b)| a == b));
        if let Some(above) = above {
            return Err(above.lease);
        }
        if let (Some((ours, target)), Some(stands)) = (left, self.tree.at(path)) {
            let merged = undo::merge(ours, stands, target, Otherwise::Force);
            self.put(path, merged.tree);
        }
        Ok(())
    }

    fn put(&mut self, path: &[String], value: Tree) {
        if let Ok(tree) = self.tree.clone().replaced(path, value) {
            self.tree = tree;
        }
    }
}
