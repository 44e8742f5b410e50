//! Which names the script language accepts after a dot.

/// The words that the language (Rhai 1.27) reserves. A test of the crate that knows its parser compares.
const RESERVED: [&str; 61] = [
    "Fn",
    "as",
    "async",
    "await",
    "break",
    "call",
    "case",
    "catch",
    "const",
    "continue",
    "curry",
    "debug",
    "default",
    "do",
    "else",
    "eval",
    "export",
    "false",
    "fn",
    "for",
    "go",
    "goto",
    "if",
    "import",
    "in",
    "is",
    "is_def_fn",
    "is_def_var",
    "is_shared",
    "let",
    "loop",
    "match",
    "module",
    "new",
    "nil",
    "null",
    "package",
    "print",
    "private",
    "protected",
    "public",
    "return",
    "shared",
    "spawn",
    "static",
    "super",
    "switch",
    "sync",
    "this",
    "thread",
    "throw",
    "true",
    "try",
    "type_of",
    "until",
    "use",
    "var",
    "void",
    "while",
    "with",
    "yield",
];

/// Whether a name can follow a dot: a plain word that the language does not reserve.
pub fn is_property(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let begins = name
        .bytes()
        .find(|b| *b != b'_')
        .is_some_and(|b| b.is_ascii_alphabetic());
    begins && name.bytes().all(word) && !RESERVED.contains(&name)
}
