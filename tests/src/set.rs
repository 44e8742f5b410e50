//! The set-up of most tests: a program of this crate with the agent in it, and an attached operator.

use std::path::Path;
use std::process::Command;

use crate::certificates::Certificates;
use crate::client::Client;
use crate::http;
use crate::process::Service;

/// A running program, and `alice` attached to its agent.
#[derive(Debug)]
pub struct Set {
    /// The certificates of the service, which has the program's name.
    pub certificates: Certificates,
    /// The program.
    pub service: Service,
    /// The client of `alice`.
    pub client: Client,
}

impl Set {
    /// Runs a program, `env!("CARGO_BIN_EXE_…")`, with `alice` attached in the mode `change`.
    pub fn changing(program: &str) -> Self {
        Self::with(program, None, &[])
    }

    /// The same under another policy than the shipped one, or with variables of the environment.
    pub fn with(program: &str, policy: Option<&str>, variables: &[(&str, &str)]) -> Self {
        let mut set = Self::attached(program, policy, variables);
        set.client.eval(r#"change("a test")"#).ok();
        set
    }

    /// Runs a program with `alice` attached in the mode `observe`.
    pub fn looking(program: &str) -> Self {
        Self::attached(program, None, &[])
    }

    fn attached(program: &str, policy: Option<&str>, variables: &[(&str, &str)]) -> Self {
        let certificates =
            Certificates::for_service(Path::new(program).file_name().unwrap().to_str().unwrap());
        if let Some(policy) = policy {
            certificates.write_policy(policy);
        }
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("DEBUG_AGENT", "1")
            .env("DEBUG_AGENT_CONFIG", certificates.agent_config());
        command.envs(variables.iter().copied());
        let service = Service::spawn(command);
        let client = Client::attach(service.agent(), &certificates.operator("alice"));
        Self {
            certificates,
            service,
            client,
        }
    }

    /// Attaches another operator.
    pub fn attach(&self, operator: &str) -> Client {
        Client::attach(self.service.agent(), &self.certificates.operator(operator))
    }

    /// The service's answer to `GET path`.
    #[track_caller]
    pub fn says(&self, path: &str) -> String {
        http::get(self.service.http, path).unwrap().body
    }
}
