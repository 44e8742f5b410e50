//! One operator's TLS connection, and its state between evals.

pub(crate) mod context;
pub(crate) mod limits;
pub(crate) mod overlay;
pub(crate) mod planned;
pub(crate) mod planning;
pub(crate) mod shapes;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use debug_audit::Ticket;
use debug_policy::{Action, Mode, Request, Resource};
use debug_wire::messages::{EndedLease, FailingPatch};
use rhai::{AST, Scope};

use crate::session::shapes::Shapes;
use debug_base::BootTime;
use debug_certs::Operator;
use debug_net::Outbox;

/// One attached client.
pub(crate) struct Session {
    environment: String,
    /// Unique in the instance's log: it continues from the highest session there.
    pub(crate) id: u64,
    /// The operator.
    pub(crate) operator: Operator,
    /// The client's address.
    pub(crate) peer: SocketAddr,
    /// The client's certificate, DER.
    pub(crate) certificate: Vec<u8>,
    /// The TLS exporter that evals are signed for.
    pub(crate) exporter: [u8; 32],
    /// When it was opened.
    pub(crate) opened: BootTime,
    /// The queue of replies.
    pub(crate) outbox: Outbox,
    greeted: AtomicBool,
    attached: AtomicBool,
    detached: AtomicBool,
    state: Mutex<SessionState>,
    workspace: Mutex<Workspace>,
    shapes: Mutex<Shapes>,
}

#[derive(Default)]
struct SessionState {
    mode: Mode,
    reason: Option<String>,
    counter: u64,
    /// Calls queued or running. The flag is taken on commit, when it is too late to cancel.
    running: Vec<(u64, Option<Arc<AtomicBool>>)>,
    /// Why the client is gone, once it is.
    gone: Option<String>,
    /// Ended leases of this session that its client has not heard of.
    ended: VecDeque<(EndedLease, Ticket)>,
    /// Patches of this session with a first failure that its client has not heard of.
    failing: VecDeque<(FailingPatch, Ticket)>,
}

/// The most ended leases, and the most failing patches, kept for a client that does not ask.
const MAX_ENDED: usize = 32;

/// The operator's variables and functions. Restored if an eval fails.
#[derive(Clone)]
pub(crate) struct Workspace {
    /// The variables.
    pub(crate) scope: Scope<'static>,
    /// The functions, with the closures that variables hold.
    pub(crate) functions: AST,
}

impl Session {
    /// A session in the mode `observe`, before its first eval.
    pub(crate) fn new(
        id: u64,
        operator: Operator,
        peer: SocketAddr,
        certificate: Vec<u8>,
        exporter: [u8; 32],
        outbox: Outbox,
        environment: String,
    ) -> Self {
        Self {
            id,
            operator,
            peer,
            certificate,
            exporter,
            opened: BootTime::now(),
            outbox,
            environment,
            greeted: AtomicBool::new(false),
            attached: AtomicBool::new(false),
            detached: AtomicBool::new(false),
            state: Mutex::new(SessionState::default()),
            workspace: Mutex::new(Workspace {
                scope: Scope::new(),
                functions: AST::empty(),
            }),
            shapes: Mutex::default(),
        }
    }

    /// A request by this operator, in the session's current mode.
    pub(crate) fn request(&self, action: Action, resource: Resource) -> Request {
        let (mode, reason) = self.mode();
        Request {
            action,
            resource,
            operator: self.operator.name.clone(),
            roles: self.operator.roles.clone(),
            environment: self.environment.clone(),
            mode,
            ttl: None,
            life: None,
            reason,
        }
    }

    fn state(&self) -> MutexGuard<'_, SessionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `hello` came; false if it had come before.
    pub(crate) fn greet(&self) -> bool {
        !self.greeted.swap(true, Ordering::AcqRel)
    }

    /// Reverts [`greet`](Self::greet): `hello` could not be answered.
    pub(crate) fn forget_greeting(&self) {
        self.greeted.store(false, Ordering::Release);
    }

    /// Notes that the session's record is in the log. Other calls are answered only after that, because the log must
    /// say who a session is.
    pub(crate) fn attach(&self) {
        self.attached.store(true, Ordering::SeqCst);
    }

    /// Whether the session's record is in the log.
    pub(crate) fn is_attached(&self) -> bool {
        self.attached.load(Ordering::SeqCst)
    }

