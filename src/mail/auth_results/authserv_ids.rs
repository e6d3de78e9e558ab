//! Many authserv-ids, in tables, so that a look-up costs the same however many there are.

use std::{
    collections::{BTreeSet, HashSet},
    ops::Bound,
    sync::Arc,
};

use super::authserv_id::AuthservIdPattern;

/// Patterns of authserv-ids in tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuthservIdSet {
    ids: HashSet<Box<str>>,
    /// Domains whose subdomains are meant.
    parents: HashSet<Box<str>>,
    /// The octets of the longest of these.
    longest_parent: usize,
    /// The texts that are looked for in fields that are not by the grammar. None is the beginning
    /// of another, which would be found whenever that one is there.
    forms: BTreeSet<Box<str>>,
}

impl AuthservIdSet {
    /// Adds a pattern, unless it is there already: then the answer is `false`.
    pub fn insert(&mut self, pattern: &AuthservIdPattern) -> bool {
        let id = pattern.id();
        let is_new = if pattern.has_subdomains() {
            self.longest_parent = self.longest_parent.max(id.len());
            self.parents.insert(id.into())
        } else {
            self.ids.insert(id.into())
        };
        if is_new {
            pattern.forms().iter().for_each(|form| self.insert_form(form));
        }
        is_new
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.parents.is_empty()
    }

    fn insert_form(&mut self, form: &str) {
        if self.has_beginning_of(form) {
            return;
        }
        let behind = (Bound::Excluded(form), Bound::Unbounded);
        while let Some(longer) = self.forms.range::<str, _>(behind).next()
            && longer.starts_with(form)
        {
            let longer = longer.clone();
            self.forms.remove(&longer);
        }
        self.forms.insert(form.into());
    }

    /// Whether a text begins with one of the forms. Between such a form and the text, in their
    /// order, are only texts that begin with the form too, and those are no forms: so it is the
    /// last one that is not behind the text.
    fn has_beginning_of(&self, text: &str) -> bool {
        let before = (Bound::Unbounded, Bound::Included(text));
        self.forms.range::<str, _>(before).next_back().is_some_and(|form| text.starts_with(&**form))
    }

    fn matches_normalised(&self, id: &str) -> bool {
        self.ids.contains(id) || self.has_parent_of(id)
    }

    /// Whether an id is below one of the domains. Only as much of its end is looked at as the
    /// longest of them has: an id may be as long as a field.
    fn has_parent_of(&self, id: &str) -> bool {
        let parents = id
            .rmatch_indices('.')
            .map(|(dot, point)| (dot, id.split_at(dot + point.len()).1))
            .take_while(|(_, parent)| parent.len() <= self.longest_parent);
        // An empty label is below nothing.
        parents.into_iter().any(|(dot, parent)| dot > 0 && self.parents.contains(parent))
    }

    /// Whether one of the forms occurs in one of the texts, which are reduced as the forms are.
    fn occurs_in(&self, texts: &[String]) -> bool {
        let occurs = |text: &String| {
            let places = text.char_indices().map(|(place, _)| place).chain([text.len()]);
            places.into_iter().any(|place| self.has_beginning_of(text.split_at(place).1))
        };
        !self.forms.is_empty() && texts.iter().any(occurs)
    }
}

/// All authserv-ids that are ours: some, and those of a set. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct OwnAuthservIds {
    some: Vec<AuthservIdPattern>,
    set: Arc<AuthservIdSet>,
}

impl OwnAuthservIds {
    /// Those of a set.
    pub fn new(set: Arc<AuthservIdSet>) -> Self {
        Self { some: Vec::new(), set }
    }

    /// Adds some.
    pub fn push(&mut self, pattern: AuthservIdPattern) {
        self.some.push(pattern);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.some.is_empty() && self.set.is_empty()
    }

    /// Whether an id in its normalised form is one of them.
    pub(super) fn matches_normalised(&self, id: &str) -> bool {
        self.some.iter().any(|pattern| pattern.matches_normalised(id))
            || self.set.matches_normalised(id)
    }

    /// Whether one of them occurs in one of the texts, which are reduced as ids are.
    pub(super) fn occurs_in(&self, texts: &[String]) -> bool {
        self.some.iter().any(|pattern| pattern.occurs_in(texts)) || self.set.occurs_in(texts)
    }
}

