use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Event, Metadata, Subscriber, dispatcher};
use tracing_subscriber::layer::{Context, Filter, Layered};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::*;
use debug_base::Wait;
use debug_lease::for_test::begun;
use debug_lease::{Change, Rearmed, Stands};

/// All tests share the callsites, and the interest of subscribers in them is cached.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Collects the events that reach it.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        self.0
            .lock()
            .unwrap()
            .push(format!("{} {}", metadata.level(), metadata.target()));
    }
}

impl Log {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// The events that reach it when all are emitted.
    fn of_all(&self) -> Vec<String> {
        everything();
        self.take()
    }
}

/// Events of five targets at three levels.
fn everything() {
    macro_rules! at_each_level {
        ($($target:literal)*) => {$(
            tracing::info!(target: $target, "an event");
            tracing::debug!(target: $target, "an event");
            tracing::trace!(target: $target, "an event");
        )*};
    }
    at_each_level!("a" "a::b" "a::b::c" "a::bc" "debug_agent");
}

const INFO: [&str; 5] = [
    "INFO a",
    "INFO a::b",
    "INFO a::b::c",
    "INFO a::bc",
    "INFO debug_agent",
];

/// The events that reach the log without a level, and `others`.
fn info_and(others: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = INFO.iter().chain(others).map(|line| (*line).to_owned()).collect();
    all.sort();
    all
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// Runs `run` in a subscriber while others exist: `tracing` assumes that the only subscriber is the one of every
/// thread.
fn within<T>(subscriber: impl Subscriber + Send + Sync + 'static, run: impl FnOnce() -> T) -> T {
    let _one_at_a_time = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let _others = [
        Dispatch::new(NoSubscriber::new()),
        Dispatch::new(NoSubscriber::new()),
    ];
    dispatcher::with_default(&Dispatch::new(subscriber), run)
}

fn with_log<F>(
    levels: &Arc<Levels>,
    inner: F,
) -> (
    Log,
    impl Subscriber + for<'span> LookupSpan<'span> + Send + Sync + 'static,
)
where
    F: Filter<Registry> + Send + Sync + 'static,
{
    let log = Log::default();
    let filter = LogFilter::new(inner, Some(levels.clone()));
    let subscriber: Layered<_, Registry> =
        tracing_subscriber::registry().with(log.clone().with_filter(filter));
    (log, subscriber)
}

fn later() -> BootTime {
    BootTime::now().after(Duration::from_secs(3600))
}

#[track_caller]
fn set(levels: &Arc<Levels>, lease: u64, target: &str, level: LevelFilter) -> LevelChange {
    let change = LevelChange::new(levels.clone(), target.to_owned(), level);
    change.make(begun(lease), later(), &[]).unwrap();
    change
}

#[test]
fn a_level_that_is_raised_holds_for_its_target_and_all_below_until_it_is_undone() {
    let levels = Arc::new(Levels::default());
    let (log, subscriber) = with_log(&levels, EnvFilter::new("info"));
    within(subscriber, || {
        assert_eq!(sorted(log.of_all()), info_and(&[]));
        let change = set(&levels, 1, "a::b", LevelFilter::DEBUG);
        assert_eq!(sorted(log.of_all()), info_and(&["DEBUG a::b", "DEBUG a::b::c"]));
        let undone = change.undo(1, Wait::AGENT).unwrap();
        assert_eq!(
            (undone.covered_by, undone.stands),
            (None, Some(Stands::Layers(0)))
        );
        assert_eq!(sorted(log.of_all()), info_and(&[]));
        // A second time changes nothing.
        assert!(change.undo(1, Wait::AGENT).is_ok());
    });
}

#[test]
fn a_level_that_is_lowered_lets_less_through_of_its_target_only() {
    let levels = Arc::new(Levels::default());
    let (log, subscriber) = with_log(&levels, LevelFilter::DEBUG);
    within(subscriber, || {
        let change = set(&levels, 1, "a", LevelFilter::OFF);
        assert_eq!(log.of_all(), ["INFO debug_agent", "DEBUG debug_agent"]);
        change.undo(1, Wait::AGENT).unwrap();
        set(&levels, 2, "a", LevelFilter::INFO);
        let expected = info_and(&["DEBUG debug_agent"]);
        assert_eq!(sorted(log.of_all()), expected);
    });
}

#[test]
fn the_longest_target_decides_and_of_one_target_the_newest() {
    let levels = Arc::new(Levels::default());
    let (log, subscriber) = with_log(&levels, EnvFilter::new("info"));
    within(subscriber, || {
        set(&levels, 1, "a::b", LevelFilter::DEBUG);
        let wide = set(&levels, 2, "a", LevelFilter::OFF);
        assert_eq!(
            sorted(log.of_all()),
            [
                "DEBUG a::b",
                "DEBUG a::b::c",
                "INFO a::b",
                "INFO a::b::c",
                "INFO debug_agent"
            ]
        );
        wide.undo(2, Wait::AGENT).unwrap();
        let newer = set(&levels, 3, "a::b", LevelFilter::TRACE);
        let all = ["DEBUG a::b", "DEBUG a::b::c", "TRACE a::b", "TRACE a::b::c"];
        assert_eq!(sorted(log.of_all()), info_and(&all));
        newer.undo(3, Wait::AGENT).unwrap();
        assert_eq!(sorted(log.of_all()), info_and(&["DEBUG a::b", "DEBUG a::b::c"]));
    });
}

#[test]
fn ending_a_level_below_another_changes_nothing_live() {
    let levels = Arc::new(Levels::default());
    let (log, subscriber) = with_log(&levels, EnvFilter::new("info"));
    within(subscriber, || {
        let below = set(&levels, 1, "a::b", LevelFilter::TRACE);
        let above = set(&levels, 2, "a::b", LevelFilter::DEBUG);
        let undone = below.undo(1, Wait::AGENT).unwrap();
        assert_eq!(
            (undone.covered_by, undone.stands),
            (Some(2), Some(Stands::Layers(1)))
        );
        assert_eq!(sorted(log.of_all()), info_and(&["DEBUG a::b", "DEBUG a::b::c"]));
        let undone = above.undo(2, Wait::AGENT).unwrap();
        assert_eq!(
            (undone.covered_by, undone.stands),
            (None, Some(Stands::Layers(0)))
        );
        assert_eq!(sorted(log.of_all()), info_and(&[]));
    });
}

/// No thread removes the level here.
#[test]
fn an_expired_level_holds_no_longer_even_if_the_agent_is_dead() {
    let levels = Arc::new(Levels::default());
    let (log, subscriber) = with_log(&levels, EnvFilter::new("info"));
    within(subscriber, || {
        set(&levels, 1, "a::b", LevelFilter::DEBUG);
        let change = set(&levels, 2, "a::b", LevelFilter::OFF);
        assert_eq!(change.rearm(2, BootTime::now()), Rearmed::InForce);
        assert_eq!(
            sorted(log.of_all()),
            info_and(&["DEBUG a::b", "DEBUG a::b::c"]),
            "the older one stands"
        );
        assert_eq!(change.rearm(2, later()), Rearmed::InForce);
        assert!(!log.of_all().iter().any(|line| line.ends_with("a::b")));
        let past = LevelChange::new(levels.clone(), "a::bc".to_owned(), LevelFilter::DEBUG);
        past.make(begun(3), BootTime::now(), &[]).unwrap();
        assert!(!log.of_all().contains(&"DEBUG a::bc".to_owned()));
        assert_eq!(levels.list().len(), 2);
    });
}

#[test]
fn a_level_of_another_process_does_not_hold() {
    let levels = Arc::new(Levels::default());
    let (log, subscriber) = with_log(&levels, EnvFilter::new("info"));
    within(subscriber, || {
        set(&levels, 1, "a", LevelFilter::DEBUG);
        // As in a forked child.
        levels.replace(|set| {
            let level = &set[0];
            let foreign = SetLevel {
                lease: level.lease,
                target: level.target.clone(),
                level: level.level,
                deadline: AtomicU64::new(later().0),
                process: level.process + 1,
                seen: AtomicBool::new(false),
                through_log: AtomicBool::new(false),
            };
            *set = vec![Arc::new(foreign)];
        });
        assert_eq!(sorted(log.of_all()), info_and(&[]));
    });
}

#[test]
fn several_layers_share_the_levels_of_one_agent() {
    let levels = Arc::new(Levels::default());
    let (one, other) = (Log::default(), Log::default());
    let filter = |inner: &str| LogFilter::new(EnvFilter::new(inner), Some(levels.clone()));
    let subscriber = tracing_subscriber::registry()
        .with(one.clone().with_filter(filter("info")))
        .with(other.clone().with_filter(filter("off")));
    within(subscriber, || {
        assert_eq!(levels.filters(), 2);
        let change = set(&levels, 1, "a::b", LevelFilter::DEBUG);
        everything();
        assert_eq!(sorted(one.take()), info_and(&["DEBUG a::b", "DEBUG a::b::c"]));
        assert_eq!(
            sorted(other.take()),
            ["DEBUG a::b", "DEBUG a::b::c", "INFO a::b", "INFO a::b::c"]
        );
        change.undo(1, Wait::AGENT).unwrap();
        everything();
        assert_eq!(sorted(one.take()), info_and(&[]));
        assert_eq!(other.take(), [""; 0]);
    });
}

#[test]
fn a_layer_without_the_filter_sees_what_it_saw() {
    let levels = Arc::new(Levels::default());
    let (ours, theirs) = (Log::default(), Log::default());
    let filter = LogFilter::new(EnvFilter::new("info"), Some(levels.clone()));
    let subscriber = tracing_subscriber::registry()
        .with(ours.clone().with_filter(filter))
        .with(theirs.clone().with_filter(LevelFilter::INFO));
    within(subscriber, || {
        set(&levels, 1, "a", LevelFilter::DEBUG);
        everything();
        assert_eq!(sorted(theirs.take()), info_and(&[]));
        assert_eq!(
            ours.take()
                .iter()
                .filter(|line| line.starts_with("DEBUG"))
                .count(),
            4
        );
    });
}

/// A level that would show nothing is refused, and leaves nothing behind.
#[track_caller]
fn refused(levels: &Arc<Levels>, level: LevelFilter, why: &str) {
    let change = LevelChange::new(levels.clone(), "a::b".to_owned(), level);
    let error = change.make(begun(1), later(), &[]).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
    assert_eq!(levels.list(), []);
}

#[test]
fn a_filter_of_the_whole_subscriber_that_hides_it_is_said() {
    for outside in [true, false] {
        let levels = Arc::new(Levels::default());
        let log = Log::default();
        let (ours, filter) = (
            log.clone(),
            LogFilter::new(LevelFilter::INFO, Some(levels.clone())),
        );
        let subscriber: Box<dyn Subscriber + Send + Sync> = if outside {
            Box::new(
                tracing_subscriber::registry()
                    .with(ours.with_filter(filter))
                    .with(EnvFilter::new("info")),
            )
        } else {
            Box::new(
                tracing_subscriber::registry()
                    .with(EnvFilter::new("info"))
                    .with(ours.with_filter(filter)),
            )
        };
        within(subscriber, || {
            refused(
                &levels,
                LevelFilter::DEBUG,
                "a filter of the whole subscriber hides",
            );
            assert_eq!(sorted(log.of_all()), info_and(&[]));
            // Events that it admits can be lowered.
            set(&levels, 2, "a", LevelFilter::INFO);
            set(&levels, 3, "a", LevelFilter::OFF);
            assert_eq!(log.of_all(), ["INFO debug_agent"]);
        });
    }
}

#[test]
fn a_filter_that_is_installed_nowhere_is_said() {
    let levels = Arc::new(Levels::default());
    let unused = LogFilter::new(LevelFilter::INFO, Some(levels.clone()));
    within(tracing_subscriber::registry().with(Log::default()), || {
        refused(
            &levels,
            LevelFilter::DEBUG,
            "no filter of this agent is installed",
        );
    });
    within(NoSubscriber::new(), || {
        refused(&levels, LevelFilter::DEBUG, "no `tracing` subscriber");
        // A plan finds the same error, and sets nothing.
        let change = LevelChange::new(levels.clone(), "a".to_owned(), LevelFilter::DEBUG);
        let made = change.make(begun(9), BootTime::now().after(Duration::from_secs(60)), &[]);
        assert_eq!(
            change.could_be_made().unwrap_err().to_string(),
            made.unwrap_err().to_string()
        );
        assert_eq!(levels.layers("a"), 0);
    });
    within(tracing_subscriber::registry(), || {
        let change = LevelChange::new(levels.clone(), "a".to_owned(), LevelFilter::DEBUG);
        assert!(change.could_be_made().is_ok());
    });
    assert_eq!(levels.filters(), 1);
    drop(unused);
    assert_eq!(levels.filters(), 0);
}

#[test]
fn what_the_service_says_of_spans_still_holds() {
    let levels = Arc::new(Levels::default());
    let (log, subscriber) = with_log(&levels, EnvFilter::new("info,[work{user=7}]=debug"));
    within(subscriber, || {
        let in_span = || {
            tracing::info_span!(target: "a", "work", user = 7)
                .in_scope(|| tracing::debug!(target: "a", "in"));
            tracing::info_span!(target: "a", "work", user = 8)
                .in_scope(|| tracing::debug!(target: "a", "other"));
            tracing::debug!(target: "a", "out");
            log.take()
        };
        assert_eq!(in_span(), ["DEBUG a"]);
        let change = set(&levels, 1, "a::b", LevelFilter::TRACE);
        assert_eq!(in_span(), ["DEBUG a"], "while another target is raised");
        change.undo(1, Wait::AGENT).unwrap();
        let change = set(&levels, 2, "a", LevelFilter::DEBUG);
        assert_eq!(in_span(), ["DEBUG a"; 3]);
        change.undo(2, Wait::AGENT).unwrap();
        assert_eq!(in_span(), ["DEBUG a"]);
    });
}

/// Refuses events by their fields, which only an event has.
struct NoInfoOfB;

impl<S> Filter<S> for NoInfoOfB {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        *metadata.level() <= LevelFilter::INFO
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        event.metadata().target() != "a::b"
    }
}

