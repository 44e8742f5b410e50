//! A terminal with a program in it: keys go in, a screen comes out.
//!
//! A shell runs in between, as in practice: it leads the session of processes, so that the terminal is still there when the
//! program has left, and its last output can be examined.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use pty_process::blocking::{Pts, Pty};
use rustix::process::{Pid, Signal};
use rustix::termios::{InputModes, LocalModes, OutputModes};
use vt100::{Callbacks, Parser, Screen};

use crate::wait;

/// Runs its arguments and prints how they ended. Keys that are signals are for the program and not for this shell; the terminal
/// stays until a line is typed.
const SHELL: &str = r#"trap : INT QUIT; "$@"; printf '\nleft with %d\n' $?; read -r line"#;
/// The text that [`SHELL`] prints before the exit code.
const LEFT: &str = "left with ";
/// The last visible character of a prompt.
const PROMPT_END: char = '›';
/// The number of rows kept above the screen: more than any test prints.
const SCROLLBACK: usize = 10_000;

/// Ctrl-C.
pub const CTRL_C: &str = "\x03";
/// Ctrl-D.
pub const CTRL_D: &str = "\x04";
/// Ctrl-\\, which asks a program to quit.
pub const CTRL_BACKSLASH: &str = "\x1c";
/// The key that recalls the previous line.
pub const UP: &str = "\x1b[A";
/// The key that ends a line.
pub const ENTER: &str = "\r";

/// A terminal with a program in it. Dropping it hangs up on the program.
pub struct Terminal {
    child: Child,
    glass: Arc<Mutex<Glass>>,
    /// The user's end; `None` once the terminal has vanished.
    pty: Option<Arc<Pty>>,
    watching: Option<JoinHandle<()>>,
    vanishing: Arc<AtomicBool>,
    /// Held, so that the modes can be read at any time.
    device: Pts,
}

/// The program's output.
struct Glass {
    parser: Parser<Answers>,
    bytes: Vec<u8>,
}

/// Answers the line editor's queries for the cursor position. Everything else is shown or ignored.
#[derive(Default)]
struct Answers(Vec<u8>);

impl Callbacks for Answers {
    fn unhandled_csi(
        &mut self,
        screen: &mut Screen,
        first: Option<u8>,
        _: Option<u8>,
        params: &[&[u16]],
        end: char,
    ) {
        if first.is_none() && end == 'n' && params == [[6].as_slice()] {
            let (row, column) = screen.cursor_position();
            self.0
                .extend(format!("\x1b[{};{}R", row + 1, column + 1).into_bytes());
        }
    }
}

/// How a character is drawn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Look {
    /// Not in the terminal's own foreground.
    pub coloured: bool,
    /// In a fainter tone.
    pub dim: bool,
}

/// How a terminal processes keys and output.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Modes {
    input: InputModes,
    output: OutputModes,
    local: LocalModes,
}

impl Modes {
    /// Whether keys are echoed, and passed to the program line by line.
    pub fn are_for_lines(&self) -> bool {
        self.local
            .contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
            && self.input.contains(InputModes::ICRNL)
            && self.output.contains(OutputModes::OPOST)
    }
}

impl Terminal {
    /// Runs a command in a terminal of this size. Its environment is only the variables that were set on it.
    pub fn run(command: &Command, rows: u16, columns: u16) -> Self {
        let (pty, device) = pty_process::blocking::open().unwrap();
        pty.resize(pty_process::Size::new(rows, columns)).unwrap();
        // The test runner may ignore SIGHUP, as under `nohup`; the program would inherit that.
        let mut shell = Command::new("env");
        shell
            .args(["--default-signal=HUP", "sh", "-c", SHELL, "sh"])
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear();
        shell.envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        let child = pty_process::blocking::Command::from(shell)
            .spawn_borrowed(&device)
            .unwrap();
        let size = |length| NonZeroU16::new(length).unwrap();
        let parser = Parser::new_with_callbacks(size(rows), size(columns), SCROLLBACK, Answers::default());
        let (glass, pty) = (
            Arc::new(Mutex::new(Glass {
                parser,
                bytes: Vec::new(),
            })),
            Arc::new(pty),
        );
        let vanishing = Arc::new(AtomicBool::new(false));
        let (watched, shown, end) = (pty.clone(), glass.clone(), vanishing.clone());
        let watching = std::thread::spawn(move || watch(&watched, &shown, &end));
        Self {
            child,
            glass,
            pty: Some(pty),
            watching: Some(watching),
            vanishing,
            device,
        }
    }

