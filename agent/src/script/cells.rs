//! What closures capture: cells that a closure shares with the variable it was taken from.
//!
//! A closure that is put into a variable which it captured holds itself, and counting references never frees it. So each
//! cell is noted when its variable is used, and emptied when the run is over, unless it is kept. Noting them also bounds
//! what they hold together: no other limit of the language sees into them.

use std::cell::RefCell;
use std::collections::HashMap;

use rhai::{Array, Dynamic, EvalAltResult, EvalContext, FnPtr, Map, Scope};

use super::library::terminated;
use super::meter::{self, End};
use super::nesting;
use crate::values;

/// The most cells of one run.
const MAX_CELLS: usize = 10_000;
/// The most that the cells of one run hold together, in bytes: 16 MiB, as much as a session may keep.
const MAX_BYTES: usize = 16 << 20;
/// Uses of captured variables from one sum of what they hold to the next. Each use lets one value grow, to about 300 KiB.
const SUM_EVERY: u32 = 16;
/// How many bytes are summed for the price of an operation.
const BYTES_PER_OPERATION: usize = 4 << 10;

/// The cells of the run on this thread, by their address: while they are here nothing else can have it.
#[derive(Default)]
struct Cells {
    cells: HashMap<usize, Dynamic>,
    uses: u32,
}

thread_local! {
    static CELLS: RefCell<Cells> = RefCell::default();
}

impl Cells {
    /// Notes a cell. False if they are too many or hold too much.
    fn note(&mut self, cell: &Dynamic) -> bool {
        let Some(address) = address(cell) else { return true };
        if self.cells.len() < MAX_CELLS {
            self.cells.entry(address).or_insert_with(|| cell.clone());
        }
        self.uses = self.uses.wrapping_add(1);
        if !self.uses.is_multiple_of(SUM_EVERY) {
            return self.cells.len() < MAX_CELLS;
        }
        let bytes: usize = self.cells.values().map(values::size).sum();
        // An end by the meter shows at the next operation.
        meter::charge((bytes / BYTES_PER_OPERATION) as u64);
        self.cells.len() < MAX_CELLS && bytes <= MAX_BYTES
    }

    fn empty(self) {
        for mut cell in self.cells.into_values() {
            if !cell.is_locked()
                && let Some(mut held) = cell.write_lock::<Dynamic>()
            {
                *held = Dynamic::UNIT;
            }
        }
    }
}

/// Where a cell is; nothing for what is none, or is in use by the very operation that asks.
fn address(cell: &Dynamic) -> Option<usize> {
    if !cell.is_shared() || cell.is_locked() {
        return None;
    }
    cell.read_lock::<Dynamic>().map(|inner| std::ptr::from_ref(&*inner).addr())
}

/// Runs code and frees afterwards what its closures captured, but for what was [`keep`]t.
pub(crate) fn freeing<T>(code: impl FnOnce() -> T) -> T {
    /// Frees also when the code panics.
    struct Free(Cells);
    impl Drop for Free {
        fn drop(&mut self) {
            CELLS.with(|cells| cells.replace(std::mem::take(&mut self.0))).empty();
        }
    }
    let _free = Free(CELLS.with(RefCell::take));
    code()
}

/// Looks at a variable before it is used: ends the run if it nests too deeply or if too much is captured, and notes its
/// cell for [`freeing`].
///
/// # Errors
/// The run has ended.
pub(crate) fn check_variable(
    name: &str,
    context: &EvalContext<'_, '_, '_, '_, '_, '_>,
) -> Result<(), Box<EvalAltResult>> {
    let Some(value) = context.scope().get(name) else { return Ok(()) };
    if nesting::fits(value) && CELLS.with(|cells| cells.borrow_mut().note(value)) {
        return Ok(());
    }
    meter::end(End::Size);
    Err(terminated())
}

