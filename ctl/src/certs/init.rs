//! `certs init`.

use std::path::Path;

use debug_audit::note::SigningKey;
use debug_certs::issue::{CRL_LIFE, Ca, OPERATOR_LIFE};
use debug_certs::{AgentId, InvalidId, Operator, TrustDomain};
use debug_policy::format_duration;
use jiff::Timestamp;

use super::files::{self, private, public};
use super::inventory::{Crl, Inventory, IssuedAgent, OperatorCertificate};
use super::issue::{issuing, operator_folder, unknown_roles};
use crate::args::certs::Init;
use crate::ui::failure::CommandFailure;

/// The names in the arguments, checked before anything is written.
struct Plan {
    domain: TrustDomain,
    agent: AgentId,
    operator: Operator,
}

/// Writes the whole working set, or nothing. Returns the text to print.
pub(super) fn init(args: &Init) -> Result<String, CommandFailure> {
    let plan = plan(args)?;
    claim(&args.dir)?;
    let result = write(args, &plan);
    if result.is_err() {
        // The first error already names the folder that could not be removed.
        drop(std::fs::remove_dir_all(&args.dir));
    }
    result
}

fn plan(args: &Init) -> Result<Plan, CommandFailure> {
    let invalid = |error: InvalidId| CommandFailure::usage(error.to_string());
    let domain = args
        .trust_domain
        .clone()
        .unwrap_or_else(|| format!("{}.internal", args.service));
    let domain: TrustDomain = domain.parse().map_err(invalid)?;
    let agent = AgentId::new(domain.clone(), &args.service, &args.instance).map_err(invalid)?;
    let roles = args.roles.iter().map(String::as_str);
    let operator = Operator::new(domain.clone(), &args.operator, roles).map_err(invalid)?;
    if !args.listen.ip().is_loopback() {
        return Err(
            CommandFailure::usage(format!("the listen address `{}` is not loopback", args.listen))
                .help("use 127.0.0.1 or [::1]; listening on a VPN interface is not part of this version"),
        );
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if args.environment.is_empty() || args.environment.len() > 64 || !args.environment.chars().all(plain) {
        return Err(CommandFailure::usage(format!(
            "`{}` is no environment",
            args.environment.escape_debug()
        ))
        .help("use 1 to 64 letters, digits, `.`, `_` or `-`, such as `production`"));
    }
    Ok(Plan {
        domain,
        agent,
        operator,
    })
}

/// Makes the folder, or takes an empty one; never one with anything in it.
fn claim(dir: &Path) -> Result<(), CommandFailure> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => std::fs::remove_dir(dir).map_err(|error| files::failed("use", dir, &error))?,
            Some(_) => {
                return Err(CommandFailure::usage(format!("`{}` is not empty", dir.display()))
                    .help("name a new folder; `debugctl certs issue` adds operators to an existing set"));
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(files::failed("read", dir, &error)),
    }
    files::folder(dir)
}

fn write(args: &Init, plan: &Plan) -> Result<String, CommandFailure> {
    let now = Timestamp::now();
    let (ca, stored) = Ca::generate(&plan.domain, now).map_err(|e| issuing(&e))?;
    let dir = &args.dir;
    for folder in ["ca", "agent", "agent/audit", "operators"] {
        files::folder(&dir.join(folder))?;
    }
    public(&dir.join("ca/ca.pem"), &stored.certificate)?;
    private(&dir.join("ca/ca.key"), &stored.key)?;

    let issued = ca.agent(&plan.agent, now).map_err(|e| issuing(&e))?;
    let agent = dir.join("agent");
    public(&agent.join("ca.pem"), &stored.certificate)?;
    public(&agent.join("agent.pem"), &issued.certificate)?;
    private(&agent.join("agent.key"), &issued.key)?;
    public(
        &agent.join("crl.pem"),
        &ca.revocation_list(1, &[], now).map_err(|e| issuing(&e))?,
    )?;
    public(&agent.join("policy.toml"), debug_policy::DEFAULT)?;
    public(&agent.join("agent.toml"), &configuration(args, plan))?;
    let name = format!("{}/{}/{}", plan.domain, plan.agent.service, plan.agent.instance);
    let key =
        SigningKey::generate(&name).map_err(|e| CommandFailure::local(format!("the log's key: {e}")))?;
    private(&agent.join("audit.key"), &format!("{}\n", key.to_text().as_str()))?;

    let certificate = ca
        .operator(&plan.operator, OPERATOR_LIFE, now)
        .map_err(|e| issuing(&e))?;
    let vkey = key.verifier().to_string();
    let inventory = Inventory {
        version: 1,
        trust_domain: plan.domain.to_string(),
        agents: vec![IssuedAgent::new(
            &plan.agent,
            &args.listen.to_string(),
            &vkey,
            &issued,
        )],
        operators: vec![OperatorCertificate::new(&plan.operator, &certificate)],
        crl: Crl { number: 1 },
    };
    let text = inventory
        .text()
        .map_err(|e| CommandFailure::local(format!("the inventory: {e}")))?;
    public(&dir.join("inventory.json"), &text)?;
    operator_folder(dir, &plan.operator, &certificate, &stored.certificate, &inventory)?;
    Ok(report(args, plan))
}

fn configuration(args: &Init, plan: &Plan) -> String {
    format!(
        r#"# The debug agent of `{service}`. Paths are relative to this file.
version = 1
service = "{service}"            # as the service calls itself in its code
instance = "{instance}"
environment = "{environment}"

[listen]
address = "{listen}"    # loopback only

[trust]
domain = "{domain}"
ca = "ca.pem"
crl = "crl.pem"                     # required: without it no certificate could be revoked
certificate = "agent.pem"
key = "agent.key"

[policy]
file = "policy.toml"

[audit]
folder = "audit"
key = "audit.key"

[active]
folder = "active"                   # active.json says there that changes are in force; best in memory: /run/..
"#,
        service = plan.agent.service,
        instance = plan.agent.instance,
        environment = args.environment,
        listen = args.listen,
        domain = plan.domain,
    )
}

fn report(args: &Init, plan: &Plan) -> String {
    let dir = args.dir.display();
    format!(
        "wrote `{dir}`: a CA (`ca/`, keep it off the hosts that run the service), the agent's files (`agent/`) and a \
         certificate for {} as {}, valid for 8h\n\
         start the service with  DEBUG_AGENT=1 DEBUG_AGENT_CONFIG={dir}/agent/agent.toml\n\
         then attach with        debugctl attach {} --identity {dir}/operators/{}\n\
         within {} renew the revocation list with `debugctl certs crl {dir}`: once it is over no operator can attach{}",
        plan.operator.name,
        plan.operator.roles.join(" and "),
        args.listen,
        plan.operator.name,
        format_duration(CRL_LIFE),
        unknown_roles(&args.dir, &plan.operator),
    )
}
