use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident};
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, FnArg, GenericParam, Ident, ItemFn, Pat, PatType, Result, ReturnType, Signature,
};

/// One argument of a function that may be a point.
pub(crate) struct Parameter {
    /// Its own name or, for a pattern, `arg0`, `arg1` and so on.
    pub(crate) name: Ident,
    /// The argument as it was written.
    pub(crate) written: PatType,
}

impl Parameter {
    /// The argument's name with a mixed-site span, for generated code.
    pub(crate) fn generated(&self) -> Ident {
        let mut name = self.name.clone();
        name.set_span(Span::mixed_site());
        name
    }
}

/// Checks that the function can be a point and returns its arguments.
///
/// # Errors
/// The reason, at the token that is not supported.
pub(crate) fn arguments(function: &ItemFn) -> Result<Vec<Parameter>> {
    refuse_qualifiers(&function.sig)?;
    refuse_generics(&function.sig)?;
    function
        .sig
        .inputs
        .iter()
        .enumerate()
        .map(|(index, input)| argument(index, input))
        .collect()
}

/// Refuses `Self` in the types of the arguments and, where a patch can make it, of the result.
///
/// # Errors
/// At the token.
pub(crate) fn refuse_self(arguments: &[Parameter], output: Option<&ReturnType>) -> Result<()> {
    let mut types = arguments
        .iter()
        .map(|argument| argument.written.ty.to_token_stream())
        .collect::<TokenStream>();
    types.extend(output.map(ToTokens::to_token_stream));
    let why =
        "a point cannot say `Self`: its code is moved into a function of its own; write the type's name";
    find(types, &is_self_type).map_or(Ok(()), |span| Err(Error::new(span, why)))
}

/// Why a patch cannot make the result, as far as its tokens tell.
pub(crate) fn watch_only_result(output: &ReturnType) -> Option<&'static str> {
    let ReturnType::Type(_, result) = output else {
        return None;
    };
    let tokens = result.to_token_stream();
    if matches!(**result, syn::Type::Never(_)) {
        Some("it never returns")
    } else if find(tokens.clone(), &is_impl).is_some() {
        Some("its result is hidden behind `impl`, so nothing can be made into it")
    } else if has_borrow(tokens) && !has_static_error(output) {
        Some("its result is borrowed, and a patch has nothing that lives long enough to lend")
    } else {
        None
    }
}

/// Attributes that change how a function's code behaves, and that must move with its body.
pub(crate) fn follows_the_body(attribute: &Attribute) -> bool {
    attribute.path().is_ident("track_caller") || attribute.path().is_ident("target_feature")
}

fn refuse_qualifiers(signature: &Signature) -> Result<()> {
    let refused = |span: Span, why: &str| Err(Error::new(span, why));
    if let Some(token) = &signature.constness {
        return refused(
            token.span(),
            "a `const fn` cannot be patchable: it may run in the compiler",
        );
    }
    if let Some(token) = &signature.unsafety {
        return refused(
            token.span(),
            "an `unsafe fn` cannot be patchable: a patch cannot keep its promises",
        );
    }
    if let Some(abi) = &signature.abi {
        return refused(
            abi.extern_token.span(),
            "an `extern fn` cannot be patchable: its callers are not Rust",
        );
    }
    Ok(())
}

fn refuse_generics(signature: &Signature) -> Result<()> {
    for parameter in &signature.generics.params {
        if !matches!(parameter, GenericParam::Lifetime(_)) {
            return Err(Error::new(parameter.span(), GENERIC));
        }
    }
    Ok(())
}

const GENERIC: &str =
    "generic functions are not supported yet: make a point of a function with types of its own";

fn argument(index: usize, input: &FnArg) -> Result<Parameter> {
    let written = match input {
        FnArg::Receiver(receiver) => {
            let why = "methods need a later version: make a point of a free function that the method calls";
            return Err(Error::new(receiver.self_token.span(), why));
        }
        FnArg::Typed(written) => written.clone(),
    };
    if let Some(span) = find(written.ty.to_token_stream(), &is_impl) {
        return Err(Error::new(
            span,
            format!("an argument of type `impl …` is generic, and {GENERIC}"),
        ));
    }
    if let Some(attribute) = written
        .attrs
        .iter()
        .find(|attribute| attribute.path().is_ident("cfg"))
    {
        return Err(Error::new(
            attribute.span(),
            "an argument under `cfg` cannot be patchable: put `cfg` on the function",
        ));
    }
    let name =
        plain_name(&written.pat).unwrap_or_else(|| format_ident!("arg{index}", span = Span::mixed_site()));
    Ok(Parameter { name, written })
}

fn plain_name(pattern: &Pat) -> Option<Ident> {
    match pattern {
        Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => {
            Some(pattern.ident.clone())
        }
        _ => None,
    }
}

fn is_self_type(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == "Self")
}

fn is_impl(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == "impl")
}

/// Whether a result is a `Result<T, &'static str>`: a patch can make its error although that is a reference.
pub(crate) fn has_static_error(output: &ReturnType) -> bool {
    let ReturnType::Type(_, result) = output else {
        return false;
    };
    let syn::Type::Path(path) = &**result else {
        return false;
    };
    let Some(last) = path.path.segments.last() else {
        return false;
    };
    let syn::PathArguments::AngleBracketed(halves) = &last.arguments else {
        return false;
    };
    let halves: Vec<String> = halves
        .args
        .iter()
        .map(|half| half.to_token_stream().to_string())
        .collect();
    let [value, error] = halves.as_slice() else {
        return false;
    };
    let error: String = error.split_whitespace().collect();
    let value_borrows = value.parse().is_ok_and(has_borrow);
    last.ident == "Result" && error == "&'staticstr" && !value_borrows
}

/// Whether a type, by its tokens, holds a reference or a lifetime other than `'static`.
fn has_borrow(tokens: TokenStream) -> bool {
    let is_reference = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == '&');
    find(tokens.clone(), &is_reference).is_some() || has_lifetime(tokens)
}

fn has_lifetime(tokens: TokenStream) -> bool {
    let mut after_quote = false;
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => has_lifetime(group.stream()),
        TokenTree::Punct(punct) => {
            after_quote = punct.as_char() == '\'';
            false
        }
        TokenTree::Ident(ident) => std::mem::take(&mut after_quote) && ident != "static",
        TokenTree::Literal(_) => false,
    })
}

/// The span of the first token that `wanted` accepts, groups included.
fn find(tokens: TokenStream, wanted: &dyn Fn(&TokenTree) -> bool) -> Option<Span> {
    tokens.into_iter().find_map(|token| match &token {
        _ if wanted(&token) => Some(token.span()),
        TokenTree::Group(group) => find(group.stream(), wanted),
        _ => None,
    })
}
