//! Who the operator is and which agents they trust: the files of an operator's folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use pki_types::pem::PemObject;
use pki_types::{CertificateDer, PrivateKeyDer};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use serde::Deserialize;

use crate::args::Connection;
use crate::failure::Failure;
use crate::term;
use crate::trust::Pin;

/// The most that is read of a file of the identity, in bytes: chains and lists of agents are a few KiB.
const MAX_FILE: u64 = 1 << 20;

/// The operator's certificate with its key, the CA, and where the list of agents is.
pub(crate) struct Identity {
    /// Certificate chain and key, for TLS and for signing evals.
    pub(crate) certified: Arc<CertifiedKey>,
    /// The CA certificates that agents must chain to.
    pub(crate) anchors: Vec<CertificateDer<'static>>,
    /// When the certificate is valid.
    pub(crate) validity: Validity,
    /// Where the certificate is.
    certificate: PathBuf,
}

/// When a certificate is valid, in seconds since 1970.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Validity {
    /// From then on.
    pub(crate) not_before: i64,
    /// Until then.
    pub(crate) not_after: i64,
}

impl Validity {
    /// Reads it out of a certificate.
    ///
    /// # Errors
    /// The certificate cannot be parsed.
    pub(crate) fn of(certificate: &[u8]) -> Result<Self, String> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|e| e.to_string())?;
        let validity = parsed.validity();
        Ok(Self { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() })
    }

    /// Whether it covers that moment.
    pub(crate) fn covers(self, seconds: i64) -> bool {
        self.not_before <= seconds && seconds <= self.not_after
    }

    /// What to tell about the certificate now: expired, not yet valid, or in the last quarter of its life.
    pub(crate) fn warning(self, now: i64) -> Option<String> {
        let ms = |seconds: i64| u64::try_from(seconds).unwrap_or_default().saturating_mul(1000);
        let left = self.not_after - now;
        if left < 0 {
            return Some(format!("the certificate expired {} ago", term::span(ms(-left))));
        }
        if now < self.not_before {
            return Some(format!(
                "the certificate is valid only in {}",
                term::span(ms(self.not_before - now))
            ));
        }
        let last_quarter = left < (self.not_after - self.not_before) / 4;
        last_quarter.then(|| format!("the certificate expires in {}; get another one", term::span(ms(left))))
    }
}

/// Seconds since 1970, by the wall clock.
pub(crate) fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}

/// `agents.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Agents {
    #[serde(default)]
    agent: Vec<Agent>,
}

/// One agent of the list: where it is, who it must be, and the key of its log.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Agent {
    address: String,
    id: String,
    vkey: String,
}

impl Identity {
    /// Reads certificate, key and CA from the files that the arguments name.
    ///
    /// # Errors
    /// A file is not named, cannot be read, or does not hold what it should.
    pub(crate) fn load(args: &Connection, provider: &CryptoProvider) -> Result<Self, Failure> {
        let file = |given: &Option<PathBuf>, name: &str, named: &str| {
            let in_folder = || args.identity.as_ref().map(|dir| dir.join(name));
            given.clone().or_else(in_folder).ok_or_else(|| no_identity(args, named))
        };
        let certificate = file(&args.cert, "cert.pem", "`--cert` (DEBUGCTL_CERT)")?;
        let key_file = file(&args.key, "key.pem", "`--key` (DEBUGCTL_KEY)")?;
        let ca = file(&args.ca, "ca.pem", "`--ca` (DEBUGCTL_CA)")?;
        let chain = certificates(&certificate)?;
        let anchors = certificates(&ca)?;
        let validity = chain.first().map(|leaf| Validity::of(leaf)).unwrap_or(Err("it is empty".to_owned()));
        let validity = validity.map_err(|error| unreadable(&certificate, &error))?;
        let key = PrivateKeyDer::from_pem_slice(&read_key(&key_file)?)
            .map_err(|error| unreadable(&key_file, &format!("it holds no private key: {error}")))?;
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| unreadable(&key_file, &error.to_string()))?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|_| {
            Failure::usage(format!("`{}` is not the key of `{}`", key_file.display(), certificate.display()))
                .help("give the two files that were issued together")
        })?;
        Ok(Self { certified: Arc::new(certified), anchors, validity, certificate })
    }

    /// What is pinned for a target: from the arguments, else from the list of agents beside the certificate.
    ///
    /// # Errors
    /// The list cannot be read, or does not tell which agent is meant.
    pub(crate) fn pin(&self, target: &str, args: &Connection) -> Result<Pin, Failure> {
        if let (Some(id), Some(vkey)) = (&args.agent_id, &args.vkey) {
            return Pin::new(id, vkey);
        }
        let path = self.certificate.with_file_name("agents.toml");
        let entry = self.agent(&path, target, args.agent_id.as_deref())?;
        let id = args.agent_id.as_deref().unwrap_or(&entry.id);
        let vkey = args.vkey.as_deref().unwrap_or(&entry.vkey);
        Pin::new(id, vkey)
    }

    fn agent(&self, path: &Path, target: &str, id: Option<&str>) -> Result<Agent, Failure> {
        let help = "name the agent with `--agent-id` and the key of its log with `--vkey`";
        if !path.exists() {
            let message = format!("no agent is pinned: `{}` does not exist", path.display());
            return Err(Failure::usage(message).help(help));
        }
        let text = String::from_utf8(read(path)?).map_err(|_| unreadable(path, "it is not UTF-8"))?;
        let agents: Agents = toml::from_str(&text).map_err(|error| unreadable(path, error.message()))?;
        let mut agents = agents.agent;
        let only = agents.len() == 1;
        let wanted = |agent: &Agent| match id {
            Some(id) => agent.id == id,
            None => same_address(&agent.address, target),
        };
        match agents.iter().position(wanted) {
            Some(at) => Ok(agents.swap_remove(at)),
            None if only && id.is_none() => Ok(agents.swap_remove(0)),
            None => {
                let message = match id {
                    Some(id) => format!("`{}` has no agent `{id}`", path.display()),
                    None => format!("`{}` has no agent at `{target}`", path.display()),
                };
                Err(Failure::usage(message).help(help))
            }
        }
    }
}

