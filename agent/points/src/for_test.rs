//! Patches and observers for tests.

#![allow(clippy::unwrap_used, reason = "only tests call it")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::{Layer, Observer, PatchCode, PatchFailure, Slot, Tripped};
use debug_base::{BootTime, Tree};

type Answering = dyn Fn(Vec<Tree>) -> Result<Tree, PatchFailure> + Send + Sync;

/// A patch written in Rust.
pub struct Fake {
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

/// A patch that answers with the result of `answer`.
pub fn fake(
    answer: impl Fn(Vec<Tree>) -> Result<Tree, PatchFailure> + Send + Sync + 'static,
) -> Arc<dyn PatchCode> {
    Arc::new(Fake {
        answer: Box::new(answer),
        mentions_body: false,
    })
}

/// The same, of a patch that mentions the body of a request.
pub fn fake_with_body(
    answer: impl Fn(Vec<Tree>) -> Result<Tree, PatchFailure> + Send + Sync + 'static,
) -> Arc<dyn PatchCode> {
    Arc::new(Fake {
        answer: Box::new(answer),
        mentions_body: true,
    })
}

/// Events that an observer received, in words.
#[derive(Default)]
pub struct Heard(Mutex<Vec<String>>);

impl Heard {
    /// The events so far.
    pub fn lines(&self) -> Vec<String> {
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

/// A deadline in one minute.
pub fn in_a_minute() -> BootTime {
    BootTime::now().after(Duration::from_secs(60))
}

/// Puts a patch with a deadline in one minute on a slot.
pub fn patch(slot: &Slot, lease: u64, code: Arc<dyn PatchCode>) -> Arc<Heard> {
    let heard = Arc::new(Heard::default());
    slot.push(Arc::new(Layer::new(lease, in_a_minute(), code, heard.clone())))
        .unwrap();
    heard
}
