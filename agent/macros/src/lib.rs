//! `#[patchable]`, the attribute that makes a function a point of the debug agent.
//!
//! Use it through the crate `debug-agent`, which holds what the generated code calls.

use proc_macro::TokenStream;

mod expand;
mod options;
mod signature;

/// Makes a free function a point: a place where an operator can override behaviour until a deadline.
///
/// ```text
/// #[debug_agent::patchable]
/// fn next_on_duty(rota: &Rota, now: Timestamp) -> Option<String> { .. }
///
/// #[debug_agent::patchable(name = "prices.quote", skip(pool))]
/// async fn quote(pool: &Pool, article: u64) -> Result<f64, PriceError> { .. }
/// ```
///
/// Unpatched, the function costs one relaxed load and a predicted branch before a tail call into its body. The future
/// of an `async` function holds its arguments twice.
///
/// - `name = "…"`: the name of the point, without spaces. The default is `module_path!()`, `::` and the function's
///   name. The macro cannot see the type that an associated function belongs to: if two types of one module have
///   functions with the same name, name them here. Otherwise both are listed, reported at start and take no patches.
/// - `skip(a, b)`: arguments that a patch does not get. It sees `()` in their place, as for an argument with a type
///   that lacks `Serialize`.
/// - `watch_only`: the point takes no patches.
///
/// A patch gets a copy of every argument, also of a `&mut` one: its changes to a copy are not written back. Its answer
/// becomes the result through `Deserialize`. Where the function returns `Result<T, E>`, the patch answers a `T`, which
/// becomes `Ok`, or `Err("no connection")`, where `E` has `Deserialize` or `From` of `String`, `&'static str` or
/// `std::io::Error`.
///
/// A function is a point that takes no patches, and says why, if its result lacks `Deserialize`, is borrowed or is
/// hidden behind `impl`. The macro cannot see a borrow that hides in a type's name (`-> View` for `View<'_>`): if the
/// compiler then complains about `Deserialize`, add `watch_only`.
///
/// # Errors
/// Methods, generic functions, `impl Trait` arguments, `const`, `unsafe` and `extern` functions are refused with the
/// reason at compile time.
#[proc_macro_attribute]
pub fn patchable(options: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    let expanded = expand::expand(options.into(), item.clone()).unwrap_or_else(|error| {
        // Emit the function unchanged, so that this is the only error.
        let mut tokens = error.into_compile_error();
        tokens.extend(item);
        tokens
    });
    expanded.into()
}
