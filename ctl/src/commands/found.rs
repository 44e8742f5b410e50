//! Finds a working set in the current folder, for an operator who gave no identity.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::args::Connection;
use crate::ui::failure::CommandFailure;
use crate::ui::term;

/// The folder that holds a folder for each operator, as `debugctl certs init` makes it.
const OPERATORS: &str = "operators";
/// The limits on operators looked at, and on operators named in an error.
const MOST: usize = 1000;
const NAMED: usize = 8;

/// Fills in the one operator's folder of the working set in `folder`, and prints that. It does so only if the command line and
/// the environment give no part of an identity: what was given is never replaced and never added to.
///
/// # Errors
/// There are several, or another user could have written the one that is there.
pub(crate) fn complete(connection: &mut Connection, folder: &Path) -> Result<(), CommandFailure> {
    let Connection {
        identity,
        cert,
        key,
        ca,
        ..
    } = connection;
    if identity.is_some() || cert.is_some() || key.is_some() || ca.is_some() {
        return Ok(());
    }
    let mut all = operators(folder);
    let found = match all.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        _ => {
            all.sort_unstable();
            let named: Vec<String> = all
                .iter()
                .take(NAMED)
                .map(|dir| format!("`{}`", shown(dir)))
                .collect();
            let more = if all.len() > NAMED { ", …" } else { "" };
            return Err(CommandFailure::usage(format!(
                "who you are is not given, and this folder has {} operators: {}{more}",
                all.len(),
                named.join(", ")
            ))
            .help("give one of them with `--identity` (DEBUGCTL_IDENTITY)"));
        }
    };
    // Otherwise a folder that others can write, such as `/tmp`, would decide whom to trust.
    if let Some(open) = [folder.join(OPERATORS), found.clone()]
        .into_iter()
        .find(|dir| !is_ones_own(dir))
    {
        return Err(CommandFailure::usage(format!(
            "who you are is not given, and `{}` is not taken unasked: others own it or may write it",
            shown(&open)
        ))
        .help(format!(
            "give it with `--identity {}` if it is yours",
            shown(&found)
        )));
    }
    let name = found
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let name = term::line(&name);
    term::note(&format!(
        "as `{name}`, with `{}` of this folder; `--identity` says otherwise",
        shown(&found)
    ));
    connection.identity = Some(found);
    Ok(())
}

/// The folders in `operators` that hold a certificate and a key.
fn operators(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder.join(OPERATORS)) else {
        return Vec::new();
    };
    let holds_both = |dir: &PathBuf| dir.join("cert.pem").is_file() && dir.join("key.pem").is_file();
    entries
        .take(MOST)
        .flatten()
        .map(|entry| entry.path())
        .filter(holds_both)
        .collect()
}

/// Whether only this user and root can have written to a folder.
fn is_ones_own(dir: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    fs::metadata(dir).is_ok_and(|meta| (meta.uid() == own || meta.uid() == 0) && meta.mode() & 0o022 == 0)
}

/// The path without a leading `./`.
fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn set(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let dir = folder.path().join(OPERATORS).join(name);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("cert.pem"), "").unwrap();
            fs::write(dir.join("key.pem"), "").unwrap();
            for dir in [dir.as_path(), dir.parent().unwrap()] {
                fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        folder
    }

    fn found(folder: &Path, mut connection: Connection) -> Result<Option<PathBuf>, String> {
        complete(&mut connection, folder)
            .map(|()| connection.identity)
            .map_err(|failure| failure.message)
    }

    #[test]
    fn the_only_operator_of_a_set_is_taken() {
        let alone = set(&["alice"]);
        let alice = alone.path().join("operators/alice");
        assert_eq!(found(alone.path(), Connection::default()), Ok(Some(alice)));
        assert_eq!(found(set(&[]).path(), Connection::default()), Ok(None));
        let two = found(set(&["alice", "bob"]).path(), Connection::default()).unwrap_err();
        assert!(
            two.contains("this folder has 2 operators") && two.contains("operators/bob`"),
            "{two}"
        );
    }

    #[test]
    fn what_is_given_is_never_replaced_or_added_to() {
        let alone = set(&["alice"]);
        let mine = || Some(PathBuf::from("mine"));
        let given = Connection {
            identity: mine(),
            ..Connection::default()
        };
        assert_eq!(found(alone.path(), given), Ok(mine()));
        for given in [
            Connection {
                cert: mine(),
                ..Connection::default()
            },
            Connection {
                key: mine(),
                ..Connection::default()
            },
            Connection {
                ca: mine(),
                ..Connection::default()
            },
        ] {
            assert_eq!(found(alone.path(), given), Ok(None));
        }
    }

    #[test]
    fn a_set_that_others_may_write_is_not_taken_unasked() {
        let alone = set(&["alice"]);
        fs::set_permissions(alone.path().join(OPERATORS), fs::Permissions::from_mode(0o1777)).unwrap();
        let refused = found(alone.path(), Connection::default()).unwrap_err();
        assert!(refused.contains("is not taken unasked"), "{refused}");
    }
}
