//! Builds the TLS configuration from files, each of which is checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, Error, RootCertStore, ServerConfig};
use webpki::EndEntityCert;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::pem;
use super::verifier::{Authority, OperatorVerifier};
use crate::expiry::{Lifetime, What};
use debug_certs::TrustDomain;
use debug_config::{FileError, Trust, private_file, trusted_file};

const REISSUE: &str = "let your CA issue the agent a certificate, or make a new set with `debugctl certs init`, and point \
                       `trust.certificate` and `trust.key` at it";
const RENEW_CRL: &str =
    "write a fresh one with `debugctl certs crl DIR`, DIR being the working set, and put it in this place";
const CHECK_CA: &str = "put the PEM certificates of the CA into this file, and nothing else";

/// Why there is no TLS configuration: the file, what is wrong with it, what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file is unreadable, or writable by others.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file's content is wrong.
    #[error("`{}`: {message}", .file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What was found and what was expected.
        message: String,
        /// What to do.
        help: String,
    },
}

impl TlsError {
    /// What to do about it.
    pub fn advice(&self) -> String {
        match self {
            Self::File(e) => e.advice(),
            Self::Content { help, .. } => help.clone(),
        }
    }
}

/// What the listener needs for handshakes.
#[derive(Clone, Debug)]
pub struct Tls {
    provider: Arc<CryptoProvider>,
    resolver: Arc<SingleCertAndKey>,
    webpki: Arc<dyn ClientCertVerifier>,
    domain: TrustDomain,
    /// The trusted authorities, in the order of the file.
    pub authorities: Arc<[Authority]>,
    /// Everything that expires: the agent's certificate, and each authority's certificate and revocation list.
    pub lifetimes: Vec<Lifetime>,
}

impl Tls {
    /// Reads the files of `trust` and checks that they belong together: the CA is valid, each authority has one current
    /// revocation list that it signed, and the agent's certificate was issued by one of them, for this service and
    /// instance, with this key.
    ///
    /// # Errors
    /// The first file that is wrong.
    pub fn load(
        trust: &Trust,
        service: &str,
        instance: &str,
        domain: TrustDomain,
        now: UnixTime,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(provider());
        let certificates = certificates(&trust.ca, CHECK_CA)?;
        let lists = revocation_lists(&trust.crl)?;
        let (authorities, mut lifetimes) = authorities(trust, &provider, &certificates, &lists, now)?;
        let webpki = webpki(trust, &provider, certificates, lists)?;
        let own = own_certificate(trust, &*webpki, now)?;
        lifetimes.insert(0, lifetime(&trust.certificate, &own)?);
        check_name(trust, &own, service, instance, &domain)?;
        let key = own_key(trust, own, &provider)?;
        let tls = Self {
            provider,
            resolver: Arc::new(SingleCertAndKey::from(key)),
            webpki,
            domain,
            authorities: authorities.into(),
            lifetimes,
        };
        // What would make each handshake fail makes the start fail.
        tls.handshake()
            .map_err(|e| error(&trust.certificate, format!("TLS cannot use it: {e}"), REISSUE))?;
        Ok(tls)
    }

    /// The configuration of one handshake. What its verifier reads in the client's certificate is the identity of the session, so
    /// each handshake has a verifier of its own.
    pub(crate) fn handshake(&self) -> Result<(ServerConfig, Arc<OperatorVerifier>), Error> {
        let verifier = Arc::new(OperatorVerifier::new(
            self.webpki.clone(),
            self.authorities.clone(),
            self.domain.clone(),
        ));
        let config = server_config(self.provider.clone(), verifier.clone(), self.resolver.clone())?;
        Ok((config, verifier))
    }
}

