use super::LATER_ACTIONS;
use crate::{Action, MAX_LIST, MAX_POLICY, MAX_RULES, Policy};

const RULE: &str = "[[rule]]\nid = \"r\"\nwhy = \"w\"\n";

/// Asserts that the text is refused at that place, and that message or help contain the words.
#[track_caller]
fn refused(text: &str, place: (usize, usize), words: &str) {
    let error = Policy::parse(text).unwrap_err();
    let shown = error.to_string();
    assert!(
        format!("{} {}", error.message, error.help).contains(words),
        "expected `{words}` in:\n{shown}"
    );
    assert_eq!((error.line, error.column), place, "{shown}");
}

/// Asserts that a rule with these lines is refused. They follow id and why, and begin in line 5.
#[track_caller]
fn rule_refused(lines: &str, place: (usize, usize), words: &str) {
    refused(&format!("version = 1\n{RULE}{lines}\n"), place, words);
}

#[test]
fn a_policy_with_every_key_is_read() {
    let text = format!(
        "version = 1\n{RULE}allow = [\"patch\"]\nroles = [\"oncall\"]\noperators = [\"alice\"]\non = [\"point:* /**\"]\n\
         except = [\"point:POST /login\"]\nenvironments = [\"production\"]\nmax_ttl = \"30m\"\nmax_life = \"4h\"\nreason = \"INC-*\"\n"
    );
    Policy::parse(&text).unwrap();
    Policy::parse(&text.replace('\n', "\r\n")).unwrap();
}

#[test]
fn a_text_that_is_no_policy_is_refused() {
    refused("", (1, 1), "the policy is empty");
    refused(" \n\n", (1, 1), "the policy is empty");
    refused("# only a comment\n", (1, 1), "`version` is missing");
    refused(
        &format!("{RULE}allow = [\"read\"]"),
        (1, 1),
        "`version` is missing",
    );
    refused("version = 1\n", (1, 1), "has no rule");
    refused("version = 2\n", (1, 11), "expected `1`");
    refused("version = \"1\"\n", (1, 11), "expected `1`");
    refused("version = 0x1\n", (1, 11), "expected `1`");
    refused("version = 1\nrule = []\n", (2, 8), "1 to 1000 rules");
    refused("version = 1\nrule = [1]\n", (2, 9), "no rule");
    refused("version = 1\n[rule]\nid = \"r\"\n", (2, 1), "[[rule]]");
    refused("version = 1\nversion = 1\n", (2, 1), "duplicate key");
    refused("version = \n", (1, 11), "TOML");
}

#[test]
fn characters_that_readers_cannot_see_are_refused() {
    refused("\u{feff}version = 1\n", (1, 1), "byte order mark");
    refused("version = 1\n# a \u{202e}comment\n", (2, 5), "U+202E");
    refused("version = 1 # \u{200b}\n", (1, 15), "U+200B");
    refused("version = 1\r[[rule]]\n", (1, 12), "U+000D");
    rule_refused("allow = [\"read\"]\nreason = \"a\\u200bb\"", (6, 10), "one line");
    let error = Policy::parse("version = 1 \u{200b}# x\n")
        .unwrap_err()
        .to_string();
    assert_eq!(
        error.matches('^').count(),
        1,
        "the mark is below the character: {error}"
    );
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    refused("version = 1\nrules = 3\n", (2, 1), "did you mean `rule`?");
    rule_refused(
        "rolse = [\"lead\"]",
        (5, 1),
        "unknown key `rolse`, did you mean `roles`?",
    );
    rule_refused("enviroment = [\"x\"]", (5, 1), "did you mean `environments`?");
    rule_refused("banana = 1", (5, 1), "`max_ttl`");
    for key in ["approvals", "hours", "peers", "break_glass"] {
        rule_refused(
            &format!("allow = [\"read\"]\n{key} = 1"),
            (6, 1),
            &format!("this version does not know `{key}` yet"),
        );
    }
}

