//! Ctrl-C, from the moment on in which there is something to cancel.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// The interrupts of the terminal.
pub(crate) struct Interrupts(Signal);

impl Interrupts {
    /// Begins to listen; from then on an interrupt does not end the process.
    ///
    /// # Errors
    /// The system does not let us.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let signal = signal(SignalKind::interrupt());
        signal.map(Self).map_err(|error| Failure::evaluation(format!("cannot listen for Ctrl-C: {error}")))
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
