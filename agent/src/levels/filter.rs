//! The filter that a service puts around its own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, span};
use tracing_subscriber::layer::{Context, Filter};

use super::{Levels, OWN, is_inside};

/// A filter of the service's with the levels that operators set for single targets; made by `Agent::log_filter`.
///
/// While none is set it is the filter inside, for one relaxed load more of each event that reaches it. A level decides alone
/// about the spans and events of its target and of all below it, until its deadline.
pub struct LogFilter<F> {
    inner: F,
    levels: Option<Share>,
}

/// A share in the levels of an agent, which counts who has one.
struct Share(Arc<Levels>);

impl Drop for Share {
    fn drop(&mut self) {
        self.0.filters.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<F> LogFilter<F> {
    /// `inner`, with the levels of an agent; without one, that of an inert agent.
    pub(crate) fn new(inner: F, levels: Option<Arc<Levels>>) -> Self {
        let share = |levels: Arc<Levels>| {
            levels.filters.fetch_add(1, Ordering::Relaxed);
            Share(levels)
        };
        Self { inner, levels: levels.map(share) }
    }

    #[inline]
    fn level(&self, metadata: &Metadata<'_>) -> Option<LevelFilter> {
        self.levels.as_ref()?.0.of(metadata.target())
    }
}

impl<F: fmt::Debug> fmt::Debug for LogFilter<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogFilter").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, F: Filter<S>> Filter<S> for LogFilter<F> {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        match self.level(metadata) {
            None => self.inner.enabled(metadata, context),
            Some(level) if *metadata.level() <= level => true,
            // Nobody silences what the agent says of its operators.
            Some(_) => is_inside(metadata.target(), OWN) && self.inner.enabled(metadata, context),
        }
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Asked in any case: a filter may take note of the callsite.
        let own = self.inner.callsite_enabled(metadata);
        // A level ends at a moment of which nobody may tell, so that what it concerns is asked for each time.
        let mentioned = self.levels.as_ref().is_some_and(|levels| levels.0.mentions(metadata));
        if mentioned { Interest::sometimes() } else { own }
    }

    fn event_enabled(&self, event: &Event<'_>, context: &Context<'_, S>) -> bool {
        // What only a level lets in, the service's filter has no say in; what both do, it may still refuse by its fields.
        let raised = self.level(event.metadata()).is_some() && !self.inner.enabled(event.metadata(), context);
        raised || self.inner.event_enabled(event, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let own = self.inner.max_level_hint();
        let Some(Share(levels)) = &self.levels else { return own };
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
