//! Tokens that the parser gets in place of those in the code: for assignments to whole states, and for `type_of`.
//!
//! `pause_ms = 20` means `set("pause_ms", 20)`. Rhai cannot assign to anything but its own variables. If a state's name is
//! the target of an assignment and the code has no variable of that name, the parser gets another token, which starts a
//! custom statement. The code that runs, and that the log shows, is the operator's text.

use std::collections::{BTreeMap, BTreeSet};

use rhai::{Dynamic, Engine, EvalContext, Expression, Position, Scope, Token};

use crate::ScriptResult;
use crate::engine;
use crate::handle::whole;
use crate::kinds::TYPE_OF;
use debug_base::Path;

/// Assigns a value to a whole state, or the result of an operator (`+` for `+=`; empty for `=`) on the state's value and
/// the given one.
pub type Assign = fn(path: &Path, operator: &str, value: Dynamic) -> ScriptResult<Dynamic>;

/// Registers with an engine the assignments to states in `code`, and `type_of` for values of states.
pub fn teach(engine: &mut Engine, code: &str, is_state: impl Fn(&str) -> bool, to_state: Assign) {
    let places = assigned(engine, code, is_state);
    let names: BTreeSet<&String> = places.values().collect();
    for name in names {
        let path = Path(vec![name.clone()]);
        engine.register_custom_syntax_with_state_raw(
            word(name),
            |symbols, next, operator| {
                Ok(match symbols.len() {
                    1 => {
                        *operator = next.to_owned().into();
                        Some(next.into())
                    }
                    2 => Some("$expr$".into()),
                    _ => None,
                })
            },
            false,
            move |context, inputs, operator| assign(context, &path, inputs, operator, to_state),
        );
    }
    #[expect(
        deprecated,
        reason = "Rhai marks it so because it may change; the version is pinned"
    )]
    engine.on_parse_token(move |token, position, _| match (&token, places.get(&position)) {
        (Token::Identifier(seen), Some(name)) if seen.as_str() == name => {
            Token::Identifier(Box::new(word(name).into()))
        }
        (Token::Reserved(word), _) if word.as_str() == "type_of" => {
            Token::Identifier(Box::new(TYPE_OF.into()))
        }
        _ => token,
    });
}

/// A token that cannot be typed in code.
fn word(name: &str) -> String {
    format!("{name} =")
}

/// Positions of assignments to states. Excludes names that the code also declares as variables: only Rhai knows which one is
/// meant.
fn assigned(engine: &Engine, code: &str, is_state: impl Fn(&str) -> bool) -> BTreeMap<Position, String> {
    let (tokens, _) = engine.lex([&code]);
    // Beyond the end, the lexer repeats `EOF`.
    let tokens: Vec<(Token, Position)> = tokens.take_while(|(token, _)| *token != Token::EOF).collect();
    let mut found = BTreeMap::new();
    for (at, (token, position)) in tokens.iter().enumerate() {
        let Token::Identifier(name) = token else { continue };
        let is_target = tokens
            .get(at + 1)
            .is_some_and(|(next, _)| *next == Token::Equals || next.is_op_assignment());
        let before = at
            .checked_sub(1)
            .and_then(|at| tokens.get(at))
            .map(|(token, _)| token);
        let is_part = matches!(
            before,
            Some(Token::Period | Token::Elvis | Token::Let | Token::Const)
        );
        if is_target && !is_part && is_state(name) {
            found.insert(*position, name.to_string());
        }
    }
    let declared = declared(&tokens);
    found.retain(|_, name| !declared.contains(name));
    found
}

/// Names of variables and parameters, plus other names if the tokens are ambiguous.
fn declared(tokens: &[(Token, Position)]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let name_at = |at: usize| match tokens.get(at) {
        Some((Token::Identifier(name), _)) => Some(name.to_string()),
        _ => None,
    };
    for (at, (token, _)) in tokens.iter().enumerate() {
        match token {
            Token::Let | Token::Const => names.extend(name_at(at + 1)),
            Token::For | Token::Fn | Token::Catch | Token::Pipe => {
                // All names up to the body, or up to the list of the loop.
                let ends = |token: &Token| {
                    matches!(
                        token,
                        Token::In | Token::LeftBrace | Token::Pipe | Token::SemiColon
                    )
                };
                let list = (at + 1..tokens.len()).take_while(|at| !ends(&tokens[*at].0));
                names.extend(list.filter_map(name_at));
            }
            _ => {}
        }
    }
    names
}

/// Writes the right-hand side, or the result of the operator on the state's value and the right-hand side.
fn assign(
    context: &mut EvalContext<'_, '_, '_, '_, '_, '_>,
    path: &Path,
    inputs: &[Expression<'_>],
    operator: &Dynamic,
    to_state: Assign,
) -> ScriptResult<Dynamic> {
    let [input] = inputs else {
        return Err("an assignment has one right side".into());
    };
    let value = context.eval_expression_tree(input)?;
    let name = path.0.first().map(String::as_str).unwrap_or_default();
    let operator = operator.clone().into_string().unwrap_or_default();
    let operator = operator.strip_suffix('=').unwrap_or_default();
    // A variable of an earlier submission.
    if let Some(variable) = context.scope_mut().get_mut(name) {
        *variable = if operator.is_empty() {
            value
        } else {
            applied(operator, variable.clone(), value)?
        };
        return Ok(Dynamic::UNIT);
    }
    to_state(path, operator, value)
}

/// The result of an operator on two values.
///
/// # Errors
/// The operator is not defined for them.
pub fn applied(operator: &str, before: Dynamic, value: Dynamic) -> ScriptResult<Dynamic> {
    let mut scope = Scope::new();
    scope.push_dynamic("before", whole(before)?);
    scope.push_dynamic("value", value);
    engine::for_eval().eval_with_scope(&mut scope, &format!("before {operator} value"))
}
