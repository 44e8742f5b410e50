//! Configuration: the flag, the file, the overrides from the environment, and which files are trusted.

mod document;
mod error;
mod files;
mod flag;
mod keys;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use document::{Document, Value};
use error::{ConfigPlace, quoted};

pub use error::{ConfigError, ConfigErrors};
pub use files::{FileError, private_file, trusted_file};
pub use flag::{FLAG, Flag};

/// The environment variable that names the configuration file.
pub const FILE: &str = "DEBUG_AGENT_CONFIG";

/// The longest name of a service, instance or environment, in bytes. The names are in certificates and in every record.
const MAX_NAME: usize = 64;
/// The longest trust domain, in bytes (SPIFFE ID, section 2.1).
const MAX_DOMAIN: usize = 255;

/// A valid configuration. All paths are absolute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// The service's name. It and the two names below are 1 to 64 bytes of `a-z`, `A-Z`, `0-9`, `.`, `_`, `-`.
    pub service: String,
    /// The instance of the service.
    pub instance: String,
    /// The environment, such as `production`.
    pub environment: String,
    /// Where to listen: a loopback address; with port 0 the system chooses the port.
    pub listen: SocketAddr,
    /// Who may connect, and the agent's own identity.
    pub trust: Trust,
    /// The policy.
    pub policy: PathBuf,
    /// The audit log.
    pub audit: Audit,
    /// `[active]`: the folder of `active.json`, the file that exists while changes are in force.
    pub active: PathBuf,
    /// What is opaque in addition to the built-in patterns.
    pub redact: Redact,
    /// The names of the variables that overrode the above, sorted; for the `boot` record.
    pub from_environment: Vec<String>,
}

/// `[trust]`: who may connect, and the agent's own identity.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trust {
    /// The SPIFFE trust domain.
    pub domain: String,
    /// The certificates of the authorities that issue operators' and agents' certificates, PEM.
    pub ca: PathBuf,
    /// The revocation list of each authority, PEM.
    pub crl: PathBuf,
    /// The agent's certificate, PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, PEM.
    pub key: PathBuf,
}

/// `[audit]`: the audit log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Audit {
    /// The folder of the log.
    pub folder: PathBuf,
    /// The file of the key that signs checkpoints.
    pub key: PathBuf,
}

/// `[redact]`: what is opaque in addition to the built-in patterns.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Redact {
    /// Patterns of path segments with opaque values, added to the built-in ones.
    pub names: Vec<String>,
    /// Whether every string is opaque.
    pub all: bool,
    /// Paths that stay visible although `all` is set.
    pub visible: Vec<String>,
}

impl Config {
    /// Loads the file at `path` and applies `variables` over it (`DEBUG_AGENT__SECTION__KEY`; others are ignored).
    /// Relative paths, also those of variables, are relative to the file's folder.
    ///
    /// # Errors
    /// All mistakes at once; or that the file is unreadable or writable by others.
    pub fn load(
        path: &Path,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigErrors> {
        let unreadable = |message: String, help: String| {
            ConfigErrors::from(ConfigError {
                place: ConfigPlace::File(path.to_owned()),
                message,
                help,
            })
        };
        let absolute = std::path::absolute(path).map_err(|e| {
            unreadable(
                format!("has no absolute path: {e}"),
                format!("set {FILE} to a full path"),
            )
        })?;
        let text = trusted_file(path).map_err(|e| unreadable(e.to_string(), e.advice()))?;
        let mut document = Document::read(path, &text).map_err(ConfigErrors)?;
        let from_environment = document.override_from(variables);
        let config = FieldReader {
            document: &mut document,
            folder: absolute.parent().unwrap_or(Path::new("/")),
        }
        .config(absolute.clone(), from_environment);
        match (config, document.into_mistakes()) {
            (Some(config), mistakes) if mistakes.is_empty() => Ok(config),
            (_, mistakes) => Err(ConfigErrors(mistakes)),
        }
    }
}

/// Takes typed fields out of a document. A missing or wrong field is recorded as a mistake, and reading goes on.
struct FieldReader<'d> {
    document: &'d mut Document,
    folder: &'d Path,
}

