/// A value of the service between serde and everything of ours: reads, writes, undo, digests and patches' arguments.
///
/// Untouched numbers never pass through Rhai; a secret keeps its value, marked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    /// `None`, `()` and unit structs.
    Null,
    /// A truth value.
    Bool(bool),
    /// Every integer that fits.
    I64(i64),
    /// Integers above `i64::MAX` only.
    U64(u64),
    /// A floating-point number.
    F64(f64),
    /// Text; `char` too.
    Str(String),
    /// A list, tuple or byte string.
    Seq(Vec<Tree>),
    /// A map or struct in the order in which it was serialized. Keys are strings, or integers, booleans and unit
    /// variants written as strings.
    Map(Vec<(String, Tree)>),
    /// What a `Secret<T>` holds. Shown to nobody without a permit to reveal.
    Secret(Box<Tree>),
}
