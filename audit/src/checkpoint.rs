//! Checkpoints (C2SP `tlog-checkpoint`): a signed note over origin, size and root hash.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::Hash;
use crate::note::{self, NoteError, SigningKey, VerifierKey};

/// A head of the log: its origin, its number of records, and the root over them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// The log's origin: `<key name>/<log id>`.
    pub origin: String,
    /// The number of records that the root covers.
    pub size: u64,
    /// The root of the tree over the first `size` records.
    pub root: Hash,
}

/// Why a checkpoint is rejected.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it does not verify.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The signed text is not origin, size and root, one a line.
    #[error("not a checkpoint: {0}")]
    Form(&'static str),
    /// Signed by the key, but for a log outside the key's instance.
    #[error("the checkpoint is for the log `{}`, whose name does not begin with `{key}/`", .origin.escape_debug())]
    Origin {
        /// The origin found.
        origin: String,
        /// The key's name.
        key: String,
    },
}

impl Checkpoint {
    /// The text that is signed: origin, size in decimal, root in base64, each on a line of its own.
    pub fn text(&self) -> String {
        format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            BASE64_STANDARD.encode(self.root)
        )
    }

    /// Parses the text. Extension lines are rejected: our logs write none, and a client could not interpret them.
    ///
    /// # Errors
    /// [`CheckpointError::Form`]; exactly the texts that [`Checkpoint::text`] writes are accepted.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let form = CheckpointError::Form;
        let lines: Vec<&str> = text.split('\n').take(5).collect();
        let [origin, size, root, ""] = lines.as_slice() else {
            return Err(form("it must have three lines: origin, size, root hash"));
        };
        if origin.is_empty() || origin.chars().any(char::is_control) {
            return Err(form("the origin is empty or holds a control character"));
        }
        let parsed: u64 = size
            .parse()
            .map_err(|_| form("the size is not a decimal number"))?;
        if parsed.to_string() != *size {
            return Err(form("the size is not in plain decimal"));
        }
        let root = BASE64_STANDARD
            .decode(root)
            .ok()
            .and_then(|bytes| Hash::try_from(bytes).ok());
        let root = root.ok_or(form("the root hash is not 32 bytes of base64"))?;
        Ok(Self {
            origin: (*origin).to_owned(),
            size: parsed,
            root,
        })
    }

    /// The signed note.
    pub fn sign(&self, key: &SigningKey) -> String {
        note::sign(&self.text(), key)
    }

    /// Verifies the note's signature, and that its origin belongs to the key.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let checkpoint = Self::parse(note::open(note, key)?)?;
        let below = checkpoint
            .origin
            .strip_prefix(key.name())
            .and_then(|rest| rest.strip_prefix('/'));
        if below.is_none_or(str::is_empty) {
            return Err(CheckpointError::Origin {
                origin: checkpoint.origin,
                key: key.name().to_owned(),
            });
        }
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    fn head(origin: &str) -> Checkpoint {
        Checkpoint {
            origin: origin.to_owned(),
            size: 41,
            root: tree::leaf_hash(b"x"),
        }
    }

    #[test]
    fn a_checkpoint_is_three_lines_and_reads_back() {
        let text = head("a/log/00").text();
        assert_eq!(text.lines().count(), 3);
        assert!(text.starts_with("a/log/00\n41\n"));
        assert_eq!(Checkpoint::parse(&text), Ok(head("a/log/00")));
    }

    #[test]
    fn extension_lines_other_forms_and_other_numbers_are_refused() {
        let text = head("a/log/00").text();
        for bad in [
            format!("{text}extension\n"),
            format!("{text}\n"),
            text.trim_end().to_owned(),
            text.replace("41", "041"),
            text.replace("41", "+41"),
            text.replace("41", "-1"),
            text.replace("41", ""),
            text.replace("41", "18446744073709551616"),
            text.replace("a/log/00", ""),
            text.replace('=', ""),
            format!("{}{}", &text[..text.len() - 6], "AAA=\n"),
            String::new(),
        ] {
            assert!(
                matches!(Checkpoint::parse(&bad), Err(CheckpointError::Form(_))),
                "{bad:?}"
            );
        }
    }

    /// T54, T59.
    #[test]
    fn the_origin_must_lie_below_the_key_name() {
        let key = SigningKey::generate("a/log").unwrap();
        assert_eq!(
            Checkpoint::open(&head("a/log/00").sign(&key), key.verifier()),
            Ok(head("a/log/00"))
        );
        for origin in ["a/log", "a/log/", "a/logs/00", "b/log/00"] {
            let opened = Checkpoint::open(&head(origin).sign(&key), key.verifier());
            assert!(matches!(opened, Err(CheckpointError::Origin { .. })), "{origin}");
        }
        let other = SigningKey::generate("a/log").unwrap();
        let opened = Checkpoint::open(&head("a/log/00").sign(&other), key.verifier());
        assert_eq!(
            opened,
            Err(CheckpointError::Note(NoteError::UnknownKey("a/log".to_owned())))
        );
    }
}
