//! What operators are told of their changes.

use debug_policy::format_duration;
use debug_wire::table::HostFunction;

use crate::core::Core;
use crate::effect::Proposal;
use debug_base::{BootTime, roughly};
use debug_lease::Lease;

/// What is said of a change that was made.
pub(super) fn made(core: &Core, proposal: &Proposal, lease: &Lease) -> String {
    let verb = match proposal.function.id == HostFunction::Restore {
        true => "put back".to_owned(),
        false => proposal.change.done(),
    };
    let left = format_duration(lease.deadline.remaining(lease.made));
    let unseen = if core.exposed.points.is_unseen(lease.target()) {
        "; it has matched 0 requests so far"
    } else {
        ""
    };
    let warning = proposal
        .change
        .warning()
        .map(|warning| format!("; {warning}"))
        .unwrap_or_default();
    let behind = core
        .exposed
        .points
        .behind(lease.target())
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>();
    let behind = match behind.is_empty() {
        true => String::new(),
        false => format!("; it answers before the handler, behind {}", behind.join(", ")),
    };
    format!(
        "lease {}: {} {verb}, reverts in {left} unless confirmed{unseen}{behind}{warning}",
        lease.id,
        plain(lease)
    )
}

/// The target without its kind, as operators write it.
fn plain(lease: &Lease) -> String {
    let text = lease.target().to_string();
    text.split_once(':')
        .map_or(text.clone(), |(_, rest)| rest.to_owned())
}

/// What is said of a renewed lease.
pub(super) fn renewed(lease: &Lease, confirm: bool, now: BootTime, sooner: bool) -> String {
    let word = if confirm { "confirmed" } else { "extended" };
    let left = roughly(lease.due().0.remaining(now));
    let lost = if lease.revertible_grace().is_some() {
        ", unless its operator attaches again: its session is lost"
    } else {
        ""
    };
    let sooner = if sooner { ", sooner than before" } else { "" };
    format!(
        "lease {} {word}: {} reverts in {left}{sooner}{lost}",
        lease.id,
        lease.target()
    )
}
