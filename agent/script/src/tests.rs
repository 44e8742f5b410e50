use std::sync::Arc;
use std::time::Duration;

use rhai::{Dynamic, FnPtr, Scope};

use super::engine::{self, EVAL, PATCH};
use super::frozen::{Frozen, PatchHost, Takes};
use super::handed_out::HandedOut;
use super::memory;
use super::meter::{self, End, RunBounds};
use super::unfrozen::{FreezeError, Purpose};
use debug_base::{BootTime, Tree};
use debug_points::{PatchCode, PatchFailure};

/// A host with one readable path and no log.
struct Host;

impl PatchHost for Host {
    fn read(&self, path: &str) -> Result<Dynamic, String> {
        match path {
            "config.port" => Ok(Dynamic::from(8080_i64)),
            "config.db" => Ok(database()),
            _ => Err(format!("no such path `{path}`")),
        }
    }

    fn log(&self, _: u64, _: bool, _: &str) {}
}

/// A value that the host hands out.
fn database() -> Dynamic {
    let hosts: rhai::Map = [("first".into(), Dynamic::from("a".to_owned()))].into();
    let map: rhai::Map = [
        ("hosts".into(), hosts.into()),
        ("port".into(), Dynamic::from(5432_i64)),
    ]
    .into();
    map.into()
}

/// Evaluates code and freezes the function that it returns.
fn freeze(code: &str, gives: usize) -> Result<Frozen, FreezeError> {
    freeze_for(code, gives, Takes::Values)
}

fn freeze_for(code: &str, gives: usize, takes: Takes) -> Result<Frozen, FreezeError> {
    let engine = engine::for_eval();
    let ast = engine.compile(code).unwrap();
    let mut scope = Scope::new();
    scope.push_dynamic("db", database());
    let pointer = engine.eval_ast_with_scope::<FnPtr>(&mut scope, &ast).unwrap();
    let mut handed_out = HandedOut::default();
    handed_out.note(&database());
    let functions = ast.clone_functions_only();
    Ok(Frozen::new(&functions, &pointer, Some(gives), takes, Arc::new(Host))?.knowing(&handed_out))
}

#[track_caller]
fn answers(code: &str, arguments: Vec<Tree>, expected: Tree) {
    let frozen = freeze(code, arguments.len()).unwrap_or_else(|e| panic!("{code}: {e:?}"));
    assert_eq!(frozen.call(1, BootTime::now(), arguments), Ok(expected), "{code}");
}

#[track_caller]
fn refused(code: &str, said: &str) {
    let error = freeze(code, 1)
        .err()
        .unwrap_or_else(|| panic!("{code} was frozen"))
        .told(Purpose::Patch);
    assert!(error.contains(said), "{error}");
}

#[test]
fn frozen_code_answers() {
    answers("|x| x + 1", vec![Tree::I64(41)], Tree::I64(42));
    answers("let k = 40; |x| x + k", vec![Tree::I64(2)], Tree::I64(42));
    answers("fn one() { 1 } |x| x + one()", vec![Tree::I64(41)], Tree::I64(42));
    answers(
        r#"|x| get("config.port") + x"#,
        vec![Tree::I64(1)],
        Tree::I64(8081),
    );
    answers(
        "|x| [1, 2, 3].map(|y| y * x).len()",
        vec![Tree::I64(2)],
        Tree::I64(3),
    );
    answers(
        "fn down(n) { if n == 0 { 0 } else { [n].map(|x| down(x - 1))[0] } } |x| down(x)",
        vec![Tree::I64(2)],
        Tree::I64(0),
    );
    answers(
        "|x| { let f = |g| g + 1; f.call(x) }",
        vec![Tree::I64(1)],
        Tree::I64(2),
    );
    answers(
        "|x| { let r = 0; try { throw 1 } catch (e) { r = e + x; } r }",
        vec![Tree::I64(1)],
        Tree::I64(2),
    );
    answers(
        "|x| { let n = 0; for (a, i) in [5, 6] { n += a + i; } n + x }",
        vec![Tree::I64(0)],
        Tree::I64(12),
    );
    answers(
        "|x| switch x { 1 => \"one\", _ => \"more\" }",
        vec![Tree::I64(1)],
        Tree::Str("one".to_owned()),
    );
}

