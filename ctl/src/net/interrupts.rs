//! Ctrl-C, once there is something to cancel, and the signals that ask the process to end.

use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::ui::failure::CommandFailure;
use crate::ui::term;

/// The interrupts of the terminal.
pub(crate) struct Interrupts(Option<Signal>);

impl Interrupts {
    /// Starts to listen; from then on an interrupt does not end the process. If the system refuses, a warning is printed and an
    /// interrupt ends the process as before: that is no reason to fail.
    pub(crate) fn listen() -> Self {
        match signal(SignalKind::interrupt()) {
            Ok(signal) => Self(Some(signal)),
            Err(error) => {
                term::note(&format!(
                    "warning: cannot listen for Ctrl-C, which ends debugctl then: {error}"
                ));
                Self(None)
            }
        }
    }

    /// A source without interrupts, for what must not be cancelled. An `Interrupts` that listens receives them afterwards.
    pub(crate) fn later() -> Self {
        Self(None)
    }

    /// Discards an interrupt that came before there was anything to cancel.
    pub(crate) async fn forget(&mut self) {
        tokio::select! {
            biased;
            () = self.next() => {}
            () = std::future::ready(()) => {}
        }
    }

    /// Waits for the next interrupt.
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

/// The signals that ask a process to end, held back while a terminal has to be restored first.
pub(crate) struct HeldSignals(Vec<Signal>);

impl HeldSignals {
    /// Starts to listen; from then on these signals do not end the process.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn listen() -> Result<Self, CommandFailure> {
        // Ctrl-\ sends the last of them.
        let kinds = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
        let signals: io::Result<_> = kinds.into_iter().map(signal).collect();
        signals
            .map(Self)
            .map_err(|error| CommandFailure::local(format!("cannot listen for signals: {error}")))
    }

    /// A source without signals: they end the process.
    pub(crate) fn at_once() -> Self {
        Self(Vec::new())
    }

    /// Waits for the first signal.
    pub(crate) async fn next(&mut self) {
        std::future::poll_fn(|context| {
            let came = self
                .0
                .iter_mut()
                .any(|signal| signal.poll_recv(context).is_ready());
            if came { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
