//! Dispatches calls from the wire: each method of the one table, behind the gate. What `Dispatch` calls here runs
//! on the net thread and does not block; the rest runs on the threads of evals.

use std::sync::Arc;

use debug_audit::{Checkpoint, Until};
use debug_wire::messages::{
    Call, CancelParams, CheckpointResult, Code, EvalParams, Failure, FromAgent, HelloParams, HelloResult,
    PingResult, Process, ProofParams, ProofResult, Ready,
};
use debug_wire::records::{Alarm, SessionOpen, SessionRefused};
use debug_wire::table::{Method, MethodId};
use serde_json::{Value, json};

use crate::core::Core;
use crate::effect::Refusal;
use crate::eval::failed;
use crate::eval::queue::Queue;
use crate::eval::{self, Submission};
use crate::gate::{self, MethodPermit};
use crate::recorder::records;
use crate::session::Session;
use debug_base::{BootTime, base64, hex};
use debug_net::{Client, Closed, Dispatch, Flow, Outbox, Refused};

/// The dispatcher that the net thread hands calls to.
pub(crate) struct Methods {
    core: Arc<Core>,
    queue: Arc<Queue>,
}

/// The most evals of one session that may be queued or running.
const MAX_PENDING: usize = 16;

impl Methods {
    /// A dispatcher for `core` that queues evals in `queue`.
    pub(crate) fn new(core: Arc<Core>, queue: Arc<Queue>) -> Self {
        Self { core, queue }
    }

    fn method(&self, session: &Arc<Session>, method: &'static Method, call: Call) -> Result<Flow, Failure> {
        // `hello` passes the gate on an eval thread, which may block.
        if method.id == MethodId::Hello {
            return self.hello(session, method, call);
        }
        let permit = self.admit(session, method)?;
        self.answer(permit, session, method, call)
    }

    fn answer(
        &self,
        _: MethodPermit,
        session: &Arc<Session>,
        method: &'static Method,
        call: Call,
    ) -> Result<Flow, Failure> {
        match method.id {
            MethodId::Hello => return self.hello(session, method, call),
            MethodId::Ping => {
                let in_force = self.core.changes.leases.in_force(BootTime::now());
                let told = PingResult {
                    in_force,
                    ended: session.take_ended(),
                    failing: session.take_failing(),
                };
                reply(session, FromAgent::success(call.id, &told));
            }
            MethodId::Cancel => {
                let CancelParams { id } = call.params()?;
                let found = session.cancel(id);
                reply(
                    session,
                    FromAgent::success(call.id, &json!({ "cancelled": found })),
                );
            }
            MethodId::AuditCheckpoint => {
                let checkpoint = self.core.recorder.log.checkpoint().to_string();
                reply(
                    session,
                    FromAgent::success(call.id, &CheckpointResult { checkpoint }),
                );
            }
            MethodId::AuditProof => {
                let (params, id) = (call.params()?, call.id);
                let (core, asking) = (self.core.clone(), session.clone());
                // A proof may read a file.
                let prove = Box::new(move || {
                    let proven = core.guarded("a proof", || proof(&core, &asking, params));
                    let proven = proven.unwrap_or_else(|| {
                        Err(Failure::new(
                            Code::Internal,
                            "proving it panicked inside the agent",
                            "ask again",
                        ))
                    });
                    reply(
                        &asking,
                        match proven {
                            Ok(proof) => FromAgent::success(id, &proof),
                            Err(failure) => failed(id, failure),
                        },
                    );
                });
                if !self.queue.push_reserved(&session.operator.name, prove) {
                    return Err(too_many());
                }
            }
            MethodId::Eval => return self.eval(session, call),
        }
        Ok(Flow::Continue)
    }

    /// Refuses every method before `hello`, and every method that policy denies.
    fn admit(&self, session: &Session, method: &'static Method) -> Result<MethodPermit, Failure> {
        if !session.is_attached() {
            return Err(Failure::new(
                Code::Order,
                "nothing is answered before `hello`",
                "call `hello` first",
            ));
        }
        gate::pass_method(self.core.door(), session, method).map_err(denied)
    }

