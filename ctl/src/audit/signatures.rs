//! Joins the log with what operators signed: each `eval` record is verified against the certificate of its session.

use std::collections::{BTreeSet, HashMap, HashSet};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use debug_wire::records::{self, Boot, Eval, EvalPart, Part, Record, SessionClose, SessionOpen};
use debug_wire::signature::{eval_message, verify};
use pki_types::SignatureVerificationAlgorithm;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::authority::{self, IssuingCa};
use crate::trust::identity::Validity;
use crate::trust::store::hex;
use crate::ui::term;

/// The limit of the payload parts held until their `eval` record, in bytes: a payload is at most one message long, and no more
/// evals run at once than there are eval threads.
const MAX_PARTS: usize = 16 << 20;

/// How long a session may still write records after its certificate expired, in seconds: the agent checks once a second whether
/// to end it, and what was requested before that is still queued to be written.
const LATE: i64 = 5;

/// An open session.
struct LoggedSession {
    operator: String,
    certificate: Vec<u8>,
    validity: Validity,
    exporter: [u8; 32],
    counter: u64,
}

/// The check that a record failed, and what to do about it.
pub(super) struct Wrong {
    pub(super) why: String,
    pub(super) help: &'static str,
}

impl From<String> for Wrong {
    fn from(why: String) -> Self {
        Self {
            why,
            help: "keep the folder as evidence; the agent or its host wrote what the operator did not sign",
        }
    }
}

impl From<&str> for Wrong {
    fn from(why: &str) -> Self {
        why.to_owned().into()
    }
}

/// Checks each session's certificate and each eval's signature, record by record.
pub(super) struct Signatures<'a> {
    origin: String,
    /// The CA that must have issued the sessions' certificates, if it is known.
    authority: Option<&'a IssuingCa>,
    algorithms: Vec<&'static dyn SignatureVerificationAlgorithm>,
    sessions: HashMap<u64, LoggedSession>,
    parts: HashMap<Option<u64>, Vec<Part>>,
    held: usize,
    /// The exporters of all sessions: the exporter binds a signature to one connection.
    exporters: HashSet<[u8; 32]>,
    /// Whether a checkpoint covers the records now taken in; uncovered ones are checked but not counted.
    pub(super) counts: bool,
    /// How many evals were checked.
    pub(super) evals: u64,
    /// The SHA-256 of each certificate that evals were signed with, in hex.
    pub(super) certificates: BTreeSet<String>,
}

impl<'a> Signatures<'a> {
    /// A checker that begins with record 0 of the log with that origin.
    pub(super) fn new(origin: String, authority: Option<&'a IssuingCa>) -> Self {
        let algorithms = crate::trust::provider::provider()
            .signature_verification_algorithms
            .all
            .to_vec();
        Self {
            origin,
            authority,
            algorithms,
            sessions: HashMap::new(),
            parts: HashMap::new(),
            held: 0,
            exporters: HashSet::new(),
            counts: true,
            evals: 0,
            certificates: BTreeSet::new(),
        }
    }

    /// The operator of a session.
    pub(super) fn operator(&self, session: u64) -> Option<&str> {
        self.sessions
            .get(&session)
            .map(|session| session.operator.as_str())
    }

    /// Takes in the next record.
    ///
    /// # Errors
    /// The check that failed, in words.
    pub(super) fn take(&mut self, kind: &str, line: &str) -> Result<(), Wrong> {
        match kind {
            // Sessions do not outlive the process.
            Boot::KIND => {
                self.sessions.clear();
                self.drop_parts();
                Ok(())
            }
            SessionOpen::KIND => self.open(read(line)?, &time(line)?),
            SessionClose::KIND => {
                self.sessions.remove(&read::<SessionClose>(line)?.session);
                Ok(())
            }
            EvalPart::KIND => Ok(self.part(read(line)?)?),
            Eval::KIND => Ok(self.eval(read(line)?, &time(line)?)?),
            _ => Ok(()),
        }
    }

    fn open(&mut self, open: SessionOpen, time: &str) -> Result<(), Wrong> {
        let SessionOpen {
            session,
            operator,
            certificate,
            exporter,
            ..
        } = open;
        let certificate = BASE64_STANDARD
            .decode(certificate)
            .map_err(|_| "the certificate is not base64")?;
        let presented = authority::operator(&certificate, &self.origin)
            .map_err(|why| format!("the certificate is not an operator's: {why}"))?;
        let id = presented.operator.to_string();
        if id != operator {
            return Err(format!("the operator is `{operator}`, but the certificate is `{id}`'s").into());
        }
        let validity = Validity {
            not_before: presented.not_before,
            not_after: presented.not_after,
        };
        let exporter = from_hex(&exporter).ok_or("the exporter is not 32 bytes in hex")?;
        if !self.exporters.insert(exporter) {
            return Err(
                "its exporter is that of an earlier session: evals of that one could be replayed".into(),
            );
        }
        let vouched = self.vouched(&operator, &certificate, validity, time);
        let opened = LoggedSession {
            operator,
            certificate,
            validity,
            exporter,
            counter: 0,
        };
        // Also without a CA that vouches: the records that follow are shown under the operator that they claim.
        self.sessions.insert(session, opened);
        vouched
    }

