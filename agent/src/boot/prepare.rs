//! Everything that can be checked before the agent's first thread: configuration, policy, certificates, registration.

use std::collections::BTreeMap;
use std::sync::Arc;

use debug_audit::note::SigningKey;
use debug_base::Path;
use debug_config as config;
use debug_config::Config;
use debug_net::Tls;
use debug_points::Registry;
use debug_policy::Policy;
use debug_script::engine;
use debug_state as state;
use debug_state::{Redactor, States};
use pki_types::UnixTime;

use super::error::{Mistake, StartError};
use super::names::AuthorNames;
use super::notices::{self, Notices};
use super::registration::Registration;
use crate::changes::guards::Gauge;
use crate::changes::levels::Levels;
use crate::recorder::notes::Note;

/// An error with its sources, in one line.
pub(super) fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(behind) = source {
        text = format!("{text}: {behind}");
        source = behind.source();
    }
    text
}

/// Everything that can be checked without blocking.
pub(crate) struct Prepared {
    pub(crate) config: Config,
    pub(crate) policy: Policy,
    pub(crate) tls: Tls,
    pub(crate) key: SigningKey,
    pub(crate) registry: Arc<Registry>,
    pub(crate) levels: Arc<Levels>,
    pub(crate) states: Arc<States>,
    pub(crate) redactor: Arc<Redactor>,
    pub(crate) gauges: BTreeMap<String, Gauge>,
    pub(crate) names: AuthorNames,
    pub(crate) notices: Notices,
    pub(crate) keys: Vec<(String, String)>,
}

/// Reads and checks the configuration and all files that it names.
///
/// # Errors
/// The first mistake, with advice.
pub(crate) fn prepare(mut registration: Registration) -> Result<Prepared, StartError> {
    let file = std::env::var_os(config::FILE).ok_or_else(|| {
        StartError::Config(Mistake::new(
            format!("`{}` is not set", config::FILE),
            "set it to the path of `agent.toml`; `debugctl certs init` writes one",
        ))
    })?;
    let config = Config::load(file.as_ref(), std::env::vars_os())
        .map_err(|e| StartError::Config(Mistake::new(e.to_string(), "")))?;
    if config.service != registration.service {
        let what = format!(
            "the configuration is for `{}`, the service calls itself `{}`",
            config.service, registration.service
        );
        return Err(StartError::Config(Mistake::new(
            what,
            "use the configuration of this service",
        )));
    }
    engine::self_test().map_err(|limit| {
        StartError::Build(Mistake::new(
            format!("the limit on {limit} does not hold in this build"),
            "a feature of rhai such as `unchecked` is switched on by another crate; switch it off",
        ))
    })?;
    let policy = |what: String, help: &str| StartError::Policy(Mistake::new(what, help));
    let text = config::trusted_file(&config.policy).map_err(|e| policy(whole(&e), &e.advice()))?;
    let text = String::from_utf8(text)
        .map_err(|_| policy(format!("`{}` is not UTF-8", config.policy.display()), ""))?;
    let policy =
        Policy::parse(&text).map_err(|e| policy(format!("policy `{}`: {e}", config.policy.display()), ""))?;
    let domain = config.trust.domain.parse().map_err(|e: debug_certs::InvalidId| {
        StartError::Config(Mistake::new(format!("trust domain: {e}"), ""))
    })?;
    let tls = Tls::load(
        &config.trust,
        &config.service,
        &config.instance,
        domain,
        UnixTime::now(),
    )
    .map_err(|e| StartError::Trust(Mistake::new(whole(&e), &e.advice())))?;
    let key = log_key(&config)?;
    let redactor = Arc::new(redactor(&config)?);
    let mut notices = Notices::of(std::mem::take(&mut registration.faults));
    let mut closed = closed_to_writes(&registration, &mut notices);
    let names = AuthorNames::new(
        closed.clone(),
        registration.never_patch.clone(),
        config.redact.visible.clone(),
    );
    closed.extend(checked(&mut registration, &mut notices));
    for (path, what) in state::add_keys(&mut registration.states, &registration.keys, &redactor) {
        notices.add_note(Note::about(path, what));
    }
    let (states, faults) = States::of(registration.states, closed, redactor.clone());
    for fault in faults {
        let text = format!("{fault}; all that share the name are closed");
        notices.add_note(Note::about(fault.state(), text));
    }
    let registry = Registry::new(registration.never_patch);
    registry
        .faults()
        .iter()
        .for_each(|fault| notices.add(fault.clone()));
    for route in &registration.routes {
        let (method, template) = route.split_once(' ').unwrap_or((route.as_str(), ""));
        if let Err(error) = registry.declare(method, template) {
            notices.add(format!(
                "`.routes`: `{route}`: {error}; it is no point before it is called"
            ));
        }
    }
    Ok(Prepared {
        config,
        policy,
        tls,
        key,
        registry: Arc::new(registry),
        levels: Arc::default(),
        states: Arc::new(states),
        redactor,
        gauges: registration.gauges,
        names,
        notices,
        keys: registration.keys,
    })
}