    /// Answers a denied call on an eval thread, once the record of the denial is on disk.
    fn deny(&self, session: &Arc<Session>, id: u64, denied: Failure) -> Flow {
        let (core, asking) = (self.core.clone(), session.clone());
        let answer = Box::new(move || {
            let recorded = core.recorder.log.append(Vec::new(), Until::Durable).durable();
            let failure = match recorded {
                Ok(_) => denied,
                Err(error) => Failure::new(
                    Code::Audit,
                    format!("{}; and the audit log cannot be written: {error}", denied.message),
                    denied.data.help,
                ),
            };
            reply(&asking, failed(id, failure));
        });
        if !self.queue.push_reserved(&session.operator.name, answer) {
            reply(session, failed(id, too_many()));
        }
        Flow::Continue
    }

    /// Opens the session on an eval thread, because its record must be on disk before the answer.
    fn hello(&self, session: &Arc<Session>, method: &'static Method, call: Call) -> Result<Flow, Failure> {
        let hello: HelloParams = call.params()?;
        if !session.greet() {
            return Err(Failure::new(
                Code::Order,
                "`hello` was answered before",
                "attach again for a new session",
            ));
        }
        let (core, attaching, id) = (self.core.clone(), session.clone(), call.id);
        // Not queued behind the operator's running evals: an operator may attach to revert what they changed.
        let greeting = Box::new(move || {
            let answer = core.guarded("an attaching", || greet(&core, &attaching, method, &hello, id));
            let answer = answer.unwrap_or_else(|| {
                failed(
                    id,
                    Failure::new(
                        Code::Internal,
                        "attaching panicked inside the agent",
                        "attach again",
                    ),
                )
            });
            let refused = matches!(answer, FromAgent::Failure { .. });
            drop(attaching.outbox.send(answer));
            if refused {
                attaching.outbox.close();
            }
            // The client may have disconnected while the record was being written.
            core.guarded("the end of a session", || core.detach(&attaching));
        });
        if self.queue.push_reserved(&session.operator.name, greeting) {
            return Ok(Flow::Continue);
        }
        // The client may ask again.
        session.forget_greeting();
        Err(too_many())
    }

    fn eval(&self, session: &Arc<Session>, call: Call) -> Result<Flow, Failure> {
        let id = call.id;
        let params: EvalParams = call.params()?;
        let counter = session.next_counter();
        let message = debug_wire::signature::eval_message(
            &self.core.origin,
            &session.exporter,
            counter,
            params.payload.as_bytes(),
        );
        if let Err(why) = verify(&session.certificate, self.core.algorithms, &message, &params.sig) {
            return Err(self.bad_signature(session, counter, &why));
        }
        session.count();
        if session.is_running(id) {
            return Err(Failure::new(
                Code::Params,
                format!("an eval with the id {id} waits or runs already"),
                "give each call of a session an id of its own",
            ));
        }
        if session.pending() >= MAX_PENDING {
            return Err(too_many());
        }
        let submission = Submission::new(session, id, params, counter, session.begin(id));
        let reserved = submission.single.is_some_and(|function| function.reserved);
        let core = self.core.clone();
        let job: crate::eval::queue::Job = Box::new(move || eval::evaluate(&core, submission));
        let queued = if reserved {
            self.queue.push_reserved(&session.operator.name, job)
        } else {
            self.queue.push(&session.operator.name, job)
        };
        if queued {
            return Ok(Flow::Continue);
        }
        session.finish(id);
        Err(too_many())
    }

    /// Ends the session after a wrong, missing, replayed or skipped signature: its counter can no longer be trusted.
    fn bad_signature(&self, session: &Session, counter: u64, why: &str) -> Failure {
        self.core.recorder.append(vec![records::record(&Alarm {
            session: Some(session.id),
            operator: Some(session.operator.to_string()),
            counter: Some(counter),
            bad_signature: Some(why.to_owned()),
            ..Alarm::default()
        })]);
        self.core.recorder.emitter.alarm(&format!(
            "an eval of {} was not signed by its certificate",
            session.operator.name
        ));
        let help = "attach again; every eval is signed for this connection, with a counter that rises by one";
        Failure::new(
            Code::Signature,
            format!("the signature of eval {counter} does not verify: {why}"),
            help,
        )
    }
}

