//! Parses the file and the environment to one value per key, each with its place.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, ConfigPlace, nearest, quoted};
use super::keys::{self, ConfigKey, Shape};

/// The prefix of an override; the section and the key follow in capitals, separated by two underscores.
pub(crate) const PREFIX: &str = "DEBUG_AGENT__";

/// A value of the shape its key asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Value {
    /// The version, which can only be 1.
    Version,
    /// A string.
    Text(String),
    /// `true` or `false`.
    Flag(bool),
    /// An array of strings.
    Texts(Vec<String>),
}

/// The values found so far and the mistakes made so far.
#[derive(Debug, Default)]
pub(crate) struct Document {
    path: PathBuf,
    values: BTreeMap<(&'static str, &'static str), (Value, ConfigPlace)>,
    /// Where each section's header is: the place of a missing key.
    sections: BTreeMap<String, ConfigPlace>,
    /// Keys that are present but wrong: they are not reported as missing, too.
    wrong: Vec<(&'static str, &'static str)>,
    mistakes: Vec<ConfigError>,
}

impl Document {
    /// Parses a file. A text that is not TOML yields its syntax errors and nothing else: mistakes in what the parser
    /// recovered after an error would be the parser's, not the author's.
    pub(crate) fn read(path: &Path, text: &[u8]) -> Result<Self, Vec<ConfigError>> {
        let text = std::str::from_utf8(text).map_err(|e| {
            let valid = text.get(..e.valid_up_to()).unwrap_or_default();
            let before = String::from_utf8_lossy(valid);
            let place = position(path, &before, before.len());
            vec![ConfigError {
                place,
                message: "not UTF-8".into(),
                help: "save the file as UTF-8".into(),
            }]
        })?;
        let (table, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            let mut document = Self {
                path: path.to_owned(),
                ..Self::default()
            };
            document.top(text, table.get_ref());
            return Ok(document);
        }
        let syntax = |e: &toml::de::Error| ConfigError {
            place: position(path, text, e.span().map_or(0, |s| s.start)),
            message: format!("not TOML: {}", e.message()),
            help: "correct the line; each is `key = value` or `[section]`, strings are quoted".into(),
        };
        Err(errors.iter().map(syntax).collect())
    }

    fn top(&mut self, text: &str, table: &DeTable<'_>) {
        for (name, value) in in_order(table) {
            let place = position(&self.path, text, name.span().start);
            match value.get_ref() {
                DeValue::Table(inside) if keys::is_section(name.get_ref()) => {
                    self.sections.insert(name.get_ref().to_string(), place);
                    self.section(text, name.get_ref(), inside);
                }
                _ if keys::is_section(name.get_ref()) => {
                    let message = format!("`{}` is {}, not a section", name.get_ref(), kind(value.get_ref()));
                    self.mistake(place, message, format!("write it as `[{}]`", name.get_ref()));
                }
                _ => self.entry(text, "", name, value),
            }
        }
    }

    fn section(&mut self, text: &str, section: &str, table: &DeTable<'_>) {
        for (name, value) in in_order(table) {
            self.entry(text, section, name, value);
        }
    }

    fn entry(
        &mut self,
        text: &str,
        section: &str,
        name: &Spanned<TomlName<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let place = position(&self.path, text, name.span().start);
        let Some(key) = keys::find(section, name.get_ref()) else {
            let name = name.get_ref();
            let message = match keys::later(name) {
                Some(_) => format!("`{name}` is not part of this version"),
                None => format!("unknown key {} {}", quoted(name), keys::whereabouts(section)),
            };
            return self.mistake(place, message, keys::advice(section, name));
        };
        let place = position(&self.path, text, value.span().start);
        match shaped(key, value.get_ref()) {
            Ok(value) => {
                self.values.insert((key.section, key.name), (value, place));
            }
            Err((message, help)) => {
                self.wrong.push((key.section, key.name));
                self.mistake(place, message, help);
            }
        }
    }

