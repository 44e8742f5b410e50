//! The operator's identity and the agents that they trust: the files of an operator's folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use pki_types::CertificateDer;
use rustls::SignatureScheme;
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SigningKey};
use serde::Deserialize;

use crate::args::Connection;
use crate::trust::address::address;
use crate::trust::pem::{self, CertificateFacts};
use crate::trust::pin::Pin;
use crate::ui::failure::CommandFailure;
use crate::ui::term;

/// The limit on a file of the identity, in bytes: chains and lists of agents are a few KiB.
const MAX_FILE: u64 = 1 << 20;

/// The operator's certificate with its key, the CA, and the path of the list of agents.
pub(crate) struct Identity {
    /// Certificate chain and key, for TLS and for signing evals.
    pub(crate) certified: Arc<CertifiedKey>,
    /// The CA certificates that agents must chain to.
    pub(crate) anchors: Vec<CertificateDer<'static>>,
    /// When the certificate is valid.
    pub(crate) validity: Validity,
    /// The path of the certificate.
    certificate: PathBuf,
}

/// The validity of a certificate, in seconds since 1970.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Validity {
    /// The first valid second.
    pub(crate) not_before: i64,
    /// The last valid second.
    pub(crate) not_after: i64,
}

impl Validity {
    /// Reads the validity of a certificate.
    ///
    /// # Errors
    /// The certificate cannot be parsed.
    pub(crate) fn of(certificate: &[u8]) -> Result<Self, String> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|e| e.to_string())?;
        let validity = parsed.validity();
        Ok(Self {
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// Whether the certificate is valid at that moment.
    pub(crate) fn covers(self, seconds: i64) -> bool {
        self.not_before <= seconds && seconds <= self.not_after
    }

    /// The warning about the certificate now, if it is expired, not yet valid, or in the last quarter of its life.
    pub(crate) fn warning(self, now: i64) -> Option<String> {
        let ms = |seconds: i64| u64::try_from(seconds).unwrap_or_default().saturating_mul(1000);
        let left = self.not_after - now;
        if left < 0 {
            let ago = term::span(ms(-left));
            return Some(format!(
                "the certificate expired {ago} ago by this machine's clock; get another one"
            ));
        }
        if now < self.not_before {
            return Some(format!(
                "the certificate is valid only in {} by this machine's clock: is that right? `date -u` shows it",
                term::span(ms(self.not_before - now))
            ));
        }
        let last_quarter = left < (self.not_after - self.not_before) / 4;
        last_quarter.then(|| {
            format!(
                "the certificate expires in {}; get another one",
                term::span(ms(left))
            )
        })
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
    agent: Vec<ListedAgent>,
}

/// One agent of the list: its address, its pinned id, and the key of its log.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListedAgent {
    address: String,
    id: String,
    vkey: String,
}

impl Identity {
    /// Reads certificate, key and CA from the files that the arguments name.
    ///
    /// # Errors
    /// A file is not named, cannot be read, or does not hold what it should.
    pub(crate) fn load(args: &Connection, provider: &CryptoProvider) -> Result<Self, CommandFailure> {
        let file = |given: &Option<PathBuf>, name: &str, named: &str| match (given, &args.identity) {
            (Some(path), _) => Ok(path.clone()),
            (None, Some(dir)) => in_folder(dir, name),
            (None, None) => Err(no_identity(args, named)),
        };
        let certificate = file(&args.cert, "cert.pem", "`--cert` (DEBUGCTL_CERT)")?;
        let key_file = file(&args.key, "key.pem", "`--key` (DEBUGCTL_KEY)")?;
        let ca = file(&args.ca, "ca.pem", "`--ca` (DEBUGCTL_CA)")?;
        let chain = certificates(&certificate, "--cert")?;
        let anchors = certificates(&ca, "--ca")?;
        let facts = chain
            .first()
            .map(|leaf| CertificateFacts::of(leaf))
            .unwrap_or_default();
        must_be_an_operators(&certificate, &facts)?;
        must_be_cas(&ca, &anchors)?;
        let validity = chain
            .first()
            .map(|leaf| Validity::of(leaf))
            .unwrap_or(Err("it is empty".to_owned()));
        let validity = validity.map_err(|error| unreadable(&certificate, &error))?;
        let key = signing_key(&key_file, facts.rsa_bits, provider)?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|_| {
            CommandFailure::usage(format!(
                "`{}` is not the key of `{}`",
                key_file.display(),
                certificate.display()
            ))
            .help("give the two files that were issued together; `debugctl certs issue` writes both anew")
        })?;
        Ok(Self {
            certified: Arc::new(certified),
            anchors,
            validity,
            certificate,
        })
    }

    /// The pin of a target: from the arguments, else from the list of agents beside the certificate.
    ///
    /// # Errors
    /// The list cannot be read, or does not identify the agent.
    pub(crate) fn pin(&self, target: &str, args: &Connection) -> Result<Pin, CommandFailure> {
        if let (Some(id), Some(vkey)) = (&args.agent_id, &args.vkey) {
            return Pin::new(id, vkey);
        }
        let path = self.certificate.with_file_name("agents.toml");
        let entry = self.agent(&path, target, args.agent_id.as_deref())?;
        let id = args.agent_id.as_deref().unwrap_or(&entry.id);
        let vkey = args.vkey.as_deref().unwrap_or(&entry.vkey);
        Pin::new(id, vkey)
    }

    fn agent(&self, path: &Path, target: &str, id: Option<&str>) -> Result<ListedAgent, CommandFailure> {
        let help = "name the agent with `--agent-id` and the key of its log with `--vkey`";
        if !path.exists() {
            let message = format!("no agent is pinned: `{}` does not exist", path.display());
            return Err(CommandFailure::usage(message).help(help));
        }
        let text = String::from_utf8(read(path)?).map_err(|_| unreadable(path, "it is not UTF-8"))?;
        let agents: Agents = toml::from_str(&text).map_err(|error| unreadable(path, error.message()))?;
        let mut agents = agents.agent;
        let only = agents.len() == 1;
        let wanted = |agent: &ListedAgent| match id {
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
                Err(CommandFailure::usage(message).help(help))
            }
        }
    }
}

