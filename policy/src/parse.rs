//! From the text of a policy to its rules, or to the first fault and its place.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::pattern::{Glob, Pattern, kinds};
use crate::resource::check_operator;
use crate::rule::{AllowOrDeny, Audience, Conditions, Reason, Rule};
use crate::text::{nearest, shown};
use crate::{Action, PolicyError, RuleRef, is_hidden, parse_duration};

/// The limit on a policy, in bytes: 256 KiB, a thousand rules with room to explain them.
pub const MAX_POLICY: usize = 256 << 10;
/// The limit on rules: a larger policy could not be reviewed, and a decision would take too long.
pub const MAX_RULES: usize = 1000;
/// The limit on entries of one list in a rule.
pub const MAX_LIST: usize = 256;
/// The limit on a rule's `id`, a role and an environment, in bytes.
const MAX_NAME: usize = 64;
/// The limit on a `why` and on the pattern of a reason, in characters.
const MAX_LINE: usize = 200;
/// How much of a refused word an error shows, in characters.
const SHOWN: usize = 60;

const POLICY_KEYS: &[&str] = &["version", "rule"];
const RULE_KEYS: &[&str] = &[
    "id",
    "why",
    "allow",
    "deny",
    "roles",
    "operators",
    "on",
    "except",
    "environments",
    "max_ttl",
    "max_life",
    "reason",
];
/// Conditions of later versions. Ignoring one would make a rule allow more than its author wrote.
const LATER_KEYS: &[&str] = &["approvals", "hours", "peers", "break_glass"];
/// Actions of later versions. The nearest known action would be another right than the author meant.
const LATER_ACTIONS: &[&str] = &[
    "watch",
    "tail",
    "profile",
    "call",
    "approve",
    "end_session",
    "lock",
    "read_audit",
];

type TomlValue<'i> = Spanned<DeValue<'i>>;
type ParseResult<T> = Result<T, PolicyError>;

/// Parses the rules of a policy.
pub(crate) fn rules(text: &str) -> ParseResult<Vec<Rule>> {
    let parser = Parser { text };
    parser.check_text()?;
    let document = DeTable::parse(text).map_err(|error| parser.not_toml(&error))?;
    let document = document.get_ref();
    parser.check_keys(document, POLICY_KEYS, "a policy")?;
    parser.check_version(document)?;
    let Some(rules) = document.get("rule") else {
        return Err(parser.error(
            &(0..0),
            "the policy has no rule",
            "add a `[[rule]]`; without one nothing is allowed",
        ));
    };
    let DeValue::Array(list) = rules.get_ref() else {
        return Err(parser.error(
            &rules.span(),
            "`rule` is one table",
            "write `[[rule]]`, with two brackets on each side",
        ));
    };
    if list.is_empty() || list.len() > MAX_RULES {
        return Err(parser.error(
            &rules.span(),
            format!("expected 1 to {MAX_RULES} rules, found {}", list.len()),
            "",
        ));
    }
    let mut read: Vec<Rule> = Vec::with_capacity(list.len());
    let mut ids = std::collections::HashSet::new();
    for value in list.iter() {
        let (rule, id) = parser.rule(value)?;
        if !ids.insert(rule.name.id.clone()) {
            let message = format!("a second rule has the id `{}`", rule.name.id);
            return Err(parser.error(
                &id,
                message,
                "records and denials name rules by id; give each its own",
            ));
        }
        read.push(rule);
    }
    Ok(read)
}

#[derive(Clone, Copy)]
struct Parser<'t> {
    text: &'t str,
}

/// A rule's table, with the place to report if a key is missing.
struct RuleFields<'a, 'i> {
    table: &'a DeTable<'i>,
    span: Range<usize>,
}

impl<'a, 'i> RuleFields<'a, 'i> {
    fn get(&self, key: &str) -> Option<&'a TomlValue<'i>> {
        self.table.get(key)
    }

    /// The place of the key, or of the rule if the key is missing.
    fn key(&self, key: &str) -> Range<usize> {
        self.table
            .get_key_value(key)
            .map_or_else(|| self.span.clone(), |(key, _)| key.span())
    }
}

