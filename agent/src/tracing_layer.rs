//! The layer by which the agent learns that the service's subscriber is there.

use tracing::{Dispatch, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{Filtered, LevelFilter};
use tracing_subscriber::registry::LookupSpan;

/// Tells the agent that its events have somewhere to go. It filters nothing and records nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingLayer {
    _private: (),
}

impl TracingLayer {
    /// The layer as it goes into a subscriber: wanting no event. A layer without a filter of its own wants all, and what all
    /// others have switched off would be asked about each time.
    pub(crate) fn wanting_nothing<S>() -> Filtered<Self, LevelFilter, S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        Self::default().with_filter(LevelFilter::OFF)
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for TracingLayer {
    fn on_register_dispatch(&self, _: &Dispatch) {
        crate::emit::installed();
    }
}
