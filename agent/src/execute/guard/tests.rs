use std::sync::Arc;
use std::time::Duration;

use rhai::{Dynamic, FnPtr, Scope};

use super::first;
use crate::changes::guards::{Answer, Counts};
use crate::gate::tests::core;
use debug_script::engine;
use debug_script::frozen::{Frozen, PatchHost, Takes};
use debug_state::{add_asked, take_asked};

/// A service whose state is locked for 7 ms by each read.
struct Slow;

const LOCKED: Duration = Duration::from_millis(7);

impl PatchHost for Slow {
    fn read(&self, _: &str) -> Result<Dynamic, String> {
        add_asked(LOCKED);
        Ok(Dynamic::from(1_i64))
    }

    fn log(&self, _: u64, _: bool, _: &str) {}
}

fn frozen(code: &str) -> Frozen {
    let engine = engine::for_eval();
    let ast = engine.compile(code).unwrap();
    let pointer = engine
        .eval_ast_with_scope::<FnPtr>(&mut Scope::new(), &ast)
        .unwrap();
    Frozen::new(
        &ast.clone_functions_only(),
        &pointer,
        Some(1),
        Takes::Counts,
        Arc::new(Slow),
    )
    .unwrap()
}

/// The guard is asked on a thread of its own.
#[test]
fn what_a_guard_reads_first_is_charged_to_the_eval_that_made_it() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(&folder);
    take_asked();
    let answer = first(&core, 1, &frozen(r#"|s| get("list") == 1"#), &Counts::of(&[]));
    assert_eq!((answer, take_asked()), (Answer::Holds, LOCKED));
    let answer = first(
        &core,
        1,
        &frozen(r#"|s| get("list") + get("list") > 2"#),
        &Counts::of(&[]),
    );
    assert!(matches!(answer, Answer::Broken(_)), "{answer:?}");
    // Twice by its code, and once for the words of what it saw.
    assert_eq!(take_asked(), LOCKED * 3);
}