fn proof(core: &Core, session: &Session, params: ProofParams) -> Result<ProofResult, Failure> {
    let missing = || {
        Failure::new(
            Code::Params,
            "there is no such proof",
            "give `index` or `from` below `size`, and a `size` of a checkpoint",
        )
    };
    let (hashes, index) = match (params.index, params.from) {
        (Some(index), None) => (
            core.recorder
                .log
                .inclusion(index, params.size)
                .ok_or_else(missing)?,
            Some(index),
        ),
        (None, Some(from)) => (
            core.recorder
                .log
                .consistency(from, params.size)
                .ok_or_else(missing)?,
            None,
        ),
        _ => return Err(missing()),
    };
    // An operator sees only their own records.
    let record = index
        .and_then(|index| core.recorder.log.record(index).ok().flatten())
        .and_then(|line| String::from_utf8(line).ok())
        .filter(|line| own_record(line, &session.operator.to_string()));
    Ok(ProofResult {
        hashes: hashes.iter().map(|hash| base64(hash)).collect(),
        record,
    })
}

fn verify(
    certificate: &[u8],
    algorithms: &[&'static dyn pki_types::SignatureVerificationAlgorithm],
    message: &[u8],
    sig: &str,
) -> Result<(), String> {
    let sig = debug_base::from_base64(sig).ok_or_else(|| "it is no standard base64".to_owned())?;
    debug_wire::signature::verify(certificate, algorithms, message, &sig).map_err(|e| e.to_string())
}

fn own_record(line: &str, operator: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|record| record["operator"] == operator)
}

fn too_many() -> Failure {
    Failure::new(
        Code::Limit,
        format!("more than {MAX_PENDING} evals of this session wait"),
        "wait for a reply",
    )
}

fn reply(session: &Session, message: FromAgent) {
    // The connection closes a client that no longer reads.
    drop(session.outbox.send(message));
}

fn denied(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Denied(denial) => Failure::new(
            Code::Denied,
            format!("denied: {} {}", denial.action, denial.resource),
            denial.help,
        ),
        Refusal::Log(error) => Failure::new(Code::Audit, error.to_string(), ""),
        Refusal::State { message, help } => Failure::new(Code::State, message, help),
    }
}

/// Answers `hello`, once its record is on disk.
fn greet(
    core: &Core,
    session: &Session,
    method: &'static Method,
    hello: &HelloParams,
    call: u64,
) -> FromAgent {
    match gate::pass_method(core.door(), session, method) {
        Ok(permit) => welcome(permit, core, session, hello, call),
        Err(refusal) => failed(call, denied(refusal)),
    }
}

