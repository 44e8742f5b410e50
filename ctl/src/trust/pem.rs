//! Recognizes what a file holds that should hold a certificate or a private key, to explain a mixed-up file.

use pki_types::pem::PemObject;
use pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::public_key::PublicKey;

/// What a file holds, judged by its first bytes and the labels of its PEM blocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Content {
    /// Nothing.
    Empty,
    /// At least one certificate, and no key.
    Certificate,
    /// A private key without a passphrase.
    Key,
    /// A private key encrypted with a passphrase.
    EncryptedKey,
    /// The public half of a key.
    PublicKey,
    /// A certificate signing request.
    Request,
    /// A private key in the format of OpenSSH.
    Ssh,
    /// A revocation list.
    RevocationList,
    /// A certificate in DER.
    DerCertificate,
    /// Something else in DER: a key, or PKCS#12.
    Der,
    /// A PEM block that begins and does not end.
    Cut,
    /// None of the above.
    Other,
}

impl Content {
    /// Judges the bytes of a file. If it holds several things, a usable key takes precedence.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        if bytes.trim_ascii().is_empty() {
            return Self::Empty;
        }
        if bytes.first() == Some(&0x30) {
            let is_certificate = x509_parser::parse_x509_certificate(bytes).is_ok();
            return if is_certificate {
                Self::DerCertificate
            } else {
                Self::Der
            };
        }
        let text = String::from_utf8_lossy(bytes);
        let begun: Vec<&str> = text.split("-----BEGIN ").skip(1).collect();
        let labels = begun
            .iter()
            .filter_map(|block| block.split_once("-----").map(|(label, _)| label));
        let labels: Vec<&str> = labels.collect();
        let has = |label: &str| labels.contains(&label);
        let plain = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];
        if labels
            .iter()
            .any(|label| !text.contains(&format!("-----END {label}-----")))
        {
            Self::Cut
        } else if has("ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
            Self::EncryptedKey
        } else if plain.into_iter().any(has) {
            Self::Key
        } else if has("OPENSSH PRIVATE KEY") {
            Self::Ssh
        } else if has("CERTIFICATE") {
            Self::Certificate
        } else if has("CERTIFICATE REQUEST") || has("NEW CERTIFICATE REQUEST") {
            Self::Request
        } else if has("X509 CRL") {
            Self::RevocationList
        } else if labels.iter().any(|label| label.ends_with("PUBLIC KEY")) {
            Self::PublicKey
        } else {
            Self::Other
        }
    }

    /// A description in words.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Empty => "it is empty",
            Self::Certificate => "it holds a certificate",
            Self::Key => "it holds a private key",
            Self::EncryptedKey => "its private key is encrypted with a passphrase",
            Self::PublicKey => "it holds a public key",
            Self::Request => "it holds a request for a certificate",
            Self::Ssh => "it holds a key of OpenSSH",
            Self::RevocationList => "it holds a revocation list",
            Self::DerCertificate => "it holds a certificate in DER",
            Self::Der => "it is in DER or PKCS#12",
            Self::Cut => "a PEM block in it does not end: the file was cut",
            Self::Other => "it holds nothing in PEM that is known here",
        }
    }
}