#[test]
fn what_could_not_run_is_refused_when_it_is_frozen() {
    refused("|x| nosuch(x)", "nosuch");
    refused("fn f() { missing } |x| f()", "missing");
    refused("|x| Fn(\"re\" + \"veal\").call(x)", "computes");
    refused("|x| get(x)", "computes");
    refused("|x| set(\"config.port\", x)", "effect");
    refused("|x| Fn(\"reveal\").call(x)", "effect");
    refused("|| 1", "0 arguments");
    refused("let f = |y| y; |x| f", "captures");
}

fn map<const N: usize>(entries: [(&str, Tree); N]) -> Tree {
    Tree::Map(
        entries
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

fn request() -> Tree {
    map([
        ("method", Tree::Str("GET".to_owned())),
        ("params", map([("id", Tree::Str("7".to_owned()))])),
        ("headers", map([("host", Tree::Str("x".to_owned()))])),
        ("body", map([("amount", Tree::I64(1))])),
    ])
}

#[track_caller]
fn fails(takes: Takes, code: &str, argument: Tree, said: &str) {
    let frozen = freeze_for(code, 1, takes).unwrap_or_else(|e| panic!("{code}: {e:?}"));
    match frozen.call(1, BootTime::now(), vec![argument]) {
        Err(PatchFailure::Threw(why)) => assert!(why.starts_with(said), "{code}: {why}"),
        other => panic!("{code}: {other:?}"),
    }
}

#[test]
fn a_name_that_a_map_of_the_agent_lacks_is_an_error() {
    let hosts = "there is no `hots` in it; did you mean `hosts`? known: hosts, port (line 1,";
    for code in [
        r#"|x| get("config.db").hots"#,
        r#"|x| { let d = get("config.db"); d.hots }"#,
        r#"|x| get("config.db")["hots"]"#,
        r#"|x| [get("config.db")].map(|d| d.hots)"#,
        r#"fn of(d) { d.hots } |x| of(get("config.db"))"#,
        r#"|x| { let n = 0; [1].for_each(|i| n += i); get("config.db").hots + n }"#,
        r#"|x| { let own = #{ a: 1 }; own.b = 2; get("config.db").hots }"#,
        "|x| db.hots",
        "let mine = #{ inner: db }; |x| mine.inner.hots",
    ] {
        fails(Takes::Values, code, Tree::Null, hosts);
        fails(Takes::Request, code, request(), hosts);
        fails(Takes::Counts, code, map([("calls", Tree::I64(0))]), hosts);
    }
    fails(
        Takes::Values,
        r#"|x| get("config.db").hosts.frist"#,
        Tree::Null,
        "there is no `frist` in it; did",
    );
    fails(
        Takes::Values,
        "|order| order.amuont",
        map([("amount", Tree::I64(1))]),
        "there is no `amuont` in it",
    );
    fails(
        Takes::Values,
        "|x| x.a.c",
        map([("a", map([("b", Tree::Null)]))]),
        "there is no `c` in it",
    );
}

#[test]
fn what_may_be_absent_from_a_request_is_unit() {
    for (code, wrong) in [("|req| req.hedaers", "hedaers"), ("|req| req.params.idd", "idd")] {
        fails(
            Takes::Request,
            code,
            request(),
            &format!("there is no `{wrong}` in it; did you mean"),
        );
    }
    for code in [
        "|req| req.headers.authorization",
        r#"|req| req.headers["x-id"]"#,
        "|req| req.body.total",
    ] {
        let frozen = freeze_for(code, 1, Takes::Request).unwrap();
        assert_eq!(
            frozen.call(1, BootTime::now(), vec![request()]),
            Ok(Tree::Null),
            "{code}"
        );
    }
}

#[test]
fn a_map_of_the_patchs_own_takes_new_names() {
    answers(
        "|x| { let m = #{}; m.status = 418; m }",
        vec![Tree::Null],
        map([("status", Tree::I64(418))]),
    );
    answers("|x| #{}.status", vec![Tree::Null], Tree::Null);
    answers(
        "|x| { x.fresh = 2; x }",
        vec![map([])],
        map([("fresh", Tree::I64(2))]),
    );
    // The same name is assigned and read: then Rhai's own rule holds, and a read adds nothing to the map.
    answers(
        "|x| { let m = #{}; if x == 1 { m.status = 418; } m.status; m }",
        vec![Tree::I64(0)],
        map([]),
    );
    let guard = freeze_for(
        "|s| { let m = #{}; m.calls = s.cals; m.calls < 1 }",
        1,
        Takes::Counts,
    )
    .unwrap();
    let counts = map([("calls", Tree::I64(0))]);
    let failed = guard.call(1, BootTime::now(), vec![counts.clone()]);
    assert_eq!(failed, Err(PatchFailure::Missing("cals".to_owned())));
    let guard = freeze_for("|s| s.calls < 1 && s.erors < 1", 1, Takes::Counts).unwrap();
    let failed = guard.call(1, BootTime::now(), vec![counts]);
    assert_eq!(failed, Err(PatchFailure::Missing("erors".to_owned())));
}

#[test]
fn what_is_captured_is_a_copy() {
    let engine = engine::for_eval();
    let mut scope = Scope::new();
    let ast = engine.compile("let k = [1]; |x| k[0]").unwrap();
    let pointer = engine.eval_ast_with_scope::<FnPtr>(&mut scope, &ast).unwrap();
    let frozen = Frozen::new(
        &ast.clone_functions_only(),
        &pointer,
        Some(1),
        Takes::Values,
        Arc::new(Host),
    )
    .unwrap();
    engine.run_with_scope(&mut scope, "k[0] = 2;").unwrap();
    assert_eq!(
        frozen.call(1, BootTime::now(), vec![Tree::Null]),
        Ok(Tree::I64(1))
    );
    assert_eq!(frozen.captures, [Tree::Seq(vec![Tree::I64(1)])]);
}

#[test]
fn one_call_leaves_nothing_to_the_next() {
    let frozen = freeze("let n = 0; |x| { n += 1; n }", 1).unwrap();
    assert_eq!(
        frozen.call(1, BootTime::now(), vec![Tree::Null]),
        Ok(Tree::I64(1))
    );
    assert_eq!(
        frozen.call(1, BootTime::now(), vec![Tree::Null]),
        Ok(Tree::I64(1))
    );
}

#[test]
fn hostile_patches_end() {
    for code in [
        "|x| { loop {} }",
        "|x| { loop { try { loop {} } catch {} } }",
        "|x| { loop { try { [1].map(|y| { loop {} }) } catch {} } }",
        "fn f(n) { f(n + 1) } |x| f(0)",
        "fn f(n) { [n].map(|y| f(y)) } |x| f(0)",
        r#"|x| { let s = "a"; loop { s += s; } }"#,
        r#"|x| { let s = "a"; s.pad(1000000, 'b'); s }"#,
        r#"|x| { let s = "ab"; s.pad(60000, 'b'); s.replace("b", s); s }"#,
        "|x| { let a = [1]; loop { a = [a, a]; } }",
        "|x| { let m = #{}; loop { m.a = m; } }",
        "|x| { let a = []; loop { a.push(a); } }",
        "|x| { let a = [3, 2, 1]; loop { a.sort(); } }",
        "|x| { throw x }",
    ] {
        let frozen = freeze(code, 1).unwrap_or_else(|e| panic!("{code}: {e:?}"));
        let failure = frozen.call(1, BootTime::now(), vec![Tree::I64(0)]).unwrap_err();
        assert!(
            matches!(failure, PatchFailure::Limit(_) | PatchFailure::Threw(_)),
            "{code}: {failure:?}"
        );
    }
}

/// The minimum stack left to a patch suffices for the deepest patch, in this build.
#[test]
fn the_deepest_patch_fits_the_smallest_stack() {
    let deepest = "fn f(n) { [n].map(|y| { try { switch n { _ => f(((((((y + 1))))))) } } catch (e) { throw e } }) } |x| f(0)";
    // The maximum expression depth at every level of calls.
    let full = format!(
        "fn f(n) {{ {}f(1){} }} |x| f(0)",
        "(1 + ".repeat(13),
        ")".repeat(13)
    );
    let nested = "|x| { let m = #{}; loop { m = #{ a: [m] }; } }";
    // The deepest value in the deepest call; also without a loop that creates it.
    let both = format!(
        "fn f(n) {{ for i in 0..1 {{ if n < 7 {{ {}f(n + 1){}; }} else {{ let m = #{{}}; loop {{ m = #{{ a: [m] }}; }} }} }} }} |x| f(0)",
        "(1 + ".repeat(9),
        ")".repeat(9)
    );
    let pushed = "fn f(n, m) { let a = []; a.push(m); f(n + 1, a) } |x| { let m = [0]; for i in 0..900 { m[0] = m; } throw m }";
    let straight = format!("|x| {{ let m = []; {} throw m }}", "m = [m];".repeat(900));
    for code in [deepest, &full, nested, &both, pushed, &straight] {
        let frozen = freeze(code, 1).unwrap_or_else(|e| panic!("{code}: {e:?}"));
        // The minimum that `points` checks before a call: 256 KiB, or 1 MiB with debug assertions.
        let left = if cfg!(debug_assertions) {
            1 << 20
        } else {
            256 << 10
        };
        let on_small_stack = move || frozen.call(1, BootTime::now(), vec![Tree::I64(0)]).is_err();
        let thread = std::thread::Builder::new()
            .stack_size(left)
            .spawn(on_small_stack)
            .unwrap();
        assert!(thread.join().unwrap(), "{code}");
    }
}

/// A value that holds values of Rhai could be nested in itself without a bound, and dropping it would overflow the stack.
#[test]
fn an_err_does_not_nest() {
    for code in [
        "|x| { let a = [x]; while true { a.push(Err(Err(a.pop()))); } }",
        "|x| { let a = [x]; for i in 0..700 { a.push(Err([a.pop()])); } a.pop() }",
        "|x| Err(Err(x))",
        "|x| Err(#{ a: [Err(x)] })",
    ] {
        let frozen = freeze(code, 1).unwrap_or_else(|e| panic!("{code}: {e:?}"));
        let run = move || frozen.call(1, BootTime::now(), vec![Tree::I64(0)]);
        let thread = std::thread::Builder::new()
            .stack_size(1 << 20)
            .spawn(run)
            .unwrap();
        let answer = thread.join().unwrap();
        assert!(
            matches!(answer, Err(PatchFailure::Threw(_))),
            "{code}: {answer:?}"
        );
    }
    let call = |code: &str| {
        let frozen = freeze(code, 1).unwrap_or_else(|e| panic!("{code}: {e:?}"));
        frozen.call(1, BootTime::now(), vec![Tree::Str("no".to_owned())])
    };
    assert_eq!(
        call("|x| Err(x)"),
        Err(PatchFailure::Fault(Tree::Str("no".to_owned())))
    );
    assert!(matches!(
        call("|x| { x.pad(5000, 'x'); Err(x) }"),
        Err(PatchFailure::Threw(_))
    ));
    assert!(matches!(
        call("|x| { loop { Err(x) } }"),
        Err(PatchFailure::Limit(_))
    ));
}

/// Otherwise the check for `Err` where there must be none would take the host's for the author's own.
#[test]
fn a_function_of_ones_own_does_not_stand_in_for_err() {
    for functions in ["fn int.Err(a) { a }", "fn Err(a) { a }", "fn Err() { 1 }"] {
        let error = freeze(&format!("{functions} |x| Err(x)"), 1)
            .map(drop)
            .unwrap_err();
        assert!(
            matches!(error, FreezeError::Reserved { name: "Err" }),
            "{functions}: {error:?}"
        );
        freeze(&format!("{functions} |x| x"), 1).unwrap_or_else(|e| panic!("{e:?}"));
    }
}

/// Frames may take more stack than in any build that was measured: a run ends before the stack does, and no `catch` helps.
#[test]
fn a_run_ends_before_the_stack_does() {
    let on_stack = |left: usize, code: &'static str| {
        let frozen = freeze(code, 1).unwrap_or_else(|e| panic!("{code}: {e:?}"));
        let run = move || frozen.call(1, BootTime::now(), vec![Tree::I64(0)]);
        let thread = std::thread::Builder::new().stack_size(left).spawn(run).unwrap();
        thread.join().unwrap()
    };
    let nested = "fn f(n) { if n == 0 { 7 } else { (((f(n - 1)))) } } |x| f(6)";
    let caught = "fn f(n) { try { f(n + 1) } catch { 0 } } |x| f(0)";
    for left in (0..10).map(|more| meter::SPARE_STACK + (more << 12)) {
        for code in [nested, caught] {
            let answer = on_stack(left, code);
            assert!(
                matches!(answer, Err(PatchFailure::Stack)),
                "{left} {code}: {answer:?}"
            );
        }
    }
    assert_eq!(on_stack(2 << 20, nested), Ok(Tree::I64(7)));
}

#[test]
fn a_patch_nests_as_deep_as_a_service_thread_bears_and_no_deeper() {
    let chain = |n: usize| format!("|x| x{}", ".a".repeat(n));
    freeze(&chain(15), 1).unwrap_or_else(|e| panic!("{e:?}"));
    refused(
        &chain(16),
        "nests 17 expressions in one another, the limit is 16 (line 1, position",
    );
    // Also in a function called from the patch.
    refused(
        &format!("fn f(x) {{ x{} }} |x| f(x)", ".a".repeat(16)),
        "nests 17 expressions",
    );
}

/// A chain of closures as long as the number of operations would overflow the stack when dropped.
#[test]
fn closures_do_not_capture_closures_without_end() {
    for code in [
        "|x| { let f = || 1; loop { let g = f; f = || g.call(); } }",
        "fn wrap(g) { || g.call() } |x| { let f = || 1; loop { f = wrap(f); } }",
        "|x| { let a = [1]; loop { let b = a; let f = || b.len(); a = [f]; } }",
        "|x| { let m = #{}; loop { let b = m; m = #{ f: || b.len() }; } }",
        "|x| { let f = || 1; loop { f = [f].map(|g| { || g.call() })[0]; } }",
        "|x| { let f = || 1; loop { let g = f; try { f = || g.call(); } catch {} } }",
    ] {
        let frozen = freeze(code, 1).unwrap_or_else(|e| panic!("{code}: {e:?}"));
        let failure = frozen.call(1, BootTime::now(), vec![Tree::I64(0)]);
        assert_eq!(failure, Err(PatchFailure::Limit("size of a value")), "{code}");
    }
    refused(
        "let f = |y| y; |x| { let g = |z| z; g.curry(1) }",
        "calls `curry` (line 1",
    );
    refused("|x| { let g = |z| z; curry(g, g) }", "calls `curry` (line 1");
    let harmless =
        freeze("|x| { let k = [1, 2]; [0, 1].map(|i| k[i] + x) }", 1).unwrap_or_else(|e| panic!("{e:?}"));
    let answer = harmless.call(1, BootTime::now(), vec![Tree::I64(5)]);
    assert_eq!(answer, Ok(Tree::Seq(vec![Tree::I64(6), Tree::I64(7)])));
}

#[test]
fn an_end_cannot_be_caught() {
    let engine = engine::for_eval();
    let bounds = RunBounds {
        operations: 10_000,
        ..EVAL
    };
    let code = "let n = 0; loop { try { [1].map(|x| { loop {} }) } catch { n += 1 } }";
    let (result, end, used) = meter::metered(bounds, BootTime::now(), None, || engine.eval::<Dynamic>(code));
    assert!(result.is_err());
    assert_eq!(end, Some(End::Operations));
    assert!(used < 11_000, "{used}");
}

/// A closure stored in a variable that it captured holds itself.
#[test]
fn what_closures_captured_is_freed_after_the_call() {
    for code in [
        "let a = [probe()]; let g = || a; a[0] = [a[0], g]; 1",
        "let p = probe(); let f = 0; let g = || [f, p]; f = g; 1",
        "let m = #{ p: probe() }; let g = || m; m.g = g; 1",
    ] {
        let held = Arc::new(());
        let mut engine = engine::for_patches();
        let probe = held.clone();
        engine.register_fn("probe", move || Dynamic::from(probe.clone()));
        #[expect(deprecated, reason = "as in the engine of patches")]
        engine.on_var(|name, _, context| memory::check_variable(name, true, &context).map(|()| None));
        let answer = memory::freeing(memory::PATCH, || engine.eval::<i64>(code));
        assert_eq!(answer.unwrap(), 1, "{code}");
        drop(engine);
        assert_eq!(Arc::strong_count(&held), 1, "{code}");
    }
}

/// Runs a line on an eval engine that checks variables; its variables stay in the scope.
fn in_session(scope: &mut Scope<'static>, code: &str) -> (Result<Dynamic, String>, Option<End>) {
    let mut engine = engine::for_eval();
    #[expect(deprecated, reason = "as evals do")]
    engine.on_var(|name, _, context| memory::check_variable(name, true, &context).map(|()| None));
    // A busy host would exceed the time bound of an eval.
    let bounds = RunBounds {
        time: Duration::from_secs(60),
        ..EVAL
    };
    let (result, end, _) = meter::metered(bounds, BootTime::now(), None, || {
        memory::freeing(memory::EVAL, || {
            let mut copy = memory::copy(scope);
            let result = engine
                .eval_with_scope::<Dynamic>(&mut copy, code)
                .map_err(|e| e.to_string())?;
            memory::keep(&copy);
            *scope = copy;
            Ok(result)
        })
    });
    (result, end)
}

#[test]
fn a_copy_of_variables_shares_among_itself_what_they_share() {
    let mut scope = Scope::new();
    let code =
        "let x = 1; let x = 2; const C = 3; let n = [0]; let f = || { n[0] += 1; n[0] }; let m = #{ f: f };";
    drop(in_session(&mut scope, code).0.unwrap());
    let before = memory::copy(&scope);
    let order = |scope: &Scope<'_>| {
        scope
            .iter()
            .map(|(name, constant, _)| (name.to_owned(), constant))
            .collect::<Vec<_>>()
    };
    assert_eq!(order(&before), order(&scope));
    assert_eq!(scope.get_value::<i64>("x"), Some(2));
    let copy = memory::select(&scope, |place| place != 0);
    assert_eq!(order(&copy), order(&scope)[1..]);
    // Captured cells stay live in the session, but not in the copy made before.
    let n = |scope: &Scope<'_>| {
        scope.get("n").unwrap().clone().flatten().into_array().unwrap()[0]
            .as_int()
            .unwrap()
    };
    assert_eq!(n(&scope), 0);
    scope.get_mut("n").unwrap().write_lock::<rhai::Array>().unwrap()[0] = 5_i64.into();
    assert_eq!((n(&scope), n(&before)), (5, 0));
    // Captured values count although no variable shows them.
    let small = memory::size(&scope);
    drop(
        in_session(
            &mut scope,
            "let g = 0; { let s = \"\"; s.pad(60000, 'x'); g = || s; }",
        )
        .0
        .unwrap(),
    );
    assert!(
        (60_000..61_000).contains(&(memory::size(&scope) - small)),
        "{} {small}",
        memory::size(&scope)
    );
}

