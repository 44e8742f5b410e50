//! The places for unfinished handshakes and open sessions, counted and displaced.
//!
//! It lives on `debug-net`, so nothing here is shared between threads. No borrow may last across an await, or across a
//! call into the agent that could re-enter this module.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::bounds::Bounds;
use super::closed::Closed;
use super::outbox::Outbox;
use super::refused::Refused;
use super::tls::Tls;
use super::{Client, Dispatch};
use debug_base::{Panicked, fenced};
use debug_certs::Operator;

/// The state that all connections share.
pub(crate) struct Hub<D: Dispatch> {
    pub(crate) dispatch: Arc<D>,
    pub(crate) tls: Tls,
    pub(crate) bounds: Bounds,
    /// Turns true when the agent stops.
    pub(crate) stopping: watch::Receiver<bool>,
    next: Cell<u64>,
    /// Oldest first.
    handshakes: RefCell<VecDeque<Handshake>>,
    sessions: RefCell<Vec<Seat<D::Session>>>,
}

/// An unfinished handshake. Dropping it displaces it.
struct Handshake {
    number: u64,
    /// Whether its client has sent anything.
    begun: bool,
    _displace: oneshot::Sender<()>,
}

/// An open session's place. Dropping it displaces the session.
struct Seat<S> {
    number: u64,
    operator: String,
    session: Arc<S>,
    activity: Rc<Activity>,
    _displace: oneshot::Sender<()>,
}

/// When a session's client last sent something.
pub(crate) struct Activity {
    /// When any bytes arrived, even a part of a message.
    pub(crate) heard: Cell<Instant>,
    /// When a call other than `ping` arrived.
    pub(crate) called: Cell<Instant>,
}

/// A place among the unfinished handshakes; dropping it frees the place.
pub(crate) struct HandshakeSlot<D: Dispatch> {
    hub: Rc<Hub<D>>,
    number: u64,
    displaced: oneshot::Receiver<()>,
}

/// An open session. Dropping it reports the end to the rest of the agent.
pub(crate) struct OpenSession<D: Dispatch> {
    hub: Rc<Hub<D>>,
    number: u64,
    pub(crate) session: Arc<D::Session>,
    pub(crate) outbox: Outbox,
    pub(crate) activity: Rc<Activity>,
    displaced: oneshot::Receiver<()>,
    why: Closed,
}

impl<D: Dispatch> Hub<D> {
    pub(crate) fn new(dispatch: Arc<D>, tls: Tls, bounds: Bounds, stopping: watch::Receiver<bool>) -> Self {
        let (handshakes, sessions) = (RefCell::default(), RefCell::default());
        Self {
            dispatch,
            tls,
            bounds,
            stopping,
            next: Cell::new(0),
            handshakes,
            sessions,
        }
    }

    /// Takes a place for a handshake. If there is none, it displaces the oldest silent handshake, or else the oldest:
    /// it costs an attacker next to nothing to connect and stay silent.
    pub(crate) fn begin_handshake(self: &Rc<Self>) -> HandshakeSlot<D> {
        let (number, (displace, displaced)) = (self.number(), oneshot::channel());
        let mut handshakes = self.handshakes.borrow_mut();
        while handshakes.len() >= self.bounds.handshakes {
            let silent = handshakes.iter().position(|handshake| !handshake.begun);
            handshakes.remove(silent.unwrap_or_default());
        }
        handshakes.push_back(Handshake {
            number,
            begun: false,
            _displace: displace,
        });
        HandshakeSlot {
            hub: Rc::clone(self),
            number,
            displaced,
        }
    }

