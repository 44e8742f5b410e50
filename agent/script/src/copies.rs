//! Finds code that changes a copy which is then discarded, or compares a handle in a `switch`.
//!
//! Rhai reports neither: `trim(config.name)` trims a copy, and `switch config.db { … }` takes its last arm, because a handle
//! is not a value that it can compare. The first is refused before the code runs; a compared step is read as a value.

use std::collections::{HashMap, HashSet};

use rhai::{AST, ASTFlags, ASTNode, Expr, FnCallExpr, Position, Scope, Stmt};

use super::walk;
use debug_base::Path;

/// Functions that change a text in place. A step of a state that is text is read as a copy.
const OF_TEXTS: [&str; 3] = ["pad", "replace", "trim"];
/// Functions that change a list or map in place and return nothing.
const OF_CONTAINERS: [&str; 6] = ["clear", "insert", "push", "reverse", "set", "sort"];
/// Functions that return the removed item.
const TAKERS: [&str; 2] = ["pop", "remove"];

/// A change of a copy.
#[derive(Debug, Eq, PartialEq)]
pub struct Lost {
    /// The function.
    pub name: String,
    /// Position of the call.
    pub position: Position,
    /// The correct way to write it.
    pub help: String,
}

/// The first change of a copy in the code. `is_own`: whether the script itself defines a function.
pub fn lost(ast: &AST, is_state: impl Fn(&str) -> bool, is_own: impl Fn(&str) -> bool) -> Option<Lost> {
    let mut lost = None;
    ast.walk(&mut |nodes: &[ASTNode<'_>]| {
        let found = match nodes.last() {
            Some(
                ASTNode::Stmt(Stmt::FnCall(call, position)) | ASTNode::Expr(Expr::FnCall(call, position)),
            ) => called(call, *position, &is_state),
            Some(ASTNode::Expr(chain @ (Expr::Dot(..) | Expr::Index(..)))) if is_top(nodes) => {
                in_chain(chain)
            }
            _ => None,
        };
        lost = found.filter(|found| !is_own(&found.name));
        lost.is_none()
    });
    lost
}