/// Whether two spellings mean the same address; `localhost` is 127.0.0.1, and no port is the default port.
fn same_address(one: &str, other: &str) -> bool {
    match (address(one), address(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// The schemes that can sign evals, the first choice first.
pub(crate) const SCHEMES: [SignatureScheme; 4] = [
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
];
/// The keys of these schemes, in words.
const KEYS: &str = "use an Ed25519, ECDSA P-256 or P-384 key, or an RSA key of 2048 bits or more";

/// The private key of a file, if it can sign evals.
fn signing_key(
    path: &Path,
    rsa_bits: Option<usize>,
    provider: &CryptoProvider,
) -> Result<Arc<dyn SigningKey>, CommandFailure> {
    let bytes = read_key(path)?;
    let key = pem::private_key(&path.to_string_lossy(), &bytes)
        .map_err(|(why, help)| unreadable(path, &why).help(help))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| match rsa_bits {
            // The provider does not say why it rejects the key.
            Some(bits) if bits < 2048 => unreadable(path, &format!("its RSA key has {bits} bits")).help(KEYS),
            _ => unreadable(path, &format!("its private key cannot be used: {error}")).help(KEYS),
        })?;
    if key.choose_scheme(&SCHEMES).is_none() {
        return Err(unreadable(path, "its key is of a kind that cannot sign evals").help(KEYS));
    }
    Ok(key)
}

/// Checks that a certificate is an operator's, and not the CA's or an agent's of the same set.
fn must_be_an_operators(path: &Path, facts: &CertificateFacts) -> Result<(), CommandFailure> {
    let help = "give your own, `cert.pem` in the folder that `debugctl certs` wrote for you";
    if facts.is_ca {
        return Err(
            unreadable(path, "it holds a certificate of a CA, and no operator's")
                .help(format!("were `--cert` and `--ca` taken for one another? {help}")),
        );
    }
    let is_agents = |uri: &&String| uri.starts_with("spiffe://") && uri.contains("/agent/");
    if let Some(id) = facts.uris.iter().find(is_agents) {
        // Only a warning: the agent decides whom it lets in.
        let path = path.display();
        term::note(&format!(
            "warning: `{path}` is the certificate of the agent `{id}`, and no operator's: {help}"
        ));
    }
    Ok(())
}

/// Checks that the CA file holds no certificate of an operator or an agent.
fn must_be_cas(path: &Path, anchors: &[CertificateDer<'static>]) -> Result<(), CommandFailure> {
    let mut facts = anchors.iter().map(|anchor| CertificateFacts::of(anchor));
    let other = facts.find(|facts| !facts.is_ca && !facts.uris.is_empty());
    let Some(CertificateFacts { uris, .. }) = other else {
        return Ok(());
    };
    let whose = uris.first().map(String::as_str).unwrap_or_default();
    Err(unreadable(path, &format!("it holds the certificate of `{whose}`, which is not one of a CA")).help(
        "were `--cert` and `--ca` taken for one another? give the CA that vouches for agents, `ca.pem` in your folder",
    ))
}

/// The path of a file in the folder of an identity.
///
/// # Errors
/// The folder is none or does not hold the file: what is looked for there, and how such a folder comes to be.
fn in_folder(dir: &Path, name: &str) -> Result<PathBuf, CommandFailure> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let path = dir.join(name);
    let is_missing = |error: &std::io::Error| matches!(error.kind(), NotFound | NotADirectory);
    if !std::fs::metadata(&path).is_err_and(|error| is_missing(&error)) {
        return Ok(path);
    }
    let shown = dir.display();
    let why = match std::fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => format!("the folder `{shown}` holds no identity: it lacks `{name}`"),
        Ok(_) => format!("`{shown}` is no folder"),
        Err(_) => format!("there is no folder `{shown}`"),
    };
    // A whole working set is easily taken for the folder of one of its operators.
    let which = match dir.join("operators").is_dir() {
        true => format!("the identities of this set are the folders in `{shown}/operators`; "),
        false => String::new(),
    };
    Err(CommandFailure::usage(why).help(format!(
        "{which}`--identity` (DEBUGCTL_IDENTITY) names a folder with `cert.pem`, `key.pem` and `ca.pem`: `debugctl certs init` \
         writes one, `operators/NAME` in its set, and `debugctl certs issue` one for each further operator"
    )))
}

/// The failure for a missing identity. `named` is the missing file, if others of the identity are given one by one.
fn no_identity(args: &Connection, named: &str) -> CommandFailure {
    let one_by_one = args.cert.is_some() || args.key.is_some() || args.ca.is_some();
    // An operator who has given none of them most likely does not know the single files.
    let missing = if one_by_one {
        named
    } else {
        "`--identity` (DEBUGCTL_IDENTITY)"
    };
    CommandFailure::usage(format!("who you are is not given: {missing} is missing")).help(
        "give `--identity DIR`, the folder that `debugctl certs` wrote for you, such as `set/operators/alice`, \
         or set DEBUGCTL_IDENTITY to it",
    )
}

/// The certificates of a PEM file, at least one. `option` is the option that gave it.
///
/// # Errors
/// It cannot be read, or holds none.
pub(crate) fn certificates(
    path: &Path,
    option: &str,
) -> Result<Vec<CertificateDer<'static>>, CommandFailure> {
    pem::certificates(&path.to_string_lossy(), &read(path)?, option)
        .map_err(|(why, help)| unreadable(path, &why).help(help))
}

