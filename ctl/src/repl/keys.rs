//! Keys pressed while no line is edited.

use std::io;

use rustix::termios::{InputModes, LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Makes the terminal keep keys for the next prompt: unprocessed, and without echoing them into an eval's output.
///
/// In its usual mode the terminal turns Enter into a line feed, after which the line editor drops what it has read. Ctrl-C stays
/// a signal, and output is processed as before. The editor returns to this mode after each line; dropping this restores the
/// original mode.
pub(super) struct KeptKeys(Termios);

impl KeptKeys {
    /// Starts to keep keys; `None` if the terminal refuses, which only costs the keys typed ahead.
    pub(super) fn begin() -> Option<Self> {
        let found = tcgetattr(io::stdin()).ok()?;
        let mut modes = found.clone();
        modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        modes.input_modes.remove(InputModes::ICRNL);
        tcsetattr(io::stdin(), OptionalActions::Now, &modes).ok()?;
        Some(Self(found))
    }
}

impl Drop for KeptKeys {
    fn drop(&mut self) {
        // If the terminal is gone there is nothing to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