/// Whether a chain is not the tail of another chain.
fn is_top(nodes: &[ASTNode<'_>]) -> bool {
    let [.., ASTNode::Expr(parent), ASTNode::Expr(chain)] = nodes else {
        return true;
    };
    match parent {
        Expr::Dot(parts, flags, _) | Expr::Index(parts, flags, _) => {
            flags.contains(ASTFlags::BREAK) || !std::ptr::eq(&parts.rhs, *chain)
        }
        _ => true,
    }
}

/// `trim(config.name)`: an argument that is not a variable is passed as a copy, except a list or map of a state, which is
/// live.
fn called(call: &FnCallExpr, position: Position, is_state: impl Fn(&str) -> bool) -> Option<Lost> {
    let name = call.name.as_str();
    let of_texts = OF_TEXTS.contains(&name);
    if !of_texts && !OF_CONTAINERS.contains(&name) || name == "set" {
        return None;
    }
    let receiver = call.args.first()?;
    let help = match receiver {
        Expr::Variable(..) => return None,
        Expr::Dot(..) | Expr::Index(..) => {
            let chain = Chain::of(receiver);
            let is_live = matches!(chain.root, Expr::Variable(root, ..) if is_state(&root.1));
            if is_live && !of_texts && chain.is_place() {
                return None;
            }
            match chain.text() {
                Some(text) => format!("write `{}`", method(&text, call, 1)),
                None => through_a_variable(name),
            }
        }
        _ => through_a_variable(name),
    };
    Some(Lost {
        name: name.to_owned(),
        position,
        help,
    })
}

/// `get("rota.people").push(1)`: the result of a call is a copy.
fn in_chain(chain: &Expr) -> Option<Lost> {
    let chain = Chain::of(chain);
    let mut is_copy = !matches!(chain.root, Expr::Variable(..) | Expr::ThisPtr(..));
    let direct = got(chain.root);
    for (at, step) in chain.steps.iter().enumerate() {
        let Expr::MethodCall(call, position) = step else {
            continue;
        };
        let name = call.name.as_str();
        let is_first = chain.steps[..at]
            .iter()
            .all(|step| !matches!(step, Expr::MethodCall(..)));
        let of_state = direct.as_ref().filter(|_| is_first);
        let changes = OF_TEXTS.contains(&name) || OF_CONTAINERS.contains(&name);
        if is_copy && (changes || TAKERS.contains(&name) && of_state.is_some()) {
            let help = of_state
                .and_then(|path| with_steps(path.as_code()?, &chain.steps[..at]))
                .map_or_else(|| through_a_variable(name), |place| in_place(&place, call));
            return Some(Lost {
                name: name.to_owned(),
                position: *position,
                help,
            });
        }
        is_copy = true;
    }
    None
}

fn in_place(place: &str, call: &FnCallExpr) -> String {
    let change = method(place, call, 0);
    match TAKERS.contains(&call.name.as_str()) {
        true => format!(
            "`{change}` takes it out of the state, `let copy = {place}` and then `copy` changes a copy"
        ),
        false => format!("`{change}` changes the state"),
    }
}

fn through_a_variable(name: &str) -> String {
    match OF_TEXTS.contains(&name) {
        true => "give it a name first: `let text = \" a \"; text.trim(); text`",
        false => "give it a name first: `let list = [2, 1]; list.sort(); list`",
    }
    .to_owned()
}

/// The path in `get("…")`.
fn got(root: &Expr) -> Option<Path> {
    let Expr::FnCall(call, _) = root else { return None };
    match (call.name.as_str(), call.args.as_slice()) {
        ("get", [Expr::StringConstant(path, _)]) => path.parse().ok(),
        _ => None,
    }
}

/// The call in method notation; arguments other than constants and variables are written `value`.
fn method(place: &str, call: &FnCallExpr, from: usize) -> String {
    let argument = |argument: &Expr| constant(argument).unwrap_or_else(|| "value".to_owned());
    let arguments: Vec<String> = call.args.iter().skip(from).map(argument).collect();
    format!("{place}.{}({})", call.name, arguments.join(", "))
}

fn constant(value: &Expr) -> Option<String> {
    Some(match value {
        Expr::IntegerConstant(number, _) => number.to_string(),
        Expr::StringConstant(text, _) => serde_json::Value::from(text.as_str()).to_string(),
        Expr::CharConstant(letter, _) => format!("'{letter}'"),
        Expr::BoolConstant(truth, _) => truth.to_string(),
        Expr::Variable(name, ..) => name.1.to_string(),
        _ => return None,
    })
}

/// The parts of `config.db["max-conn"]`.
struct Chain<'a> {
    root: &'a Expr,
    steps: Vec<&'a Expr>,
    /// Whether each step is an index, in the order of the steps.
    indexed: Vec<bool>,
    /// Position of each step.
    taken: Vec<Position>,
}

impl<'a> Chain<'a> {
    fn of(chain: &'a Expr) -> Self {
        let mut parts = Chain {
            root: chain,
            steps: Vec::new(),
            indexed: Vec::new(),
            taken: Vec::new(),
        };
        let mut rest = chain;
        let mut is_first = true;
        while let Expr::Dot(pair, flags, position) | Expr::Index(pair, flags, position) = rest {
            if is_first {
                parts.root = &pair.lhs;
            }
            parts.indexed.push(matches!(rest, Expr::Index(..)));
            parts.taken.push(*position);
            let goes_on =
                !flags.contains(ASTFlags::BREAK) && matches!(pair.rhs, Expr::Dot(..) | Expr::Index(..));
            parts.steps.push(match (&pair.rhs, goes_on) {
                (Expr::Dot(next, ..) | Expr::Index(next, ..), true) => &next.lhs,
                (step, _) => step,
            });
            if !goes_on {
                break;
            }
            (rest, is_first) = (&pair.rhs, false);
        }
        parts
    }

