//! The API for the service author: the builder, the handle, the layers.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(feature = "tracing")]
use tracing::{Subscriber, level_filters::LevelFilter};
#[cfg(feature = "tracing")]
use tracing_subscriber::{filter::Filtered, registry::LookupSpan};

use crate::boot::status::{SharedStatus, Status};
use crate::boot::{self, Mistake, NotUndone, Registration, Running, StartError};
#[cfg(feature = "tracing")]
use crate::changes::levels::{Levels, LogFilter};
use crate::recorder::notes::Note;
#[cfg(feature = "tracing")]
use crate::recorder::tracing_layer::TracingLayer;
use debug_base::Path;
use debug_config as config;
use debug_config::Flag;
#[cfg(feature = "http")]
use debug_points::Registry;
use debug_state as state;
use debug_state::{Check, FieldCell, ReadCell, SharedCell, StateHandle};

/// The agent in a service. Keep it for as long as the service runs: dropping it reverts every change and stops it.
///
/// Without the environment variable `DEBUG_AGENT` it is inert: no thread, no socket, no file.
#[must_use = "dropping the agent stops it"]
pub struct Agent {
    status: SharedStatus,
    #[cfg(feature = "http")]
    registry: Option<Arc<Registry>>,
    #[cfg(feature = "tracing")]
    levels: Option<Arc<Levels>>,
    running: Option<Running>,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// What the service registers with the agent before it starts.
#[must_use = "nothing happens before `start_from_env`"]
pub struct Builder {
    registration: Registration,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("service", &self.registration.service)
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// Begins an agent for the service `service`; the agent's certificate must carry the same name.
    pub fn builder(service: impl Into<String>) -> Builder {
        Builder {
            registration: Registration {
                service: service.into(),
                ..Registration::default()
            },
        }
    }

    /// An agent that does nothing.
    fn without(status: Status) -> Self {
        Self {
            status: SharedStatus::new(status),
            #[cfg(feature = "http")]
            registry: None,
            #[cfg(feature = "tracing")]
            levels: None,
            running: None,
        }
    }

    /// The state of the agent. Waits at most 5 ms.
    pub fn status(&self) -> Status {
        self.running
            .as_ref()
            .map_or_else(|| self.status.now(), Running::status)
    }

    /// The number of changes in force in this process, for a gauge.
    ///
    /// It is 0 while the service runs unchanged. It is also 0 if it cannot be read within 5 ms; [`Agent::status`] then
    /// says so.
    ///
    /// Each time the number changes, an event at INFO with the target `debug_agent::leases` goes to the service's
    /// subscriber. Its fields are `in_force` (the number) and `shortest_ms` (milliseconds until the first change
    /// reverts; missing if there is none).
    ///
    /// While changes are in force, `active.json` exists in the folder `[active] folder` of the configuration (`active`
    /// beside the audit folder): `{"version": 1, "pid", "in_force", "shortest_deadline", "heartbeat"}`, the last two
    /// RFC 3339 in UTC. It is rewritten at least every 10 s. A file with a much older heartbeat was left by a process
    /// that died; its changes died with it.
    pub fn leases_in_force(&self) -> usize {
        self.running.as_ref().map_or(0, Running::leases_in_force)
    }