#[test]
fn a_rule_allows_or_denies() {
    rule_refused("", (2, 1), "neither `allow` nor `deny`");
    rule_refused(
        "allow = [\"read\"]\ndeny = [\"read\"]",
        (6, 1),
        "both `allow` and `deny`",
    );
    rule_refused("allow = []", (5, 9), "`allow` is empty");
    rule_refused("deny = []", (5, 8), "`deny` is empty");
    rule_refused("allow = \"read\"", (5, 9), "expected a list");
    rule_refused(
        "allow = [\"pach\"]",
        (5, 10),
        "unknown action `pach`, did you mean `patch`?",
    );
    rule_refused("allow = [\"Read\"]", (5, 10), "the actions are `attach`, `read`");
    rule_refused("allow = [\"*\"]", (5, 10), "unknown action");
    rule_refused("allow = [3]", (5, 10), "a number, expected text");
}

/// `watch` is not a misspelt `patch`.
#[test]
fn an_action_of_a_later_version_is_said_to_be_one() {
    for action in LATER_ACTIONS {
        assert!(action.parse::<Action>().is_err(), "`{action}` is there now");
        for effect in ["allow", "deny"] {
            let told = format!("the action `{action}` is not part of this version");
            rule_refused(
                &format!("{effect} = [\"{action}\"]"),
                (5, effect.len() + 5),
                &told,
            );
        }
    }
}

#[test]
fn bounds_stand_only_where_they_bind() {
    for key in ["max_ttl", "max_life"] {
        rule_refused(
            &format!("deny = [\"patch\"]\n{key} = \"5m\""),
            (6, 1),
            "on a rule that denies",
        );
        rule_refused(
            &format!("allow = [\"read\"]\n{key} = \"5m\""),
            (6, 1),
            "bounds nothing",
        );
        rule_refused(
            &format!("allow = [\"patch\"]\n{key} = 300"),
            (6, key.len() + 4),
            "expected text",
        );
        for wrong in ["10", "0s", "-5m", "1.5h", "NaN", "18446744073709551616s"] {
            rule_refused(
                &format!("allow = [\"patch\"]\n{key} = \"{wrong}\""),
                (6, key.len() + 4),
                "expected",
            );
        }
    }
    rule_refused(
        "deny = [\"patch\"]\nreason = \"*\"",
        (6, 1),
        "on a rule that denies",
    );
    rule_refused("allow = [\"patch\"]\nreason = \"\"", (6, 10), "one line");
}

#[test]
fn a_reason_is_not_asked_of_attach() {
    rule_refused(
        "allow = [\"attach\", \"patch\"]\nreason = \"INC-*\"",
        (6, 1),
        "`attach`, which has none",
    );
}

#[test]
fn lists_of_names_hold_names() {
    for key in ["roles", "operators", "environments", "on", "except"] {
        rule_refused(
            &format!("allow = [\"read\"]\n{key} = []"),
            (6, key.len() + 4),
            "is empty",
        );
        rule_refused(
            &format!("allow = [\"read\"]\n{key} = [\"\"]"),
            (6, key.len() + 5),
            "expected",
        );
        rule_refused(
            &format!("allow = [\"read\"]\n{key} = [\"*\"]"),
            (6, key.len() + 5),
            "expected",
        );
        let many = vec!["\"x\""; MAX_LIST + 1].join(",");
        rule_refused(
            &format!("allow = [\"read\"]\n{key} = [{many}]"),
            (6, key.len() + 4),
            "at most 256",
        );
    }
    rule_refused(
        "allow = [\"read\"]\nroles = [\"*\"]",
        (6, 10),
        "names are no patterns",
    );
    rule_refused(
        "allow = [\"read\"]\non = [\"config.**\"]",
        (6, 7),
        "names no kind",
    );
    rule_refused("allow = [\"patch\"]\non = [\"point:*\"]", (6, 7), "point:**");
}

