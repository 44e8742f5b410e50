//! One TLS connection of one operator, and what it keeps between evals.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use debug_audit::Ticket;
use debug_policy::Mode;
use debug_wire::messages::{EndedLease, FailingPatch};
use rhai::{AST, Scope};

use crate::clock::BootTime;
use crate::net::Outbox;
use crate::shapes::Shapes;

/// Who is attached, as the certificate says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Who {
    /// The SPIFFE id.
    pub(crate) spiffe: String,
    /// The last segment of it: the operator's name.
    pub(crate) name: String,
    /// From the subject's `O`.
    pub(crate) roles: Vec<String>,
}

/// One attached client.
pub(crate) struct Session {
    /// Counts up in one life of the process.
    pub(crate) id: u64,
    /// From the certificate.
    pub(crate) operator: Who,
    /// Where it comes from.
    pub(crate) peer: SocketAddr,
    /// The client's certificate, DER.
    pub(crate) certificate: Vec<u8>,
    /// The TLS exporter that evals are signed for.
    pub(crate) exporter: [u8; 32],
    /// Since when.
    pub(crate) opened: BootTime,
    /// Where replies go.
    pub(crate) outbox: Outbox,
    greeted: AtomicBool,
    attached: AtomicBool,
    detached: AtomicBool,
    state: Mutex<State>,
    workspace: Mutex<Workspace>,
    shapes: Mutex<Shapes>,
}

#[derive(Default)]
struct State {
    mode: Mode,
    reason: Option<String>,
    counter: u64,
    /// The flag is gone once it is too late to cancel.
    running: Vec<(u64, Option<Arc<AtomicBool>>)>,
    /// Why the client is gone.
    gone: Option<String>,
    /// Leases of this session that have ended, until its client asks.
    ended: VecDeque<(EndedLease, Ticket)>,
    /// Patches of this session that have failed for the first time, likewise.
    failing: VecDeque<(FailingPatch, Ticket)>,
}

/// The most ends of leases that are kept for a client that does not ask.
const MAX_ENDED: usize = 32;

/// The variables and functions that an operator has made so far. Restored if an eval fails.
#[derive(Clone)]
pub(crate) struct Workspace {
    /// Variables.
    pub(crate) scope: Scope<'static>,
    /// Functions, closures included: a variable may hold one.
    pub(crate) functions: AST,
}

