//! Who holds which place: unfinished handshakes and open sessions, counted and displaced.
//!
//! Lives on `debug-net` alone, so nothing here is shared between threads; no borrow lasts across an await or a call
//! into the agent that could come back here.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::bounds::Bounds;
use super::identity::Operator;
use super::outbox::Outbox;
use super::refused::Refused;
use super::session::Closed;
use super::tls::Tls;
use super::{Client, Dispatch};
use crate::fence::{Panicked, fenced};

/// What all connections share.
pub(super) struct Hub<D: Dispatch> {
    pub(super) dispatch: Arc<D>,
    pub(super) tls: Tls,
    pub(super) bounds: Bounds,
    /// Turns true when the agent stops.
    pub(super) stopping: watch::Receiver<bool>,
    next: Cell<u64>,
    /// The oldest first.
    handshakes: RefCell<VecDeque<Handshake>>,
    sessions: RefCell<Vec<Place<D::Session>>>,
}

/// An unfinished handshake. Dropping it displaces it.
struct Handshake {
    number: u64,
    /// Whether its client has said anything.
    begun: bool,
    _displace: oneshot::Sender<()>,
}

/// An open session's place. Dropping it displaces the session.
struct Place<S> {
    number: u64,
    operator: String,
    session: Arc<S>,
    activity: Rc<Activity>,
    _displace: oneshot::Sender<()>,
}

/// When a session was last heard of.
pub(super) struct Activity {
    /// When anything came, if only a part of a message.
    pub(super) heard: Cell<Instant>,
    /// When a call other than `ping` came.
    pub(super) called: Cell<Instant>,
}

/// A place among the unfinished handshakes; given up when dropped.
pub(super) struct Turn<D: Dispatch> {
    hub: Rc<Hub<D>>,
    number: u64,
    displaced: oneshot::Receiver<()>,
}

/// An open session; when it is dropped the rest of the agent is told, however it came about.
pub(super) struct Open<D: Dispatch> {
    hub: Rc<Hub<D>>,
    number: u64,
    pub(super) session: Arc<D::Session>,
    pub(super) outbox: Outbox,
    pub(super) activity: Rc<Activity>,
    displaced: oneshot::Receiver<()>,
    why: Closed,
}

impl<D: Dispatch> Hub<D> {
    pub(super) fn new(dispatch: Arc<D>, tls: Tls, bounds: Bounds, stopping: watch::Receiver<bool>) -> Self {
        let (handshakes, sessions) = (RefCell::default(), RefCell::default());
        Self { dispatch, tls, bounds, stopping, next: Cell::new(0), handshakes, sessions }
    }

    /// A place for a handshake; if there is none, the oldest unfinished one loses its, and first of all one whose client
    /// has said nothing yet: connecting costs whoever wants to keep others out next to nothing.
    pub(super) fn begin_handshake(self: &Rc<Self>) -> Turn<D> {
        let (number, (displace, displaced)) = (self.number(), oneshot::channel());
        let mut handshakes = self.handshakes.borrow_mut();
        while handshakes.len() >= self.bounds.handshakes {
            let silent = handshakes.iter().position(|handshake| !handshake.begun);
            handshakes.remove(silent.unwrap_or_default());
        }
        handshakes.push_back(Handshake { number, begun: false, _displace: displace });
        Turn { hub: Rc::clone(self), number, displaced }
    }

    /// Opens a session for a client that proved who it is.
    ///
    /// # Errors
    /// All places are taken by sessions that are in use.
    pub(super) fn open(self: &Rc<Self>, client: Client) -> Result<Open<D>, Refused> {
        self.make_room(&client.operator)?;
        let operator = client.operator.id.clone();
        let outbox = Outbox::new(self.bounds.outgoing);
        let (session, ready) = self.dispatch.open(client, outbox.clone());
        // Fits: the queue is empty, and a closed one needs no greeting.
        let _ = outbox.send(super::codec::ready(&ready));

        let (number, (displace, displaced)) = (self.number(), oneshot::channel());
        let activity =
            Rc::new(Activity { heard: Cell::new(Instant::now()), called: Cell::new(Instant::now()) });
        let (kept, seen) = (Arc::clone(&session), Rc::clone(&activity));
        let place = Place { number, operator, session: kept, activity: seen, _displace: displace };
        self.sessions.borrow_mut().push(place);
        let why = Closed::Lost("the agent failed while serving it".to_owned());
        Ok(Open { hub: Rc::clone(self), number, session, outbox, activity, displaced, why })
    }

    fn make_room(&self, operator: &Operator) -> Result<(), Refused> {
        let (id, Bounds { per_operator, sessions, .. }) = (&operator.id, self.bounds);
        let own = self.sessions.borrow().iter().filter(|p| p.operator == *id).count();
        if own >= per_operator && !self.displace(|p| p.operator == *id) {
            return Err(Refused::OperatorFull { operator: id.clone(), limit: per_operator });
        }
        if self.sessions.borrow().len() >= sessions && !self.displace(|_| true) {
            return Err(Refused::AgentFull { operator: id.clone(), limit: sessions });
        }
        Ok(())
    }

    /// Takes the place of the longest idle session `among` those that hold nothing; whether there was one.
    fn displace(&self, among: impl Fn(&Place<D::Session>) -> bool) -> bool {
        let mut sessions = self.sessions.borrow_mut();
        let free = |p: &Place<D::Session>| among(p) && self.dispatch.displaceable(&p.session);
        let idlest =
            sessions.iter().filter(|p| free(p)).min_by_key(|p| p.activity.called.get()).map(|p| p.number);
        sessions.retain(|p| Some(p.number) != idlest);
        idlest.is_some()
    }

    fn number(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }
}

impl<D: Dispatch> Turn<D> {
    /// What is to be called once the client has begun its handshake.
    pub(super) fn beginning(&self) -> impl FnOnce() + use<D> {
        let (hub, number) = (Rc::clone(&self.hub), self.number);
        move || {
            let mut handshakes = hub.handshakes.borrow_mut();
            if let Some(handshake) = handshakes.iter_mut().find(|handshake| handshake.number == number) {
                handshake.begun = true;
            }
        }
    }

    /// Waits until a newcomer takes this place.
    pub(super) async fn displaced(&mut self) {
        let _ = (&mut self.displaced).await;
    }
}

impl<D: Dispatch> Drop for Turn<D> {
    fn drop(&mut self) {
        self.hub.handshakes.borrow_mut().retain(|handshake| handshake.number != self.number);
    }
}

impl<D: Dispatch> Open<D> {
    /// Waits until a newcomer takes this place.
    pub(super) async fn displaced(displaced: &mut oneshot::Receiver<()>) {
        let _ = displaced.await;
    }

    /// What [`Self::displaced`] waits for.
    pub(super) fn displacement(&mut self) -> oneshot::Receiver<()> {
        std::mem::replace(&mut self.displaced, oneshot::channel().1)
    }

    /// Gives up the place and tells the rest of the agent why.
    pub(super) fn end(mut self, why: Closed) {
        self.why = why;
    }
}

impl<D: Dispatch> Drop for Open<D> {
    fn drop(&mut self) {
        self.hub.sessions.borrow_mut().retain(|p| p.number != self.number);
        self.outbox.finish(self.why.clone(), None);
        // It may be a panic that drops this: another one would end the process.
        if let Err(Panicked) = fenced(|| self.hub.dispatch.closed(&self.session, self.why.clone())) {
            self.hub.dispatch.panicked();
        }
    }
}
