//! Functions of the language that a script may call, besides host functions, its own functions and operators. Each has one
//! line for `help`; frozen code is checked against this list.

/// A function of the language.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// Its name.
    pub name: &'static str,
    /// Its call syntax.
    pub usage: &'static str,
    /// Its purpose, in one line.
    pub about: &'static str,
}

const fn word(name: &'static str, usage: &'static str, about: &'static str) -> Word {
    Word { name, usage, about }
}

/// All functions, by name.
pub const WORDS: &[Word] = &[
    word("E", "E()", "the number e"),
    word(
        "Fn",
        r#"Fn("name")"#,
        "the function of that name as a value; a closure `|x| x + 1` is one, too",
    ),
    word("PI", "PI()", "the number pi"),
    word("abs", "n.abs()", "the number without its sign"),
    word("acos", "n.acos()", "the arc cosine, in radians"),
    word("acosh", "n.acosh()", "the inverse hyperbolic cosine"),
    word(
        "all",
        "list.all(|x| x > 0)",
        "whether the closure says true of every item",
    ),
    word("asin", "n.asin()", "the arc sine, in radians"),
    word("asinh", "n.asinh()", "the inverse hyperbolic sine"),
    word("atan", "n.atan()", "the arc tangent, in radians"),
    word("atanh", "n.atanh()", "the inverse hyperbolic tangent"),
    word("bits", "n.bits()", "the bits of an integer, to loop over"),
    word("call", "f.call(x)", "calls a closure that a variable holds"),
    word("ceiling", "n.ceiling()", "the next whole number above"),
    word("chars", "text.chars()", "the characters of a text, to loop over"),
    word("clear", "list.clear()", "takes everything out of a list or map"),
    word(
        "contains",
        "list.contains(x)",
        "whether a list has that item, a map that name, a text that part; `x in list` is the same",
    ),
    word("cos", "n.cos()", "the cosine of radians"),
    word("cosh", "n.cosh()", "the hyperbolic cosine"),
    word("end", "range.end()", "where a range ends"),
    word("ends_with", "text.ends_with(part)", "whether a text ends so"),
    word("exp", "n.exp()", "e to the power of the number"),
    word("extract", "list.extract(start, len)", "a copy of some items"),
    word(
        "filter",
        "list.filter(|x| x > 0)",
        "the items of which the closure says true",
    ),
    word(
        "find",
        "list.find(|x| x > 0)",
        "the first item of which the closure says true, else `()`",
    ),
    word("floor", "n.floor()", "the next whole number below"),
    word(
        "for_each",
        "list.for_each(|x| print(x))",
        "calls the closure with every item",
    ),
    word("fraction", "n.fraction()", "what stands behind the decimal point"),
    word("get", r#"map.get("name")"#, "the value of that name, else `()`"),
    word("hypot", "x.hypot(y)", "the length of the hypotenuse"),
    word(
        "index_of",
        "list.index_of(x)",
        "where an item, or a part of a text, stands first; -1 if nowhere",
    ),
    word(
        "insert",
        "list.insert(at, x)",
        "puts an item before the one at that position",
    ),
    word("int", "n.int()", "the whole part of a number"),
    word(
        "is_def_fn",
        r#"is_def_fn("name", n)"#,
        "whether you defined a function of that name with n parameters",
    ),
    word(
        "is_def_var",
        r#"is_def_var("name")"#,
        "whether there is a variable of that name",
    ),
    word(
        "is_empty",
        "list.is_empty()",
        "whether nothing is in a list, map, text or range",
    ),
    word("is_even", "n.is_even()", "whether an integer is even"),
    word(
        "is_exclusive",
        "range.is_exclusive()",
        "whether a range leaves its end out",
    ),
    word("is_finite", "n.is_finite()", "whether a number is finite"),
    word(
        "is_inclusive",
        "range.is_inclusive()",
        "whether a range includes its end",
    ),
    word("is_infinite", "n.is_infinite()", "whether a number is infinite"),
    word("is_nan", "n.is_nan()", "whether a number is none"),
    word("is_odd", "n.is_odd()", "whether an integer is odd"),
    word(
        "is_shared",
        "x.is_shared()",
        "whether a closure shares a variable",
    ),
    word("is_zero", "n.is_zero()", "whether a number is 0"),
    word("join", r#"list.join(", ")"#, "the items as one text"),
    word("keys", "map.keys()", "the names in a map"),
    word(
        "len",
        "list.len()",
        "how many items, names or characters there are",
    ),
    word("ln", "n.ln()", "the natural logarithm"),
    word(
        "log",
        "n.log()",
        "the logarithm to base 10; `n.log(base)` to another",
    ),
    word(
        "map",
        "list.map(|x| x + 1)",
        "a list of what the closure makes of each item",
    ),
    word("max", "x.max(y)", "the larger one"),
    word("min", "x.min(y)", "the smaller one"),
    word("pad", "text.pad(len, ' ')", "fills a text up at its end"),
    word("parse_float", "parse_float(text)", "a number from text"),
    word("parse_int", "parse_int(text)", "an integer from text"),
    word("pop", "list.pop()", "takes the last item out of a list"),
    word("push", "list.push(x)", "puts an item at the end of a list"),
    word(
        "range",
        "range(from, to)",
        "the integers from one to another; `range(from, to, step)` with steps",
    ),
    word(
        "reduce",
        "list.reduce(|sum, x| sum + x, 0)",
        "one value of all items, begun with the last argument",
    ),
    word(
        "remove",
        "list.remove(at)",
        r#"takes an item out of a list; `map.remove("name")` an entry out of a map"#,
    ),
    word("replace", "text.replace(from, to)", "changes each part of a text"),
    word("reverse", "list.reverse()", "turns a list round"),
    word("round", "n.round()", "the nearest whole number"),
    word("set", r#"map.set("name", x)"#, "puts a value into a map"),
    word("sign", "n.sign()", "-1, 0 or 1"),
    word("sin", "n.sin()", "the sine of radians"),
    word("sinh", "n.sinh()", "the hyperbolic sine"),
    word(
        "some",
        "list.some(|x| x > 0)",
        "whether the closure says true of any item",
    ),
    word("sort", "list.sort()", "sorts integers, numbers or texts"),
    word("split", r#"text.split(",")"#, "the parts of a text as a list"),
    word("sqrt", "n.sqrt()", "the square root"),
    word("start", "range.start()", "where a range begins"),
    word(
        "starts_with",
        "text.starts_with(part)",
        "whether a text begins so",
    ),
    word("sub_string", "text.sub_string(start, len)", "a part of a text"),
    word("tan", "n.tan()", "the tangent of radians"),
    word("tanh", "n.tanh()", "the hyperbolic tangent"),
    word(
        "throw",
        "throw x",
        "ends the eval with an error, or goes to `catch`",
    ),
    word("to_debug", "x.to_debug()", "a value as text, texts in quotes"),
    word("to_degrees", "n.to_degrees()", "radians in degrees"),
    word("to_float", "n.to_float()", "an integer as a number"),
    word("to_int", "n.to_int()", "the whole part of a number"),
    word("to_lower", "text.to_lower()", "a text in lower case"),
    word("to_radians", "n.to_radians()", "degrees in radians"),
    word("to_string", "x.to_string()", "a value as text"),
    word("to_upper", "text.to_upper()", "a text in upper case"),
    word("trim", "text.trim()", "takes spaces off both ends of a text"),
    word(
        "type_of",
        "type_of(x)",
        "the type of a value, also of what stands in a state",
    ),
    word("values", "map.values()", "the values in a map"),
];

/// The function with this name.
pub fn find(name: &str) -> Option<&'static Word> {
    WORDS.iter().find(|word| word.name == name)
}
