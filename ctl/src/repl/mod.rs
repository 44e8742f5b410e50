//! `debugctl attach`: submissions in, values out, until the operator leaves.

mod commands;
mod editor;
mod history;
mod input;
mod keys;
mod lexer;
mod lines;
mod prompt;
mod source;

use std::time::Duration;

use debug_policy::Mode;
use debug_wire::messages::{After, EvalResult, LeaseSummary, Process};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::args::{Attach, confirm};
use crate::commands::eval::{enter_change, tell_changes, warn};
use crate::net::interrupts::{HeldSignals, Interrupts};
use crate::net::link::{GRACE, Loss};
use crate::session::{AgentTarget, AttachedSession, EvalError, EvalRequest};
use crate::trust::identity::now;
use crate::ui::failure::{CommandFailure, ended};
use crate::ui::tables;
use crate::ui::term;
use commands::PromptCommand;
use input::Input;
use keys::KeptKeys;
use prompt::SessionPrompt;
use source::Source;

/// How many leases are listed with the command that confirms them.
const MAX_SHOWN: usize = 20;
/// How long a lost session is retried: half of the agent's grace, so that time is left to act.
const RETRY_FOR: Duration = Duration::from_secs(30);
/// The interval of these retries.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// The failure code of an unknown name, among others.
const UNKNOWN: &str = "eval";

/// An attached operator.
struct Repl<'t> {
    target: &'t AgentTarget,
    session: AttachedSession,
    interrupts: Interrupts,
    source: Source,
    /// The first failure, for the exit code of a non-interactive run.
    failed: Option<CommandFailure>,
    /// Whether to continue after a failure.
    keep_going: bool,
}

/// Whether the loop continues.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LoopFlow {
    Continue,
    Leave,
}

/// Attaches and serves the operator.
///
/// # Errors
/// There is no connection, or it was lost; the agent's log does not verify, or an eval was never proven to be in it. Without a
/// terminal also the first failed submission; it ends the run unless `--keep-going` was given.
pub(crate) async fn attach(target: &AgentTarget, args: &Attach) -> Result<(), CommandFailure> {
    let session = AttachedSession::open(target).await?;
    let interrupts = Interrupts::listen();
    let source = Source::open(&target.store);
    let interactive = source.is_interactive();
    let mut ends = if interactive {
        HeldSignals::listen()?
    } else {
        HeldSignals::at_once()
    };
    let keys = if source.is_drawn() {
        KeptKeys::begin()
    } else {
        None
    };
    let keep_going = interactive || args.keep_going;
    let mut repl = Repl {
        target,
        session,
        interrupts,
        source,
        failed: None,
        keep_going,
    };
    repl.greet();
    let left = tokio::select! {
        left = repl.run(args.change.reason.as_deref()) => left,
        () = ends.next() => {
            // The editor still reads in its own mode; messages begin on a line of their own.
            drop(keys);
            term::note("");
            // No orderly close: it could take as long as an unresponsive agent likes.
            let left = CommandFailure::connection("a signal asked to end").help(GRACE);
            return ended(Err(left), repl.session.complete());
        }
    };
    drop(keys);
    let closed = repl.session.close().await;
    let left = left.and(match repl.failed {
        Some(failure) if args.keep_going && !interactive => {
            let message = format!(
                "not all submissions succeeded; the first failure was: {}",
                failure.message
            );
            Err(CommandFailure {
                message,
                help: String::new(),
                ..failure
            })
        }
        Some(failure) if !interactive => Err(failure.told()),
        _ => Ok(()),
    });
    ended(left, closed)
}

