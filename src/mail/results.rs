//! Results, and other values that have one word or text each.

/// An enumeration that knows its values.
pub(crate) trait Values: Sized + 'static {
    /// All values, in their order.
    const ALL: &'static [Self];
}

/// Makes an enumeration whose values have a text each: the enumeration, its values, their texts.
macro_rules! words {
    ($($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $value:ident = $word:literal,)+ })+) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum $name { $($(#[$doc])* $value,)+ }

        impl $crate::mail::results::Values for $name {
            const ALL: &'static [Self] = &[$(Self::$value),+];
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
