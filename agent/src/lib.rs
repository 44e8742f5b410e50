//! The agent.

mod clock;
mod config;
mod net;
mod points;
mod state;
