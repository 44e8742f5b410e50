use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::{Action, DEFAULT, Resource};

const MINUTE: Duration = Duration::from_secs(60);

fn policy(rules: &str) -> Policy {
    Policy::parse(&format!("version = 1\n{rules}")).unwrap_or_else(|error| panic!("{error}"))
}

/// A request in mode `change`, for five minutes, with a reason, in production.
fn request(roles: &[&str], action: Action, resource: &str) -> Request {
    Request {
        action,
        resource: resource.parse().unwrap(),
        operator: "alice".to_owned(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        environment: "production".to_owned(),
        mode: Mode::Change,
        ttl: action.sets_deadline().then_some(5 * MINUTE),
        life: action.sets_deadline().then_some(5 * MINUTE),
        reason: Some("INC-42".to_owned()),
    }
}

/// `allowed: RULE`, or `denied by RULES: HELP`.
fn verdict(policy: &Policy, request: &Request) -> String {
    match policy.decide(request) {
        Decision::Allow(allowed) => format!("allowed: {}", allowed.rule),
        Decision::Deny(denial) => {
            assert_eq!(
                (denial.action, &denial.resource),
                (request.action, &request.resource)
            );
            let rules: Vec<_> = denial.rules.iter().map(|rule| rule.id.as_str()).collect();
            format!("denied by {}: {}", rules.join(" "), denial.help)
        }
    }
}

const FORBIDDEN: &str = "a rule forbids it, whatever others allow; ask for a change of the policy";

/// The verdict when no rule covers the request; `roles` is the text about its roles.
fn no_rule(roles: &str) -> String {
    format!("denied by : no rule allows it ({roles}); ask for a role that may, or a change of the policy")
}

const NO_ROLE: &str = "you have no role";

#[track_caller]
fn check(policy: &Policy, request: &Request, expected: &str) {
    assert_eq!(verdict(policy, request), expected);
}

#[test]
fn the_default_policy_gives_each_role_what_it_says() {
    let policy = Policy::parse(DEFAULT).unwrap();
    let cases = [
        (Action::Attach, "agent", [true, true, true]),
        (Action::List, "agent", [true, true, true]),
        (Action::Log, "agent", [true, true, true]),
        (Action::Read, "state:config.db.host", [true, true, true]),
        (Action::Change, "agent", [false, true, true]),
        (Action::Write, "state:config.db.host", [false, true, true]),
        (Action::Patch, "point:GET /api/healthcheck", [false, true, true]),
        (Action::Patch, "point:billing::price", [false, true, true]),
        (Action::SetLevel, "target:hyper", [false, true, true]),
        (Action::SetLevel, "target:dienstplan::rota", [false, true, true]),
        (Action::Confirm, "target:dienstplan::rota", [false, true, true]),
        (Action::Revert, "target:dienstplan::rota", [false, false, true]),
        (Action::SetLevel, "lease:bob", [false, false, false]),
        (Action::Confirm, "state:config.db.host", [false, true, true]),
        (Action::Extend, "point:billing::price", [false, true, true]),
        (Action::Reveal, "state:config.slack.token", [false, false, true]),
        (Action::Revert, "state:config.db.host", [false, false, true]),
        (Action::Revert, "point:GET /api/healthcheck", [false, false, true]),
        (Action::Revert, "lease:bob", [false, false, true]),
        (Action::Confirm, "lease:bob", [false, false, true]),
        (Action::Extend, "lease:bob", [false, false, true]),
        (Action::Patch, "lease:bob", [false, false, false]),
    ];
    for (action, resource, expected) in cases {
        for (role, allowed) in ["viewer", "oncall", "lead"].into_iter().zip(expected) {
            let request = request(&[role], action, resource);
            let seen = verdict(&policy, &request);
            assert_eq!(
                seen.starts_with("allowed"),
                allowed,
                "{role} {action} {resource}: {seen}"
            );
        }
        check(
            &policy,
            &request(&["onkall", "stranger"], action, resource),
            &no_rule("your roles: onkall, stranger"),
        );
        check(&policy, &request(&[], action, resource), &no_rule(NO_ROLE));
    }
}

#[test]
fn a_policy_tells_which_roles_its_rules_name() {
    assert_eq!(
        Policy::parse(DEFAULT).unwrap().roles(),
        ["lead", "oncall", "viewer"].into()
    );
    let policy = policy(
        "[[rule]]\nid = \"a\"\nwhy = \"w\"\nallow = [\"read\"]\n\
         [[rule]]\nid = \"b\"\nwhy = \"w\"\ndeny = [\"read\"]\nroles = [\"guest\"]\n",
    );
    assert_eq!(policy.roles(), ["guest"].into());
}

#[test]
fn the_default_policy_bounds_changes() {
    let policy = Policy::parse(DEFAULT).unwrap();
    let patch = request(&["oncall"], Action::Patch, "point:a");
    let with = |change: fn(&mut Request)| {
        let mut request = patch.clone();
        change(&mut request);
        request
    };
    let mut level = request(&["oncall"], Action::SetLevel, "target:dienstplan::rota");
    check(&policy, &level, "allowed: change");
    level.ttl = Some(31 * MINUTE);
    check(&policy, &level, "denied by change: allowed up to 30m");
    level.mode = Mode::Observe;
    check(&policy, &level, "denied by : needs mode change: `:change REASON`");
    check(&policy, &with(|r| r.ttl = Some(30 * MINUTE)), "allowed: change");
    check(
        &policy,
        &with(|r| r.ttl = Some(31 * MINUTE)),
        "denied by change: allowed up to 30m",
    );
    check(
        &policy,
        &with(|r| r.ttl = None),
        "denied by change: allowed up to 30m",
    );
    check(
        &policy,
        &with(|r| r.life = Some(241 * MINUTE)),
        "denied by change: may live 4h in total",
    );
    check(
        &policy,
        &with(|r| r.life = None),
        "denied by change: may live 4h in total",
    );
    check(
        &policy,
        &with(|r| r.reason = None),
        "denied by change: needs a reason",
    );
    check(
        &policy,
        &with(|r| r.reason = Some(" \u{200b}".to_owned())),
        "denied by change: needs a reason",
    );
    check(
        &policy,
        &with(|r| r.mode = Mode::Observe),
        "denied by : needs mode change: `:change REASON`",
    );
    let Decision::Allow(allowed) = policy.decide(&patch) else {
        panic!("refused")
    };
    assert_eq!(allowed.max_life, Some(240 * MINUTE));
}

#[test]
fn a_record_decides_as_the_request_did_below_a_millisecond_too() {
    let policy = Policy::parse(DEFAULT).unwrap();
    for nanos in [0, 1, 999_999, 1_000_000, 1_000_001] {
        let mut patch = request(&["oncall"], Action::Patch, "point:a");
        patch.ttl = Some(30 * MINUTE + Duration::from_nanos(nanos));
        let recorded: Request = serde_json::from_str(&serde_json::to_string(&patch).unwrap()).unwrap();
        assert_eq!(policy.decide(&recorded), policy.decide(&patch), "{nanos}");
    }
    let mut forever = request(&["oncall"], Action::Patch, "point:a");
    forever.ttl = Some(Duration::MAX);
    let recorded: Request = serde_json::from_str(&serde_json::to_string(&forever).unwrap()).unwrap();
    check(&policy, &recorded, "denied by change: allowed up to 30m");
}

#[test]
fn a_deny_rule_wins_wherever_it_stands() {
    let allow = "[[rule]]\nid = \"open\"\nwhy = \"w\"\nallow = [\"patch\"]\n";
    let deny = "[[rule]]\nid = \"login\"\nwhy = \"w\"\ndeny = [\"patch\"]\non = [\"point:* /api/login\"]\nexcept = [\"point:GET /api/login\"]\n";
    for text in [format!("{allow}{deny}"), format!("{deny}{allow}")] {
        let policy = policy(&text);
        let login = |method| request(&["oncall"], Action::Patch, &format!("point:{method} /api/login"));
        check(&policy, &login("POST"), &format!("denied by login: {FORBIDDEN}"));
        check(&policy, &login("GET"), "allowed: open");
    }
}

/// A level holds for all targets below, so that an excepted target cannot be reached by way of one that contains it.
#[test]
fn an_exception_below_a_target_counts_for_the_target() {
    let allow = "[[rule]]\nid = \"levels\"\nwhy = \"w\"\nallow = [\"set_level\"]\non = [\"target:a::**\", \"target:b\"]\n";
    let set = |target: &str| request(&[], Action::SetLevel, target);
    let excepting = policy(&format!("{allow}except = [\"target:a::keys::**\"]\n"));
    for target in [
        "target:a",
        "target:a::keys",
        "target:a::keys::inner",
        "target:b::c",
    ] {
        check(&excepting, &set(target), &no_rule(NO_ROLE));
    }
    for target in ["target:a::other", "target:b"] {
        check(&excepting, &set(target), "allowed: levels");
    }
    let deny = "[[rule]]\nid = \"keys\"\nwhy = \"w\"\ndeny = [\"set_level\"]\non = [\"target:a::keys::**\"]\nexcept = [\"target:a::keys::public\"]\n";
    let denying = policy(&format!("{allow}{deny}"));
    for target in ["target:a", "target:a::keys", "target:a::keys::inner"] {
        check(&denying, &set(target), &format!("denied by keys: {FORBIDDEN}"));
    }
    for target in ["target:a::other", "target:a::keys::public", "target:b"] {
        check(&denying, &set(target), "allowed: levels");
    }
}

#[test]
fn conditions_of_different_rules_are_never_mixed() {
    let policy = policy(
        "[[rule]]\nid = \"short\"\nwhy = \"w\"\nallow = [\"patch\"]\nmax_ttl = \"1m\"\n\
         [[rule]]\nid = \"long\"\nwhy = \"w\"\nallow = [\"patch\"]\nmax_ttl = \"30m\"\nreason = \"INC-*\"\n",
    );
    let mut patch = request(&[], Action::Patch, "point:a");
    check(&policy, &patch, "allowed: long");
    patch.reason = Some("because".to_owned());
    check(
        &policy,
        &patch,
        "denied by short long: allowed up to 1m; or needs a reason like `INC-*`",
    );
    let wanted = |patch: &Request| match policy.decide(patch) {
        Decision::Deny(denial) => denial.wanted_reason,
        Decision::Allow(_) => None,
    };
    assert_eq!(wanted(&patch).as_deref(), Some("a reason like `INC-*`"));
    patch.ttl = Some(60 * MINUTE);
    assert_eq!(wanted(&patch), None, "a reason is not all");
    check(
        &policy,
        &patch,
        "denied by short long: allowed up to 1m; or allowed up to 30m and needs a reason like `INC-*`",
    );
    patch.ttl = Some(MINUTE);
    check(&policy, &patch, "allowed: short");
}

#[test]
fn a_denial_tells_nothing_of_rules_for_others() {
    let policy = policy(
        "[[rule]]\nid = \"leads\"\nwhy = \"w\"\nallow = [\"patch\"]\nroles = [\"lead\"]\nmax_ttl = \"1m\"\n\
         [[rule]]\nid = \"carol\"\nwhy = \"w\"\nallow = [\"patch\"]\noperators = [\"carol\"]\nmax_ttl = \"1m\"\n\
         [[rule]]\nid = \"staging\"\nwhy = \"w\"\nallow = [\"patch\"]\nenvironments = [\"staging\"]\nmax_ttl = \"1m\"\n\
         [[rule]]\nid = \"elsewhere\"\nwhy = \"w\"\nallow = [\"patch\"]\non = [\"point:b\"]\nmax_ttl = \"1m\"\n\
         [[rule]]\nid = \"no-leads\"\nwhy = \"w\"\ndeny = [\"patch\"]\nroles = [\"lead\"]\n",
    );
    check(
        &policy,
        &request(&["oncall"], Action::Patch, "point:a"),
        &no_rule("your roles: oncall"),
    );
}

#[test]
fn a_rule_without_on_does_not_speak_of_leases() {
    let policy = policy("[[rule]]\nid = \"all\"\nwhy = \"w\"\nallow = [\"revert\"]\n");
    for resource in ["agent", "state:a", "point:a", "point:GET /a"] {
        check(&policy, &request(&[], Action::Revert, resource), "allowed: all");
    }
    check(
        &policy,
        &request(&[], Action::Revert, "lease:bob"),
        &no_rule(NO_ROLE),
    );
}

#[test]
fn what_only_changes_need_mode_change() {
    let everything = Action::ALL
        .iter()
        .map(|a| format!("\"{a}\""))
        .collect::<Vec<_>>()
        .join(", ");
    let policy = policy(&format!(
        "[[rule]]\nid = \"all\"\nwhy = \"w\"\nallow = [{everything}]\n"
    ));
    for action in Action::ALL {
        let mut request = request(&[], *action, "state:a");
        check(&policy, &request, "allowed: all");
        request.mode = Mode::Observe;
        assert_eq!(
            verdict(&policy, &request).starts_with("allowed"),
            !action.needs_change(),
            "{action}"
        );
    }
}

#[test]
fn what_could_be_allowed_is_known_from_the_path_alone() {
    let policy = policy(
        r#"
[[rule]]
id = "look"
why = "w"
allow = ["read"]
on = ["state:config.db.*", "state:**.port", "state:rota.**"]
except = ["state:config.secret.**", "state:rota.people.0"]
[[rule]]
id = "never"
why = "w"
deny = ["read"]
on = ["state:rota.hidden.**"]
"#,
    );
    for (path, expected) in [
        ("config", true),
        ("config.db", true),
        ("config.db.host", true),
        // Something below may be named `port`.
        ("config.db.host.name", true),
        ("config.secret", false),
        ("config.secret.port", false),
        ("rota", true),
        ("rota.people.0", true),
        ("rota.hidden", false),
        ("rota.hidden.x", false),
        ("other", true),
    ] {
        let request = request(&["viewer"], Action::Read, &format!("state:{path}"));
        assert_eq!(policy.could_allow(&request).is_ok(), expected, "{path}");
    }
}

#[test]
fn a_resource_outside_its_bounds_is_denied() {
    let policy = policy("[[rule]]\nid = \"all\"\nwhy = \"w\"\nallow = [\"patch\", \"read\"]\n");
    for (action, resource) in [
        (Action::Patch, Resource::Point("a\u{202e}b".to_owned())),
        (Action::Patch, Resource::Point("a".repeat(513))),
        (Action::Read, Resource::State(Vec::new())),
        (Action::Read, Resource::State(vec!["a".to_owned(); 33])),
    ] {
        let request = Request {
            resource,
            ..request(&[], action, "agent")
        };
        assert!(matches!(policy.decide(&request), Decision::Deny(_)));
    }
}

#[test]
fn text_of_an_operator_never_becomes_a_pattern() {
    let policy = policy(
        "[[rule]]\nid = \"all\"\nwhy = \"w\"\nallow = [\"read\"]\nroles = [\"lead\"]\noperators = [\"carol\"]\nenvironments = [\"staging\"]\n",
    );
    for hostile in [
        "*",
        "**",
        "",
        "carol\"]",
        "carol\n",
        "Carol",
        "lead",
        "staging",
        "$(carol)",
        "\u{200b}carol",
    ] {
        let mut request = request(&[hostile, "*"], Action::Read, "state:a");
        request.operator = hostile.to_owned();
        request.environment = hostile.to_owned();
        check(&policy, &request, &no_rule(&format!("your roles: {hostile}, *")));
    }
    let mut right = request(&["viewer", "lead"], Action::Read, "state:a");
    right.operator = "carol".to_owned();
    right.environment = "staging".to_owned();
    check(&policy, &right, "allowed: all");
}

#[test]
fn the_digest_is_that_of_the_bytes() {
    let text = "version = 1\n[[rule]]\nid = \"a\"\nwhy = \"w\"\nallow = [\"read\"]\n";
    let digest = Policy::parse(text).unwrap().digest();
    assert_eq!(digest, <[u8; 32]>::from(Sha256::digest(text.as_bytes())));
    assert_ne!(digest, Policy::parse(&format!("{text}#")).unwrap().digest());
}

#[test]
fn a_denial_names_a_bounded_number_of_rules() {
    let rule = |i| format!("[[rule]]\nid = \"r{i}\"\nwhy = \"w\"\nallow = [\"patch\"]\nmax_ttl = \"{i}s\"\n");
    let many = policy(&(1..=100).map(rule).collect::<String>());
    let Decision::Deny(denial) = many.decide(&request(&[], Action::Patch, "point:a")) else {
        panic!("allowed")
    };
    assert_eq!(denial.rules.len(), MAX_NAMED);
}

const RESOURCES: &[&str] = &[
    "agent",
    "state:a",
    "state:a.b",
    "state:a.b.c",
    "point:GET /a/b",
    "point:POST /a",
    "point:m::f",
    "lease:bob",
];
const PATTERNS: &[&str] = &[
    "agent",
    "state:a.**",
    "state:*",
    "state:**.c",
    "point:* /a/**",
    "point:**",
    "point:m::*",
    "lease:*",
];

fn requests() -> impl Strategy<Value = Request> {
    let times = || proptest::option::of((0..40_u64).prop_map(|m| u32::try_from(m).unwrap() * MINUTE));
    (
        (
            select(Action::ALL),
            select(RESOURCES),
            select(vec!["alice", "bob"]),
        ),
        (
            subsequence(vec!["viewer", "oncall", "lead"], 0..=3),
            select(vec!["production", "staging"]),
            any::<bool>(),
        ),
        (times(), times(), proptest::option::of("(INC-)?[a-z]{0,3}")),
    )
        .prop_map(
            |((action, resource, operator), (roles, environment, change), (ttl, life, reason))| Request {
                action,
                resource: resource.parse().unwrap(),
                operator: operator.to_owned(),
                roles: roles.into_iter().map(str::to_owned).collect(),
                environment: environment.to_owned(),
                mode: if change { Mode::Change } else { Mode::Observe },
                ttl,
                life,
                reason,
            },
        )
}

fn some(key: &'static str, names: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::option::of(subsequence(names, 1..=names.len())).prop_map(move |chosen| {
        chosen
            .map(|names| format!("{key} = {names:?}\n"))
            .unwrap_or_default()
    })
}

