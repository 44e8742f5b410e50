//! A plan as its operator sees it.

use rhai::Dynamic;

use super::reply;
use crate::core::Core;
use crate::effect::{Reply, Row};
use crate::session::planning::{PlanLine, Planning};
use debug_script::convert;

/// The plan as a script sees it: a list of maps.
pub(crate) fn rows(core: &Core, planned: Planning) -> Dynamic {
    reply::plain(core, Reply::table(planned.lines.into_iter().map(row)))
}

/// The effects listed before the code failed; `None` if there are none.
pub(crate) fn up_to_failure(core: &Core, planned: &Planning) -> Option<String> {
    let heading = "a plan up to where the code failed:".to_owned();
    (!planned.lines.is_empty()).then(|| [heading, text(core, planned)].join("\n"))
}

/// The plan as text for people.
pub(crate) fn text(core: &Core, planned: &Planning) -> String {
    let lines = planned
        .lines
        .iter()
        .zip(1..)
        .map(|(line, number)| format!("{number}. {}", line_text(core, line)));
    // What is refused would not happen, so it is no effect.
    let refused = planned.lines.iter().filter(|line| line.refused).count();
    let effects = match planned.lines.len() - refused {
        1 => "1 effect".to_owned(),
        count => format!("{count} effects"),
    };
    let refused = if refused == 0 {
        String::new()
    } else {
        format!(", {refused} refused")
    };
    lines
        .chain([format!("a plan: {effects}{refused}; nothing was changed")])
        .collect::<Vec<_>>()
        .join("\n")
}

fn row(line: PlanLine) -> Row {
    let mut row: Row = vec![("function", line.function.into()), ("target", line.target.into())];
    for (name, value) in [("before", line.before), ("after", line.after)] {
        row.extend(value.map(|value| (name, value)));
    }
    row.extend([("allowed", line.allowed.into()), ("verdict", line.verdict.into())]);
    row
}

fn line_text(core: &Core, line: &PlanLine) -> String {
    let shown = |reply: &Reply| convert::display(&reply::plain(core, reply.clone()));
    let change = match (&line.before, &line.after) {
        (Some(before), Some(after)) => format!("  {} -> {}", shown(before), shown(after)),
        _ => String::new(),
    };
    format!("{} {}{change}  {}", line.function, line.target, line.verdict)
}
