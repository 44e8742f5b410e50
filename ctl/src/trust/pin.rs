//! The agent that an operator means: its identity, and the key of its log.

use debug_audit::VerifierKey;
use debug_certs::AgentId;

use crate::ui::failure::CommandFailure;

/// The id that the agent must have, and the key that must sign its log.
#[derive(Clone, Debug)]
pub(crate) struct Pin {
    /// `spiffe://<trust domain>/agent/<service>/<instance>`.
    pub(crate) id: AgentId,
    /// The log's key; its name is `<trust domain>/<service>/<instance>`.
    pub(crate) vkey: VerifierKey,
}

impl Pin {
    /// Parses both texts.
    ///
    /// # Errors
    /// The id is not an agent's (a person's or another service's certificate must never be taken for an agent's), the vkey
    /// is invalid, or it is of another instance than the id.
    pub(crate) fn new(id: &str, vkey: &str) -> Result<Self, CommandFailure> {
        let id: AgentId = id.parse().map_err(|error| {
            CommandFailure::usage(format!("`{id}` is not the id of an agent: {error}"))
                .help("an agent's id is `spiffe://<trust domain>/agent/<service>/<instance>`")
        })?;
        let name = format!("{}/{}/{}", id.trust_domain, id.service, id.instance);
        let vkey = VerifierKey::parse(vkey)
            .map_err(|error| CommandFailure::usage(format!("`{vkey}` is no key of a log: {error}")))?;
        if vkey.name() != name {
            let message = format!(
                "the pinned log key `{}` is not of the pinned agent `{id}`",
                vkey.name()
            );
            return Err(CommandFailure::usage(message).help(format!("the key's name must be `{name}`")));
        }
        Ok(Self { id, vkey })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use debug_audit::SigningKey;

    const NAME: &str = "example.internal/dienstplan/1";
    const ID: &str = "spiffe://example.internal/agent/dienstplan/1";

    /// T22.
    #[test]
    fn only_agents_can_be_pinned_and_only_with_the_key_of_the_same_instance() {
        let vkey = SigningKey::generate(NAME).unwrap().verifier().to_string();
        assert!(Pin::new(ID, &vkey).is_ok());
        for id in [
            "spiffe://example.internal/operator/alice",
            "spiffe://example.internal/agent/dienstplan",
            "spiffe://example.internal/agent/dienstplan/1/2",
            "spiffe://example.internal/agent//1",
            "spiffe://example.internal/agent/dienstplan/2",
            "spiffe://example.org/agent/dienstplan/1",
            "https://example.internal/agent/dienstplan/1",
            "",
        ] {
            assert!(Pin::new(id, &vkey).is_err(), "{id}");
        }
        assert!(Pin::new(ID, "example.internal/dienstplan/1+00000000+AAAA").is_err());
    }
}