impl Parser<'_> {
    fn error(self, span: &Range<usize>, message: impl Into<String>, help: impl Into<String>) -> PolicyError {
        PolicyError::new(self.text, span, message, help)
    }

    fn not_toml(self, error: &toml::de::Error) -> PolicyError {
        let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        self.error(
            &error.span().unwrap_or(0..0),
            shown(&message, MAX_LINE),
            "a policy is written in TOML",
        )
    }

    /// The checks before the text is parsed as TOML.
    fn check_text(self) -> ParseResult<()> {
        if self.text.len() > MAX_POLICY {
            let message = format!(
                "the policy has {} bytes, expected at most {MAX_POLICY}",
                self.text.len()
            );
            return Err(self.error(&(0..0), message, "split what it grants into fewer, broader rules"));
        }
        if self.text.trim().is_empty() {
            return Err(self.error(
                &(0..0),
                "the policy is empty",
                "begin with `version = 1` and a `[[rule]]`",
            ));
        }
        // A rule that an editor shows in another place, or does not show, has not been reviewed.
        for (at, c) in self.text.char_indices() {
            let newline = c == '\n' || (c == '\r' && self.text[at..].starts_with("\r\n"));
            if is_hidden(c) && !newline && c != '\t' {
                let name = if c == '\u{feff}' {
                    "a byte order mark"
                } else {
                    "an invisible or control character"
                };
                let message = format!("{name} (U+{:04X})", u32::from(c));
                return Err(self.error(
                    &(at..at + c.len_utf8()),
                    message,
                    "remove it: a policy is what its readers see",
                ));
            }
        }
        Ok(())
    }

    fn check_keys(self, table: &DeTable<'_>, known: &[&str], what: &str) -> ParseResult<()> {
        let mut keys: Vec<_> = table.keys().collect();
        keys.sort_by_key(|key| key.span().start);
        for key in keys {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            if LATER_KEYS.contains(&name) {
                let help =
                    "remove the rule until the agent is newer: without this condition it would allow more";
                return Err(self.error(
                    &key.span(),
                    format!("this version does not know `{name}` yet"),
                    help,
                ));
            }
            let message = format!(
                "unknown key `{}`{}",
                shown(name, SHOWN),
                did_you_mean(name, known)
            );
            return Err(self.error(
                &key.span(),
                message,
                format!("{what} has the keys {}", quoted(known)),
            ));
        }
        Ok(())
    }

    fn check_version(self, document: &DeTable<'_>) -> ParseResult<()> {
        let help = "write `version = 1` as the first line";
        let Some(version) = document.get("version") else {
            return Err(self.error(&(0..0), "`version` is missing", help));
        };
        match version.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 && number.as_str() == "1" => Ok(()),
            _ => Err(self.error(
                &version.span(),
                "this is no version that this agent knows: expected `1`",
                help,
            )),
        }
    }

    /// Parses a rule; returns the place of its id, too.
    fn rule(self, value: &TomlValue<'_>) -> ParseResult<(Rule, Range<usize>)> {
        let DeValue::Table(table) = value.get_ref() else {
            return Err(self.error(
                &value.span(),
                "this is no rule",
                "write each rule as a `[[rule]]`",
            ));
        };
        let fields = RuleFields {
            table,
            span: value.span(),
        };
        self.check_keys(table, RULE_KEYS, "a rule")?;
        let id = self.required(&fields, "id")?;
        let why = self.required(&fields, "why")?;
        let name = RuleRef {
            id: self.name(id, "id")?,
            why: self.line(why, "why")?,
        };
        let (effect, actions) = self.effect(&fields)?;
        let on = self.list(&fields, "on", |v| self.pattern(v))?;
        let rule = Rule {
            name,
            effect,
            actions,
            audience: Audience {
                roles: self.list(&fields, "roles", |v| self.name(v, "role"))?,
                operators: self.list(&fields, "operators", |v| self.operator(v))?,
                environments: self.list(&fields, "environments", |v| self.name(v, "environment"))?,
            },
            kinds: kinds(&on),
            on,
            except: self.list(&fields, "except", |v| self.pattern(v))?,
        };
        Ok((rule, id.span()))
    }

    fn effect(self, fields: &RuleFields<'_, '_>) -> ParseResult<(AllowOrDeny, u32)> {
        let conditions = self.conditions(fields)?;
        match (fields.get("allow"), fields.get("deny")) {
            (Some(_), None) => {
                let actions = self.list(fields, "allow", |v| self.action(v))?;
                for key in ["max_ttl", "max_life"] {
                    if fields.get(key).is_some() && !actions.iter().any(|a| a.sets_deadline()) {
                        let message =
                            format!("`{key}` bounds nothing: no action of this rule sets a deadline");
                        return Err(self.error(
                            &fields.key(key),
                            message,
                            "those that do are write, patch, confirm and extend",
                        ));
                    }
                }
                if fields.get("reason").is_some() && actions.contains(&Action::Attach) {
                    let help =
                        "no operator can give one before being attached; put `attach` into a rule of its own";
                    return Err(self.error(
                        &fields.key("reason"),
                        "`reason` asks one of `attach`, which has none",
                        help,
                    ));
                }
                Ok((AllowOrDeny::Allow(conditions), bits(&actions)))
            }
            (None, Some(_)) => {
                for key in ["max_ttl", "max_life", "reason"] {
                    if fields.get(key).is_some() {
                        let message = format!("`{key}` on a rule that denies");
                        let help =
                            "a rule that denies has no conditions; put the bound on the rule that allows";
                        return Err(self.error(&fields.key(key), message, help));
                    }
                }
                Ok((
                    AllowOrDeny::Deny,
                    bits(&self.list(fields, "deny", |v| self.action(v))?),
                ))
            }
            (Some(_), Some(_)) => Err(self.error(
                &fields.key("deny"),
                "the rule has both `allow` and `deny`",
                "make two rules of it",
            )),
            (None, None) => Err(self.error(
                &fields.span,
                "the rule has neither `allow` nor `deny`",
                "add `allow = [\"read\"]` or the like",
            )),
        }
    }

    fn conditions(self, fields: &RuleFields<'_, '_>) -> ParseResult<Conditions> {
        let duration = |key| fields.get(key).map(|value| self.duration(value)).transpose();
        let reason = fields
            .get("reason")
            .map(|value| self.line(value, "reason"))
            .transpose()?;
        Ok(Conditions {
            max_ttl: duration("max_ttl")?,
            max_life: duration("max_life")?,
            reason: reason.map(|text| Reason {
                glob: Glob::new(&text),
                text,
            }),
        })
    }

    fn required<'a, 'i>(self, fields: &RuleFields<'a, 'i>, key: &str) -> ParseResult<&'a TomlValue<'i>> {
        fields.get(key).ok_or_else(|| {
            let help = "every rule has an `id` and a `why`, which denials and records show";
            self.error(&fields.span, format!("the rule has no `{key}`"), help)
        })
    }

    /// Parses a list. A missing list is empty; a written empty list is an error, as it could mean all or none.
    fn list<T>(
        self,
        fields: &RuleFields<'_, '_>,
        key: &str,
        item: impl Fn(&TomlValue<'_>) -> ParseResult<T>,
    ) -> ParseResult<Vec<T>> {
        let Some(value) = fields.get(key) else {
            return Ok(Vec::new());
        };
        let DeValue::Array(items) = value.get_ref() else {
            let message = format!("`{key}` is {}, expected a list", kind(value));
            return Err(self.error(&value.span(), message, format!("write `{key} = [\"…\"]`")));
        };
        if items.is_empty() {
            let help = "an empty list could be read as all or as none: leave the key out, or name something";
            return Err(self.error(&value.span(), format!("`{key}` is empty"), help));
        }
        if items.len() > MAX_LIST {
            let message = format!("`{key}` has {} entries, expected at most {MAX_LIST}", items.len());
            return Err(self.error(
                &value.span(),
                message,
                "use patterns or roles instead of naming each",
            ));
        }
        items.iter().map(item).collect()
    }

    fn string<'v>(self, value: &'v TomlValue<'_>) -> ParseResult<&'v str> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text),
            _ => Err(self.error(
                &value.span(),
                format!("this is {}, expected text in quotes", kind(value)),
                "",
            )),
        }
    }

    fn name(self, value: &TomlValue<'_>, what: &str) -> ParseResult<String> {
        let text = self.string(value)?;
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(fits) {
            let message = format!(
                "`{}` is no {what}: expected 1 to {MAX_NAME} of `a-z 0-9 -`",
                shown(text, SHOWN)
            );
            let help = if text.contains('*') {
                "names are no patterns; leave the key out to mean every one"
            } else {
                ""
            };
            return Err(self.error(&value.span(), message, help));
        }
        Ok(text.to_owned())
    }

    fn operator(self, value: &TomlValue<'_>) -> ParseResult<String> {
        let text = self.string(value)?;
        check_operator(text).map_err(|error| self.error(&value.span(), error.to_string(), ""))?;
        Ok(text.to_owned())
    }

    fn line(self, value: &TomlValue<'_>, what: &str) -> ParseResult<String> {
        let text = self.string(value)?;
        if text.trim().is_empty() || text.chars().count() > MAX_LINE || text.chars().any(is_hidden) {
            let message = format!("`{what}` is not one line of 1 to {MAX_LINE} characters");
            return Err(self.error(&value.span(), message, ""));
        }
        Ok(text.to_owned())
    }

    fn action(self, value: &TomlValue<'_>) -> ParseResult<Action> {
        let text = self.string(value)?;
        let known: Vec<&str> = Action::ALL.iter().map(|action| action.name()).collect();
        if LATER_ACTIONS.contains(&text) {
            let message = format!("the action `{text}` is not part of this version");
            let help = "remove it: nothing that this agent does asks for it";
            return Err(self.error(&value.span(), message, help));
        }
        text.parse().map_err(|_| {
            let message = format!(
                "unknown action `{}`{}",
                shown(text, SHOWN),
                did_you_mean(text, &known)
            );
            self.error(
                &value.span(),
                message,
                format!("the actions are {}", quoted(&known)),
            )
        })
    }

    fn pattern(self, value: &TomlValue<'_>) -> ParseResult<Pattern> {
        Pattern::parse(self.string(value)?).map_err(|error| self.error(&value.span(), error.to_string(), ""))
    }

    fn duration(self, value: &TomlValue<'_>) -> ParseResult<Duration> {
        parse_duration(self.string(value)?).map_err(|error| self.error(&value.span(), error.to_string(), ""))
    }
}

fn bits(actions: &[Action]) -> u32 {
    actions.iter().fold(0, |set, action| set | action.bit())
}

fn kind(value: &TomlValue<'_>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn did_you_mean(word: &str, known: &[&str]) -> String {
    nearest(word, known)
        .map(|name| format!(", did you mean `{name}`?"))
        .unwrap_or_default()
}

fn quoted(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests;
