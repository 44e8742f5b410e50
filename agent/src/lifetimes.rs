//! How long what the agent is trusted by still holds, and what is said when half of that is over.
//!
//! Nothing here is enforced: the handshake refuses what is over. This is so that nobody learns of it there.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use debug_policy::format_duration;

/// What ends by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum What {
    /// The agent's own certificate.
    Certificate,
    /// A revocation list.
    RevocationList,
    /// The certificate of a CA.
    Authority,
}

/// One thing that ends, in seconds since 1970.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Lifetime {
    /// What it is.
    pub(crate) what: What,
    /// Where it was read from.
    pub(crate) file: PathBuf,
    /// From when it is.
    pub(crate) from: u64,
    /// The last second in which it holds.
    pub(crate) until: u64,
}

/// How much of a life is left.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Left {
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
    pub(crate) fn left(&self, now: u64) -> Left {
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

    /// What is to be said at `now`, if anything.
    pub(crate) fn warning(&self, now: u64) -> Option<String> {
        let left = match self.left(now) {
            Left::Plenty => return None,
            Left::Half => format!("ends in {}, less than half of its life", self.remaining(now)),
            Left::Quarter => format!("ends in {}, less than a quarter of its life", self.remaining(now)),
            Left::Nothing => "is over: nobody can attach".to_owned(),
        };
        Some(format!("{} `{}` {left}; {}", self.what, self.file.display(), self.what.advice()))
    }

    /// Days and hours where there are any: nobody plans by the second.
    fn remaining(&self, now: u64) -> String {
        let left = self.until.saturating_sub(now);
        let unit = if left < 3600 { 1 } else { 3600 };
        format_duration(Duration::from_secs(left / unit * unit))
    }

    /// How long after `now` there is something new to say; nothing if never.
    pub(crate) fn next(&self, now: u64) -> Option<Duration> {
        let whole = self.until.saturating_sub(self.from);
        let turns = [self.until - whole / 2, self.until - whole / 4, self.until.saturating_add(1)];
        turns.into_iter().find(|turn| now < *turn).map(|turn| Duration::from_secs(turn - now))
    }
}

impl What {
    /// What can be done in this version. Files are read at the start, so each ends with one.
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

/// What was said already, so that each thing is said once.
#[derive(Debug, Default)]
pub(crate) struct Told(Vec<Left>);

impl Told {
    /// What is new at `now`: each warning whose turn has come since the last time, and whether the thing is over.
    pub(crate) fn news(&mut self, lifetimes: &[Lifetime], now: u64) -> Vec<(Left, String)> {
        self.0.resize(lifetimes.len(), Left::Plenty);
        let mut news = Vec::new();
        for (lifetime, told) in lifetimes.iter().zip(&mut self.0) {
            let left = lifetime.left(now);
            if *told < left {
                news.extend(lifetime.warning(now).map(|warning| (left, warning)));
            }
            // A clock that was set back says nothing twice.
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
        Lifetime { what: What::RevocationList, file: "crl.pem".into(), from: 0, until: 30 * DAY }
    }

    #[test]
    fn half_a_quarter_and_the_end_are_told_once_each() {
        let (lifetimes, mut told) = (vec![list()], Told::default());
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
        assert!(whole.contains("the agent's certificate `crl.pem` is over: nobody can attach; "), "{whole}");
        assert!(whole.contains("the CA's certificate `crl.pem` is over"), "{whole}");
    }
}
