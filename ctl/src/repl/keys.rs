//! What becomes of keys that are pressed while no line is edited.

use std::io;

use rustix::termios::{InputModes, LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The terminal keeps keys for the next prompt: as they were pressed, and without showing them amid an eval's output.
///
/// In its usual mode it turns Enter into a line feed, behind which the line editor drops what it has read. Ctrl-C is a
/// signal as ever, and output is treated as ever. The editor returns to this mode after each line; the mode that was
/// found returns when this is dropped.
pub(super) struct KeptKeys(Termios);

impl KeptKeys {
    /// Begins to keep them; `None` if the terminal does not let us, which costs no more than what is typed ahead.
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
        // Where the terminal is gone nothing is left to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