#[test]
fn captured_values_are_bounded_together() {
    for code in [
        "let fs = []; for i in 0..9000 { let s = \"\"; s.pad(60000, 'x'); fs.push(|| s); }",
        "let fs = []; for i in 0..9000 { let s = \"\"; let f = || s; s.pad(60000, 'x'); s = [s, f]; }",
        "for j in 0..10 { for i in 0..9000 { let s = i; let f = || s; f = 0; } }",
        "fn f(n) { let a = n; let b = n; let c = n; let d = n; let e = n; let g = n; let h = n; let i = n; f(n + 1 + a) } f(0)",
        "let a = [0]; while a.len() < 8000 { a += a; }
            fn g(a, n) { let b = a; let c = a; let d = a; let e = a; let f = a; if n < 30 { g(a, n + 1) } } g(a, 0)",
    ] {
        let (result, end) = in_session(&mut Scope::new(), code);
        assert!(result.is_err(), "{code}");
        assert_eq!(end, Some(End::Size), "{code}");
    }
}

/// On a service thread: a patched call has 256 KiB for its variables in total.
#[test]
fn the_variables_of_a_patched_call_are_bounded_together() {
    let many: String = (0..20).map(|n| format!("let a{n} = s + {n};")).collect();
    for code in [
        format!("|x| {{ let s = \"\"; s.pad(30000, 'x'); {many} a1 + a2 }}"),
        format!("fn f(s, n) {{ {many} if n < 7 {{ f(s, n + 1) }} }} |x| {{ let s = \"\"; s.pad(4000, 'x'); f(s, 0) }}"),
        "fn f(n) { let a = n; let b = a; let c = b; let d = c; let e = d; let g = e; let h = g; let i = h; let j = i; f(j) } |x| f(x)"
            .to_owned(),
    ] {
        let frozen = freeze(&code, 1).unwrap_or_else(|e| panic!("{code}: {e:?}"));
        let failure = frozen.call(1, BootTime::now(), vec![Tree::I64(0)]);
        assert_eq!(failure, Err(PatchFailure::Limit("size of a value")), "{code}");
    }
    let few: String = (0..20).map(|n| format!("let a{n} = s + {n};")).collect();
    let harmless =
        freeze(&format!("|x| {{ let s = \"abc\"; {few} a1 + a2 }}"), 1).unwrap_or_else(|e| panic!("{e:?}"));
    let answer = harmless.call(1, BootTime::now(), vec![Tree::I64(0)]);
    assert_eq!(answer, Ok(Tree::Str("abc1abc2".to_owned())));
}

