//! The filter that wraps the service's own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, span};
use tracing_subscriber::layer::{Context, Filter};

use super::{Levels, OWN, is_inside};

/// The service's own filter, with the levels that operators set for single targets; made by `Agent::log_filter`.
///
/// Without a level it behaves as the inner filter, at the cost of one relaxed load for each event that reaches it. A
/// level decides about the spans and events of its target and of everything below it, until its deadline. Exceptions:
/// it does not silence the agent's own events, and the inner filter may still refuse an event for its fields if it
/// admits the event's target and level itself.
pub struct LogFilter<F> {
    inner: F,
    levels: Option<Share>,
}

/// A counted reference to an agent's levels.
struct Share(Arc<Levels>);

impl Drop for Share {
    fn drop(&mut self) {
        self.0.filters.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<F> LogFilter<F> {
    /// Wraps `inner` with the levels of an agent; without them the filter belongs to an inert agent.
    pub(crate) fn new(inner: F, levels: Option<Arc<Levels>>) -> Self {
        let share = |levels: Arc<Levels>| {
            levels.filters.fetch_add(1, Ordering::Relaxed);
            Share(levels)
        };
        Self {
            inner,
            levels: levels.map(share),
        }
    }

    #[inline]
    fn level(&self, metadata: &Metadata<'_>) -> Option<LevelFilter> {
        self.levels.as_ref()?.0.of(metadata.target())
    }
}

impl<F: fmt::Debug> fmt::Debug for LogFilter<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogFilter")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, F: Filter<S>> Filter<S> for LogFilter<F> {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        match self.level(metadata) {
            None => self.inner.enabled(metadata, context),
            Some(level) if *metadata.level() <= level => true,
            // No operator silences the agent's own events.
            Some(_) => is_inside(metadata.target(), OWN) && self.inner.enabled(metadata, context),
        }
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Always called: a filter may register the callsite.
        let own = self.inner.callsite_enabled(metadata);
        // A level may expire at any time, so the callsites that it covers are evaluated for each event.
        let mentioned = self
            .levels
            .as_ref()
            .is_some_and(|levels| levels.0.mentions(metadata));
        if mentioned { Interest::sometimes() } else { own }
    }

    fn event_enabled(&self, event: &Event<'_>, context: &Context<'_, S>) -> bool {
        // If only a level admits the event, `inner` has no say. If `inner` does as well, it may still refuse the event
        // for its fields.
        let raised = self.level(event.metadata()).is_some() && !self.inner.enabled(event.metadata(), context);
        raised || self.inner.event_enabled(event, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let own = self.inner.max_level_hint();
        let Some(Share(levels)) = &self.levels else {
            return own;
        };
        levels.asked.fetch_add(1, Ordering::Relaxed);
        own.map(|own| own.max(levels.most()))
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        self.inner.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        self.inner.on_record(id, values, context);
    }

    fn on_enter(&self, id: &span::Id, context: Context<'_, S>) {
        self.inner.on_enter(id, context);
    }

    fn on_exit(&self, id: &span::Id, context: Context<'_, S>) {
        self.inner.on_exit(id, context);
    }

    fn on_close(&self, id: span::Id, context: Context<'_, S>) {
        self.inner.on_close(id, context);
    }
}
