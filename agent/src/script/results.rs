//! What a function may answer, as far as its text tells without running it.

use rhai::{AST, ASTFlags, ASTNode, Expr, Position, Stmt};

use super::walk;

use crate::convert;
use crate::state::Tree;

/// An answer, or a part of one.
#[derive(Debug, PartialEq)]
pub(crate) enum Known {
    /// It depends on what happens.
    Unknown,
    /// It is written down.
    Value(Tree),
    /// It is a map with these keys.
    Map(Vec<(String, Known)>),
}

/// What a function may answer, and where that is written.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) answers: Vec<(Known, Position)>,
    /// The first `throw`.
    pub(crate) throws: Option<Position>,
}

/// The answers of the functions named; what is not written down is left out.
pub(crate) fn results(functions: &AST, name: &str) -> Results {
    let mut found = Results::default();
    let signatures: Vec<usize> =
        functions.iter_functions().filter(|f| f.name == name).map(|f| f.params.len()).collect();
    for params in signatures {
        let alone = walk::only(functions, |n, p| n == name && p == params);
        let mut last = Results::default();
        alone.walk(&mut |nodes: &[ASTNode<'_>]| {
            // Of the statements of its body the last one counts.
            if let [ASTNode::Stmt(one)] = nodes {
                last = Results::default();
                statement(one, &mut last);
            }
            if let Some(ASTNode::Stmt(Stmt::Return(value, flags, position))) = nodes.last() {
                // The parser says `break` of a `throw`, and not of a `return`.
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
    found.answers.retain(|(known, _)| *known != Known::Unknown);
    found
}

/// A block answers what its last statement does.
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
        Stmt::Switch(parts, _) => parts.1.expressions.iter().for_each(|arm| expression(&arm.rhs, found)),
        // A `return` is found wherever it stands, and of the others nothing is written down.
        _ => {}
    }
}

fn expression(value: &Expr, found: &mut Results) {
    match value {
        Expr::Stmt(inner) => inner.statements().last().into_iter().for_each(|last| statement(last, found)),
        other => found.answers.push((known(other), other.position())),
    }
}

fn known(value: &Expr) -> Known {
    if let Expr::Map(parts, _) = value {
        return Known::Map(parts.0.iter().map(|(key, value)| (key.name.to_string(), known(value))).collect());
    }
    let literal = value.get_literal_value(None);
    // A function is no value; whether it may stand there is found out elsewhere.
    literal.and_then(|value| convert::from_dynamic(value, None).ok()).map_or(Known::Unknown, Known::Value)
}

impl Known {
    /// The whole value, if all of it is written down.
    #[cfg_attr(
        not(feature = "http"),
        allow(dead_code, reason = "only answers of routes are looked at whole")
    )]
    pub(crate) fn tree(&self) -> Option<Tree> {
        match self {
            Self::Unknown => None,
            Self::Value(tree) => Some(tree.clone()),
            Self::Map(entries) => {
                let tree = |(key, known): &(String, Self)| Some((key.clone(), known.tree()?));
                entries.iter().map(tree).collect::<Option<Vec<_>>>().map(Tree::Map)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(code: &str) -> Vec<Known> {
        let engine = rhai::Engine::new_raw();
        let ast = engine.compile(format!("fn f(req) {{ {code} }}")).unwrap();
        results(&ast, "f").answers.into_iter().map(|(known, _)| known).collect()
    }

    fn number(number: i64) -> Known {
        Known::Value(Tree::I64(number))
    }

    #[test]
    fn answers_are_found_at_the_end_of_each_branch_and_behind_each_return() {
        assert_eq!(answers("1"), [number(1)]);
        assert_eq!(answers("let x = 5; 2"), [number(2)]);
        assert_eq!(answers("if req { 1 } else { 2 }"), [number(1), number(2)]);
        assert_eq!(answers("if req { return 3; } 4"), [number(3), number(4)]);
        assert_eq!(answers("switch req { 1 => 5, _ => { 6 } }"), [number(5), number(6)]);
        assert_eq!(answers("{ { -7 } }"), [number(-7)]);
        assert_eq!(answers("return 8;"), [number(8)]);
    }

    #[test]
    fn what_depends_on_a_call_is_not_known() {
        assert_eq!(answers("req"), []);
        assert_eq!(answers("throw 1"), []);
        assert_eq!(answers("let f = |x| 5; req"), []);
        let map = answers("#{ status: req, body: 1 }").remove(0);
        let entries = vec![("status".to_owned(), Known::Unknown), ("body".to_owned(), number(1))];
        assert_eq!((map.tree(), map), (None, Known::Map(entries)));
    }

    #[test]
    fn the_first_throw_is_found() {
        let engine = rhai::Engine::new_raw();
        let ast = engine.compile("fn f(n) {\n if n { throw 1; }\n n }").unwrap();
        assert_eq!(results(&ast, "f").throws.and_then(|position| position.line()), Some(2));
        let ast = engine.compile("fn f(n) { n }").unwrap();
        assert_eq!(results(&ast, "f").throws, None);
    }
}
