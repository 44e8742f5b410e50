//! Halting single threads of a process.

use std::fs;

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// Threads that are halted until this is dropped, on the thread that made it.
#[derive(Debug)]
pub struct Halted(Vec<Pid>);

impl Halted {
    /// Halts the threads of a child process with these prefixes of names.
    ///
    /// # Panics
    /// There is none, or this system does not let a parent trace a child.
    pub fn threads(process: u32, names: &[&str]) -> Self {
        let named = |id: &Pid| {
            let name = fs::read_to_string(format!("/proc/{process}/task/{id}/comm")).unwrap_or_default();
            names.iter().any(|begin| name.trim_end().starts_with(begin))
        };
        let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let ids = tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap());
        let halted: Vec<Pid> = ids.map(Pid::from_raw).filter(named).collect();
        assert!(!halted.is_empty(), "no thread is called {names:?}");
        for &thread in &halted {
            ptrace::seize(thread, Options::empty()).unwrap();
            ptrace::interrupt(thread).unwrap();
            waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        }
        Self(halted)
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        for &thread in &self.0 {
            // The thread may have ended with its process.
            let _ = ptrace::detach(thread, None);
        }
    }
}
