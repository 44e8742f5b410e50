//! The table of configuration keys: the file, the overrides and the advice are checked against it.

use super::error::nearest;

/// The type of a key's value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
    /// The number 1.
    Version,
    /// A string.
    Text,
    /// `true` or `false`.
    Flag,
    /// An array of strings.
    Texts,
}

/// One key.
#[derive(Debug)]
pub(crate) struct ConfigKey {
    /// Its section; empty at the top of the file.
    pub section: &'static str,
    /// Its name in the section.
    pub name: &'static str,
    /// The type of its value.
    pub shape: Shape,
    /// Whether the environment may override it where `environment = "production"`.
    pub in_production: bool,
}

/// Every key of this version.
pub(crate) const KEYS: &[ConfigKey] = &[
    key("", "version", Shape::Version, true),
    key("", "service", Shape::Text, true),
    key("", "instance", Shape::Text, true),
    key("", "environment", Shape::Text, true),
    // Access: who may connect, what they may do, and where the agent listens. A deployer who can set a variable of the
    // service (in a chart, in a unit file) must not thereby decide that in production.
    key("listen", "address", Shape::Text, false),
    key("trust", "domain", Shape::Text, false),
    key("trust", "ca", Shape::Text, false),
    key("trust", "crl", Shape::Text, false),
    key("trust", "certificate", Shape::Text, false),
    key("trust", "key", Shape::Text, false),
    key("policy", "file", Shape::Text, false),
    key("audit", "folder", Shape::Text, true),
    key("audit", "key", Shape::Text, true),
    key("active", "folder", Shape::Text, true),
    key("redact", "names", Shape::Texts, true),
    key("redact", "all", Shape::Flag, true),
    key("redact", "visible", Shape::Texts, true),
];

/// Keys and sections of other versions, and what this version says about them.
const LATER: &[(&str, &str)] = &[
    (
        "vpn_interfaces",
        "the agent of this version listens on loopback only; reach it through a tunnel to the host",
    ),
    (
        "limits",
        "the limits of this version are fixed; leave the section out",
    ),
];

const fn key(section: &'static str, name: &'static str, shape: Shape, in_production: bool) -> ConfigKey {
    ConfigKey {
        section,
        name,
        shape,
        in_production,
    }
}

/// The key of that section and name.
pub(crate) fn find(section: &str, name: &str) -> Option<&'static ConfigKey> {
    KEYS.iter().find(|k| k.section == section && k.name == name)
}

/// Whether the file may have a section of that name.
pub(crate) fn is_section(name: &str) -> bool {
    !name.is_empty() && KEYS.iter().any(|k| k.section == name)
}

/// The key's full name: `listen.address`.
pub(crate) fn dotted(section: &str, name: &str) -> String {
    if section.is_empty() {
        name.to_owned()
    } else {
        format!("{section}.{name}")
    }
}

/// Advice for a name that is no key of `section` (and no section, at the top).
pub(crate) fn advice(section: &str, name: &str) -> String {
    if let Some(later) = later(name) {
        return later.to_owned();
    }
    if let Some(elsewhere) = KEYS.iter().find(|k| k.name == name) {
        return format!("`{name}` belongs {}", whereabouts(elsewhere.section));
    }
    let sections = KEYS
        .iter()
        .map(|k| k.section)
        .filter(|s| section.is_empty() && !s.is_empty());
    let known = KEYS
        .iter()
        .filter(|k| k.section == section)
        .map(|k| k.name)
        .chain(sections);
    match nearest(name, known) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!(
            "remove it; known {} are {}",
            whereabouts(section),
            listed(section)
        ),
    }
}

/// Why a key that a later version may have is refused by this one.
pub(crate) fn later(name: &str) -> Option<&'static str> {
    LATER
        .iter()
        .find(|(later, _)| *later == name)
        .map(|(_, why)| *why)
}

/// `in [listen]`, or `at the top of the file`.
pub(crate) fn whereabouts(section: &str) -> String {
    if section.is_empty() {
        "at the top of the file".to_owned()
    } else {
        format!("in [{section}]")
    }
}

fn listed(section: &str) -> String {
    let names: Vec<String> = KEYS
        .iter()
        .filter(|k| k.section == section)
        .map(|k| format!("`{}`", k.name))
        .collect();
    names.join(", ")
}