#[test]
fn what_the_services_filter_refuses_by_an_events_fields_stays_refused() {
    let levels = Arc::new(Levels::default());
    let (log, subscriber) = with_log(&levels, NoInfoOfB);
    within(subscriber, || {
        set(&levels, 1, "a", LevelFilter::DEBUG);
        let seen = log.of_all();
        assert!(!seen.contains(&"INFO a::b".to_owned()), "{seen:?}");
        assert!(seen.contains(&"DEBUG a::b".to_owned()), "{seen:?}");
    });
}

#[test]
fn what_the_agent_says_is_raised_and_never_silenced() {
    let levels = Arc::new(Levels::default());
    let (log, subscriber) = with_log(&levels, EnvFilter::new("info"));
    within(subscriber, || {
        set(&levels, 1, OWN, LevelFilter::DEBUG);
        assert_eq!(sorted(log.of_all()), info_and(&["DEBUG debug_agent"]));
        // The host function refuses this; the filter does not silence these events either.
        set(&levels, 2, OWN, LevelFilter::OFF);
        assert_eq!(sorted(log.of_all()), info_and(&[]));
    });
}

/// A callsite that the service has disabled costs a comparison, also beside the agent's layer.
#[test]
fn the_agents_layer_wants_no_event() {
    let levels = Arc::new(Levels::default());
    let (log, subscriber) = with_log(&levels, LevelFilter::WARN);
    let subscriber = subscriber.with(crate::TracingLayer::wanting_nothing());
    assert_eq!(subscriber.max_level_hint(), Some(LevelFilter::WARN));
    within(subscriber, || {
        assert_eq!(log.of_all(), [""; 0]);
        let change = set(&levels, 1, "a::b", LevelFilter::DEBUG);
        assert_eq!(log.of_all().len(), 4);
        change.undo(1, Wait::AGENT).unwrap();
    });
    let (log, alone) = (Log::default(), tracing_subscriber::registry());
    within(
        alone
            .with(log.clone())
            .with(crate::TracingLayer::wanting_nothing()),
        || {
            assert_eq!(log.of_all().len(), 15, "a layer without a filter gets everything");
        },
    );
    let (log, alone) = (Log::default(), tracing_subscriber::registry());
    within(
        alone
            .with(crate::TracingLayer::wanting_nothing())
            .with(log.clone()),
        || {
            assert_eq!(log.of_all().len(), 15);
        },
    );
}

