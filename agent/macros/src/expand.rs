use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{AttrStyle, Attribute, Error, Ident, ItemFn, LitStr, Result, ReturnType};

use crate::options::MacroOptions;
use crate::signature::{self, Parameter};

/// Expands `#[patchable]`: the function, and its registration as a point.
///
/// # Errors
/// The reason, at the token that is not supported.
pub(crate) fn expand(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let options: MacroOptions = syn::parse2(options)?;
    let function: ItemFn = syn::parse2(item)
        .map_err(|error| Error::new(error.span(), format!("only a function can be patchable: {error}")))?;
    let arguments = signature::arguments(&function)?;
    if let Some(unknown) = options
        .skip
        .iter()
        .find(|skip| arguments.iter().all(|a| a.name != **skip))
    {
        return Err(Error::new(
            unknown.span(),
            format!("no argument is called `{unknown}`"),
        ));
    }
    let watch_only = match options.watch_only {
        true => Some("its author marked it `watch_only`"),
        false => signature::watch_only_result(&function.sig.output),
    };
    signature::refuse_self(&arguments, watch_only.is_none().then_some(&function.sig.output))?;
    let point = PointExpansion {
        function,
        arguments,
        options,
        watch_only,
    };
    Ok(match (point.watch_only, point.function.sig.asyncness) {
        (Some(_), _) => point.watch_only_function(),
        (None, None) => point.function(),
        (None, Some(_)) => point.async_function(),
    })
}

struct PointExpansion {
    function: ItemFn,
    arguments: Vec<Parameter>,
    options: MacroOptions,
    /// Why the point takes no patches.
    watch_only: Option<&'static str>,
}

// Generated code has mixed-site spans. With the caller's spans the registration would count as the service's own code
// and fail where the service forbids `unsafe_code`. Items are not hygienic, hence their long names.
impl PointExpansion {
    /// Three functions: the original, a cold twin that asks the patch, and the function itself, which only dispatches.
    /// Both calls are tail calls, so the dispatch needs no stack frame: load, test, jump. The compiler inlines a short
    /// original; a long one stays separate and costs one more jump.
    fn function(&self) -> TokenStream {
        let (outer, _) = self.attributes();
        let (vis, sig) = (&self.function.vis, &self.function.sig);
        let (generics, output, bounds) = (&sig.generics, &sig.output, &sig.generics.where_clause);
        let following = outer
            .iter()
            .filter(|attribute| signature::follows_the_body(attribute))
            .collect::<Vec<_>>();
        let (names, types, name) = (self.names(), self.types(), &sig.ident);
        let (original, registration, ask) = (self.original(), self.registration("new"), self.ask());
        let tell = self.tell();
        quote_spanned! { Span::mixed_site() =>
            #(#outer)*
            #vis fn #name #generics (#(#names: #types),*) #output #bounds {
                #registration
                #(#following)*
                #original
                #(#following)*
                #[cold]
                #[inline(never)]
                fn __debug_agent_patched #generics (#(#names: #types),*) #output #bounds {
                    let counted = __DEBUG_AGENT_SLOT.count();
                    let answer = match #ask {
                        ::core::option::Option::Some(answer) => answer,
                        ::core::option::Option::None => __debug_agent_original(#(#names),*),
                    };
                    #tell
                    answer
                }
                if __DEBUG_AGENT_SLOT.is_armed() {
                    return __debug_agent_patched(#(#names),*);
                }
                __debug_agent_original(#(#names),*)
            }
        }
    }

