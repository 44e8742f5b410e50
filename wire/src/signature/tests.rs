use pki_types::PrivateKeyDer;
use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs;

use super::*;

/// A certificate and the key to sign with, as a client holds them.
struct Signer {
    certificate: Vec<u8>,
    key: std::sync::Arc<dyn rustls::sign::SigningKey>,
}

impl Signer {
    fn new(algorithm: &'static SignatureAlgorithm) -> Self {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::new(Vec::new())
            .unwrap()
            .self_signed(&key)
            .unwrap()
            .der()
            .to_vec();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Self {
            certificate,
            key: aws_lc_rs::sign::any_supported_type(&key).unwrap(),
        }
    }

    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Vec<u8> {
        self.key.choose_scheme(&[scheme]).unwrap().sign(message).unwrap()
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let provider = aws_lc_rs::default_provider();
        verify(
            &self.certificate,
            provider.signature_verification_algorithms.all,
            message,
            signature,
        )
    }
}

const ORIGIN: &str = "example.org/shop/one/0123456789abcdef";
const EXPORTER: &[u8; 32] = &[7; 32];
const PAYLOAD: &[u8] = br#"{"code":"1 + 1"}"#;

fn kinds() -> [(&'static SignatureAlgorithm, SignatureScheme); 4] {
    [
        (&rcgen::PKCS_ED25519, SignatureScheme::ED25519),
        (
            &rcgen::PKCS_ECDSA_P256_SHA256,
            SignatureScheme::ECDSA_NISTP256_SHA256,
        ),
        (
            &rcgen::PKCS_ECDSA_P384_SHA384,
            SignatureScheme::ECDSA_NISTP384_SHA384,
        ),
        (&rcgen::PKCS_RSA_SHA256, SignatureScheme::RSA_PSS_SHA256),
    ]
}

#[test]
fn every_kind_of_key_signs_an_eval_and_nothing_else() {
    let good = eval_message(ORIGIN, EXPORTER, 1, PAYLOAD);
    let mut others = vec![
        eval_message("example.org/shop/two/0123456789abcdef", EXPORTER, 1, PAYLOAD),
        eval_message(ORIGIN, &[8; 32], 1, PAYLOAD),
        eval_message(ORIGIN, EXPORTER, 2, PAYLOAD),
        eval_message(ORIGIN, EXPORTER, 1, br#"{"code": "1 + 1"}"#),
        eval_message(ORIGIN, EXPORTER, 1, b"{\"code\":\"1 + 1\"}\r"),
        PAYLOAD.to_vec(),
        Vec::new(),
    ];
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        others.push(flipped);
    }
    for (algorithm, scheme) in kinds() {
        let signer = Signer::new(algorithm);
        let signature = signer.sign(scheme, &good);
        assert_eq!(signer.verify(&good, &signature), Ok(()), "{scheme:?}");
        for other in &others {
            assert_eq!(
                signer.verify(other, &signature),
                Err(SignatureError::Wrong),
                "{scheme:?}"
            );
        }
        assert_eq!(
            Signer::new(algorithm).verify(&good, &signature),
            Err(SignatureError::Wrong),
            "{scheme:?}"
        );
        for bad in [
            &[] as &[u8],
            &signature[1..],
            &[signature.clone(), vec![0]].concat(),
            &[0; 64],
        ] {
            assert_eq!(
                signer.verify(&good, bad),
                Err(SignatureError::Wrong),
                "{scheme:?}"
            );
        }
    }
}

#[test]
fn the_key_decides_the_algorithm() {
    let message = eval_message(ORIGIN, EXPORTER, 1, PAYLOAD);
    let rsa = Signer::new(&rcgen::PKCS_RSA_SHA256);
    for scheme in [
        SignatureScheme::RSA_PKCS1_SHA256,
        SignatureScheme::RSA_PSS_SHA384,
        SignatureScheme::RSA_PSS_SHA512,
    ] {
        assert_eq!(
            rsa.verify(&message, &rsa.sign(scheme, &message)),
            Err(SignatureError::Wrong),
            "{scheme:?}"
        );
    }
    let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let certificate = CertificateParams::new(Vec::new())
        .unwrap()
        .self_signed(&p521)
        .unwrap();
    let all = aws_lc_rs::default_provider()
        .signature_verification_algorithms
        .all;
    assert_eq!(
        verify(certificate.der(), all, &message, &[0; 64]),
        Err(SignatureError::Algorithm)
    );
    let p256 = Signer::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    assert_eq!(
        verify(&p256.certificate, &[], &message, &[0; 64]),
        Err(SignatureError::Algorithm)
    );
    for no_certificate in [&[] as &[u8], &[0x30, 0], &p256.certificate[1..]] {
        assert!(matches!(
            verify(no_certificate, all, &message, &[0; 64]),
            Err(SignatureError::Certificate(_))
        ));
    }
}

/// The expected bytes come from another implementation (Python's hashlib).
#[test]
fn the_signed_bytes_are_as_specified() {
    let exporter: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap());
    let bytes = eval_message(
        "example.org/shop/one/0123456789abcdef",
        &exporter,
        0x0102_0304_0506_0708,
        PAYLOAD,
    );
    assert_eq!(hex(&bytes), VECTOR);
    assert_eq!(hex(&secret_commitment(&exporter, b"hunter2")), COMMITMENT);
}

#[test]
fn different_inputs_never_give_the_same_bytes() {
    let long = "x".repeat(70_000);
    assert_ne!(
        eval_message(&long, EXPORTER, 1, b""),
        eval_message(&long[1..], EXPORTER, 1, b"")
    );
    assert_ne!(
        eval_message("ab", EXPORTER, 1, b""),
        eval_message("a", EXPORTER, 1, b"b")
    );
    assert_eq!(EXPORTER_LABEL, b"EXPORTER-Channel-Binding");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

const VECTOR: &str = concat!(
    "64656275672d6167656e74206576616c2076310000256578616d706c652e6f72672f73686f702f6f6e652f3031323334",
    "3536373839616263646566000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f0102030405",
    "060708e56ac9efa55766b30c6aa54a101ac768305b9887c856af4d820bec5c3969849c",
);
const COMMITMENT: &str = "a4b33000b399abdf65691fba747f10a6b90ac9fe34786d6cdc596567a5e8829c";
