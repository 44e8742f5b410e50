//! Errors of a script, explained: what failed, where, and what to do next.

use crate::host::help;
use debug_wire::table::{self, FUNCTIONS, LATER};
use rhai::{EvalAltResult, ParseError, ParseErrorType, Position};

use crate::core::Core;
use crate::gate;
use crate::session::context::EvalContext;
use debug_base::{Path, Wait, nearest};
use debug_script::frozen::explain;
use debug_script::frozen::thrown;
use debug_script::kinds::typed;
use debug_script::kinds::{self, in_words};
use debug_script::words::{self, WORDS};

/// The message and the advice for a script's error. `code` is the submitted source; `is_closure` tells whether a name
/// holds a closure.
pub(crate) fn script_error(
    core: &Core,
    run: &EvalContext,
    code: &str,
    is_closure: impl Fn(&str) -> bool,
    error: &EvalAltResult,
) -> (String, String) {
    let undone = undone(run);
    let advised = |what: String, help: String| (what, format!("{undone}; {help}"));
    match innermost(error) {
        EvalAltResult::ErrorVariableNotFound(name, position) if is_function(name) => {
            let what = format!("`{name}` is a function, not a variable or state{}", at(*position));
            advised(what, to_call(name))
        }
        EvalAltResult::ErrorVariableNotFound(name, position) if LATER.contains(&name.as_str()) => {
            let (what, help) = help::later(name);
            advised(format!("{what}{}", at(*position)), help)
        }
        EvalAltResult::ErrorVariableNotFound(name, position) => {
            let near = leaving(name).or_else(|| near_state(core, run, name));
            let help = near.unwrap_or_else(|| "`ls()` lists the states, `help()` the functions".to_owned());
            advised(
                format!("there is no variable or state `{name}`{}", at(*position)),
                help,
            )
        }
        // Rhai takes `call(x)` for a call of a closure, even if `x` is none.
        EvalAltResult::ErrorMismatchDataType(expected, _, position) if expected == "Fn" => {
            let (what, help) = help::later("call");
            advised(format!("{what}, except for closures{}", at(*position)), help)
        }
        EvalAltResult::ErrorMismatchDataType(expected, seen, position) => {
            let what = format!(
                "{} stands where {} is needed{}",
                in_words(seen),
                in_words(expected),
                at(*position)
            );
            let help = match seen.contains("Range") || seen == "range" {
                true => "a part of a list is `list.extract(start, len)`",
                false if in_words(seen) == in_words("state") => "give a value of it, or a copy: `get(path)`",
                false => "give the one that is needed",
            };
            advised(what, help.to_owned())
        }
        EvalAltResult::ErrorFunctionNotFound(signature, position) => {
            let name = signature.split(' ').next().unwrap_or_default();
            let (what, help) = match is_closure(name) {
                true => (
                    format!("`{name}` is a closure, not a function"),
                    closure_call(code, name, *position),
                ),
                false if run.session.shapes().defines(name) => own_function(signature),
                false => no_function(signature),
            };
            advised(format!("{what}{}", at(*position)), help)
        }
        EvalAltResult::ErrorFor(position) => advised(
            format!(
                "what is looped over is neither a list nor a range{}",
                at(*position)
            ),
            "of a map, loop over its names: `for name in map.keys() { print(name) }`".to_owned(),
        ),
        EvalAltResult::ErrorArrayBounds(count, index, position) => advised(
            no_place("list", "element", *count, *index, *position),
            COUNTED.to_owned(),
        ),
        EvalAltResult::ErrorStringBounds(count, index, position) => advised(
            no_place("text", "character", *count, *index, *position),
            COUNTED.to_owned(),
        ),
        EvalAltResult::ErrorAssignmentToConstant(name, position)
            if core.exposed.states.named(name).is_ok() =>
        {
            advised(
                format!("`{name}` is a state, and no variable{}", at(*position)),
                format!(
                    "it is written with `set(\"{}\", value)`",
                    Path(vec![name.clone()])
                ),
            )
        }
        EvalAltResult::ErrorDotExpr(text, position) => {
            let quoted: Vec<&str> = text.split('\'').collect();
            let (name, of) = (
                quoted.get(1).copied().unwrap_or_default(),
                quoted.get(3).copied().unwrap_or_default(),
            );
            let what = format!("{} has no `{name}`{}", in_words(of), at(*position));
            advised(
                what,
                "`.` leads to the names in a map; what can be called is called as in `value.len()`"
                    .to_owned(),
            )
        }
        EvalAltResult::ErrorIndexingType(text, position) => {
            let (of, index) = text.split_once(" [").unwrap_or((text, ""));
            let index = index.split(']').next().unwrap_or_default();
            let what = format!(
                "{} has no place for {}{}",
                in_words(of),
                in_words(index),
                at(*position)
            );
            advised(what, "lists have positions, maps have names".to_owned())
        }
        EvalAltResult::ErrorRuntime(value, position) if !value.is_string() => (
            format!("the code threw {}{}", thrown(value), at(*position)),
            undone.to_owned(),
        ),
        _ => {
            let text = explain(error);
            let text = text.strip_prefix("Runtime error: ").unwrap_or(&text);
            (text.to_owned(), undone.to_owned())
        }
    }
}

