//! Signed notes (C2SP `signed-note`) with Ed25519 keys.
//!
//! A note is UTF-8 without control characters other than newline: a text that ends in a newline, an empty line, and signature
//! lines `— <key name> <base64(4-byte key id || signature)>`. The signature covers the text with its last newline, without the
//! empty line.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::Signer;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

#[cfg(test)]
mod tests;

/// The limit on a note, in bytes: a checkpoint is under 1 KiB, and 64 Ed25519 cosignatures with the longest key names take under
/// 24 KiB.
pub const MAX_NOTE: usize = 64 * 1024;
/// The limit on signature lines; C2SP asks for at least 16.
pub const MAX_SIGNATURES: usize = 64;
/// The limit on a key name, in bytes: ample for trust domain, service and instance.
pub const MAX_KEY_NAME: usize = 255;

/// The type of an Ed25519 key in key ids and key texts.
const ED25519: u8 = 1;
/// The beginning of a signature line: U+2014 and a space.
const DASH: &str = "— ";
/// The beginning of a signing key's text, as Go's `sumdb/note` writes it.
const PRIVATE: &str = "PRIVATE+KEY+";

/// Why a key's text is rejected.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// The name breaks the rules of C2SP or is longer than [`MAX_KEY_NAME`].
    #[error("the key name `{}` is empty, too long, or holds a space, a `+` or a control character", .0.escape_debug())]
    Name(String),
    /// The text is not `name+hash+base64` (with `PRIVATE+KEY+` before it for a signing key).
    #[error("the key text is not of the form `{0}`")]
    Form(&'static str),
    /// Not an Ed25519 key.
    #[error("the key is of type {0}, and only type 1 (Ed25519) is known")]
    Type(u8),
    /// The hash in the text is not the hash of the key.
    #[error("the key's hash is `{found}`, its text says `{expected}`: the text was changed or mistyped")]
    Hash {
        /// The hash computed from name and key.
        found: String,
        /// The hash in the text.
        expected: String,
    },
    /// The 32 bytes are no point of the curve, or one of the few weak points that accept forged signatures.
    #[error("the public key is not a sound Ed25519 key")]
    Point,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

/// Why a note is rejected.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoteError {
    /// Longer than [`MAX_NOTE`] or more signatures than [`MAX_SIGNATURES`].
    #[error("the note is too large: at most {MAX_NOTE} bytes and {MAX_SIGNATURES} signatures are read")]
    TooLarge,
    /// Not in the form of a note.
    #[error("not a signed note: {0}")]
    Form(&'static str),
    /// No signature by the expected key.
    #[error("the note is not signed by the key `{0}`")]
    UnknownKey(String),
    /// A line with the expected key's name and id holds a signature that the key did not make.
    #[error("the signature by the key `{0}` does not fit the note: the note or its signature was changed")]
    Signature(String),
}

/// The public half of a key: its name, id and 32 bytes.
///
/// Its text is a vkey: `name+<8 hex of the id>+base64(0x01 || key)`.
#[derive(Clone, Eq, PartialEq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    key: ed25519_dalek::VerifyingKey,
}

impl VerifierKey {
    /// Parses a vkey.
    ///
    /// # Errors
    /// [`KeyError`]; a weak key is rejected too, since it would accept forged signatures.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let form = KeyError::Form("name+hash+base64");
        let (name, hash, encoded) = parts(text).ok_or(form.clone())?;
        let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| form.clone())?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(&typed_key(&bytes, form)?)
            .map_err(|_| KeyError::Point)?;
        if key.is_weak() {
            return Err(KeyError::Point);
        }
        Self::new(name, key)?.with_hash(hash)
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's id: the first 4 bytes of `SHA-256(name || 0x0A || 0x01 || key)`.
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    fn new(name: &str, key: ed25519_dalek::VerifyingKey) -> Result<Self, KeyError> {
        check_name(name)?;
        let hash = Sha256::new()
            .chain_update(name)
            .chain_update([b'\n', ED25519])
            .chain_update(key.as_bytes());
        let [a, b, c, d, ..]: [u8; 32] = hash.finalize().into();
        Ok(Self {
            name: name.to_owned(),
            id: [a, b, c, d],
            key,
        })
    }

    fn with_hash(self, expected: &str) -> Result<Self, KeyError> {
        let found = hex(&self.id);
        if found == expected {
            Ok(self)
        } else {
            Err(KeyError::Hash {
                found,
                expected: expected.to_owned(),
            })
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let typed = [&[ED25519], self.key.as_bytes().as_slice()].concat();
        write!(
            f,
            "{}+{}+{}",
            self.name,
            hex(&self.id),
            BASE64_STANDARD.encode(typed)
        )
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::parse(text)
    }
}

