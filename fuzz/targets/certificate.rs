//! A certificate in DER: it never identifies both an operator and an agent, and an identity formats and parses back.
#![no_main]

use debug_certs::{TrustDomain, agent, operator};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|der: &[u8]| {
    let Ok(domain) = "demo.internal".parse::<TrustDomain>() else {
        return;
    };
    let (operator, agent) = (operator(der, &domain), agent(der, &domain));
    assert!(operator.is_err() || agent.is_err());
});
