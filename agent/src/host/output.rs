//! What a script prints.

use std::time::Duration;

use debug_audit::Until;
use debug_script::meter::{self, End};
use debug_wire::messages::{FromAgent, Output};

use crate::core::Core;
use crate::session::context::EvalContext;
use crate::session::limits::MAX_OUTPUT;

/// The most bytes of one `output` message.
const OUTPUT_CHUNK: usize = 64 << 10;

/// How long an eval waits for a slow client to take output before its session is closed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Streams what a script prints, in chunks, without the secrets known now.
pub(crate) fn print(core: &Core, run: &EvalContext, text: &str) {
    let outbox = &run.session.outbox;
    let line = format!("{}\n", run.scrub(&core.recorder, &core.exposed, text));
    if !run.may_send(line.len(), MAX_OUTPUT) {
        meter::end(End::Size);
        return;
    }
    // The process may die after the output: the eval's record must be on disk first.
    if core
        .recorder
        .log
        .append(Vec::new(), Until::Durable)
        .durable()
        .is_err()
    {
        meter::end(End::Refused);
        return;
    }
    let mut rest = line.as_str();
    while !rest.is_empty() {
        let mut at = rest.len().min(OUTPUT_CHUNK);
        while !rest.is_char_boundary(at) {
            at -= 1;
        }
        let (chunk, tail) = rest.split_at(at);
        rest = tail;
        let output = Output {
            id: run.call,
            text: chunk.to_owned(),
        };
        let sent = FromAgent::notification("output", &output)
            .ok()
            .map(|m| outbox.send_patiently(m, PATIENCE));
        if !matches!(sent, Some(Ok(()))) {
            meter::end(End::Cancelled);
            return;
        }
    }
}