impl Session {
    /// A session in the mode `observe`, from which no eval has come yet.
    pub(crate) fn new(
        id: u64,
        operator: Who,
        peer: SocketAddr,
        certificate: Vec<u8>,
        exporter: [u8; 32],
        outbox: Outbox,
    ) -> Self {
        Self {
            id,
            operator,
            peer,
            certificate,
            exporter,
            opened: BootTime::now(),
            outbox,
            greeted: AtomicBool::new(false),
            attached: AtomicBool::new(false),
            detached: AtomicBool::new(false),
            state: Mutex::new(State::default()),
            workspace: Mutex::new(Workspace { scope: Scope::new(), functions: AST::empty() }),
            shapes: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks that `hello` came; false if it had before.
    pub(crate) fn greet(&self) -> bool {
        !self.greeted.swap(true, Ordering::AcqRel)
    }

    /// Takes that back: the greeting could not be answered.
    pub(crate) fn forget_greeting(&self) {
        self.greeted.store(false, Ordering::Release);
    }

    /// Marks that its record is in the log; nothing else is answered before, as the log says who a session is.
    pub(crate) fn attach(&self) {
        self.attached.store(true, Ordering::SeqCst);
    }

    /// Whether its record is in the log.
    pub(crate) fn is_attached(&self) -> bool {
        self.attached.load(Ordering::SeqCst)
    }

    /// Why its client is gone, if its end is to be recorded now. That is so once, of a session that was recorded, when none
    /// of its evals can be recorded any more.
    pub(crate) fn detach(&self) -> Option<String> {
        let why = {
            let state = self.state();
            state.gone.clone().filter(|_| state.running.is_empty())
        };
        why.filter(|_| self.is_attached() && !self.detached.swap(true, Ordering::SeqCst))
    }

    /// The mode, and the reason it was entered with.
    pub(crate) fn mode(&self) -> (Mode, Option<String>) {
        let state = self.state();
        (state.mode, state.reason.clone())
    }

    /// Enters a mode.
    pub(crate) fn set_mode(&self, mode: Mode, reason: Option<String>) {
        let mut state = self.state();
        state.mode = mode;
        state.reason = reason;
    }

    /// The counter that the next eval must be signed with.
    pub(crate) fn next_counter(&self) -> u64 {
        self.state().counter + 1
    }

    /// Uses it up.
    pub(crate) fn count(&self) {
        self.state().counter += 1;
    }

    /// Takes note of a call that runs, so that it can be cancelled. Cancelled at once if the client is gone.
    pub(crate) fn begin(&self, call: u64) -> Arc<AtomicBool> {
        let mut state = self.state();
        let cancelled = Arc::new(AtomicBool::new(state.gone.is_some()));
        state.running.push((call, Some(cancelled.clone())));
        cancelled
    }

    /// Whether a call with that id waits or runs.
    pub(crate) fn is_running(&self, call: u64) -> bool {
        self.state().running.iter().any(|(id, _)| *id == call)
    }

    /// Calls that wait or run.
    pub(crate) fn pending(&self) -> usize {
        self.state().running.len()
    }

    /// Forgets a call that is done.
    pub(crate) fn finish(&self, call: u64) {
        self.state().running.retain(|(id, _)| *id != call);
    }

    /// From here on a call cannot be cancelled any more. False if it was before: whoever asked has been told so.
    pub(crate) fn commit(&self, call: u64) -> bool {
        let mut state = self.state();
        let found = state.running.iter_mut().find(|(id, _)| *id == call);
        let flag = found.and_then(|(_, flag)| flag.take());
        flag.is_none_or(|flag| !flag.load(Ordering::Relaxed))
    }

    /// Cancels a call; false if it neither waits nor runs, or is done but for its record.
    pub(crate) fn cancel(&self, call: u64) -> bool {
        let state = self.state();
        let found = state.running.iter().find(|(id, _)| *id == call).and_then(|(_, flag)| flag.as_ref());
        found.inspect(|flag| flag.store(true, Ordering::Relaxed)).is_some()
    }

    /// The client is gone: whatever runs or waits is cancelled.
    pub(crate) fn leave(&self, why: String) {
        let mut state = self.state();
        state.gone = Some(why);
        state
            .running
            .iter()
            .filter_map(|(_, flag)| flag.as_ref())
            .for_each(|flag| flag.store(true, Ordering::Relaxed));
    }

    /// Keeps for the client that a lease of this session has ended.
    pub(crate) fn lease_ended(&self, ended: EndedLease, recorded: Ticket) {
        // Asks for it to be on disk soon.
        recorded.is_durable();
        let mut state = self.state();
        if state.ended.len() >= MAX_ENDED {
            state.ended.pop_front();
        }
        state.ended.push_back((ended, recorded));
    }

    /// The leases that have ended since this was asked last, as far as their records are on disk.
    pub(crate) fn take_ended(&self) -> Vec<EndedLease> {
        let mut state = self.state();
        let on_disk = state.ended.iter().take_while(|(_, recorded)| recorded.is_durable()).count();
        state.ended.drain(..on_disk).map(|(ended, _)| ended).collect()
    }

    /// Keeps for the client that a patch of this session fails.
    pub(crate) fn patch_fails(&self, failing: FailingPatch, recorded: Ticket) {
        // Asks for it to be on disk soon.
        recorded.is_durable();
        let mut state = self.state();
        if state.failing.len() >= MAX_ENDED {
            state.failing.pop_front();
        }
        state.failing.push_back((failing, recorded));
    }

    /// The patches that were found to fail since this was asked last, as far as their records are on disk.
    pub(crate) fn take_failing(&self) -> Vec<FailingPatch> {
        let mut state = self.state();
        let on_disk = state.failing.iter().take_while(|(_, recorded)| recorded.is_durable()).count();
        state.failing.drain(..on_disk).map(|(failing, _)| failing).collect()
    }

    /// Whether the client is gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.state().gone.is_some()
    }

    /// The names in the maps that it was handed.
    pub(crate) fn shapes(&self) -> MutexGuard<'_, Shapes> {
        self.shapes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the operator has made so far; held while an eval runs.
    pub(crate) fn workspace(&self) -> MutexGuard<'_, Workspace> {
        self.workspace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