    /// Opens a session for an authenticated client.
    ///
    /// # Errors
    /// All places are taken by sessions that are in use.
    pub(crate) fn open(self: &Rc<Self>, client: Client) -> Result<OpenSession<D>, Refused> {
        self.make_room(&client.operator)?;
        let operator = client.operator.to_string();
        let outbox = Outbox::new(self.bounds.outgoing);
        let (session, ready) = self.dispatch.open(client, outbox.clone());
        // The message fits: the queue is empty. If the session is closed already, it needs no greeting.
        let _ = outbox.send(super::codec::ready(&ready));

        let (number, (displace, displaced)) = (self.number(), oneshot::channel());
        let activity = Rc::new(Activity {
            heard: Cell::new(Instant::now()),
            called: Cell::new(Instant::now()),
        });
        let (kept, seen) = (Arc::clone(&session), Rc::clone(&activity));
        let place = Seat {
            number,
            operator,
            session: kept,
            activity: seen,
            _displace: displace,
        };
        self.sessions.borrow_mut().push(place);
        let why = Closed::Lost("the agent failed while serving it".to_owned());
        Ok(OpenSession {
            hub: Rc::clone(self),
            number,
            session,
            outbox,
            activity,
            displaced,
            why,
        })
    }

    fn make_room(&self, operator: &Operator) -> Result<(), Refused> {
        let (
            id,
            Bounds {
                per_operator,
                sessions,
                ..
            },
        ) = (&operator.to_string(), self.bounds);
        let own = self
            .sessions
            .borrow()
            .iter()
            .filter(|p| p.operator == *id)
            .count();
        if own >= per_operator && !self.displace(|p| p.operator == *id) {
            return Err(Refused::OperatorFull {
                operator: id.clone(),
                limit: per_operator,
            });
        }
        if self.sessions.borrow().len() >= sessions && !self.displace(|_| true) {
            return Err(Refused::AgentFull {
                operator: id.clone(),
                limit: sessions,
            });
        }
        Ok(())
    }

    /// Displaces the session idle for longest `among` those that may be displaced; false if there is none.
    fn displace(&self, among: impl Fn(&Seat<D::Session>) -> bool) -> bool {
        let mut sessions = self.sessions.borrow_mut();
        let free = |p: &Seat<D::Session>| among(p) && self.dispatch.displaceable(&p.session);
        let idlest = sessions
            .iter()
            .filter(|p| free(p))
            .min_by_key(|p| p.activity.called.get())
            .map(|p| p.number);
        sessions.retain(|p| Some(p.number) != idlest);
        idlest.is_some()
    }

    fn number(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }
}

impl<D: Dispatch> HandshakeSlot<D> {
    /// The callback for the first bytes of the handshake.
    pub(crate) fn beginning(&self) -> impl FnOnce() + use<D> {
        let (hub, number) = (Rc::clone(&self.hub), self.number);
        move || {
            let mut handshakes = hub.handshakes.borrow_mut();
            if let Some(handshake) = handshakes.iter_mut().find(|handshake| handshake.number == number) {
                handshake.begun = true;
            }
        }
    }

    /// Waits until another handshake takes this place.
    pub(crate) async fn displaced(&mut self) {
        let _ = (&mut self.displaced).await;
    }
}

impl<D: Dispatch> Drop for HandshakeSlot<D> {
    fn drop(&mut self) {
        self.hub
            .handshakes
            .borrow_mut()
            .retain(|handshake| handshake.number != self.number);
    }
}

impl<D: Dispatch> OpenSession<D> {
    /// Waits until another session takes this place.
    pub(crate) async fn displaced(displaced: &mut oneshot::Receiver<()>) {
        let _ = displaced.await;
    }

    /// The receiver that [`Self::displaced`] waits for.
    pub(crate) fn displacement(&mut self) -> oneshot::Receiver<()> {
        std::mem::replace(&mut self.displaced, oneshot::channel().1)
    }

    /// Frees the place and reports why to the rest of the agent.
    pub(crate) fn end(mut self, why: Closed) {
        self.why = why;
    }
}

impl<D: Dispatch> Drop for OpenSession<D> {
    fn drop(&mut self) {
        self.hub.sessions.borrow_mut().retain(|p| p.number != self.number);
        self.outbox.finish(self.why.clone(), None);
        // A panic may be unwinding, and a second one would abort the process.
        if let Err(Panicked) = fenced(|| self.hub.dispatch.closed(&self.session, self.why.clone())) {
            self.hub.dispatch.panicked();
        }
    }
}
