//! The limit of `patched_call`: the same closure on a bare Rhai engine. Prints nanoseconds per call.
//!
//! The same as there: the closure, the engine's settings as far as they are Rhai's own, a call by name with an empty scope,
//! arguments converted to a tree by serde and then to values, a result converted to a tree and then by serde to a number.
//! Different: the agent's tree is its own and private, while here it is that of `serde_json`; and everything that makes a patch
//! safe is missing here: the deadline, our count of operations, the panic boundary, the stack check, the breaker, and the limits
//! on what the patch may read.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use debug_bench::{PATCH, PATCHED_CALLS, WARM_CALLS};
use rhai::packages::{ArithmeticPackage, LogicPackage, Package as _};
use rhai::{AST, CallFnOptions, Dynamic, Engine, FnPtr, OptimizationLevel, Scope};
use serde_json::{Value, to_value};

fn main() -> Result<(), Box<dyn Error>> {
    let mut engine = Engine::new_raw();
    engine
        .set_optimization_level(OptimizationLevel::None)
        .set_max_strings_interned(0);
    engine
        .set_max_operations(200_000)
        .set_max_call_levels(8)
        .set_max_expr_depths(16, 16);
    engine
        .set_max_array_size(1_000)
        .set_max_map_size(1_000)
        .set_max_string_size(64 << 10);
    engine.register_global_module(ArithmeticPackage::new().as_shared_module());
    engine.register_global_module(LogicPackage::new().as_shared_module());
    let ast = engine.compile(PATCH)?;
    let name = engine.eval_ast::<FnPtr>(&ast)?.fn_name().to_owned();
    let ast = ast.clone_functions_only();
    let price = |amount: i64, customer: &str| call(&engine, &ast, &name, amount, customer);
    for _ in 0..WARM_CALLS {
        price(1000, "anna")?;
    }
    let started = Instant::now();
    for _ in 0..PATCHED_CALLS {
        assert_eq!(price(black_box(1000), black_box("anna"))?, 900);
    }
    println!(
        "{:.1}",
        started.elapsed().as_secs_f64() * 1e9 / f64::from(PATCHED_CALLS)
    );
    Ok(())
}

fn call(engine: &Engine, ast: &AST, name: &str, amount: i64, customer: &str) -> Result<i64, Box<dyn Error>> {
    let arguments = [to_value(amount)?, to_value(customer)?];
    let arguments: Vec<Dynamic> = arguments.iter().map(dynamic).collect();
    let options = CallFnOptions::new().eval_ast(false);
    let result: Dynamic = engine.call_fn_with_options(options, &mut Scope::new(), ast, name, arguments)?;
    let tree = Value::from(result.as_int()?);
    Ok(serde_json::from_value(tree)?)
}

fn dynamic(tree: &Value) -> Dynamic {
    match tree {
        Value::String(text) => text.as_str().into(),
        other => other.as_i64().map_or(Dynamic::UNIT, Dynamic::from),
    }
}
