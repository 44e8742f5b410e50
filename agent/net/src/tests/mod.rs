//! Real sockets, real certificates, real time. No test waits longer than it must or sleeps for a guessed time.

mod authority;
mod files;
mod frames;
mod handshake;
mod peer;
mod places;
mod sessions;
