use std::fmt;

use rhai::{EvalAltResult, Position};

use super::opaque::Opaque;
use debug_base::Unreadable;
use debug_state::Origin;

/// An unreadable value of the service in a script. It can be shown with the reason and written back to its own path. Every
/// other use is an error that names it.
#[derive(Clone)]
pub struct UnreadableLeaf {
    /// Where it came from.
    pub origin: Origin,
    /// Why it cannot be read.
    pub leaf: Unreadable,
}

impl UnreadableLeaf {
    /// What it is and why it cannot be read.
    pub fn why(&self) -> String {
        match self.origin.is_given() {
            true => format!("an argument cannot be read: {}", self.leaf.reason()),
            false => format!("{} cannot be read: {}", self.origin, self.leaf.reason()),
        }
    }
}

impl Opaque for UnreadableLeaf {
    fn refuse(&self) -> Box<EvalAltResult> {
        Box::new(EvalAltResult::ErrorRuntime(self.why().into(), Position::NONE))
    }
}

impl UnreadableLeaf {
    /// The error for every use other than showing it.
    pub fn refuse(&self) -> Box<EvalAltResult> {
        Opaque::refuse(self)
    }
}

impl fmt::Display for UnreadableLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.leaf.fmt(f)
    }
}

impl fmt::Debug for UnreadableLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.leaf.fmt(f)
    }
}
