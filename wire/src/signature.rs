//! The bytes that an operator signs for each eval, and their verification.

use pki_types::{AlgorithmIdentifier, CertificateDer, SignatureVerificationAlgorithm, alg_id};
use sha2::{Digest, Sha256};

/// The label under which both ends export 32 bytes from the TLS session, with an empty context (RFC 9266).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// The beginning of the signed bytes, so that a signature for an eval is valid for nothing else.
const PREFIX: &[u8] = b"debug-agent eval v1\0";

/// The algorithm of a certificate's key, and the only algorithm that it signs with.
const ALGORITHMS: &[(AlgorithmIdentifier, AlgorithmIdentifier)] = &[
    (alg_id::ED25519, alg_id::ED25519),
    (alg_id::ECDSA_P256, alg_id::ECDSA_SHA256),
    (alg_id::ECDSA_P384, alg_id::ECDSA_SHA384),
    (alg_id::RSA_ENCRYPTION, alg_id::RSA_PSS_SHA256),
];

/// The bytes that the operator's key signs for an eval:
///
/// `"debug-agent eval v1" 0x00 || u16 length of origin || origin || exporter || u64 counter || SHA-256(payload)`
///
/// Integers are big-endian. `origin` is the log's origin line, `exporter` 32 bytes exported from the session under
/// [`EXPORTER_LABEL`], `counter` counts the evals of the session from 1, and `payload` is the UTF-8 of the payload as it was
/// sent. So a signature is valid for one log, one session, one position in it and one payload.
///
/// An origin beyond 65,535 bytes, which no agent has, gets the length 65,535. All later parts have a fixed length, so different
/// inputs still never give the same bytes.
pub fn eval_message(origin: &str, exporter: &[u8; 32], counter: u64, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(origin.len()).unwrap_or(u16::MAX);
    let digest: [u8; 32] = Sha256::digest(payload).into();
    [
        PREFIX,
        &length.to_be_bytes(),
        origin.as_bytes(),
        exporter,
        &counter.to_be_bytes(),
        &digest,
    ]
    .concat()
}

/// The commitment to a secret value in a payload: `SHA-256(salt || value)`. The salt is 32 random bytes, so that the value cannot
/// be guessed from the log.
pub fn secret_commitment(salt: &[u8; 32], value: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(salt)
        .chain_update(value)
        .finalize()
        .into()
}

/// Verifies a signature by the key of a certificate (DER).
///
/// The algorithm follows from the key: Ed25519; ECDSA on P-256 with SHA-256 or on P-384 with SHA-384, in ASN.1 form; RSA as PSS
/// with SHA-256 (2048 to 8192 bits). `algorithms` are the TLS provider's; other ones among them are skipped. The certificate
/// itself is not verified: the handshake did that.
///
/// # Errors
/// See [`SignatureError`].
pub fn verify(
    certificate_der: &[u8],
    algorithms: &[&'static dyn SignatureVerificationAlgorithm],
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    let certificate = CertificateDer::from(certificate_der);
    let certificate = webpki::EndEntityCert::try_from(&certificate).map_err(SignatureError::Certificate)?;
    let ours = |algorithm: &&&'static dyn SignatureVerificationAlgorithm| {
        ALGORITHMS.contains(&(algorithm.public_key_alg_id(), algorithm.signature_alg_id()))
    };
    for algorithm in algorithms.iter().filter(ours) {
        match certificate.verify_signature(*algorithm, message, signature) {
            // The next algorithm may be for this kind of key; no kind has two.
            Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
            Ok(()) => return Ok(()),
            Err(webpki::Error::InvalidSignatureForPublicKey) => return Err(SignatureError::Wrong),
            Err(other) => return Err(SignatureError::Certificate(other)),
        }
    }
    Err(SignatureError::Algorithm)
}

/// Why a signature is rejected.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SignatureError {
    /// The certificate cannot be parsed.
    #[error("the certificate of the signer cannot be read")]
    Certificate(#[source] webpki::Error),
    /// No algorithm for keys of this kind.
    #[error("the key of the certificate is of another kind than Ed25519, ECDSA P-256, ECDSA P-384 or RSA")]
    Algorithm,
    /// This key did not sign these bytes.
    #[error("the signature is not by this key over this eval, this session and this log")]
    Wrong,
}

#[cfg(test)]
mod tests;
