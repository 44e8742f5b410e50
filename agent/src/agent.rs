//! What a service author writes: the builder, the handle, the layers.

use std::fmt;
use std::sync::{Arc, RwLock};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::{self, Flag};
use crate::points::Registry;
use crate::start::{self, Running};
use crate::state::{self, State};
use crate::status::{Shared, Status};

/// The agent in a service. Keep it for as long as the service runs: dropping it reverts every change and stops it.
///
/// Without the environment variable `DEBUG_AGENT` it is inert: no thread, no socket, no file.
#[must_use = "dropping the agent stops it"]
pub struct Agent {
    status: Shared,
    registry: Option<Arc<Registry>>,
    running: Option<Running>,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("status", &self.status.now()).finish_non_exhaustive()
    }
}

/// What the service shows to the agent, before it starts.
#[must_use = "nothing happens before `start_from_env`"]
pub struct Builder {
    pub(crate) service: String,
    pub(crate) states: Vec<Arc<dyn State>>,
    pub(crate) never_patch: Vec<String>,
    pub(crate) never_write: Vec<String>,
    pub(crate) routes: Vec<String>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("service", &self.service).finish_non_exhaustive()
    }
}

/// Why the agent did not start. The service runs on without it.
#[derive(Debug, thiserror::Error)]
#[error("the debug agent does not start: {0}")]
pub struct StartError(pub(crate) String);

impl Agent {
    /// Begins an agent for the service named; the name must be that of the agent's certificate.
    pub fn builder(service: impl Into<String>) -> Builder {
        Builder {
            service: service.into(),
            states: Vec::new(),
            never_patch: Vec::new(),
            never_write: Vec::new(),
            routes: Vec::new(),
        }
    }

    /// How the agent is.
    pub fn status(&self) -> Status {
        self.status.now()
    }

    /// How many changes are in force in this process, for a gauge. 0 when the service is as it was written.
    ///
    /// Each time the number is another than before, an event at INFO with the target `debug_agent::leases` and the fields
    /// `in_force` (how many) and `shortest_ms` (milliseconds until the first of them reverts, missing if there is none) goes
    /// to the service's subscriber. And while there are any, `active.json` stands in the folder `[active] folder` of the
    /// configuration (`active` beside the audit folder): `{"version": 1, "pid", "in_force", "shortest_deadline",
    /// "heartbeat"}`, the last two RFC 3339 in UTC. It is written anew at least every 10 s; one whose heartbeat is much older
    /// was left by a process that died, and so undid its changes.
    pub fn leases_in_force(&self) -> usize {
        self.running.as_ref().map_or(0, Running::leases_in_force)
    }

    /// The layer that makes routes points: give it to [`axum::Router::layer`], after the last route. A route is a
    /// point once it was called, or when it was named in [`Builder::routes`].
    #[cfg(feature = "http")]
    pub fn http_layer(&self) -> crate::HttpLayer {
        crate::HttpLayer::new(self.registry.clone(), &[])
    }

    /// The layer by which the agent learns that the service's subscriber is installed; its own events wait until then.
    #[cfg(feature = "tracing")]
    pub fn tracing_layer(&self) -> crate::TracingLayer {
        crate::TracingLayer::default()
    }
}

impl Builder {
    /// Shows a value under a name, to be read only.
    pub fn state<T>(mut self, name: impl Into<String>, value: Arc<RwLock<T>>) -> Self
    where
        T: Serialize + Send + Sync + 'static,
    {
        self.states.push(state::read_only(name, value));
        self
    }

    /// Shows a value under a name, to be read and changed.
    ///
    /// `PartialEq` tells whether a value survives the way through serde and back; if not, writes are refused.
    pub fn state_mut<T>(mut self, name: impl Into<String>, value: Arc<RwLock<T>>) -> Self
    where
        T: Serialize + DeserializeOwned + Clone + PartialEq + Send + Sync + 'static,
    {
        self.states.push(state::writable(name, value));
        self
    }

    /// Points that no policy can open, by their full names: `POST /api/login`, `shop::price::discount`.
    pub fn never_patch<S: Into<String>>(mut self, points: impl IntoIterator<Item = S>) -> Self {
        self.never_patch.extend(points.into_iter().map(Into::into));
        self
    }

    /// A state path that no policy can open for writing, with everything below it.
    pub fn never_write(mut self, path: impl Into<String>) -> Self {
        self.never_write.push(path.into());
        self
    }

    /// Routes that are points before they are called: `GET /api/healthcheck`.
    pub fn routes<S: Into<String>>(mut self, routes: impl IntoIterator<Item = S>) -> Self {
        self.routes.extend(routes.into_iter().map(Into::into));
        self
    }

    /// Starts the agent if the environment says so, and never fails the service.
    ///
    /// `DEBUG_AGENT` unset, empty, `0` or `off`: inert. `1` or `on`: starts with the file named by
    /// `DEBUG_AGENT_CONFIG`. Anything that stands in the way is said once on stderr, in the
    /// service's log and in [`Agent::status`].
    pub fn start_from_env(self) -> Agent {
        match self.try_start_from_env() {
            Ok(agent) => agent,
            Err(StartError(why)) => {
                start::refuse_start(&why);
                Agent { status: Shared::new(Status::Refused(why)), registry: None, running: None }
            }
        }
    }

    /// As [`Builder::start_from_env`], with what stands in the way as an error. The log is checked and the socket is
    /// opened afterwards on a thread of the agent's own; [`Agent::status`] tells how that went.
    ///
    /// # Errors
    /// A flag or configuration that is not understood, a file that is missing or may be changed by others, an
    /// unusable certificate, an invalid policy.
    pub fn try_start_from_env(self) -> Result<Agent, StartError> {
        let flag = Flag::from_env(std::env::var_os(config::FLAG).as_deref())
            .map_err(|e| StartError(format!("{e}\nhelp: {}", e.help)))?;
        match flag {
            Flag::Off => Ok(Agent { status: Shared::new(Status::Inert), registry: None, running: None }),
            Flag::On => {
                let prepared = start::prepare(self)?;
                let status = Shared::new(Status::Starting);
                let registry = prepared.registry.clone();
                let running = start::launch(prepared, status.clone())?;
                Ok(Agent { status, registry: Some(registry), running: Some(running) })
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
            self.status.set(Status::Stopped);
        }
    }
}
