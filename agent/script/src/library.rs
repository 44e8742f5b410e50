//! The functions of Rhai's standard library that scripts have. Each is written here, with a cost that its inputs bound and
//! that is charged to the run.
//!
//! Rhai's own packages check sizes afterwards (`pad` and `replace` can request a terabyte in one line), sleep, and walk whole
//! arrays in one operation. Arithmetic, comparison, ranges and number functions are Rhai's: they take constant time.

use std::sync::Arc;

use rhai::packages::{ArithmeticPackage, BasicIteratorPackage, BasicMathPackage, LogicPackage, Package};
use rhai::{
    Array, Dynamic, Engine, EvalAltResult, FnPtr, FuncRegistration, INT, ImmutableString, Map, Module,
    NativeCallContext,
};

use super::kinds;
use super::memory;
use super::meter::{self, End, MAX_ITEMS, MAX_STRING, terminated};
use crate::ScriptResult;
use crate::convert;
use crate::handle;
use crate::kinds::in_words;
use crate::values;

/// Bytes of a string that count as one operation.
const BYTES_PER_OPERATION: usize = 64;
/// Size of a list item in bytes, with a short text.
const ITEM: usize = 64;

/// Adds the library to an engine.
pub fn install(engine: &mut Engine, library: &Arc<Module>) {
    engine.register_global_module(library.clone());
}

/// Builds the library; once per process, shared by every engine.
pub fn build() -> Arc<Module> {
    let mut module = Module::new();
    ArithmeticPackage::init(&mut module);
    LogicPackage::init(&mut module);
    BasicMathPackage::init(&mut module);
    BasicIteratorPackage::init(&mut module);
    strings(&mut module);
    arrays(&mut module);
    maps(&mut module);
    closures(&mut module);
    any(&mut module);
    module.set_iterable::<Array>();
    module.build_index();
    Arc::new(module)
}

/// Charges work on `size` bytes or items that may create as many bytes.
fn charge(size: usize) -> ScriptResult<()> {
    memory::made(size)?;
    charge_operations(1 + (size / BYTES_PER_OPERATION) as u64)
}

/// Charges the creation of a list with `count` items.
fn charge_items(count: usize) -> ScriptResult<()> {
    memory::made(count.saturating_mul(ITEM))?;
    charge_operations(1 + count as u64)
}

/// Records the size of a value that a function returns or collects.
fn given(value: Dynamic) -> ScriptResult<Dynamic> {
    memory::made(values::size_at_most(&value))?;
    Ok(value)
}

fn charge_operations(cost: u64) -> ScriptResult<()> {
    match meter::charge(cost) {
        None => Ok(()),
        Some(_) => Err(terminated()),
    }
}

/// Refuses a size before memory is allocated.
fn fits(what: &str, size: usize, limit: usize) -> ScriptResult<()> {
    if size <= limit {
        return Ok(());
    }
    meter::end(End::Size);
    Err(format!("{what} would be {size} long, the limit is {limit}").into())
}

fn index(position: INT, len: usize) -> usize {
    let len_signed = INT::try_from(len).unwrap_or(INT::MAX);
    let from_start = if position < 0 {
        len_signed.saturating_add(position)
    } else {
        position
    };
    usize::try_from(from_start).unwrap_or(0).min(len)
}

fn int(size: usize) -> INT {
    INT::try_from(size).unwrap_or(INT::MAX)
}

macro_rules! register {
    ($module:expr, $($name:literal => $function:expr;)*) => {
        $( FuncRegistration::new($name).in_global_namespace().set_into_module($module, $function); )*
    };
}

fn strings(module: &mut Module) {
    register! { module,
        "len" => |s: ImmutableString| -> ScriptResult<INT> { charge(s.len())?; Ok(int(s.chars().count())) };
        "is_empty" => |s: ImmutableString| s.is_empty();
        "contains" => |s: ImmutableString, part: ImmutableString| -> ScriptResult<bool> {
            charge(s.len())?; Ok(s.contains(part.as_str()))
        };
        "starts_with" => |s: ImmutableString, part: ImmutableString| s.starts_with(part.as_str());
        "ends_with" => |s: ImmutableString, part: ImmutableString| s.ends_with(part.as_str());
        "to_upper" => |s: ImmutableString| -> ScriptResult<String> { charge(s.len())?; Ok(s.to_uppercase()) };
        "to_lower" => |s: ImmutableString| -> ScriptResult<String> { charge(s.len())?; Ok(s.to_lowercase()) };
        "trim" => |s: &mut ImmutableString| -> ScriptResult<()> {
            charge(s.len())?; *s = s.trim().into(); Ok(())
        };
        "index_of" => |s: ImmutableString, part: ImmutableString| -> ScriptResult<INT> {
            charge(s.len())?;
            Ok(s.find(part.as_str()).map_or(-1, |at| int(s[..at].chars().count())))
        };
        "sub_string" => |s: ImmutableString, start: INT| sub_string(&s, start, INT::MAX);
        "sub_string" => |s: ImmutableString, start: INT, len: INT| sub_string(&s, start, len);
        "split" => split;
        "replace" => replace;
        "pad" => pad;
        "parse_int" => |s: ImmutableString| -> ScriptResult<INT> {
            s.trim().parse().map_err(|_| Box::from(format!("`{}` is no integer", excerpt(&s))))
        };
        "parse_float" => |s: ImmutableString| -> ScriptResult<f64> {
            s.trim().parse().map_err(|_| Box::from(format!("`{}` is no number", excerpt(&s))))
        };
    }
    for_each_text_operator(module);
}

