//! What the agent must prove: that its log only grew, and that it holds what this session sent, unaltered.

use debug_audit::tree;
use debug_wire::json;
use debug_wire::messages::{AuditRange, Code, EvalParams, HelloResult, ProofParams, ProofResult};
use debug_wire::table::MethodId;
use serde::Deserialize;

use crate::net::link::Link;
use crate::session::call::{EvalError, call};
use crate::session::emergency;
use crate::trust::pin::Pin;
use crate::trust::store::{Signed, TrustStore, hashes};
use crate::ui::failure::{CommandFailure, Exit};
use crate::ui::term;

#[cfg(test)]
mod tests;

/// The newest checkpoint that holds, and the evals that are not proven to be in the log yet.
pub(crate) struct Proofs {
    store: TrustStore,
    pin: Pin,
    origin: String,
    latest: Option<Signed>,
    unseen: Vec<Sent>,
    /// The number of evals that went into another log, of which nothing can be proven any more.
    orphans: usize,
    /// The number of evals that must be in the log and were answered without their position in it.
    unplaced: usize,
    /// Why this session cannot be verified against what is remembered; printed already. Changes can be ended nevertheless.
    trouble: Option<CommandFailure>,
    /// Whether the agent's head is not signed by the pinned key, so that nothing can be proven against it.
    unverifiable: bool,
}

/// An eval that was sent, and the position that its records must have.
struct Sent {
    payload: String,
    sig: String,
    audit: AuditRange,
}

/// The members of an `eval` record that the operator decides.
#[derive(Deserialize)]
struct EvalRecord {
    seq: u64,
    kind: String,
    session: u64,
    sig: String,
    payload: Option<String>,
    /// The number of `eval.part` records right before it that hold the payload, if it does not fit into this one.
    parts: Option<u64>,
}

/// An `eval.part` record.
#[derive(Deserialize)]
struct PartRecord {
    seq: u64,
    kind: String,
    session: u64,
    part: u64,
    text: String,
}

/// The limit on the parts of a payload: an agent splits the longest payload of a message into fewer than 100.
const MAX_PARTS: u64 = 1000;

impl Proofs {
    /// Starts from the remembered checkpoint of that origin; an unusable store is [trouble](Proofs::troubled).
    pub(crate) fn new(store: TrustStore, pin: Pin, origin: String) -> Self {
        let (latest, trouble) = match store.remembered(&origin, &pin.vkey) {
            Ok(latest) => (latest, None),
            Err(failure) => (None, Some(failure)),
        };
        if latest.is_none() && trouble.is_none() {
            for other in store.other_logs(&origin, &pin.vkey) {
                term::alarm(&format!(
                    "this agent begins another log, `{origin}`; known of this instance is `{other}`. If the audit folder \
                     was not emptied on purpose, ask why"
                ));
            }
        }
        let mut proofs = Self {
            store,
            pin,
            origin,
            latest,
            unseen: Vec::new(),
            orphans: 0,
            unplaced: 0,
            trouble: None,
            unverifiable: false,
        };
        if let Some(failure) = trouble {
            proofs.troubled(failure);
        }
        proofs
    }

    /// Prints and keeps the reason why this session cannot be verified against what is known of the agent. From then on only
    /// calls that end changes or list them are sent: the way back must not depend on a proof that it does not need.
    pub(crate) fn troubled(&mut self, failure: CommandFailure) {
        term::alarm(&failure.message);
        if !failure.help.is_empty() {
            term::note(&format!("help: {}", failure.help));
        }
        // The first failure decides the exit code and is named in refusals; all were printed.
        self.trouble.get_or_insert(failure);
    }

    /// The first [trouble](Proofs::troubled) of the session.
    pub(crate) fn trouble(&self) -> Option<&CommandFailure> {
        self.trouble.as_ref()
    }

    /// The size of the newest known checkpoint; 0 if there is none.
    pub(crate) fn known_size(&self) -> u64 {
        self.latest.as_ref().map_or(0, |signed| signed.head.size)
    }

    /// Checks the checkpoint of `hello` against what is remembered. One that the pinned key did not sign, or that does not
    /// continue the remembered one, is [trouble](Proofs::troubled).
    pub(crate) fn opened(&mut self, hello: &HelloResult) {
        let signed = match self.open(&hello.checkpoint) {
            Ok(signed) => signed,
            Err(failure) => {
                self.unverifiable = true;
                return self.troubled(failure);
            }
        };
        if let Err(rewritten) = self.accept(signed.clone(), &hello.consistency) {
            self.troubled(rewritten);
            // From here on evals are verified against this checkpoint; the remembered one stays as it is.
            self.latest = Some(signed);
        }
    }

    /// Notes an eval with a result. Only an eval that may be answered before it is recorded may lack its position in the log.
    pub(crate) fn answered(&mut self, params: EvalParams, audit: Option<AuditRange>) {
        match audit {
            Some(audit) => self.expect(params, audit),
            None if emergency::may_wait(&params.payload) => {}
            None => self.unplaced += 1,
        }
    }

