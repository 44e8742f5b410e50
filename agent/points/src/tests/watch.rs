use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{fake, patch};
use crate::{Facts, Slot};
use debug_base::Tree;

fn slot() -> Slot {
    Slot::new("twice", file!(), line!(), || Facts::new(&[("n", true)], None))
}

#[test]
fn calls_are_counted_while_somebody_watches() {
    let slot = slot();
    assert!(slot.count().is_none() && !slot.is_armed());
    let (one, other) = (slot.watch(), slot.watch());
    assert!(slot.is_armed());
    slot.count().unwrap().over(true);
    slot.unwatch(&other);
    assert!(slot.is_armed(), "the first still watches");
    slot.count().unwrap().over(false);
    assert_eq!((one.stats().calls, one.stats().errors), (2, 1));
    assert_eq!((other.stats().calls, other.stats().errors), (1, 1));
    slot.unwatch(&one);
    assert!(slot.count().is_none() && !slot.is_armed());
}

#[test]
fn a_call_that_panics_is_an_error_and_one_that_is_given_up_is_none() {
    let slot = slot();
    let watch = slot.watch();
    drop(slot.count());
    let panics = || {
        let _counted = slot.count();
        panic!("as the service does");
    };
    catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
    assert_eq!((watch.stats().calls, watch.stats().errors), (2, 1));
}

/// A destructor that runs during a panic may call a point too.
#[test]
fn a_call_that_ends_well_while_the_thread_panics_is_no_error() {
    struct Calls<'a>(&'a Slot);
    impl Drop for Calls<'_> {
        fn drop(&mut self) {
            drop(self.0.count());
        }
    }
    let slot = slot();
    let watch = slot.watch();
    let panics = || {
        let _calls = Calls(&slot);
        panic!("as the service does");
    };
    catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
    assert_eq!((watch.stats().calls, watch.stats().errors), (1, 0));
}

#[test]
fn the_flag_tells_of_patches_and_of_watches() {
    let slot = slot();
    let watch = slot.watch();
    patch(&slot, 1, fake(|_| Ok(Tree::I64(5))));
    slot.unwatch(&watch);
    assert!(slot.is_armed(), "it is patched");
    let watch = slot.watch();
    slot.end(1);
    assert!(slot.is_armed(), "it is watched");
    slot.unwatch(&watch);
    assert!(!slot.is_armed());
}
