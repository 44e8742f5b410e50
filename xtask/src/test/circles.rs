//! Circles: files of one crate that import each other, directly or through others. A reader can take in such files only all at
//! once, and none of them can be tested or moved alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Checkout;
use super::source::{files_below, read, rust_code};

/// The folders, each the source of one crate.
const FOLDERS: [&str; 15] = [
    "agent/src",
    "agent/base/src",
    "agent/config/src",
    "agent/http/src",
    "agent/lease/src",
    "agent/macros/src",
    "agent/net/src",
    "agent/points/src",
    "agent/script/src",
    "agent/state/src",
    "audit/src",
    "certs/src",
    "ctl/src",
    "policy/src",
    "wire/src",
];

/// The one circle: the thread of the log writes for those who wait, and while it is idle one of those who wait leads in its place.
const ALLOWED: (&str, &str) = ("log::ticket", "log::thread");

/// The path of a module below the crate's root.
type Module = Vec<String>;
/// What each file imports, by module.
type Imports = BTreeMap<Module, BTreeSet<Module>>;

/// Looks for circles in each folder.
///
/// # Errors
/// Names the files of each circle, and what they import of each other.
pub(super) fn check(checkout: &Checkout) -> Result<(), String> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        let sources = sources(&checkout.root.join(folder))?;
        let circle = in_circles(imports_of_all(&sources));
        found.extend(circle.iter().map(|(module, imports)| {
            let imports: Vec<String> = imports.iter().map(|module| module.join("::")).collect();
            format!(
                "{folder}: `{}` lies in a circle: it imports `{}`",
                module.join("::"),
                imports.join("`, `")
            )
        }));
    }
    if found.is_empty() {
        println!("{} crates: no circle of files", FOLDERS.len());
        Ok(())
    } else {
        Err(found.join("\n"))
    }
}

/// The code of each module below a folder, without comments and tests.
fn sources(folder: &Path) -> Result<BTreeMap<Module, String>, String> {
    let mut sources = BTreeMap::new();
    for file in files_below(folder)? {
        let below = file.strip_prefix(folder).map_err(|e| e.to_string())?;
        if let Some(module) = module_of(below) {
            sources.insert(module, code_of(&read(&file)?));
        }
    }
    Ok(sources)
}

/// The module of a source file; `None` for tests. The root has the empty path.
fn module_of(below: &Path) -> Option<Module> {
    let whole = below.with_extension("");
    let parts: Module = whole
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .filter(|part| !["lib", "main", "mod"].contains(&part.as_str()))
        .collect();
    let is_test = |part: &String| ["tests", "model", "for_test"].contains(&part.as_str());
    (below.extension()? == "rs" && !parts.iter().any(is_test)).then_some(parts)
}

fn code_of(source: &str) -> String {
    let product = source.lines().take_while(|line| *line != "mod tests {");
    product.map(|line| rust_code(line) + "\n").collect()
}

/// What each module imports of the others. A module and the parts below it may use each other: they are one thing in several files.
fn imports_of_all(sources: &BTreeMap<Module, String>) -> Imports {
    let one_thing = |a: &Module, b: &Module| a.starts_with(b) || b.starts_with(a);
    let known = |path: &Module| {
        (1..=path.len())
            .rev()
            .map(|len| path[..len].to_vec())
            .find(|module| sources.contains_key(module))
    };
    let of = |(module, code): (&Module, &String)| {
        let used = paths(code, module)
            .iter()
            .filter_map(known)
            .collect::<BTreeSet<_>>();
        let others = used
            .into_iter()
            .filter(|other| !one_thing(module, other) && (module.join("::"), other.join("::")) != allowed());
        (module.clone(), others.collect())
    };
    sources.iter().map(of).collect()
}

fn allowed() -> (String, String) {
    (ALLOWED.0.to_owned(), ALLOWED.1.to_owned())
}

