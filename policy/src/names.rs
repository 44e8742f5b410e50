//! The names in a policy, to compare with the names that exist: a name that matches nothing is most often a typing mistake.

use std::fmt;

use crate::pattern::{Glob, Pattern, Segment, Target, begins};
use crate::policy::Policy;
use crate::resource::push_segment;
use crate::{Request, Resource};

/// A pattern of a policy, and its position. Displays as written.
#[derive(Clone, Copy, Debug)]
pub struct NamedResource<'p> {
    /// The id of its rule.
    pub rule: &'p str,
    /// The list that contains it: `on` or `except`.
    pub list: &'static str,
    pattern: &'p Pattern,
}

impl Policy {
    /// Every pattern of the rules: first of the rules that deny, then of those that allow.
    pub fn named_resources(&self) -> impl Iterator<Item = NamedResource<'_>> {
        self.rules().flat_map(|rule| {
            let on = rule.on.iter().map(move |pattern| ("on", pattern));
            let except = rule.except.iter().map(move |pattern| ("except", pattern));
            on.chain(except).map(|(list, pattern)| NamedResource {
                rule: &rule.name.id,
                list,
                pattern,
            })
        })
    }
}

impl Policy {
    /// Whether the rule with this id applies to the requesting operator.
    pub fn speaks_of(&self, rule: &str, request: &Request) -> bool {
        self.rules()
            .any(|known| known.name.id == rule && known.audience.includes(request))
    }
}

impl<'p> NamedResource<'p> {
    /// Whether the pattern covers a resource.
    pub fn covers(&self, resource: &Resource) -> bool {
        self.pattern.covers(&Target::new(resource))
    }

    /// Whether the pattern covers a state path or could cover something below it.
    pub fn reaches(&self, path: &[String]) -> bool {
        matches!(self.pattern, Pattern::State(pattern) if begins(pattern, path))
    }

    /// The segments of a state pattern before the first with a `*`.
    pub fn state_path(&self) -> Option<Vec<&'p str>> {
        let Pattern::State(segments) = self.pattern else {
            return None;
        };
        let exact = segments.iter().map_while(|segment| match segment {
            Segment::One(Glob::Exact(text)) => Some(text.as_str()),
            Segment::One(Glob::Parts { .. }) | Segment::Any => None,
        });
        Some(exact.collect())
    }

    /// Whether the pattern names functions, all of which are known from the start.
    pub fn is_of_functions(&self) -> bool {
        matches!(self.pattern, Pattern::Function(_))
    }

    /// Whether the pattern names routes.
    pub fn is_of_routes(&self) -> bool {
        matches!(self.pattern, Pattern::Route(..))
    }
}

impl fmt::Display for NamedResource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pattern.fmt(f)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |segments: &[Segment], separator: &str| {
            segments
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(separator)
        };
        match self {
            Self::Agent => f.write_str("agent"),
            Self::State(segments) => write!(f, "state:{}", state_path(segments)),
            Self::EveryPoint => f.write_str("point:**"),
            Self::Route(method, segments) => {
                write!(
                    f,
                    "point:{} /{}",
                    method.as_deref().unwrap_or("*"),
                    joined(segments, "/")
                )
            }
            Self::Function(segments) => write!(f, "point:{}", joined(segments, "::")),
            Self::Target(segments) => write!(f, "target:{}", joined(segments, "::")),
            Self::Lease(glob) => write!(f, "lease:{glob}"),
        }
    }
}

fn state_path(segments: &[Segment]) -> String {
    segments.iter().fold(String::new(), |mut path, segment| {
        match segment {
            // Spelled as in a path, which may need quotes.
            Segment::One(Glob::Exact(text)) => push_segment(&mut path, text),
            other => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&other.to_string());
            }
        }
        path
    })
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("**"),
            Self::One(glob) => glob.fmt(f),
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Parts { first, middle, last } => {
                write!(f, "{first}*")?;
                middle.iter().try_for_each(|part| write!(f, "{part}*"))?;
                f.write_str(last)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(patterns: &[&str]) -> Policy {
        let list = patterns
            .iter()
            .map(|pattern| format!("'{pattern}'"))
            .collect::<Vec<_>>()
            .join(", ");
        let rule = "[[rule]]\nid = \"a\"\nwhy = \"b\"\nallow = [\"read\"]\n";
        Policy::parse(&format!("version = 1\n{rule}on = [{list}]\n")).unwrap()
    }

    #[test]
    fn a_pattern_is_shown_as_it_is_written() {
        let patterns = [
            "agent",
            "state:config.**",
            "state:a*b.*.c",
            "state:hosts[\"a b\"].port",
            "point:**",
            "point:* /api/**",
            "point:GET /api/x",
            "point:billing::**",
            "target:hyper::client",
            "lease:*",
        ];
        let policy = policy(&patterns);
        let shown: Vec<String> = policy.named_resources().map(|named| named.to_string()).collect();
        assert_eq!(shown, patterns);
    }

    #[test]
    fn a_pattern_reaches_what_it_covers_and_what_lies_above_that() {
        let policy = policy(&["state:config.db.*.port"]);
        let named = policy.named_resources().next().unwrap();
        let path = |text: &str| -> Vec<String> { text.split('.').map(str::to_owned).collect() };
        for (text, reached) in [
            ("config", true),
            ("config.db", true),
            ("confg", false),
            ("config.db.a.host", false),
        ] {
            assert_eq!(named.reaches(&path(text)), reached, "{text}");
        }
        assert_eq!(named.state_path(), Some(vec!["config", "db"]));
        assert!(named.covers(&Resource::State(path("config.db.a.port"))));
        assert!(!named.covers(&Resource::State(path("config.db.a.host"))));
        assert!(!named.is_of_routes() && !named.is_of_functions());
    }

    #[test]
    fn a_pattern_of_points_says_of_which_kind() {
        let policy = policy(&["point:* /api/**", "point:billing::**", "point:**"]);
        let kinds: Vec<(bool, bool)> = policy
            .named_resources()
            .map(|named| (named.is_of_routes(), named.is_of_functions()))
            .collect();
        assert_eq!(kinds, [(true, false), (false, true), (false, false)]);
    }

    #[test]
    fn a_rule_speaks_of_the_operators_in_its_audience() {
        let text =
            "version = 1\n[[rule]]\nid = \"a\"\nwhy = \"b\"\nallow = [\"read\"]\nroles = [\"oncall\"]\n";
        let policy = Policy::parse(text).unwrap();
        let request = |role: &str| Request {
            action: crate::Action::List,
            resource: Resource::Agent,
            operator: "alice".into(),
            roles: vec![role.into()],
            environment: "e".into(),
            mode: crate::Mode::Observe,
            ttl: None,
            life: None,
            reason: None,
        };
        assert!(policy.speaks_of("a", &request("oncall")));
        assert!(!policy.speaks_of("a", &request("viewer")), "of another role");
        assert!(!policy.speaks_of("b", &request("oncall")), "no such rule");
    }
}