#[cfg(any(test, feature = "testing"))]
impl<const N: usize> From<[AuthservIdPattern; N]> for OwnAuthservIds {
    fn from(some: [AuthservIdPattern; N]) -> Self {
        Self { some: some.into(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{
        super::{arc_claims_authserv_id, claims_authserv_id},
        *,
    };

    fn set(patterns: &[AuthservIdPattern]) -> AuthservIdSet {
        let mut set = AuthservIdSet::default();
        for pattern in patterns {
            set.insert(pattern);
        }
        set
    }

    proptest! {
        /// Ids of few letters, so that they often meet, and are often parts of each other.
        #[test]
        fn look_ups_are_those_of_the_slow_twin(
            patterns in vec("\\.?(a|b|mx|\u{fc}|xn--tda|a/b|\u{ad}|\"|\\(|\\)|\\.){1,4}", 0..8),
            values in vec("(a|b|mx|\u{fc}|U\u{308}|xn--tda|\\.|a/b|;| |\\(|\\)|\"|=| x|=\\?){0,9}", 8),
        ) {
            let patterns: Vec<AuthservIdPattern> =
                patterns.iter().filter_map(|text| text.parse().ok()).collect();
            let fast = OwnAuthservIds::new(Arc::new(set(&patterns)));
            // One pattern after the other.
            let slow = OwnAuthservIds { some: patterns, ..OwnAuthservIds::default() };
            prop_assert_eq!(fast.is_empty(), slow.is_empty());
            for value in values {
                let octets = value.as_bytes();
                prop_assert_eq!(
                    claims_authserv_id(octets, &fast),
                    claims_authserv_id(octets, &slow),
                    "{:?}", value
                );
                prop_assert_eq!(
                    arc_claims_authserv_id(octets, &fast),
                    arc_claims_authserv_id(octets, &slow),
                    "{:?}", value
                );
            }
        }

        /// Texts of two letters: each is a part of many others.
        #[test]
        fn ids_are_found_as_by_the_slow_twin(
            patterns in vec("\\.?[ab.]{1,5}", 0..10),
            texts in vec("[ab.]{0,8}", 8),
        ) {
            let patterns: Vec<AuthservIdPattern> =
                patterns.iter().filter_map(|text| text.parse().ok()).collect();
            let set = set(&patterns);
            for text in texts {
                let of = |matches: &dyn Fn(&AuthservIdPattern) -> bool| patterns.iter().any(matches);
                prop_assert_eq!(
                    set.matches_normalised(&text),
                    of(&|pattern| pattern.matches_normalised(&text)),
                    "{:?}", text
                );
                let texts = [text, String::new()];
                prop_assert_eq!(
                    set.occurs_in(&texts),
                    of(&|pattern| pattern.occurs_in(&texts)),
                    "{:?}", texts
                );
            }
        }
    }

    #[test]
    fn patterns_are_there_once() {
        let mut set = AuthservIdSet::default();
        assert!(set.is_empty());
        for (text, is_new) in [
            ("mx.example", true),
            ("MX.example.", false),
            (".mx.example", true),
            (".mx.example", false),
            ("x", true),
        ] {
            assert_eq!(set.insert(&text.parse().unwrap()), is_new, "{text}");
        }
        assert!(!set.is_empty());
        // What begins with a form needs none of its own.
        let forms: Vec<&str> = set.forms.iter().map(|form| &**form).collect();
        assert_eq!(forms, ["mx.example", "x"]);
        set.insert(&"mx".parse().unwrap());
        let forms: Vec<&str> = set.forms.iter().map(|form| &**form).collect();
        assert_eq!(forms, ["mx", "x"]);
    }

    #[test]
    fn many_ids_are_no_burden() {
        let ids =
            (0..100_000).map(|n| format!("{}mx{n}.example", if n % 2 == 0 { "" } else { "." }));
        let patterns: Vec<AuthservIdPattern> = ids.map(|id| id.parse().unwrap()).collect();
        let ids = OwnAuthservIds::new(Arc::new(set(&patterns)));
        // In a list that is gone through this would take minutes.
        let claims = |value: String| claims_authserv_id(value.as_bytes(), &ids);
        for n in 0..5000 {
            assert_eq!(claims(format!("mx{n}.example; none")), n % 2 == 0);
            assert_eq!(claims(format!("a.mx{n}.example; none")), n % 2 == 1);
            assert!(claims(format!("x y mx{n}.example")));
            assert!(!claims(format!("x y my{n}.example")));
        }
    }
}
