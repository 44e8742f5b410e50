//! Starting other programs: their command lines are printed, and each has a time limit unless it is cargo.

use std::env;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

pub(crate) use debug_kit::{POLL, end_of};

/// The output of a finished program.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Its standard output.
    pub(crate) out: String,
    /// Its standard error.
    pub(crate) err: String,
}

impl Said {
    /// Both streams and the exit code, in words.
    pub(crate) fn all(&self) -> String {
        let code = self
            .code
            .map_or_else(|| "a signal".into(), |code| format!("exit code {code}"));
        format!("{}{}({code})", with_newline(&self.out), with_newline(&self.err))
    }
}

fn with_newline(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') {
        text.into()
    } else {
        format!("{text}\n")
    }
}

/// The cargo that runs this program, or the one in the path.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The folder of our workspace, asked of cargo, so that it does not depend on where this program was built.
pub(crate) fn root() -> Result<PathBuf, String> {
    let mut command = cargo();
    let said = finish(
        command.args(["locate-project", "--workspace", "--message-format", "plain"]),
        Duration::MAX,
    )?;
    let manifest = Path::new(said.out.trim());
    manifest
        .parent()
        .filter(|_| said.code == Some(0))
        .map(Path::to_owned)
        .ok_or_else(|| said.all())
}

/// The folder into which cargo builds.
pub(crate) fn target(root: &Path) -> Result<PathBuf, String> {
    let mut command = cargo();
    command
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root);
    let said = finish(&mut command, Duration::MAX)?;
    let metadata: serde_json::Value = serde_json::from_str(&said.out).map_err(|_| said.all())?;
    metadata["target_directory"]
        .as_str()
        .map(PathBuf::from)
        .ok_or_else(|| said.all())
}

/// Whether a program of that name is in the path.
pub(crate) fn in_path(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// What builds the service and the client. All that need them build them by these words: with others, cargo would choose other
/// features of what they depend on, and build most of it once more.
pub(crate) const PROGRAMS: &[&str] = &[
    "build",
    "--locked",
    "-p",
    "dienstplan",
    "-p",
    "debugctl",
    "--bin",
    "dienstplan",
    "--bin",
    "debugctl",
    "--example",
    "slack-sign",
];

/// Runs a program with its output passed through.
///
/// # Errors
/// Names the program, and how it ended.
pub(crate) fn pass_through(command: &mut Command) -> Result<(), String> {
    println!("$ {}", shown(command));
    let status = command
        .status()
        .map_err(|e| format!("cannot start {}: {e}", shown(command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} ended with {status}", shown(command)))
    }
}

/// Runs a program to its end and collects its output; kills it after `limit`.
///
/// # Errors
/// It cannot be started or does not end in time.
pub(crate) fn finish(command: &mut Command, limit: Duration) -> Result<Said, String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|e| format!("cannot start {}: {e}", shown(command)))?;
    let (out, err) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let Some(code) = end_of(&mut child, limit).map_err(|e| e.to_string())? else {
        // It may have ended since: then there is nothing to kill.
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("{} did not end within {limit:?}", shown(command)));
    };
    let text = |reader: thread::JoinHandle<String>| reader.join().unwrap_or_default();
    Ok(Said {
        code,
        out: text(out),
        err: text(err),
    })
}

fn collect(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // The output before an error is still worth showing.
            let _ = stream.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A command as a command line: the program by its name, arguments quoted where a shell needs it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// A word as a POSIX shell reads it back.
pub(crate) fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        let quoted = |word: &str| quoted(OsStr::new(word));
        assert_eq!(quoted("127.0.0.1:7777"), "127.0.0.1:7777");
        assert_eq!(quoted("config.db host"), "'config.db host'");
        assert_eq!(quoted("I'm"), r"'I'\''m'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_program_is_looked_for_in_the_path() {
        assert!(in_path("sh"));
        assert!(!in_path("no-such-program"));
    }

    #[test]
    fn a_finished_program_tells_code_and_both_streams() {
        let said = finish(
            Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]),
            Duration::MAX,
        )
        .unwrap();
        assert_eq!(
            (said.code, said.out.as_str(), said.err.as_str()),
            (Some(3), "out\n", "err\n")
        );
        assert_eq!(said.all(), "out\nerr\n(exit code 3)");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let error = finish(Command::new("sleep").arg("600"), Duration::from_millis(50)).unwrap_err();
        assert_eq!(error, "sleep 600 did not end within 50ms");
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error = finish(&mut Command::new("no-such-program"), Duration::MAX).unwrap_err();
        assert!(error.starts_with("cannot start no-such-program: "), "{error}");
    }
}
