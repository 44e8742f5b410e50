//! Lines of scripts in the service's log.

/// Writes one line to the service's log that cannot pose as the service's: with its own target, escaped, with its
/// author.
pub(crate) fn script_log(operator: &str, lease: Option<u64>, eval: Option<u64>, warn: bool, text: &str) {
    let line = debug_base::escape(text);
    if warn {
        tracing::warn!(target: "debug_agent::script", operator, lease, eval, "{line}");
    } else {
        tracing::info!(target: "debug_agent::script", operator, lease, eval, "{line}");
    }
}
