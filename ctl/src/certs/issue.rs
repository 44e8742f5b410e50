//! `certs issue`.

use std::path::Path;

use debug_certs::issue::{Ca, IssueError, Issued};
use debug_certs::{InvalidId, Operator, TrustDomain};
use debug_policy::{Policy, format_duration};
use jiff::Timestamp;

use super::files;
use super::inventory::{Inventory, OperatorCertificate};
use crate::args::certs::Issue;
use crate::ui::failure::CommandFailure;

/// The inventory version that this program reads.
const VERSION: u32 = 1;

/// Issues a certificate into the operator's folder. Returns the text to print.
pub(super) fn issue(args: &Issue) -> Result<String, CommandFailure> {
    let (dir, now) = (&args.dir, Timestamp::now());
    let certificate = files::read(&dir.join("ca/ca.pem"))?;
    let mut inventory = inventory(dir)?;
    let domain: TrustDomain = inventory
        .trust_domain
        .parse()
        .map_err(|e: InvalidId| CommandFailure::usage(e.to_string()))?;
    let operator = Operator::new(domain, &args.operator, args.roles.iter().map(String::as_str))
        .map_err(|e| CommandFailure::usage(e.to_string()))?;
    let ca = Ca::load(&certificate, &files::read(&dir.join("ca/ca.key"))?).map_err(|e| issuing(&e))?;
    let issued = ca.operator(&operator, args.ttl, now).map_err(|e| issuing(&e))?;

    // The inventory first: a certificate missing from it would be worse than an entry without a certificate.
    inventory
        .operators
        .push(OperatorCertificate::new(&operator, &issued));
    let text = inventory
        .text()
        .map_err(|e| CommandFailure::local(format!("the inventory: {e}")))?;
    files::replace(&dir.join("inventory.json"), &text, 0o644)?;
    operator_folder(dir, &operator, &issued, &certificate, &inventory)?;
    let folder = dir.join("operators").join(&operator.name);
    Ok(format!(
        "issued a certificate for {} as {}, valid for {}, in `{}`{}",
        operator.name,
        operator.roles.join(" and "),
        format_duration(args.ttl),
        folder.display(),
        unknown_roles(dir, &operator),
    ))
}

/// A warning, on its own line, about roles that no rule of the policy names: the policy beside the set, or the shipped one if
/// that cannot be read. Only a warning, as the agent may run with another policy.
pub(super) fn unknown_roles(dir: &Path, operator: &Operator) -> String {
    let path = dir.join("agent/policy.toml");
    let own = files::read(&path).ok().and_then(|text| Policy::parse(&text).ok());
    let (policy, which) = match own {
        Some(policy) => (Some(policy), format!("the policy `{}`", path.display())),
        None => (
            Policy::parse(debug_policy::DEFAULT).ok(),
            "the shipped policy".to_owned(),
        ),
    };
    let Some(policy) = policy else {
        return String::new();
    };
    let known = policy.roles();
    let unknown: Vec<String> = operator
        .roles
        .iter()
        .filter(|role| !known.contains(role.as_str()))
        .map(|role| format!("`{role}`"))
        .collect();
    if unknown.is_empty() {
        return String::new();
    }
    let named = match known.into_iter().collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "they name no roles".to_owned(),
        roles => format!("they name {roles}"),
    };
    format!(
        "\nwarning: no rule of {which} names the role {}: {named}",
        unknown.join(" or ")
    )
}

pub(super) fn inventory(dir: &Path) -> Result<Inventory, CommandFailure> {
    let path = dir.join("inventory.json");
    let invalid = |why: String| CommandFailure::usage(format!("`{}` is no inventory: {why}", path.display()));
    let inventory: Inventory =
        serde_json::from_str(&files::read(&path)?).map_err(|error| invalid(error.to_string()))?;
    if inventory.version != VERSION {
        return Err(invalid(format!(
            "its version is {}, expected {VERSION}",
            inventory.version
        )));
    }
    Ok(inventory)
}

/// Writes an operator's folder, or replaces certificate and key in it.
pub(super) fn operator_folder(
    dir: &Path,
    operator: &Operator,
    issued: &Issued,
    ca: &str,
    inventory: &Inventory,
) -> Result<(), CommandFailure> {
    let folder = dir.join("operators").join(&operator.name);
    if !folder.is_dir() {
        files::folder(&folder)?;
    }
    // The key first: a certificate beside another's key is refused with the place, a key without one is just missing.
    files::replace(&folder.join("key.pem"), &issued.key, 0o600)?;
    files::replace(&folder.join("cert.pem"), &issued.certificate, 0o644)?;
    files::replace(&folder.join("ca.pem"), ca, 0o644)?;
    files::replace(&folder.join("agents.toml"), &inventory.agents_toml(), 0o644)
}

/// The failure for an error of the CA.
pub(super) fn issuing(error: &IssueError) -> CommandFailure {
    let failure = CommandFailure::usage(match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    });
    match error {
        IssueError::TooLong => failure.help("say `--ttl 8h`; renewing is one command"),
        _ => failure,
    }
}
