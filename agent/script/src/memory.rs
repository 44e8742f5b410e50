//! Bounds the memory of all variables of a run together, and frees it.
//!
//! Rhai bounds each value, and the number of variables of each call. It does not see that many calls in progress may each
//! have many large variables, nor what closures share with the variables they captured.
//!
//! Such a shared value, a cell, holds itself if a closure is stored in a variable that it captured. Reference counting then
//! never frees it. So each cell is recorded when its variable is used, and emptied at the end of the run unless it is kept.

use std::cell::RefCell;
use std::collections::HashMap;

use rhai::{Array, Dynamic, EvalContext, FnPtr, Map, Scope};

use super::meter::terminated;
use super::meter::{self, End};
use super::nesting;
use crate::ScriptResult;
use crate::values;

/// Memory bounds of a run.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Number of variables of all calls in progress. Each holds at most 10,000 items and 64 KiB of text.
    pub variables: usize,
    /// Total bytes in variables. Checked at intervals: values may exceed it by what the uses between two checks can add.
    pub bytes: usize,
    /// Bytes that may be created or copied between two checks of the process's memory.
    pub made: usize,
    /// Limit on the growth of the process in bytes. If `None`, the run ends instead of the first check.
    pub growth: Option<usize>,
}

/// Bounds of an eval: 256 variables and 16 MiB, as much as a session may keep. Temporary values between functions cannot be
/// counted, so the growth of the process is checked after each 4 MiB.
pub const EVAL: Room = Room {
    variables: 256,
    bytes: 16 << 20,
    made: 4 << 20,
    growth: Some(64 << 20),
};
/// Bounds of a patched call: 64 variables, 256 KiB, and 4 MiB of results in total.
pub const PATCH: Room = Room {
    variables: 64,
    bytes: 256 << 10,
    made: 4 << 20,
    growth: None,
};

/// Maximum number of cells in one run.
const MAX_CELLS: usize = 10_000;
/// The sizes of a call's variables are added up after 4 uses of them, after each power of two up to this number, and then each time
/// after this number of uses. Each use can grow one value, to about 300 KiB.
const SUM_EVERY: u32 = 64;
/// Number of uses of any variables between two sums of all cells, of which there may be more than variables.
const SUM_CELLS_EVERY: u32 = 16;
/// Limit on created bytes if the memory of the process is unknown.
const MAX_UNSEEN: usize = 256 << 20;
/// Number of bytes summed for the cost of one operation.
const BYTES_PER_OPERATION: usize = 4 << 10;

/// Memory of the run on this thread.
#[derive(Default)]
struct Memory {
    /// `None` outside of [`freeing`].
    room: Option<Room>,
    /// Cells by address. Holding them here keeps their addresses from being reused.
    cells: HashMap<usize, Dynamic>,
    /// Size of all cells at the last sum.
    in_cells: usize,
    /// Variables of each call in progress, outermost first.
    calls: Vec<Held>,
    uses: u32,
    /// Bytes created or copied since the last check, and in total.
    made: usize,
    made_in_all: usize,
    /// Memory of the process at the first check.
    resident: Option<usize>,
}

/// Variables of one call, as of the last sum.
#[derive(Clone, Copy, Default)]
struct Held {
    variables: usize,
    bytes: usize,
    uses: u32,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

impl Memory {
    /// Records the use of a variable. Returns false if the variables of the run exceed their bounds.
    fn note(&mut self, value: &Dynamic, level: usize, scope: &Scope<'_>) -> bool {
        let Some(room) = self.room else { return true };
        if let Some(address) = address(value)
            && self.cells.len() < MAX_CELLS
        {
            self.cells.entry(address).or_insert_with(|| value.clone());
        }
        self.calls.resize(level + 1, Held::default());
        self.uses = self.uses.wrapping_add(1);
        let mut summed = 0;
        if self.uses.is_multiple_of(SUM_CELLS_EVERY) && !self.cells.is_empty() {
            self.in_cells = self.cells.values().map(values::size).sum();
            summed += self.in_cells;
        }
        if let Some(call) = self.calls.last_mut() {
            call.variables = scope.len();
            call.uses = call.uses.wrapping_add(1);
            if (call.uses >= 4 && call.uses.is_power_of_two()) || call.uses.is_multiple_of(SUM_EVERY) {
                let own = scope.iter_raw().filter(|(_, _, value)| !value.is_shared());
                call.bytes = own.map(|(_, _, value)| values::size(value)).sum();
                summed += call.bytes;
            }
        }
        // If the charge ends the run, the next operation notices it.
        meter::charge((summed / BYTES_PER_OPERATION) as u64);
        // Rhai does not tell whether the value is copied or only read.
        let has_room = self.made(values::size_at_most(value));
        let (variables, bytes) = self.calls.iter().fold((0, self.in_cells), |(v, b), call| {
            (v + call.variables, b + call.bytes)
        });
        has_room && variables <= room.variables && bytes <= room.bytes && self.cells.len() < MAX_CELLS
    }

