//! Containers of states as values of a script. Reading one is an effect, so the eval says how.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

use crate::ScriptResult;
use debug_base::Path;
use rhai::{Array, Dynamic, Map};

/// Limits on the search for handles in a value: depth, and number of values visited.
const MAX_DEPTH: usize = 64;
const MAX_SEEN: usize = 200_000;

/// Reads the container at a path as an effect.
pub type PathReader = Arc<dyn Fn(&Path) -> ScriptResult<Dynamic>>;

thread_local! {
    /// The reader of the eval that runs on this thread. Library functions have no other way to read what a handle stands
    /// for.
    static READER: RefCell<Option<PathReader>> = const { RefCell::new(None) };
}

/// Runs the code of an eval, whose handles are read by `reader`.
pub fn with_reader<T>(reader: PathReader, code: impl FnOnce() -> T) -> T {
    /// Restores the outer eval, also on a panic.
    struct RestoreReader(Option<PathReader>);
    impl Drop for RestoreReader {
        fn drop(&mut self) {
            READER.set(self.0.take());
        }
    }
    let _restore = RestoreReader(READER.replace(Some(reader)));
    code()
}

fn reader() -> ScriptResult<PathReader> {
    READER
        .with_borrow(Clone::clone)
        .ok_or_else(|| Box::from("only an eval may do this"))
}

/// A container in a state, identified by its path. Reads through it are live.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathHandle {
    /// Path of the container.
    pub path: Path,
}

/// The path of a handle; `None` for other values.
pub fn path_of(value: &Dynamic) -> Option<Path> {
    value.read_lock::<PathHandle>().map(|handle| handle.path.clone())
}

/// Replaces each handle in a value by the value of its container, read as an effect.
pub fn whole(value: Dynamic) -> ScriptResult<Dynamic> {
    Ok(match settled(&value)? {
        Cow::Borrowed(_) => value,
        Cow::Owned(whole) => whole,
    })
}

/// As [`whole`], without copying a value that contains no handle.
pub fn settled(value: &Dynamic) -> ScriptResult<Cow<'_, Dynamic>> {
    if !holds_handle(value, 0, &mut 0) {
        return Ok(Cow::Borrowed(value));
    }
    Ok(Cow::Owned(settle(&reader()?, value, 0)?))
}

fn holds_handle(value: &Dynamic, depth: usize, seen: &mut usize) -> bool {
    *seen += 1;
    if depth > MAX_DEPTH || *seen > MAX_SEEN || value.is_locked() {
        return false;
    }
    if let Some(items) = value.read_lock::<Array>() {
        return items.iter().any(|item| holds_handle(item, depth + 1, seen));
    }
    if let Some(entries) = value.read_lock::<Map>() {
        return entries.values().any(|value| holds_handle(value, depth + 1, seen));
    }
    value.is::<PathHandle>()
}

fn settle(read: &PathReader, value: &Dynamic, depth: usize) -> ScriptResult<Dynamic> {
    if depth > MAX_DEPTH || value.is_locked() {
        return Ok(value.clone());
    }
    if let Some(path) = path_of(value) {
        return read(&path);
    }
    if let Some(items) = value.read_lock::<Array>() {
        let items = items.iter().map(|item| settle(read, item, depth + 1));
        return Ok(Dynamic::from_array(items.collect::<ScriptResult<_>>()?));
    }
    if let Some(entries) = value.read_lock::<Map>() {
        let entries = entries
            .iter()
            .map(|(key, value)| Ok((key.clone(), settle(read, value, depth + 1)?)));
        return Ok(Dynamic::from_map(entries.collect::<ScriptResult<_>>()?));
    }
    Ok(value.clone())
}
