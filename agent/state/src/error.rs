use debug_base::{Path, PathError, TreeError, known_clause};

/// Why a state could not be read or written. Contains names and paths, never values.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StateError {
    /// No state has this name.
    #[error("no state is named `{name}`{known}")]
    NoSuchState {
        /// As requested.
        name: String,
        /// A clause that lists the known names.
        known: String,
    },
    /// Two states have the same name.
    #[error("two states are named `{0}`; names must differ")]
    DuplicateName(String),
    /// One of two fields is inside the other.
    #[error("field `{0}` and field `{1}` overlap")]
    Overlapping(Path, Path),
    /// The first name of a field is the name of a state.
    #[error("state `{0}` is a whole; a field inside it needs another first name")]
    InsideState(Path),
    /// The path does not exist.
    #[error(transparent)]
    NoSuchPath(#[from] PathError),
    /// The state was registered for reading only.
    #[error("state `{0}` was registered for reading only")]
    ReadOnly(String),
    /// The service's author closed the path to writes.
    #[error("`{path}` cannot be written: the service closes `{closed}` to writes")]
    NeverWrite {
        /// As requested.
        path: Path,
        /// The path that the author closed.
        closed: Path,
    },
    /// The lock was not free in time, or the value changed during every attempt.
    #[error("state `{0}` is busy; try again")]
    Busy(String),
    /// A service thread panicked while it held the lock for writing.
    #[error(
        "state `{0}` may be half-written: the service panicked while it held the lock; restart the service"
    )]
    Poisoned(String),
    /// Code of the service's type panicked; this did not poison the lock.
    #[error("the service's type of state `{state}` panicked while {doing}; nothing was changed")]
    Panicked {
        /// The state's name.
        state: String,
        /// What the type was asked to do.
        doing: &'static str,
    },
    /// The value does not become a tree within the limits.
    #[error("cannot read {0}")]
    Unreadable(TreeError),
    /// Writing the live value back would change it.
    #[error("`{path}` cannot be written: {reason}")]
    Lossy {
        /// The part that would change.
        path: Path,
        /// Why, in words.
        reason: String,
    },
    /// The service's type refuses the new value. The old one stays.
    #[error("cannot write {0}")]
    Refused(TreeError),
    /// The type accepted the value but would store another one.
    #[error("cannot write `{0}`: the service's type would store another value than the one given")]
    NotStored(Path),
    /// The value at the path is not the one that the writer expects.
    #[error("`{0}` has changed meanwhile; read it again")]
    Conflict(Path),
}

impl StateError {
    /// The states that a naming error is about; two for an overlap.
    pub fn state(&self) -> Vec<Path> {
        match self {
            Self::DuplicateName(name) => vec![Path(vec![name.clone()])],
            Self::Overlapping(one, other) => vec![one.clone(), other.clone()],
            Self::InsideState(path) => vec![path.clone()],
            _ => Vec::new(),
        }
    }

    /// Whether the value is a container that is only too large to be read whole.
    pub fn is_large_container(&self) -> bool {
        matches!(self, Self::Unreadable(error) if error.is_large_container())
    }

    /// Whether the state is unreadable for every caller and at any time. Such a state is reported alone; states read together
    /// with it are not affected.
    pub fn is_of_the_state(&self) -> bool {
        matches!(
            self,
            Self::Unreadable(_)
                | Self::Panicked { .. }
                | Self::Poisoned(_)
                | Self::DuplicateName(_)
                | Self::Overlapping(..)
                | Self::InsideState(_)
        )
    }

    /// The same error, listing only the given names: the caller may not be allowed to see all of them.
    pub fn knowing(&self, names: &[String]) -> Self {
        match self {
            Self::NoSuchPath(error) => Self::NoSuchPath(error.knowing(names)),
            Self::NoSuchState { name, .. } => Self::NoSuchState {
                name: name.clone(),
                known: known_clause(name, names),
            },
            other => other.clone(),
        }
    }

    /// Whether the service's type refuses a value, rather than its check or setter.
    pub fn is_of_type(&self) -> bool {
        match self {
            Self::Refused(error) => !error.is_of_check(),
            Self::NotStored(_) | Self::Lossy { .. } => true,
            _ => false,
        }
    }

    /// The same error without the words of the service's code.
    pub(crate) fn without_service_words(self) -> Self {
        match self {
            Self::Refused(error) => Self::Refused(error.without_service_words()),
            Self::Unreadable(error) => Self::Unreadable(error.without_service_words()),
            other => other,
        }
    }
}
