use std::fmt;

use debug_base::Path;

/// Where a value that is shown, compared or searched for came from.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Origin {
    /// A state.
    State(Path),
    /// A state, until a lease replaced the value; it returns when the lease ends.
    Replaced {
        /// The lease.
        lease: u64,
        /// Path within the replaced value.
        below: Vec<String>,
    },
    /// An argument with this name that an operator passed to an eval.
    Argument(String),
    /// An argument of a patched call.
    Call,
}

impl Origin {
    /// The whole value replaced by a lease.
    pub fn replaced(lease: u64) -> Self {
        Self::Replaced {
            lease,
            below: Vec::new(),
        }
    }

    /// Path in the state, for a value in a state.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::State(path) => Some(path),
            Self::Replaced { .. } | Self::Argument(_) | Self::Call => None,
        }
    }

    /// Whether it was passed in, by an operator or a patched call, and is in no state.
    pub fn is_given(&self) -> bool {
        match self {
            Self::Argument(_) | Self::Call => true,
            Self::State(_) | Self::Replaced { .. } => false,
        }
    }

    /// This origin with `steps` appended. An argument is one value and has no inner origins.
    pub(crate) fn join(&self, steps: &[String]) -> Self {
        match self {
            Self::State(path) => Self::State(path.join(steps)),
            Self::Replaced { lease, below } => Self::Replaced {
                lease: *lease,
                below: below.iter().chain(steps).cloned().collect(),
            },
            given @ (Self::Argument(_) | Self::Call) => given.clone(),
        }
    }

    /// Whether this is `outer` or lies inside it.
    pub(crate) fn is_within(&self, outer: &Self) -> bool {
        match (self, outer) {
            (Self::State(path), Self::State(outer)) => path.is_within(outer),
            (
                Self::Replaced { lease, below },
                Self::Replaced {
                    lease: other,
                    below: outer,
                },
            ) => lease == other && below.starts_with(outer),
            (a, b) => a == b,
        }
    }
}

impl From<&Path> for Origin {
    fn from(path: &Path) -> Self {
        Self::State(path.clone())
    }
}

/// As part of a sentence, paths between backticks.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(path) => write!(f, "`{path}`"),
            Self::Replaced { lease, below } if below.is_empty() => write!(f, "what lease {lease} replaced"),
            Self::Replaced { lease, below } => {
                write!(f, "`{}` in what lease {lease} replaced", Path(below.clone()))
            }
            Self::Argument(name) => write!(f, "the argument `{name}`"),
            Self::Call => f.write_str("an argument of the call"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_state_is_taken_for_what_a_lease_replaced_or_an_argument() {
        let named = Origin::State(Path(vec!["below lease 3".to_owned()]));
        assert!(!named.is_within(&Origin::replaced(3)) && !Origin::replaced(3).is_within(&named));
        assert!(!named.is_given() && !Origin::State(Path(vec!["‹argument›".to_owned()])).is_given());
        let below = Origin::replaced(3).join(&["host".to_owned()]);
        assert!(below.is_within(&Origin::replaced(3)) && !below.is_within(&Origin::replaced(4)));
        assert_eq!(below.to_string(), "`host` in what lease 3 replaced");
        assert_eq!(
            named.join(&["x".to_owned()]).to_string(),
            "`[\"below lease 3\"].x`"
        );
        assert_eq!(
            Origin::Argument("dsn".to_owned()).to_string(),
            "the argument `dsn`"
        );
    }
}