/// On a busy host a thread may wait for a processor longer than a patch may run.
#[test]
fn a_patch_is_not_ended_for_time_that_others_had() {
    let begun = |ago: Duration| BootTime(BootTime::now().0 - u64::try_from(ago.as_nanos()).unwrap());
    let run = |ago: Duration| meter::metered(PATCH, begun(ago), None, || meter::charge(300)).1;
    assert_eq!(run(PATCH.time * 2), None);
    assert_eq!(run(PATCH.time * 20), Some(End::Time), "not for ever either");
    assert_eq!(
        meter::metered(EVAL, begun(EVAL.time), None, || meter::charge(300)).1,
        Some(End::Time)
    );
    // A run that computes is always ended; each charge here represents much work.
    let (_, end, used) = meter::metered(PATCH, BootTime::now(), None, || {
        while meter::charge(1).is_none() {
            std::hint::black_box((0..10_000).sum::<u64>());
        }
    });
    assert!(
        matches!(end, Some(End::Time | End::Operations)),
        "{end:?} after {used}"
    );
}

#[test]
fn runs_nest_and_come_back() {
    let ((), outer, _) = meter::metered(EVAL, BootTime::now(), None, || {
        let ((), inner, _) = meter::metered(PATCH, BootTime::now(), None, || meter::end(End::Size));
        assert_eq!(inner, Some(End::Size));
        assert_eq!(meter::ended(), None);
    });
    assert_eq!(outer, None);
}

