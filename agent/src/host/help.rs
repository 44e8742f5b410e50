//! What `help` tells.

use debug_wire::table::{self, FUNCTIONS, Function, Undo};

use crate::effect::Refusal;
use debug_base::nearest;
use debug_script::words;

/// A fact that the list of functions does not show: a path is not a copy.
const LIVE: &str = "a list or map of a state is live: `let db = config.db` goes on showing what stands there, and writes there; a single value, such as `config.db.port`, is read where it is named; `get(\"config.db\")` is a copy";

/// The help about a function, or about all.
///
/// # Errors
/// There is no such function.
pub(super) fn help(subject: Option<&str>) -> Result<String, Refusal> {
    let Some(name) = subject else {
        let width = FUNCTIONS.iter().map(|f| f.usage.len()).max().unwrap_or(0);
        let lines = FUNCTIONS
            .iter()
            .map(|f| format!("{:width$}  {}", f.usage, f.about));
        let language: Vec<&str> = words::WORDS.iter().map(|word| word.name).collect();
        let language = format!(
            "of the language, explained by name as in `help(\"map\")`: {}",
            language.join(", ")
        );
        return Ok(lines
            .chain([String::new(), LIVE.to_owned(), language])
            .collect::<Vec<_>>()
            .join("\n"));
    };
    let word = words::find(name).map(|word| format!("{}\n{}", word.usage, word.about));
    let said = match (table::function(name).map(explain), word) {
        (Some(function), Some(word)) => format!("{function}\n\nof the language: {word}"),
        // Also tell that the name is a function of a later version: the operator may mean that one.
        (None, Some(word)) if table::LATER.contains(&name) => {
            let (message, _) = later(name);
            format!("{word}\n\nas a function of the agent: {message}")
        }
        (Some(said), None) | (None, Some(said)) => said,
        (None, None) if table::LATER.contains(&name) => {
            let (message, help) = later(name);
            return Err(Refusal::state(message, &help));
        }
        (None, None) => {
            let known = FUNCTIONS
                .iter()
                .map(|f| f.name)
                .chain(words::WORDS.iter().map(|word| word.name));
            let near = nearest(name, known)
                .map(|near| format!("did you mean `{near}`? "))
                .unwrap_or_default();
            let name = debug_base::shortened(name);
            return Err(Refusal::state(
                format!("there is no function `{name}`"),
                format!("{near}`help()` lists all"),
            ));
        }
    };
    Ok(match name {
        "get" => format!("{said}\n{LIVE}"),
        _ => said,
    })
}

fn explain(function: &Function) -> String {
    let mode = if function.action.needs_change() {
        "change, entered with `change(reason)`"
    } else {
        "any"
    };
    let undone = match function.undo {
        Undo::Nothing if function.action.needs_change() => {
            "acts on a change, which is undone at its deadline"
        }
        Undo::Nothing => "changes nothing",
        Undo::Lease => "a lease: undone at its deadline, by `revert(id)`, or when the session is lost",
        Undo::Session => "the end of the session",
        Undo::Cannot => "cannot be undone",
    };
    let inside = if function.in_patches {
        "\npatches   may call it"
    } else {
        ""
    };
    let options = options(function);
    format!(
        "{}\n{}\naction    {}\nmode      {mode}\nundo      {undone}{inside}{options}\nexample   {}",
        function.usage, function.about, function.action, function.example
    )
}

/// The options of a change, explained.
const OPTIONS: [(&str, &str); 6] = [
    ("ttl", "how long it stands: \"90s\", \"5m\", \"1h30m\""),
    (
        "reason",
        "why, for the log; otherwise the reason of `change(reason)`",
    ),
    (
        "over",
        "the lease at the same place that it may cover, or a list of them: 1, [1, 2]",
    ),
    (
        "persist",
        "true: it stays until its deadline if the session is lost",
    ),
    (
        "guard",
        "a condition that ends it once it is false: |s| s.errors < 10",
    ),
    ("unseen", "true: also for a route that had no request yet"),
];

/// The lines about the options of a function; empty if it has none.
fn options(function: &Function) -> String {
    let Some((_, names)) = function.about.split_once("opts: ") else {
        return String::new();
    };
    let is_known = |name: &str| names.split([',', ' ', '(']).any(|known| known == name);
    let lines = OPTIONS.iter().filter(|(name, _)| is_known(name));
    lines
        .map(|(name, about)| format!("\n{name:8}  {about}"))
        .collect()
}

/// The error for a function of a later version.
pub(crate) fn later(name: &str) -> (String, String) {
    (
        format!("`{name}` is not part of this version"),
        "`help()` lists the functions".to_owned(),
    )
}
