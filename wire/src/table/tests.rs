use std::collections::HashSet;

use super::*;

#[test]
fn names_are_unique_and_found() {
    let names: HashSet<_> = FUNCTIONS.iter().map(|f| f.name).collect();
    assert_eq!(names.len(), FUNCTIONS.len());
    let methods: HashSet<_> = METHODS.iter().map(|m| m.name).collect();
    assert_eq!(methods.len(), METHODS.len());
    for f in FUNCTIONS {
        assert_eq!(function(f.name), Some(f));
        assert!(
            f.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "{}",
            f.name
        );
    }
    for m in METHODS {
        assert_eq!(method(m.name), Some(m));
    }
    assert_eq!(function("Patch"), None);
    assert_eq!(method("audit"), None);
}

#[test]
fn each_function_and_method_has_its_row() {
    assert_eq!(HostFunction::ALL.len(), FUNCTIONS.len());
    for (id, row) in HostFunction::ALL.iter().zip(FUNCTIONS) {
        assert_eq!((*id, id.row(), id.name()), (row.id, row, row.name));
    }
    assert_eq!(MethodId::ALL.len(), METHODS.len());
    for (id, row) in MethodId::ALL.iter().zip(METHODS) {
        assert_eq!((*id, id.row(), id.name()), (row.id, row, row.name));
    }
}

#[test]
fn what_ends_or_keeps_changes_has_a_thread_of_its_own() {
    let reserved: HashSet<_> = FUNCTIONS.iter().filter(|f| f.reserved).map(|f| f.name).collect();
    assert_eq!(
        reserved,
        HashSet::from(["revert", "revert_all", "leases", "confirm", "extend"])
    );
}

#[test]
fn usage_about_and_example_are_of_the_function() {
    for f in FUNCTIONS {
        let inside = f
            .usage
            .strip_prefix(f.name)
            .and_then(|rest| rest.strip_prefix('('))
            .and_then(|r| r.strip_suffix(')'));
        let args: Vec<_> = inside
            .expect(f.usage)
            .split(", ")
            .filter(|a| !a.is_empty())
            .collect();
        let names: Vec<_> = args.iter().map(|a| a.trim_end_matches('?')).collect();
        assert!(
            names
                .iter()
                .all(|a| !a.is_empty() && a.bytes().all(|b| b.is_ascii_lowercase())),
            "{}",
            f.usage
        );
        assert!(
            args.is_sorted_by_key(|a| a.ends_with('?')),
            "{}: what may be left out comes last",
            f.usage
        );
        let optional = args.iter().filter(|a| a.ends_with('?')).count();
        assert_eq!(f.arities(), args.len() - optional..=args.len(), "{}", f.usage);
        assert!(f.example.starts_with(&format!("{}(", f.name)), "{}", f.example);
    }
    for text in FUNCTIONS
        .iter()
        .flat_map(|f| [f.about, f.example])
        .chain(METHODS.iter().map(|m| m.about))
    {
        assert!(
            !text.is_empty() && text.len() <= 120 && !text.contains('\n') && !text.ends_with('.'),
            "{text}"
        );
    }
}

#[test]
fn arities_count_what_may_be_left_out() {
    for (name, arities) in [
        ("help", 0..=1),
        ("patch", 2..=3),
        ("set", 2..=3),
        ("get", 1..=1),
        ("leases", 0..=0),
    ] {
        assert_eq!(function(name).unwrap().arities(), arities, "{name}");
    }
}

/// A function of this version is not planned for a later one.
#[test]
fn a_function_of_this_version_is_none_of_a_later_one() {
    for name in LATER {
        assert_eq!(function(name), None, "`{name}` is in both lists");
    }
}

#[test]
fn every_action_is_asked_for_by_some_function() {
    for action in Action::ALL {
        assert!(FUNCTIONS.iter().any(|f| f.action == *action), "{action}");
    }
    assert!(
        METHODS.iter().all(|m| m.action == Action::Attach),
        "a method has no effect of its own"
    );
}

#[test]
fn what_is_decided_fits_what_is_done() {
    for f in FUNCTIONS {
        let on = match f.action {
            Action::Read | Action::Reveal | Action::Write => On::State,
            Action::Patch => On::Point,
            Action::SetLevel => On::Target,
            Action::Revert
            | Action::Confirm
            | Action::Extend
            | Action::Adopt
            | Action::Guard
            | Action::Settle => On::Lease,
            Action::Attach | Action::List | Action::Change | Action::Log => On::Agent,
        };
        assert_eq!(f.on, on, "{}", f.name);
        let undo = match f.action {
            Action::Write | Action::Patch | Action::SetLevel => Undo::Lease,
            Action::Reveal | Action::Log => Undo::Cannot,
            Action::Change => Undo::Session,
            Action::Attach
            | Action::Read
            | Action::List
            | Action::Revert
            | Action::Confirm
            | Action::Extend
            | Action::Adopt
            | Action::Guard
            | Action::Settle => Undo::Nothing,
        };
        assert_eq!(f.undo, undo, "{}", f.name);
    }
}

#[test]
fn while_the_log_is_lost_only_what_ends_or_shows_changes_works() {
    let emergency: HashSet<_> = FUNCTIONS.iter().filter(|f| f.emergency).map(|f| f.name).collect();
    assert_eq!(
        emergency,
        HashSet::from(["revert", "revert_all", "leases", "info", "sessions", "help"])
    );
}

#[test]
fn frozen_code_reads_and_logs_only() {
    let frozen: HashSet<_> = FUNCTIONS
        .iter()
        .filter(|f| f.in_patches)
        .map(|f| f.name)
        .collect();
    assert_eq!(frozen, HashSet::from(["get", "log_info", "log_warn"]));
}