/// The first characters of a text, for an error.
fn excerpt(text: &str) -> String {
    text.chars().take(40).collect()
}

/// `"a" + 1`, `1 + "a"` and `"a" += 1`: text and a value that can be shown.
fn for_each_text_operator(module: &mut Module) {
    register! { module,
        "+" => |a: ImmutableString, b: Dynamic| -> ScriptResult<String> { join_texts(a.as_str(), &shown(&b)?) };
        "+" => |a: Dynamic, b: ImmutableString| -> ScriptResult<String> { join_texts(&shown(&a)?, b.as_str()) };
        "+" => |a: ImmutableString, b: ImmutableString| -> ScriptResult<String> { join_texts(a.as_str(), b.as_str()) };
        "+=" => |a: &mut ImmutableString, b: Dynamic| -> ScriptResult<()> {
            *a = join_texts(a.as_str(), &shown(&b)?)?.into();
            Ok(())
        };
    }
}

fn join_texts(a: &str, b: &str) -> ScriptResult<String> {
    fits("the string", a.len().saturating_add(b.len()), MAX_STRING)?;
    charge(a.len() + b.len())?;
    Ok(format!("{a}{b}"))
}

/// The text of a value inserted into a string; secrets are refused with their name.
fn shown(value: &Dynamic) -> ScriptResult<String> {
    if value.is_string() {
        return value
            .clone()
            .into_string()
            .map_err(|kind| Box::from(format!("a {kind} is no string")));
    }
    let text = values::text(handle::settled(value)?.as_ref()).map_err(Box::<EvalAltResult>::from)?;
    charge(text.len())?;
    Ok(text)
}

fn sub_string(s: &ImmutableString, start: INT, len: INT) -> ScriptResult<String> {
    charge(s.len())?;
    let count = s.chars().count();
    let len = usize::try_from(len).unwrap_or(0);
    Ok(s.chars().skip(index(start, count)).take(len).collect())
}

fn split(s: ImmutableString, by: ImmutableString) -> ScriptResult<Array> {
    charge(s.len())?;
    if by.is_empty() {
        return Err("cannot split at an empty string".into());
    }
    let parts = s.matches(by.as_str()).count() + 1;
    fits("the array", parts, MAX_ITEMS)?;
    charge_items(parts)?;
    Ok(s.split(by.as_str())
        .map(|part| Dynamic::from(part.to_owned()))
        .collect())
}

/// Replaces each `from` in `s` with `to`, like Rhai's own; checks the length before allocating.
fn replace(s: &mut ImmutableString, from: ImmutableString, to: ImmutableString) -> ScriptResult<()> {
    charge(s.len())?;
    if from.is_empty() {
        return Err("cannot replace an empty string".into());
    }
    let hits = s.matches(from.as_str()).count();
    let size = (s.len() - hits * from.len()).saturating_add(hits.saturating_mul(to.len()));
    fits("the string", size, MAX_STRING)?;
    charge(size)?;
    *s = s.replace(from.as_str(), &to).into();
    Ok(())
}

/// Pads `s` at its end to `len` characters, like Rhai's own.
fn pad(s: &mut ImmutableString, len: INT, with: char) -> ScriptResult<()> {
    let len = usize::try_from(len).unwrap_or(0);
    let size = len.saturating_mul(with.len_utf8());
    fits("the string", size, MAX_STRING)?;
    charge(size)?;
    let missing = len.saturating_sub(s.chars().count());
    *s = s
        .chars()
        .chain(std::iter::repeat_n(with, missing))
        .collect::<String>()
        .into();
    Ok(())
}

