//! Why code cannot be frozen, in words that fit its purpose.

use std::fmt;

use super::engine::PATCH_EXPRESSIONS;
use debug_base::nearest;

/// What code is frozen for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// To answer calls of a point.
    Patch,
    /// To decide whether a change may stay.
    Guard,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Patch => "patch",
            Self::Guard => "guard",
        })
    }
}

impl Purpose {
    /// Who passes it arguments.
    fn caller(self) -> &'static str {
        match self {
            Self::Patch => "the point",
            Self::Guard => "the agent",
        }
    }
}

/// A part of the code that cannot be kept, or would not exist when it runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FreezeError {
    /// No such function.
    UnknownFunction {
        /// Name in the source.
        name: String,
        /// Position as text: ` (line 1, position 5)`.
        at: String,
    },
    /// A variable that will not exist.
    UnknownVariable {
        /// Name in the source.
        name: String,
        /// Position as text: ` (line 1, position 5)`.
        at: String,
    },
    /// A name computed at run time.
    Computed {
        /// Position as text: ` (line 1, position 5)`.
        at: String,
    },
    /// A host function with an effect.
    Effect {
        /// Name in the source.
        name: String,
        /// Position as text: ` (line 1, position 5)`.
        at: String,
    },
    /// A captured value that cannot be kept.
    Capture(String),
    /// The number of parameters differs from that of the point.
    Arguments {
        /// Parameters of the function, without captures.
        takes: usize,
        /// Arguments of the point.
        gives: usize,
    },
    /// Expressions or statements nest too deeply for the stack of a service thread.
    TooDeep {
        /// Depth found.
        depth: usize,
        /// Position as text: ` (line 1, position 5)`.
        at: String,
    },
    /// The code calls `Ok` or `Err`, and a function of the submission or session has that name, too.
    Reserved {
        /// `Ok` or `Err`.
        name: &'static str,
    },
    /// An explicit call of `curry`.
    Curry {
        /// Position as text: ` (line 1, position 5)`.
        at: String,
    },
    /// The function is not part of the submission or session.
    Missing(String),
}

/// The nearest name of a function that a patch may call, for one that it may not.
fn near(name: &str) -> Option<&'static str> {
    let words = crate::words::WORDS.iter().map(|word| word.name);
    let host = debug_wire::table::FUNCTIONS
        .iter()
        .filter(|function| function.in_patches);
    let known = words.chain(host.map(|function| function.name));
    nearest(name, known.filter(|known| *known != name))
}

impl FreezeError {
    /// The error in words for this purpose.
    pub fn told(&self, purpose: Purpose) -> String {
        let caller = purpose.caller();
        match self {
            Self::UnknownFunction { name, at } => {
                let near = near(name).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                format!(
                    "the {purpose} calls `{name}`, which takes other arguments or does not exist in a {purpose}{at}{near}"
                )
            }
            Self::UnknownVariable { name, at } => {
                format!(
                    "the {purpose} uses `{name}`, which is neither a parameter, a local nor a captured variable{at}"
                )
            }
            Self::Reserved { name } => format!(
                "the {purpose} calls `{name}`, and a function of yours has that name, too; give yours another name"
            ),
            Self::Computed { at } => {
                format!("the {purpose} computes the name of what it calls or reads{at}; write the name down")
            }
            Self::Effect { name, at } => {
                format!(
                    "the {purpose} calls `{name}`, which has an effect; inside a {purpose} there is no operator{at}"
                )
            }
            Self::Capture(why) => format!("the {purpose} captures a value that cannot be frozen: {why}"),
            Self::Arguments { takes, gives } => {
                format!("the {purpose} takes {takes} arguments, {caller} gives {gives}")
            }
            Self::TooDeep { depth, at } => {
                format!(
                    "the {purpose} nests {depth} expressions in one another, the limit is {PATCH_EXPRESSIONS}{at}"
                )
            }
            Self::Curry { at } => {
                format!(
                    "the {purpose} calls `curry`{at}; write a closure that captures, as in `|x| f.call(1, x)`"
                )
            }
            Self::Missing(name) => format!("`{name}` is no function of this session"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error about a guard does not speak of a patch, and the operator's own text is not changed.
    #[test]
    fn what_is_wrong_is_said_of_what_the_code_was_to_be() {
        let error = FreezeError::UnknownFunction {
            name: "the patch".to_owned(),
            at: String::new(),
        };
        let guard = "the guard calls `the patch`, which takes other arguments or does not exist in a guard";
        assert_eq!(error.told(Purpose::Guard), guard);
        let error = FreezeError::Capture("the patch of the point".to_owned());
        assert_eq!(
            error.told(Purpose::Guard),
            "the guard captures a value that cannot be frozen: the patch of the point"
        );
        let error = FreezeError::Arguments { takes: 2, gives: 1 };
        assert_eq!(
            error.told(Purpose::Guard),
            "the guard takes 2 arguments, the agent gives 1"
        );
        assert_eq!(
            error.told(Purpose::Patch),
            "the patch takes 2 arguments, the point gives 1"
        );
    }
}