#[test]
fn the_limits_hold_in_this_build() {
    assert_eq!(engine::self_test(), Ok(()));
}

#[test]
fn nothing_dangerous_is_in_the_engines() {
    for engine in [engine::for_eval(), engine::for_patches()] {
        for code in [
            r#"eval("1")"#,
            r#"import "x" as y"#,
            "sleep(1)",
            "timestamp()",
            r#"open_file("x")"#,
        ] {
            assert!(engine.eval::<Dynamic>(code).is_err(), "{code}");
        }
    }
}

#[test]
fn every_name_of_the_library_is_one() {
    let engine = engine::for_eval();
    for name in super::words::WORDS.iter().map(|word| word.name) {
        // A wrong number of arguments and an unknown function give the same error, with the signature. They differ in that a
        // known name accepts some arguments, so all argument lists used in scripts are tried.
        let tries = [
            "()",
            "(1)",
            "(1.5)",
            "(\"a\")",
            "('a')",
            "(\"a\", \"b\")",
            "(\"a\", 1)",
            "([1])",
            "([1], 1)",
            "([1], |x| true)",
            "([1], \"\")",
            "(#{})",
            "(#{}, \"a\")",
            "([1], 0, 1)",
            "([1], |a, b| a, 0)",
            "(\"a\", \"b\", \"c\")",
            "(#{}, \"a\", 1)",
            "(\"ab\", 3, 'x')",
            "(1, 2)",
            "(1, 2, 1)",
            "(1.0, 2.0)",
            "(\"Fn\")",
            "(1..2)",
        ];
        let syntax = [
            "type_of(1)",
            "is_shared(x)",
            "is_def_var(\"x\")",
            "is_def_fn(\"f\", 1)",
            "x.call()",
            "x.curry(1)",
            "Fn(\"f\")",
            "throw 1",
        ];
        let known = tries.iter().any(|arguments| {
            let result = engine.eval::<Dynamic>(&format!("{name}{arguments}"));
            !result.is_err_and(|e| e.to_string().contains("Function not found"))
        });
        assert!(known || syntax.iter().any(|s| s.contains(name)), "{name}");
    }
}

/// The list of reserved words is that of this version of Rhai, and a name of any other form is no property either.
#[test]
fn the_names_that_can_follow_a_dot_are_those_that_the_parser_takes() {
    let engine = engine::for_eval();
    let words = "let const if else switch do while until loop for in continue break return throw try catch fn private import \
        export as global true false this new use module package var static shared with is goto exit match case default \
        void null nil spawn thread go sync async await yield print debug type_of eval Fn call curry is_shared is_def_fn \
        is_def_var public protected implements extends class struct enum trait super self Self mut ref where impl type \
        dyn move pub crate abstract final override virtual typeof try_ macro _ __ _a a_ _1 a1 1a 1 0 00 1e5 x_y E PI \
        func function def end then begin not and or xor";
    for name in words.split_whitespace().chain(["", "a b", "a-b", "é", "a.b"]) {
        let taken = !name.contains(['.', ' ', '-']) && engine.compile_expression(format!("x.{name}")).is_ok();
        let expected = taken && !name.is_empty() && name.is_ascii();
        assert_eq!(debug_base::is_property(name), expected, "{name}");
    }
}
