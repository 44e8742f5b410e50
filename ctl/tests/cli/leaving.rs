//! `debugctl attach` at a terminal: leaving while changes are in force.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::agent::until;
use crate::world::{Ended, World};

/// A terminal and all that was shown on it.
struct Terminal {
    keys: File,
    shown: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// A terminal, and its other side for a program.
    fn open() -> (Self, OwnedFd) {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keys).unwrap();
        unlockpt(&keys).unwrap();
        let name = ptsname(&keys, Vec::new()).unwrap();
        let path = OsStr::from_bytes(name.as_bytes());
        let side = open(path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let keys = File::from(keys);
        let mut screen = keys.try_clone().unwrap();
        let shown = Arc::<Mutex<String>>::default();
        let written = shown.clone();
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The read fails once the program has ended.
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..read]);
                written.lock().unwrap().push_str(&text);
            }
        });
        let terminal = Self { keys, shown, reader };
        (terminal, side)
    }

    fn shown(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    /// All that was shown, once the program has ended.
    fn all_shown(self) -> String {
        self.reader.join().unwrap();
        Arc::into_inner(self.shown).unwrap().into_inner().unwrap()
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.keys, "{line}").unwrap();
    }
}

/// Makes a change at a terminal, leaves, and answers `r` after `meanwhile`.
fn leave(world: &World, meanwhile: impl FnOnce(&World)) -> (Ended, String) {
    let (mut terminal, side) = Terminal::open();
    let mut command: Command = world.command(&["attach", "TARGET", "--change", "--reason", "INC-42"]);
    command.stdin(Stdio::from(side.try_clone().unwrap()));
    let child = command.stderr(Stdio::from(side)).spawn().unwrap();
    drop(command);
    terminal.type_line("patch()");
    until(|| world.agent.seen.lock().unwrap().leases == [1]);
    terminal.type_line(":quit");
    until(|| terminal.shown().contains("[r/k/S]"));
    meanwhile(world);
    terminal.type_line("r");
    let ended = Ended::of(child);
    (ended, terminal.all_shown())
}

#[test]
fn a_change_that_ended_before_it_was_reverted_is_no_error() {
    let world = World::new();
    let (ended, shown) = leave(&world, |world| {
        let mut seen = world.agent.seen.lock().unwrap();
        (seen.leases, seen.unknown) = (Vec::new(), vec![1]);
    });
    assert_eq!(ended.code, 0, "{shown}");
    assert!(
        !shown.contains("error") && !shown.contains("there is no lease"),
        "{shown}"
    );
    let seen = world.agent.seen.lock().unwrap();
    assert!(seen.payloads.iter().any(|payload| payload.code == "revert(id)"));
}

#[test]
fn a_change_that_is_still_there_and_cannot_be_reverted_is_one() {
    let (ended, shown) = leave(&World::new(), |world| {
        world.agent.seen.lock().unwrap().unknown = vec![1];
    });
    assert_eq!(ended.code, 1, "{shown}");
    assert!(shown.contains("error: there is no lease 1"), "{shown}");
    assert!(shown.contains("lease 1 could not be reverted"), "{shown}");
}
