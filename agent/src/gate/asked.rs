//! The requests to policy, and its answers. An empty list of requests cannot be expressed: it would be allowed.

use debug_policy::{Decision, Denial, Request};

/// At least one of something.
#[derive(Clone, Debug)]
pub(crate) struct NonEmpty<T> {
    first: T,
    rest: Vec<T>,
}

impl<T> NonEmpty<T> {
    /// A list of one.
    pub(crate) const fn one(first: T) -> Self {
        Self { first, rest: Vec::new() }
    }

    /// A list of all items; `None` if there are none.
    pub(crate) fn of(items: impl IntoIterator<Item = T>) -> Option<Self> {
        let mut items = items.into_iter();
        Some(Self { first: items.next()?, rest: items.collect() })
    }

    /// Appends items.
    pub(crate) fn and(mut self, more: impl IntoIterator<Item = T>) -> Self {
        self.rest.extend(more);
        self
    }

    /// Each of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// Maps each item.
    pub(crate) fn map<U>(&self, mut of: impl FnMut(&T) -> U) -> NonEmpty<U> {
        NonEmpty { first: of(&self.first), rest: self.rest.iter().map(of).collect() }
    }

    /// Maps each item to several.
    pub(crate) fn flat_map<U>(&self, mut of: impl FnMut(&T) -> NonEmpty<U>) -> NonEmpty<U> {
        let first = of(&self.first);
        first.and(self.rest.iter().flat_map(|item| of(item).into_vec()))
    }

    /// As a list.
    pub(crate) fn into_vec(self) -> Vec<T> {
        std::iter::once(self.first).chain(self.rest).collect()
    }
}

impl<T: Ord> NonEmpty<T> {
    /// Sorted, without duplicates.
    pub(crate) fn sorted(self) -> Self {
        let Self { first, rest } = self;
        let mut least = first;
        let mut rest = rest;
        for item in &mut rest {
            if *item < least {
                std::mem::swap(item, &mut least);
            }
        }
        rest.sort();
        rest.dedup();
        rest.retain(|item| *item != least);
        Self { first: least, rest }
    }
}

/// What must be decided before an effect.
pub(super) enum Asked {
    /// An operator's own change is ended, by its lease's id. That needs no permission: it makes the service what it
    /// was.
    Own(u64),
    /// Policy must allow all of these.
    Policy(NonEmpty<Request>),
}

/// The decisions.
pub(super) enum Decided {
    /// No policy decision was needed.
    Own(u64),
    /// Each request with its decision, up to the first denial.
    Policy(Box<NonEmpty<(Request, Decision)>>),
}

impl Decided {
    /// Decides the requests up to the first denial.
    pub(super) fn of(asked: Asked, decide: impl Fn(&Request) -> Decision) -> Self {
        let requests = match asked {
            Asked::Own(lease) => return Self::Own(lease),
            Asked::Policy(requests) => requests,
        };
        let NonEmpty { first, rest } = requests;
        let decision = decide(&first);
        let mut denied = matches!(decision, Decision::Deny(_));
        let mut answers = NonEmpty::one((first, decision));
        for request in rest {
            if denied {
                break;
            }
            let decision = decide(&request);
            denied = matches!(decision, Decision::Deny(_));
            answers = answers.and([(request, decision)]);
        }
        Self::Policy(Box::new(answers))
    }

    /// Each request with its decision; none for the end of an operator's own change.
    pub(super) fn answers(&self) -> impl Iterator<Item = &(Request, Decision)> {
        let answers = match self {
            Self::Own(_) => None,
            Self::Policy(answers) => Some(answers.iter()),
        };
        answers.into_iter().flatten()
    }

    /// The denial, if there is one.
    pub(super) fn denial(&self) -> Option<&Denial> {
        self.answers().find_map(|(_, decision)| match decision {
            Decision::Deny(denial) => Some(denial),
            Decision::Allow(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_is_each_once_in_order() {
        for (items, expected) in [
            (vec![3, 1, 2, 1, 3], vec![1, 2, 3]),
            (vec![1], vec![1]),
            (vec![2, 2], vec![2]),
            (vec![1, 3, 2], vec![1, 2, 3]),
        ] {
            assert_eq!(NonEmpty::of(items).unwrap().sorted().into_vec(), expected);
        }
        assert!(NonEmpty::of(Vec::<u8>::new()).is_none());
    }
}
