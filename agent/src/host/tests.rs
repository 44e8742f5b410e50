//! Scripts can call exactly the functions of the one table and of the library's list, and no host function works
//! outside an eval.

use std::collections::BTreeSet;

use debug_wire::table::FUNCTIONS;
use rhai::{Dynamic, Engine, EvalAltResult, FnPtr, INT, Module, Scope};

use super::MODULE;
use crate::host::handle;
use debug_script::words::{self, WORDS};
use debug_script::{convert, engine, values};

/// The most arguments tried: one more than any function of the agent or of Rhai takes.
const MOST: usize = 5;

/// An engine as an eval has it, without the tag that identifies the eval.
fn engine() -> Engine {
    let mut engine = engine::for_eval();
    engine.register_global_module(MODULE.clone());
    engine
}

/// Every function of the packages that a new Rhai engine has; the library offers a part of them.
const OF_RHAI: &str = "
    E PI abs acos acosh all append as_string asin asinh atan atanh bits blob bytes ceiling chars chop clear
    contains cos cosh crop debug dedup drain end ends_with exit exp extract fill_with filter find
    find_map floor for_each fraction get get_bit get_bits get_fn_metadata_list
    hypot index_of insert int is_anonymous is_empty
    is_even is_exclusive is_finite is_inclusive is_infinite is_nan is_odd is_zero keys len ln log make_lower
    make_upper map max min mixin name order order_by order_desc pad parse_be_float parse_be_int
    parse_float parse_int parse_json parse_le_float parse_le_int pop print push range reduce reduce_rev
    remove replace retain reverse round set set_bit set_bits set_tag shift sign sin sinh sleep some
    sort sort_by sort_desc splice split split_rev sqrt start starts_with sub_string tag take tan tanh timestamp
    to_array to_binary to_blob to_chars to_debug to_degrees to_float to_hex to_int to_json to_lower to_octal
    to_radians to_string to_upper trim truncate values write_ascii write_be write_le write_utf8 zip
";

/// Arguments of every type that Rhai's functions take.
fn samples() -> Vec<Dynamic> {
    let closure = Dynamic::from(FnPtr::new("abs").unwrap());
    vec![
        Dynamic::UNIT,
        Dynamic::from(0_i64),
        Dynamic::from(0.5_f64),
        Dynamic::from(true),
        Dynamic::from('a'),
        Dynamic::from("a"),
        Dynamic::from_array(Vec::new()),
        Dynamic::from_map(rhai::Map::new()),
        Dynamic::from_blob(vec![0; 8]),
        Dynamic::from(0..1_i64 as INT),
        Dynamic::from(0..=1_i64 as INT),
        closure,
    ]
}

/// The outcome of a call with these arguments.
enum Tried {
    /// No function of that name takes them.
    Unknown,
    /// One takes them; with its error, if it failed.
    Known(String),
}

fn call(engine: &Engine, name: &str, arguments: &[Dynamic]) -> Tried {
    let names: Vec<_> = (0..arguments.len()).map(|at| format!("argument_{at}")).collect();
    let mut scope = Scope::new();
    for (name, argument) in names.iter().zip(arguments) {
        scope.push_dynamic(name.clone(), argument.clone());
    }
    match engine.eval_with_scope::<Dynamic>(&mut scope, &format!("{name}({})", names.join(", "))) {
        Ok(_) => Tried::Known(String::new()),
        Err(error) => match *error {
            EvalAltResult::ErrorFunctionNotFound(ref what, _) if what.starts_with(name) => Tried::Unknown,
            EvalAltResult::ErrorParsing(..) => Tried::Unknown,
            error => Tried::Known(error.to_string()),
        },
    }
}

/// Whether any one, two or three sample arguments, or none, reach a function of that name.
fn is_known(engine: &Engine, name: &str) -> bool {
    let samples = samples();
    let known = |arguments: &[Dynamic]| matches!(call(engine, name, arguments), Tried::Known(_));
    known(&[])
        || samples.iter().any(|a| known(std::slice::from_ref(a)))
        || samples
            .iter()
            .any(|a| samples.iter().any(|b| known(&[a.clone(), b.clone()])))
        || samples.iter().any(|a| {
            samples
                .iter()
                .any(|b| samples.iter().any(|c| known(&[a.clone(), b.clone(), c.clone()])))
        })
}

