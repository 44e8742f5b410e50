//! The service as a process.

use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::{POLL, end_of};

/// The deadline for the service to listen, or for a line to reach its log.
const LOG_LIMIT: Duration = Duration::from_secs(15);
/// The deadline for the service to stop before it is killed: longer than its own drain.
const STOP_LIMIT: Duration = Duration::from_secs(12);

/// A running service, stopped when dropped.
#[derive(Debug)]
pub(super) struct Service {
    child: Child,
    log: PathBuf,
    /// Its HTTP address.
    pub(super) http: SocketAddr,
}

impl Service {
    /// Starts the service and waits until it logs its address. Both of its streams go to the file `log`.
    ///
    /// # Errors
    /// Contains the log if the service ends or logs no address.
    pub(super) fn start(command: &mut Command, log: PathBuf) -> Result<Self, String> {
        let told = |e: std::io::Error| format!("cannot start the service: {e}");
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(told)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(told)?)
            .stderr(file);
        // A process group of its own: Ctrl-C at the terminal is for the person's session, not for the service.
        let child = command.process_group(0).spawn().map_err(told)?;
        let mut service = Self {
            child,
            log,
            http: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let start = Instant::now();
        while start.elapsed() < LOG_LIMIT && service.is_alive() {
            if let Some(address) = listening_on(&service.log()) {
                service.http = address;
                return Ok(service);
            }
            thread::sleep(POLL);
        }
        Err(service.log())
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its output so far; empty if it cannot be read.
    pub(super) fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits for a line that contains the text.
    pub(super) fn wait_for_line(&self, text: &str) -> Option<String> {
        let start = Instant::now();
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return Some(line.into());
            }
            if LOG_LIMIT <= start.elapsed() {
                return None;
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.is_alive() {
            // Errors are ignored: the kill follows in any case.
            let _ = Command::new("kill")
                .args(["-TERM", &self.pid().to_string()])
                .status();
            let _ = end_of(&mut self.child, STOP_LIMIT);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in the service's line `listening on 127.0.0.1:40123`, once that line is complete.
fn listening_on(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("listening on ")?;
    rest.split_once('\n')
        .and_then(|(address, _)| address.trim().parse().ok())
}

/// The path of a log in the folder.
pub(super) fn log_in(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_once_its_line_is_whole() {
        assert_eq!(listening_on("INFO dienstplan: listening on 127.0.0.1:40"), None);
        let log = "starting\nINFO dienstplan: listening on 127.0.0.1:40123\nmore";
        assert_eq!(listening_on(log), Some("127.0.0.1:40123".parse().unwrap()));
    }

    fn start(script: &str, name: &str) -> Result<Service, String> {
        let log = std::env::temp_dir().join(format!("xtask-service-{name}-{}.log", std::process::id()));
        let result = Service::start(Command::new("sh").args(["-c", script]), log.clone());
        fs::remove_file(log).unwrap();
        result
    }

    #[test]
    fn a_service_that_ends_shows_its_log() {
        assert_eq!(
            start("echo no port >&2; exit 1", "ends").unwrap_err(),
            "no port\n"
        );
    }

    #[test]
    fn a_service_is_stopped_when_it_is_dropped() {
        let mut service = start("echo listening on 127.0.0.1:1; exec sleep 600", "stops").unwrap();
        assert!(service.is_alive());
        let process = PathBuf::from(format!("/proc/{}", service.pid()));
        drop(service);
        assert!(!process.exists());
    }
}
