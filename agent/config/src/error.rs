//! Mistakes in a configuration: what, where, and what to do.

use std::fmt;
use std::path::PathBuf;

/// The most characters of a user's text that an error repeats: enough to recognise it, too few to fill a log.
const SHOWN: usize = 64;

/// Where a mistake is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ConfigPlace {
    /// A file as a whole.
    File(PathBuf),
    /// A line and column (in characters) of a file, both counted from 1.
    At {
        path: PathBuf,
        line: usize,
        column: usize,
    },
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for ConfigPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::At { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// One mistake in the flag, the configuration file or an override.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct ConfigError {
    /// Where it is.
    pub place: ConfigPlace,
    /// What was found and what was expected.
    pub message: String,
    /// What to do; never empty.
    pub help: String,
}

/// Every mistake of a configuration, in the order of the file, those of the environment last; never empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}\n  help: {}", error.help)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

/// Quotes a user's text for an error: in backticks, on one line, cut to [`SHOWN`] characters before escaping.
pub(crate) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    let more = if text.chars().nth(SHOWN).is_some() {
        "…"
    } else {
        ""
    };
    format!("`{shown}{more}`")
}

/// Which of `known` the author probably meant: the one with the fewest typing mistakes, three at most.
pub(crate) fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // A name of three letters that differs in three of them is another word, not a slip.
    let allowed = (name.chars().count() / 2).min(3);
    known
        .into_iter()
        .map(|k| (debug_base::distance(name, k), k))
        .filter(|(slips, _)| *slips <= allowed)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, k)| k)
}