    /// Whether it is a place: no step is a method call.
    fn is_place(&self) -> bool {
        !self.steps.iter().any(|step| matches!(step, Expr::MethodCall(..)))
    }

    /// The source text, if it consists of a variable and constant steps.
    fn text(&self) -> Option<String> {
        let Expr::Variable(root, ..) = self.root else {
            return None;
        };
        self.steps
            .iter()
            .zip(&self.indexed)
            .try_fold(root.1.to_string(), |text, (step, indexed)| {
                Some(match (step, indexed) {
                    (Expr::Property(name, _), _) => format!("{text}.{}", name.2),
                    (step, true) => format!("{text}[{}]", constant(step)?),
                    _ => return None,
                })
            })
    }
}

fn with_steps(place: String, steps: &[&Expr]) -> Option<String> {
    steps.iter().try_fold(place, |text, step| {
        Some(match step {
            Expr::Property(name, _) => format!("{text}.{}", name.2),
            step => format!("{text}[{}]", constant(step)?),
        })
    })
}

/// The steps and variables that `switch` compares. Function results and elements of script lists are not covered: there a
/// handle still takes the last arm.
#[derive(Debug, Default)]
pub struct Switched {
    /// In statements, the position of the last step of each compared chain.
    in_statements: HashSet<Position>,
    /// The same in functions.
    in_functions: HashSet<Position>,
    /// Compared variables and states, in statements.
    names: HashSet<String>,
    /// Compared parameters and variables of functions, by the parameters of the function: at run time that is all that is
    /// known of it.
    own: HashMap<Vec<String>, HashSet<String>>,
    /// What may be a compared state in functions.
    outer: HashSet<String>,
}

impl Switched {
    /// Those in statements and functions.
    pub fn of(ast: &AST) -> Self {
        let mut switched = Self::default();
        // Functions come from several submissions, so steps of different functions may share a position.
        let functions = ast.clone_functions_only();
        let others = steps_not_compared(&functions);
        switched.in_functions = compared(&functions, |_, _| {});
        switched
            .in_functions
            .retain(|position| !others.contains(position));
        let mut names = HashSet::new();
        switched.in_statements = compared(&statements_of(ast), |name, _| {
            names.insert(name.to_owned());
        });
        switched.names = names;
        // Each function alone: the parameter of one may have the name of a state that another reads.
        for function in functions.iter_functions() {
            let alone = walk::only(&functions, |name, params| {
                name == function.name && params == function.params.len()
            });
            let params: Vec<String> = function.params.iter().map(|name| (*name).to_owned()).collect();
            compared(&alone, |name, is_local| {
                let name = name.to_owned();
                if is_local || params.contains(&name) {
                    switched.own.entry(params.clone()).or_default().insert(name);
                } else {
                    switched.outer.insert(name);
                }
            });
        }
        switched
    }

    /// Whether a `switch` compares the step at this position.
    pub fn compares(&self, position: Position, in_function: bool) -> bool {
        if in_function {
            &self.in_functions
        } else {
            &self.in_statements
        }
        .contains(&position)
    }

    /// Whether a `switch` compares the variable or state of this name. `scope`: what is declared where it is read.
    pub fn names(&self, name: &str, in_function: bool, scope: &Scope<'_>) -> bool {
        if !in_function {
            return self.names.contains(name);
        }
        if !scope.contains(name) {
            return self.outer.contains(name);
        }
        let begins_with = |params: &[String]| {
            let mut declared = scope.iter_raw().map(|(name, ..)| name);
            params.iter().all(|param| declared.next() == Some(param))
        };
        self.own
            .iter()
            .any(|(params, names)| names.contains(name) && begins_with(params))
    }
}

fn statements_of(ast: &AST) -> AST {
    let mut statements = ast.clone();
    statements.clear_functions();
    statements
}

