//! A model of one leaf for tests, and changes without a table of leases.

use crate::Begun;

/// As if a table had this lease.
pub fn begun(lease: u64) -> Begun {
    Begun::of(lease)
}

/// History of one leaf, oldest first, kept independently of the code under test.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The value below all writes.
    pub base: i64,
    /// Writer (`None` is the service) and value.
    pub above: Vec<(Option<u64>, i64)>,
}

impl Leaf {
    /// The value now.
    pub fn live(&self) -> i64 {
        self.above.last().map_or(self.base, |(_, value)| *value)
    }

    /// The service writes a value.
    pub fn foreign(&mut self, value: i64) {
        if value == self.live() {
            return;
        }
        if matches!(self.above.last(), Some((None, _))) {
            self.above.pop();
        }
        match self.above.is_empty() {
            true => self.base = value,
            // The service restored a layer's value: indistinguishable from never having touched it.
            false if self.live() == value => {}
            false => self.above.push((None, value)),
        }
    }

    /// Ends a lease; returns whether this is a conflict.
    pub fn end(&mut self, lease: u64) -> bool {
        let Some(at) = self.above.iter().position(|(whose, _)| *whose == Some(lease)) else {
            return false;
        };
        let below = if at == 0 { self.base } else { self.above[at - 1].1 };
        let (_, ours) = self.above.remove(at);
        let Some((None, theirs)) = self.above.get(at).copied() else {
            return false;
        };
        // Consecutive writes of the service count as one; one that restores a layer's value counts as none.
        let mut at = at;
        while at > 0 && self.above[at - 1].0.is_none() {
            self.above.remove(at - 1);
            at -= 1;
        }
        match at {
            0 => self.base = self.above.remove(0).1,
            _ if self.above[at - 1].1 == theirs => drop(self.above.remove(at)),
            _ => {}
        }
        theirs != below && ours != below
    }
}