    /// The layer that makes routes points. A route becomes a point after its first request, or at start if it is named
    /// in [`Builder::routes`].
    ///
    /// **It belongs inside the service's other layers**: authentication, CORS, compression, limits, timeouts, tracing,
    /// catching of panics. A patch answers in place of the handler and of everything inside this layer. A check inside
    /// it (also one that an extractor of the handler makes) is skipped while the patch is in force. So add this layer
    /// right after the last route, and the other layers after it: in axum the layer that is added last is the
    /// outermost.
    ///
    /// [`Agent::outside`] names a layer that must not be skipped, and [`HttpLayer::behind`](debug_http::HttpLayer::behind)
    /// requires it. A patch never answers a request that has not passed every named layer, unless its route is exempt
    /// from the missing one by [`HttpLayer::beside`](debug_http::HttpLayer::beside).
    ///
    /// ```
    /// use axum::{Router, extract::Request, http::StatusCode, middleware::{self, Next}, response::Response, routing::get};
    ///
    /// async fn auth(request: Request, next: Next) -> Result<Response, StatusCode> {
    ///     match request.headers().contains_key("authorization") {
    ///         true => Ok(next.run(request).await),
    ///         false => Err(StatusCode::UNAUTHORIZED),
    ///     }
    /// }
    ///
    /// let agent = debug_agent::Agent::builder("shop").start_from_env();
    /// let admin = Router::new()
    ///     .route("/admin", get(async || "the admin's page"))
    ///     .layer(agent.http_layer().behind("auth"))                   // inside ..
    ///     .layer(agent.outside("auth", middleware::from_fn(auth)));   // .. because this one is added later
    /// let app: Router = Router::new()
    ///     .route("/health", get(async || "ok"))
    ///     .layer(agent.http_layer().beside("auth"))
    ///     .merge(admin);
    /// # drop((app, agent));
    /// ```
    ///
    /// Call it for each router instead of cloning its result: what the agent learns of the layers around one router says
    /// nothing about another. A router under `nest_service` is a service of its own: it needs this layer, too.
    #[cfg(feature = "http")]
    pub fn http_layer(&self) -> debug_http::HttpLayer {
        debug_http::HttpLayer::new(self.registry.clone(), &[])
    }

    /// Names a layer of the service, so that the agent sees where it stands. Add it after [`Agent::http_layer`].
    ///
    /// The layer's behaviour is unchanged. If a request reaches the agent's layer without having passed the named one,
    /// no patch answers it, its route takes no patches, and the service's log, stderr and `info()` say so. A route that
    /// does not need the layer is exempted with [`HttpLayer::beside`](debug_http::HttpLayer::beside). While the agent is
    /// inert this costs one branch.
    #[cfg(feature = "http")]
    pub fn outside<L>(&self, name: impl AsRef<str>, layer: L) -> debug_http::OutsideLayer<L> {
        debug_http::OutsideLayer::new(layer, name.as_ref(), self.registry.as_deref())
    }

    /// The layer that tells the agent that the service's subscriber is installed. The agent's own events wait until
    /// then.
    #[cfg(feature = "tracing")]
    pub fn tracing_layer<S>(&self) -> Filtered<TracingLayer, LevelFilter, S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        TracingLayer::wanting_nothing()
    }

    /// The service's own filter, with the levels that operators set for single targets until a deadline. Give it to the
    /// layer that writes the log:
    ///
    /// ```
    /// use tracing_subscriber::{filter::LevelFilter, fmt, prelude::*};
    ///
    /// let agent = debug_agent::Agent::builder("shop").start_from_env();
    /// let log = fmt::layer().with_filter(agent.log_filter(LevelFilter::INFO));
    /// tracing_subscriber::registry().with(log).with(agent.tracing_layer()).init();
    /// ```
    ///
    /// Each of several layers can have its own. Without an operator's level for a target, `inner` decides. With one,
    /// the operator's level decides: it admits events that `inner` would refuse, and refuses events that `inner` would
    /// admit. Exception: `inner` may still refuse an event for its fields if it admits the event's target and level
    /// itself. A filter that is a layer of the subscriber is asked first, and no operator's level opens it.
    #[cfg(feature = "tracing")]
    pub fn log_filter<F>(&self, inner: F) -> LogFilter<F> {
        LogFilter::new(inner, self.levels.clone())
    }
}