impl FieldReader<'_> {
    /// Reads every field before the first `?`, so that every mistake is reported.
    fn config(&mut self, file: PathBuf, from_environment: Vec<String>) -> Option<Config> {
        self.version();
        let service = self.name("service", "the service's name as its certificate has it");
        let instance = self.name(
            "instance",
            "which instance of the service this is, as its certificate has it",
        );
        let environment = self.name("environment", "such as `production` or `development`");
        let listen = self.listen();
        let trust = self.trust();
        let policy = self.path("policy", "file", "the file of the rules");
        let audit = self.audit();
        let active = self.active(audit.as_ref());
        let redact = self.redact();
        Some(Config {
            file,
            service: service?,
            instance: instance?,
            environment: environment?,
            listen: listen?,
            trust: trust?,
            policy: policy?,
            audit: audit?,
            active: active?,
            redact,
            from_environment,
        })
    }

    fn version(&mut self) {
        if self.document.take("", "version").is_none() {
            self.document
                .missing("", "version", "write `version = 1` as the first line");
        }
    }

    fn trust(&mut self) -> Option<Trust> {
        let domain = self.domain();
        let ca = self.path("trust", "ca", "the certificates of the authorities");
        let crl = self.path(
            "trust",
            "crl",
            "their revocation lists; there is no running without one",
        );
        let certificate = self.path("trust", "certificate", "the agent's certificate");
        let key = self.path("trust", "key", "the private key of the agent's certificate");
        Some(Trust {
            domain: domain?,
            ca: ca?,
            crl: crl?,
            certificate: certificate?,
            key: key?,
        })
    }

    fn audit(&mut self) -> Option<Audit> {
        let folder = self.path("audit", "folder", "the folder of the audit log");
        let key = self.path("audit", "key", "the key that signs the audit log's checkpoints");
        Some(Audit {
            folder: folder?,
            key: key?,
        })
    }

    /// The configured folder, or `active` beside the audit folder.
    fn active(&mut self, audit: Option<&Audit>) -> Option<PathBuf> {
        match self.document.take("active", "folder") {
            Some((Value::Text(text), place)) if text.is_empty() || text.contains('\0') => {
                let message = format!("{} is not a path", quoted(&text));
                self.wrong(
                    place,
                    message,
                    "write the path of a folder, or leave the section out",
                )
            }
            Some((Value::Text(text), _)) => Some(self.folder.join(text)),
            Some((_, _)) => None,
            None => audit.map(|audit| audit.folder.with_file_name("active")),
        }
    }

    fn redact(&mut self) -> Redact {
        Redact {
            names: self.texts("redact", "names"),
            all: matches!(self.document.take("redact", "all"), Some((Value::Flag(true), _))),
            visible: self.texts("redact", "visible"),
        }
    }

    fn listen(&mut self) -> Option<SocketAddr> {
        let (text, place) = self.text("listen", "address", "such as `127.0.0.1:7777`")?;
        match listen_address(&text) {
            Ok(address) => Some(address),
            Err((message, help)) => self.wrong(place, message, help),
        }
    }

    fn domain(&mut self) -> Option<String> {
        let (domain, place) = self.text("trust", "domain", "the trust domain of the certificates")?;
        let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        if !domain.is_empty() && domain.len() <= MAX_DOMAIN && domain.bytes().all(plain) {
            return Some(domain);
        }
        let message = format!("{} is not a trust domain", quoted(&domain));
        let help = format!("write 1 to {MAX_DOMAIN} of `a-z`, `0-9`, `.`, `_`, `-`, without `spiffe://`");
        self.wrong(place, message, &help)
    }

    fn name(&mut self, name: &'static str, what: &str) -> Option<String> {
        let (text, place) = self.text("", name, what)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let dots = text == "." || text == "..";
        if !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(plain) && !dots {
            return Some(text);
        }
        let help = format!("write 1 to {MAX_NAME} of `a-z`, `A-Z`, `0-9`, `.`, `_`, `-`");
        self.wrong(place, format!("{} cannot be a name", quoted(&text)), &help)
    }

    fn path(&mut self, section: &'static str, name: &'static str, what: &str) -> Option<PathBuf> {
        let (text, place) = self.text(section, name, what)?;
        if text.is_empty() || text.contains('\0') {
            let message = format!("{} is not a path", quoted(&text));
            return self.wrong(place, message, &format!("write the path of {what}"));
        }
        Some(self.folder.join(text))
    }

    fn text(
        &mut self,
        section: &'static str,
        name: &'static str,
        what: &str,
    ) -> Option<(String, ConfigPlace)> {
        match self.document.take(section, name) {
            Some((Value::Text(text), place)) => Some((text, place)),
            Some((_, _)) => None,
            None => {
                self.document
                    .missing(section, name, &format!("add `{name} = \"…\"`, {what}"));
                None
            }
        }
    }

    fn texts(&mut self, section: &'static str, name: &'static str) -> Vec<String> {
        let Some((Value::Texts(texts), place)) = self.document.take(section, name) else {
            return Vec::new();
        };
        if texts.iter().any(String::is_empty) {
            let message = format!("`{section}.{name}` holds an empty text");
            self.document
                .mistake(place, message, "remove it; it would stand for nothing".to_owned());
        }
        texts
    }

    fn wrong<T>(&mut self, place: ConfigPlace, message: String, help: &str) -> Option<T> {
        self.document.mistake(place, message, help.to_owned());
        None
    }
}

/// Parses the address and port to listen on: numbers, on loopback.
fn listen_address(text: &str) -> Result<SocketAddr, (String, &'static str)> {
    let Ok(address) = text.parse::<SocketAddr>() else {
        // A host name would let the resolver decide where the agent listens.
        let message = format!(
            "{} is not an IP address with a port; host names are refused",
            quoted(text)
        );
        return Err((
            message,
            "write an address of loopback, such as `127.0.0.1:7777` or `[::1]:7777`",
        ));
    };
    if address.ip().is_unspecified() {
        let message = format!("`{address}` would listen on every interface of the host");
        return Err((
            message,
            "listen on loopback, such as `127.0.0.1:7777`, and reach it through a tunnel",
        ));
    }
    if !address.ip().is_loopback() {
        let message = format!("`{address}` is not loopback, so other hosts could reach it");
        return Err((
            message,
            "listen on loopback, such as `127.0.0.1:7777`, and reach it through a tunnel",
        ));
    }
    Ok(address)
}