fn arrays(module: &mut Module) {
    register! { module,
        "len" => |a: &mut Array| int(a.len());
        "is_empty" => |a: &mut Array| a.is_empty();
        "push" => |a: &mut Array, item: Dynamic| -> ScriptResult<()> {
            fits("the array", a.len() + 1, MAX_ITEMS)?; a.push(item); Ok(())
        };
        "pop" => |a: &mut Array| a.pop().unwrap_or(Dynamic::UNIT);
        "insert" => |a: &mut Array, at: INT, item: Dynamic| -> ScriptResult<()> {
            fits("the array", a.len() + 1, MAX_ITEMS)?; charge(a.len())?;
            a.insert(index(at, a.len()), item); Ok(())
        };
        "remove" => |a: &mut Array, at: INT| -> ScriptResult<Dynamic> {
            charge(a.len())?;
            let at = index(at, a.len());
            Ok(if at < a.len() { a.remove(at) } else { Dynamic::UNIT })
        };
        "clear" => |a: &mut Array| a.clear();
        "reverse" => |a: &mut Array| -> ScriptResult<()> { charge(a.len())?; a.reverse(); Ok(()) };
        "extract" => |a: &mut Array, start: INT, len: INT| -> ScriptResult<Array> {
            charge_items(a.len())?;
            let start = index(start, a.len());
            Ok(a.iter().skip(start).take(usize::try_from(len).unwrap_or(0)).cloned().collect())
        };
        "+" => |a: Array, b: Array| -> ScriptResult<Array> {
            fits("the array", a.len() + b.len(), MAX_ITEMS)?; charge_items(a.len() + b.len())?;
            Ok(a.into_iter().chain(b).collect())
        };
        "contains" => |a: &mut Array, item: Dynamic| -> ScriptResult<bool> { Ok(position(a, &item)?.is_some()) };
        "index_of" => |a: &mut Array, item: Dynamic| -> ScriptResult<INT> { Ok(position(a, &item)?.map_or(-1, int)) };
        "join" => join;
        "sort" => sort;
        "==" => |a: Array, b: Array| same(&a.into(), &b.into());
        "!=" => |a: Array, b: Array| same(&a.into(), &b.into()).map(|same| !same);
    }
}

