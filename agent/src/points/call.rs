use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::layer::{Layer, PatchFailure};
use super::probe::Decode;
use super::slot::Slot;
use super::world::{self, of_each_thread};
use crate::clock::BootTime;
use crate::state::Tree;

/// Whether a panic ends the process before [`call`] could catch it; patches are then as dangerous as their arguments'
/// serde code.
pub(crate) const PANIC_ABORTS: bool = cfg!(panic = "abort");

/// The stack that must be left before a patch runs on a thread of the service: twice what the worst script needed at
/// call depth 8 and expression depth 16 (128 KiB, 512 KiB unoptimized).
const MIN_STACK: usize = if cfg!(debug_assertions) { 1024 * 1024 } else { 256 * 1024 };

// Whether a patch is running on this thread. Points called meanwhile run their originals.
of_each_thread! {
    static RUNNING: Cell<bool> = Cell::new(false);
}

/// An argument on its way to a patch.
pub struct Argument<'a, T>(pub &'a T);

/// An argument as a patch gets it, or why its own serde code failed.
pub struct Encoded(pub(super) Result<Tree, String>);

/// What a patch answered.
pub struct Answer(pub(super) Tree);

/// The arguments of one call, in order.
#[derive(Default)]
pub struct Arguments {
    trees: Vec<Tree>,
    error: Option<String>,
}

impl Arguments {
    /// Appends one. After the first error the rest is not looked at.
    pub fn push(&mut self, argument: Encoded) {
        match argument.0 {
            Ok(tree) => self.trees.push(tree),
            Err(error) => self.error = self.error.take().or(Some(error)),
        }
    }

    /// Appends `()` for an argument that a patch does not get.
    pub fn skip(&mut self) {
        self.trees.push(Tree::Null);
    }

    fn finish(self) -> Result<Vec<Tree>, PatchFailure> {
        match self.error {
            None => Ok(self.trees),
            Some(error) => {
                Err(PatchFailure::Shape(format!("an argument cannot be shown to the patch: {error}")))
            }
        }
    }
}

/// Asks the newest layer in force at `slot` for the result of a call.
///
/// `None` means: run the original, with the arguments as they are. That is so if no layer is in force, if a patch is
/// already running on this thread, and after any failure of the patch, a panic in the arguments' or the result's serde
/// code included.
#[cold]
#[inline(never)]
pub fn call<R>(slot: &Slot, arguments: impl FnOnce(&mut Arguments), decoder: impl Decode<R>) -> Option<R> {
    let now = world::now();
    let layer = slot.in_force(now)?;
    run(&layer, now, |began| {
        let mut given = Arguments::default();
        arguments(&mut given);
        match layer.code().call(layer.lease(), began, given.finish()?) {
            Ok(answer) => decoder.value(Answer(answer)),
            Err(PatchFailure::Fault(error)) => decoder.error(Answer(error)).inspect(|_| layer.count_error()),
            Err(failure) => return Err(failure),
        }
        .map_err(PatchFailure::Shape)
    })
}

/// Makes one attempt at an answer inside the fence, which is told when it began, and books it on the layer. `None` means: run the
/// original.
pub(crate) fn run<R>(
    layer: &Layer,
    now: BootTime,
    attempt: impl FnOnce(BootTime) -> Result<R, PatchFailure>,
) -> Option<R> {
    let _running = Running::enter()?;
    let (outcome, took) = match world::remaining_stack() {
        Some(left) if MIN_STACK <= left => {
            let place = layer.begins();
            // What the note took is no time of the patch.
            let began = world::now();
            let outcome = fence(|| attempt(began)).unwrap_or(Err(PatchFailure::Panicked));
            let took = world::now().since(began);
            if let Some(place) = place {
                layer.ends(place);
            }
            (outcome, took)
        }
        _ => (Err(PatchFailure::Stack), Duration::ZERO),
    };
    fence(|| layer.book(now, took, outcome.as_ref().err()));
    outcome.ok()
}

/// Runs `inside` and survives its panic.
fn fence<R>(inside: impl FnOnce() -> R) -> Option<R> {
    // Unwind safety: what `inside` may leave half done is dropped with it; layers and slots hold atomics only.
    match catch_unwind(AssertUnwindSafe(inside)) {
        Ok(value) => Some(value),
        Err(payload) => {
            // The payload is the service's own value: dropping it may panic again. Then it is leaked.
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(again);
            }
            None
        }
    }
}

/// Held while a patch runs on this thread.
struct Running;

impl Running {
    /// `None` if a patch is running on this thread already, or the thread is ending.
    fn enter() -> Option<Self> {
        let already = RUNNING.try_with(|running| running.replace(true)).unwrap_or(true);
        (!already).then_some(Self)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A thread that is ending has no flag to clear.
        let _ = RUNNING.try_with(|running| running.set(false));
    }
}
