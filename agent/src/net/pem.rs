//! PEM files that hold what they should and nothing else.
//!
//! The usual readers skip what they do not know; a trust file whose second half was lost to a bad edit would then
//! silently trust less, or a list of the revoked forget some.

use pki_types::pem::PemObject;

/// What a PEM file is wrong about, in one line.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum PemError {
    /// Text outside the sections that is neither empty nor a comment.
    #[error("line {0} is neither part of a PEM section nor a comment")]
    Stray(usize),
    /// A section of another kind.
    #[error("line {line} begins a section `{label}`, expected `{expected}`")]
    Label {
        /// The line, from 1.
        line: usize,
        /// What it says.
        label: String,
        /// What belongs here.
        expected: &'static str,
    },
    /// A section without its end, or an end of something else.
    #[error("the section that begins in line {0} does not end as it began")]
    Unfinished(usize),
    /// Base64 that is none.
    #[error("a section is not base64: {0}")]
    Encoding(String),
    /// No section at all.
    #[error("it holds no section `{0}`")]
    Empty(&'static str),
}

/// Every section of `text`, each of which must have one of `labels`; lines beginning with `#` are comments.
pub(super) fn sections<T: PemObject>(text: &[u8], labels: &[&'static str]) -> Result<Vec<T>, PemError> {
    let expected = labels.first().copied().unwrap_or_default();
    let mut open: Option<(usize, String)> = None;
    let mut found = 0;
    for (number, line) in text.split(|b| *b == b'\n').enumerate() {
        let (number, line) = (number + 1, String::from_utf8_lossy(line.trim_ascii()));
        let begins = line.strip_prefix("-----BEGIN ").and_then(|l| l.strip_suffix("-----"));
        let ends = line.strip_prefix("-----END ").and_then(|l| l.strip_suffix("-----"));
        match (&open, begins, ends) {
            (None, Some(label), _) if labels.contains(&label) => open = Some((number, label.to_owned())),
            (None, Some(label), _) => {
                let label = label.escape_debug().take(40).collect();
                return Err(PemError::Label { line: number, label, expected });
            }
            (None, None, None) if line.is_empty() || line.starts_with('#') => {}
            (None, None, _) => return Err(PemError::Stray(number)),
            (Some((_, label)), None, Some(end)) if label == end => {
                found += 1;
                open = None;
            }
            (Some((begin, _)), None, Some(_)) | (Some((begin, _)), Some(_), _) => {
                return Err(PemError::Unfinished(*begin));
            }
            (Some(_), None, None) => {}
        }
    }
    if let Some((begin, _)) = open {
        return Err(PemError::Unfinished(begin));
    }
    let items: Result<Vec<T>, _> = T::pem_slice_iter(text).collect();
    let items = items.map_err(|e| PemError::Encoding(e.to_string()))?;
    match items.len() {
        0 => Err(PemError::Empty(expected)),
        read if read == found => Ok(items),
        _ => Err(PemError::Encoding("not every section could be read".to_owned())),
    }
}