    /// Notes a failed eval. An eval that its own code made fail was recorded like one with a result. One refused for another
    /// reason may never have reached the log, so it may lack its position in it.
    pub(crate) fn failed(&mut self, params: EvalParams, code: Code, audit: Option<AuditRange>) {
        match audit {
            Some(audit) => self.expect(params, audit),
            None if code == Code::Eval => self.answered(params, None),
            None => {}
        }
    }

    fn expect(&mut self, params: EvalParams, audit: AuditRange) {
        self.unseen.push(Sent {
            payload: params.payload,
            sig: params.sig,
            audit,
        });
    }

    /// Takes over the unproven evals of an earlier session with this agent: the log may be the same.
    pub(crate) fn take_over(&mut self, earlier: Self) {
        let Self {
            origin,
            unseen,
            orphans,
            unplaced,
            ..
        } = earlier;
        self.orphans += orphans;
        self.unplaced += unplaced;
        if origin == self.origin {
            self.unseen.splice(0..0, unseen);
        } else {
            self.orphans += unseen.len();
        }
    }

    /// Checks that nothing is left to prove when the session ends. `why` is the reason of the end, if the operator did not end
    /// it.
    ///
    /// # Errors
    /// Something is left: what the agent said about it rests on its word alone.
    pub(crate) fn complete(&self, why: Option<&str>) -> Result<(), CommandFailure> {
        let (unproven, unplaced) = (self.unseen.len() + self.orphans, self.unplaced);
        let mut open = Vec::new();
        if unproven > 0 {
            let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
            let which = if unproven == 1 {
                "the last eval is".into()
            } else {
                format!("{unproven} evals are")
            };
            open.push(format!(
                "the session ended{why} before the agent proved that {which} in its log"
            ));
        }
        if unplaced > 0 {
            let which = if unplaced == 1 {
                "an eval is".into()
            } else {
                format!("{unplaced} evals are")
            };
            open.push(format!("the agent did not say where in its log {which}"));
        }
        if let Some(trouble) = self
            .trouble
            .as_ref()
            .filter(|_| open.is_empty() || self.unverifiable)
        {
            return Err(CommandFailure {
                exit: Exit::Audit,
                ..trouble.clone().told()
            });
        }
        if open.is_empty() {
            return Ok(());
        }
        Err(CommandFailure::verification(open.join("; ")).help(format!(
            "what was answered rests on the agent's word: verify the folder of the log `{}` with `debugctl audit verify`, \
             and look for what you sent with `debugctl audit list`",
            self.origin
        )))
    }

    /// Requests the proofs of all evals since the last call.
    ///
    /// # Errors
    /// A proof does not hold or is not given, or the connection is lost.
    pub(crate) async fn verify(&mut self, link: &Link) -> Result<(), EvalError> {
        if self.unverifiable {
            return Ok(());
        }
        while let Some(sent) = self.unseen.first() {
            let (note, index) = (sent.audit.checkpoint.clone(), sent.audit.eval);
            self.advance(link, &note).await?;
            self.check_own(link, index).await?;
            self.unseen.remove(0);
        }
        Ok(())
    }

    /// Advances to a newer checkpoint, with a proof that the log only grew.
    async fn advance(&mut self, link: &Link, note: &str) -> Result<(), EvalError> {
        let signed = self.open(note)?;
        let (known, size) = (self.known_size(), signed.head.size);
        let (from, to) = (known.min(size), known.max(size));
        let proof = if from == 0 || from == to {
            Vec::new()
        } else {
            prove(
                link,
                &ProofParams {
                    index: None,
                    from: Some(from),
                    size: to,
                },
            )
            .await?
            .hashes
        };
        if size < known {
            // A newer head came with an earlier reply; this one must be a prefix of that log.
            return Ok(self.check_earlier(&signed, &proof)?);
        }
        Ok(self.accept(signed, &proof)?)
    }

    fn open(&self, note: &str) -> Result<Signed, CommandFailure> {
        let wrong = |why: String| {
            CommandFailure::verification(format!("the agent's checkpoint does not hold: {why}"))
                .help("the pinned log key and this agent do not belong together; ask who runs it")
        };
        let signed = Signed::open(note, &self.pin.vkey).map_err(wrong)?;
        if signed.head.origin != self.origin {
            return Err(wrong(format!("it is of the log `{}`", signed.head.origin)));
        }
        Ok(signed)
    }

    fn accept(&mut self, signed: Signed, proof: &[String]) -> Result<(), CommandFailure> {
        if let Some(latest) = &self.latest {
            let grown = hashes(proof).and_then(|hashes| signed.grew_from(latest, &hashes));
            grown.map_err(|why| self.rewritten(latest, &signed, proof, &why))?;
        }
        // After trouble the remembered checkpoint is not overwritten: it may be evidence.
        if self.trouble.is_none()
            && let Err(failure) = self.store.keep(&signed, &self.pin.vkey)
        {
            self.troubled(failure);
        }
        self.latest = Some(signed);
        Ok(())
    }

