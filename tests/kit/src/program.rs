//! A program as a process: what it says, line by line, and its end.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The interval of polling: short enough not to delay, long enough to cost nothing.
pub const POLL: Duration = Duration::from_millis(20);
/// The limit of a wait for a line: long enough for a loaded machine.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Where the lines of a program go.
#[derive(Debug)]
enum Lines {
    /// Only whole lines, so that a partial answer never passes for a complete one.
    Memory(Arc<Mutex<String>>, [JoinHandle<()>; 2]),
    /// A file that outlives this process.
    File(PathBuf),
}

/// A running program; it does not outlive this value.
#[derive(Debug)]
pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines,
    /// How long it may take to end in order when this is dropped; then it is killed.
    patience: Option<Duration>,
}

impl Program {
    /// Starts a program without input.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        Self::spawn(command.stdin(Stdio::null()))
    }

    /// Starts a program, to type lines into it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_typing(command: &mut Command) -> io::Result<Self> {
        Self::spawn(command.stdin(Stdio::piped()))
    }

    /// Starts a program whose lines go to the end of a file, in a process group of its own: Ctrl-C at the terminal is not for it.
    ///
    /// # Errors
    /// It cannot be started, or the file not opened.
    pub fn start_into(command: &mut Command, file: PathBuf) -> io::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(&file)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        Ok(Self {
            child: command.spawn()?,
            stdin: None,
            lines: Lines::File(file),
            patience: None,
        })
    }

    fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let seen = Arc::new(Mutex::new(String::new()));
        let readers = [
            collect(child.stdout.take(), seen.clone()),
            collect(child.stderr.take(), seen.clone()),
        ];
        Ok(Self {
            stdin: child.stdin.take(),
            child,
            lines: Lines::Memory(seen, readers),
            patience: None,
        })
    }

    /// Lets it end in order when this is dropped: its input ends, it gets SIGTERM if it has none, and it has this long.
    #[must_use]
    pub fn ends_within(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Types a line.
    ///
    /// # Errors
    /// Its input has ended.
    pub fn type_line(&mut self, line: &str) -> io::Result<()> {
        let stdin = self.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(stdin, "{line}")?;
        stdin.flush()
    }

    /// What it has said so far, on both streams. Empty if the file cannot be read.
    pub fn said(&self) -> String {
        match &self.lines {
            Lines::Memory(seen, _) => seen.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            Lines::File(file) => fs::read(file).map_or_else(
                |_| String::new(),
                |bytes| String::from_utf8_lossy(&bytes).into_owned(),
            ),
        }
    }

    /// Waits until what it has said satisfies `wanted`, at most for [`LIMIT`] and as long as it runs.
    ///
    /// # Errors
    /// What it has said.
    pub fn wait_for<T>(&mut self, wanted: impl FnMut(&str) -> Option<T>) -> Result<T, String> {
        self.wait_within(LIMIT, wanted)
    }

    /// Like [`wait_for`](Self::wait_for), at most for `limit`.
    ///
    /// # Errors
    /// What it has said.
    pub fn wait_within<T>(
        &mut self,
        limit: Duration,
        mut wanted: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, String> {
        let start = Instant::now();
        loop {
            // Asked before the lines are read: what it said last counts.
            let over = !self.is_alive() && self.is_heard() || limit <= start.elapsed();
            let said = self.said();
            match wanted(&said) {
                Some(found) => return Ok(found),
                None if over => return Err(said),
                None => thread::sleep(POLL / 4),
            }
        }
    }

    /// Whether all that it will ever say has been read.
    fn is_heard(&self) -> bool {
        match &self.lines {
            Lines::Memory(_, readers) => readers.iter().all(JoinHandle::is_finished),
            Lines::File(_) => true,
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// As of [`Child::wait`].
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Its end, if it has ended.
    ///
    /// # Errors
    /// As of [`Child::try_wait`].
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Ends it as a crash would, and waits.
    ///
    /// # Errors
    /// As of [`Child::kill`] and [`Child::wait`].
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }

    fn end_in_order(&mut self, patience: Duration) {
        // The end of its input makes a program that reads leave in order.
        let reads = self.stdin.take().is_some();
        if !reads && self.is_alive() {
            // Errors are ignored: the kill follows in any case.
            let pid = self.id().to_string();
            let _ = Command::new("kill").args(["-TERM", &pid]).status();
        }
        let _ = end_of(&mut self.child, patience);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(patience) = self.patience {
            self.end_in_order(patience);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the end, at most `limit`. Returns the exit code, unless a signal ended it.
///
/// # Errors
/// As of [`Child::try_wait`].
pub fn end_of(child: &mut Child, limit: Duration) -> io::Result<Option<Option<i32>>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.code()));
        }
        if limit <= start.elapsed() {
            return Ok(None);
        }
        // What ends soon is not waited for long: the tests are a thousand short programs.
        thread::sleep((start.elapsed() / 8).clamp(Duration::from_millis(1), POLL));
    }
}

/// The address in a service's line `listening on 127.0.0.1:40123`, once that line is complete.
pub fn listening_on(log: &str) -> Option<SocketAddr> {
    let whole = &log[..log.rfind('\n')?];
    let (_, rest) = whole.split_once("listening on ")?;
    let address = rest.split_whitespace().next()?;
    address.trim_end_matches(',').parse().ok()
}

fn collect(stream: Option<impl Read + Send + 'static>, seen: Arc<Mutex<String>>) -> JoinHandle<()> {
    thread::spawn(move || {
        let Some(stream) = stream else { return };
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push_str(&line);
            seen.push('\n');
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_address_is_read_once_its_line_is_whole() {
        assert_eq!(listening_on("INFO dienstplan: listening on 127.0.0.1:40"), None);
        let log = "starting\nINFO dienstplan: listening on 127.0.0.1:40123, pid 7\nmore";
        assert_eq!(listening_on(log), Some("127.0.0.1:40123".parse().unwrap()));
    }

    #[test]
    fn lines_that_are_typed_are_answered() {
        let mut program = Program::start_typing(&mut sh("while read line; do echo got $line; done")).unwrap();
        program.type_line("one").unwrap();
        assert_eq!(program.wait_for(|said| said.find("got one\n")), Ok(0));
        program.type_line("two").unwrap();
        assert_eq!(program.wait_for(|said| said.find("got two\n")), Ok(8));
    }

    #[test]
    fn a_program_that_ends_gives_what_it_said() {
        let mut program = Program::start(&mut sh("echo no port >&2; exit 1")).unwrap();
        assert_eq!(program.wait().unwrap().code(), Some(1));
        let said = program.wait_for(|said| said.contains("no port").then(|| said.to_owned()));
        assert_eq!(said, Ok("no port\n".to_owned()));
        assert_eq!(program.wait_for(listening_on), Err("no port\n".to_owned()));
    }

    #[test]
    fn a_program_is_ended_when_it_is_dropped() {
        let script =
            "trap 'echo bye; exit' TERM; echo listening on 127.0.0.1:1; while :; do sleep 0.01; done";
        let file = std::env::temp_dir().join(format!("debug-kit-{}.log", std::process::id()));
        let mut program = Program::start_into(&mut sh(script), file.clone())
            .unwrap()
            .ends_within(LIMIT);
        program.wait_for(listening_on).unwrap();
        let process = PathBuf::from(format!("/proc/{}", program.id()));
        drop(program);
        assert!(!process.exists());
        assert!(fs::read_to_string(&file).unwrap().ends_with("bye\n"));
        fs::remove_file(file).unwrap();
    }
}
