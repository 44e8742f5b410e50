use std::time::Duration;

use super::first;
use crate::changes::guards::{Counts, GuardAnswer};
use crate::effect::GuardCode;
use crate::gate::tests::core;
use debug_base::{BootTime, Tree};
use debug_points::{PatchCode, PatchFailure};
use debug_state::{add_asked, take_asked};

/// A guard with a fixed answer, each of whose reads locks the service for 7 ms.
struct Locking(bool);

const LOCKED: Duration = Duration::from_millis(7);

impl PatchCode for Locking {
    fn call(&self, _: u64, _: BootTime, _: Vec<Tree>) -> Result<Tree, PatchFailure> {
        add_asked(LOCKED);
        Ok(Tree::Bool(self.0))
    }

    fn mentions_body(&self) -> bool {
        false
    }
}

impl GuardCode for Locking {
    fn reads_now(&self) -> Vec<String> {
        add_asked(LOCKED);
        vec!["list = 1".to_owned()]
    }
}

/// The guard is asked on a thread of its own.
#[test]
fn what_a_guard_reads_first_is_charged_to_the_eval_that_made_it() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(&folder);
    take_asked();
    let answer = first(&core, 1, &Locking(true), &Counts::of(&[]));
    assert_eq!((answer, take_asked()), (GuardAnswer::Holds, LOCKED));
    let answer = first(&core, 1, &Locking(false), &Counts::of(&[]));
    assert!(
        matches!(&answer, GuardAnswer::Broken(seen) if seen.ends_with("list = 1")),
        "{answer:?}"
    );
    // By its code, and for the words of what it saw.
    assert_eq!(take_asked(), LOCKED * 2);
}
