//! Texts that are secret by their form, in any place.

/// Prefixes of well-known tokens, and the minimum number of token characters (`A-Z a-z 0-9 _ - .`) after them.
///
/// Sources: the documentation of Slack, GitHub, GitLab, AWS, Stripe, Google, npm, PyPI, Hugging Face, SendGrid, DigitalOcean,
/// Shopify, Vault, OpenAI and Anthropic.
const PREFIXES: [(&str, usize); 33] = [
    ("xoxb-", 8),
    ("xoxp-", 8),
    ("xoxa-", 8),
    ("xoxr-", 8),
    ("xoxs-", 8),
    ("xoxe-", 8),
    ("xapp-", 8),
    ("ghp_", 16),
    ("gho_", 16),
    ("ghu_", 16),
    ("ghs_", 16),
    ("ghr_", 16),
    ("github_pat_", 16),
    ("glpat-", 12),
    ("AKIA", 16),
    ("ASIA", 16),
    ("sk_live_", 8),
    ("sk_test_", 8),
    ("rk_live_", 8),
    ("rk_test_", 8),
    ("whsec_", 16),
    ("AIza", 30),
    ("ya29.", 16),
    ("npm_", 30),
    ("pypi-", 30),
    ("hf_", 20),
    ("SG.", 30),
    ("dop_v1_", 30),
    ("shpat_", 20),
    ("hvs.", 20),
    ("sk-ant-", 16),
    ("sk-proj-", 16),
    ("sk-", 40),
];

/// Minimum length of a part of a JSON Web Token: `{}` alone is three characters, any claim makes it longer.
const MIN_JWT_PART: usize = 8;

/// Whether `text` contains a secret of a known form: a private key or certificate in PEM, a URL with userinfo, a JSON Web
/// Token, or a token with a known prefix.
pub fn has_secret_shape(text: &str) -> bool {
    text.contains("-----BEGIN") || url_userinfo(text).next().is_some() || tokens(text).any(is_token)
}

/// The userinfo of each URL in `text`: `user:password` in `postgres://user:password@host/`.
pub(crate) fn url_userinfo(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("://").filter_map(|(at, separator)| {
        let after = text.get(at + separator.len()..)?;
        // A bare `/` or `#` in a password is invalid but common, so only white space, a quote or an angle bracket ends the
        // URL.
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>'))
            .unwrap_or(after.len());
        let url = after.get(..end)?;
        let path = url.find(['/', '?', '#']).unwrap_or(url.len());
        let authority = url.get(..path)?;
        let userinfo = match authority.rfind('@') {
            Some(at) => authority.get(..at)?,
            // The password continues after a slash only if a colon precedes the slash and an `@` follows.
            None if authority.split_once(':').is_some_and(|(_, port)| !is_port(port)) => {
                url.get(..url.rfind('@')?)?
            }
            None => return None,
        };
        (!userinfo.is_empty()).then_some(userinfo)
    })
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')))
        .filter(|word| !word.is_empty())
}

fn is_token(word: &str) -> bool {
    let known = |(prefix, least): &(&str, usize)| {
        // A token may also follow a separator: `key.AKIA…`, `v1.ghp_…`.
        word.match_indices(prefix).any(|(at, _)| {
            let bounded = word
                .get(..at)
                .is_some_and(|before| !before.ends_with(|c: char| c.is_ascii_alphanumeric()));
            bounded && *least <= word.len() - at - prefix.len()
        })
    };
    PREFIXES.iter().any(known) || is_jwt(word)
}

fn is_jwt(word: &str) -> bool {
    // The header is a JSON object, and `{"` is `eyJ` in base64.
    let Some(at) = word.find("eyJ") else { return false };
    let mut parts = word.get(at..).unwrap_or_default().split('.');
    let long = |part: Option<&str>| part.is_some_and(|part| MIN_JWT_PART <= part.len());
    // An unsigned token has an empty third part.
    long(parts.next()) && long(parts.next()) && parts.next().is_some()
}
