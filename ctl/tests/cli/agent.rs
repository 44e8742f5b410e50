//! An agent under a test's control: honest by default, with a real log.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use debug_audit::{Checkpoint, Entry, Log, SigningKey, Until};
use debug_policy::Mode;
use debug_wire::frame::{self, Decoder};
use debug_wire::messages::{
    AuditRange, Call, Code, EvalParams, EvalPayload, EvalResult, Failure, FromAgent, HelloParams,
    HelloResult, InForce, LeaseSummary, NoParams, Output, Process, ProofParams, ProofResult, Ready,
};
use debug_wire::signature::{EXPORTER_LABEL, eval_message, verify};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::authority::{Authority, Leaf, OPERATOR_ID};

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// Alters records before they are written.
pub(crate) type Alter = fn(&mut Vec<Value>);

/// In which ways the agent misbehaves.
#[derive(Clone, Default)]
pub(crate) struct Lies {
    /// Sent instead of `ready`.
    pub(crate) ready: Option<Vec<u8>>,
    /// The origin that `ready` names.
    pub(crate) origin: Option<String>,
    /// `hello` shows a forked head with this number of records.
    pub(crate) forked: Option<u64>,
    /// Eval records hold this payload.
    pub(crate) payload: Option<String>,
    /// `audit.proof` shows this record.
    pub(crate) record: Option<String>,
    /// `audit.proof` is refused.
    pub(crate) no_proof: bool,
    /// The connection is cut when a proof is asked for.
    pub(crate) cut: bool,
    /// Payloads are recorded in two parts, as long ones are.
    pub(crate) split: bool,
    /// The parts are altered before they are recorded.
    pub(crate) parts: Option<Alter>,
    /// Evals cannot be recorded.
    pub(crate) unrecorded: bool,
}

/// The evals received so far, and their effects.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) payloads: Vec<EvalPayload>,
    pub(crate) secrets: Vec<Value>,
    /// The leases in force.
    pub(crate) leases: Vec<u64>,
    /// Whether the leases end once they have been listed.
    pub(crate) ends_once_listed: bool,
    /// The leases that a revert does not find.
    pub(crate) unknown: Vec<u64>,
    pub(crate) sessions: u64,
}

pub(crate) struct Agent {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Seen>>,
}

/// What all connections share.
struct Shared {
    config: Arc<ServerConfig>,
    log: Log,
    key: SigningKey,
    lies: Arc<Mutex<Lies>>,
    seen: Arc<Mutex<Seen>>,
}

impl Agent {
    pub(crate) fn start(
        authority: &Authority,
        leaf: &Leaf,
        key: SigningKey,
        audit: &Path,
        lies: Arc<Mutex<Lies>>,
    ) -> Self {
        let (log, opened) = Log::open(audit, key.clone()).unwrap();
        if opened.fresh {
            append(&log, vec![entry("boot", &json!({ "time": now() }))]);
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let config = config(authority, leaf);
        let shared = Arc::new(Shared {
            config,
            log,
            key,
            lies,
            seen: seen.clone(),
        });
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, shared) = (stream.unwrap(), shared.clone());
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { address, seen }
    }
}

fn config(authority: &Authority, leaf: &Leaf) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.der()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![leaf.certificate.clone()], leaf.key_der())
        .unwrap();
    config.alpn_protocols = vec![debug_wire::ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

fn entry(kind: &'static str, body: &Value) -> Entry {
    Entry {
        kind,
        body: body.to_string(),
        keep: false,
        terminal: false,
    }
}

fn append(log: &Log, entries: Vec<Entry>) -> debug_audit::Receipt {
    log.append(entries, Until::Durable).durable().unwrap()
}

/// One session.
struct Session<'a> {
    shared: &'a Shared,
    stream: Tls,
    decoder: Decoder,
    exporter: [u8; 32],
    certificate: Vec<u8>,
    number: u64,
    counter: u64,
    mode: Mode,
}

