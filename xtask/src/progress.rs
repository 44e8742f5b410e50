//! A build that says how far it is, a line every half a minute: a first one takes minutes.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::shown;

/// The interval of the lines.
const INTERVAL: Duration = Duration::from_secs(30);

/// What cargo has said so far.
#[derive(Default)]
struct CargoOutput {
    /// Everything but its bar and what it is about to do: warnings and errors.
    said: String,
    /// From its bar: how many crates are built, and of how many.
    count: Option<(u32, u32)>,
}

/// Runs a `cargo build`; what it says is shown only if it fails.
///
/// # Errors
/// It cannot be started, or fails.
pub(crate) fn build(command: &mut Command) -> Result<(), String> {
    println!("$ {}", shown(command));
    // Only in its bar does cargo say how much there is to build.
    command
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "100")
        .env("CARGO_TERM_COLOR", "never");
    let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|e| format!("cannot start {}: {e}", shown(command)))?;
    let stream = child.stderr.take().ok_or("cargo has no standard error")?;
    let heard = Mutex::new(CargoOutput::default());
    let status = thread::scope(|scope| {
        let (ended, end) = mpsc::channel::<()>();
        let told = &heard;
        scope.spawn(move || tell(told, &end));
        listen(stream, &heard);
        drop(ended);
        child.wait()
    });
    let status = status.map_err(|e| format!("cannot wait for {}: {e}", shown(command)))?;
    if status.success() {
        return Ok(());
    }
    let said = heard.into_inner().unwrap_or_else(PoisonError::into_inner).said;
    Err(format!("{said}{} ended with {status}", shown(command)))
}

/// Says how far the build is, until the other side of `end` is dropped.
fn tell(heard: &Mutex<CargoOutput>, end: &mpsc::Receiver<()>) {
    let start = Instant::now();
    while end.recv_timeout(INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
        let count = heard.lock().unwrap_or_else(PoisonError::into_inner).count;
        println!("{}", line(start.elapsed(), count));
    }
}

fn line(elapsed: Duration, count: Option<(u32, u32)>) -> String {
    let (minutes, seconds) = (elapsed.as_secs() / 60, elapsed.as_secs() % 60);
    let count = count.map_or_else(String::new, |(built, all)| format!(": {built} of {all} crates"));
    format!("building, {minutes} min {seconds:02} s{count}")
}

/// Reads to the end. Cargo ends a line that it will overwrite with a carriage return.
fn listen(stream: impl Read, heard: &Mutex<CargoOutput>) {
    let mut piece = Vec::new();
    // An error ends the output; how cargo ends is asked of the system.
    for byte in std::io::BufReader::new(stream).bytes().map_while(Result::ok) {
        piece.push(byte);
        if byte == b'\n' || byte == b'\r' {
            let text = String::from_utf8_lossy(&piece).into_owned();
            heard.lock().unwrap_or_else(PoisonError::into_inner).hear(&text);
            piece.clear();
        }
    }
}

impl CargoOutput {
    fn hear(&mut self, piece: &str) {
        if let Some(count) = count(piece) {
            self.count = Some(count);
        } else if piece.ends_with('\n') && !is_news(piece) {
            self.said += piece;
        }
    }
}

/// `    Building [=====>     ] 212/310: rhai, tokio` tells 212 of 310.
fn count(piece: &str) -> Option<(u32, u32)> {
    let (_, after) = piece.trim_start().strip_prefix("Building [")?.split_once("] ")?;
    let (built, all) = after.split([':', ' ']).next()?.trim().split_once('/')?;
    Some((built.parse().ok()?, all.parse().ok()?))
}

/// Whether a line tells what cargo does: a word at the right of twelve columns.
fn is_news(line: &str) -> bool {
    let word = line.trim_start();
    line.len() - word.len() >= 2
        && ["Compiling ", "Finished ", "Blocking ", "Building "]
            .iter()
            .any(|w| word.starts_with(w))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_that_of_the_bar() {
        assert_eq!(
            count("    Building [====>   ] 212/310: rhai, tokio\r"),
            Some((212, 310))
        );
        assert_eq!(count("    Building [====>   ] 3/310\r"), Some((3, 310)));
        assert_eq!(count("   Compiling rhai v1.27.0\n"), None);
    }

    #[test]
    fn what_is_shown_of_a_failure_is_its_errors() {
        let heard = Mutex::new(CargoOutput::default());
        let said = "    Building [>  ] 1/9: a\r   Compiling a v1.0.0\nerror: no bin target\n  --> a.rs\n";
        listen(said.as_bytes(), &heard);
        let heard = heard.into_inner().unwrap();
        assert_eq!(
            (heard.said.as_str(), heard.count),
            ("error: no bin target\n  --> a.rs\n", Some((1, 9)))
        );
    }

    #[test]
    fn a_line_tells_the_time_and_how_far_it_is() {
        assert_eq!(
            line(Duration::from_secs(90), Some((212, 310))),
            "building, 1 min 30 s: 212 of 310 crates"
        );
        assert_eq!(line(Duration::from_secs(30), None), "building, 0 min 30 s");
    }

    #[test]
    fn a_build_that_fails_is_told_with_what_it_said() {
        let mut command = Command::new("sh");
        let error = build(command.args(["-c", "echo 'error: none' >&2; exit 3"])).unwrap_err();
        assert!(error.starts_with("error: none\nsh -c "), "{error}");
    }
}