/// Variables of a scope, the oldest first. (Rhai hands them out the other way round.)
fn variables<'a>(scope: &'a Scope<'static>) -> impl Iterator<Item = (&'a str, bool, &'a Dynamic)> {
    let mut variables: Vec<_> = scope.iter_raw().collect();
    variables.reverse();
    variables.into_iter()
}

/// The variables of `scope` that `wanted` says, by their place; they go on sharing what they share.
pub(crate) fn select(scope: &Scope<'static>, wanted: impl Fn(usize) -> bool) -> Scope<'static> {
    let mut selected = Scope::new();
    for (_, (name, constant, value)) in variables(scope).enumerate().filter(|(place, _)| wanted(*place)) {
        push(&mut selected, name, constant, value.clone());
    }
    selected
}

/// A copy of variables that shares no cell with them; what shares one among them does so among the copies. What they hold
/// must nest as [`nesting::fits`] demands, which rules out that one holds itself.
pub(crate) fn copy(scope: &Scope<'static>) -> Scope<'static> {
    let mut copies = HashMap::new();
    let mut copied = Scope::new();
    for (name, constant, value) in variables(scope) {
        push(&mut copied, name, constant, copy_value(value, &mut copies));
    }
    copied
}

fn push(scope: &mut Scope<'static>, name: &str, constant: bool, value: Dynamic) {
    if constant {
        scope.push_constant_dynamic(name.to_owned(), value);
    } else {
        scope.push_dynamic(name.to_owned(), value);
    }
}

fn copy_value(value: &Dynamic, copies: &mut HashMap<usize, Dynamic>) -> Dynamic {
    if let Some(address) = address(value) {
        if let Some(copied) = copies.get(&address) {
            return copied.clone();
        }
        let inner = value.read_lock::<Dynamic>().map(|inner| copy_value(&inner, copies)).unwrap_or_default();
        let copied = inner.into_shared();
        copies.insert(address, copied.clone());
        return copied;
    }
    let mut copied = value.clone();
    if let Some(mut function) = copied.write_lock::<FnPtr>() {
        function.iter_curry_mut().for_each(|captured| *captured = copy_value(captured, copies));
    } else if let Some(mut items) = copied.write_lock::<Array>() {
        items.iter_mut().for_each(|item| *item = copy_value(item, copies));
    } else if let Some(mut entries) = copied.write_lock::<Map>() {
        entries.values_mut().for_each(|value| *value = copy_value(value, copies));
    }
    copied
}

/// Keeps the cells that variables hold when the run is over: they are not emptied.
pub(crate) fn keep(scope: &Scope<'static>) {
    let kept = reached(scope);
    CELLS.with(|cells| cells.borrow_mut().cells.retain(|address, _| !kept.contains_key(address)));
}

/// About how many bytes variables take, with all that their closures captured.
pub(crate) fn size(scope: &Scope<'static>) -> usize {
    let own = scope.iter_raw().filter(|(_, _, value)| !value.is_shared());
    let own: usize = own.map(|(name, _, value)| name.len() + values::size(value)).sum();
    own + reached(scope).values().map(values::size).sum::<usize>()
}

/// All cells that variables hold.
fn reached(scope: &Scope<'static>) -> HashMap<usize, Dynamic> {
    let mut found = HashMap::new();
    for (_, _, value) in scope.iter_raw() {
        reach(value, &mut found);
    }
    found
}

fn reach(value: &Dynamic, found: &mut HashMap<usize, Dynamic>) {
    if let Some(address) = address(value)
        && found.insert(address, value.clone()).is_some()
    {
        return;
    }
    if let Some(function) = value.read_lock::<FnPtr>() {
        function.iter_curry().for_each(|captured| reach(captured, found));
    } else if let Some(items) = value.read_lock::<Array>() {
        items.iter().for_each(|item| reach(item, found));
    } else if let Some(entries) = value.read_lock::<Map>() {
        entries.values().for_each(|value| reach(value, found));
    }
}