/// The cryptography of this build. It is chosen here and never installed as the process's default, which belongs to the
/// service. The order of key exchanges is set here, too: a feature enabled elsewhere in the build could change the
/// default order.
pub fn provider() -> CryptoProvider {
    #[cfg(feature = "aws-lc-rs")]
    {
        use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
        let kx_groups = vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ];
        CryptoProvider {
            kx_groups,
            ..default_provider()
        }
    }
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    {
        use rustls::crypto::ring::{default_provider, kx_group};
        let kx_groups = vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
        CryptoProvider {
            kx_groups,
            ..default_provider()
        }
    }
    #[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
    compile_error!("debug-agent needs a TLS provider: enable its feature `aws-lc-rs` or `ring`")
}

fn server_config(
    provider: Arc<CryptoProvider>,
    verifier: Arc<OperatorVerifier>,
    resolver: Arc<SingleCertAndKey>,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![debug_wire::ALPN.to_vec()];
    // Every connection does a full handshake: a resumed one would skip the verifier and the revocation list.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    // Do not parse what is not needed before the peer is authenticated.
    config.cert_compressors = Vec::new();
    config.cert_decompressors = Vec::new();
    Ok(config)
}

fn webpki(
    trust: &Trust,
    provider: &Arc<CryptoProvider>,
    certificates: Vec<CertificateDer<'static>>,
    lists: Vec<CertificateRevocationListDer<'static>>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|e| error(&trust.ca, format!("a certificate is refused: {e}"), CHECK_CA))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .clear_root_hint_subjects()
        .with_crls(lists)
        .enforce_revocation_expiration()
        .build()
        .map_err(|e| {
            error(
                &trust.crl,
                format!("a revocation list is refused: {e}"),
                RENEW_CRL,
            )
        })
}

/// Checks every authority and its revocation list.
fn authorities(
    trust: &Trust,
    provider: &CryptoProvider,
    certificates: &[CertificateDer<'_>],
    lists: &[CertificateRevocationListDer<'_>],
    now: UnixTime,
) -> Result<(Vec<Authority>, Vec<Lifetime>), TlsError> {
    let lists: Vec<CertificateRevocationList<'_>> = lists
        .iter()
        .map(|l| parse_list(&trust.crl, l))
        .collect::<Result<_, _>>()?;
    let mut authorities: Vec<Authority> = Vec::new();
    let mut lifetimes = Vec::new();
    for certificate in certificates {
        let authority = parse_authority(&trust.ca, certificate, now)?;
        let subject = authority.subject().as_raw();
        if authorities.iter().any(|a| a.subject == subject) {
            let message = format!("two certificates have the subject `{}`", authority.subject());
            return Err(error(
                &trust.ca,
                message,
                "give each CA a name of its own and remove the other",
            ));
        }
        let list = list_of(trust, &authority, &lists)?;
        let signed = EndEntityCert::try_from(certificate).is_ok_and(|c| {
            let algorithms = provider.signature_verification_algorithms.all;
            let (text, signature) = (list.tbs_cert_list.as_ref(), list.signature_value.as_ref());
            algorithms
                .iter()
                .any(|a| c.verify_signature(*a, text, signature).is_ok())
        });
        if !signed {
            let message = format!(
                "the list of `{}` was not signed with that CA's key",
                authority.subject()
            );
            return Err(error(&trust.crl, message, RENEW_CRL));
        }
        let (crl_number, next_update) = in_force(trust, list, now)?;
        let from = seconds(list.last_update().timestamp());
        let file = trust.crl.clone();
        lifetimes.push(Lifetime {
            what: What::RevocationList,
            file,
            from,
            until: next_update,
        });
        let own = span(What::Authority, &trust.ca, &authority);
        let not_after = own.until;
        lifetimes.push(own);
        authorities.push(Authority {
            subject: subject.to_vec(),
            not_after,
            crl_number,
            next_update,
        });
    }
    if lists.len() > certificates.len() {
        let message = "it holds a list of an authority that is not in the CA file".to_owned();
        return Err(error(
            &trust.crl,
            message,
            "remove it, or add that CA's certificate",
        ));
    }
    Ok((authorities, lifetimes))
}

fn parse_authority<'c>(
    file: &Path,
    certificate: &'c CertificateDer<'_>,
    now: UnixTime,
) -> Result<X509Certificate<'c>, TlsError> {
    let parsed = X509Certificate::from_der(certificate)
        .ok()
        .filter(|(rest, _)| rest.is_empty());
    let Some((_, parsed)) = parsed else {
        return Err(error(
            file,
            "a certificate in it cannot be parsed".to_owned(),
            CHECK_CA,
        ));
    };
    let subject = parsed.subject().to_string();
    let signs = parsed
        .key_usage()
        .ok()
        .flatten()
        .is_some_and(|u| u.value.key_cert_sign() && u.value.crl_sign());
    if !parsed.is_ca() || !signs {
        let message = format!("`{subject}` is no CA that may sign certificates and revocation lists");
        return Err(error(file, message, CHECK_CA));
    }
    let (from, to) = (
        parsed.validity().not_before.timestamp(),
        parsed.validity().not_after.timestamp(),
    );
    if now.as_secs() < seconds(from) {
        let message = format!("the CA `{subject}` is not valid before {}", moment(from));
        return Err(error(file, message, "check the clock of the host"));
    }
    if seconds(to) < now.as_secs() {
        let message = format!("the CA `{subject}` expired at {}", moment(to));
        return Err(error(file, message, "make a new CA and issue new certificates"));
    }
    Ok(parsed)
}

