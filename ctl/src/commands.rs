//! The subcommands that run one eval of a host function.

pub(crate) mod eval;
pub(crate) mod found;
pub(crate) mod watch;

use debug_wire::messages::EvalResult;

use crate::args::{Adopt, Prolong, Revert, Settle, Show, confirm};
use crate::commands::eval::{enter_change, warn};
use crate::net::interrupts::Interrupts;
use crate::session::{AgentTarget, AttachedSession, EvalError, EvalRequest};
use crate::ui::failure::{CommandFailure, ended};
use crate::ui::tables;
use crate::ui::term;

/// Prints the table of `leases()`, `points()` or `sessions()`.
///
/// # Errors
/// The eval fails or there is no connection.
pub(crate) async fn show(target: &AgentTarget, args: &Show, name: &str) -> Result<(), CommandFailure> {
    let print = |result: &EvalResult| {
        if args.json {
            Ok(term::json(&result.value)?)
        } else {
            tables::print(name, &result.value)
        }
    };
    one(target, None, EvalRequest::code(format!("{name}()")), print).await
}

/// `debugctl revert`.
///
/// # Errors
/// As [`show`].
pub(crate) async fn revert(target: &AgentTarget, args: &Revert) -> Result<(), CommandFailure> {
    one(
        target,
        None,
        EvalRequest::code("revert(id)").bind("id", args.id),
        display,
    )
    .await
}

/// `debugctl revert-all`.
///
/// # Errors
/// As [`show`].
pub(crate) async fn revert_all(target: &AgentTarget) -> Result<(), CommandFailure> {
    one(target, None, EvalRequest::code("revert_all()"), display).await
}

/// `debugctl confirm` and `debugctl extend`.
///
/// # Errors
/// As [`show`].
pub(crate) async fn prolong(target: &AgentTarget, args: &Prolong, name: &str) -> Result<(), CommandFailure> {
    let submission = EvalRequest::code(format!("{name}(id, ttl)"));
    let submission = submission.bind("id", args.id).bind("ttl", args.ttl.as_str());
    one(target, Some(&args.reason), submission, display).await
}

/// `debugctl adopt`.
///
/// # Errors
/// As [`show`].
pub(crate) async fn adopt(target: &AgentTarget, args: &Adopt) -> Result<(), CommandFailure> {
    let confirming = confirm(&target.given, args.id);
    let adopted = |result: &EvalResult| {
        display(result)?;
        // An operator who adopts a change and goes on to watch it would not expect it to end with this command.
        if result.leases.iter().any(|lease| lease.state == "provisional") {
            term::note(&format!(
                "it was not confirmed: it reverts 60 s from now unless you attach, or confirm it:\n  {confirming}"
            ));
        }
        Ok(())
    };
    one(
        target,
        Some(&args.reason),
        EvalRequest::code("adopt(id)").bind("id", args.id),
        adopted,
    )
    .await
}

/// `debugctl settle`.
///
/// # Errors
/// As [`show`].
pub(crate) async fn settle(target: &AgentTarget, args: &Settle) -> Result<(), CommandFailure> {
    let submission = EvalRequest::code("settle(id, how)")
        .bind("id", args.id)
        .bind("how", args.how.as_str());
    one(target, Some(&args.reason), submission, display).await
}

fn display(result: &EvalResult) -> Result<(), CommandFailure> {
    if result.display.is_empty() {
        Ok(())
    } else {
        Ok(term::out(&result.display)?)
    }
}

/// Attaches, runs one eval, detaches.
async fn one(
    target: &AgentTarget,
    reason: Option<&str>,
    submission: EvalRequest,
    print: impl Fn(&EvalResult) -> Result<(), CommandFailure>,
) -> Result<(), CommandFailure> {
    let mut session = AttachedSession::open(target).await?;
    let result = run(&mut session, reason, submission).await;
    let printed = result.map_err(CommandFailure::from).and_then(|result| {
        warn(&result);
        print(&result)
    });
    let answered = printed.is_ok();
    let closed = session.close().await;
    ended(printed, closed).map_err(|failure| failure.answered(answered))
}

async fn run(
    session: &mut AttachedSession,
    reason: Option<&str>,
    submission: EvalRequest,
) -> Result<EvalResult, EvalError> {
    let mut interrupts = Interrupts::listen();
    if let Some(reason) = reason {
        enter_change(session, &mut interrupts, reason).await?;
    }
    session.eval(submission, &mut interrupts, &mut term::stream).await
}