impl Repl<'_> {
    /// Prints, to stderr, the agent and the operator's identity and roles.
    fn greet(&self) {
        let AttachedSession {
            ready,
            roles,
            resumed,
            mode,
            ..
        } = &self.session;
        term::note(&format!(
            "attached to {}, instance {}, environment {} (agent {}) as {} with the roles {}",
            term::line(&ready.service),
            term::line(&ready.instance),
            term::line(&ready.environment),
            term::line(&ready.version),
            term::line(self.session.name()),
            if roles.is_empty() {
                "none".into()
            } else {
                term::line(&roles.join(", ")).into_owned()
            },
        ));
        if self.session.is_in_trouble() {
            term::note(
                "so only these work here: `:leases`, `:revert ID`, `:revert_all`, `:sessions`, `:info`, `:help`",
            );
        } else if *mode == Mode::Observe && self.source.is_interactive() {
            term::note(
                "nothing can be changed before `:change REASON`; help() and :help tell more, Ctrl-D leaves",
            );
        }
        for LeaseSummary {
            id,
            target,
            remaining_ms,
            ..
        } in resumed
        {
            let (target, left) = (term::line(target), term::span(*remaining_ms));
            term::note(&format!(
                "taken over from your lost session: lease {id}, {target}, reverts in {left}"
            ));
        }
        if let Some(warning) = self.target.identity.validity.warning(now()) {
            term::note(&format!("warning: {warning}"));
        }
    }

    /// Enters the mode `change` if a reason is given, and serves until the operator leaves.
    async fn run(&mut self, reason: Option<&str>) -> Result<(), CommandFailure> {
        if let Some(reason) = reason {
            let entered = enter_change(&mut self.session, &mut self.interrupts, reason).await;
            self.answer(entered, &print).await?;
            if self.stops().await? {
                return Ok(());
            }
        }
        self.serve().await
    }

    /// Whether the run stops here: the last submission failed, and no person is there to decide about the rest.
    async fn stops(&mut self) -> Result<bool, CommandFailure> {
        if self.keep_going || self.failed.is_none() {
            return Ok(false);
        }
        if let Some(line) = self.source.line().filter(|line| *line > 0) {
            term::note(&format!(
                "stopped at the submission in line {line}: nothing below it was run; `--keep-going` runs it"
            ));
        }
        self.detach().await?;
        Ok(true)
    }

    async fn serve(&mut self) -> Result<(), CommandFailure> {
        loop {
            // The changes in force are looked up for every prompt: other sessions make changes, and deadlines pass.
            if self.source.is_interactive() && self.news().await? == LoopFlow::Leave {
                return Ok(());
            }
            let prompt = SessionPrompt::new(&self.session);
            let input = self
                .source
                .next(prompt, &mut self.interrupts, &mut self.session)
                .await?;
            let flow = match input {
                Input::Text(text) if text.trim().is_empty() => LoopFlow::Continue,
                Input::Text(text) if commands::is_goodbye(&text) => self.goodbye(text).await?,
                Input::Text(text) if text.starts_with(':') => self.command(&text).await?,
                Input::Text(text) => self.submit(EvalRequest::code(text), &print).await?,
                Input::Interrupted => LoopFlow::Continue,
                Input::End => self.detach().await?,
                Input::Lost(loss) => self.attach_again(loss).await?,
            };
            if flow == LoopFlow::Leave || self.stops().await? {
                return Ok(());
            }
        }
    }

    /// Runs a word like `exit`, which may be a name in the session or the service. If it is not, the operator leaves.
    async fn goodbye(&mut self, word: String) -> Result<LoopFlow, CommandFailure> {
        let submission = EvalRequest {
            after: Some(After::Revert),
            ..EvalRequest::code(word)
        };
        match self
            .session
            .eval(submission, &mut self.interrupts, &mut term::stream)
            .await
        {
            Err(EvalError::Failed(failure)) if failure.code == UNKNOWN || self.session.is_in_trouble() => {
                match self.proven().await? {
                    LoopFlow::Continue => self.detach().await,
                    LoopFlow::Leave => Ok(LoopFlow::Leave),
                }
            }
            result => self.answer(result, &print).await,
        }
    }

    /// Prints the news since the last prompt.
    async fn news(&mut self) -> Result<LoopFlow, CommandFailure> {
        match self.session.news().await {
            Ok(ended) => {
                input::tell(&ended);
                Ok(LoopFlow::Continue)
            }
            Err(EvalError::Lost(loss)) => self.attach_again(loss).await,
            // Missing news are no reason to leave; the next answers show what is wrong.
            Err(EvalError::Failed(_) | EvalError::Abandoned) => Ok(LoopFlow::Continue),
        }
    }

    async fn command(&mut self, line: &str) -> Result<LoopFlow, CommandFailure> {
        match commands::parse(line) {
            Ok(PromptCommand::Run(submission)) => self.submit(submission, &print).await,
            Ok(PromptCommand::Table(name)) => {
                let table = |result: &EvalResult| tables::print(name, &result.value);
                self.submit(EvalRequest::code(format!("{name}()")), &table).await
            }
            Ok(PromptCommand::Help) => {
                term::out(&commands::help())?;
                self.submit(EvalRequest::code("help()"), &print).await
            }
            Ok(PromptCommand::Quit) => self.detach().await,
            Err(failure) => {
                // No agent has seen this line, so it is not known whether it holds a secret.
                self.source.settle(false);
                self.note_failure(failure);
                Ok(LoopFlow::Continue)
            }
        }
    }

    /// Runs a submission, shows its result, and requests the proof of its record.
    async fn submit(
        &mut self,
        submission: EvalRequest,
        show: &dyn Fn(&EvalResult) -> Result<(), CommandFailure>,
    ) -> Result<LoopFlow, CommandFailure> {
        let result = self.eval(submission).await;
        self.answer(result, show).await
    }

    async fn eval(&mut self, mut submission: EvalRequest) -> Result<EvalResult, EvalError> {
        submission.after = Some(After::Revert);
        if self.source.is_interactive() {
            // A Ctrl-C after the last answer was not meant for this submission.
            self.interrupts.forget().await;
        }
        self.session
            .eval(submission, &mut self.interrupts, &mut term::stream)
            .await
    }

    async fn answer(
        &mut self,
        result: Result<EvalResult, EvalError>,
        show: &dyn Fn(&EvalResult) -> Result<(), CommandFailure>,
    ) -> Result<LoopFlow, CommandFailure> {
        self.source.settle(is_recorded(&result));
        match result {
            Ok(result) => {
                warn(&result);
                show(&result)?;
                tell_changes(&result);
            }
            Err(EvalError::Failed(failure)) => self.note_failure(failure),
            Err(EvalError::Lost(loss)) => {
                term::note("the connection was lost while this ran; the audit log tells what became of it");
                return self.attach_again(loss).await;
            }
            Err(abandoned @ EvalError::Abandoned) => return Err(abandoned.into()),
        }
        self.proven().await
    }

    /// Requests the proofs of the answered evals.
    async fn proven(&mut self) -> Result<LoopFlow, CommandFailure> {
        match self.session.verify().await {
            Ok(()) | Err(EvalError::Abandoned) => Ok(LoopFlow::Continue),
            Err(EvalError::Lost(loss)) => self.attach_again(loss).await,
            // From here on nothing that this agent says can be relied on.
            Err(EvalError::Failed(failure)) => Err(failure),
        }
    }

    fn note_failure(&mut self, failure: CommandFailure) {
        failure.print();
        self.failed.get_or_insert(failure);
    }

    /// Opens another session in place of a lost one.
    async fn attach_again(&mut self, loss: Loss) -> Result<LoopFlow, CommandFailure> {
        let (why, outlook) = (loss.0.clone(), loss.outlook());
        let lost = CommandFailure::from(loss);
        if !self.source.is_interactive() {
            return Err(lost);
        }
        term::note(&format!(
            "the connection was lost: {why}; {outlook}. Attaching again for {} s; Ctrl-C gives up …",
            RETRY_FOR.as_secs()
        ));
        let deadline = Instant::now() + RETRY_FOR;
        while Instant::now() < deadline {
            match AttachedSession::open(self.target).await {
                Ok(session) => {
                    let lost = std::mem::replace(&mut self.session, session);
                    let (before, had_changes) = (lost.process, !lost.made.is_empty());
                    self.session.take_over(lost);
                    self.greet();
                    term::note(&anew(before, self.session.process, had_changes));
                    return Ok(LoopFlow::Continue);
                }
                // Nothing listens there yet. Any other failure does not pass by waiting.
                Err(failure) if failure.is_no_connection() => {}
                Err(failure) => return Err(failure),
            }
            tokio::select! {
                () = sleep(RETRY_EVERY) => {}
                () = self.interrupts.next() => break,
            }
        }
        Err(lost)
    }

    /// Leaves, after asking what to do with the changes in force.
    async fn detach(&mut self) -> Result<LoopFlow, CommandFailure> {
        // What runs from here on does not settle the line that led here.
        self.source.settle(false);
        let held = self.in_force().await?;
        if held.is_empty() {
            return Ok(LoopFlow::Leave);
        }
        let ids = tables::leases_text(&held);
        if !self.source.is_interactive() {
            term::note(&format!("in force: {ids}; {GRACE}"));
            return Ok(LoopFlow::Leave);
        }
        term::note(&format!("of this session, in force: {ids}"));
        // A session's leases end with it, so `keep` only means the grace; `confirm` keeps them.
        let question = "revert now, keep for 60 s more, or stay? [r/k/S]";
        loop {
            match self.source.ask(question, &mut self.interrupts).await.as_deref() {
                Some("r" | "revert") => return self.revert(&held).await,
                Some("k" | "keep") => {
                    term::note(&format!("{GRACE}. {}", confirming(&held, &self.target.given)));
                    return Ok(LoopFlow::Leave);
                }
                Some("" | "s" | "stay") | None => return Ok(LoopFlow::Continue),
                // A mistyped answer must not pass for a valid one.
                Some(_) => term::note("that is no answer: `r` reverts, `k` keeps, `s` or Enter alone stays"),
            }
        }
    }

    /// Reverts the leases, the newest first, and leaves even if that fails: an operator who has answered expects no prompt.
    ///
    /// # Errors
    /// Some could not be reverted.
    async fn revert(&mut self, held: &[u64]) -> Result<LoopFlow, CommandFailure> {
        for id in held.iter().rev() {
            self.revert_one(*id).await?;
        }
        let left = self.in_force().await?;
        if left.is_empty() {
            return Ok(LoopFlow::Leave);
        }
        let message = format!("{} could not be reverted", tables::leases_text(&left));
        let help = format!(
            "`debugctl leases {}` tells what stands in the way, and whether the agent goes on trying",
            self.target.given
        );
        Err(CommandFailure::not_done(message).help(help))
    }

    /// Reverts a lease. One that has ended since it was shown needs no revert, and its refusal is no news.
    async fn revert_one(&mut self, id: u64) -> Result<LoopFlow, CommandFailure> {
        let result = self.eval(EvalRequest::code("revert(id)").bind("id", id)).await;
        if matches!(result, Err(EvalError::Failed(_))) && self.is_gone(id).await? {
            return self.proven().await;
        }
        self.answer(result, &print).await
    }

    /// Whether the agent lists no lease with that id, not even as a conflict.
    async fn is_gone(&mut self, id: u64) -> Result<bool, CommandFailure> {
        match self.session.quietly(EvalRequest::code("leases()")).await {
            Ok(result) => Ok(result.value.is_array() && only(&result.value, &[id]).is_empty()),
            // It is not known, so the refusal is told.
            Err(EvalError::Failed(_)) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }

    /// The leases of this session that are in force. Prints them as a table to stderr, as it answers no submission.
    async fn in_force(&mut self) -> Result<Vec<u64>, CommandFailure> {
        if self.session.made.is_empty() {
            return Ok(Vec::new());
        }
        let value = match self.session.quietly(EvalRequest::code("leases()")).await {
            Ok(result) => result.value,
            Err(EvalError::Failed(failure)) => {
                term::note(&format!(
                    "which leases are in force is not known: {}; {GRACE}",
                    failure.message
                ));
                return Ok(Vec::new());
            }
            Err(other) => return Err(other.into()),
        };
        let standing = tables::in_force(&value);
        let held: Vec<u64> = self.session.made.intersection(&standing).copied().collect();
        if !held.is_empty() {
            term::note(&tables::text("leases", &only(&value, &held)));
        }
        Ok(held)
    }
}