    fn check_earlier(&self, signed: &Signed, proof: &[String]) -> Result<(), CommandFailure> {
        let Some(latest) = &self.latest else { return Ok(()) };
        let part = hashes(proof).and_then(|hashes| latest.grew_from(signed, &hashes));
        part.map_err(|why| self.rewritten(latest, signed, proof, &why))
    }

    /// The failure for a log that was rewritten; keeps the evidence.
    fn rewritten(&self, latest: &Signed, offered: &Signed, proof: &[String], why: &str) -> CommandFailure {
        let what = format!(
            "the log of {} records does not continue the one of {} records that it was",
            offered.head.size, latest.head.size
        );
        let kept = self
            .store
            .keep_evidence(&what, &self.pin, latest, &offered.note, proof);
        CommandFailure::verification(format!("the agent's log was rewritten: {what}: {why}")).help(format!(
            "{kept}; do not trust this host before it was looked into"
        ))
    }

    /// Checks that the first unproven eval is in the log, complete and as it was sent.
    async fn check_own(&self, link: &Link, index: u64) -> Result<(), EvalError> {
        let Some(sent) = self.unseen.first() else {
            return Ok(());
        };
        let line = self.record(link, index, index).await?;
        let wrong = |why: String| differs(index, why);
        let record: EvalRecord = json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
        if record.seq != index || record.kind != "eval" {
            return Err(wrong(format!("it is record {} of kind `{}`", record.seq, record.kind)).into());
        }
        if record.sig != sent.sig {
            return Err(wrong("the signature differs".to_owned()).into());
        }
        match (&record.payload, record.parts) {
            (Some(payload), None) if *payload == sent.payload => Ok(()),
            (None, Some(parts)) => self.check_parts(link, &sent.payload, &record, parts).await,
            _ => Err(wrong("the payload differs".to_owned()).into()),
        }
    }

    /// Checks that the records right before an eval's hold its payload and nothing else. The signature in the eval's record does
    /// not prove that.
    async fn check_parts(
        &self,
        link: &Link,
        payload: &str,
        eval: &EvalRecord,
        parts: u64,
    ) -> Result<(), EvalError> {
        let wrong = |why: String| differs(eval.seq, why);
        let first = eval.seq.checked_sub(parts).filter(|_| parts <= MAX_PARTS);
        let first = first.ok_or_else(|| wrong(format!("it cannot have {parts} parts")))?;
        let mut rest = payload;
        for (seq, number) in (first..eval.seq).zip(0..) {
            let line = self.record(link, eval.seq, seq).await?;
            let part: PartRecord =
                json::from_str(&line).map_err(|error| wrong(format!("its part in record {seq}: {error}")))?;
            let is_it = part.seq == seq && part.kind == "eval.part";
            if !is_it || part.session != eval.session || part.part != number {
                return Err(wrong(format!("record {seq} is not part {number} of it")).into());
            }
            rest = rest
                .strip_prefix(part.text.as_str())
                .ok_or_else(|| wrong(format!("the payload differs in record {seq}")))?;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(wrong("the end of the payload is missing".to_owned()).into())
        }
    }

    /// The line of the record `seq`, which belongs to the eval in record `eval`; proven to be in the newest known tree.
    async fn record(&self, link: &Link, eval: u64, seq: u64) -> Result<String, EvalError> {
        let size = self.known_size();
        let proof: ProofResult = prove(
            link,
            &ProofParams {
                index: Some(seq),
                from: None,
                size,
            },
        )
        .await?;
        let wrong = |why: String| {
            differs(
                eval,
                if seq == eval {
                    why
                } else {
                    format!("its part in record {seq}: {why}")
                },
            )
        };
        let Some(latest) = &self.latest else {
            return Err(wrong("there is no checkpoint".to_owned()).into());
        };
        let line = proof
            .record
            .ok_or_else(|| wrong("the agent does not show it".to_owned()))?;
        let hashes = hashes(&proof.hashes).map_err(wrong)?;
        // The leaf hash is computed here, from the line that is used: a proof of another record does not fit it.
        let leaf = tree::leaf_hash(line.as_bytes());
        tree::verify_inclusion(seq, latest.head.size, &leaf, &hashes, &latest.head.root)
            .map_err(|error| wrong(error.to_string()))?;
        Ok(line)
    }
}

/// The failure for a log that holds something else than what was sent.
fn differs(eval: u64, why: String) -> CommandFailure {
    CommandFailure::verification(format!("record {eval} is not the eval that was sent: {why}"))
        .help("keep this message: the log does not say what you did")
}

async fn prove(link: &Link, params: &ProofParams) -> Result<ProofResult, EvalError> {
    call(link, MethodId::AuditProof, params)
        .await
        .map_err(|error| match error {
            EvalError::Failed(failure) => EvalError::Failed(
                CommandFailure::verification(format!("the agent gives no proof: {}", failure.message))
                    .help(failure.help),
            ),
            other => other,
        })
}
