//! Reading a log's lines in order and in bounded memory, for any content of the files.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::line::{self, MAX_LINE};

/// The name of a file of records, before and after its first sequence number.
const PREFIX: &str = "records-";
const SUFFIX: &str = ".jsonl";

/// A place in a log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The file's name in the log's folder.
    pub file: Arc<str>,
    /// The line in that file, counted from 1.
    pub line: u64,
    /// The record's sequence number, counted from 0.
    pub seq: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "record {} (`{}`, line {})",
            self.seq,
            self.file.escape_debug(),
            self.line
        )
    }
}

/// One record, as on disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// The record's sequence number.
    pub seq: u64,
    /// The line without its newline: a JSON object, at most [`MAX_LINE`] bytes.
    pub bytes: Vec<u8>,
    /// The name of its file.
    pub file: Arc<str>,
    /// The line in that file, counted from 1.
    pub line: u64,
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file or the folder cannot be read.
    #[error("cannot read `{}`", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A line in a form that no log writes.
    #[error("{place} is broken: {reason}")]
    Broken {
        /// The line's place.
        place: Place,
        /// Why it is rejected.
        reason: String,
    },
    /// The last line lacks its newline: it is being written, or a crash cut it.
    #[error("{place} is torn: its line has no end")]
    Torn {
        /// The line's place.
        place: Place,
    },
    /// A file begins later than the previous one ends.
    #[error("the records {first} to {last} are missing before `{file}`")]
    Missing {
        /// The first missing record.
        first: u64,
        /// The last missing record.
        last: u64,
        /// The file that follows the gap.
        file: Arc<str>,
    },
}

/// Reads a log's records in order without verifying them against a checkpoint: for showing, not for trusting.
///
/// A broken record is reported in its place, and reading continues after it; [`ReadError::Io`] ends the iteration.
pub struct Reader {
    raw: Option<RawLines>,
}

impl Reader {
    /// Opens the log in `dir` for reading, live or a copy; takes no lock.
    ///
    /// # Errors
    /// [`ReadError::Io`] if the folder cannot be listed or has no file of records.
    pub fn open(dir: &Path) -> Result<Self, ReadError> {
        let raw = RawLines::open(dir)?;
        if raw.files.is_empty() {
            let source = io::Error::new(io::ErrorKind::NotFound, "no file `records-0.jsonl`");
            return Err(ReadError::Io {
                path: dir.to_owned(),
                source,
            });
        }
        Ok(Self { raw: Some(raw) })
    }
}

impl Iterator for Reader {
    type Item = Result<Line, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut bytes = Vec::new();
        match self.raw.as_mut()?.next(&mut bytes) {
            Ok(None) => None,
            Ok(Some(Raw::Line(at))) => Some(match checked(&at, &bytes) {
                Ok(()) => {
                    let Place { file, line, seq } = at.place;
                    Ok(Line {
                        seq,
                        bytes,
                        file,
                        line,
                    })
                }
                Err(error) => Err(error),
            }),
            Ok(Some(Raw::Gap { first, last, file })) => Some(Err(ReadError::Missing { first, last, file })),
            Err(error) => {
                self.raw = None;
                Some(Err(error))
            }
        }
    }
}

/// Checks that a line is complete and in the form that a log writes.
pub(crate) fn checked(at: &LinePlace, bytes: &[u8]) -> Result<(), ReadError> {
    let broken = |reason| ReadError::Broken {
        place: at.place.clone(),
        reason,
    };
    match at.end {
        LogEnd::Torn => Err(ReadError::Torn {
            place: at.place.clone(),
        }),
        LogEnd::TooLong => Err(broken(format!("it is longer than {MAX_LINE} bytes"))),
        LogEnd::Newline => line::check(bytes, at.place.seq).map_err(broken),
    }
}

/// How a line ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LogEnd {
    Newline,
    /// At the end of the file, without a newline.
    Torn,
    /// With a newline after more than [`MAX_LINE`] bytes; only the first of them are returned.
    TooLong,
}

/// A line's place in the log, found by counting lines; the number in the line itself is not read.
#[derive(Clone, Debug)]
pub(crate) struct LinePlace {
    pub(crate) place: Place,
    /// The offset at which it begins in the file, in bytes.
    pub(crate) offset: u64,
    pub(crate) end: LogEnd,
    /// Whether the file is the log's last.
    pub(crate) last_file: bool,
}

pub(crate) enum Raw {
    Line(LinePlace),
    Gap { first: u64, last: u64, file: Arc<str> },
}

/// The lines of all files in order; of a file with a successor, only the lines before the successor's first.
pub(crate) struct RawLines {
    dir: PathBuf,
    /// First sequence number and name, in order.
    pub(crate) files: Vec<(u64, Arc<str>)>,
    /// The index of the file being read.
    at: usize,
    open: Option<BufReader<File>>,
    seq: u64,
    line: u64,
    offset: u64,
}

