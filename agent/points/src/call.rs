use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::layer::{Layer, PatchFailure};
use super::probe::Decode;
use super::slot::Slot;
use super::values::{Answer, Encoded};
use super::world::{self, of_each_thread};
use debug_base::{BootTime, Tree};

/// Whether a panic aborts the process before [`call`] can catch it; a patch is then as dangerous as the serde code of its
/// arguments.
pub const PANIC_ABORTS: bool = cfg!(panic = "abort");

/// Stack that must be left before a patch runs on a service thread: twice the maximum measured for scripts at call depth 8
/// and expression depth 16 (128 KiB, 512 KiB unoptimized).
const MIN_STACK: usize = if cfg!(debug_assertions) {
    1024 * 1024
} else {
    256 * 1024
};

// Set while a patch runs on this thread. Points called in that time run their originals.
of_each_thread! {
    static RUNNING: Cell<bool> = Cell::new(false);
}

/// The arguments of one call, in order.
#[derive(Default)]
pub struct Arguments {
    trees: Vec<Tree>,
    error: Option<String>,
}

impl Arguments {
    /// Appends an argument. After an error only the first error is kept.
    pub fn push(&mut self, argument: Encoded) {
        match argument.0 {
            Ok(tree) => self.trees.push(tree),
            Err(error) => self.error = self.error.take().or(Some(error)),
        }
    }

    /// Appends `()` for an argument that is not passed to patches.
    pub fn skip(&mut self) {
        self.trees.push(Tree::Null);
    }

    fn finish(self) -> Result<Vec<Tree>, PatchFailure> {
        match self.error {
            None => Ok(self.trees),
            Some(error) => Err(PatchFailure::Shape(format!(
                "an argument cannot be shown to the patch: {error}"
            ))),
        }
    }
}

/// Asks the newest layer in force at `slot` for the result of a call.
///
/// `None` means: run the original with the unchanged arguments. Returned if no layer is in force, if a patch is already
/// running on this thread, and after any failure of the patch, including a panic in the serde code of the arguments or the
/// result.
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

/// Runs one attempt at an answer behind the fence, passes it the time at which it began, and records it on the layer. `None`
/// means: run the original.
pub fn run<R>(
    layer: &Layer,
    now: BootTime,
    attempt: impl FnOnce(BootTime) -> Result<R, PatchFailure>,
) -> Option<R> {
    let _running = RunningPatch::enter()?;
    let (outcome, took) = match world::remaining_stack() {
        Some(left) if MIN_STACK <= left => {
            let place = layer.begins();
            // The time for the note does not count as time of the patch.
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

/// Runs `inside` and catches its panic.
fn fence<R>(inside: impl FnOnce() -> R) -> Option<R> {
    // Unwind safety: state left inconsistent by `inside` is dropped with it; layers and slots contain only atomics.
    match catch_unwind(AssertUnwindSafe(inside)) {
        Ok(value) => Some(value),
        Err(payload) => {
            // The payload is a value of the service, and dropping it may panic again. The second payload is leaked.
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(again);
            }
            None
        }
    }
}

/// Exists while a patch runs on this thread.
struct RunningPatch;

impl RunningPatch {
    /// `None` if a patch is already running on this thread, or the thread is ending.
    fn enter() -> Option<Self> {
        let already = RUNNING.try_with(|running| running.replace(true)).unwrap_or(true);
        (!already).then_some(Self)
    }
}

impl Drop for RunningPatch {
    fn drop(&mut self) {
        // The flag of an ending thread no longer exists.
        let _ = RUNNING.try_with(|running| running.set(false));
    }
}
