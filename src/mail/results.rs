//! Results, and other values that have one word or text each.

/// An enumeration whose values have a word or text each.
pub(crate) trait Words: Copy + 'static {
    /// All values with their words, in their order.
    const ALL: &'static [(Self, &'static str)];

    /// The value with a word for which the condition holds.
    fn find(condition: impl Fn(&str) -> bool) -> Option<Self> {
        Self::ALL.iter().find(|(_, word)| condition(word)).map(|(value, _)| *value)
    }
}

/// Makes an enumeration whose values have a text each: the enumeration, its values, their texts.
macro_rules! words {
    ($($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $value:ident = $word:literal,)+ })+) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum $name { $($(#[$doc])* $value,)+ }

        impl $crate::mail::results::Words for $name {
            const ALL: &'static [(Self, &'static str)] = &[$((Self::$value, $word)),+];
        }

        impl $name {
            /// The word or text of the value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )+ };
}

pub(crate) use words;

words! {
    /// A result of `check_host()` (RFC 7208 §2.6).
    SpfResult {
        /// No policy was found, or no domain to look for one.
        None = "none",
        /// The domain says nothing about the client.
        Neutral = "neutral",
        /// The client is authorized.
        Pass = "pass",
        /// The client is not authorized.
        Fail = "fail",
        /// The client is probably not authorized.
        Softfail = "softfail",
        /// DNS trouble that may go away.
        Temperror = "temperror",
        /// The domain's records cannot be evaluated.
        Permerror = "permerror",
    }
}

impl SpfResult {
    /// Reads the word of a result.
    pub fn parse(word: &str) -> Option<Self> {
        Self::find(|known| known == word)
    }
}