impl RawLines {
    pub(crate) fn open(dir: &Path) -> Result<Self, ReadError> {
        let files = list(dir).map_err(|source| ReadError::Io {
            path: dir.to_owned(),
            source,
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            files,
            at: 0,
            open: None,
            seq: 0,
            line: 0,
            offset: 0,
        })
    }

    /// Reads the next line into `bytes` (at most [`MAX_LINE`] of it, without the newline).
    pub(crate) fn next(&mut self, bytes: &mut Vec<u8>) -> Result<Option<Raw>, ReadError> {
        loop {
            let Some((first, name)) = self.files.get(self.at).cloned() else {
                return Ok(None);
            };
            if self.seq < first {
                let gap = Raw::Gap {
                    first: self.seq,
                    last: first - 1,
                    file: name,
                };
                self.seq = first;
                return Ok(Some(gap));
            }
            // A later file supersedes an earlier one from its first record on.
            let superseded = self
                .files
                .get(self.at + 1)
                .is_some_and(|(next, _)| *next <= self.seq);
            let found = if superseded {
                None
            } else {
                self.read(&name, bytes)?
            };
            let Some((end, length)) = found else {
                (self.at, self.open) = (self.at + 1, None);
                continue;
            };
            self.line += 1;
            let place = Place {
                file: name,
                line: self.line,
                seq: self.seq,
            };
            let at = LinePlace {
                place,
                offset: self.offset,
                end,
                last_file: self.at + 1 == self.files.len(),
            };
            self.seq += 1;
            self.offset += length;
            return Ok(Some(Raw::Line(at)));
        }
    }

    fn read(&mut self, name: &str, bytes: &mut Vec<u8>) -> Result<Option<(LogEnd, u64)>, ReadError> {
        let path = self.dir.join(name);
        let mut read = || {
            let reader = match &mut self.open {
                Some(reader) => reader,
                None => {
                    (self.line, self.offset) = (0, 0);
                    self.open
                        .insert(BufReader::with_capacity(64 * 1024, open_file(&path)?))
                }
            };
            read_line(reader, bytes)
        };
        read().map_err(|source| ReadError::Io {
            path: path.clone(),
            source,
        })
    }
}

/// The files of records in `dir`, in order of their first sequence number.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<(u64, Arc<str>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let first = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_suffix(SUFFIX)?.parse().ok());
        // `records-007.jsonl` is not ours: each number has one name.
        if let Some(first) = first.filter(|first| file_name(*first) == name) {
            files.push((first, Arc::from(name)));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The name of the file that begins with record `first`.
pub(crate) fn file_name(first: u64) -> String {
    format!("{PREFIX}{first}{SUFFIX}")
}

/// Opens a regular file for reading; follows no link, and does not block on a pipe.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// Reads a whole file of at most `max` bytes.
pub(crate) fn read_small(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_file(path)?.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("more than {max} bytes"),
        ));
    }
    Ok(bytes)
}

/// The line at `offset`, without its newline; `None` if it is incomplete.
pub(crate) fn line_at(path: &Path, offset: u64) -> io::Result<Option<Vec<u8>>> {
    let mut file = open_file(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    let found = read_line(&mut BufReader::new(file), &mut bytes)?;
    Ok(found.filter(|(end, _)| *end == LogEnd::Newline).map(|_| bytes))
}

/// Reads one line. Returns how it ends and its full length in the file, or `None` at the end of the file.
pub(crate) fn read_line(reader: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<Option<(LogEnd, u64)>> {
    bytes.clear();
    let limit = MAX_LINE as u64 + 1;
    let length = reader.by_ref().take(limit).read_until(b'\n', bytes)? as u64;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        return Ok(Some((LogEnd::Newline, length)));
    }
    if length < limit {
        return Ok((length > 0).then_some((LogEnd::Torn, length)));
    }
    bytes.truncate(MAX_LINE);
    let (more, ended) = skip_line(reader)?;
    Ok(Some((
        if ended { LogEnd::TooLong } else { LogEnd::Torn },
        length + more,
    )))
}

/// Skips to the end of the line. Returns the length skipped and whether there was a newline.
fn skip_line(reader: &mut impl BufRead) -> io::Result<(u64, bool)> {
    let mut skipped = 0;
    loop {
        let buffer = reader.fill_buf()?;
        let newline = buffer.iter().position(|b| *b == b'\n');
        let taken = newline.map_or(buffer.len(), |at| at + 1);
        reader.consume(taken);
        skipped += taken as u64;
        if newline.is_some() || taken == 0 {
            return Ok((skipped, newline.is_some()));
        }
    }
}
