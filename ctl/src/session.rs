//! A session with an agent: opened with proofs, every eval signed, and the record of every eval verified.

mod call;
mod emergency;
mod proofs;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use debug_policy::Mode;
use debug_wire::messages::{
    After, AuditRange, CancelParams, EvalParams, EvalPayload, EvalResult, FailingPatch, HelloParams,
    HelloResult, LeaseSummary, NoParams, PingResult, Process, Ready, SecretArgument,
};
use debug_wire::signature::{eval_message, secret_commitment};
use debug_wire::table::MethodId;
use rustls::sign::SigningKey;
use serde_json::Value;

use crate::net::connect::connect;
use crate::net::interrupts::Interrupts;
use crate::net::link::{Link, Loss};
use crate::net::news::{InForceSince, News};
pub(crate) use crate::session::call::EvalError;
use crate::session::call::{call, unexpected};
use crate::session::proofs::Proofs;
use crate::trust::identity::{Identity, SCHEMES};
use crate::trust::pin::Pin;
use crate::trust::store::{TrustStore, hex};
use crate::ui::failure::CommandFailure;
use crate::ui::tables;
use crate::ui::term::{self, Unwritten};

/// The limit on an eval's output, in bytes: the agent's own limit, so only a broken agent exceeds it.
const MAX_OUTPUT: usize = 1 << 20;

/// The agent's address and pin, and the operator's identity: all that attaching again needs.
pub(crate) struct AgentTarget {
    pub(crate) address: SocketAddr,
    pub(crate) identity: Identity,
    pub(crate) pin: Pin,
    pub(crate) store: TrustStore,
    /// The words of the command line that name the agent and the operator, for advice that can be typed as it is.
    pub(crate) given: String,
    /// Whether the session takes over the leases of a lost session of this operator.
    pub(crate) takes_over: bool,
}

/// An open session.
pub(crate) struct AttachedSession {
    link: Link,
    pub(crate) ready: Ready,
    /// The operator's SPIFFE id, as the agent sees it.
    pub(crate) operator: String,
    pub(crate) roles: Vec<String>,
    pub(crate) mode: Mode,
    /// The leases of an earlier session that this one took over.
    pub(crate) resumed: Vec<LeaseSummary>,
    /// The agent's process.
    pub(crate) process: Process,
    /// The leases that this session made or took over.
    pub(crate) made: BTreeSet<u64>,
    /// The changes in force in the process, as the agent last reported them.
    pub(crate) in_force: InForceSince,
    /// The leases that the operator was told have ended.
    ended: BTreeSet<u64>,
    key: Arc<dyn SigningKey>,
    exporter: [u8; 32],
    counter: u64,
    proofs: Proofs,
}

/// Code to run, with the values bound to names in it.
#[derive(Debug, Default)]
pub(crate) struct EvalRequest {
    pub(crate) code: String,
    pub(crate) args: BTreeMap<String, Value>,
    /// Secrets, sent beside the payload, which holds only their commitments.
    pub(crate) secrets: BTreeMap<String, String>,
    pub(crate) after: Option<After>,
    /// Whether it is a plan, which changes nothing.
    pub(crate) dry: bool,
    /// The reason, for a plan.
    pub(crate) reason: Option<String>,
}

impl EvalRequest {
    /// Code without arguments.
    pub(crate) fn code(code: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            ..Self::default()
        }
    }

    /// The same submission as a plan.
    pub(crate) fn dry(self, reason: Option<String>) -> Self {
        Self {
            dry: true,
            reason,
            after: None,
            ..self
        }
    }

    /// Binds a value.
    pub(crate) fn bind(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.args.insert(name.to_owned(), value.into());
        self
    }
}

