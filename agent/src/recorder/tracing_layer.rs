//! The layer that tells the agent that the service's subscriber is installed.

use tracing::{Dispatch, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{Filtered, LevelFilter};
use tracing_subscriber::registry::LookupSpan;

/// Tells the agent that a subscriber receives its events. It filters nothing and records nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingLayer {
    _private: (),
}

impl TracingLayer {
    /// The layer with a filter that wants no event. A layer without its own filter wants all events, so callsites that
    /// every other layer disables would be evaluated for each event.
    pub(crate) fn wanting_nothing<S>() -> Filtered<Self, LevelFilter, S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        Self::default().with_filter(LevelFilter::OFF)
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for TracingLayer {
    fn on_register_dispatch(&self, _: &Dispatch) {
        crate::recorder::events::installed();
    }
}
