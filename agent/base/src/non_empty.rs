//! Lists that cannot be empty.

/// At least one of something.
#[derive(Clone, Debug)]
pub struct NonEmpty<T> {
    first: T,
    rest: Vec<T>,
}

impl<T> NonEmpty<T> {
    /// A list of one.
    pub const fn one(first: T) -> Self {
        Self {
            first,
            rest: Vec::new(),
        }
    }

    /// A list of all items; `None` if there are none.
    pub fn of(items: impl IntoIterator<Item = T>) -> Option<Self> {
        let mut items = items.into_iter();
        Some(Self {
            first: items.next()?,
            rest: items.collect(),
        })
    }

    /// Appends items.
    pub fn and(mut self, more: impl IntoIterator<Item = T>) -> Self {
        self.rest.extend(more);
        self
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// Maps each item.
    pub fn map<U>(&self, mut of: impl FnMut(&T) -> U) -> NonEmpty<U> {
        NonEmpty {
            first: of(&self.first),
            rest: self.rest.iter().map(of).collect(),
        }
    }

    /// Maps each item to several.
    pub fn flat_map<U>(&self, mut of: impl FnMut(&T) -> NonEmpty<U>) -> NonEmpty<U> {
        let first = of(&self.first);
        first.and(self.rest.iter().flat_map(|item| of(item).into_vec()))
    }

    /// The first one and the others.
    pub fn split(self) -> (T, Vec<T>) {
        (self.first, self.rest)
    }

    /// As a list.
    pub fn into_vec(self) -> Vec<T> {
        std::iter::once(self.first).chain(self.rest).collect()
    }
}

impl<T: Ord> NonEmpty<T> {
    /// Sorted, without duplicates.
    pub fn sorted(self) -> Self {
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