    /// The original becomes a function of its own, so that every answer is seen: by `return`, by `?`, or at the end.
    fn async_function(&self) -> TokenStream {
        let (outer, _) = self.attributes();
        let following = outer
            .iter()
            .filter(|attribute| signature::follows_the_body(attribute));
        let (vis, sig) = (&self.function.vis, &self.function.sig);
        let (generics, output, bounds) = (&sig.generics, &sig.output, &sig.generics.where_clause);
        let (names, types, name) = (self.names(), self.types(), &sig.ident);
        let (original, registration, ask) = (self.original(), self.registration("new"), self.ask());
        let tell = self.tell();
        quote_spanned! { Span::mixed_site() =>
            #(#outer)*
            #vis async fn #name #generics (#(#names: #types),*) #output #bounds {
                #registration
                #(#following)*
                #original
                if !__DEBUG_AGENT_SLOT.is_armed() {
                    return __debug_agent_original(#(#names),*).await;
                }
                // Held until the future completes or is dropped.
                let counted = __DEBUG_AGENT_SLOT.count();
                let asked = #ask;
                let answer = match asked {
                    ::core::option::Option::Some(answer) => answer,
                    ::core::option::Option::None => __debug_agent_original(#(#names),*).await,
                };
                #tell
                answer
            }
        }
    }

    /// The function as it was written, under another name. It holds the statements and not the block: a nested block
    /// would trip lints about needless braces where the body is on one line.
    fn original(&self) -> TokenStream {
        let (_, inner) = self.attributes();
        let (sig, statements) = (&self.function.sig, &self.function.block.stmts);
        let (generics, output, bounds) = (&sig.generics, &sig.output, &sig.generics.where_clause);
        let written = self.arguments.iter().map(|argument| &argument.written);
        let asyncness = sig.asyncness.map(|_| quote_spanned!(Span::mixed_site() => async));
        let inline = sig
            .asyncness
            .is_none()
            .then(|| quote_spanned!(Span::mixed_site() => #[inline]));
        quote_spanned! { Span::mixed_site() =>
            #inline
            #asyncness fn __debug_agent_original #generics (#(#written),*) #output #bounds {
                #(#inner)*
                #(#statements)*
            }
        }
    }

    /// Reports whether the answer of a counted call is an error.
    fn tell(&self) -> TokenStream {
        let result = self.result();
        quote_spanned! { Span::mixed_site() =>
            if let ::core::option::Option::Some(counted) = counted {
                #[allow(unused_imports, reason = "which trait is used depends on the types")]
                use ::debug_agent::__private::probe::*;
                counted.over((&&::debug_agent::__private::Probe::<#result>::NEW).is_error(&answer));
            }
        }
    }

    /// The function unchanged, listed as a point. Only items are added: added statements would change the function.
    fn watch_only_function(&self) -> TokenStream {
        let (outer, inner) = self.attributes();
        let (vis, sig, statements) = (&self.function.vis, &self.function.sig, &self.function.block.stmts);
        let registration = self.registration("listed");
        quote_spanned! { Span::mixed_site() =>
            #(#outer)*
            #vis #sig {
                #(#inner)*
                #registration
                #(#statements)*
            }
        }
    }

    /// Registers the point; `kind` is the constructor of its slot.
    fn registration(&self, kind: &str) -> TokenStream {
        let (name, facts, kind) = (self.name(), self.facts(), Ident::new(kind, Span::mixed_site()));
        quote_spanned! { Span::mixed_site() =>
            static __DEBUG_AGENT_SLOT: ::debug_agent::__private::Slot =
                ::debug_agent::__private::Slot::#kind(#name, ::core::file!(), ::core::line!(), __debug_agent_facts);
            #[::debug_agent::__private::linkme::distributed_slice(::debug_agent::__private::POINTS)]
            #[linkme(crate = ::debug_agent::__private::linkme)]
            static __DEBUG_AGENT_POINT: &::debug_agent::__private::Slot = &__DEBUG_AGENT_SLOT;
            #facts
        }
    }

    /// The facts that only the types tell. A function, because autoref specialization does not work in a constant.
    fn facts(&self) -> TokenStream {
        let generics = &self.function.sig.generics;
        let bounds = &generics.where_clause;
        let arguments = self.arguments.iter().map(|argument| {
            let (shown, ty) = (argument.name.unraw().to_string(), &argument.written.ty);
            match self.options.skip.contains(&argument.name) {
                true => quote!((#shown, false)),
                false => quote_spanned! { Span::mixed_site() =>
                    (#shown, (&&::debug_agent::__private::Probe::<#ty>::NEW).is_given())
                },
            }
        });
        let facts = match self.watch_only {
            Some(why) => quote_spanned! { Span::mixed_site() =>
                ::debug_agent::__private::Facts::new(&[#(#arguments),*], ::core::option::Option::Some(#why))
            },
            None => {
                let decoder = self.decoder();
                quote_spanned! { Span::mixed_site() =>
                    ::debug_agent::__private::Facts::of(&[#(#arguments),*], #decoder.makes())
                }
            }
        };
        quote_spanned! { Span::mixed_site() =>
            fn __debug_agent_facts #generics () -> ::debug_agent::__private::Facts #bounds {
                #[allow(unused_imports, reason = "which trait is used depends on the types")]
                use ::debug_agent::__private::probe::*;
                #facts
            }
        }
    }

    /// The call path: `Some` with the patch's answer, or `None` if the original must run.
    fn ask(&self) -> TokenStream {
        let arguments = self.arguments.iter().map(|argument| {
            let name = argument.generated();
            match self.options.skip.contains(&argument.name) {
                true => quote_spanned!(Span::mixed_site() => arguments.skip();),
                false => quote_spanned! { Span::mixed_site() =>
                    arguments.push((&&::debug_agent::__private::Argument(&#name)).encode());
                },
            }
        });
        let decoder = self.decoder();
        quote_spanned! { Span::mixed_site() =>
            {
                #[allow(unused_imports, reason = "which trait is used depends on the types")]
                use ::debug_agent::__private::probe::*;
                ::debug_agent::__private::call(
                    &__DEBUG_AGENT_SLOT,
                    |arguments: &mut ::debug_agent::__private::Arguments| {
                        let _ = &arguments;
                        #(#arguments)*
                    },
                    #decoder,
                )
            }
        }
    }

    fn result(&self) -> TokenStream {
        match &self.function.sig.output {
            ReturnType::Default => quote!(()),
            ReturnType::Type(_, result) => result.to_token_stream(),
        }
    }

    fn decoder(&self) -> TokenStream {
        let result = self.result();
        // Each further `&` enables one more conversion of the error, tried before the others. A `&'static str` gets
        // none that uses serde: what serde reads lives no longer than its source.
        let references = match signature::has_static_error(&self.function.sig.output) {
            true => quote!(&&&),
            false => quote!(&&&&&&),
        };
        quote_spanned! { Span::mixed_site() =>
            {
                let shape = (&&::debug_agent::__private::Probe::<#result>::NEW).shape();
                shape.decoder((&&shape).ok(), (#references shape).err())
            }
        }
    }

    fn name(&self) -> TokenStream {
        let function = LitStr::new(&self.function.sig.ident.unraw().to_string(), Span::mixed_site());
        match &self.options.name {
            Some(name) => name.to_token_stream(),
            None => quote_spanned! { Span::mixed_site() =>
                ::core::concat!(::core::module_path!(), "::", #function)
            },
        }
    }

    /// The names of the arguments in generated code. Lints look only at names that the service's author wrote, so these
    /// get new spans: `_unused` is used here.
    fn names(&self) -> Vec<Ident> {
        self.arguments.iter().map(Parameter::generated).collect()
    }

    fn types(&self) -> Vec<&syn::Type> {
        self.arguments
            .iter()
            .map(|argument| &*argument.written.ty)
            .collect()
    }

    /// The outer and the inner attributes.
    fn attributes(&self) -> (Vec<&Attribute>, Vec<&Attribute>) {
        self.function
            .attrs
            .iter()
            .partition(|attribute| matches!(attribute.style, AttrStyle::Outer))
    }
}
