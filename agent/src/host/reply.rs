//! The results of effects as values of the script language.

use rhai::{Array, Dynamic, INT, Map};

use super::help;
use crate::core::Core;
use crate::effect::{Refusal, Reply};
use debug_script::{convert, values};

/// A result as a value.
///
/// # Errors
/// There is no help about what was asked for.
pub(super) fn value(core: &Core, reply: Reply) -> Result<Dynamic, Refusal> {
    match reply {
        Reply::Help(subject) => Ok(values::message(help::help(subject.as_deref())?)),
        other => Ok(plain(core, other)),
    }
}

/// A result that is no help.
pub(super) fn plain(core: &Core, reply: Reply) -> Dynamic {
    match reply {
        Reply::Nothing | Reply::Help(_) => Dynamic::UNIT,
        Reply::Message(text) => values::message(text),
        Reply::Text(text) => text.into(),
        Reply::Count(count) => INT::try_from(count).unwrap_or(INT::MAX).into(),
        Reply::Truth(value) => value.into(),
        Reply::List(items) => {
            let items = items.into_iter().map(|item| plain(core, item));
            items.collect::<Array>().into()
        }
        Reply::Row(columns) => {
            let columns = columns.into_iter();
            let columns = columns.map(|(name, value)| (name.into(), plain(core, value)));
            columns.collect::<Map>().into()
        }
        Reply::Value { tree, path, alike } => {
            let mut shown = convert::to_dynamic(&tree, &path, &core.recorder.keyed);
            if !alike.is_empty() {
                convert::tell_alike(&mut shown, &|path| {
                    let known = alike.iter().find(|(at, _)| at == path);
                    known.map(|(_, why)| why.clone())
                });
            }
            shown
        }
        Reply::Revealed(tree) => values::revealed(&tree),
    }
}