/// No event is ever logged under a misspelt target.
#[test]
fn a_target_of_which_no_event_was_seen_is_said() {
    let levels = Arc::new(Levels::default());
    let (log, subscriber) = with_log(&levels, EnvFilter::new("info"));
    within(subscriber, || {
        log.of_all();
        let unseen = |change: &LevelChange| {
            change
                .warning()
                .is_some_and(|w| w.contains("no event of this target"))
        };
        for (lease, target, expected) in [
            (1, "a", false),
            (2, "a::b", false),
            (3, "a::x", true),
            (4, "aa", true),
            (5, "a::bc", false),
        ] {
            assert_eq!(
                unseen(&set(&levels, lease, target, LevelFilter::DEBUG)),
                expected,
                "{target}"
            );
        }
        let late = set(&levels, 6, "late", LevelFilter::DEBUG);
        assert!(unseen(&late));
        // A span is no event.
        drop(tracing::info_span!(target: "late::span", "work").entered());
        assert!(unseen(&late));
        tracing::debug!(target: "late::inner", "the first one");
        assert!(!unseen(&late));
    });
}

#[test]
fn what_the_log_crate_hides_is_said() {
    use super::change::hidden_in_log;
    let said = hidden_in_log(log::LevelFilter::Info, LevelFilter::DEBUG).unwrap();
    assert!(said.contains("stay hidden above INFO"), "{said}");
    for (most, level) in [
        (log::LevelFilter::Info, LevelFilter::INFO),
        (log::LevelFilter::Info, LevelFilter::OFF),
        (log::LevelFilter::Trace, LevelFilter::TRACE),
        (log::LevelFilter::Off, LevelFilter::TRACE),
    ] {
        assert_eq!(hidden_in_log(most, level), None, "{most} {level}");
    }
}

