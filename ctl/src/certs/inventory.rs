//! `inventory.json`: all certificates issued, for the later verification of logs.

use debug_certs::issue::Issued;
use debug_certs::{AgentId, Operator};
use pki_types::CertificateDer;
use pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Everything that one CA has issued.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Inventory {
    /// Always 1.
    pub(super) version: u32,
    /// The trust domain of all entries.
    pub(super) trust_domain: String,
    /// The agents.
    pub(super) agents: Vec<IssuedAgent>,
    /// The operators' certificates, the newest last; old ones stay, as old records were signed with them.
    pub(super) operators: Vec<OperatorCertificate>,
    /// The revocation list.
    pub(super) crl: Crl,
}

/// An agent.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct IssuedAgent {
    /// Its SPIFFE id.
    pub(super) id: String,
    /// The service.
    pub(super) service: String,
    /// Which instance of it.
    pub(super) instance: String,
    /// Where it listens.
    pub(super) address: String,
    /// The key of its log.
    pub(super) vkey: String,
    /// The serial number of its certificate.
    pub(super) serial: String,
    /// The end of that certificate's validity, RFC 3339.
    pub(super) not_after: String,
}

/// A certificate of an operator.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct OperatorCertificate {
    /// The SPIFFE id.
    pub(super) id: String,
    /// The roles that it grants.
    pub(super) roles: Vec<String>,
    /// Its serial number.
    pub(super) serial: String,
    /// The start of its validity, RFC 3339.
    pub(super) not_before: String,
    /// The end of its validity, RFC 3339.
    pub(super) not_after: String,
    /// The certificate, PEM.
    pub(super) certificate: String,
    /// SHA-256 of its DER, hex.
    pub(super) sha256: String,
}

/// The revocation list.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Crl {
    /// The number of the newest list.
    pub(super) number: u64,
}

impl IssuedAgent {
    /// The entry of an agent.
    pub(super) fn new(id: &AgentId, address: &str, vkey: &str, issued: &Issued) -> Self {
        Self {
            id: id.to_string(),
            service: id.service.clone(),
            instance: id.instance.clone(),
            address: address.to_owned(),
            vkey: vkey.to_owned(),
            serial: issued.serial.clone(),
            not_after: issued.not_after.to_string(),
        }
    }
}

impl OperatorCertificate {
    /// The entry of an operator's certificate.
    pub(super) fn new(operator: &Operator, issued: &Issued) -> Self {
        Self {
            id: operator.to_string(),
            roles: operator.roles.clone(),
            serial: issued.serial.clone(),
            not_before: issued.not_before.to_string(),
            not_after: issued.not_after.to_string(),
            certificate: issued.certificate.clone(),
            sha256: sha256(&issued.certificate),
        }
    }
}

/// The hash by which a certificate in a log is found in the inventory. Its input was issued a moment ago, so it parses.
fn sha256(pem: &str) -> String {
    let der = CertificateDer::from_pem_slice(pem.as_bytes());
    der.map(|der| {
        Sha256::digest(&der)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    })
    .unwrap_or_default()
}

impl Inventory {
    /// The JSON text of the file.
    pub(super) fn text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// `agents.toml`: the entry of each agent for an operator's folder.
    pub(super) fn agents_toml(&self) -> String {
        let mut text = String::from("# Where each agent is, who it must be, and the key of its log.\n");
        for agent in &self.agents {
            text += &format!(
                "\n[[agent]]\naddress = {:?}\nid = {:?}\nvkey = {:?}\n",
                agent.address, agent.id, agent.vkey
            );
        }
        text
    }
}
