//! A single call, and why it or an eval has no result.

use debug_wire::table::MethodId;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::net::link::{CallError, Link, Loss};
use crate::ui::failure::CommandFailure;

/// The deadline of a call other than an eval.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why an eval has no result.
#[derive(Debug)]
pub(crate) enum EvalError {
    /// It failed, in the agent or in this client; the session continues.
    Failed(CommandFailure),
    /// The connection is lost; whether the eval continued is unknown.
    Lost(Loss),
    /// The operator stopped waiting for a cancelled eval.
    Abandoned,
}

impl From<CommandFailure> for EvalError {
    fn from(failure: CommandFailure) -> Self {
        Self::Failed(failure)
    }
}

impl From<EvalError> for CommandFailure {
    fn from(error: EvalError) -> Self {
        match error {
            EvalError::Failed(failure) => failure,
            EvalError::Lost(loss) => loss.into(),
            EvalError::Abandoned => Self::connection("detached while an eval was running").help(
                "its end and its changes are in the audit log; `debugctl leases` shows what is in force",
            ),
        }
    }
}

impl From<Loss> for CommandFailure {
    fn from(loss: Loss) -> Self {
        Self::connection(format!("the connection was lost: {}", loss.0)).help(loss.outlook())
    }
}

/// Calls a method other than `eval`.
pub(super) async fn call<T: DeserializeOwned>(
    link: &Link,
    method: MethodId,
    params: &impl Serialize,
) -> Result<T, EvalError> {
    let reply = timeout(PATIENCE, link.call(method, params)).await;
    let reply =
        reply.map_err(|_| EvalError::Lost(Loss(format!("no answer to `{}` within 10 s", method.name()))))?;
    match reply {
        Ok(value) => serde_json::from_value(value).map_err(|error| unexpected(method, &error).into()),
        Err(CallError::Failed(failure)) => Err(EvalError::Failed(failure.into())),
        Err(CallError::Lost(loss)) => Err(EvalError::Lost(loss)),
    }
}

/// The failure for an answer of another form.
pub(super) fn unexpected(method: MethodId, error: &serde_json::Error) -> CommandFailure {
    CommandFailure::connection(format!(
        "the agent's answer to `{}` is not what it should be: {error}",
        method.name()
    ))
    .help("does the agent have the same version as this client?")
}