/// Whether two spellings are the same address; `localhost` is 127.0.0.1.
fn same_address(one: &str, other: &str) -> bool {
    let plain = |text: &str| text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    plain(one).as_deref().unwrap_or(one) == plain(other).as_deref().unwrap_or(other)
}

/// `named`: the file that is missing, where others of the identity are given one by one.
fn no_identity(args: &Connection, named: &str) -> Failure {
    let one_by_one = args.cert.is_some() || args.key.is_some() || args.ca.is_some();
    // Who has given none of them has most likely never heard of the single files.
    let missing = if one_by_one { named } else { "`--identity` (DEBUGCTL_IDENTITY)" };
    Failure::usage(format!("who you are is not given: {missing} is missing")).help(
        "give `--identity DIR`, the folder that `debugctl certs` wrote for you, such as `set/operators/alice`, \
         or set DEBUGCTL_IDENTITY to it",
    )
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// It cannot be read, or holds none.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let bytes = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|error| unreadable(path, &error.to_string()))?;
    if all.is_empty() {
        return Err(unreadable(path, "it holds no certificate in PEM"));
    }
    Ok(all)
}

fn read_key(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::os::unix::fs::PermissionsExt;
    let bytes = read(path)?;
    let mode = std::fs::metadata(path).map(|meta| meta.permissions().mode()).unwrap_or_default();
    if mode & 0o077 != 0 {
        term::note(&format!("warning: others may use the key `{}`: `chmod 600` it", path.display()));
    }
    Ok(bytes)
}

/// Reads a small file whole.
///
/// # Errors
/// It cannot be read or is longer than [`MAX_FILE`].
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| unreadable(path, &error.to_string()))?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unreadable(path, "it is longer than 1 MiB"));
    }
    Ok(bytes)
}

fn unreadable(path: &Path, why: &str) -> Failure {
    Failure::usage(format!("cannot use `{}`: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_begin_in_the_last_quarter() {
        let validity = Validity { not_before: 0, not_after: 8 * 3600 };
        assert_eq!(validity.warning(5 * 3600), None);
        assert_eq!(
            validity.warning(7 * 3600).as_deref(),
            Some("the certificate expires in 1h; get another one")
        );
        assert_eq!(validity.warning(10 * 3600).as_deref(), Some("the certificate expired 2h ago"));
        assert_eq!(validity.warning(-60).as_deref(), Some("the certificate is valid only in 1m"));
    }

    #[test]
    fn localhost_is_the_loopback_address_and_nothing_else_is() {
        assert!(same_address("localhost:7777", "127.0.0.1:7777"));
        assert!(same_address("[::1]:7777", "[::1]:7777"));
        assert!(!same_address("localhost:7777", "127.0.0.1:7778"));
        assert!(!same_address("localhost.evil:7777", "127.0.0.1:7777"));
    }
}
