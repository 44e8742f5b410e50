//! The call path with fake patches.

mod breaker;
mod call;
mod errs;
mod registry;
mod watch;

use super::for_test::*;
