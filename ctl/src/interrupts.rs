//! Ctrl-C, from the moment on in which there is something to cancel; and what asks the process to end.

use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;
use crate::term;

/// The interrupts of the terminal.
pub(crate) struct Interrupts(Option<Signal>);

impl Interrupts {
    /// Begins to listen; from then on an interrupt does not end the process. Where the system does not let us that is told,
    /// and an interrupt ends the process as ever: no reason to do nothing at all.
    pub(crate) fn listen() -> Self {
        match signal(SignalKind::interrupt()) {
            Ok(signal) => Self(Some(signal)),
            Err(error) => {
                term::note(&format!("warning: cannot listen for Ctrl-C, which ends debugctl then: {error}"));
                Self(None)
            }
        }
    }

    /// None at all, for what is not to be cancelled: whoever listens gets them afterwards.
    pub(crate) fn later() -> Self {
        Self(None)
    }

    /// Forgets one that came before there was anything to cancel.
    pub(crate) async fn forget(&mut self) {
        tokio::select! {
            biased;
            () = self.next() => {}
            () = std::future::ready(()) => {}
        }
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        let received = match &mut self.0 {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if received.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// The signals that ask a process to end, while a terminal has to be given back before it does.
pub(crate) struct Ends(Vec<Signal>);

impl Ends {
    /// Begins to listen; from then on they do not end the process.
    ///
    /// # Errors
    /// The system does not let us.
    pub(crate) fn listen() -> Result<Self, Failure> {
        // Ctrl-\ is the last of them.
        let kinds = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
        let signals: io::Result<_> = kinds.into_iter().map(signal).collect();
        signals.map(Self).map_err(|error| Failure::local(format!("cannot listen for signals: {error}")))
    }

    /// None at all: they end the process.
    pub(crate) fn at_once() -> Self {
        Self(Vec::new())
    }

    /// Waits for the first one.
    pub(crate) async fn next(&mut self) {
        std::future::poll_fn(|context| {
            let came = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if came { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