fn read_key(path: &Path) -> Result<Vec<u8>, CommandFailure> {
    use std::os::unix::fs::PermissionsExt;
    let bytes = read(path)?;
    let mode = std::fs::metadata(path)
        .map(|meta| meta.permissions().mode())
        .unwrap_or_default();
    if mode & 0o077 != 0 {
        term::note(&format!(
            "warning: others may use the key `{}`: `chmod 600` it",
            path.display()
        ));
    }
    Ok(bytes)
}

/// Reads a small file.
///
/// # Errors
/// It cannot be read or is longer than [`MAX_FILE`].
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CommandFailure> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| not_opened(path, &error))?;
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| not_read(path, &error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unreadable(path, "it is longer than 1 MiB"));
    }
    Ok(bytes)
}

fn not_opened(path: &Path, error: &std::io::Error) -> CommandFailure {
    let failure = unreadable(path, &error.to_string());
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => failure
            .help("`ls -l` shows whose it is: run as its owner, or have it given to you; do not open it to everyone"),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            failure.help("is the path right, seen from this folder?")
        }
        _ => failure,
    }
}

fn not_read(path: &Path, error: &std::io::Error) -> CommandFailure {
    match error.kind() {
        std::io::ErrorKind::IsADirectory => unreadable(path, "it is a folder, and a file is meant")
            .help("give a file in it; the folder of an identity is given with `--identity`"),
        _ => unreadable(path, &error.to_string()),
    }
}