impl Builder {
    /// Registers a value under a name, read-only. [`StateHandle`] lists the containers it can live in.
    ///
    /// ```
    /// use std::sync::atomic::AtomicU32;
    /// use std::sync::{Arc, Mutex};
    ///
    /// static RETRIES: AtomicU32 = AtomicU32::new(3);
    ///
    /// let jobs = Arc::new(Mutex::new(vec!["mail".to_owned()]));
    /// let (limit, _) = tokio::sync::watch::channel(100_u32);
    /// let agent = debug_agent::Agent::builder("shop")
    ///     .state("jobs", jobs.clone())
    ///     .state_mut("limit", limit.clone())
    ///     .state_mut("retries", &RETRIES)
    ///     .start_from_env();
    /// # drop(agent);
    /// ```
    pub fn state<H>(mut self, name: impl Into<String>, handle: H) -> Self
    where
        H: StateHandle,
        H::Value: Serialize,
    {
        self.registration
            .states
            .push(state::read_only(Path(vec![name.into()]), handle.place()));
        self
    }

    /// Registers a value under a name, readable and writable. [`StateHandle`] lists the containers it can live in.
    ///
    /// `PartialEq` checks that a value survives a round trip through serde; writes to one that does not are refused.
    pub fn state_mut<H>(mut self, name: impl Into<String>, handle: H) -> Self
    where
        H: StateHandle,
        H::Value: Serialize + DeserializeOwned + Clone + PartialEq,
    {
        self.registration
            .states
            .push(state::writable(Path(vec![name.into()]), handle.place()));
        self
    }

