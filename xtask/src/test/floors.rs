//! The floors of `agent/src` and `ctl/src`: a module imports only from floors below its own. The tables in ARCHITECTURE.md are the
//! rule.

use std::collections::BTreeMap;
use std::path::Path;

use super::source::{files_below, has_word, read, rust_code};
use super::{Checkout, circles, crates};

/// The folders, and the headings of their tables.
const FLOORED: [(&str, &str); 2] = [
    ("agent/src", "## The floors of the agent"),
    ("ctl/src", "## The floors of the client"),
];
/// The modules of the agent that know no script language: what is decided and done does not depend on what asked for it.
const WITHOUT_SCRIPT: [&str; 6] = ["recorder", "effect", "changes", "gate", "core", "execute"];
/// The one file that opens leases: a change can be applied only under a lease that is in the log.
const OPENS_LEASES: &str = "agent/src/gate/permit.rs";
/// The crates that are a script language.
const SCRIPT: [&str; 2] = ["rhai", "debug_script"];
/// Maximum number of modules at the top level.
const MAX_MODULES: usize = 12;

/// What begins the list of files that an auditor reads, and the limit on their lines.
const READING_LIST: &str = "To audit this project, read in this order";
const MAX_READ: usize = 2_500;

/// The floor of each module.
type Floors = BTreeMap<String, u32>;

/// Compares the imports of each file with the table of its folder.
///
/// # Errors
/// Names each import that goes up or sideways: file, line, and the two floors; each use of a script language below it; each circle of
/// files; each edge between crates that its table lacks; and a reading list that is too long.
pub(super) fn check(checkout: &Checkout) -> Result<(), String> {
    let rules = read(&checkout.root.join("ARCHITECTURE.md"))?;
    let mut found = Vec::new();
    for (folder, heading) in FLOORED {
        found.extend(wrong_in(&checkout.root, folder, &floors(&rules, heading)?)?);
    }
    found.extend(circles::check(checkout).err());
    found.extend(crates::check(checkout, &rules).err());
    found.extend(reading(&checkout.root, &rules).err());
    if found.is_empty() {
        Ok(())
    } else {
        Err(found.join("\n"))
    }
}

/// Counts the lines of the files that an auditor reads.
fn reading(root: &Path, text: &str) -> Result<(), String> {
    let mut lines = 0;
    let files = reading_list(text)?;
    for file in &files {
        lines += read(&root.join(file))?.lines().count();
    }
    println!("to audit: {} files, {lines} lines", files.len());
    if lines <= MAX_READ {
        return Ok(());
    }
    Err(format!(
        "ARCHITECTURE.md: the files to read for an audit have {lines} lines, at most {MAX_READ} are allowed"
    ))
}

/// The source files that the items of the reading list name.
fn reading_list(text: &str) -> Result<Vec<&str>, String> {
    let (_, list) = text
        .split_once(READING_LIST)
        .ok_or_else(|| format!("ARCHITECTURE.md lacks `{READING_LIST}`"))?;
    let items = list
        .lines()
        .skip_while(|line| !line.starts_with("1. "))
        .take_while(|line| !line.is_empty());
    let named = items.flat_map(|line| line.split('`').skip(1).step_by(2));
    let files: Vec<&str> = named.filter(|name| name.ends_with(".rs")).collect();
    if files.is_empty() {
        return Err("ARCHITECTURE.md: the reading list names no file".to_owned());
    }
    Ok(files)
}

/// What goes against the floors in a folder.
fn wrong_in(root: &Path, folder: &str, floors: &Floors) -> Result<Vec<String>, String> {
    let source = root.join(folder);
    let mut found = Vec::new();
    let mut modules: BTreeMap<String, usize> = BTreeMap::new();
    for file in files_below(&source)? {
        let below = file.strip_prefix(&source).map_err(|e| e.to_string())?;
        let Some(module) = module_of(below) else { continue };
        let at = format!("{folder}/{}", below.display());
        let source = read(&file)?;
        found.extend(wrong_imports(&at, &module, &source, depth(below), floors));
        if folder == FLOORED[0].0 && WITHOUT_SCRIPT.contains(&module.as_str()) {
            found.extend(uses_of_script(&at, &module, &source));
        }
        found.extend(opened_leases(&at, &source));
        *modules.entry(module).or_default() += 1;
    }
    let missing = floors.keys().filter(|name| !modules.contains_key(*name));
    found
        .extend(missing.map(|name| {
            format!("ARCHITECTURE.md has a floor for `{name}`, and {folder} has no such module")
        }));
    if MAX_MODULES < modules.len() {
        found.push(format!(
            "{folder} has {} modules, at most {MAX_MODULES} are allowed",
            modules.len()
        ));
    }
    println!(
        "{folder}: {} modules, {} files, {}",
        modules.len(),
        modules.values().sum::<usize>(),
        if found.is_empty() {
            "each import goes down"
        } else {
            "not each import goes down"
        }
    );
    Ok(found)
}

