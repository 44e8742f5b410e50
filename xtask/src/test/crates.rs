//! The crates and what each imports of the others, as the table in ARCHITECTURE.md has it: a new edge is a change of the design.

use std::collections::{BTreeMap, BTreeSet};

use super::Checkout;
use super::source::read;

/// The heading of the table.
const HEADING: &str = "## The crates";
/// The row of a crate that imports those of all rows above it.
const ALL: &str = "all above";

/// A row: the folder, the crate, and the last parts of the names of the crates that it imports.
#[derive(Debug, PartialEq)]
struct Row<'a> {
    folder: &'a str,
    name: &'a str,
    imports: BTreeSet<&'a str>,
}

/// Compares the manifest of each crate with its row.
///
/// # Errors
/// Names each edge that only the manifest or only the table has, and each row without a manifest.
pub(super) fn check(checkout: &Checkout, rules: &str) -> Result<(), String> {
    let rows = rows(rules)?;
    let mut found = Vec::new();
    let mut above = BTreeSet::new();
    // The names as the table has them: `policy` for `debug-policy`.
    let short: BTreeMap<&str, &str> = rows.iter().map(|row| (row.name, short(row.name))).collect();
    for row in &rows {
        let manifest = format!("{}Cargo.toml", row.folder);
        let text = read(&checkout.root.join(&manifest))?;
        if !text
            .lines()
            .any(|line| line == format!("name = \"{}\"", row.name))
        {
            found.push(format!("{manifest}: ARCHITECTURE.md calls it `{}`", row.name));
        }
        let used: BTreeSet<&str> = dependencies(&text)
            .filter_map(|name| short.get(name).copied())
            .collect();
        let mut allowed = row.imports.clone();
        if allowed.remove(ALL) {
            allowed.extend(above.iter().copied());
        }
        found.extend(
            used.difference(&allowed).map(|name| {
                format!("{manifest}: it imports `{name}`, and its row in ARCHITECTURE.md does not")
            }),
        );
        found.extend(
            allowed.difference(&used).map(|name| {
                format!("{manifest}: its row in ARCHITECTURE.md imports `{name}`, and it does not")
            }),
        );
        above.insert(short[row.name]);
    }
    if found.is_empty() {
        println!("{} crates: each imports what its row has", rows.len());
        Ok(())
    } else {
        Err(found.join("\n"))
    }
}

/// The rows `| `agent/base/` | `debug-base` | … | policy |` below the heading.
fn rows(text: &str) -> Result<Vec<Row<'_>>, String> {
    let lacks = || format!("ARCHITECTURE.md lacks a table below `{HEADING}`");
    let (_, table) = text.split_once(HEADING).ok_or_else(lacks)?;
    let lines = table
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let mut rows = Vec::new();
    // After the heading and the line below it.
    for line in lines.skip(2) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [folder, name, _, imports] = cells[..] else {
            return Err(format!("ARCHITECTURE.md: a crate's row has four cells: {line}"));
        };
        rows.push(Row {
            folder: folder.trim_matches('`'),
            name: name.trim_matches('`'),
            imports: imports.split(", ").filter(|name| *name != "—").collect(),
        });
    }
    if rows.is_empty() { Err(lacks()) } else { Ok(rows) }
}

/// `base` for `debug-base`, `macros` for `debug-agent-macros`, and the others as they are.
fn short(name: &str) -> &str {
    let name = name.strip_prefix("debug-").unwrap_or(name);
    name.strip_prefix("agent-").unwrap_or(name)
}

/// What a manifest depends on, its tests included.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    manifest.lines().filter_map(move |line| {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.trim_end_matches(']').ends_with("dependencies");
            return None;
        }
        let end = line.find(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'))?;
        (inside && end > 0).then(|| &line[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_are_those_of_the_table() {
        let text = "# A\n\n## The crates\n\nwords\n\n| folder | crate | knows | imports of ours |\n| --- | --- | --- | --- |\n\
                    | `base/` | `debug-base` | a | — |\n| `ctl/` | `debugctl` | b | base, wire |\n\n| other | table |\n";
        let rows = rows(text).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].folder, rows[0].name), ("base/", "debug-base"));
        assert!(rows[0].imports.is_empty());
        assert_eq!(rows[1].imports, BTreeSet::from(["base", "wire"]));
        for wrong in [
            "",
            "## The crates\n\nwords\n",
            "## The crates\n| a |\n| - |\n| b |\n",
        ] {
            assert!(super::rows(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_short_and_dependencies_those_of_all_sections() {
        assert_eq!(short("debug-base"), "base");
        assert_eq!(short("debug-agent"), "agent");
        assert_eq!(short("debug-agent-macros"), "macros");
        assert_eq!(short("dienstplan"), "dienstplan");
        let manifest = "[package]\nname = \"x\"\n\n[dependencies]\ndebug-base.workspace = true\n# debug-net = 1\n\
                        serde = { version = \"1\" }\n[target.'cfg(unix)'.dependencies]\nlibc = \"0.2\"\n\
                        [dev-dependencies]\ndebug-wire = { path = \"../wire\" }\n[lints]\nworkspace = true\n";
        let names: Vec<&str> = dependencies(manifest).collect();
        assert_eq!(names, ["debug-base", "serde", "libc", "debug-wire"]);
    }
}