    /// Applies the variables that begin with [`PREFIX`] over the file; returns their names, sorted.
    pub(crate) fn override_from(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Vec<String> {
        let mut overrides: Vec<(String, OsString)> = variables
            .into_iter()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        overrides.sort();
        let production = self.is_production();
        let becomes_production = overrides
            .iter()
            .any(|(n, v)| *n == variable("", "environment") && v == PRODUCTION);
        for (name, value) in &overrides {
            if let Err((message, help)) =
                self.override_one(name, value, production, production || becomes_production)
            {
                self.mistake(ConfigPlace::Variable(name.clone()), message, help);
            }
        }
        overrides.into_iter().map(|(name, _)| name).collect()
    }

    fn override_one(
        &mut self,
        name: &str,
        value: &OsString,
        file: bool,
        effective: bool,
    ) -> Result<(), Complaint> {
        let Some(key) = overridable().find(|k| variable(k.section, k.name) == name) else {
            let known: Vec<String> = overridable().map(|k| variable(k.section, k.name)).collect();
            let help = match nearest(name, known.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("unset it; an override is spelled `{PREFIX}SECTION__KEY`, in capitals"),
            };
            return Err(("overrides a key that does not exist".to_owned(), help));
        };
        let locked = (effective && !key.in_production) || (file && key.name == "environment");
        if locked {
            let message = format!(
                "`{}` cannot be overridden where `environment` is `{PRODUCTION}`: who may set a variable of the \
                 service may not thereby decide who gets in",
                keys::dotted(key.section, key.name)
            );
            return Err((message, "unset it and change the configuration file".to_owned()));
        }
        let text = value
            .to_str()
            .ok_or_else(|| ("not UTF-8".to_owned(), "set it to UTF-8 text".to_owned()))?;
        let value = from_text(key, text)?;
        self.values.insert(
            (key.section, key.name),
            (value, ConfigPlace::Variable(name.to_owned())),
        );
        Ok(())
    }

    fn is_production(&self) -> bool {
        matches!(self.values.get(&("", "environment")), Some((Value::Text(e), _)) if e == PRODUCTION)
    }

    /// Takes the value of a key out of the document; `None` if it has none.
    pub(crate) fn take(&mut self, section: &'static str, name: &'static str) -> Option<(Value, ConfigPlace)> {
        self.values.remove(&(section, name))
    }

    /// Records that a key is missing, unless it is present and wrong.
    pub(crate) fn missing(&mut self, section: &'static str, name: &'static str, help: &str) {
        if self.wrong.contains(&(section, name)) {
            return;
        }
        let start = || ConfigPlace::At {
            path: self.path.clone(),
            line: 1,
            column: 1,
        };
        let place = self.sections.get(section).cloned().unwrap_or_else(start);
        self.mistake(
            place,
            format!("`{name}` is missing {}", keys::whereabouts(section)),
            help.to_owned(),
        );
    }

    /// Records a mistake.
    pub(crate) fn mistake(&mut self, place: ConfigPlace, message: String, help: String) {
        self.mistakes.push(ConfigError { place, message, help });
    }

    /// All mistakes, in the order of the file; those of the environment last.
    pub(crate) fn into_mistakes(mut self) -> Vec<ConfigError> {
        self.mistakes.sort_by_key(|m| match &m.place {
            ConfigPlace::At { line, column, .. } => (0, *line, *column),
            ConfigPlace::File(_) => (0, 0, 0),
            ConfigPlace::Variable(_) => (1, 0, 0),
        });
        self.mistakes
    }
}

/// The value of `environment` under which variables cannot override access.
const PRODUCTION: &str = "production";

type TomlName<'i> = toml::de::DeString<'i>;
/// Message and advice; the caller adds the place.
type Complaint = (String, String);

/// The keys that a variable can override: all but `version`, which describes the file.
fn overridable() -> impl Iterator<Item = &'static ConfigKey> {
    keys::KEYS.iter().filter(|k| k.shape != Shape::Version)
}

/// The variable that overrides a key: `DEBUG_AGENT__LISTEN__ADDRESS`.
fn variable(section: &str, name: &str) -> String {
    let separator = if section.is_empty() { "" } else { "__" };
    format!(
        "{PREFIX}{}{separator}{}",
        section.to_uppercase(),
        name.to_uppercase()
    )
}

/// A table's entries in the order of the file; the parser sorts them by name.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Spanned<TomlName<'i>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

fn position(path: &Path, text: &str, offset: usize) -> ConfigPlace {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    ConfigPlace::At {
        path: path.to_owned(),
        line,
        column,
    }
}

fn shaped(key: &ConfigKey, value: &DeValue<'_>) -> Result<Value, Complaint> {
    let dotted = keys::dotted(key.section, key.name);
    let expected = match (key.shape, value) {
        (Shape::Version, DeValue::Integer(number)) if number.as_str() == "1" && number.radix() == 10 => {
            return Ok(Value::Version);
        }
        (Shape::Version, DeValue::Integer(number)) => {
            let message = format!(
                "version {} of the configuration is not known here",
                quoted(number.as_str())
            );
            return Err((
                message,
                "write `version = 1`, or use the agent that this file was written for".into(),
            ));
        }
        (Shape::Text, DeValue::String(text)) => return Ok(Value::Text(text.to_string())),
        (Shape::Flag, DeValue::Boolean(flag)) => return Ok(Value::Flag(*flag)),
        (Shape::Texts, DeValue::Array(items)) => {
            let texts: Option<Vec<String>> = items
                .iter()
                .map(|i| Some(i.get_ref().as_str()?.to_owned()))
                .collect();
            match texts {
                Some(texts) => return Ok(Value::Texts(texts)),
                None => "an array of strings, such as `[\"*token*\"]`",
            }
        }
        (Shape::Version, _) => "the number `1`",
        (Shape::Text, _) => "a string in quotes",
        (Shape::Flag, _) => "`true` or `false`",
        (Shape::Texts, _) => "an array of strings, such as `[\"*token*\"]`",
    };
    Err((
        format!("`{dotted}` is {}", kind(value)),
        format!("write {expected}"),
    ))
}

fn from_text(key: &ConfigKey, text: &str) -> Result<Value, Complaint> {
    if key.shape == Shape::Text {
        return Ok(Value::Text(text.to_owned()));
    }
    let value = DeValue::parse(text).map_err(|_| {
        (
            format!("{} is not a value", quoted(text)),
            "write it as in the file: `true`, `[\"a\", \"b\"]`".to_owned(),
        )
    })?;
    shaped(key, value.get_ref())
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "`true` or `false`",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