/// The private key of a file.
///
/// # Errors
/// Why there is no usable key, and what to do about it.
pub(crate) fn private_key(path: &str, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, (String, String)> {
    let content = Content::of(bytes);
    let issued = "give the key that was issued with the certificate, `key.pem` in the folder that `debugctl certs` wrote";
    let plain = |command: &str| {
        format!(
            "`(umask 077; {command} -out key-plain.pem)` writes it so that it can be used: `--key key-plain.pem`"
        )
    };
    let help = match content {
        Content::Key => {
            return PrivateKeyDer::from_pem_slice(bytes).map_err(|error| {
                (
                    format!("its private key cannot be read: {error}"),
                    issued.to_owned(),
                )
            });
        }
        Content::EncryptedKey => {
            let decrypt = plain(&format!("openssl pkey -in '{path}'"));
            format!(
                "{decrypt}; it asks for the passphrase. Keep that file in memory, such as below `/run/user`"
            )
        }
        Content::Der => {
            let convert = plain(&format!("openssl pkey -inform DER -in '{path}'"));
            format!("{convert}; for PKCS#12 it is `openssl pkcs12 -nodes -in '{path}'`")
        }
        Content::Certificate | Content::DerCertificate => {
            format!("were `--cert` and `--key` taken for one another? {issued}")
        }
        _ => issued.to_owned(),
    };
    let message = match content {
        Content::EncryptedKey | Content::Der => content.text().to_owned(),
        _ => format!("{}, and no private key", content.text()),
    };
    Err((message, help))
}

/// The certificates of a file, at least one. `option` names the option that gave it.
///
/// # Errors
/// Why there are none, and what to do about it.
pub(crate) fn certificates(
    path: &str,
    bytes: &[u8],
    option: &str,
) -> Result<Vec<CertificateDer<'static>>, (String, String)> {
    let issued =
        format!("give the certificate in PEM with `{option}`; `debugctl certs` writes it into your folder");
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let content = Content::of(bytes);
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Err(error) if content != Content::Cut => Err((format!("it cannot be read: {error}"), issued)),
        _ => {
            let help = match content {
                Content::DerCertificate => {
                    format!(
                        "`openssl x509 -inform DER -in '{path}' -out cert-pem.pem` writes it in PEM: `{option} cert-pem.pem`"
                    )
                }
                Content::Key | Content::EncryptedKey => {
                    format!("were `{option}` and `--key` taken for one another? {issued}")
                }
                _ => issued,
            };
            Err((format!("{}, and no certificate in PEM", content.text()), help))
        }
    }
}

/// What a certificate is for, to detect a mixed-up one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct CertificateFacts {
    /// Whether it is a CA's.
    pub(crate) is_ca: bool,
    /// Its URIs, which are SPIFFE ids here.
    pub(crate) uris: Vec<String>,
    /// The length of its RSA key, in bits.
    pub(crate) rsa_bits: Option<usize>,
}

impl CertificateFacts {
    /// Reads the facts of a certificate; an unparsable one has none.
    pub(crate) fn of(certificate: &[u8]) -> Self {
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
            return Self::default();
        };
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = names
            .map(|names| names.value.general_names.as_slice())
            .unwrap_or_default();
        let uri = |name: &x509_parser::extensions::GeneralName<'_>| match name {
            x509_parser::extensions::GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        };
        let rsa_bits = match parsed.public_key().parsed() {
            Ok(PublicKey::RSA(key)) => Some(key.key_size()),
            _ => None,
        };
        Self {
            is_ca: parsed.is_ca(),
            uris: names.iter().filter_map(uri).collect(),
            rsa_bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(label: &str) -> String {
        format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n")
    }

    #[test]
    fn a_file_is_known_by_what_is_in_it() {
        for (label, content) in [
            ("CERTIFICATE", Content::Certificate),
            ("PRIVATE KEY", Content::Key),
            ("RSA PRIVATE KEY", Content::Key),
            ("EC PRIVATE KEY", Content::Key),
            ("ENCRYPTED PRIVATE KEY", Content::EncryptedKey),
            ("PUBLIC KEY", Content::PublicKey),
            ("RSA PUBLIC KEY", Content::PublicKey),
            ("CERTIFICATE REQUEST", Content::Request),
            ("OPENSSH PRIVATE KEY", Content::Ssh),
            ("X509 CRL", Content::RevocationList),
            ("DH PARAMETERS", Content::Other),
        ] {
            let text = block(label);
            assert_eq!(Content::of(text.as_bytes()), content, "{label}");
            assert_eq!(
                Content::of(text.replace('\n', "\r\n").as_bytes()),
                content,
                "{label} with CRLF"
            );
            assert_eq!(
                Content::of(format!("\u{feff}# mine\n{text}").as_bytes()),
                content,
                "{label} below words"
            );
            let cut = text.split_once("-----END").unwrap().0;
            assert_eq!(Content::of(cut.as_bytes()), Content::Cut, "{label} cut");
        }
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        assert_eq!(Content::of(old.as_bytes()), Content::EncryptedKey);
        assert_eq!(Content::of(b" \n"), Content::Empty);
        assert_eq!(Content::of(b"0\x82\x01"), Content::Der);
        assert_eq!(Content::of(b"hello"), Content::Other);
        let both = block("CERTIFICATE") + &block("PRIVATE KEY");
        assert_eq!(Content::of(both.as_bytes()), Content::Key);
    }
}