/// The paths that begin with `crate::` or `super::`, each from the crate's root.
fn paths(code: &str, module: &Module) -> Vec<Module> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        let before = code[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let mut rest = &code[start..];
        let mut base = module.clone();
        if let Some(after) = rest.strip_prefix("crate::") {
            (rest, base) = (after, Module::new());
        }
        while let Some(after) = rest.strip_prefix("super::") {
            base.pop();
            rest = after;
        }
        tree(rest, &base, &mut found);
    }
    found
}

/// Takes in what follows a prefix of an import: names, or a group of such in braces. Returns what follows it.
fn tree<'a>(code: &'a str, base: &Module, found: &mut Vec<Module>) -> &'a str {
    let code = code.trim_start();
    let Some(mut group) = code.strip_prefix('{') else {
        let end = code
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(code.len());
        let mut path = base.clone();
        path.push(code[..end].to_owned());
        return match code[end..].strip_prefix("::") {
            Some(rest) => tree(rest, &path, found),
            None => {
                found.push(path);
                &code[end..]
            }
        };
    };
    loop {
        let before = group.len();
        group = group.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        if let Some(rest) = group.strip_prefix('}') {
            return rest;
        }
        group = tree(group, base, found);
        // Renamed, a `*`, or the end of the text: on to the next member.
        let next = group.find([',', '}']).unwrap_or(group.len());
        group = &group[next..];
        if group.is_empty() || group.len() == before {
            return group;
        }
    }
}

/// The files that lie in circles or between them, with what they import of each other.
fn in_circles(mut imports: Imports) -> Imports {
    loop {
        let left = imports.len();
        let is_left: BTreeSet<Module> = imports.keys().cloned().collect();
        imports
            .values_mut()
            .for_each(|used| used.retain(|module| is_left.contains(module)));
        let used: BTreeSet<Module> = imports.values().flatten().cloned().collect();
        imports.retain(|module, uses| !uses.is_empty() && used.contains(module));
        if imports.len() == left {
            return imports;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str) -> Module {
        path.split("::")
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    }

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let sources = files
            .iter()
            .map(|(path, source)| (module(path), code_of(source)))
            .collect();
        let found = in_circles(imports_of_all(&sources));
        found.keys().map(|module| module.join("::")).collect()
    }

    #[test]
    fn files_that_import_each_other_are_found_and_no_others() {
        let straight = [
            ("a", "use crate::b::X;"),
            ("b", "use super::c;"),
            ("c", "// crate::a"),
            ("", "mod a;"),
        ];
        assert!(circles(&straight).is_empty());
        let round = [
            ("a", "use crate::{b::{self, X as Y}, d};"),
            ("b", "fn f() { super::c::g() }"),
            ("c", "use super::{\n    a::*,\n};"),
            ("d", ""),
            ("e", "use crate::a;"),
        ];
        assert_eq!(circles(&round), ["a", "b", "c"]);
        let in_tests = [
            ("a", "use crate::b;"),
            ("b", "\n#[cfg(test)]\nmod tests {\n    use crate::a;\n}\n"),
        ];
        assert!(circles(&in_tests).is_empty());
    }

    #[test]
    fn a_module_and_its_parts_are_one_thing_but_its_parts_are_not() {
        let parts = [("a", "use crate::a::b::X;"), ("a::b", "use super::Y;")];
        assert!(circles(&parts).is_empty());
        let sisters = [("a::b", "use super::c::X;"), ("a::c", "use crate::a::b::Y;")];
        assert_eq!(circles(&sisters), ["a::b", "a::c"]);
    }

    #[test]
    fn the_groups_of_an_import_are_taken_apart() {
        let read = |code: &str| -> Vec<String> {
            paths(code, &module("m::n"))
                .iter()
                .map(|path| path.join("::"))
                .collect()
        };
        assert_eq!(
            read("use crate::a::{b::{C, d}, e as f, *};"),
            ["a::b::C", "a::b::d", "a::e", "a::"]
        );
        assert_eq!(read("use super::x; use super::super::y;"), ["m::x", "y"]);
        assert!(read("my_crate::a").is_empty());
        assert_eq!(read("use crate::{a"), ["a"]);
    }
}
