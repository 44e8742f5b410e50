use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Ident, LitStr, Result, Token, parenthesized};

/// The longest name of a point, in bytes. Names appear in lists, policies and the log.
const MAX_NAME_LEN: usize = 200;

/// The options in the parentheses of `#[patchable(…)]`.
#[derive(Default)]
pub(crate) struct MacroOptions {
    pub(crate) name: Option<LitStr>,
    pub(crate) skip: Vec<Ident>,
    pub(crate) watch_only: bool,
}

impl Parse for MacroOptions {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut options = Self::default();
        while !input.is_empty() {
            options.parse_one(input)?;
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
    }
}

impl MacroOptions {
    fn parse_one(&mut self, input: ParseStream<'_>) -> Result<()> {
        let key: Ident = input.parse()?;
        match key.to_string().as_str() {
            "name" if self.name.is_some() => Err(Error::new(key.span(), "`name` is given twice")),
            "name" => {
                input.parse::<Token![=]>()?;
                self.name = Some(checked_name(input.parse()?)?);
                Ok(())
            }
            "skip" => {
                let names;
                parenthesized!(names in input);
                self.skip
                    .extend(Punctuated::<Ident, Token![,]>::parse_terminated(&names)?);
                Ok(())
            }
            "watch_only" => {
                self.watch_only = true;
                Ok(())
            }
            other => Err(Error::new(
                key.span(),
                format!("unknown option `{other}`: expected `name = \"…\"`, `skip(…)` or `watch_only`"),
            )),
        }
    }
}

/// Names without spaces cannot be mistaken for routes (`GET /x`); without control characters they print as they are.
fn checked_name(name: LitStr) -> Result<LitStr> {
    let text = name.value();
    let plain = text.chars().all(|c| !c.is_whitespace() && !c.is_control());
    if text.is_empty() || MAX_NAME_LEN < text.len() || !plain {
        let message =
            format!("a point's name is 1 to {MAX_NAME_LEN} bytes without spaces or control characters");
        return Err(Error::new(name.span(), message));
    }
    Ok(name)
}
