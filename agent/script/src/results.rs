//! The results that a function may return, as far as its source shows.

use rhai::{AST, ASTFlags, ASTNode, Expr, Position, Stmt};

use super::walk;

use crate::convert;
use debug_base::LiteralValue;

/// The results that a function may return, with their positions.
#[derive(Debug, Default)]
pub struct Results {
    /// What is known of each answer, and where it is made.
    pub answers: Vec<(LiteralValue, Position)>,
    /// Position of the first `throw`.
    pub throws: Option<Position>,
}

/// The literal results of the functions with this name; unknown results are left out.
pub fn results(functions: &AST, name: &str) -> Results {
    let mut found = Results::default();
    let signatures: Vec<usize> = functions
        .iter_functions()
        .filter(|f| f.name == name)
        .map(|f| f.params.len())
        .collect();
    for params in signatures {
        let alone = walk::only(functions, |n, p| n == name && p == params);
        let mut last = Results::default();
        alone.walk(&mut |nodes: &[ASTNode<'_>]| {
            // Of the top-level statements, only the last gives the result.
            if let [ASTNode::Stmt(one)] = nodes {
                last = Results::default();
                statement(one, &mut last);
            }
            if let Some(ASTNode::Stmt(Stmt::Return(value, flags, position))) = nodes.last() {
                // The parser flags a `throw` with `BREAK`, and a `return` without it.
                if flags.intersects(ASTFlags::BREAK) {
                    found.throws.get_or_insert(*position);
                } else if let Some(value) = value {
                    expression(value, &mut found);
                }
            }
            true
        });
        found.answers.append(&mut last.answers);
    }
    found.answers.retain(|(known, _)| *known != LiteralValue::Unknown);
    found
}

/// The result of a block is that of its last statement.
fn statement(last: &Stmt, found: &mut Results) {
    let mut block = |statements: &[Stmt]| {
        if let Some(last) = statements.last() {
            statement(last, found);
        }
    };
    match last {
        Stmt::Expr(value) => expression(value, found),
        Stmt::Block(inner) => block(inner.statements()),
        Stmt::If(parts, _) => {
            block(parts.body.statements());
            block(parts.branch.statements());
        }
        Stmt::Switch(parts, _) => parts
            .1
            .expressions
            .iter()
            .for_each(|arm| expression(&arm.rhs, found)),
        // A nested `return` is found by the walk; other statements give no literal result.
        _ => {}
    }
}

fn expression(value: &Expr, found: &mut Results) {
    match value {
        Expr::Stmt(inner) => inner
            .statements()
            .last()
            .into_iter()
            .for_each(|last| statement(last, found)),
        other => found.answers.push((known(other), other.position())),
    }
}

fn known(value: &Expr) -> LiteralValue {
    if let Expr::Map(parts, _) = value {
        return LiteralValue::Map(
            parts
                .0
                .iter()
                .map(|(key, value)| (key.name.to_string(), known(value)))
                .collect(),
        );
    }
    let literal = value.get_literal_value(None);
    // A function is not a value; other checks decide whether it is allowed here.
    literal
        .and_then(|value| convert::from_dynamic(value, None).ok())
        .map_or(LiteralValue::Unknown, LiteralValue::Value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use debug_base::Tree;

    fn answers(code: &str) -> Vec<LiteralValue> {
        let engine = rhai::Engine::new_raw();
        let ast = engine.compile(format!("fn f(req) {{ {code} }}")).unwrap();
        results(&ast, "f")
            .answers
            .into_iter()
            .map(|(known, _)| known)
            .collect()
    }

    fn number(number: i64) -> LiteralValue {
        LiteralValue::Value(Tree::I64(number))
    }

    #[test]
    fn answers_are_found_at_the_end_of_each_branch_and_behind_each_return() {
        assert_eq!(answers("1"), [number(1)]);
        assert_eq!(answers("let x = 5; 2"), [number(2)]);
        assert_eq!(answers("if req { 1 } else { 2 }"), [number(1), number(2)]);
        assert_eq!(answers("if req { return 3; } 4"), [number(3), number(4)]);
        assert_eq!(
            answers("switch req { 1 => 5, _ => { 6 } }"),
            [number(5), number(6)]
        );
        assert_eq!(answers("{ { -7 } }"), [number(-7)]);
        assert_eq!(answers("return 8;"), [number(8)]);
    }

    #[test]
    fn what_depends_on_a_call_is_not_known() {
        assert_eq!(answers("req"), []);
        assert_eq!(answers("throw 1"), []);
        assert_eq!(answers("let f = |x| 5; req"), []);
        let map = answers("#{ status: req, body: 1 }").remove(0);
        let entries = vec![
            ("status".to_owned(), LiteralValue::Unknown),
            ("body".to_owned(), number(1)),
        ];
        assert_eq!((map.tree(), map), (None, LiteralValue::Map(entries)));
    }

    #[test]
    fn the_first_throw_is_found() {
        let engine = rhai::Engine::new_raw();
        let ast = engine.compile("fn f(n) {\n if n { throw 1; }\n n }").unwrap();
        assert_eq!(
            results(&ast, "f").throws.and_then(|position| position.line()),
            Some(2)
        );
        let ast = engine.compile("fn f(n) { n }").unwrap();
        assert_eq!(results(&ast, "f").throws, None);
    }
}