fn serve(mut socket: TcpStream, shared: &Shared) {
    socket.set_nodelay(true).unwrap();
    let mut connection = ServerConnection::new(shared.config.clone()).unwrap();
    while connection.is_handshaking() {
        if connection.complete_io(&mut socket).is_err() {
            // The alert, which tells why.
            while connection.wants_write() && connection.write_tls(&mut socket).is_ok() {}
            return;
        }
    }
    let exporter = connection
        .export_keying_material([0; 32], EXPORTER_LABEL, Some(b""))
        .unwrap();
    let certificate = connection.peer_certificates().unwrap()[0].to_vec();
    let number = {
        let mut seen = shared.seen.lock().unwrap();
        seen.sessions += 1;
        seen.sessions
    };
    let stream = StreamOwned::new(connection, socket);
    let mode = Mode::Observe;
    let mut session = Session {
        shared,
        stream,
        decoder: Decoder::default(),
        exporter,
        certificate,
        number,
        counter: 0,
        mode,
    };
    session.run();
}

impl Session<'_> {
    fn lies(&self) -> Lies {
        self.shared.lies.lock().unwrap().clone()
    }

    fn run(&mut self) {
        let ready = Ready {
            protocol: debug_wire::PROTOCOL,
            version: "0.1.0".into(),
            service: "dienstplan".into(),
            instance: "1".into(),
            environment: "production".into(),
            origin: self
                .lies()
                .origin
                .unwrap_or_else(|| self.shared.log.origin().to_owned()),
        };
        match self.lies().ready {
            Some(bytes) => self.raw(&bytes),
            None => self.send(&FromAgent::notification("ready", &ready).unwrap()),
        }
        while let Some(call) = self.next() {
            let reply = self.answer(&call);
            self.send(&reply);
        }
    }

    fn raw(&mut self, bytes: &[u8]) {
        // The client may be gone already.
        let _ = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
    }

    fn send(&mut self, message: &FromAgent) {
        let line = frame::encode(message).unwrap();
        self.raw(&line);
    }

    fn next(&mut self) -> Option<Call> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(line) = self.decoder.next().unwrap() {
                return Some(Call::parse(&line).unwrap());
            }
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.decoder.push(&buffer[..read]),
            }
        }
    }

    fn answer(&mut self, call: &Call) -> FromAgent {
        let result = match call.method.name() {
            "hello" => Ok(self.hello(serde_json::from_value(call.params.clone()).unwrap())),
            "eval" => self.eval(call.id, serde_json::from_value(call.params.clone()).unwrap()),
            "audit.proof" => self.prove(serde_json::from_value(call.params.clone()).unwrap()),
            _ => Ok(json!({})),
        };
        match result {
            Ok(result) => FromAgent::success(call.id, &result),
            Err(error) => FromAgent::Failure {
                jsonrpc: Default::default(),
                id: Some(call.id),
                error,
            },
        }
    }

    fn head(&self) -> Checkpoint {
        Checkpoint::open(&self.shared.log.checkpoint(), self.shared.key.verifier()).unwrap()
    }

    fn hello(&mut self, params: HelloParams) -> Value {
        let open = json!({
            "time": now(), "session": self.number, "operator": OPERATOR_ID, "roles": ["oncall"],
            "certificate": BASE64_STANDARD.encode(&self.certificate),
            "exporter": self.exporter.iter().map(|b| format!("{b:02x}")).collect::<String>(),
        });
        append(&self.shared.log, vec![entry("session.open", &open)]);
        let mut head = self.head();
        let proof = self.shared.log.consistency(params.checkpoint, head.size);
        let mut proof = encoded(&proof.unwrap_or_default());
        let mut note = self.shared.log.checkpoint().to_string();
        if let Some(more) = self.lies().forked {
            head.size = more;
            head.root = [7; 32];
            note = head.sign(&self.shared.key);
            proof = vec![BASE64_STANDARD.encode([8; 32]); 3];
        }
        json!(HelloResult {
            checkpoint: note,
            consistency: proof,
            operator: OPERATOR_ID.into(),
            roles: vec!["oncall".into()],
            session: self.number,
            resumed: Vec::new(),
            in_force: InForce::default(),
            process: Process::default(),
        })
    }

    fn prove(&self, params: ProofParams) -> Result<Value, Failure> {
        if self.lies().cut {
            let _ = self.stream.sock.shutdown(std::net::Shutdown::Both);
        }
        if self.lies().no_proof {
            return Err(Failure::new(Code::Internal, "no proof today", ""));
        }
        let log = &self.shared.log;
        let (hashes, record) = match (params.index, params.from) {
            (Some(index), None) => {
                let record = log.record(index).unwrap().unwrap();
                (
                    log.inclusion(index, params.size),
                    Some(String::from_utf8(record).unwrap()),
                )
            }
            (None, Some(from)) => (log.consistency(from, params.size), None),
            _ => return Err(Failure::new(Code::Params, "one of index and from", "")),
        };
        let record = self.lies().record.or(record).filter(|_| params.index.is_some());
        Ok(json!(ProofResult {
            hashes: encoded(&hashes.unwrap()),
            record
        }))
    }

    fn eval(&mut self, id: u64, params: EvalParams) -> Result<Value, Failure> {
        self.counter += 1;
        let log = &self.shared.log;
        let message = eval_message(
            log.origin(),
            &self.exporter,
            self.counter,
            params.payload.as_bytes(),
        );
        let algorithms = aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .all;
        let signature = BASE64_STANDARD.decode(&params.sig).unwrap();
        verify(&self.certificate, algorithms, &message, &signature).unwrap();
        let payload = EvalPayload::parse(&params.payload)?;
        let (logged, lies) = (self.lies().payload.unwrap_or(params.payload), self.lies());
        let mut eval =
            json!({ "time": now(), "session": self.number, "counter": self.counter, "sig": params.sig });
        let mut entries = Vec::new();
        if lies.split {
            let (one, two) = logged.split_at(3);
            let part = |(part, text)| json!({ "session": self.number, "operator": OPERATOR_ID, "part": part, "member": "payload", "text": text });
            let mut parts: Vec<Value> = [one, two].into_iter().enumerate().map(part).collect();
            if let Some(alter) = lies.parts {
                alter(&mut parts);
            }
            entries.extend(parts.iter().map(|part| entry("eval.part", part)));
            eval["parts"] = json!(2);
        } else {
            eval["payload"] = json!(logged);
        }
        entries.push(entry("eval", &eval));
        let written = append(log, entries);
        {
            let mut seen = self.shared.seen.lock().unwrap();
            seen.payloads.push(payload.clone());
            seen.secrets.push(json!(params.secrets));
        }
        let outcome = self.outcome(id, &payload);
        let word = if outcome.is_ok() { "ok" } else { "failed" };
        let body = json!({ "time": now(), "session": self.number, "outcome": word });
        let receipt = append(log, vec![entry("outcome", &body)]);
        let checkpoint = receipt.checkpoint.to_string();
        let audit = AuditRange {
            eval: written.last,
            first: written.first,
            last: receipt.last,
            checkpoint,
        };
        let audit = (!lies.unrecorded).then_some(audit);
        match outcome {
            Ok(mut result) => {
                result.audit = audit;
                result.mode = self.mode;
                Ok(json!(result))
            }
            Err(mut failure) => {
                failure.data.audit = audit;
                Err(failure)
            }
        }
    }

    /// The outcome of the few words of code that this agent knows.
    fn outcome(&mut self, id: u64, payload: &EvalPayload) -> Result<EvalResult, Failure> {
        let fail = |code, message: &str| Err(Failure::new(code, message, "ask for something else"));
        let lease = |id, state: &str| LeaseSummary {
            id,
            target: "point:GET /api/healthcheck".into(),
            state: state.into(),
            remaining_ms: 300_000,
        };
        let leases = self.shared.seen.lock().unwrap().leases.clone();
        match payload.code.trim() {
            "change(reason)" => {
                self.mode = Mode::Change;
                Ok(result(Value::Null, "mode change"))
            }
            "deny" => fail(Code::Denied, "denied: patch point:GET /api/healthcheck"),
            "approve" => fail(Code::NeedsApproval, "needs 1 approval by lead"),
            "exit" | "quit()" | "q;" => fail(Code::Eval, "line 1: no variable or state"),
            "throw" => fail(Code::Eval, "line 1: thrown\u{1b}[31m\u{202e}"),
            "patch()" => {
                let mut result = result(json!(1), "lease 1: patched, reverts in 5m unless confirmed");
                result.leases = vec![lease(1, "provisional")];
                self.shared.seen.lock().unwrap().leases = vec![1];
                Ok(result)
            }
            "leases()" => {
                let mut seen = self.shared.seen.lock().unwrap();
                if seen.ends_once_listed {
                    seen.leases.clear();
                }
                let row = |id: &u64| {
                    json!({ "id": id, "target": "point:GET /api/healthcheck", "owner": "alice",
                        "state": "provisional", "reverts_in_ms": 300_000, "reason": "INC-42" })
                };
                Ok(result(json!(leases.iter().map(row).collect::<Vec<_>>()), "[..]"))
            }
            "revert(id)" => {
                let id = payload.args["id"].as_u64().unwrap();
                if self.shared.seen.lock().unwrap().unknown.contains(&id) {
                    return fail(Code::State, &format!("there is no lease {id}"));
                }
                self.shared
                    .seen
                    .lock()
                    .unwrap()
                    .leases
                    .retain(|lease| *lease != id);
                Ok(result(json!(id), &format!("lease {id}: reverted")))
            }
            "revert_all()" => {
                self.shared.seen.lock().unwrap().leases.clear();
                Ok(result(json!([]), "all reverted"))
            }
            "print" => {
                for text in ["one\n", "\u{1b}]0;two\u{7}\n"] {
                    let output = Output {
                        id,
                        text: text.into(),
                    };
                    self.send(&FromAgent::notification("output", &output).unwrap());
                }
                Ok(result(json!(2), "2"))
            }
            "hostile" => Ok(result(
                json!("\u{1b}[2J\u{202e}"),
                "\u{1b}[2J\u{9b}1A\u{202e}gone\r",
            )),
            "oversize" => {
                self.raw(&vec![b' '; debug_wire::MAX_MESSAGE + 2]);
                Ok(result(Value::Null, ""))
            }
            "vanish" => {
                let _ = self.stream.sock.shutdown(std::net::Shutdown::Both);
                Ok(result(Value::Null, ""))
            }
            "wait" => {
                self.send(
                    &FromAgent::notification(
                        "output",
                        &Output {
                            id,
                            text: "waiting\n".into(),
                        },
                    )
                    .unwrap(),
                );
                while let Some(call) = self.next() {
                    if call.method.name() == "cancel" {
                        self.send(&FromAgent::success(call.id, &NoParams {}));
                        return fail(Code::Cancelled, "cancelled");
                    }
                }
                fail(Code::Cancelled, "the client vanished")
            }
            code => Ok(result(json!({ "code": code, "args": payload.args }), code)),
        }
    }
}

fn result(value: Value, display: &str) -> EvalResult {
    EvalResult {
        value,
        display: display.into(),
        leases: Vec::new(),
        in_force: InForce::default(),
        mode: Mode::Observe,
        audit: None,
        warnings: Vec::new(),
    }
}

fn encoded(hashes: &[debug_audit::Hash]) -> Vec<String> {
    hashes.iter().map(|hash| BASE64_STANDARD.encode(hash)).collect()
}

/// Waits until a condition holds that another thread brings about.
pub(crate) fn until(holds: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "it never came to hold");
        std::thread::yield_now();
    }
}