impl AttachedSession {
    /// Connects, opens a session and checks that the log continues the remembered one. If the log was rewritten, cut or replaced,
    /// or if the store is unusable, an alarm is printed and the session sends only calls that end changes or list them.
    ///
    /// # Errors
    /// As [`connect`]; and the agent does not greet.
    pub(crate) async fn open(target: &AgentTarget) -> Result<Self, CommandFailure> {
        let connected = connect(target.address, &target.identity, &target.pin).await?;
        let link = Link::start(connected.stream);
        let origin = connected.ready.origin.clone();
        let mut proofs = Proofs::new(target.store.clone(), target.pin.clone(), origin);
        if let Some(late) = connected.out_of_time {
            proofs.troubled(late);
        }
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let hello = HelloParams {
            version,
            checkpoint: proofs.known_size(),
            attach: target.takes_over,
        };
        let hello: HelloResult = call(&link, MethodId::Hello, &hello).await?;
        proofs.opened(&hello);
        Ok(Self {
            link,
            ready: connected.ready,
            operator: hello.operator,
            roles: hello.roles,
            mode: Mode::Observe,
            made: hello.resumed.iter().map(|lease| lease.id).collect(),
            resumed: hello.resumed,
            process: hello.process,
            in_force: InForceSince::told(hello.in_force, Instant::now()),
            ended: BTreeSet::new(),
            key: target.identity.certified.key.clone(),
            exporter: connected.exporter,
            counter: 0,
            proofs,
        })
    }

    /// Runs code and passes its output to `output`. The first Ctrl-C cancels it; the second stops waiting.
    ///
    /// # Errors
    /// [`EvalError`].
    pub(crate) async fn eval(
        &mut self,
        submission: EvalRequest,
        interrupts: &mut Interrupts,
        output: &mut dyn FnMut(&str) -> Result<(), Unwritten>,
    ) -> Result<EvalResult, EvalError> {
        self.must_be_sound(&submission)?;
        let params = self.sign(submission)?;
        let (sender, mut printed) = Link::output();
        let begun = self.link.begin(MethodId::Eval, &params, Some(sender)).await;
        let (id, mut reply) = begun.map_err(EvalError::Lost)?;
        let (mut left, mut cancelled) = (MAX_OUTPUT, false);
        let reply = loop {
            tokio::select! {
                biased;
                // The output is shown before the reply is taken.
                Some(text) = printed.recv() => show(&text, &mut left, output)?,
                () = interrupts.next() => {
                    if cancelled {
                        return Err(EvalError::Abandoned);
                    }
                    cancelled = true;
                    term::note("cancelling; Ctrl-C again detaches");
                    self.link.begin(MethodId::Cancel, &CancelParams { id }, None).await.map_err(EvalError::Lost)?;
                }
                reply = &mut reply => break reply,
            }
        };
        while let Ok(text) = printed.try_recv() {
            show(&text, &mut left, output)?;
        }
        match reply {
            Ok(Ok(result)) => {
                if cancelled {
                    term::note("it was already done; nothing was cancelled");
                }
                self.finished(params, result)
            }
            Ok(Err(failure)) => {
                self.proofs
                    .failed(params, failure.data.code, failure.data.audit.clone());
                Err(EvalError::Failed(failure.into()))
            }
            Err(_) => Err(EvalError::Lost(self.link.loss().await)),
        }
    }

    /// Checks that this session may send a submission. If the agent could not be verified, only single calls that end changes or
    /// list them may be sent, and never a secret.
    fn must_be_sound(&self, submission: &EvalRequest) -> Result<(), CommandFailure> {
        let Some(trouble) = self.proofs.trouble() else {
            return Ok(());
        };
        if submission.secrets.is_empty() && emergency::is_one_call(&submission.code) {
            return Ok(());
        }
        let message = format!(
            "{}; nothing was sent, as only changes can be ended and looked at now",
            trouble.message
        );
        // The advice was printed with the trouble.
        let help =
            "`debugctl leases`, `revert` and `revert-all` work; for all else mend that first".to_owned();
        Err(CommandFailure {
            message,
            help,
            ..trouble.clone()
        })
    }

    /// Whether this session sends only calls that end changes or list them.
    pub(crate) fn is_in_trouble(&self) -> bool {
        self.proofs.trouble().is_some()
    }