    /// Records created or copied bytes. Returns false if they exceed the bounds of the run.
    fn made(&mut self, bytes: usize) -> bool {
        let Some(room) = self.room else { return true };
        self.made = self.made.saturating_add(bytes);
        if self.made < room.made {
            return true;
        }
        let Some(growth) = room.growth else { return false };
        self.made_in_all = self.made_in_all.saturating_add(self.made);
        self.made = 0;
        match (resident(), self.resident) {
            (Some(now), Some(first)) => now.saturating_sub(first) <= growth,
            (Some(now), None) => {
                self.resident = Some(now);
                true
            }
            (None, _) => self.made_in_all <= MAX_UNSEEN,
        }
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

/// Resident memory of the process in bytes, from `/proc/self/statm` (proc_pid_statm(5)).
fn resident() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size())
}

/// Records bytes that a run created or copied outside of its variables.
///
/// # Errors
/// The run has ended because it exceeded its bounds.
pub fn made(bytes: usize) -> ScriptResult<()> {
    if MEMORY.with(|memory| memory.borrow_mut().made(bytes)) {
        return Ok(());
    }
    meter::end(End::Size);
    Err(terminated())
}

/// Address of a cell; `None` if the value is not a cell, or is in use by the current operation.
fn address(cell: &Dynamic) -> Option<usize> {
    if !cell.is_shared() || cell.is_locked() {
        return None;
    }
    cell.read_lock::<Dynamic>()
        .map(|inner| std::ptr::from_ref(&*inner).addr())
}

/// Runs code under these memory bounds. At the end, frees what its closures captured, except cells passed to [`keep`]. Runs
/// nest, like those of the meter.
pub fn freeing<T>(room: Room, code: impl FnOnce() -> T) -> T {
    /// Frees even if the code panics.
    struct Free(Memory);
    impl Drop for Free {
        fn drop(&mut self) {
            MEMORY
                .with(|memory| memory.replace(std::mem::take(&mut self.0)))
                .empty();
        }
    }
    let run = Memory {
        room: Some(room),
        ..Memory::default()
    };
    let _free = Free(MEMORY.with(|memory| memory.replace(run)));
    code()
}

/// Checks a variable before its use. Ends the run if the value nests too deeply or the variables exceed their bounds, and
/// records the variable's cell for [`freeing`]. `nests`: whether closures capture variables; only then can values nest
/// without a limit.
///
/// # Errors
/// The run has ended.
pub fn check_variable(
    name: &str,
    nests: bool,
    context: &EvalContext<'_, '_, '_, '_, '_, '_>,
) -> ScriptResult<()> {
    let scope = context.scope();
    let Some(value) = scope.get(name) else {
        return Ok(());
    };
    let has_room = |memory: &RefCell<Memory>| memory.borrow_mut().note(value, context.call_level(), scope);
    if (!nests || nesting::fits(value)) && MEMORY.with(has_room) {
        return Ok(());
    }
    meter::end(End::Size);
    Err(terminated())
}

/// Variables of a scope, oldest first. (Rhai returns them newest first.)
fn variables<'a>(scope: &'a Scope<'static>) -> impl Iterator<Item = (&'a str, bool, &'a Dynamic)> {
    let mut variables: Vec<_> = scope.iter_raw().collect();
    variables.reverse();
    variables.into_iter()
}

/// The variables of `scope` selected by `wanted`, by index; cells stay shared.
pub fn select(scope: &Scope<'static>, wanted: impl Fn(usize) -> bool) -> Scope<'static> {
    let mut selected = Scope::new();
    for (_, (name, constant, value)) in variables(scope).enumerate().filter(|(place, _)| wanted(*place)) {
        push(&mut selected, name, constant, value.clone());
    }
    selected
}

/// A deep copy of variables: cells shared among them are shared among the copies only. Their values must pass
/// [`nesting::fits`], so none contains itself.
pub fn copy(scope: &Scope<'static>) -> Scope<'static> {
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
        let inner = value
            .read_lock::<Dynamic>()
            .map(|inner| copy_value(&inner, copies))
            .unwrap_or_default();
        let copied = inner.into_shared();
        copies.insert(address, copied.clone());
        return copied;
    }
    let mut copied = value.clone();
    if let Some(mut function) = copied.write_lock::<FnPtr>() {
        function
            .iter_curry_mut()
            .for_each(|captured| *captured = copy_value(captured, copies));
    } else if let Some(mut items) = copied.write_lock::<Array>() {
        items.iter_mut().for_each(|item| *item = copy_value(item, copies));
    } else if let Some(mut entries) = copied.write_lock::<Map>() {
        entries
            .values_mut()
            .for_each(|value| *value = copy_value(value, copies));
    }
    copied
}

/// Excludes the cells of these variables from being emptied at the end of the run.
pub fn keep(scope: &Scope<'static>) {
    let kept = reached(scope);
    MEMORY.with(|memory| {
        memory
            .borrow_mut()
            .cells
            .retain(|address, _| !kept.contains_key(address))
    });
}

/// Approximate size of variables in bytes, including everything their closures captured.
pub fn size(scope: &Scope<'static>) -> usize {
    let own = scope.iter_raw().filter(|(_, _, value)| !value.is_shared());
    let own: usize = own.map(|(name, _, value)| name.len() + values::size(value)).sum();
    own + reached(scope).values().map(values::size).sum::<usize>()
}

/// All cells reachable from variables.
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