    /// Checks that the operators' CA vouches for the certificate of a session.
    fn vouched(
        &self,
        operator: &str,
        certificate: &[u8],
        validity: Validity,
        time: &str,
    ) -> Result<(), Wrong> {
        let Some(authority) = self.authority else {
            return Ok(());
        };
        let at = moment(time, validity)?;
        authority.vouches(certificate, at).map_err(|why| Wrong {
            why: format!("no CA vouches for the certificate of `{}`: {why}", term::line(operator)),
            help: "keep the folder as evidence: a holder of the log's key may have made up this operator. If the CA was \
                   replaced since, give both with `--ca`, in one file",
        })
    }

    fn part(&mut self, EvalPart { session, part, .. }: EvalPart) -> Result<(), String> {
        self.held += part.text.len();
        if self.held > MAX_PARTS {
            self.drop_parts();
            return Err("the parts of evals before it belong to no eval".to_owned());
        }
        self.parts.entry(session).or_default().push(part);
        Ok(())
    }

    fn drop_parts(&mut self) {
        self.parts.clear();
        self.held = 0;
    }

    fn eval(&mut self, eval: Eval, time: &str) -> Result<(), String> {
        let payload = self.payload(&eval)?;
        let session = self
            .sessions
            .get_mut(&eval.session)
            .ok_or("no record before it opens its session".to_owned())?;
        if eval.counter <= session.counter {
            return Err(format!(
                "its counter is {}, after {}",
                eval.counter, session.counter
            ));
        }
        session.counter = eval.counter;
        if !session.validity.covers(moment(time, session.validity)?) {
            return Err("the operator's certificate was not valid at its time".to_owned());
        }
        let signature = BASE64_STANDARD
            .decode(&eval.sig)
            .map_err(|_| "its signature is not base64")?;
        let message = eval_message(&self.origin, &session.exporter, eval.counter, payload.as_bytes());
        verify(&session.certificate, &self.algorithms, &message, &signature)
            .map_err(|error| format!("the operator's signature does not hold: {error}"))?;
        if !self.counts {
            return Ok(());
        }
        self.evals += 1;
        self.certificates
            .insert(hex(&Sha256::digest(&session.certificate)));
        Ok(())
    }

    /// The payload as signed, from the record itself or from the parts before it.
    fn payload(&mut self, eval: &Eval) -> Result<String, String> {
        let expected = match (&eval.payload, eval.parts) {
            (Some(payload), None) => return Ok(payload.clone()),
            (None, Some(parts)) => parts,
            _ => return Err("it has not exactly one of `payload` and `parts`".to_owned()),
        };
        let of_session = self.parts.remove(&Some(eval.session));
        let parts = of_session
            .or_else(|| self.parts.remove(&None))
            .unwrap_or_default();
        self.held = self
            .held
            .saturating_sub(parts.iter().map(|part| part.text.len()).sum());
        let first = parts.first().map_or(0, |part| part.part);
        let in_order = parts
            .iter()
            .zip(first..)
            .all(|(part, number)| part.part == number);
        if parts.len() as u64 != expected || !in_order {
            return Err(format!(
                "its payload is in {expected} parts, of which {} are there",
                parts.len()
            ));
        }
        Ok(parts.into_iter().map(|part| part.text).collect())
    }
}

/// The moment at which a certificate must have been valid for a record with that time, in seconds since 1970.
fn moment(time: &str, Validity { not_after, .. }: Validity) -> Result<i64, String> {
    let time: jiff::Timestamp = time
        .parse()
        .map_err(|error| format!("its time cannot be read: {error}"))?;
    let late = time.as_second().saturating_sub(not_after);
    Ok(if (1..=LATE).contains(&late) {
        not_after
    } else {
        time.as_second()
    })
}

fn read<T: DeserializeOwned>(line: &str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| format!("it is not of its kind: {error}"))
}

/// When a record was made.
fn time(line: &str) -> Result<String, String> {
    read::<records::Made>(line).map(|made| made.time)
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}
