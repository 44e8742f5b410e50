//! Each body as it stands in a log, and the description of it in FORMAT.md.

use std::fmt::Debug;

use serde::de::DeserializeOwned;

use super::*;

/// A body of each kind, with all of its members.
fn bodies() -> Vec<(&'static str, String)> {
    let digest = r#"{"bytes":4,"hmac":"00ff"}"#;
    let part = r#""member":"payload","part":0,"text":"x""#;
    let ended = format!(
        r#"{{"base":null,"by":"alice","compared":["value"],"conflict":{{"ended_as":"lease.expired","why":"w"}},"covered_by":null,"detail":"d","foreign":false,"found":null,"lease":1,"owner":"alice","restored":{digest},"session":2,"target":"state:config.port"}}"#
    );
    [
        (Boot::KIND, r#"{"agent":"0.1.0","ended_inside":[3],"ended_inside_unknown":true,"environment":"e","from_environment":["A"],"instance":"1","notices":["n"],"pid":7,"service":"s"}"#.to_owned()),
        (RecoveredRecord::KIND, r#"{"adopted":1,"covered":2,"torn":{"bytes":3,"file":"f","moved_to":"m","seq":4}}"#.to_owned()),
        (ConfigLoaded::KIND, r#"{"file":"f","listen":"127.0.0.1:1"}"#.to_owned()),
        (PolicyLoaded::KIND, r#"{"file":"f","sha256":"00"}"#.to_owned()),
        (ListsLoaded::KIND, r#"{"file":"f","lists":[{"ca":"00","next_update":5,"number":"1a"}]}"#.to_owned()),
        (Armed::KIND, r#"{"listen":"127.0.0.1:1"}"#.to_owned()),
        (SessionOpen::KIND, r#"{"certificate":"AA==","client":"0.1.0","exporter":"00","operator":"o","peer":"127.0.0.1:1","policy":"00","resumed":[1],"roles":["r"],"session":1}"#.to_owned()),
        (SessionRefused::KIND, r#"{"code":"c","peer":"p","unrecorded":0,"why":"w"}"#.to_owned()),
        (SessionClose::KIND, r#"{"operator":"o","session":1,"why":"w"}"#.to_owned()),
        (EvalPart::KIND, r#"{"member":"payload","operator":"o","part":0,"session":1,"text":"x"}"#.to_owned()),
        (Eval::KIND, r#"{"counter":1,"operator":"o","payload":"{}","session":1,"sig":"AA=="}"#.to_owned()),
        (Eval::KIND, r#"{"counter":1,"operator":"o","parts":2,"session":1,"sig":"AA=="}"#.to_owned()),
        (EvalRefused::KIND, format!(r#"{{"counter":1,"operator":"o","payload":{digest},"refused":"w","session":1}}"#)),
        (EffectPart::KIND, format!("{{{part}}}")),
        (EffectRecord::KIND, format!(r#"{{"eval":4,"function":"get","gate":{{"allowed":true}},"operator":"o","path":"config.port","session":1,"value":{digest}}}"#)),
        (EffectRecord::KIND, r#"{"call":1,"lease":2,"patch_failed":"w"}"#.to_owned()),
        (EffectRecord::KIND, r#"{"gate":{"allowed":false},"method":"proof","session":1}"#.to_owned()),
        (LeaseMade::KIND, format!(r#"{{"after":{digest},"before":{digest},"eval":4,"function":"set","gate":{{"allowed":true}},"lease":{{"after":"revert","deadline_boot_ns":9,"id":1,"reason":"r","target":"state:config.port","ttl_ms":5}},"operator":"o","session":1,"target":"state:config.port","value":1}}"#)),
        (LEASE_EXTENDED, r#"{"by":"agent","deadline_boot_ns":9,"eval":4,"lease":1,"owner":"alice","target":"state:config.port","undone":"its eval failed"}"#.to_owned()),
        ("lease.conflict", ended),
        ("lease.restart", r#"{"by":"agent","detail":"d","lease":1,"target":"state:config.port"}"#.to_owned()),
        (LeaseSettled::KIND, format!(r#"{{"by":"alice","detail":null,"how":"keep","lease":1,"owner":"alice","restored":{digest},"target":"state:config.port"}}"#)),
        (Outcome::KIND, format!(r#"{{"eval":4,"looked":[{{"path":"config","times":2}}],"looked_elsewhere":3,"micros":10,"operator":"o","result":{digest},"session":1}}"#)),
        (Outcome::KIND, r#"{"error":{"code":"eval","message":"m"},"eval":4,"micros":10,"operator":"o","session":1,"undone":[1]}"#.to_owned()),
        (Alarm::KIND, r#"{"bad_signature":"w","counter":1,"eval":4,"fault":"f","lease":1,"log":"l","operator":"o","panicked":"p","points":"p","revert_failed":"w","secret_in":"output","session":1,"times":2}"#.to_owned()),
        (Shutdown::KIND, "{}".to_owned()),
    ]
    .to_vec()
}

#[track_caller]
fn again<T: DeserializeOwned + Serialize + Debug>(text: &str) -> String {
    let body: T = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    // Through a value, as the agent does: members are in the order of their names.
    serde_json::to_value(&body).unwrap().to_string()
}

#[test]
fn each_body_is_written_as_it_is_read() {
    for (kind, text) in bodies() {
        let written = match kind {
            Boot::KIND => again::<Boot>(&text),
            RecoveredRecord::KIND => again::<RecoveredRecord>(&text),
            ConfigLoaded::KIND => again::<ConfigLoaded>(&text),
            PolicyLoaded::KIND => again::<PolicyLoaded>(&text),
            ListsLoaded::KIND => again::<ListsLoaded>(&text),
            Armed::KIND => again::<Armed>(&text),
            SessionOpen::KIND => again::<SessionOpen>(&text),
            SessionRefused::KIND => again::<SessionRefused>(&text),
            SessionClose::KIND => again::<SessionClose>(&text),
            EvalPart::KIND => again::<EvalPart>(&text),
            Eval::KIND => again::<Eval>(&text),
            EvalRefused::KIND => again::<EvalRefused>(&text),
            EffectPart::KIND => again::<EffectPart>(&text),
            EffectRecord::KIND => again::<EffectRecord>(&text),
            LeaseMade::KIND => again::<LeaseMade>(&text),
            LEASE_EXTENDED => again::<LeaseRenewed>(&text),
            "lease.conflict" => again::<LeaseEnded>(&text),
            "lease.restart" => again::<LeaseRestarted>(&text),
            LeaseSettled::KIND => again::<LeaseSettled>(&text),
            Outcome::KIND => again::<Outcome>(&text),
            Alarm::KIND => again::<Alarm>(&text),
            Shutdown::KIND => again::<Shutdown>(&text),
            other => panic!("{other} has no body here"),
        };
        assert_eq!(written, text, "{kind}");
    }
}

/// A log of a later version has words that this one does not know.
#[test]
fn unknown_words_are_kept() {
    let text = r#"{"error":{"code":"weather","message":"m"},"eval":1,"micros":1,"operator":"o","session":1}"#;
    assert_eq!(again::<Outcome>(text), text);
    let read = |text: &str| serde_json::from_str::<Outcome>(text).unwrap().error.unwrap().code;
    assert_eq!(read(text), OrLater::Later("weather".to_owned()));
    assert_eq!(read(text).to_string(), "weather");
    let known = read(&text.replace("weather", "needs_approval"));
    assert_eq!(known, Code::NeedsApproval.into());
    assert_eq!(known.to_string(), "needs_approval");
}

/// A log of a later version has members that this one does not know.
#[test]
fn unknown_members_are_ignored() {
    let text = r#"{"session":1,"operator":"o","why":"w","seq":5,"kind":"session.close","later":{}}"#;
    let body: SessionClose = serde_json::from_str(text).unwrap();
    assert_eq!((body.session, body.why.as_str()), (1, "w"));
}

#[test]
fn each_kind_and_member_is_described() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../audit/FORMAT.md");
    let format = std::fs::read_to_string(file).unwrap();
    let section = format
        .split("\n## ")
        .find(|section| section.starts_with("9."))
        .unwrap();
    let of = |kind: &str| {
        let named = |cell: &str| {
            let kinds = cell.split(", ").map(|kind| kind.trim().trim_matches('`'));
            kinds.clone().any(|name| name == kind)
                || kinds
                    .filter(|name| name.starts_with('.'))
                    .any(|tail| kind.ends_with(tail))
        };
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        rows.clone()
            .find(|row| named(row.split('|').nth(1).unwrap()))
            .unwrap_or_else(|| panic!("`{kind}` is not described"))
    };
    let mut seen = Vec::new();
    for (kind, text) in bodies() {
        seen.push(kind);
        let row = match kind {
            LeaseMade::KIND => format!("{}{}", of(EffectRecord::KIND), of(kind)),
            _ => of(kind).to_owned(),
        };
        let body: Map<String, Value> = serde_json::from_str(&text).unwrap();
        for member in body.keys() {
            assert!(
                row.contains(&format!("`{member}`")),
                "`{member}` of `{kind}` is not in: {row}"
            );
        }
    }
    for kind in KINDS.iter().chain(&[LEASE_CONFIRMED, LEASE_ADOPTED]) {
        of(kind);
        assert!(seen.contains(kind) || kind.starts_with("lease."), "{kind}");
    }
}