fn welcome(_: MethodPermit, core: &Core, session: &Session, hello: &HelloParams, call: u64) -> FromAgent {
    let HelloParams {
        version,
        checkpoint: known,
        attach,
    } = hello;
    let known = *known;
    // A client that does not attach takes over no leases: its session ends at once, and the grace of the leases would
    // begin again.
    let resumed = if *attach {
        core.changes.leases.take_over(&session.operator.name, session.id)
    } else {
        Vec::new()
    };
    core.mark();
    let body = SessionOpen {
        session: session.id,
        operator: session.operator.to_string(),
        roles: session.operator.roles.clone(),
        certificate: base64(&session.certificate),
        exporter: hex(&session.exporter),
        peer: session.peer.to_string(),
        client: version.chars().take(64).collect(),
        policy: core.rules.policy_digest.clone(),
        resumed: resumed.iter().map(|lease| lease.id).collect(),
    };
    // A record that waits in memory if it must: attaching has to work while the disk is full, because that is how an
    // operator reverts changes.
    let opened = core
        .recorder
        .log
        .append(vec![records::kept(&body)], Until::Durable);
    // Records are in the order in which they are appended: from here on the log has the session that evals refer to.
    session.attach();
    let receipt = opened.durable();
    let checkpoint = receipt.map_or_else(|_| core.recorder.log.checkpoint(), |r| r.checkpoint);
    let Some(size) = tree_size(&checkpoint) else {
        let message = "the checkpoint of the agent's own log cannot be read";
        return failed(
            call,
            Failure::new(Code::Internal, message, "see `info()` and the service's log"),
        );
    };
    let consistency = if known == 0 || known == size {
        Some(Vec::new())
    } else {
        core.recorder.log.consistency(known, size)
    };
    let result = HelloResult {
        checkpoint: checkpoint.to_string(),
        // A client that knows a larger tree gets no proof, and detects that.
        consistency: consistency
            .unwrap_or_default()
            .iter()
            .map(|hash| base64(hash))
            .collect(),
        operator: session.operator.to_string(),
        roles: session.operator.roles.clone(),
        session: session.id,
        resumed: resumed
            .iter()
            .map(|lease| eval::summary(core, lease.id))
            .collect(),
        in_force: core.changes.leases.in_force(BootTime::now()),
        process: Process {
            pid: std::process::id(),
            began: core.started.0,
        },
    };
    FromAgent::success(call, &result)
}

/// The number of records that a checkpoint of the agent's own log covers. Its text ends before the blank line; the
/// signature follows.
fn tree_size(checkpoint: &str) -> Option<u64> {
    let (text, _) = checkpoint.split_once("\n\n")?;
    Checkpoint::parse(&format!("{text}\n")).ok().map(|head| head.size)
}

impl Dispatch for Methods {
    type Session = Session;

    fn open(&self, client: Client, outbox: Outbox) -> (Arc<Session>, Ready) {
        let id = self.core.next_session();
        let session = Arc::new(Session::new(
            id,
            client.operator,
            client.peer,
            client.certificate.to_vec(),
            client.exporter,
            outbox,
            self.core.rules.environment.clone(),
        ));
        self.core.sessions().insert(id, session.clone());
        let ready = Ready {
            protocol: debug_wire::PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            service: self.core.service.clone(),
            instance: self.core.instance.clone(),
            environment: self.core.rules.environment.clone(),
            origin: self.core.origin.clone(),
        };
        (session, ready)
    }

    fn call(&self, session: &Arc<Session>, call: Call) -> Flow {
        // Each call of a client, even a ping, wakes the thread that ends overdue leases (invariant 3).
        if let Some(observer) = self.core.observer() {
            observer.look(BootTime::now());
        }
        let id = call.id;
        match self.method(session, call.method.row(), call) {
            Ok(flow) => flow,
            Err(failure) if failure.data.code == Code::Denied => self.deny(session, id, failure),
            Err(failure) => {
                let close = failure.data.code == Code::Signature;
                reply(session, failed(id, failure));
                if close { Flow::Close } else { Flow::Continue }
            }
        }
    }

    fn closed(&self, session: &Arc<Session>, why: Closed) {
        session.leave(why.to_string());
        self.core.sessions().remove(&session.id);
        self.core.detach(session);
    }

    fn refused(&self, peer: std::net::SocketAddr, why: Refused) {
        let limit = if why.saw_certificate() {
            &self.core.refusals
        } else {
            &self.core.noise
        };
        if let Some(unrecorded) = limit.allow() {
            self.core.recorder.append(vec![records::record(&SessionRefused {
                peer: peer.to_string(),
                code: why.code().to_owned(),
                why: why.to_string(),
                unrecorded,
            })]);
        }
    }

    fn panicked(&self) {
        self.core.panicked("debug-net");
    }

    fn displaceable(&self, session: &Session) -> bool {
        self.core.changes.leases.held_by(session.id).is_empty() && session.pending() == 0
    }
}

#[cfg(test)]
mod tests;