fn position(array: &Array, item: &Dynamic) -> ScriptResult<Option<usize>> {
    let item = handle::settled(item)?;
    for (at, candidate) in array.iter().enumerate() {
        if same_below(handle::settled(candidate)?.as_ref(), item.as_ref(), 0)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn join(a: &mut Array, between: ImmutableString) -> ScriptResult<String> {
    let mut text = String::new();
    for (at, item) in a.iter().enumerate() {
        let part = shown(item)?;
        memory::made(part.len())?;
        let gap = if at == 0 { 0 } else { between.len() };
        fits("the string", text.len() + gap + part.len(), MAX_STRING)?;
        if at > 0 {
            text.push_str(&between);
        }
        text.push_str(&part);
    }
    Ok(text)
}

/// Sorts integers, numbers or strings; refuses mixtures.
fn sort(a: &mut Array) -> ScriptResult<()> {
    // A comparison sort makes about n log n comparisons, each charged like an operation.
    let comparisons = a.len() * (usize::BITS - a.len().leading_zeros()) as usize;
    charge_operations(comparisons as u64)?;
    if a.iter().all(Dynamic::is_int) {
        a.sort_by_key(|item| item.as_int().unwrap_or_default());
    } else if a.iter().all(Dynamic::is_float) {
        a.sort_by(|x, y| {
            x.as_float()
                .unwrap_or_default()
                .total_cmp(&y.as_float().unwrap_or_default())
        });
    } else if a.iter().all(Dynamic::is_string) {
        a.sort_by_cached_key(|item| item.clone().into_string().unwrap_or_default());
    } else {
        return Err("only integers, numbers or strings can be sorted, not a mixture".into());
    }
    Ok(())
}

fn maps(module: &mut Module) {
    register! { module,
        "len" => |m: &mut Map| int(m.len());
        "clear" => |m: &mut Map| m.clear();
        "is_empty" => |m: &mut Map| m.is_empty();
        "contains" => |m: &mut Map, key: ImmutableString| m.contains_key(key.as_str());
        "get" => |m: &mut Map, key: ImmutableString| m.get(key.as_str()).cloned().unwrap_or(Dynamic::UNIT);
        "set" => |m: &mut Map, key: ImmutableString, value: Dynamic| -> ScriptResult<()> {
            fits("the map", m.len() + 1, MAX_ITEMS)?;
            m.insert(key.as_str().into(), value); Ok(())
        };
        "remove" => |m: &mut Map, key: ImmutableString| m.remove(key.as_str()).unwrap_or(Dynamic::UNIT);
        "keys" => |m: &mut Map| -> ScriptResult<Array> {
            charge_items(m.len())?; Ok(m.keys().map(|k| Dynamic::from(k.to_string())).collect())
        };
        "values" => |m: &mut Map| -> ScriptResult<Array> {
            charge_items(m.len())?; Ok(m.values().cloned().collect())
        };
        "==" => |a: Map, b: Map| same(&a.into(), &b.into());
        "!=" => |a: Map, b: Map| same(&a.into(), &b.into()).map(|same| !same);
    }
}

/// Maximum depth of a comparison; deeper values are refused rather than compared in part.
const COMPARE_DEPTH: usize = 32;

/// Whether two values are equal; handles in them are read.
pub fn same(a: &Dynamic, b: &Dynamic) -> ScriptResult<bool> {
    same_below(handle::settled(a)?.as_ref(), handle::settled(b)?.as_ref(), 0)
}

fn same_below(a: &Dynamic, b: &Dynamic, depth: usize) -> ScriptResult<bool> {
    charge_operations(1)?;
    if depth > COMPARE_DEPTH {
        return Err("values nested deeper than 32 cannot be compared".into());
    }
    if let (Some(a), Some(b)) = (a.read_lock::<Array>(), b.read_lock::<Array>()) {
        return same_items(&a, &b, depth + 1);
    }
    if let (Some(a), Some(b)) = (a.read_lock::<Map>(), b.read_lock::<Map>()) {
        return same_entries(&a, &b, depth + 1);
    }
    values::comparable(a).and_then(|()| values::comparable(b))?;
    values::same_scalar(a, b)
}

fn same_items(a: &Array, b: &Array, depth: usize) -> ScriptResult<bool> {
    if a.len() != b.len() {
        return Ok(false);
    }
    for (x, y) in a.iter().zip(b) {
        if !same_below(x, y, depth)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn same_entries(a: &Map, b: &Map, depth: usize) -> ScriptResult<bool> {
    if a.len() != b.len() {
        return Ok(false);
    }
    for ((key, x), (other, y)) in a.iter().zip(b) {
        if key != other || !same_below(x, y, depth)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Functions that call closures. Each call runs under the same meter, so nesting bypasses no bound.
fn closures(module: &mut Module) {
    register! { module,
        "map" => |ctx: NativeCallContext, a: Array, f: FnPtr| -> ScriptResult<Array> {
            a.into_iter().map(|item| given(call(&ctx, &f, item)?)).collect()
        };
        "filter" => |ctx: NativeCallContext, a: Array, f: FnPtr| -> ScriptResult<Array> {
            let mut kept = Array::new();
            for item in a {
                if truth(call(&ctx, &f, item.clone())?)? { kept.push(item); }
            }
            Ok(kept)
        };
        "for_each" => |ctx: NativeCallContext, a: Array, f: FnPtr| -> ScriptResult<()> {
            for item in a { drop(call(&ctx, &f, item)?); }
            Ok(())
        };
        "find" => |ctx: NativeCallContext, a: Array, f: FnPtr| -> ScriptResult<Dynamic> {
            for item in a {
                if truth(call(&ctx, &f, item.clone())?)? { return Ok(item); }
            }
            Ok(Dynamic::UNIT)
        };
        "some" => |ctx: NativeCallContext, a: Array, f: FnPtr| -> ScriptResult<bool> {
            for item in a { if truth(call(&ctx, &f, item)?)? { return Ok(true); } }
            Ok(false)
        };
        "all" => |ctx: NativeCallContext, a: Array, f: FnPtr| -> ScriptResult<bool> {
            for item in a { if !truth(call(&ctx, &f, item)?)? { return Ok(false); } }
            Ok(true)
        };
        "reduce" => |ctx: NativeCallContext, a: Array, f: FnPtr, initial: Dynamic| -> ScriptResult<Dynamic> {
            let mut result = initial;
            for item in a {
                charge_operations(1)?;
                result = given(f.call_within_context(&ctx, (result, item))?)?;
            }
            Ok(result)
        };
    }
}

fn call(ctx: &NativeCallContext<'_>, f: &FnPtr, item: Dynamic) -> ScriptResult<Dynamic> {
    charge_operations(1)?;
    f.call_within_context(ctx, (item,))
}

fn truth(value: Dynamic) -> ScriptResult<bool> {
    value.as_bool().map_err(|kind| {
        Box::from(format!(
            "the function must return true or false, not {}",
            in_words(kind)
        ))
    })
}

/// Functions over any value.
fn any(module: &mut Module) {
    register! { module,
        "to_string" => |value: &mut Dynamic| -> ScriptResult<String> { shown(value) };
        "to_debug" => |value: &mut Dynamic| -> ScriptResult<String> {
            let text = convert::display(handle::settled(value)?.as_ref());
            charge(text.len())?;
            Ok(text)
        };
    }
    FuncRegistration::new(kinds::TYPE_OF)
        .in_global_namespace()
        .set_into_module(
            module,
            |ctx: NativeCallContext, value: &mut Dynamic| -> ScriptResult<String> {
                let value = handle::settled(value)?;
                Ok(ctx.engine().map_type_name(value.type_name()).to_owned())
            },
        );
}
