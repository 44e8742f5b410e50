//! Ctrl-C, from the moment on in which there is something to cancel.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// The interrupts of the terminal.
pub(crate) struct Interrupts(Option<Signal>);

impl Interrupts {
    /// Begins to listen; from then on an interrupt does not end the process.
    ///
    /// # Errors
    /// The system does not let us.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let signal = signal(SignalKind::interrupt());
        signal
            .map(|signal| Self(Some(signal)))
            .map_err(|error| Failure::evaluation(format!("cannot listen for Ctrl-C: {error}")))
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