const COUNTED: &str = "positions count from 0, and from -1 backwards from the end";

/// The words for a position that a list or text does not have.
fn no_place(of: &str, one: &str, count: usize, index: i64, position: Position) -> String {
    let has = match count {
        0 => "is empty".to_owned(),
        1 => format!("has 1 {one}"),
        _ => format!("has {count} {one}s"),
    };
    format!("there is no {one} {index}: the {of} {has}{}", at(position))
}

fn is_function(name: &str) -> bool {
    leaving(name).is_none() && (table::function(name).is_some() || words::find(name).is_some())
}

/// Advice for the name of a function that stands without its parentheses.
fn to_call(name: &str) -> String {
    let usage = table::function(name).map(|function| function.usage);
    let usage = usage
        .or_else(|| words::find(name).map(|word| word.usage))
        .unwrap_or(name);
    format!("call it: `{usage}`; `help(\"{name}\")` explains it")
}

/// Advice for words that operators type to leave.
fn leaving(name: &str) -> Option<String> {
    const WORDS: [&str; 7] = ["bye", "disconnect", "exit", "logout", "q", "quit", "detach"];
    WORDS
        .contains(&name)
        .then(|| "Ctrl-D leaves, or `:quit` at the prompt".to_owned())
}

/// The call `f(3)` spelled for a closure: `f.call(3)`.
fn closure_call(code: &str, name: &str, position: Position) -> String {
    const MAX: usize = 60;
    let line = position
        .line()
        .and_then(|line| code.lines().nth(line - 1))
        .unwrap_or_default();
    let from = position.position().map_or(0, |column| column.saturating_sub(1));
    let rest: String = line.chars().skip(from).collect();
    let arguments = rest
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('('))
        .and_then(|rest| {
            let mut depth = 1;
            let end = rest.char_indices().find(|(_, c)| {
                depth += i32::from(*c == '(') - i32::from(*c == ')');
                depth == 0
            })?;
            Some(&rest[..end.0])
        });
    match arguments.filter(|text| text.len() <= MAX && !text.contains(['"', '\'', '`'])) {
        Some(arguments) => format!("call it with `{name}.call({arguments})`"),
        None => format!("call it with `{name}.call(value)`"),
    }
}

/// The message and the advice for code that does not parse. A word of the language after a dot can be written as an
/// index.
pub(crate) fn syntax(code: &str, error: &ParseError) -> (String, String) {
    let nothing_ran = "nothing ran";
    if let Some((what, help)) = foreign(code, error) {
        return (what, format!("{nothing_ran}; {help}"));
    }
    let (message, position) = (error.to_string(), error.position());
    let line = position
        .line()
        .and_then(|line| code.lines().nth(line - 1))
        .unwrap_or_default();
    let column = position.position().map_or(0, |column| column.saturating_sub(1));
    let is_word = |c: &char| c.is_alphanumeric() || *c == '_' || *c == '-';
    let word: String = match error.err_type() {
        ParseErrorType::Reserved(word) => word.clone(),
        _ => line.chars().skip(column).take_while(is_word).collect(),
    };
    let before: String = line.chars().take(column).collect();
    let Some(chain) = chain_before_dot(&before).filter(|_| !word.is_empty()) else {
        return match error.err_type() {
            ParseErrorType::Reserved(word) if is_word_of_states(word) => (
                message,
                format!("{nothing_ran}; a state of that name is read with `get(\"{word}\")`"),
            ),
            _ => (message, nothing_ran.to_owned()),
        };
    };
    let step = match word.bytes().all(|b| b.is_ascii_digit()) {
        true => format!("`{chain}[{word}]`"),
        false => format!("`{chain}[\"{word}\"]`"),
    };
    let what = format!("`{word}` is no name of the language{}", at(position));
    (what, format!("{nothing_ran}; write {step}"))
}

/// The message and the advice for a habit from another language.
fn foreign(code: &str, error: &ParseError) -> Option<(String, String)> {
    let place = at(error.position());
    let first = code
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
        .unwrap_or_default();
    match error.err_type() {
        ParseErrorType::UnknownOperator(operator) | ParseErrorType::Reserved(operator)
            if ["++", "--"].contains(&operator.as_str()) =>
        {
            let sign = &operator[1..];
            let what = format!("there is no operator `{operator}`{place}");
            Some((what, format!("write `x {sign}= 1`")))
        }
        ParseErrorType::MismatchedType(expected, seen) if expected.starts_with("a boolean") => {
            let what = format!("a condition is `true` or `false`, not {}{place}", in_words(seen));
            Some((what, "compare it, as in `x > 0`".to_owned()))
        }
        ParseErrorType::MismatchedType(expected, seen) if expected.starts_with("an iterable") => {
            let what = format!(
                "what is looped over is a list, a range or a text, not {}{place}",
                in_words(seen)
            );
            Some((what, "as in `for i in 0..5 { print(i) }`".to_owned()))
        }
        // A call as at a shell: `revert 5`.
        ParseErrorType::MissingToken(token, _) if token == ";" && table::function(first).is_some() => {
            let example = table::function(first).map_or(first, |function| function.example);
            let what = format!("`{first}` is a function: its arguments stand in brackets{place}");
            Some((what, format!("as in `{example}`")))
        }
        _ if error.to_string().contains("keyword 'eval' is disabled") => Some((
            format!("`eval` is not part of this language{place}"),
            "type the code itself".to_owned(),
        )),
        _ => None,
    }
}