/// The last step of each compared chain; calls `named` with each compared name, and whether it is declared there.
fn compared(ast: &AST, mut named: impl FnMut(&str, bool)) -> HashSet<Position> {
    let mut places = HashSet::new();
    // Each variable declared so far, and the node that it is declared in.
    let mut declared: Vec<(String, usize)> = Vec::new();
    ast.walk(&mut |nodes: &[ASTNode<'_>]| {
        let Some((last, above)) = nodes.split_last() else {
            return true;
        };
        match last {
            ASTNode::Stmt(Stmt::Var(parts, ..)) => {
                declared.push((parts.0.name.to_string(), above.last().map_or(0, address)));
            }
            ASTNode::Stmt(Stmt::Switch(parts, _)) => each_result(&parts.0, &mut |result| match result {
                Expr::Variable(name, ..) => {
                    let around: Vec<usize> = above.iter().map(address).chain([0]).collect();
                    let is_before =
                        |(known, place): &(String, usize)| *known == name.1 && around.contains(place);
                    let is_local =
                        declared.iter().any(is_before) || above.iter().any(|node| binds(node, &name.1));
                    named(&name.1, is_local);
                }
                chain => places.extend(Chain::of(chain).taken.last()),
            }),
            _ => {}
        }
        true
    });
    places
}

/// Tells nodes of one tree apart.
fn address(node: &ASTNode<'_>) -> usize {
    match node {
        ASTNode::Stmt(statement) => std::ptr::from_ref(*statement).addr(),
        ASTNode::Expr(expr) => std::ptr::from_ref(*expr).addr(),
        _ => 0,
    }
}

/// Whether a loop or a `catch` declares a name for what is in it.
fn binds(node: &ASTNode<'_>, name: &str) -> bool {
    match node {
        ASTNode::Stmt(Stmt::For(parts, _)) => {
            parts.0.name == name || parts.1.as_ref().is_some_and(|counter| counter.name == name)
        }
        ASTNode::Stmt(Stmt::TryCatch(flow, _)) => {
            matches!(&flow.expr, Expr::Variable(caught, ..) if caught.1 == name)
        }
        _ => false,
    }
}

/// Calls `found` with each variable and chain that may be the result of an expression.
fn each_result<'e>(expr: &'e Expr, found: &mut impl FnMut(&'e Expr)) {
    match expr {
        Expr::Variable(..) | Expr::Dot(..) | Expr::Index(..) => found(expr),
        Expr::Coalesce(parts, _) => parts.iter().for_each(|part| each_result(part, found)),
        Expr::Stmt(block) => last_result(block.statements(), found),
        _ => {}
    }
}

fn last_result<'e>(statements: &'e [Stmt], found: &mut impl FnMut(&'e Expr)) {
    match statements.last() {
        Some(Stmt::Expr(expr)) => each_result(expr, found),
        Some(Stmt::Block(block)) => last_result(block.statements(), found),
        Some(Stmt::If(parts, _)) => {
            last_result(parts.body.statements(), found);
            last_result(parts.branch.statements(), found);
        }
        _ => {}
    }
}

/// Positions of steps that no `switch` compares.
fn steps_not_compared(functions: &AST) -> HashSet<Position> {
    let mut places = HashSet::new();
    functions.walk(&mut |nodes: &[ASTNode<'_>]| {
        if let Some(ASTNode::Expr(chain @ (Expr::Dot(..) | Expr::Index(..)))) = nodes.last()
            && is_top(nodes)
        {
            let mut is_compared = false;
            for node in nodes {
                if let ASTNode::Stmt(Stmt::Switch(parts, _)) = node {
                    each_result(&parts.0, &mut |result| {
                        is_compared |= std::ptr::eq(result, *chain)
                    });
                }
            }
            let mut steps = Chain::of(chain).taken;
            if is_compared {
                steps.pop();
            }
            places.extend(steps);
        }
        true
    });
    places
}
