//! Made-up patches for this package's tests of the macro, which must be outside the crate: inside it the registration
//! would count as code of its own under `forbid(unsafe_code)`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::values::{decode, encode};
use super::{Layer, Observer, PatchCode, PatchFailure, Point, Registry, Tripped};
use crate::clock::BootTime;
use crate::state::Tree;

type Answering = dyn Fn(Vec<Value>) -> Result<Value, String> + Send + Sync;

/// A patch in force until dropped.
pub struct Patched {
    point: Point,
    lease: u64,
    heard: Arc<Heard>,
}

impl Patched {
    /// What the observer heard, in words.
    pub fn heard(&self) -> Vec<String> {
        self.heard.0.lock().map(|lines| lines.clone()).unwrap_or_default()
    }
}

impl Drop for Patched {
    fn drop(&mut self) {
        self.point.end(self.lease);
    }
}

/// Puts `answer` on the function called `name`; an error of it is a throw.
///
/// # Errors
/// As `patch` would be refused.
pub fn patch(
    name: &str,
    answer: impl Fn(Vec<Value>) -> Result<Value, String> + Send + Sync + 'static,
) -> Result<Patched, String> {
    let (point, heard) = (point(name)?, Arc::new(Heard::default()));
    let deadline = BootTime::now().after(Duration::from_secs(60));
    let layer = Layer::new(1, deadline, Arc::new(Fake(Box::new(answer))), heard.clone());
    point.push(Arc::new(layer)).map_err(|refusal| refusal.to_string())?;
    Ok(Patched { point, lease: 1, heard })
}

/// The arguments of the function called `name`, and which of them a patch gets.
///
/// # Errors
/// No point has that name.
pub fn arguments(name: &str) -> Result<Vec<(&'static str, bool)>, String> {
    Ok(point(name)?.arguments().into_iter().map(|argument| (argument.name, argument.given)).collect())
}

/// File and line of the function called `name`.
///
/// # Errors
/// No point has that name.
pub fn place(name: &str) -> Result<Option<(&'static str, u32)>, String> {
    Ok(point(name)?.place())
}

fn point(name: &str) -> Result<Point, String> {
    let registry = Registry::new(Vec::new()).map_err(|duplicate| duplicate.to_string())?;
    registry.find(name).ok_or_else(|| format!("no point is called `{name}`"))
}

struct Fake(Box<Answering>);

impl PatchCode for Fake {
    fn call(&self, _lease: u64, arguments: Vec<Tree>) -> Result<Tree, PatchFailure> {
        let arguments =
            arguments.into_iter().map(decode).collect::<Result<_, _>>().map_err(PatchFailure::Shape)?;
        let answer = (self.0)(arguments).map_err(PatchFailure::Threw)?;
        encode(&answer).map_err(PatchFailure::Shape)
    }

    fn mentions_body(&self) -> bool {
        false
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Heard {
    fn note(&self, line: String) {
        if let Ok(mut lines) = self.0.lock() {
            lines.push(line);
        }
    }
}

impl Observer for Heard {
    fn ran(&self, _lease: u64, _took: Duration) {
        self.note("ran".to_owned());
    }

    fn failed(&self, _lease: u64, failure: &PatchFailure) {
        self.note(format!("failed: {failure}"));
    }

    fn tripped(&self, _lease: u64, why: Tripped) {
        self.note(format!("tripped: {why}"));
    }
}
