//! `debugctl audit show`.

use serde_json::Value;

use super::check::check;
use super::verify::vouched;
use crate::args::ShowRecord;
use crate::ui::failure::{CommandFailure, ended};
use crate::ui::term;

/// Prints a record, one member a line.
///
/// # Errors
/// There is no such record, or the log does not verify; a record that was found is printed nevertheless.
pub(super) fn run(args: &ShowRecord) -> Result<(), CommandFailure> {
    let (mut found, mut total) = (None, 0_u64);
    let report = check(&args.anchor, &mut |record| {
        total += 1;
        if record.seq == args.seq {
            found = Some(record.text.to_owned());
        }
    });
    let checked = report.and_then(|report| vouched(&report));
    let Some(line) = found else {
        checked?;
        return Err(CommandFailure::usage(format!(
            "there is no record {}; the log has {total}",
            args.seq
        )));
    };
    if checked.is_err() {
        term::alarm("this record is of a log that is NOT verified");
    }
    let value: Value = serde_json::from_str(&line)
        .map_err(|error| CommandFailure::verification(format!("record {} is no JSON: {error}", args.seq)))?;
    let pretty = serde_json::to_string_pretty(&value).unwrap_or(line);
    let printed = term::out(&term::escape_json(&pretty)).map_err(CommandFailure::from);
    ended(printed, checked)
}
