use super::*;

#[test]
fn an_id_reads_as_it_is_written() {
    let agent = "spiffe://dienstplan.internal/agent/dienstplan/1";
    assert_eq!(agent.parse::<AgentId>().unwrap().to_string(), agent);
    let Subject::Operator(domain, name) = "spiffe://a/operator/alice".parse().unwrap() else {
        panic!("no operator")
    };
    assert_eq!((domain.as_str(), name.as_str()), ("a", "alice"));
}

/// T13.
#[test]
fn malformed_ids_are_refused() {
    let long = format!("spiffe://a/operator/{}", "x".repeat(2100));
    let longer_name = format!("spiffe://a/operator/{}", "x".repeat(65));
    let long_domain = format!("spiffe://{}/operator/x", "d".repeat(256));
    let malformed = [
        "",
        "spiffe://",
        "spiffe:///operator/x",
        "spiffe://a",
        "spiffe://a/",
        "spiffe://a/operator",
        "spiffe://a/operator/",
        "spiffe://a/operator/x/",
        "spiffe://a/operator/x/y",
        "spiffe://a//operator/x",
        "spiffe://a/operator//x",
        "spiffe://a/operator/./x",
        "spiffe://a/operator/..",
        "spiffe://a/operator/.",
        "spiffe://A/operator/x",
        "spiffe://a/operator/X",
        "spiffe://a/Operator/x",
        "SPIFFE://a/operator/x",
        "https://a/operator/x",
        "spiffe://user@a/operator/x",
        "spiffe://a:8443/operator/x",
        "spiffe://a/operator/x?y",
        "spiffe://a/operator/x#y",
        "spiffe://a/operator/%78",
        "spiffe://a/operator/x y",
        "spiffe://a/operator/x\u{0}",
        "spiffe://a/operator/\u{e4}",
        "spiffe://a/agent/service",
        "spiffe://a/agent/service/1/2",
        "spiffe://a/agent//1",
        "spiffe://a/root/x",
        long.as_str(),
        longer_name.as_str(),
        long_domain.as_str(),
    ];
    for text in malformed {
        assert!(text.parse::<Subject>().is_err(), "{text}");
    }
}

#[test]
fn roles_are_sorted_and_none_is_an_error() {
    let domain: TrustDomain = "a".parse().unwrap();
    let operator = Operator::new(domain.clone(), "alice", ["oncall", "lead", "oncall"]).unwrap();
    assert_eq!(operator.roles, ["lead", "oncall"]);
    assert!(Operator::new(domain.clone(), "alice", []).is_err());
    assert!(Operator::new(domain, "alice", ["On call"]).is_err());
}

#[test]
fn an_error_shows_no_control_characters() {
    let error = "a\u{1b}[2J".parse::<TrustDomain>().unwrap_err().to_string();
    assert!(!error.contains('\u{1b}'), "{error}");
}