/// A key that signs notes. Wiped from memory when dropped; `Debug` shows only the public half.
#[derive(Clone)]
pub struct SigningKey {
    public: VerifierKey,
    key: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// Generates a key from the system's random bytes.
    ///
    /// # Errors
    /// [`KeyError::Name`] or [`KeyError::Random`].
    pub fn generate(name: &str) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|error| KeyError::Random(error.to_string()))?;
        Self::from_seed(name, &seed)
    }

    /// Parses Go's text form, `PRIVATE+KEY+name+hash+base64(0x01 || 32-byte seed)`. One newline after it is allowed.
    ///
    /// # Errors
    /// [`KeyError`]; it never contains a part of the seed.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let form = KeyError::Form("PRIVATE+KEY+name+hash+base64");
        let text = text.strip_suffix('\n').unwrap_or(text);
        let (name, hash, encoded) = text.strip_prefix(PRIVATE).and_then(parts).ok_or(form.clone())?;
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(encoded).map_err(|_| form.clone())?);
        let key = Self::from_seed(name, &Zeroizing::new(typed_key(&bytes, form)?))?;
        key.public.clone().with_hash(hash)?;
        Ok(key)
    }

    /// The text that [`SigningKey::parse`] reads, without a newline.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut typed = Zeroizing::new([ED25519; 33]);
        typed[1..].copy_from_slice(self.key.as_bytes());
        let encoded = Zeroizing::new(BASE64_STANDARD.encode(typed.as_slice()));
        Zeroizing::new(format!(
            "{PRIVATE}{}+{}+{}",
            self.public.name,
            hex(&self.public.id),
            encoded.as_str()
        ))
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.public.name
    }

    /// The public half.
    pub fn verifier(&self) -> &VerifierKey {
        &self.public
    }

    fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        Ok(Self {
            public: VerifierKey::new(name, key.verifying_key())?,
            key,
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public)
    }
}

/// Signs `text`, which must end in a newline, and returns the note.
pub fn sign(text: &str, key: &SigningKey) -> String {
    let signature = key.key.sign(text.as_bytes()).to_bytes();
    let encoded = BASE64_STANDARD.encode([&key.public.id, signature.as_slice()].concat());
    format!("{text}\n{DASH}{} {encoded}\n", key.public.name)
}

/// Verifies a note and returns its text.
///
/// Signature lines with another name or id than the key's are ignored. Each line with both must verify (strictly: no weak keys,
/// no malleable signatures), and there must be at least one.
///
/// # Errors
/// [`NoteError`]; no part of a rejected note may be used.
pub fn open<'n>(note: &'n str, key: &VerifierKey) -> Result<&'n str, NoteError> {
    let (text, signatures) = split(note)?;
    let mut signed = false;
    for (name, encoded) in signatures {
        let bytes = BASE64_STANDARD
            .decode(encoded)
            .map_err(|_| NoteError::Form("a signature is not base64"))?;
        let Some((id, signature)) = bytes.split_first_chunk::<4>() else {
            return Err(NoteError::Form("a signature is shorter than a key id"));
        };
        if name != key.name || *id != key.id {
            continue;
        }
        let verified = ed25519_dalek::Signature::from_slice(signature)
            .and_then(|signature| key.key.verify_strict(text.as_bytes(), &signature));
        verified.map_err(|_| NoteError::Signature(key.name.clone()))?;
        signed = true;
    }
    if signed {
        Ok(text)
    } else {
        Err(NoteError::UnknownKey(key.name.clone()))
    }
}

/// The text of a note without verifying its signatures; only for showing what the note claims.
///
/// # Errors
/// [`NoteError::TooLarge`] or [`NoteError::Form`].
pub fn dangerous_text_of(note: &str) -> Result<&str, NoteError> {
    split(note).map(|(text, _)| text)
}

/// The name and base64 of a signature line.
type SignatureLine<'n> = (&'n str, &'n str);

/// Splits a note into its text and its signature lines.
fn split(note: &str) -> Result<(&str, Vec<SignatureLine<'_>>), NoteError> {
    if note.len() > MAX_NOTE {
        return Err(NoteError::TooLarge);
    }
    if note.chars().any(|c| c < ' ' && c != '\n') {
        return Err(NoteError::Form("it holds a control character"));
    }
    // The text may hold empty lines itself, so the last one separates.
    let Some(blank) = note.rfind("\n\n") else {
        return Err(NoteError::Form("no empty line between text and signatures"));
    };
    let (text, lines) = (&note[..=blank], &note[blank + 2..]);
    let Some(lines) = lines.strip_suffix('\n') else {
        return Err(NoteError::Form(
            "no signature line, or the last one lacks its newline",
        ));
    };
    let mut signatures = Vec::new();
    for line in lines.split('\n') {
        if signatures.len() == MAX_SIGNATURES {
            return Err(NoteError::TooLarge);
        }
        let parts = line.strip_prefix(DASH).and_then(|rest| rest.split_once(' '));
        let Some((name, encoded)) = parts.filter(|(name, _)| check_name(name).is_ok()) else {
            return Err(NoteError::Form("a signature line is not `— name base64`"));
        };
        signatures.push((name, encoded));
    }
    Ok((text, signatures))
}

fn check_name(name: &str) -> Result<(), KeyError> {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
    if name.is_empty() || name.len() > MAX_KEY_NAME || !name.chars().all(plain) {
        return Err(KeyError::Name(name.chars().take(MAX_KEY_NAME).collect()));
    }
    Ok(())
}

/// Splits `name+hash+base64`; the base64 may contain `+`.
fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_once('+')?;
    let (hash, encoded) = rest.split_once('+')?;
    Some((name, hash, encoded))
}

fn typed_key(bytes: &[u8], form: KeyError) -> Result<[u8; 32], KeyError> {
    let (kind, key) = bytes.split_first().ok_or(form.clone())?;
    if *kind != ED25519 {
        return Err(KeyError::Type(*kind));
    }
    key.try_into().map_err(|_| form)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