/// Without the tag of an eval there is no operator and no session, so nothing must happen.
#[test]
fn every_function_of_the_table_can_be_called_with_its_numbers_of_arguments_only_and_only_by_an_eval() {
    let engine = engine();
    for function in FUNCTIONS {
        for count in 0..=MOST {
            let said = call(&engine, function.name, &vec![Dynamic::UNIT; count]);
            match (function.arities().contains(&count), said) {
                (true, Tried::Known(said)) => {
                    assert!(
                        said.contains("only an eval may do this"),
                        "{} {count}: {said}",
                        function.name
                    );
                }
                (false, Tried::Unknown) => {}
                (true, Tried::Unknown) => panic!("{} does not take {count} arguments", function.name),
                (false, Tried::Known(said)) => panic!("{} takes {count} arguments: {said}", function.name),
            }
        }
    }
}

#[test]
fn print_is_the_evals_own() {
    for name in ["print", "debug"] {
        let Tried::Known(said) = call(&engine(), name, &["x".into()]) else {
            panic!("{name} is unknown")
        };
        assert!(said.contains("only an eval may do this"), "{name}: {said}");
    }
}

/// The key of a module's function with this name and number of arguments, of any type.
fn key(name: &str, count: usize) -> u64 {
    let mut module = Module::new();
    match count {
        0 => module.set_native_fn(name, || Ok(())),
        1 => module.set_native_fn(name, |_: Dynamic| Ok(())),
        2 => module.set_native_fn(name, |_: Dynamic, _: Dynamic| Ok(())),
        3 => module.set_native_fn(name, |_: Dynamic, _: Dynamic, _: Dynamic| Ok(())),
        more => panic!("no host function takes {more} arguments"),
    }
}

/// The functions are counted, because Rhai does not list their names: any other function would increase the count.
#[test]
fn the_module_holds_the_table_print_and_what_values_can_do_and_nothing_else() {
    let mut of_values = Module::new();
    handle::register(&mut of_values);
    convert::register_types(&mut of_values);
    values::register(&mut of_values);
    let mut keys: BTreeSet<u64> = FUNCTIONS
        .iter()
        .flat_map(|f| f.arities().map(|n| key(f.name, n)))
        .collect();
    keys.extend(["print", "debug"].map(|name| key(name, 1)));
    for key in &keys {
        assert!(MODULE.contains_fn(*key) && !of_values.contains_fn(*key));
    }
    assert_eq!(MODULE.count().1, keys.len() + of_values.count().1);
    assert_eq!(MODULE.iter_sub_modules().count() + MODULE.count().0, 0);
}

#[test]
fn of_rhais_own_functions_only_those_of_the_list_are_there() {
    let (ours, all) = (engine(), Engine::new());
    let missed: Vec<_> = OF_RHAI
        .split_whitespace()
        .filter(|name| !is_known(&all, name))
        .collect();
    assert!(
        missed.is_empty(),
        "the samples do not reach {missed:?}, so this test would prove nothing"
    );
    let listed = |name: &str| {
        words::find(name).is_some()
            || FUNCTIONS.iter().any(|f| f.name == name)
            || ["print", "debug"].contains(&name)
    };
    let unlisted: Vec<_> = OF_RHAI
        .split_whitespace()
        .filter(|name| is_known(&ours, name) && !listed(name))
        .collect();
    assert!(unlisted.is_empty(), "{unlisted:?}");
}

/// Words of the language that look like calls and reach further than a script may.
#[test]
fn what_would_load_or_compile_code_is_no_word_here() {
    for code in [
        r#"eval("1")"#,
        r#"import "x" as y;"#,
        "export let x = 1;",
        "sleep(0)",
        "timestamp()",
    ] {
        assert!(engine().eval::<Dynamic>(code).is_err(), "{code}");
    }
}

/// Every name in the list exists.
#[test]
fn every_name_of_the_list_can_be_called() {
    // Part of the language: these are not called with arguments in parentheses alone.
    let language = [
        "Fn",
        "call",
        "is_def_fn",
        "is_def_var",
        "is_shared",
        "throw",
        "type_of",
    ];
    let engine = engine();
    for name in WORDS
        .iter()
        .map(|word| word.name)
        .filter(|name| !language.contains(name))
    {
        assert!(is_known(&engine, name), "{name}");
    }
}

/// Every name that the library registers is in the list, so that frozen code knows it, too.
#[test]
fn every_function_that_the_library_registers_stands_in_the_list() {
    let source = include_str!("../../script/src/library.rs");
    let registered = source.lines().filter_map(|line| {
        let (name, rest) = line.trim_start().strip_prefix('"')?.split_once('"')?;
        rest.starts_with(" => ").then_some(name)
    });
    let mut seen = 0;
    for name in registered.filter(|name| name.starts_with(|c: char| c.is_alphabetic())) {
        assert!(words::find(name).is_some(), "{name}");
        seen += 1;
    }
    assert!(seen > 30, "only {seen} registrations were found");
}
