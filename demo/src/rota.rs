//! Who is on duty, and who is next.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A duty rota: people take turns in a fixed order.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Rota {
    /// The name of the duty.
    pub name: String,
    /// The people who take turns, in order.
    pub people: Vec<String>,
    /// The person on duty; usually, but not necessarily, one of `people`.
    pub on_duty: Option<String>,
    /// The start of this person's duty.
    pub since: Timestamp,
    /// The times when people are absent.
    pub absences: Vec<Absence>,
}

/// A time in which a person cannot be on duty.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Absence {
    /// The absent person.
    pub person: String,
    /// The first moment of the absence.
    pub from: Timestamp,
    /// The first moment after it.
    pub until: Timestamp,
}

impl Rota {
    /// The rota that the service starts with; the first person is on duty.
    #[must_use]
    pub fn example(now: Timestamp) -> Self {
        let people = ["anna", "ben", "chloe"].map(String::from).to_vec();
        Self {
            name: "on-call".into(),
            on_duty: people.first().cloned(),
            people,
            since: now,
            absences: Vec::new(),
        }
    }

    fn is_present(&self, person: &str, now: Timestamp) -> bool {
        !self
            .absences
            .iter()
            .any(|a| a.person == person && a.from <= now && now < a.until)
    }
}

/// Chooses who is on duty next: of the people present `now`, the first in order after the person on duty.
///
/// That may be the person on duty again, if all others are absent. `None` means that all are absent. If the person on duty is not
/// in the rota, the order begins at its top.
#[must_use]
#[debug_agent::patchable]
pub fn next_on_duty(rota: &Rota, now: Timestamp) -> Option<String> {
    let current = rota.people.iter().position(|p| Some(p) == rota.on_duty.as_ref());
    let (upto, after) = rota.people.split_at(current.map_or(0, |index| index + 1));
    after
        .iter()
        .chain(upto)
        .find(|person| rota.is_present(person, now))
        .cloned()
}

/// The answer to `who`.
#[must_use]
pub fn who(rota: &Rota, now: Timestamp) -> String {
    let name = &rota.name;
    let current = rota.on_duty.as_deref().unwrap_or("nobody");
    tracing::debug!(
        people = rota.people.len(),
        absences = rota.absences.len(),
        "who is on duty is asked for"
    );
    match next_on_duty(rota, now) {
        Some(next) => format!("{name}: {current} is on duty, next is {next}"),
        None => format!("{name}: {current} is on duty, nobody is there to be next"),
    }
}

/// The rota after the duty has passed to the next person. If all are absent, nothing changes.
#[must_use]
pub fn rotated(rota: &Rota, now: Timestamp) -> Rota {
    match next_on_duty(rota, now) {
        Some(next) => Rota {
            on_duty: Some(next),
            since: now,
            ..rota.clone()
        },
        None => rota.clone(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;

    fn now() -> Timestamp {
        "2026-03-02T09:00:00Z".parse().unwrap()
    }

    fn rota(on_duty: Option<&str>, absent: &[&str]) -> Rota {
        let absence = |person: &&str| Absence {
            person: (*person).into(),
            from: now(),
            until: now() + 1.hours(),
        };
        Rota {
            on_duty: on_duty.map(String::from),
            absences: absent.iter().map(absence).collect(),
            ..Rota::example(now())
        }
    }

    #[track_caller]
    fn check(on_duty: Option<&str>, absent: &[&str], next: Option<&str>) {
        assert_eq!(next_on_duty(&rota(on_duty, absent), now()).as_deref(), next);
    }

    #[test]
    fn the_duty_goes_round() {
        check(Some("anna"), &[], Some("ben"));
        check(Some("ben"), &[], Some("chloe"));
        check(Some("chloe"), &[], Some("anna"));
    }

    #[test]
    fn nobody_or_a_stranger_on_duty_is_followed_by_the_first() {
        check(None, &[], Some("anna"));
        check(Some("a stranger"), &[], Some("anna"));
    }

    #[test]
    fn the_absent_are_passed_over() {
        check(Some("anna"), &["ben"], Some("chloe"));
        check(Some("chloe"), &["anna", "ben"], Some("chloe"));
        check(Some("anna"), &["anna", "ben", "chloe"], None);
    }

    #[test]
    fn an_absence_ends_at_its_end() {
        let rota = rota(Some("anna"), &["ben"]);
        assert_eq!(next_on_duty(&rota, now() + 1.hours()).as_deref(), Some("ben"));
        assert_eq!(next_on_duty(&rota, now() - 1.seconds()).as_deref(), Some("ben"));
    }

    #[test]
    fn an_empty_rota_has_no_next() {
        let rota = Rota {
            people: Vec::new(),
            on_duty: None,
            ..rota(None, &[])
        };
        assert_eq!(next_on_duty(&rota, now()), None);
        assert_eq!(
            who(&rota, now()),
            "on-call: nobody is on duty, nobody is there to be next"
        );
        assert_eq!(rotated(&rota, now()), rota);
    }

    #[test]
    fn rotating_notes_the_moment() {
        let later = now() + 5.minutes();
        let rotated = rotated(&rota(Some("anna"), &[]), later);
        assert_eq!((rotated.on_duty.as_deref(), rotated.since), (Some("ben"), later));
    }
}
