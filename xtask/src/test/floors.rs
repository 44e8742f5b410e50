//! The floors of `agent/src`: a module imports only from floors below its own. The table in ARCHITECTURE.md is the rule.

use std::collections::BTreeMap;
use std::path::Path;

use super::Place;
use super::source::{files_below, read, rust_code};

/// The heading of the table.
const HEADING: &str = "## The floors of the agent";
/// Maximum number of modules at the top level.
const MAX_MODULES: usize = 12;

/// Compares the imports of each file with the table.
///
/// # Errors
/// Names each import that goes up or sideways: file, line, and the two floors.
pub(super) fn check(place: &Place) -> Result<(), String> {
    let floors = floors(&read(&place.root.join("ARCHITECTURE.md"))?)?;
    let source = place.root.join("agent/src");
    let mut found = Vec::new();
    let mut modules: BTreeMap<String, usize> = BTreeMap::new();
    for file in files_below(&source)? {
        let below = file.strip_prefix(&source).map_err(|e| e.to_string())?;
        let Some(module) = module_of(below) else { continue };
        *modules.entry(module.clone()).or_default() += 1;
        let Some(own) = floors.get(&module) else {
            found.push(format!(
                "agent/src/{}: ARCHITECTURE.md has no floor for `{module}`",
                below.display()
            ));
            continue;
        };
        for (line, used) in imports(&read(&file)?, below.components().count() == 1) {
            let Some(floor) = floors.get(&used) else { continue };
            if used != module && floor >= own {
                found.push(format!(
                    "agent/src/{}:{line}: `{module}` (floor {own}) imports `{used}` (floor {floor})",
                    below.display()
                ));
            }
        }
    }
    found.extend(
        floors
            .keys()
            .filter(|name| !modules.contains_key(*name))
            .map(|name| {
                format!("ARCHITECTURE.md has a floor for `{name}`, and agent/src has no such module")
            }),
    );
    if MAX_MODULES < modules.len() {
        found.push(format!(
            "agent/src has {} modules, at most {MAX_MODULES} are allowed",
            modules.len()
        ));
    }
    println!(
        "{} modules, {} files, each import goes down",
        modules.len(),
        modules.values().sum::<usize>()
    );
    if found.is_empty() {
        Ok(())
    } else {
        Err(found.join("\n"))
    }
}

/// The floor of each module: rows `| 5 | `gate` | … |` below the heading.
fn floors(text: &str) -> Result<BTreeMap<String, u32>, String> {
    let table = text
        .split_once(HEADING)
        .ok_or_else(|| format!("ARCHITECTURE.md lacks `{HEADING}`"))?
        .1;
    let rows = table
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let mut floors = BTreeMap::new();
    for row in rows {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let (Some(Ok(floor)), Some(name)) = (cells.next().map(str::parse::<u32>), cells.next()) else {
            continue;
        };
        floors.insert(name.trim_matches('`').to_owned(), floor);
    }
    if floors.is_empty() {
        Err(format!("the table below `{HEADING}` is empty"))
    } else {
        Ok(floors)
    }
}

/// The top-level module of a source file; `None` for the root and for tests, which may use everything.
fn module_of(below: &Path) -> Option<String> {
    let is_test = |part: &str| ["tests", "model", "planted"].contains(&part);
    let parts: Vec<&str> = below.iter().filter_map(|part| part.to_str()).collect();
    let stems = parts.iter().map(|part| part.trim_end_matches(".rs"));
    if stems.clone().any(is_test) || below.extension().is_none_or(|end| end != "rs") {
        return None;
    }
    stems
        .into_iter()
        .next()
        .filter(|name| *name != "lib")
        .map(str::to_owned)
}

/// The top-level modules that a file names, with the lines. Tests inside the file are left out.
fn imports(source: &str, is_top: bool) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, line) in source.lines().enumerate() {
        if line == "mod tests {" {
            break;
        }
        let code = rust_code(line);
        let from = ["crate::", if is_top { "super::" } else { "crate::" }];
        for (start, prefix) in from.iter().flat_map(|prefix| code.match_indices(*prefix)) {
            let name: String = code[start + prefix.len()..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if !found.contains(&(at + 1, name.clone())) {
                found.push((at + 1, name));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# A\n\n## The floors of the agent\n\ntext\n\n| floor | module | what |\n| --- | --- | --- |\n\
                         | 2 | `gate` | decides |\n| 1 | `effect` | words |\n\n| 9 | `other` | table |\n";

    #[test]
    fn the_table_is_read_up_to_its_end() {
        let floors = floors(TABLE).unwrap();
        assert_eq!(
            floors,
            BTreeMap::from([("gate".to_owned(), 2), ("effect".to_owned(), 1)])
        );
        assert!(super::floors("# A\n").is_err());
    }

    #[test]
    fn an_import_is_found_with_its_line_and_not_in_comments_or_tests() {
        let source = "// crate::comment\nuse crate::gate::pass;\nlet x = crate::core::y();\n#[cfg(test)]\nmod tests {\n    use crate::host;\n}\n";
        assert_eq!(
            imports(source, false),
            [(2, "gate".to_owned()), (3, "core".to_owned())]
        );
        assert_eq!(imports("use super::gate;\n", true), [(1, "gate".to_owned())]);
        assert!(imports("use super::gate;\n", false).is_empty());
    }

    #[test]
    fn a_file_belongs_to_its_top_module_and_tests_to_none() {
        let module = |path: &str| module_of(Path::new(path));
        assert_eq!(module("gate/stack.rs").as_deref(), Some("gate"));
        assert_eq!(module("gate.rs").as_deref(), Some("gate"));
        assert_eq!(
            (
                module("lib.rs"),
                module("gate/tests.rs"),
                module("changes/model/things.rs")
            ),
            (None, None, None)
        );
    }
}