fn parse_list<'l>(
    file: &Path,
    list: &'l CertificateRevocationListDer<'_>,
) -> Result<CertificateRevocationList<'l>, TlsError> {
    match CertificateRevocationList::from_der(list) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err(error(
            file,
            "a revocation list in it cannot be parsed".to_owned(),
            RENEW_CRL,
        )),
    }
}

/// The only list of an authority. Webpki uses the first that matches, so an old list before a new one would win.
fn list_of<'l, 'a>(
    trust: &Trust,
    authority: &X509Certificate<'_>,
    lists: &'l [CertificateRevocationList<'a>],
) -> Result<&'l CertificateRevocationList<'a>, TlsError> {
    let mut of_it = lists
        .iter()
        .filter(|l| l.issuer().as_raw() == authority.subject().as_raw());
    match (of_it.next(), of_it.next()) {
        (Some(list), None) => Ok(list),
        (None, _) => {
            let message = format!("it holds no revocation list of the CA `{}`", authority.subject());
            Err(error(&trust.crl, message, RENEW_CRL))
        }
        (Some(_), Some(_)) => {
            let message = format!(
                "it holds more than one revocation list of the CA `{}`",
                authority.subject()
            );
            Err(error(&trust.crl, message, "keep the newest only"))
        }
    }
}

/// The number and the expiry of a list.
fn in_force(
    trust: &Trust,
    list: &CertificateRevocationList<'_>,
    now: UnixTime,
) -> Result<(String, u64), TlsError> {
    let Some(number) = list.crl_number() else {
        return Err(error(
            &trust.crl,
            "a revocation list has no number".to_owned(),
            RENEW_CRL,
        ));
    };
    let Some(next_update) = list.next_update() else {
        return Err(error(
            &trust.crl,
            "a revocation list does not say until when it holds".to_owned(),
            RENEW_CRL,
        ));
    };
    let next_update = next_update.timestamp();
    if seconds(next_update) < now.as_secs() {
        let message = format!("the revocation list expired at {}", moment(next_update));
        return Err(error(&trust.crl, message, RENEW_CRL));
    }
    Ok((format!("{number:x}"), seconds(next_update)))
}

