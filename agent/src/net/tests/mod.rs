//! Real sockets, real certificates, real time; nothing waits longer than it must and nothing sleeps for a guess.

mod authority;
mod files;
mod frames;
mod handshake;
mod peer;
mod places;
mod sessions;
