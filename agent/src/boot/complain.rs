//! The agent's lines on stderr.

/// Prints a line on stderr: before the service's subscriber is installed there is no better place.
#[expect(
    clippy::print_stderr,
    reason = "the one line that a refused start is worth; the service goes on"
)]
pub(crate) fn complain(why: &str) {
    eprintln!("debug-agent: {why}");
}