fn is_word_of_states(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// The chain before the dot at the end of `before`: `config.application` of `x = config.application.`.
fn chain_before_dot(before: &str) -> Option<&str> {
    let chain = before.trim_end().strip_suffix('.')?.trim_end_matches('?');
    let mut quoted = false;
    let start = chain.char_indices().rev().take_while(|(_, c)| {
        if *c == '"' {
            quoted = !quoted;
        }
        quoted || c.is_alphanumeric() || matches!(c, '_' | '.' | '[' | ']' | '"')
    });
    let start = start.last().map(|(at, _)| at)?;
    chain.get(start..).filter(|chain| !chain.is_empty())
}

/// What happened to the effects of a failed eval.
pub(crate) fn undone(run: &EvalContext) -> &'static str {
    let reverted = run.ends().reverted.len();
    match (reverted, run.touched().len() - reverted) {
        (0, 0) => "nothing was changed",
        (0, _) => "what it had changed was undone",
        (_, 0) => "what it reverted stays reverted",
        (_, _) => "what it had changed was undone, what it reverted stays reverted",
    }
}

/// The error without the calls around it.
fn innermost(error: &EvalAltResult) -> &EvalAltResult {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) => innermost(inner),
        other => other,
    }
}

fn at(position: Position) -> String {
    if position.is_none() {
        String::new()
    } else {
        format!(" ({position})")
    }
}

/// The state that the operator probably meant, if this operator may know of it.
fn near_state(core: &Core, run: &EvalContext, name: &str) -> Option<String> {
    let near = nearest(name, core.exposed.states.list().map(|(name, _)| name))?;
    let path = Path(vec![near.to_owned()]);
    if !gate::could_read(core.door(), run, &path) {
        return None;
    }
    let tree = core.exposed.read(&path, Wait::AGENT).ok();
    gate::may_know(core.door(), run, &path, tree.as_ref()).ok()?;
    Some(format!("did you mean `{near}`?"))
}

/// The most argument types that an error lists.
const MAX_TYPES: usize = 8;

/// The first types, and the number of further ones: `(string, string and 12 more)`.
fn shortened(types: &str) -> String {
    let all: Vec<&str> = types.split(", ").collect();
    match all.split_at_checked(MAX_TYPES) {
        Some((first, more)) if !more.is_empty() => format!("{} and {} more)", first.join(", "), more.len()),
        _ => types.to_owned(),
    }
}

/// The error for a call of one of the session's own functions.
fn own_function(signature: &str) -> (String, String) {
    let (name, types) = kinds::signature(signature);
    let what = format!(
        "`{}` does not take {}",
        typed(name),
        shortened(&format!("({})", types.join(", ")))
    );
    (
        what,
        "the session defined it with another number of arguments".to_owned(),
    )
}

/// The error for a signature such as `foo (i64)` or `* (&str | ImmutableString | String, i64)`, in words.
fn no_function(signature: &str) -> (String, String) {
    let (name, types) = kinds::signature(signature);
    let name = typed(name);
    let is_closure_called = types.first().is_some_and(|first| first == in_words("Fn"));
    let types = shortened(&format!("({})", types.join(", ")));
    if name.starts_with("anon$") {
        let what = format!("the closure does not take {types}");
        return (what, "give it as many arguments as it names".to_owned());
    }
    if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        return (
            format!("`{name}` is not there for {types}"),
            "convert one of them".to_owned(),
        );
    }
    // `f.call(x)` calls a closure in every version.
    if LATER.contains(&name) && !is_closure_called {
        return help::later(name);
    }
    if let Some(help) = leaving(name) {
        return (format!("there is no function `{name}`"), help);
    }
    if words::find(name).is_some() || FUNCTIONS.iter().any(|function| function.name == name) {
        return (
            format!("`{name}` does not take {types}"),
            format!("`help(\"{name}\")` explains it"),
        );
    }
    if kinds::signature(signature)
        .1
        .first()
        .is_some_and(|first| first == in_words("state"))
    {
        let what = format!("there is no function `{name}` for {types}");
        return (
            what,
            "a name below a state is read without brackets, as in `config.db`".to_owned(),
        );
    }
    let known = FUNCTIONS
        .iter()
        .map(|function| function.name)
        .chain(WORDS.iter().map(|word| word.name));
    let help = nearest(name, known).map_or_else(
        || "`help()` lists the functions".to_owned(),
        |near| format!("did you mean `{near}`? `help(\"{near}\")` explains it"),
    );
    (format!("there is no function `{name}` for {types}"), help)
}

#[cfg(test)]
mod tests;
