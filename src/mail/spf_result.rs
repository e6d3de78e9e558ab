//! The results of SPF.

use super::results::{Values as _, words};

words! {
    /// A result of `check_host()` (RFC 7208 §2.6).
    #[derive(Ord, PartialOrd)]
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
        Self::ALL.iter().copied().find(|result| result.as_str() == word)
    }
}