/// The imports of a file that go up or sideways. `at` names the file.
fn wrong_imports(at: &str, module: &str, source: &str, depth: usize, floors: &Floors) -> Vec<String> {
    let Some(own) = floors.get(module) else {
        return vec![format!("{at}: ARCHITECTURE.md has no floor for `{module}`")];
    };
    let used = imports(source, depth).into_iter();
    let up = used.filter_map(|(line, used)| {
        // `{` or `*` right after the root, and a name that the root exports again, hide which modules are meant.
        let Some(floor) = floors.get(&used) else {
            return Some(format!(
                "{at}:{line}: an import names its module: `use crate::module::…`"
            ));
        };
        if used == module || floor < own {
            return None;
        }
        Some(format!(
            "{at}:{line}: `{module}` (floor {own}) imports `{used}` (floor {floor})"
        ))
    });
    up.collect()
}

/// The lines that open a lease where none may be opened.
fn opened_leases(at: &str, source: &str) -> Vec<String> {
    let product = (1..).zip(source.lines().take_while(|line| *line != "mod tests {"));
    let opens = |line: &str| rust_code(line).contains("leases.open(");
    product
        .filter(|(_, line)| at != OPENS_LEASES && opens(line))
        .map(|(number, _)| format!("{at}:{number}: only {OPENS_LEASES} opens leases"))
        .collect()
}

/// The lines that name a script language, in a module that must not know one.
fn uses_of_script(at: &str, module: &str, source: &str) -> Vec<String> {
    let product = (1..).zip(source.lines().take_while(|line| *line != "mod tests {"));
    let named = product.flat_map(|(number, line)| {
        let code = rust_code(line);
        SCRIPT
            .into_iter()
            .filter(move |word| has_word(&code, word))
            .map(move |word| {
                format!("{at}:{number}: `{module}` knows no script language, and names `{word}`")
            })
    });
    named.collect()
}

