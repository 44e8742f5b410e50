//! What is known of the position of the agent's layer among the service's own: named layers, and routes that are closed because a
//! patch would bypass one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

/// Maximum number of pending messages.
const MAX_NEWS: usize = 20;

/// Known layers and closed routes.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// The names of the service's layers, each once.
    pub(crate) layers: RwLock<Vec<Arc<str>>>,
    /// How many layers got a name: several may share one.
    pub(crate) named: AtomicUsize,
    /// The number of the next layer of the agent.
    pub(crate) next: AtomicU32,
    /// By name, the routes that a patch would leave unprotected, and why.
    pub(crate) misplaced: RwLock<BTreeMap<String, String>>,
    pub(crate) news: ThreadNews,
}

/// Messages found on service threads, to be logged by an agent thread.
#[derive(Default)]
pub(crate) struct ThreadNews {
    pub(crate) waiting: Mutex<Vec<String>>,
    pub(crate) bell: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for ThreadNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("News")
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

impl Order {
    /// Why a route is closed, if it is.
    pub(crate) fn why_closed(&self, route: &str) -> Option<String> {
        self.misplaced
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(route)
            .cloned()
    }

    pub(crate) fn tell(&self, news: String) {
        let mut waiting = self.news.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Each route lists its reason; a log line for each of hundreds of routes would be too much.
        if waiting.len() < MAX_NEWS {
            waiting.push(news);
        }
        drop(waiting);
        if let Some(ring) = self.news.bell.get() {
            ring();
        }
    }
}
