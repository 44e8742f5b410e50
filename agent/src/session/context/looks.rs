//! The looks of an eval at containers without reading their values, for the record of its outcome.

use std::collections::BTreeMap;

use debug_base::Path;
use debug_wire::records::Looked;

/// The most paths that are named, and the most bytes of their text: with every byte escaped they fit a line of the log
/// beside an error's text. Further looks are only counted.
const MAX_PATHS: usize = 100;
const MAX_BYTES: usize = 4_000;

/// The containers looked at, and how often each.
#[derive(Debug, Default)]
pub(super) struct Looks {
    times: BTreeMap<Path, u64>,
    /// The bytes of the named paths.
    bytes: usize,
    elsewhere: u64,
}

impl Looks {
    /// Counts one look at a path.
    pub(super) fn add(&mut self, path: &Path) {
        if let Some(times) = self.times.get_mut(path) {
            *times += 1;
            return;
        }
        let bytes = path.to_string().len();
        if self.times.len() < MAX_PATHS && self.bytes + bytes <= MAX_BYTES {
            self.bytes += bytes;
            self.times.insert(path.clone(), 1);
        } else {
            self.elsewhere += 1;
        }
    }

    /// The paths for the record, each passed through `clean`, and the number of looks at others.
    pub(super) fn told(&self, clean: impl Fn(&str) -> String) -> (Vec<Looked>, Option<u64>) {
        let one = |(path, times): (&Path, &u64)| Looked {
            path: clean(&path.to_string()),
            times: *times,
        };
        let elsewhere = (0 < self.elsewhere).then_some(self.elsewhere);
        (self.times.iter().map(one).collect(), elsewhere)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_a_path_are_counted_and_so_are_those_at_more_paths_than_are_named() {
        let mut looks = Looks::default();
        assert_eq!(looks.told(str::to_owned), (Vec::new(), None));
        for at in 0..3 * MAX_PATHS {
            looks.add(&Path(vec!["config".to_owned(), at.to_string()]));
            looks.add(&Path(vec!["config".to_owned(), "0".to_owned()]));
        }
        let (named, elsewhere) = looks.told(str::to_owned);
        assert_eq!(named.len(), MAX_PATHS);
        let first = Looked {
            path: "config.0".to_owned(),
            times: 3 * MAX_PATHS as u64 + 1,
        };
        assert_eq!(named[0], first);
        assert_eq!(elsewhere, Some(2 * MAX_PATHS as u64));
    }

    #[test]
    fn names_that_are_long_leave_room_for_the_rest_of_the_record() {
        let mut looks = Looks::default();
        for at in 0..MAX_PATHS {
            looks.add(&Path(vec![format!("{at}{}", "\u{1}".repeat(200))]));
        }
        assert!(serde_json::to_string(&looks.told(str::to_owned)).unwrap().len() < 32_000);
    }
}