    /// The reason for the close record, if it is due now: the client is gone, the session was recorded, and no eval of
    /// it is queued or running. Returned once.
    pub(crate) fn detach(&self) -> Option<String> {
        let why = {
            let state = self.state();
            state.gone.clone().filter(|_| state.running.is_empty())
        };
        why.filter(|_| self.is_attached() && !self.detached.swap(true, Ordering::SeqCst))
    }

    /// The mode, and the reason given on entering it.
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

    /// Uses up the next counter.
    pub(crate) fn count(&self) {
        self.state().counter += 1;
    }

    /// Registers a call, so that it can be cancelled; cancelled at once if the client is gone.
    pub(crate) fn begin(&self, call: u64) -> Arc<AtomicBool> {
        let mut state = self.state();
        let cancelled = Arc::new(AtomicBool::new(state.gone.is_some()));
        state.running.push((call, Some(cancelled.clone())));
        cancelled
    }

    /// Whether a call with this id is queued or running.
    pub(crate) fn is_running(&self, call: u64) -> bool {
        self.state().running.iter().any(|(id, _)| *id == call)
    }

    /// The number of calls queued or running.
    pub(crate) fn pending(&self) -> usize {
        self.state().running.len()
    }

    /// Removes a finished call.
    pub(crate) fn finish(&self, call: u64) {
        self.state().running.retain(|(id, _)| *id != call);
    }

    /// Commits the call. Returns false if it was already cancelled.
    pub(crate) fn commit(&self, call: u64) -> bool {
        let mut state = self.state();
        let found = state.running.iter_mut().find(|(id, _)| *id == call);
        let flag = found.and_then(|(_, flag)| flag.take());
        flag.is_none_or(|flag| !flag.load(Ordering::Relaxed))
    }

    /// Cancels a call; false if it is not queued or running, or has committed.
    pub(crate) fn cancel(&self, call: u64) -> bool {
        let state = self.state();
        let found = state
            .running
            .iter()
            .find(|(id, _)| *id == call)
            .and_then(|(_, flag)| flag.as_ref());
        found
            .inspect(|flag| flag.store(true, Ordering::Relaxed))
            .is_some()
    }

    /// The client is gone: cancels all its calls.
    pub(crate) fn leave(&self, why: String) {
        let mut state = self.state();
        state.gone = Some(why);
        state
            .running
            .iter()
            .filter_map(|(_, flag)| flag.as_ref())
            .for_each(|flag| flag.store(true, Ordering::Relaxed));
    }

    /// Keeps the end of a lease of this session for the client.
    pub(crate) fn lease_ended(&self, ended: EndedLease, recorded: Ticket) {
        // Requests that the record be on disk soon.
        recorded.is_durable();
        let mut state = self.state();
        if state.ended.len() >= MAX_ENDED {
            state.ended.pop_front();
        }
        state.ended.push_back((ended, recorded));
    }

    /// Takes the ended leases that are not reported yet and have their records on disk.
    pub(crate) fn take_ended(&self) -> Vec<EndedLease> {
        let mut state = self.state();
        let on_disk = state
            .ended
            .iter()
            .take_while(|(_, recorded)| recorded.is_durable())
            .count();
        state.ended.drain(..on_disk).map(|(ended, _)| ended).collect()
    }

    /// Keeps the failure of a patch of this session for the client.
    pub(crate) fn patch_fails(&self, failing: FailingPatch, recorded: Ticket) {
        // Requests that the record be on disk soon.
        recorded.is_durable();
        let mut state = self.state();
        if state.failing.len() >= MAX_ENDED {
            state.failing.pop_front();
        }
        state.failing.push_back((failing, recorded));
    }

    /// Takes the failing patches that are not reported yet and have their records on disk.
    pub(crate) fn take_failing(&self) -> Vec<FailingPatch> {
        let mut state = self.state();
        let on_disk = state
            .failing
            .iter()
            .take_while(|(_, recorded)| recorded.is_durable())
            .count();
        state
            .failing
            .drain(..on_disk)
            .map(|(failing, _)| failing)
            .collect()
    }

    /// Whether the client is gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.state().gone.is_some()
    }

    /// The shapes of the maps that the session was handed.
    pub(crate) fn shapes(&self) -> MutexGuard<'_, Shapes> {
        self.shapes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The operator's workspace; held while an eval runs.
    pub(crate) fn workspace(&self) -> MutexGuard<'_, Workspace> {
        self.workspace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