#[test]
fn a_target_covers_itself_and_what_is_below_it() {
    for (target, outer, expected) in [
        ("a::b", "a::b", true),
        ("a::b::c", "a::b", true),
        ("a::bc", "a::b", false),
        ("a", "a::b", false),
        ("a:b", "a", false),
        ("ab", "a", false),
    ] {
        assert_eq!(is_inside(target, outer), expected, "{target} in {outer}");
    }
}

#[test]
fn the_hint_is_that_of_the_service_unless_more_is_raised() {
    let levels = Arc::new(Levels::default());
    let filter = LogFilter::new(LevelFilter::INFO, Some(levels.clone()));
    let open = LogFilter::new(NoInfoOfB, Some(levels.clone()));
    let hints = || {
        (
            Filter::<Registry>::max_level_hint(&filter),
            Filter::<Registry>::max_level_hint(&open),
        )
    };
    assert_eq!(hints(), (Some(LevelFilter::INFO), None));
    for (level, expected) in [
        (LevelFilter::OFF, LevelFilter::INFO),
        (LevelFilter::DEBUG, LevelFilter::DEBUG),
    ] {
        levels.put(Arc::new(SetLevel {
            lease: 1,
            target: "a".to_owned(),
            level,
            deadline: AtomicU64::new(later().0),
            process: std::process::id(),
            seen: AtomicBool::new(false),
            through_log: AtomicBool::new(false),
        }));
        assert_eq!(hints(), (Some(expected), None));
        levels.take(1);
    }
}