/// A rule without its `id`, and whether it denies.
fn rules() -> impl Strategy<Value = (String, bool)> {
    let actions: Vec<&'static str> = Action::ALL.iter().map(|a| a.name()).collect();
    (
        (subsequence(actions, 1..=4), prop::bool::weighted(0.2)),
        (
            some("roles", &["viewer", "oncall", "lead"]),
            some("operators", &["alice", "bob"]),
        ),
        (
            some("on", PATTERNS),
            some("except", PATTERNS),
            some("environments", &["production", "staging"]),
        ),
        (
            proptest::option::of(1..30_u32),
            proptest::option::of(1..30_u32),
            proptest::option::of(select(vec!["*", "INC-*"])),
        ),
    )
        .prop_map(
            |((mut actions, deny), (roles, operators), (on, except, environments), (ttl, life, reason))| {
                let mut text = format!("why = \"w\"\n{roles}{operators}{on}{except}{environments}");
                if !deny && reason.is_some() {
                    // A reason cannot be given before attaching.
                    actions.retain(|action| *action != "attach");
                    actions.push("change");
                }
                if !deny {
                    // A bound needs an action that it can bind.
                    if ttl.is_some() || life.is_some() {
                        actions.push("patch");
                    }
                    text.extend(ttl.map(|m| format!("max_ttl = \"{m}m\"\n")));
                    text.extend(life.map(|m| format!("max_life = \"{m}m\"\n")));
                    text.extend(reason.map(|r| format!("reason = \"{r}\"\n")));
                }
                (
                    format!("{} = {actions:?}\n{text}", if deny { "deny" } else { "allow" }),
                    deny,
                )
            },
        )
}

