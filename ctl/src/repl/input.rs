//! What one reading of a source gives, and the news that are printed meanwhile.

use std::time::Duration;

use debug_wire::messages::EndedLease;

use crate::net::link::Loss;
use crate::net::news::News;
use crate::session::failing_text;
use crate::ui::term;

/// How often the agent is asked for news while a line is typed, and how often the prompt counts down: news are shown within about
/// a second.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// An input.
#[derive(Debug)]
pub(super) enum Input {
    /// A submission, of one or more lines.
    Text(String),
    /// Ctrl-C: the line is discarded.
    Interrupted,
    /// Ctrl-D, or the end of the file.
    End,
    /// The connection was lost before a submission came.
    Lost(Loss),
}

/// The limit on ended leases printed at once.
const MAX_ENDED: usize = 20;

/// Prints which patches fail and which leases have ended, one a line.
pub(super) fn tell(News { ended, failing, .. }: &News) {
    failing
        .iter()
        .for_each(|failing| term::note(&failing_text(failing)));
    for lease in ended.iter().take(MAX_ENDED) {
        term::note(&end_text(lease));
    }
    if ended.len() > MAX_ENDED {
        term::note(&format!("and {} leases more", ended.len() - MAX_ENDED));
    }
}

/// The line about a lease that has ended, and why.
fn end_text(lease: &EndedLease) -> String {
    let EndedLease { id, target, how, why } = lease;
    let plain = target.split_once(':').map_or(target.as_str(), |(_, plain)| plain);
    let how = match how.as_str() {
        "reverted" => "was reverted".to_owned(),
        "expired" => "has ended, as its time is over".to_owned(),
        "guard-failed" => "has ended, as its guard no longer holds".to_owned(),
        "breaker" => "has ended, as it failed too often or took too long".to_owned(),
        "conflict" => format!(
            "has ended, but the service itself had changed that: `:settle {id} keep` leaves it so, `:settle {id} force` \
             undoes the change all the same, once its place is known"
        ),
        other => format!("has ended: {}", term::line(other)),
    };
    let why = if why.is_empty() {
        String::new()
    } else {
        format!(" ({})", term::line(why))
    };
    format!("lease {id}, {}, {how}{why}", term::line(plain))
}
