//! A small Slack bot that keeps a duty rota: the service into which the debug agent is built as a demonstration.
//!
//! It answers `GET /api/healthcheck` and Slack's events at `POST /api/events`, and takes its configuration from
//! the environment (see [`config`]). People ask it in a channel, `@dienstplan who` or `@dienstplan rotate`.
//!
//! What it deliberately does not do: it opens no connection of its own. Where a real bot would call Slack's
//! `chat.postMessage`, this one logs the message and returns it as the answer to the event. It has no database
//! either: the rota lives in memory, and the database part of the configuration is there to be read.

pub mod config;
pub mod http;
pub mod rota;
pub mod serve;
pub mod slack;