fn unreadable(path: &Path, why: &str) -> CommandFailure {
    CommandFailure::usage(format!("cannot use `{}`: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::provider::provider;

    #[test]
    fn warnings_begin_in_the_last_quarter() {
        let validity = Validity {
            not_before: 0,
            not_after: 8 * 3600,
        };
        assert_eq!(validity.warning(5 * 3600), None);
        assert_eq!(
            validity.warning(7 * 3600).as_deref(),
            Some("the certificate expires in 1h; get another one")
        );
        let warns = |now, text: &str| assert!(validity.warning(now).unwrap().starts_with(text));
        warns(
            10 * 3600,
            "the certificate expired 2h ago by this machine's clock",
        );
        warns(-60, "the certificate is valid only in 1m by this machine's clock");
    }

    /// The provider itself only says that it rejects the key.
    #[test]
    fn an_rsa_key_that_is_too_short_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        std::fs::write(
            &path,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        )
        .unwrap();
        let why = |bits| {
            signing_key(&path, bits, &provider())
                .map(drop)
                .unwrap_err()
                .message
        };
        assert!(why(Some(1024)).ends_with("its RSA key has 1024 bits"));
        assert!(why(Some(2048)).contains("its private key cannot be used: "));
        assert!(why(None).contains("its private key cannot be used: "));
    }

    #[test]
    fn a_folder_without_an_identity_is_told_what_belongs_there_and_who_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "").unwrap();
        std::fs::create_dir_all(path("set/operators/alice")).unwrap();
        for (dir, why) in [
            ("nowhere", "there is no folder `"),
            ("file", "` is no folder"),
            ("set", "` holds no identity: it lacks `cert.pem`"),
        ] {
            let CommandFailure { message, help, .. } = in_folder(&path(dir), "cert.pem").unwrap_err();
            assert!(message.contains(why), "{message}");
            for part in ["`cert.pem`, `key.pem` and `ca.pem`", "`debugctl certs init`"] {
                assert!(help.contains(part), "{help}");
            }
            assert_eq!(help.contains("/operators`;"), dir == "set", "{help}");
        }
        std::fs::write(path("set/operators/alice/cert.pem"), "").unwrap();
        let alice = path("set/operators/alice");
        assert_eq!(in_folder(&alice, "cert.pem"), Ok(alice.join("cert.pem")));
        let failure = certificates(&alice, "--cert").unwrap_err();
        assert!(failure.message.contains("it is a folder") && failure.help.contains("`--identity`"));
    }

    #[test]
    fn localhost_is_the_loopback_address_and_nothing_else_is() {
        assert!(same_address("localhost:7777", "127.0.0.1:7777"));
        assert!(same_address("localhost", "127.0.0.1:7777"));
        assert!(same_address("::1", "[::1]:7777"));
        assert!(same_address("[::1]:7777", "[::1]:7777"));
        assert!(!same_address("localhost:7777", "127.0.0.1:7778"));
        assert!(!same_address("localhost.evil:7777", "127.0.0.1:7777"));
    }
}
