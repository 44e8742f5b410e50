//! `debugctl certs` on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

/// The subcommands of `certs`.
#[derive(Debug, Subcommand)]
pub(crate) enum Certs {
    /// Write a working set for one agent and one operator
    ///
    /// DIR gets the CA (keep `ca/` off the hosts that run the service), the agent's configuration, certificate, policy
    /// and log key, and a folder for the operator.
    Init(Init),
    /// Issue, or renew, an operator's certificate
    Issue(Issue),
    /// Renew the revocation list: it is current for 30 days, and once it is over no operator can attach
    ///
    /// DIR/agent/crl.pem gets a list with a higher number that names whom the last one names.
    Crl(Renew),
}

/// `certs init`
#[derive(Args, Debug)]
pub(crate) struct Init {
    /// The folder to write; it must not exist, or be empty
    pub(crate) dir: PathBuf,
    /// The service, as it calls itself in the code
    #[arg(long, value_name = "NAME")]
    pub(crate) service: String,
    /// The first operator
    #[arg(long, value_name = "NAME")]
    pub(crate) operator: String,
    /// A role of that operator; may be repeated. The shipped policy knows viewer, oncall and lead
    #[arg(long = "role", value_name = "ROLE", required = true)]
    pub(crate) roles: Vec<String>,
    /// The SPIFFE trust domain [default: NAME.internal]
    #[arg(long, value_name = "NAME")]
    pub(crate) trust_domain: Option<String>,
    /// Which instance of the service
    #[arg(long, default_value = "1")]
    pub(crate) instance: String,
    /// Where it runs, such as production
    #[arg(long, default_value = "development")]
    pub(crate) environment: String,
    /// Where the agent listens: an address of loopback
    #[arg(long, default_value = "127.0.0.1:7777")]
    pub(crate) listen: SocketAddr,
}

/// `certs issue`
#[derive(Args, Debug)]
pub(crate) struct Issue {
    /// The folder that `certs init` wrote
    pub(crate) dir: PathBuf,
    /// The operator
    #[arg(long, value_name = "NAME")]
    pub(crate) operator: String,
    /// A role of the operator; may be repeated
    #[arg(long = "role", value_name = "ROLE", required = true)]
    pub(crate) roles: Vec<String>,
    /// How long the certificate lives, 24h at most
    #[arg(long, default_value = "8h", value_parser = duration)]
    pub(crate) ttl: Duration,
}

/// `certs crl`
#[derive(Args, Debug)]
pub(crate) struct Renew {
    /// The folder that `certs init` wrote
    pub(crate) dir: PathBuf,
}

fn duration(text: &str) -> Result<Duration, String> {
    debug_policy::parse_duration(text).map_err(|error| error.to_string())
}
