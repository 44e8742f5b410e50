//! What the variables of a run hold: bounded together, and freed.
//!
//! Rhai bounds each value and the variables of each call. That many calls in progress each have many large variables, and
//! what closures share with the variables they were taken from, it does not see.
//!
//! Such a shared value, a cell, is also never freed by counting references when a closure is put into a variable which it
//! captured: it holds itself. So each cell is noted when its variable is used, and emptied when the run is over, unless it
//! is kept.

use std::cell::RefCell;
use std::collections::HashMap;

use rhai::{Array, Dynamic, EvalAltResult, EvalContext, FnPtr, Map, Scope};

use super::library::terminated;
use super::meter::{self, End};
use super::nesting;
use crate::values;

/// How much the variables of a run may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Variables of all calls in progress. Each holds at most 10,000 items and 64 KiB of text.
    pub(crate) variables: usize,
    /// Bytes in all, looked at now and then: values grow past it by what the uses between two looks can add.
    pub(crate) bytes: usize,
    /// Bytes that may be made or copied before somebody looks what became of them.
    pub(crate) made: usize,
    /// How many bytes the process may grow by meanwhile; nothing if the run ends as soon as somebody would look.
    pub(crate) growth: Option<usize>,
}

/// The room of an eval: 256 variables, 16 MiB, as much as a session may keep. What it holds besides, on its way from one
/// function to the next, cannot be counted: so what the process grows by is looked at after each 4 MiB.
pub(crate) const EVAL: Room = Room { variables: 256, bytes: 16 << 20, made: 4 << 20, growth: Some(64 << 20) };
/// The room of a patched call: 64 variables, 256 KiB; 4 MiB of results in all.
pub(crate) const PATCH: Room = Room { variables: 64, bytes: 256 << 10, made: 4 << 20, growth: None };

/// The most cells of one run.
const MAX_CELLS: usize = 10_000;
/// Uses of a call's variables from one sum of what they hold to the next, once it had as many; before, after each doubling
/// from 4 on. Each use lets one value grow, to about 300 KiB.
const SUM_EVERY: u32 = 64;
/// Uses of any variables from one sum of what all cells hold to the next: there may be more than there are variables.
const SUM_CELLS_EVERY: u32 = 16;
/// What may be made where nobody can tell what the process grew by.
const MAX_UNSEEN: usize = 256 << 20;
/// How many bytes are summed for the price of an operation.
const BYTES_PER_OPERATION: usize = 4 << 10;

/// What is known of the run on this thread.
#[derive(Default)]
struct Memory {
    /// Nothing outside of [`freeing`].
    room: Option<Room>,
    /// By their address: while they are here nothing else can have it.
    cells: HashMap<usize, Dynamic>,
    /// What they held when they were last summed.
    in_cells: usize,
    /// Of each call in progress, the outermost first.
    calls: Vec<Held>,
    uses: u32,
    /// Made or copied since somebody looked, and in all.
    made: usize,
    made_in_all: usize,
    /// What the process held when somebody first looked.
    resident: Option<usize>,
}

/// What the variables of one call hold, as last seen.
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
    /// Notes that a variable is about to be used. False if there is no room for what it and the others hold.
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
        // An end by the meter shows at the next operation.
        meter::charge((summed / BYTES_PER_OPERATION) as u64);
        // Whether it is copied or only looked at, nobody tells.
        let has_room = self.made(values::size_at_most(value));
        let (variables, bytes) =
            self.calls.iter().fold((0, self.in_cells), |(v, b), call| (v + call.variables, b + call.bytes));
        has_room && variables <= room.variables && bytes <= room.bytes && self.cells.len() < MAX_CELLS
    }

    /// Notes that so many bytes were made or copied. False if that is more than the run may.
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

/// How many bytes of memory the process has, as `/proc/self/statm` tells (proc_pid_statm(5)).
fn resident() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size())
}

/// Notes that a run made or copied so many bytes outside of its variables.
///
/// # Errors
/// It has ended: that was more than it may.
pub(crate) fn made(bytes: usize) -> Result<(), Box<EvalAltResult>> {
    if MEMORY.with(|memory| memory.borrow_mut().made(bytes)) {
        return Ok(());
    }
    meter::end(End::Size);
    Err(terminated())
}

/// Where a cell is; nothing for what is none, or is in use by the very operation that asks.
fn address(cell: &Dynamic) -> Option<usize> {
    if !cell.is_shared() || cell.is_locked() {
        return None;
    }
    cell.read_lock::<Dynamic>().map(|inner| std::ptr::from_ref(&*inner).addr())
}

/// Runs code whose variables have so much room, and frees afterwards what its closures captured, but for what was
/// [`keep`]t. Runs nest, as those of the meter do.
pub(crate) fn freeing<T>(room: Room, code: impl FnOnce() -> T) -> T {
    /// Frees also when the code panics.
    struct Free(Memory);
    impl Drop for Free {
        fn drop(&mut self) {
            MEMORY.with(|memory| memory.replace(std::mem::take(&mut self.0))).empty();
        }
    }
    let run = Memory { room: Some(room), ..Memory::default() };
    let _free = Free(MEMORY.with(|memory| memory.replace(run)));
    code()
}

/// Looks at a variable before it is used: ends the run if it nests too deeply or if there is no room for what all hold,
/// and notes its cell for [`freeing`]. Only where closures capture can anything nest without end: `nests` says so.
///
/// # Errors
/// The run has ended.
pub(crate) fn check_variable(
    name: &str,
    nests: bool,
    context: &EvalContext<'_, '_, '_, '_, '_, '_>,
) -> Result<(), Box<EvalAltResult>> {
    let scope = context.scope();
    let Some(value) = scope.get(name) else { return Ok(()) };
    let has_room = |memory: &RefCell<Memory>| memory.borrow_mut().note(value, context.call_level(), scope);
    if (!nests || nesting::fits(value)) && MEMORY.with(has_room) {
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
    MEMORY.with(|memory| memory.borrow_mut().cells.retain(|address, _| !kept.contains_key(address)));
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
