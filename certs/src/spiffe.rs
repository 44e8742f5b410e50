use std::fmt;
use std::str::FromStr;

/// The limit on a SPIFFE id, in bytes (SPIFFE-ID, section 2.3).
const MAX_ID: usize = 2048;
/// The limit on a trust domain, in bytes (SPIFFE-ID, section 2.1).
const MAX_DOMAIN: usize = 255;
/// The limit on the name of an operator, service or instance, in bytes: it is in every record.
const MAX_NAME: usize = 64;
/// The limit on a role, in bytes.
const MAX_ROLE: usize = 32;

/// A name that cannot be part of an identity, with its purpose and the expected form.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is no {what}: expected {expected}")]
pub struct InvalidId {
    text: String,
    what: &'static str,
    expected: &'static str,
}

impl InvalidId {
    fn new(text: &str, what: &'static str, expected: &'static str) -> Self {
        // The text may come from a certificate, and is shown on terminals and in the log.
        let text = text.chars().take(80).flat_map(char::escape_default).collect();
        Self { text, what, expected }
    }
}

/// A trust domain, such as `dienstplan.internal`: 1 to 255 bytes of `a-z`, `0-9`, `.`, `_` and `-`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The text of the domain.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        if text.is_empty() || MAX_DOMAIN < text.len() || !text.bytes().all(plain) {
            let expected = "1 to 255 of `a-z`, `0-9`, `.`, `_`, `-`, such as `dienstplan.internal`";
            return Err(InvalidId::new(text, "trust domain", expected));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Checks the name of an operator, service or instance: 1 to 64 bytes of `a-z`, `0-9`, `.`, `_`, `-`, but not `.` or `..`.
fn name(text: &str, what: &'static str) -> Result<String, InvalidId> {
    let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    if text.is_empty() || MAX_NAME < text.len() || !text.bytes().all(plain) || matches!(text, "." | "..") {
        return Err(InvalidId::new(
            text,
            what,
            "1 to 64 of `a-z`, `0-9`, `.`, `_`, `-`",
        ));
    }
    Ok(text.to_owned())
}

/// An operator with the roles of the certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Operator {
    /// The trust domain of the name.
    pub trust_domain: TrustDomain,
    /// 1 to 64 bytes of `a-z`, `0-9`, `.`, `_`, `-`.
    pub name: String,
    /// At least one, sorted, each 1 to 32 bytes of `a-z`, `0-9`, `-`.
    pub roles: Vec<String>,
}

impl Operator {
    /// An operator.
    ///
    /// # Errors
    /// An invalid name or role, or no role.
    pub fn new<'a>(
        trust_domain: TrustDomain,
        operator: &str,
        roles: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidId> {
        let name = name(operator, "operator")?;
        let mut roles = roles.into_iter().map(role).collect::<Result<Vec<_>, _>>()?;
        roles.sort();
        roles.dedup();
        if roles.is_empty() {
            return Err(InvalidId::new("", "role", "at least one role"));
        }
        Ok(Self {
            trust_domain,
            name,
            roles,
        })
    }
}

fn role(text: &str) -> Result<String, InvalidId> {
    let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if text.is_empty() || MAX_ROLE < text.len() || !text.bytes().all(plain) {
        return Err(InvalidId::new(text, "role", "1 to 32 of `a-z`, `0-9`, `-`"));
    }
    Ok(text.to_owned())
}

/// The SPIFFE id.
impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/operator/{}", self.trust_domain, self.name)
    }
}

/// An agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AgentId {
    /// The trust domain of the names.
    pub trust_domain: TrustDomain,
    /// The service, 1 to 64 bytes of `a-z`, `0-9`, `.`, `_`, `-`.
    pub service: String,
    /// The instance of the service, within the same limits.
    pub instance: String,
}

impl AgentId {
    /// An agent.
    ///
    /// # Errors
    /// An invalid name.
    pub fn new(trust_domain: TrustDomain, service: &str, instance: &str) -> Result<Self, InvalidId> {
        Ok(Self {
            trust_domain,
            service: name(service, "service")?,
            instance: name(instance, "instance")?,
        })
    }
}

/// The SPIFFE id.
impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "spiffe://{}/agent/{}/{}",
            self.trust_domain, self.service, self.instance
        )
    }
}

impl FromStr for AgentId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (domain, path) = parse(text)?;
        match path[..] {
            ["agent", service, instance] => Self::new(domain, service, instance),
            _ => Err(InvalidId::new(
                text,
                "agent",
                "`spiffe://<trust domain>/agent/<service>/<instance>`",
            )),
        }
    }
}

/// The subject of a SPIFFE id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Subject {
    /// `operator/<name>`.
    Operator(TrustDomain, String),
    /// `agent/<service>/<instance>`.
    Agent(AgentId),
}

impl FromStr for Subject {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (domain, path) = parse(text)?;
        match path[..] {
            ["operator", operator] => Ok(Self::Operator(domain, name(operator, "operator")?)),
            ["agent", service, instance] => Ok(Self::Agent(AgentId::new(domain, service, instance)?)),
            _ => Err(InvalidId::new(
                text,
                "identity",
                "the path `operator/<name>` or `agent/<service>/<instance>`",
            )),
        }
    }
}

/// Splits an id into the trust domain and the segments of the path. Callers check the names, which leaves no room for user
/// information, ports, queries, fragments, escapes or dots.
fn parse(text: &str) -> Result<(TrustDomain, Vec<&str>), InvalidId> {
    let invalid = || {
        InvalidId::new(
            text,
            "SPIFFE id",
            "`spiffe://<trust domain>/<path>` of at most 2048 bytes",
        )
    };
    if MAX_ID < text.len() {
        return Err(invalid());
    }
    let rest = text.strip_prefix("spiffe://").ok_or_else(invalid)?;
    let (domain, path) = rest.split_once('/').ok_or_else(invalid)?;
    let domain = domain.parse::<TrustDomain>()?;
    // Four segments suffice to detect too many.
    Ok((domain, path.splitn(4, '/').collect()))
}

#[cfg(test)]
mod tests;
