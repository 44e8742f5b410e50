//! What `debug_wire` promises and this client needs of it, in one place: reading a message, what an operator signs, and
//! checking such a signature.

use std::fmt;

use debug_wire::messages::FromAgent;
use pki_types::CertificateDer;
use serde::Deserialize;
use serde::de::{self, DeserializeOwned, MapAccess, SeqAccess, Visitor};
use sha2::{Digest, Sha256};

/// The label of the TLS exporter that evals are bound to (RFC 9266).
pub(crate) const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// What the operator signs for an eval.
pub(crate) fn eval_message(
    origin: &str,
    exporter: &[u8; 32],
    counter: u64,
    payload: &str,
) -> Option<Vec<u8>> {
    let mut message = b"debug-agent eval v1\0".to_vec();
    message.extend_from_slice(&u16::try_from(origin.len()).ok()?.to_be_bytes());
    message.extend_from_slice(origin.as_bytes());
    message.extend_from_slice(exporter);
    message.extend_from_slice(&counter.to_be_bytes());
    message.extend_from_slice(&Sha256::digest(payload.as_bytes()));
    Some(message)
}

/// Checks an operator's signature with the key of a certificate; the algorithm follows from the key.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn verify_signature(
    certificate: &CertificateDer<'_>,
    message: &[u8],
    signature: &[u8],
) -> Result<(), String> {
    use webpki::aws_lc_rs as algorithms;
    let known = [
        algorithms::ED25519,
        algorithms::ECDSA_P256_SHA256,
        algorithms::ECDSA_P384_SHA384,
        algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    ];
    let certificate = webpki::EndEntityCert::try_from(certificate).map_err(|error| error.to_string())?;
    let mut last = "the certificate's key is of a kind that does not sign evals".to_owned();
    for algorithm in known {
        match certificate.verify_signature(algorithm, message, signature) {
            Ok(()) => return Ok(()),
            Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

/// Reads a message of the agent.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn parse(line: &[u8]) -> Result<FromAgent, String> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
    from_str(text)
}

/// Reads JSON in which no object has a name twice and nothing nests deeper than [`debug_wire::MAX_DEPTH`] allows
/// inside a message.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str::<Clear>(text).map_err(|error| error.to_string())?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// JSON that can be read in one way only.
struct Clear;

impl<'de> Deserialize<'de> for Clear {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ClearVisitor)
    }
}

struct ClearVisitor;

impl<'de> Visitor<'de> for ClearVisitor {
    type Value = Clear;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Clear, E> {
        Ok(Clear)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Clear, E> {
        Ok(Clear)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Clear, E> {
        Ok(Clear)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Clear, E> {
        Ok(Clear)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Clear, E> {
        Ok(Clear)
    }
    fn visit_str<E>(self, _: &str) -> Result<Clear, E> {
        Ok(Clear)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Clear, A::Error> {
        while let Some(Clear) = seq.next_element()? {}
        Ok(Clear)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Clear, A::Error> {
        let mut names = std::collections::BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let Clear = map.next_value()?;
            if let Some(name) = names.replace(name) {
                return Err(de::Error::custom(format_args!("the member `{name}` appears twice")));
            }
        }
        Ok(Clear)
    }
}
