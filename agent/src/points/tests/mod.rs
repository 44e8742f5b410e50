//! The call path with fake patches.

mod breaker;
mod call;
mod errs;
mod registry;
mod watch;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Layer, Observer, PatchCode, PatchFailure, Slot, Tripped};
use debug_base::{BootTime, Tree};

type Answering = dyn Fn(Vec<Tree>) -> Result<Tree, PatchFailure> + Send + Sync;

/// A patch written in Rust.
pub(crate) struct Fake {
    answer: Box<Answering>,
    mentions_body: bool,
}

impl PatchCode for Fake {
    fn call(&self, _lease: u64, _now: BootTime, arguments: Vec<Tree>) -> Result<Tree, PatchFailure> {
        (self.answer)(arguments)
    }

    fn mentions_body(&self) -> bool {
        self.mentions_body
    }
}

pub(crate) fn fake(
    answer: impl Fn(Vec<Tree>) -> Result<Tree, PatchFailure> + Send + Sync + 'static,
) -> Arc<dyn PatchCode> {
    Arc::new(Fake { answer: Box::new(answer), mentions_body: false })
}

pub(crate) fn fake_with_body(
    answer: impl Fn(Vec<Tree>) -> Result<Tree, PatchFailure> + Send + Sync + 'static,
) -> Arc<dyn PatchCode> {
    Arc::new(Fake { answer: Box::new(answer), mentions_body: true })
}

/// Events that an observer received, in words.
#[derive(Default)]
pub(crate) struct Heard(Mutex<Vec<String>>);

impl Heard {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Observer for Heard {
    fn called(&self, _now: BootTime) {}

    fn ran(&self, lease: u64, _took: Duration) {
        self.0.lock().unwrap().push(format!("{lease} ran"));
    }

    fn failed(&self, lease: u64, _call: u64, failure: &PatchFailure) {
        self.0.lock().unwrap().push(format!("{lease} failed: {failure}"));
    }

    fn tripped(&self, lease: u64, why: Tripped) {
        self.0.lock().unwrap().push(format!("{lease} tripped: {why}"));
    }
}

pub(crate) fn in_a_minute() -> BootTime {
    BootTime::now().after(Duration::from_secs(60))
}

/// Puts a patch with a deadline in one minute on a slot.
pub(crate) fn patch(slot: &Slot, lease: u64, code: Arc<dyn PatchCode>) -> Arc<Heard> {
    let heard = Arc::new(Heard::default());
    slot.push(Arc::new(Layer::new(lease, in_a_minute(), code, heard.clone()))).unwrap();
    heard
}
