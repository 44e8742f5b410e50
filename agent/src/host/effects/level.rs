//! `log_level(target, level, opts?)`: the effect that it requests, and the checks before the policy decision.

use std::sync::Arc;

use debug_policy::{Resource, is_hidden};
use debug_wire::table::Function;
use rhai::Dynamic;
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};

use super::parts::{guard_of, possible};
use crate::changes::levels::{LevelChange, OWN, is_inside, level_name};
use crate::core::Core;
use crate::effect::{Barred, Refusal};
use crate::effect::{Effect, Proposal};
use crate::host::arguments::{CallArguments, options, text, usage};
use debug_base::NonEmpty;

use crate::session::context::EvalContext;

/// The levels by name, from the least verbose.
const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// The effect of `log_level`: a change, or why it is impossible.
///
/// # Errors
/// Wrong arguments.
pub(super) fn log_level(
    core: &Arc<Core>,
    run: &EvalContext,
    function: &'static Function,
    target: Option<Dynamic>,
    level: Option<Dynamic>,
    opts: Option<Dynamic>,
) -> Result<Effect, Refusal> {
    let target = text(function, "the target", target)?;
    let resource = Resource::Target(target.clone());
    resource.check().map_err(|e| usage(function, &e.to_string()))?;
    let level = parse(function, &text(function, "the level", level)?)?;
    let given = options(function, opts)?;
    let barred = Barred::named(function, resource.clone(), given.options.clone());
    if let Some(barred) = barred.unless_allowed(core.door(), run) {
        return Ok(barred);
    }
    let formed = form(core, run, function, target, level, given.clone());
    Ok(possible(formed, function, resource, given.options))
}

fn parse(function: &Function, text: &str) -> Result<LevelFilter, Refusal> {
    let found = LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|(_, level)| *level).ok_or_else(|| {
        let names = LEVELS.map(|(name, _)| name).join(", ");
        let shown: String = text
            .chars()
            .take(20)
            .map(|c| if is_hidden(c) { '?' } else { c })
            .collect();
        usage(
            function,
            &format!("there is no level `{shown}`; the levels are {names}"),
        )
    })
}

fn form(
    core: &Arc<Core>,
    run: &EvalContext,
    function: &'static Function,
    target: String,
    level: LevelFilter,
    given: CallArguments,
) -> Result<Effect, Refusal> {
    possible_at_all(core.changes.levels.filters(), STATIC_MAX_LEVEL, &target, level)?;
    let layers = run.layers(
        &core.changes,
        &Resource::Target(target.clone()),
        core.changes.levels.layers(&target),
    );
    let proposal = Proposal {
        function,
        targets: NonEmpty::one(Resource::Target(target.clone())),
        reads: Vec::new(),
        logs: false,
        before: serde_json::json!({ "layers": layers }),
        after: serde_json::json!({ "level": level_name(level) }),
        after_digest: serde_json::Value::Null,
        shown: None,
        guard: guard_of(core, run, function, &given)?,
        change: Arc::new(LevelChange::new(core.changes.levels.clone(), target, level)),
        options: given.options,
    };
    Ok(Effect::Change(Box::new(proposal)))
}

/// Checks what is known before the change is made; `built` is the most verbose level that is compiled in.
fn possible_at_all(
    filters: usize,
    built: LevelFilter,
    target: &str,
    level: LevelFilter,
) -> Result<(), Refusal> {
    if filters == 0 {
        return Err(Refusal::state(
            "no filter of this agent is installed: nothing would change",
            "the service's author adds `.with_filter(agent.log_filter(..))` to the layer that writes its log",
        ));
    }
    if built < level {
        return Err(Refusal::state(
            format!(
                "events of `{target}` at {} are not in this build: it is compiled out what is above {}",
                level_name(level),
                level_name(built)
            ),
            "a feature of `tracing` such as `release_max_level_info` removes them; only another build has them",
        ));
    }
    if is_inside(target, OWN) && level < LevelFilter::INFO {
        return Err(Refusal::state(
            format!("`{target}` is what the agent itself says; it cannot be silenced"),
            "`info`, `debug` and `trace` are possible",
        ));
    }
    if level == LevelFilter::TRACE && !target.contains("::") {
        return Err(Refusal::state(
            format!(
                "`{target}` is a whole crate; at TRACE that is too much, and its events may print secrets"
            ),
            format!("name a part of it, as in `{target}::module`, or take `debug`"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(filters: usize, built: &str, target: &str, level: &str, expected: Option<&str>) {
        let of = |text: &str| LEVELS.iter().find(|(name, _)| *name == text).unwrap().1;
        let seen = match possible_at_all(filters, of(built), target, of(level)) {
            Err(Refusal::State { message, .. }) => Some(message),
            Err(other) => panic!("{other:?}"),
            Ok(()) => None,
        };
        match (seen, expected) {
            (Some(message), Some(part)) => assert!(message.contains(part), "{message}"),
            (seen, expected) => assert_eq!(seen.as_deref(), expected, "{target} {level}"),
        }
    }

    #[test]
    fn what_is_compiled_out_is_said() {
        let said = Some("at DEBUG are not in this build: it is compiled out what is above INFO");
        check(1, "info", "a::b", "debug", said);
        check(1, "info", "a::b", "info", None);
        check(1, "info", "a::b", "off", None);
        check(1, "trace", "a::b", "trace", None);
    }

    #[test]
    fn without_a_filter_nothing_is_possible() {
        check(
            0,
            "trace",
            "a::b",
            "debug",
            Some("no filter of this agent is installed"),
        );
    }

    #[test]
    fn a_whole_crate_is_raised_to_debug_at_most() {
        check(1, "trace", "hyper", "debug", None);
        check(1, "trace", "hyper", "trace", Some("is a whole crate"));
        check(1, "trace", "hyper::client", "trace", None);
    }

    #[test]
    fn what_the_agent_says_is_not_lowered() {
        for target in ["debug_agent", "debug_agent::script"] {
            for level in ["off", "error", "warn"] {
                check(1, "trace", target, level, Some("it cannot be silenced"));
            }
            check(1, "trace", target, "debug", None);
        }
        check(1, "trace", "debug_agents", "off", None);
    }

    #[test]
    fn levels_go_by_their_names_in_any_case() {
        let function = debug_wire::table::HostFunction::LogLevel.row();
        for (text, level) in [
            ("off", LevelFilter::OFF),
            ("WARN", LevelFilter::WARN),
            ("Trace", LevelFilter::TRACE),
        ] {
            assert_eq!(parse(function, text).unwrap(), level);
        }
        for text in ["", "warning", "3", "de\nbug", &"x".repeat(10_000)] {
            let Err(Refusal::State { message, .. }) = parse(function, text) else {
                panic!("{text}")
            };
            assert!(
                message.contains("the levels are off, error, warn, info, debug, trace"),
                "{message}"
            );
            assert!(message.len() < 200 && !message.contains('\n'), "{message}");
        }
    }
}
