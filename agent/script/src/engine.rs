//! The two engines: one per eval, one for all patches. Both contain only the library.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rhai::{Dynamic, Engine, Module, OptimizationLevel};

use super::library;
use super::meter::{self, MAX_ITEMS, MAX_STRING, RunBounds};
use debug_base::BootTime;

/// Bounds of an eval: a million operations, 5 s.
pub const EVAL: RunBounds = RunBounds {
    operations: 1_000_000,
    time: Duration::from_secs(5),
    patient: false,
};
/// Bounds of a patched call, which runs on a service thread: 100,000 operations, 10 ms of processor time.
pub const PATCH: RunBounds = RunBounds {
    operations: 100_000,
    time: Duration::from_millis(10),
    patient: true,
};

/// Call depth of functions in an eval; eval threads have 16 MiB of stack.
const EVAL_CALLS: usize = 32;
/// Nesting depth of expressions in an eval.
const EVAL_EXPRESSIONS: usize = 32;
/// Call depth of functions in a patch, on the stack of a service thread.
pub const PATCH_CALLS: usize = 8;
/// Nesting depth of expressions in a patch.
pub const PATCH_EXPRESSIONS: usize = 16;
/// Maximum number of items in an array or map of a patch. If each nests in the previous one, dropping them takes as many
/// frames.
const PATCH_ITEMS: usize = 1_000;
/// Maximum number of session variables; each holds at most `MAX_STRING` bytes or `MAX_ITEMS` items.
const MAX_VARIABLES: usize = 128;
/// Maximum number of functions in one submission, closures included.
const MAX_FUNCTIONS: usize = 128;

/// The library, built once.
static LIBRARY: LazyLock<Arc<Module>> = LazyLock::new(library::build);

/// Creates an engine for one eval, without host functions.
pub fn for_eval() -> Engine {
    let mut engine = bare();
    engine.set_max_call_levels(EVAL_CALLS);
    engine.set_max_expr_depths(EVAL_EXPRESSIONS, EVAL_EXPRESSIONS);
    engine.set_max_array_size(MAX_ITEMS);
    engine.set_max_map_size(MAX_ITEMS);
    engine.set_max_operations(EVAL.operations * 2);
    engine
}

/// Creates an engine for patches, without host functions.
pub fn for_patches() -> Engine {
    let mut engine = bare();
    engine.set_max_call_levels(PATCH_CALLS);
    engine.set_max_expr_depths(PATCH_EXPRESSIONS, PATCH_EXPRESSIONS);
    engine.set_max_array_size(PATCH_ITEMS);
    engine.set_max_map_size(PATCH_ITEMS);
    engine.set_max_operations(PATCH.operations * 2);
    // No operator is present when a patch runs, so its output would have no reader.
    engine.disable_symbol("print").disable_symbol("debug");
    engine
}

/// An engine with the language and the library only, and every limit set. The optimizer is off: the submitted code runs as
/// written.
fn bare() -> Engine {
    let mut engine = Engine::new_raw();
    engine.set_optimization_level(OptimizationLevel::None);
    engine
        .disable_symbol("eval")
        .disable_symbol("import")
        .disable_symbol("export");
    // `this` is not a variable, so `on_var` could not check its size on use.
    engine.disable_symbol("this");
    engine.set_max_string_size(MAX_STRING);
    engine.set_max_variables(MAX_VARIABLES);
    engine.set_max_functions(MAX_FUNCTIONS);
    engine.set_max_modules(0);
    engine.set_max_strings_interned(0);
    engine.set_fail_on_invalid_map_property(false);
    library::install(&mut engine, &LIBRARY);
    engine.on_progress(|_| meter::charge(1).map(|_| Dynamic::UNIT));
    engine
}

/// Tests that the limits hold in this build: another crate of the service may have enabled features of Rhai (such as
/// `unchecked`) that disable limits of these engines.
///
/// # Errors
/// The name of a limit that does not hold.
pub fn self_test() -> Result<(), &'static str> {
    let bounds = RunBounds {
        operations: 2_000,
        time: Duration::from_secs(5),
        patient: false,
    };
    let ends = |engine: &Engine, code: &str| {
        let (result, _, _) = meter::metered(bounds, BootTime::now(), None, || engine.eval::<Dynamic>(code));
        result.is_err()
    };
    for engine in [for_eval(), for_patches()] {
        let checks: [(&str, &str); 6] = [
            ("operations", "let i = 0; loop { i += 1; }"),
            (
                "operations in closures",
                "loop { try { [1].map(|x| { loop {} }) } catch {} }",
            ),
            ("calls", "fn f(x) { f(x + 1) } f(0)"),
            ("strings", r#"let s = "0123456789"; for i in 0..20 { s += s; } s"#),
            ("arrays", "let a = [0]; for i in 0..20 { a += a; } a"),
            ("eval", r#"eval("1")"#),
        ];
        if let Some((name, _)) = checks.iter().find(|(_, code)| !ends(&engine, code)) {
            return Err(name);
        }
    }
    Ok(())
}
