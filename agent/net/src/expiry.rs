//! The lifetimes of the certificates and lists that the agent's trust depends on, and warnings from half of a lifetime
//! on.
//!
//! Nothing is enforced here: the handshake refuses what has expired. The warnings come first.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use debug_policy::format_duration;

/// What expires.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    /// The agent's own certificate.
    Certificate,
    /// A revocation list.
    RevocationList,
    /// The certificate of a CA.
    Authority,
}

/// One lifetime; times are in seconds since 1970.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lifetime {
    /// What it belongs to.
    pub what: What,
    /// The file that it was read from.
    pub file: PathBuf,
    /// Its first second.
    pub from: u64,
    /// Its last second.
    pub until: u64,
}

/// How much of a lifetime is left.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Left {
    /// More than half.
    Plenty,
    /// Half of it or less.
    Half,
    /// A quarter of it or less.
    Quarter,
    /// None.
    Nothing,
}

impl Lifetime {
    /// How much is left at `now`.
    pub fn left(&self, now: u64) -> Left {
        if self.until < now {
            return Left::Nothing;
        }
        let (whole, left) = (self.until.saturating_sub(self.from), self.until - now);
        match () {
            () if left <= whole / 4 => Left::Quarter,
            () if left <= whole / 2 => Left::Half,
            () => Left::Plenty,
        }
    }

    /// The warning that is due at `now`.
    pub fn warning(&self, now: u64) -> Option<String> {
        let left = match self.left(now) {
            Left::Plenty => return None,
            Left::Half => format!("ends in {}, less than half of its life", self.remaining(now)),
            Left::Quarter => format!("ends in {}, less than a quarter of its life", self.remaining(now)),
            Left::Nothing => "is over: no operator can attach".to_owned(),
        };
        Some(format!(
            "{} `{}` {left}; {}",
            self.what,
            self.file.display(),
            self.what.advice()
        ))
    }

    /// The time left, in whole hours if it is at least one hour.
    fn remaining(&self, now: u64) -> String {
        let left = self.until.saturating_sub(now);
        let unit = if left < 3600 { 1 } else { 3600 };
        format_duration(Duration::from_secs(left / unit * unit))
    }

    /// The time from `now` to the next warning; `None` if there is none.
    pub fn next(&self, now: u64) -> Option<Duration> {
        let whole = self.until.saturating_sub(self.from);
        let turns = [
            self.until - whole / 2,
            self.until - whole / 4,
            self.until.saturating_add(1),
        ];
        turns
            .into_iter()
            .find(|turn| now < *turn)
            .map(|turn| Duration::from_secs(turn - now))
    }
}

impl What {
    /// What the operator can do in this version. Files are read only at start, so each advice ends with a restart.
    fn advice(self) -> &'static str {
        match self {
            Self::RevocationList => {
                "write a fresh one with `debugctl certs crl DIR`, put it in this place and restart the service"
            }
            Self::Certificate => {
                "let your CA issue the same name again, or make a new set with `debugctl certs init`; then restart the \
                 service"
            }
            Self::Authority => {
                "make a new set with `debugctl certs init`, give its operators their folders and restart the service with it"
            }
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "the agent's certificate",
            Self::RevocationList => "the revocation list",
            Self::Authority => "the CA's certificate",
        })
    }
}

/// The warnings already given, so that each is given once.
#[derive(Debug, Default)]
pub struct Announced(Vec<Left>);

impl Announced {
    /// The warnings that have become due since the last call, each with how much is left.
    pub fn news(&mut self, lifetimes: &[Lifetime], now: u64) -> Vec<(Left, String)> {
        self.0.resize(lifetimes.len(), Left::Plenty);
        let mut news = Vec::new();
        for (lifetime, told) in lifetimes.iter().zip(&mut self.0) {
            let left = lifetime.left(now);
            if *told < left {
                news.extend(lifetime.warning(now).map(|warning| (left, warning)));
            }
            // A clock that is set back repeats no warning.
            *told = left.max(*told);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;

    fn list() -> Lifetime {
        Lifetime {
            what: What::RevocationList,
            file: "crl.pem".into(),
            from: 0,
            until: 30 * DAY,
        }
    }

    #[test]
    fn half_a_quarter_and_the_end_are_told_once_each() {
        let (lifetimes, mut told) = (vec![list()], Announced::default());
        let mut at = |now: u64| told.news(&lifetimes, now).pop().map(|(left, _)| left);
        assert_eq!(at(0), None);
        assert_eq!(at(15 * DAY - 1), None);
        assert_eq!(at(15 * DAY), Some(Left::Half));
        assert_eq!(at(15 * DAY + 1), None);
        assert_eq!(at(14 * DAY), None);
        assert_eq!(at(23 * DAY), Some(Left::Quarter));
        assert_eq!(at(30 * DAY), None);
        assert_eq!(at(30 * DAY + 1), Some(Left::Nothing));
        assert_eq!(at(90 * DAY), None);
    }

    #[test]
    fn whoever_looks_at_the_next_turn_misses_none() {
        let (list, mut now, mut seen) = (list(), 0, vec![Left::Plenty]);
        while let Some(wait) = list.next(now) {
            now += wait.as_secs();
            seen.push(list.left(now));
        }
        assert_eq!(seen, [Left::Plenty, Left::Half, Left::Quarter, Left::Nothing]);
    }

    #[test]
    fn a_warning_says_what_ends_where_when_and_what_to_do() {
        assert_eq!(list().warning(DAY), None);
        assert_eq!(
            list().warning(20 * DAY + 61).unwrap(),
            "the revocation list `crl.pem` ends in 9d23h, less than half of its life; write a fresh one with `debugctl \
             certs crl DIR`, put it in this place and restart the service"
        );
        let whole: String = [What::Certificate, What::Authority]
            .map(|what| Lifetime { what, ..list() }.warning(31 * DAY).unwrap())
            .concat();
        assert!(
            whole.contains("the agent's certificate `crl.pem` is over: no operator can attach; "),
            "{whole}"
        );
        assert!(
            whole.contains("the CA's certificate `crl.pem` is over"),
            "{whole}"
        );
    }
}
