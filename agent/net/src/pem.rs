//! Strict PEM parsing: a file must hold the expected sections and nothing else.
//!
//! The usual parsers skip what they do not know. A trust file that was damaged by an edit would then silently trust
//! fewer authorities, and a damaged revocation list would revoke fewer certificates.

use pki_types::pem::PemObject;

/// An error in a PEM file, in one line.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum PemError {
    /// Text outside the sections that is neither empty nor a comment.
    #[error("line {0} is neither part of a PEM section nor a comment")]
    Stray(usize),
    /// A section with an unexpected label.
    #[error("line {line} begins a section `{label}`, expected `{expected}`")]
    Label {
        /// The line, counted from 1.
        line: usize,
        /// Its label.
        label: String,
        /// The expected label.
        expected: &'static str,
    },
    /// A section without its end, or with the end of another one.
    #[error("the section that begins in line {0} does not end as it began")]
    Unfinished(usize),
    /// Invalid base64.
    #[error("a section is not base64: {0}")]
    Encoding(String),
    /// No section.
    #[error("it holds no section `{0}`")]
    Empty(&'static str),
}

/// Parses every section of `text`; each must have one of `labels`. Lines that begin with `#` are comments.
pub(crate) fn sections<T: PemObject>(text: &[u8], labels: &[&'static str]) -> Result<Vec<T>, PemError> {
    let expected = labels.first().copied().unwrap_or_default();
    let mut open: Option<(usize, String)> = None;
    let mut found = 0;
    for (number, line) in text.split(|b| *b == b'\n').enumerate() {
        let (number, line) = (number + 1, String::from_utf8_lossy(line.trim_ascii()));
        let begins = line
            .strip_prefix("-----BEGIN ")
            .and_then(|l| l.strip_suffix("-----"));
        let ends = line
            .strip_prefix("-----END ")
            .and_then(|l| l.strip_suffix("-----"));
        match (&open, begins, ends) {
            (None, Some(label), _) if labels.contains(&label) => open = Some((number, label.to_owned())),
            (None, Some(label), _) => {
                let label = label.escape_debug().take(40).collect();
                return Err(PemError::Label {
                    line: number,
                    label,
                    expected,
                });
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