/// The paths that the author closed to writes. For an invalid path the whole state is closed, if its first segment
/// names a state.
fn closed_to_writes(registration: &Registration, notices: &mut Notices) -> Vec<Path> {
    let mut closed = Vec::new();
    for text in &registration.never_write {
        match text.parse() {
            Ok(path) => closed.push(path),
            Err(error) => {
                let state = text.split(['.', '[']).next().unwrap_or_default();
                let known = registration
                    .states
                    .iter()
                    .any(|known| known.root().0.first().is_some_and(|n| n == state));
                let what = match known {
                    true => format!("the whole state `{state}` is closed to writes until it is a path"),
                    false => "it closes nothing".to_owned(),
                };
                let state = Path(vec![state.to_owned()]);
                notices.add_note(Note::about(
                    [state.clone()],
                    format!("`.never_write`: {error}; {what}"),
                ));
                closed.extend(known.then_some(state));
            }
        }
    }
    closed
}

/// Adds the checks to their states. Returns the writable states with a check that does not fit: they must be closed to
/// writes.
fn checked(registration: &mut Registration, notices: &mut Notices) -> Vec<Path> {
    let mut closed = Vec::new();
    for unused in state::add_checks(&mut registration.states, &registration.checks) {
        let names: Vec<String> = registration
            .states
            .iter()
            .map(|state| state.root().to_string())
            .collect();
        let names = names
            .iter()
            .map(String::as_str)
            .filter(|name| *name != unused.name);
        let near = if unused.is_known {
            None
        } else {
            debug_base::nearest(&unused.name, names)
        };
        let guess = notices::guess(near);
        let what = match unused.is_writable {
            true => "; the state is closed to writes until its check fits",
            false => "",
        };
        let path = unused.name.parse::<Path>().ok();
        let about = path
            .clone()
            .into_iter()
            .chain(near.and_then(|near| near.parse().ok()));
        notices.add_note(Note::about(
            about,
            format!("`.validate`: {}{guess}{what}", unused.why),
        ));
        closed.extend(path.filter(|_| unused.is_writable));
    }
    closed
}

fn redactor(config: &Config) -> Result<Redactor, StartError> {
    let redactor = Redactor::new(&config.redact.names);
    if config.redact.all {
        return Ok(redactor.redact_all(paths(&config.redact.visible, "visible")?));
    }
    Ok(redactor)
}

fn paths(texts: &[String], what: &str) -> Result<Vec<Path>, StartError> {
    texts
        .iter()
        .map(|text| {
            text.parse()
                .map_err(|e| StartError::Config(Mistake::new(format!("`{what}`: {e}"), "")))
        })
        .collect()
}

/// The key that signs checkpoints; its name must be that of this instance's log.
fn log_key(config: &Config) -> Result<SigningKey, StartError> {
    let file = config.audit.key.display();
    let bytes = config::private_file(&config.audit.key)
        .map_err(|e| StartError::LogKey(Mistake::new(e.to_string(), &e.advice())))?;
    let wrong = |what: String| StartError::LogKey(Mistake::new(what, ""));
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong(format!("`{file}` is not UTF-8")))?;
    let key = SigningKey::parse(text.trim()).map_err(|e| wrong(format!("`{file}`: {e}")))?;
    let expected = format!("{}/{}/{}", config.trust.domain, config.service, config.instance);
    if key.name() != expected {
        return Err(wrong(format!(
            "`{file}` is the key of `{}`, expected `{expected}`",
            key.name()
        )));
    }
    Ok(key)
}