    /// Types keys.
    pub fn press(&self, keys: &str) {
        let mut pty = &**self.pty.as_ref().unwrap();
        pty.write_all(keys.as_bytes()).unwrap();
    }

    /// Types a line at the prompt, waits for the next prompt, and returns the text in between, the line included.
    #[track_caller]
    pub fn submit(&self, line: &str) -> String {
        let (from, _) = self.prompt_at(0);
        self.press_from(from, &format!("{line}{ENTER}"))
    }

    /// Like [`Terminal::submit`], after some of the line was typed; returns the text from the line of the last prompt on.
    #[track_caller]
    pub fn submit_rest(&self, rest: &str) -> String {
        self.press_below(&format!("{rest}{ENTER}"))
    }

    /// Presses keys, waits for a prompt below, and returns the text in between, from the last prompt on.
    #[track_caller]
    pub fn press_below(&self, keys: &str) -> String {
        let last = self.lines().iter().rposition(|line| line.contains(PROMPT_END));
        self.press_from(last.unwrap(), keys)
    }

    #[track_caller]
    fn press_from(&self, from: usize, keys: &str) -> String {
        self.press(keys);
        let (to, _) = self.prompt_at(from + 1);
        self.lines()[from..to].join("\n")
    }

    /// Waits for a prompt with nothing typed after it, and returns it.
    #[track_caller]
    pub fn prompt(&self) -> String {
        self.prompt_at(0).1
    }

    /// Waits for such a prompt at this line or below, and returns it with its line.
    #[track_caller]
    fn prompt_at(&self, from: usize) -> (usize, String) {
        self.until("there is a prompt", || {
            let glass = self.glass();
            let screen = glass.parser.screen();
            let (cursor, _) = screen.cursor_position();
            let lines = lines(screen, Some(cursor));
            let prompt = lines.last()?;
            let is_new = lines.len() > from && prompt.ends_with(PROMPT_END);
            is_new.then(|| (lines.len() - 1, prompt.clone()))
        })
    }

