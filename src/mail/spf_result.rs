//! The results of SPF.

use std::{fmt, str::FromStr};

/// A result of `check_host()` (RFC 7208 §2.6).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum SpfResult {
    /// No policy was found, or no domain to look for one.
    None,
    /// The domain says nothing about the client.
    Neutral,
    /// The client is authorized.
    Pass,
    /// The client is not authorized.
    Fail,
    /// The client is probably not authorized.
    Softfail,
    /// DNS trouble that may go away.
    Temperror,
    /// The domain's records cannot be evaluated.
    Permerror,
}

impl SpfResult {
    /// The result's word, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Neutral => "neutral",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Softfail => "softfail",
            Self::Temperror => "temperror",
            Self::Permerror => "permerror",
        }
    }
}

impl fmt::Display for SpfResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The word is not one of an SPF result.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnknownSpfResult;

impl FromStr for SpfResult {
    type Err = UnknownSpfResult;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "none" => Self::None,
            "neutral" => Self::Neutral,
            "pass" => Self::Pass,
            "fail" => Self::Fail,
            "softfail" => Self::Softfail,
            "temperror" => Self::Temperror,
            "permerror" => Self::Permerror,
            _ => return Err(UnknownSpfResult),
        })
    }
}