    /// Runs code without showing its output; Ctrl-C does not cancel it.
    ///
    /// # Errors
    /// [`EvalError`].
    pub(crate) async fn quietly(&mut self, submission: EvalRequest) -> Result<EvalResult, EvalError> {
        self.eval(submission, &mut Interrupts::later(), &mut |_| Ok(()))
            .await
    }

    fn finished(&mut self, params: EvalParams, result: Value) -> Result<EvalResult, EvalError> {
        let result: EvalResult =
            serde_json::from_value(result).map_err(|error| unexpected(MethodId::Eval, &error))?;
        self.mode = result.mode;
        self.in_force = InForceSince::told(result.in_force, Instant::now());
        self.made.extend(result.leases.iter().map(|lease| lease.id));
        // The value names the leases that the eval ended itself. A lease that it made and its guard ended in between is still
        // news.
        let is_told = |lease: &&LeaseSummary| {
            matches!(lease.state.as_str(), "reverted" | "conflict")
                && tables::speaks_of(&result.display, lease.id)
        };
        self.ended
            .extend(result.leases.iter().filter(is_told).map(|lease| lease.id));
        self.proofs.answered(params, result.audit.clone());
        Ok(result)
    }

    /// Verifies that each eval of this session is in the log as it was sent.
    ///
    /// # Errors
    /// One is not, or the agent does not prove it.
    pub(crate) async fn verify(&mut self) -> Result<(), EvalError> {
        self.proofs.verify(&self.link).await
    }

    /// Asks for the changes in force and for the leases of this session that ended without an eval of its own.
    ///
    /// # Errors
    /// The connection is lost, or the agent does not answer.
    pub(crate) async fn news(&mut self) -> Result<News, EvalError> {
        let told: PingResult = call(&self.link, MethodId::Ping, &NoParams {}).await?;
        self.in_force = InForceSince::told(told.in_force, Instant::now());
        let mut news = self.take_news();
        news.failing.extend(told.failing);
        news.ended
            .extend(told.ended.into_iter().filter(|lease| self.ended.insert(lease.id)));
        Ok(news)
    }

    /// Asks for news without waiting for them.
    pub(crate) fn ask_news(&self) {
        self.link.ask_news();
    }

    /// Waits for news.
    pub(crate) async fn news_came(&self) {
        self.link.news_came().await;
    }

    /// Takes the news that have arrived: the changes in force, and the leases of this session that ended without an eval of its
    /// own.
    pub(crate) fn take_news(&mut self) -> News {
        let mut news = self.link.take_news();
        if let Some(newer) = news.in_force.filter(|told| told.is_newer(&self.in_force)) {
            self.in_force = newer;
        }
        news.ended.retain(|lease| self.ended.insert(lease.id));
        news
    }

    /// Waits until the connection is lost.
    pub(crate) async fn loss(&self) -> Loss {
        self.link.loss().await
    }

    /// Takes over the unproven evals of a lost session.
    pub(crate) fn take_over(&mut self, lost: Self) {
        self.proofs.take_over(lost.proofs);
    }

    /// Checks that nothing is left to prove, without asking the agent.
    ///
    /// # Errors
    /// Something is left.
    pub(crate) fn complete(&self) -> Result<(), CommandFailure> {
        self.proofs.complete(None)
    }

    /// Ends the session after a last verification of the log.
    ///
    /// # Errors
    /// As [`AttachedSession::verify`]; also if the connection is or was lost while something was left to prove.
    pub(crate) async fn close(mut self) -> Result<(), CommandFailure> {
        let verified = self.verify().await;
        self.link.close().await;
        match verified {
            Ok(()) | Err(EvalError::Abandoned) => self.proofs.complete(None),
            Err(EvalError::Lost(Loss(why))) => self.proofs.complete(Some(&why)),
            Err(EvalError::Failed(failure)) => Err(failure),
        }
    }

    /// The operator's name: the last part of the SPIFFE id.
    pub(crate) fn name(&self) -> &str {
        self.operator.rsplit('/').next().unwrap_or_default()
    }

