//! What somebody with a certificate and bad intentions tries, and what comes of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use debug_tests::{Certificates, Client, Service};

struct Set {
    certificates: Certificates,
    service: Service,
}

impl Set {
    fn new() -> Self {
        let certificates = Certificates::new();
        let service = Service::start(&certificates);
        Self { certificates, service }
    }

    fn attach(&self, operator: &str) -> Client {
        Client::attach(self.service.agent(), &self.certificates.operator(operator))
    }

    fn changing(&self, operator: &str) -> Client {
        let mut client = self.attach(operator);
        client.eval(r#"change("a test")"#).ok();
        client
    }

    /// The most memory that the service ever had, in MiB.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.service.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
    }
}

/// Lists of lists on their way from one function to the next are in no variable, whose sizes alone are counted.
#[test]
fn what_an_eval_holds_beside_its_variables_is_bounded() {
    const LISTS: &str = r#"let s = ""; s.pad(9998, ','); let b = s.split(",").map(|x| []); let s = ""; s.pad(9999, ',');
        let o = s.split(","); "#;
    let many = |item: &str| vec![item; 3_000].join(",");
    let texts = r#"let s = ""; s.pad(65000, 'x'); "#;
    for code in [
        format!("{LISTS} o.map(|x| b).len()"),
        format!("{LISTS} o.reduce(|a, x| {{ a.push(b); a }}, [])"),
        format!("{LISTS} fn f() {{ 1 }} f({})", many("b")),
        format!("{LISTS} fn f() {{ 1 }} f({})", many("o + []")),
        format!("{texts} fn f() {{ 1 }} f({})", many("s + \"y\"")),
        format!("{texts} fn f() {{ 1 }} f({})", many("`${s}z`")),
        r#"let s = ""; s.pad(9999, ','); s.split(",").map(|x| { let t = ""; t.pad(16384, '😀'); t }).len()"#
            .to_owned(),
    ] {
        let set = Set::new();
        let before = set.peak();
        let (code_of, message) = set.attach("vera").eval(&code).failed();
        let said: String = code.chars().skip(code.len().saturating_sub(60)).collect();
        assert_eq!(code_of, "limit", "{message}: …{said}");
        let grown = set.peak() - before;
        assert!(grown < 128, "{grown} MiB: …{said}");
        assert_eq!(set.service.health().status, 200);
    }
}