    /// Registers one field by closures, readable and writable; best for large values, and for types that serde does not
    /// know.
    ///
    /// `path` is a name of its own or a path such as `limits.mail.rate`; fields with the same first name appear as one
    /// state. A change is reverted by `set` with the value that `get` returned before.
    ///
    /// The closures may wait for locks of the service. They run on a thread of the agent; a caller waits at most 250 ms
    /// for it, and a patched call at most 5 ms. A write takes three steps, `get`, compare, `set`, and is not atomic: it
    /// overwrites what the service sets in between. If `set` fails, stores another value than the one given, or takes
    /// longer than 1 s, it is called again with the old value, and the change counts as never made.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// static RATE: AtomicU32 = AtomicU32::new(100);
    ///
    /// let agent = debug_agent::Agent::builder("shop")
    ///     .field(
    ///         "limits.mail.rate",
    ///         || RATE.load(Ordering::Relaxed),
    ///         |rate| {
    ///             if rate > 1000 {
    ///                 return Err("no more than 1000 mails a minute");
    ///             }
    ///             RATE.store(rate, Ordering::Relaxed);
    ///             Ok(())
    ///         },
    ///     )
    ///     .start_from_env();
    /// # drop(agent);
    /// ```
    pub fn field<V, E>(
        mut self,
        path: impl Into<String>,
        get: impl Fn() -> V + Send + Sync + 'static,
        set: impl Fn(V) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self
    where
        V: Serialize + DeserializeOwned + PartialEq + Send + Sync + 'static,
        E: fmt::Display,
    {
        if let Some(path) = self.path_of("field", path.into()) {
            let cell = SharedCell::Shared(Arc::new(FieldCell::new(get, set)));
            self.registration.states.push(state::writable(path, cell));
        }
        self
    }

    /// Registers the result of a closure, read-only: [`Builder::field`] without `set`. For a value that lies in no
    /// lock, or is too large to be shown whole. It is listed as not writable.
    ///
    /// `path` and the closure are as for [`Builder::field`]; the value only needs `Serialize`.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering};
    ///
    /// static SENT: AtomicU64 = AtomicU64::new(0);
    ///
    /// let agent = debug_agent::Agent::builder("shop")
    ///     .read("mail.sent", || SENT.load(Ordering::Relaxed))
    ///     .start_from_env();
    /// # drop(agent);
    /// ```
    pub fn read<V>(mut self, path: impl Into<String>, get: impl Fn() -> V + Send + Sync + 'static) -> Self
    where
        V: Serialize + Send + Sync + 'static,
    {
        if let Some(path) = self.path_of("read", path.into()) {
            self.registration.states.push(state::read_only(
                path,
                SharedCell::Shared(Arc::new(ReadCell::new(get))),
            ));
        }
        self
    }

    /// Parses the path of a field; an invalid one disables that field and is reported at start.
    fn path_of(&mut self, function: &str, path: String) -> Option<Path> {
        let tell = |error| {
            let state = Path(vec![path.split(['.', '[']).next().unwrap_or_default().to_owned()]);
            self.registration.faults.push(Note::about(
                [state],
                format!("`.{function}`: {error}; it is not shown"),
            ));
        };
        path.parse::<Path>().map_err(tell).ok()
    }

    /// Adds the service's own check for every new value of a state. `check` sees the whole value before it is stored,
    /// while no lock is held. Its error is shown to the operator, unless secrets are involved.
    ///
    /// It also checks the current value, because reverting the change restores that one: if it fails the check, the
    /// state is not writable.
    ///
    /// ```
    /// # use std::sync::{Arc, RwLock};
    /// # #[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)] struct Pool { idle: u32, most: u32 }
    /// let pool = Arc::new(RwLock::new(Pool { idle: 2, most: 10 }));
    /// let agent = debug_agent::Agent::builder("shop")
    ///     .state_mut("pool", pool.clone())
    ///     .validate("pool", |pool: &Pool| {
    ///         if pool.idle > pool.most {
    ///             return Err(format!("{} idle of at most {}", pool.idle, pool.most));
    ///         }
    ///         Ok(())
    ///     })
    ///     .start_from_env();
    /// # drop(agent);
    /// ```
    pub fn validate<T, E>(
        mut self,
        name: impl Into<String>,
        check: impl Fn(&T) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self
    where
        T: 'static,
        E: fmt::Display,
    {
        let check: Check<T> = Arc::new(move |value| check(value).map_err(|error| error.to_string()));
        self.registration.checks.push((name.into(), Box::new(check)));
        self
    }

    /// Names the field that identifies the elements of a list: text or an integer, unique in the list. The list is then
    /// shown and addressed as a map by that field, in scripts, in policy and in the log: `pool.backends.b.weight`
    /// instead of `pool.backends.1.weight`, independent of the order of the elements.
    ///
    /// `*` stands for any one name on the way, as in `pools.*.backends`. While two elements have the same key, or one
    /// has none, the list is shown as a list, and `info()` says why.
    ///
    /// ```
    /// # use std::sync::{Arc, RwLock};
    /// # #[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)] struct Backend { name: String, weight: u32 }
    /// # #[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)] struct Pool { backends: Vec<Backend> }
    /// let pool = Arc::new(RwLock::new(Pool { backends: Vec::new() }));
    /// let agent = debug_agent::Agent::builder("shop")
    ///     .state_mut("pool", pool.clone())
    ///     .key("pool.backends", "name")
    ///     .start_from_env();
    /// # drop(agent);
    /// ```
    pub fn key(mut self, path: impl Into<String>, field: impl Into<String>) -> Self {
        self.registration.keys.push((path.into(), field.into()));
        self
    }

    /// Points that no policy can open, by their full names: `POST /api/login`, `shop::price::discount`. An unknown
    /// function is reported when the agent starts; an unknown route in the notes of `info()`, because routes become
    /// known as they are called.
    pub fn never_patch<S: Into<String>>(mut self, points: impl IntoIterator<Item = S>) -> Self {
        self.registration
            .never_patch
            .extend(points.into_iter().map(Into::into));
        self
    }

    /// A state path that no policy can open for writing, with everything below it. Its containers are not writable
    /// either.
    ///
    /// A path that exists only at times (a field that serde leaves out while it is `None`, an entry of a map) is closed
    /// whenever it exists. A path that the state's type does not know closes nothing, which is reported when the agent
    /// starts.
    pub fn never_write(mut self, path: impl Into<String>) -> Self {
        self.registration.never_write.push(path.into());
        self
    }

    /// A number of the service, such as the length of a queue; guards read it as `s.gauges.NAME`.
    ///
    /// `number` is called a few times each second while a guard is in force, on a thread of the agent: it must not
    /// block. A number that is not finite, or a panic, reads as `()`.
    pub fn gauge(
        mut self,
        name: impl Into<String>,
        number: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Self {
        let name = name.into();
        if self.registration.gauges.contains_key(&name) {
            self.registration.faults.push(Note::for_all(format!(
                "two gauges are named `{name}`; both are seen as `()`"
            )));
            self.registration.gauges.insert(name, Box::new(|| f64::NAN));
        } else {
            self.registration.gauges.insert(name, Box::new(number));
        }
        self
    }

    /// Routes that are points before their first request: `GET /api/healthcheck`.
    pub fn routes<S: Into<String>>(mut self, routes: impl IntoIterator<Item = S>) -> Self {
        self.registration
            .routes
            .extend(routes.into_iter().map(Into::into));
        self
    }

    /// Starts the agent if the environment says so; never fails the service.
    ///
    /// A fault in one name disables that name and nothing else: two states with one name, an invalid path, a
    /// `validate`, `never_write` or `never_patch` for a name that does not exist. It is reported once on stderr and in
    /// the service's log, and stays in the notes of `info()`.
    ///
    /// `DEBUG_AGENT` unset, empty, `0` or `off`: inert. `1` or `on`: starts with the file named by
    /// `DEBUG_AGENT_CONFIG`. An error that prevents the start is reported once on stderr, in the service's log and in
    /// [`Agent::status`].
    pub fn start_from_env(self) -> Agent {
        match self.try_start_from_env() {
            Ok(agent) => agent,
            Err(error) => {
                boot::refuse_start(&error.why());
                Agent::without(Status::Refused(error))
            }
        }
    }

    /// As [`Builder::start_from_env`], but returns an error that prevents the start. A thread of the agent then checks
    /// the log and opens the socket; [`Agent::status`] reports the outcome.
    ///
    /// # Errors
    /// A flag or configuration that does not parse, a file that is missing or writable by others, an unusable
    /// certificate, an invalid policy.
    pub fn try_start_from_env(self) -> Result<Agent, StartError> {
        let flag = Flag::from_env(std::env::var_os(config::FLAG).as_deref())
            .map_err(|e| StartError::Flag(Mistake::new(e.to_string(), &e.help)))?;
        match flag {
            Flag::Off => Ok(Agent::without(Status::Inert)),
            Flag::On => {
                let prepared = boot::prepare(self.registration)?;
                let status = SharedStatus::new(Status::Starting);
                #[cfg(feature = "http")]
                let registry = prepared.registry.clone();
                #[cfg(feature = "tracing")]
                let levels = prepared.levels.clone();
                let running = boot::launch(prepared, status.clone())?;
                Ok(Agent {
                    status,
                    #[cfg(feature = "http")]
                    registry: Some(registry),
                    #[cfg(feature = "tracing")]
                    levels: Some(levels),
                    running: Some(running),
                })
            }
        }
    }
}

impl Agent {
    /// Stops the agent as dropping it does, within a second, and returns the changes that could not be undone: the service
    /// holds the lock of their state or refuses the old value. They stay in the service until it ends.
    pub fn shutdown(mut self) -> Vec<NotUndone> {
        self.stop()
    }

    fn stop(&mut self) -> Vec<NotUndone> {
        let Some(running) = self.running.take() else {
            return Vec::new();
        };
        let left = running.stop();
        self.status.set(Status::Stopped);
        left
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // The audit log and stderr tell of what is left.
        drop(self.stop());
    }
}