/// The floors of a table: rows `| 5 | `gate` | … |` below the heading.
fn floors(text: &str, heading: &str) -> Result<Floors, String> {
    let table = text
        .split_once(heading)
        .ok_or_else(|| format!("ARCHITECTURE.md lacks `{heading}`"))?
        .1;
    let rows = table
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let mut floors = Floors::new();
    for row in rows {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let (Some(Ok(floor)), Some(name)) = (cells.next().map(str::parse::<u32>), cells.next()) else {
            continue;
        };
        floors.insert(name.trim_matches('`').to_owned(), floor);
    }
    if floors.is_empty() {
        Err(format!("the table below `{heading}` is empty"))
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
        .filter(|name| !["lib", "main"].contains(name))
        .map(str::to_owned)
}

/// How many `super` lead from a file to the root.
fn depth(below: &Path) -> usize {
    below.components().count() - usize::from(below.ends_with("mod.rs"))
}

/// The top-level modules that a file names, with the lines. Tests inside the file are left out.
fn imports(source: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, line) in source.lines().enumerate() {
        if line == "mod tests {" {
            break;
        }
        let code = rust_code(line);
        let from = ["crate::".to_owned(), "super::".repeat(depth)];
        for (start, prefix) in from.iter().flat_map(|prefix| code.match_indices(prefix.as_str())) {
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
                         | 2 | `gate` | decides |\n| 1 | `effect` | words |\n\n| 9 | `other` | table |\n\n\
                         ## The floors of the client\n\n| 1 | `ui` | words |\n";

    fn table(heading: &str) -> Floors {
        floors(TABLE, heading).unwrap()
    }

    #[test]
    fn the_table_is_read_up_to_its_end() {
        let [(_, agent), (_, client)] = FLOORED;
        assert_eq!(
            table(agent),
            Floors::from([("gate".to_owned(), 2), ("effect".to_owned(), 1)])
        );
        assert_eq!(table(client), Floors::from([("ui".to_owned(), 1)]));
        assert!(floors("# A\n", agent).is_err());
    }

    #[test]
    fn the_files_of_the_reading_list_are_those_of_its_items() {
        let text = format!(
            "{READING_LIST}, 9 lines:\n\n1. `a/b.rs`: x, `pass`.\n2. `c.rs`,\n   `d.rs`: y\n\nAlso `e.rs`.\n"
        );
        assert_eq!(reading_list(&text).unwrap(), ["a/b.rs", "c.rs", "d.rs"]);
        assert!(reading_list("nothing").is_err());
        assert!(reading_list(&format!("{READING_LIST}:\n\nnothing\n")).is_err());
        assert!(
            reading(Path::new("/nowhere"), &text).is_err(),
            "a file that is not there"
        );
    }

    #[test]
    fn an_import_that_goes_up_is_named_and_one_that_goes_down_is_not() {
        let floors = table(FLOORED[0].1);
        let wrong = |module, source| wrong_imports("a.rs", module, source, 2, &floors);
        let up = wrong("effect", "\nuse crate::gate::pass;\n");
        assert_eq!(up, ["a.rs:2: `effect` (floor 1) imports `gate` (floor 2)"]);
        assert!(wrong("gate", "use crate::effect::Effect;\nuse crate::gate::x;\n").is_empty());
        let hidden = wrong("gate", "use crate::{effect, gate};\n");
        assert_eq!(
            hidden,
            ["a.rs:1: an import names its module: `use crate::module::…`"]
        );
        let again = wrong("effect", "use crate::Agent;\n");
        assert_eq!(
            again,
            ["a.rs:1: an import names its module: `use crate::module::…`"]
        );
        assert_eq!(wrong("effect", "use super::super::gate::x;\n").len(), 1);
        assert_eq!(wrong("new", ""), ["a.rs: ARCHITECTURE.md has no floor for `new`"]);
    }

    #[test]
    fn a_script_language_is_named_where_there_must_be_none() {
        let source =
            "// rhai\nuse rhai::Dynamic;\nlet x = \"rhai\";\nmod tests {\n    use debug_script::x;\n}\n";
        let named = uses_of_script("a.rs", "gate", source);
        assert_eq!(
            named,
            ["a.rs:2: `gate` knows no script language, and names `rhai`"]
        );
    }

    #[test]
    fn a_lease_that_is_opened_beside_the_gate_is_named() {
        let source = "let id = 1;\nchanges.leases.open(lease)?.begin();\n// leases.open(\n";
        let named = opened_leases("agent/src/execute.rs", source);
        assert_eq!(
            named,
            [format!(
                "agent/src/execute.rs:2: only {OPENS_LEASES} opens leases"
            )]
        );
        assert!(opened_leases(OPENS_LEASES, source).is_empty());
    }

    #[test]
    fn an_import_is_found_with_its_line_and_not_in_comments_or_tests() {
        let source = "// crate::comment\nuse crate::gate::pass;\nlet x = crate::core::y();\n#[cfg(test)]\nmod tests {\n    use crate::host;\n}\n";
        assert_eq!(
            imports(source, 2),
            [(2, "gate".to_owned()), (3, "core".to_owned())]
        );
        let gate = [(1, "gate".to_owned())];
        assert_eq!(imports("use super::gate;\n", 1), gate);
        assert!(imports("use super::gate;\n", 2).is_empty());
        assert_eq!(imports("use super::super::gate;\n", 2), gate);
    }

    #[test]
    fn a_file_belongs_to_its_top_module_and_tests_to_none() {
        let module = |path: &str| module_of(Path::new(path));
        assert_eq!(module("gate/stack.rs").as_deref(), Some("gate"));
        assert_eq!(module("gate.rs").as_deref(), Some("gate"));
        for none in ["lib.rs", "main.rs", "gate/tests.rs", "changes/model/things.rs"] {
            assert_eq!(module(none), None, "{none}");
        }
        for (path, supers) in [
            ("gate.rs", 1),
            ("gate/mod.rs", 1),
            ("gate/stack.rs", 2),
            ("gate/stack/mod.rs", 2),
        ] {
            assert_eq!(depth(Path::new(path)), supers, "{path}");
        }
    }
}