#[test]
fn a_rule_has_a_name_of_its_own_and_says_why() {
    refused(
        "version = 1\n[[rule]]\nwhy = \"w\"\nallow = [\"read\"]\n",
        (2, 1),
        "has no `id`",
    );
    refused(
        "version = 1\n[[rule]]\nid = \"r\"\nallow = [\"read\"]\n",
        (2, 1),
        "has no `why`",
    );
    for id in ["", "R", "a b", "ä", &"a".repeat(65)] {
        refused(
            &format!("version = 1\n[[rule]]\nid = \"{id}\"\nwhy = \"w\"\nallow = [\"read\"]\n"),
            (3, 6),
            "is no id",
        );
    }
    for why in [String::new(), " ".to_owned(), "a\\nb".to_owned(), "w".repeat(201)] {
        refused(
            &format!("version = 1\n[[rule]]\nid = \"r\"\nwhy = \"{why}\"\nallow = [\"read\"]\n"),
            (4, 7),
            "one line",
        );
    }
    let twice = format!("version = 1\n{RULE}allow = [\"read\"]\n{RULE}allow = [\"list\"]\n");
    refused(&twice, (7, 6), "a second rule has the id `r`");
}

#[test]
fn sizes_are_bounded() {
    let rules = |n: usize| {
        let rule = |i| format!("[[rule]]\nid = \"r{i}\"\nwhy = \"w\"\nallow = [\"read\"]\n");
        format!("version = 1\n{}", (0..n).map(rule).collect::<String>())
    };
    Policy::parse(&rules(MAX_RULES)).unwrap();
    refused(&rules(MAX_RULES + 1), (2, 1), "1 to 1000 rules");
    let mut long = rules(1);
    long.push_str(&"#".repeat(MAX_POLICY - long.len()));
    Policy::parse(&long).unwrap();
    long.push('#');
    refused(&long, (1, 1), "at most 262144");
    refused(
        &format!("version = {}1{}", "[".repeat(50_000), "]".repeat(50_000)),
        (1, 91),
        "TOML",
    );
}

#[test]
fn what_is_as_long_as_it_may_be_is_read() {
    let names: Vec<String> = (0..MAX_LIST).map(|n| format!("\"o{n}\"")).collect();
    let longest = "n".repeat(64);
    let line = "w".repeat(200);
    let text = |name: &str, line: &str, operators: &str| {
        format!(
            "version = 1\n[[rule]]\nid = \"{name}\"\nwhy = \"{line}\"\nallow = [\"read\"]\noperators = [{operators}]\n"
        )
    };
    Policy::parse(&text(&longest, &line, &names.join(", "))).unwrap();
    let more = format!("{}, \"more\"", names.join(", "));
    for wrong in [
        text(&format!("{longest}n"), &line, "\"a\""),
        text(&longest, &format!("{line}w"), "\"a\""),
        text(&longest, &line, &more),
    ] {
        assert!(Policy::parse(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn an_action_that_is_named_twice_counts_once() {
    let text = format!("version = 1\n{RULE}allow = [\"read\", \"read\"]\n");
    let policy = Policy::parse(&text).unwrap();
    let request = crate::Request {
        action: Action::Read,
        resource: "state:a".parse().unwrap(),
        operator: "alice".into(),
        roles: vec![],
        environment: "e".into(),
        mode: crate::Mode::Observe,
        ttl: None,
        life: None,
        reason: None,
    };
    assert!(matches!(policy.decide(&request), crate::Decision::Allow(_)));
}

#[test]
fn an_error_shows_the_line_with_a_mark_below_it() {
    let error = Policy::parse(&format!("version = 1\n{RULE}allow = [\"read\", \"pach\"]\n")).unwrap_err();
    let expected = "line 5, column 18: unknown action `pach`, did you mean `patch`?
  |
5 | allow = [\"read\", \"pach\"]
  |                  ^^^^^^
help: the actions are `attach`, `read`, `list`, `reveal`, `write`, `patch`, `set_level`, `revert`, `confirm`, `extend`, `adopt`, `guard`, `settle`, `change`, `log`";
    assert_eq!(error.to_string(), expected);
    let long = format!(
        "version = 1\n{RULE}allow = [{}\"pach\"]\n",
        "\"read\", ".repeat(100)
    );
    let error = Policy::parse(&long).unwrap_err();
    let lines: Vec<String> = error.to_string().lines().map(str::to_owned).collect();
    assert!(lines[2].len() < 130 && lines[2].contains("\"pach\""), "{error}");
    assert_eq!(lines[3].find('^'), lines[2].find("\"pach\""), "{error}");
}
