//! Relies on rustls to find the only provider that is compiled in: with two and none installed rustls panics.
//!
//! Runs until its standard input ends, so that an agent in it can answer.
#![forbid(unsafe_code)]

use std::io::{Read, stdin};

use rustls::{ClientConfig, RootCertStore};

fn main() {
    #[cfg(feature = "agent")]
    let _agent = debug_agent::Agent::builder("ring-only").start_from_env();

    let config = ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let groups: Vec<_> = config
        .crypto_provider()
        .kx_groups
        .iter()
        .map(|group| group.name())
        .collect();
    println!("key exchange: {groups:?}");
    stdin()
        .read_to_end(&mut Vec::new())
        .expect("standard input can be read");
    println!("ok ring-only");
}
