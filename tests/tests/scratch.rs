#![allow(clippy::unwrap_used, clippy::print_stdout)]
use debug_tests::{Certificates, Client, Service};
#[test]
fn scratch() {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    service.health();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    client.eval(r#"change("INC-42 a test")"#).ok();
    for code in std::fs::read_to_string("/tmp/codes").unwrap().lines() {
        let reply = client.eval(code);
        println!(">>> {code}");
        if reply.0.get("error").is_some() {
            println!("    {}\n  = {}", reply.failed().1, reply.help());
        } else {
            println!("    {}", reply.display());
        }
    }
}