    /// Waits for a text in any line, and returns the line.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        self.until(&format!("`{text}` stands there"), || {
            self.lines().into_iter().rev().find(|line| line.contains(text))
        })
    }

    /// All lines shown, scrolled away or not; a wrapped line is one line.
    pub fn lines(&self) -> Vec<String> {
        lines(self.glass().parser.screen(), None)
    }

    /// All bytes that the program wrote.
    pub fn bytes(&self) -> Vec<u8> {
        self.glass().bytes.clone()
    }

    /// Whether the line at the cursor begins in a colour.
    pub fn is_coloured(&self) -> bool {
        self.look(0).coloured
    }

    /// How the cell in that column of the line at the cursor is drawn.
    pub fn look(&self, column: usize) -> Look {
        let glass = self.glass();
        let screen = glass.parser.screen();
        let (row, _) = screen.cursor_position();
        let cell = screen.cell(row, u16::try_from(column).unwrap()).unwrap();
        Look {
            coloured: cell.fgcolor() != vt100::Color::Default,
            dim: cell.dim(),
        }
    }

    /// How the terminal processes keys and output now.
    pub fn modes(&self) -> Modes {
        let modes = rustix::termios::tcgetattr(&self.device).unwrap();
        Modes {
            input: modes.input_modes,
            output: modes.output_modes,
            local: modes.local_modes,
        }
    }

    /// Waits until the program has left, and returns its exit code.
    #[track_caller]
    pub fn exit_code(&self) -> u32 {
        self.until("the program has left", || {
            self.lines()
                .iter()
                .find_map(|line| line.trim_start().strip_prefix(LEFT)?.parse().ok())
        })
    }

    /// Sends the program a signal, as `kill` does.
    pub fn signal(&self, signal: Signal) {
        let shell = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
        let program = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(program, signal).unwrap();
    }

    /// Takes the terminal away from the program and its shell, as closing a window or losing a remote login does.
    pub fn vanish(mut self) {
        self.vanishing.store(true, Ordering::SeqCst);
        // The last byte wakes the thread that reads, which then drops its handle of the other end.
        File::from(self.device.as_fd().try_clone_to_owned().unwrap())
            .write_all(b"\n")
            .unwrap();
        self.watching.take().unwrap().join().unwrap();
        drop(self.pty.take());
        // The system hangs up on the shell, too.
        self.child.wait().unwrap();
    }

    fn glass(&self) -> MutexGuard<'_, Glass> {
        self.glass.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Like [`wait::until`]; shows the screen if the wait fails.
    #[track_caller]
    fn until<T>(&self, what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
        let end = std::time::Instant::now() + wait::LIMIT;
        wait::until(what, || {
            let found = seen();
            let late = found.is_none() && std::time::Instant::now() >= end;
            assert!(
                !late,
                "waited in vain until {what}; the screen:\n{}",
                self.lines().join("\n")
            );
            found
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Without the leader of its session, the program gets a hangup.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Shows the output until all writers are gone.
fn watch(mut pty: &Pty, glass: &Mutex<Glass>, vanishing: &AtomicBool) {
    let mut chunk = [0; 16 << 10];
    while let Ok(count @ 1..) = pty.read(&mut chunk) {
        if vanishing.load(Ordering::SeqCst) {
            return;
        }
        let answers = {
            let mut glass = glass.lock().unwrap_or_else(PoisonError::into_inner);
            glass.bytes.extend_from_slice(&chunk[..count]);
            glass.parser.process(&chunk[..count]);
            std::mem::take(&mut glass.parser.callbacks_mut().0)
        };
        if pty.write_all(&answers).is_err() {
            return;
        }
    }
}

/// The lines above the screen and on it, up to this row or the last row with text.
fn lines(screen: &Screen, last: Option<u16>) -> Vec<String> {
    let mut screen = screen.clone();
    let (height, width) = screen.size();
    let mut rows = Vec::new();
    for above in (1..=screen.scrollback_len()).rev() {
        screen.set_scrollback(above);
        rows.push((
            screen.rows(0, width.get()).next().unwrap_or_default(),
            screen.row_wrapped(0),
        ));
    }
    screen.set_scrollback(0);
    let shown = usize::from(last.unwrap_or(height.get() - 1)) + 1;
    let on_screen = screen.rows(0, width.get()).take(shown).zip(0..);
    rows.extend(on_screen.map(|(text, row)| (text, screen.row_wrapped(row))));
    let mut lines = Vec::new();
    let mut line = String::new();
    for (text, goes_on) in rows {
        line.push_str(&text);
        if !goes_on {
            lines.push(std::mem::take(&mut line).trim_end().to_owned());
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    if last.is_none() {
        let used = lines
            .iter()
            .rposition(|line| !line.is_empty())
            .map_or(0, |last| last + 1);
        lines.truncate(used);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str) -> Terminal {
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        Terminal::run(&command, 4, 10)
    }

    #[test]
    fn what_a_program_leaves_behind_is_seen() {
        let terminal = run("exit 3");
        assert_eq!(terminal.exit_code(), 3);
        assert!(terminal.modes().are_for_lines());
        let terminal = run("stty raw -echo; exit 4");
        assert_eq!(terminal.exit_code(), 4);
        assert!(!terminal.modes().are_for_lines());
    }

    #[test]
    fn a_terminal_that_vanishes_is_told_to_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let told = folder.path().join("told");
        let script = format!(
            "trap 'echo hung up > {}; exit' HUP; echo ready; while :; do read -r line; done",
            told.display()
        );
        let terminal = run(&script);
        terminal.wait_for("ready");
        assert!(!told.exists());
        terminal.vanish();
        wait::until_true("the program was told", || told.exists());
    }

    #[test]
    fn lines_are_whole_also_where_they_are_wrapped_or_scrolled_away() {
        let terminal = run("printf 'one\\ntwo and twenty\\n'; seq 5; printf 'name› '; read -r line");
        assert_eq!(terminal.prompt(), "name›");
        assert_eq!(
            terminal.lines(),
            ["one", "two and twenty", "1", "2", "3", "4", "5", "name›"]
        );
        terminal.press("\r");
        assert_eq!(terminal.exit_code(), 0);
    }

    #[test]
    fn the_terminal_tells_where_the_cursor_is() {
        let ask = r"stty raw -echo; printf 'ab\033[6n'; dd bs=1 count=6 2>/dev/null | od -An -c; exit 5";
        let terminal = run(ask);
        assert_eq!(terminal.exit_code(), 5);
        let shown: String = terminal.lines().concat().split_whitespace().collect();
        assert!(shown.contains("033[1;3R"), "{shown}");
    }
}