/// Rules about states only, with patterns that overlap each other's paths.
fn state_rules() -> impl Strategy<Value = (String, bool)> {
    let on = |key: &'static str| {
        let segment = prop_oneof![4 => "[abc]", 1 => Just("*".to_owned()), 1 => Just("**".to_owned())];
        let path =
            proptest::collection::vec(segment, 1..5).prop_map(|path| format!("\"state:{}\"", path.join(".")));
        proptest::option::of(proptest::collection::vec(path, 1..3)).prop_map(move |paths| {
            paths
                .map(|paths| format!("{key} = [{}]\n", paths.join(", ")))
                .unwrap_or_default()
        })
    };
    (
        prop::bool::weighted(0.3),
        on("on"),
        on("except"),
        some("roles", &["viewer", "oncall", "lead"]),
    )
        .prop_map(|(deny, on, except, roles)| {
            let effect = if deny { "deny" } else { "allow" };
            (
                format!("{effect} = [\"read\", \"write\"]\nwhy = \"w\"\n{on}{except}{roles}"),
                deny,
            )
        })
}

fn numbered(rules: &[(String, bool)], keep: impl Fn(usize, bool) -> bool) -> Policy {
    let kept = rules.iter().enumerate().filter(|(i, (_, deny))| keep(*i, *deny));
    let text: String = kept
        .map(|(i, (text, _))| format!("[[rule]]\nid = \"r{i}\"\n{text}"))
        .collect();
    // A rule that never matters, as a policy needs at least one.
    policy(&format!(
        "{text}[[rule]]\nid = \"nobody\"\nwhy = \"w\"\nallow = [\"log\"]\nroles = [\"nobody\"]\n"
    ))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn decisions_keep_their_promises(rules in proptest::collection::vec(rules(), 0..6), request in requests()) {
        let whole = numbered(&rules, |_, _| true);
        let decision = whole.decide(&request);

        // Decided again from the record, the result is the same.
        let recorded = serde_json::to_string(&request).unwrap();
        let again: Request = serde_json::from_str(&recorded).unwrap();
        prop_assert_eq!(&again, &request);
        prop_assert_eq!(&whole.decide(&again), &decision);
        let text = serde_json::to_string(&decision).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Decision>(&text).unwrap(), &decision);

        // Each rule, decided alone, tells whether it denies or holds in full.
        let alone = |i: usize| numbered(&rules, |at, _| at == i).decide(&request);
        let denying = rules.iter().enumerate().filter(|(_, (_, deny))| *deny)
            .any(|(i, _)| matches!(alone(i), Decision::Deny(d) if !d.rules.is_empty()));
        let first = rules.iter().enumerate().filter(|(_, (_, deny))| !*deny)
            .find_map(|(i, _)| match alone(i) { Decision::Allow(a) => Some(a), Decision::Deny(_) => None });
        match (&decision, first) {
            (Decision::Allow(allowed), Some(first)) => {
                prop_assert!(!denying, "a deny rule did not win");
                prop_assert_eq!(allowed, &first);
            }
            (Decision::Allow(_), None) => prop_assert!(false, "allowed, but by no rule alone"),
            (Decision::Deny(_), first) => prop_assert!(denying || first.is_none(), "denied without a cause"),
        }

        // Without allow rules, nothing is allowed.
        let only_denying = numbered(&rules, |_, deny| deny);
        prop_assert!(matches!(only_denying.decide(&request), Decision::Deny(_)));
    }

    /// An action denied before the value is known is denied for every value.
    #[test]
    fn what_is_allowed_below_a_path_could_be_allowed(
        rules in proptest::collection::vec(state_rules(), 1..6),
        request in requests(),
        path in proptest::collection::vec("[abc]", 1..4),
        below in proptest::collection::vec("[abc]", 0..4),
        acted in select(vec![Action::Read, Action::Write]),
    ) {
        let whole = numbered(&rules, |_, _| true);
        let of = |path: Vec<String>| Request { action: acted, resource: Resource::State(path), ..request.clone() };
        let could = whole.could_allow(&of(path.clone()));
        let leaf = whole.decide(&of([path.clone(), below].concat()));
        prop_assert!(could.is_ok() || matches!(leaf, Decision::Deny(_)));
        // The denial is that of the path itself.
        if let Err(denial) = could {
            prop_assert_eq!(whole.decide(&of(path)), Decision::Deny(denial));
        }
        if matches!(whole.decide(&request), Decision::Allow(_)) {
            prop_assert!(whole.could_allow(&request).is_ok());
        }
    }

    #[test]
    fn no_text_panics(text in "(version = 1\n)?(\\[\\[rule\\]\\]\n|id = \"a\"\n|allow = \\[\"read\"\\]\n|\\PC){0,12}") {
        let _ = Policy::parse(&text).map_err(|error| error.to_string());
    }
}

/// Asked before the service is read: what the mode or the form of the resource forbids is forbidden then.
#[test]
fn what_cannot_be_allowed_in_this_mode_is_denied_before_a_value_is_known() {
    let text = "version = 1\n[[rule]]\nid = \"all\"\nwhy = \"w\"\nallow = [\"read\", \"write\"]\n";
    let policy = Policy::parse(text).unwrap();
    let could = |action: Action, mode: Mode, resource: Resource| {
        let request = Request {
            action,
            resource,
            operator: "alice".into(),
            roles: vec![],
            environment: "e".into(),
            mode,
            ttl: None,
            life: None,
            reason: None,
        };
        policy.could_allow(&request).is_ok()
    };
    let state = || Resource::State(vec!["a".to_owned()]);
    assert!(could(Action::Write, Mode::Change, state()));
    assert!(!could(Action::Write, Mode::Observe, state()));
    assert!(could(Action::Read, Mode::Observe, state()));
    assert!(
        !could(Action::Read, Mode::Observe, Resource::State(vec![])),
        "it names no state"
    );
}