    /// Signs code for this session; the counter rises with each eval.
    fn sign(&mut self, submission: EvalRequest) -> Result<EvalParams, CommandFailure> {
        let EvalRequest {
            code,
            args,
            secrets,
            after,
            dry,
            reason,
        } = submission;
        let (mut secret_args, mut beside) = (BTreeMap::new(), BTreeMap::new());
        for (name, value) in secrets {
            let (commitment, secret) = committed(value)?;
            secret_args.insert(name.clone(), commitment);
            beside.insert(name, secret);
        }
        let payload = EvalPayload {
            code,
            args,
            secret_args,
            dry,
            reason,
            after,
        };
        let payload = serde_json::to_string(&payload).map_err(|error| {
            CommandFailure::usage(format!("the arguments cannot be written as JSON: {error}"))
        })?;
        // In the message the payload is a string inside JSON, so that its quotes and line breaks take two bytes.
        if payload.len() > debug_wire::MAX_MESSAGE / 2 {
            return Err(CommandFailure::usage(format!(
                "the code takes {} bytes, too many for a message",
                payload.len()
            )));
        }
        let counter = self.counter + 1;
        let message = eval_message(&self.ready.origin, &self.exporter, counter, payload.as_bytes());
        let signature = self.signature(&message)?;
        self.counter = counter;
        Ok(EvalParams {
            payload,
            sig: BASE64_STANDARD.encode(signature),
            secrets: beside,
        })
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, CommandFailure> {
        let signer = self.key.choose_scheme(&SCHEMES);
        let signer =
            signer.ok_or_else(|| CommandFailure::usage("the key of the certificate cannot sign evals"))?;
        signer
            .sign(message)
            .map_err(|error| CommandFailure::local(format!("cannot sign the eval: {error}")))
    }
}

/// Whether a lease of a reply is in force.
pub(crate) fn is_in_force(lease: &LeaseSummary) -> bool {
    matches!(lease.state.as_str(), "provisional" | "confirmed")
}

/// The line about a patch that fails, and why.
pub(crate) fn failing_text(failing: &FailingPatch) -> String {
    let FailingPatch {
        id,
        target,
        call,
        why,
    } = failing;
    let plain = target.split_once(':').map_or(target.as_str(), |(_, plain)| plain);
    let (plain, why) = (term::line(plain), term::line(why));
    format!("lease {id}, {plain}, fails: the original answered call {call}, because {why}")
}

/// A secret's commitment in hex, and the secret with its 32 random bytes; without them the log would allow guessing it.
fn committed(value: String) -> Result<(String, SecretArgument), CommandFailure> {
    let mut salt = [0; 32];
    getrandom::fill(&mut salt)
        .map_err(|error| CommandFailure::local(format!("the system gives no random bytes: {error}")))?;
    let commitment = hex(&secret_commitment(&salt, value.as_bytes()));
    Ok((
        commitment,
        SecretArgument {
            value,
            salt: BASE64_STANDARD.encode(salt),
        },
    ))
}

/// Passes output on up to the limit.
fn show(
    text: &str,
    left: &mut usize,
    output: &mut dyn FnMut(&str) -> Result<(), Unwritten>,
) -> Result<(), CommandFailure> {
    if *left == 0 {
        return Ok(());
    }
    let shown = term::prefix(text, *left);
    *left = if shown.len() < text.len() {
        0
    } else {
        *left - shown.len()
    };
    if *left == 0 {
        term::alarm("the eval printed more than 1 MiB; the rest is not shown");
    }
    Ok(output(shown)?)
}

/// The position of an eval's records, in words.
pub(crate) fn recorded(audit: Option<&AuditRange>) -> String {
    match audit {
        Some(AuditRange { first, last, .. }) if first == last => format!("record {first}"),
        Some(AuditRange { first, last, .. }) => format!("records {first} to {last}"),
        None => "not yet on disk".to_owned(),
    }
}