fn own_certificate(
    trust: &Trust,
    webpki: &dyn ClientCertVerifier,
    now: UnixTime,
) -> Result<CertificateDer<'static>, TlsError> {
    let mut all = certificates(&trust.certificate, REISSUE)?;
    let (Some(own), true) = (all.pop(), all.is_empty()) else {
        let message = "it holds more than one certificate".to_owned();
        return Err(error(
            &trust.certificate,
            message,
            "leave the agent's own certificate in it and nothing else",
        ));
    };
    // An agent's certificate is for both sides (SPIFFE X509-SVID, section 4.4), so the check for clients applies.
    webpki.verify_client_cert(&own, &[], now).map_err(|e| {
        let message = match e {
            Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
                format!(
                    "the certificate expired at {}",
                    moment(not_after.as_secs().try_into().unwrap_or(i64::MAX))
                )
            }
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                format!(
                    "the certificate was not issued by the CA in `{}`",
                    trust.ca.display()
                )
            }
            Error::InvalidCertificate(CertificateError::Revoked) => {
                "the certificate has been revoked".to_owned()
            }
            other => format!("the certificate is refused: {other}"),
        };
        error(&trust.certificate, message, REISSUE)
    })?;
    Ok(own)
}

fn check_name(
    trust: &Trust,
    own: &CertificateDer<'_>,
    service: &str,
    instance: &str,
    domain: &TrustDomain,
) -> Result<(), TlsError> {
    let name = debug_certs::agent(own, domain).map_err(|why| {
        error(
            &trust.certificate,
            format!("it is no agent's certificate: {why}"),
            REISSUE,
        )
    })?;
    if name.service == service && name.instance == instance {
        return Ok(());
    }
    let message = format!(
        "it is for service `{}`, instance `{}`; the configuration says `{service}`, `{instance}`",
        name.service, name.instance
    );
    Err(error(
        &trust.certificate,
        message,
        "correct `service` and `instance`, or issue a certificate for them",
    ))
}

fn own_key(
    trust: &Trust,
    own: CertificateDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let text = private_file(&trust.key)?;
    let labels = ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"];
    let mut keys: Vec<PrivateKeyDer<'static>> =
        pem::sections(&text, &labels).map_err(|e| error(&trust.key, e.to_string(), REISSUE))?;
    let (Some(key), true) = (keys.pop(), keys.is_empty()) else {
        return Err(error(
            &trust.key,
            "it holds more than one key".to_owned(),
            "leave the agent's key only",
        ));
    };
    CertifiedKey::from_der(vec![own], key, provider).map_err(|e| match e {
        Error::InconsistentKeys(_) => {
            let message = format!(
                "it is not the key of the certificate `{}`",
                trust.certificate.display()
            );
            error(&trust.key, message, REISSUE)
        }
        other => error(&trust.key, format!("TLS cannot use the key: {other}"), REISSUE),
    })
}

fn certificates(file: &Path, help: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = trusted_file(file)?;
    pem::sections(&text, &["CERTIFICATE"]).map_err(|e| error(file, e.to_string(), help))
}

fn revocation_lists(file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    // Without a list webpki silently checks no revocation, so a file without one is an error.
    let text = trusted_file(file)?;
    pem::sections(&text, &["X509 CRL"]).map_err(|e| error(file, e.to_string(), RENEW_CRL))
}

/// The lifetime of the agent's own certificate.
fn lifetime(file: &Path, certificate: &CertificateDer<'_>) -> Result<Lifetime, TlsError> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| error(file, "the certificate cannot be parsed".to_owned(), REISSUE))?;
    Ok(span(What::Certificate, file, &parsed))
}

fn span(what: What, file: &Path, certificate: &X509Certificate<'_>) -> Lifetime {
    let validity = certificate.validity();
    let (from, until) = (
        seconds(validity.not_before.timestamp()),
        seconds(validity.not_after.timestamp()),
    );
    Lifetime {
        what,
        file: file.to_owned(),
        from,
        until,
    }
}

fn error(file: &Path, message: String, help: &str) -> TlsError {
    TlsError::Content {
        file: file.to_owned(),
        message,
        help: help.to_owned(),
    }
}

/// Seconds since 1970; 0 for times before.
fn seconds(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or(0)
}

fn moment(timestamp: i64) -> String {
    jiff::Timestamp::from_second(timestamp).map_or_else(|_| timestamp.to_string(), |t| t.to_string())
}
