//! A small Slack bot that keeps a duty rota: the service into which the debug agent is built as a demonstration.
//!
//! It answers `GET /api/healthcheck` and Slack's events at `POST /api/events`, and reads its configuration from the environment
//! (see [`config`]). Users ask it in a channel, `@dienstplan who` or `@dienstplan rotate`.
//!
//! It deliberately opens no connection of its own. Where a real bot would call Slack's `chat.postMessage`, it logs the message
//! and returns it as the answer to the event. It has no database either: the rota lives in memory, and the database part of the
//! configuration is only there to be read.

pub mod config;
pub mod http;
pub mod rota;
pub mod serve;
pub mod slack;