/// Whether the agent has recorded the code of an eval, and so has found no secret in it. A recorded eval that could not be written
/// to the log yet counts, since it has run. One whose answer is missing does not.
fn is_recorded(result: &Result<EvalResult, EvalError>) -> bool {
    match result {
        Ok(_) => true,
        Err(EvalError::Failed(failure)) => failure.recorded,
        Err(EvalError::Lost(_) | EvalError::Abandoned) => false,
    }
}

/// The commands that keep these leases for longer, one a line, as they can be typed.
fn confirming(ids: &[u64], given: &str) -> String {
    let command = |id: &u64| format!("\n  {}", confirm(given, *id));
    let shown: String = ids.iter().take(MAX_SHOWN).map(command).collect();
    let more = match ids.len().saturating_sub(MAX_SHOWN) {
        0 => String::new(),
        more => format!("\n  and so on for {more} more"),
    };
    format!("To keep one longer, confirm it:{shown}{more}")
}

/// What differs in a session that replaces a lost one.
fn anew(before: Process, now: Process, had_changes: bool) -> String {
    const SESSION: &str = "variables, functions and the mode of the session before are gone";
    if before == now {
        return format!("a new session of the same process: {SESSION}");
    }
    let which = match before.pid == now.pid {
        true => format!("another one, which has the id {} again", now.pid),
        false => format!("{}, before it was {}", now.pid, before.pid),
    };
    let changes = if had_changes {
        "what you had changed in it is gone with it, and "
    } else {
        ""
    };
    format!("the service was started anew meanwhile (its process is {which}): {changes}{SESSION}")
}

/// The rows with these ids.
fn only(rows: &Value, ids: &[u64]) -> Vec<Value> {
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    let mine = |row: &&Value| {
        row.get("id")
            .and_then(Value::as_u64)
            .is_some_and(|id| ids.contains(&id))
    };
    rows.iter().filter(mine).cloned().collect()
}

fn print(result: &EvalResult) -> Result<(), CommandFailure> {
    if result.display.is_empty() {
        Ok(())
    } else {
        Ok(term::out(&result.display)?)
    }
}
