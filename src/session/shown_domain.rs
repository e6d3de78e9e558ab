//! Domains of senders, as they are shown.

use std::sync::Arc;

use crate::mail::domain::Domain;

/// A domain as it is shown: in the case in which it came, without a dot at the end; U-labels as
/// A-labels.
#[derive(Debug)]
pub(super) enum ShownDomain {
    /// It is shown as it is parsed, and so most are.
    Parsed(Domain),
    /// It is shown otherwise, whether it can be parsed or not.
    Otherwise(Arc<str>, Option<Domain>),
}

impl ShownDomain {
    /// A domain as it came, and as it is parsed if it can be.
    pub(super) fn new(text: &str, parsed: Option<Domain>) -> Self {
        match parsed {
            Some(domain) if *text == *domain.as_str() || !text.is_ascii() => Self::Parsed(domain),
            Some(_) => Self::Otherwise(text.strip_suffix('.').unwrap_or(text).into(), parsed),
            None => Self::Otherwise(text.into(), None),
        }
    }

    /// The domain, if the text is one.
    pub(super) fn parsed(&self) -> Option<&Domain> {
        match self {
            Self::Parsed(domain) => Some(domain),
            Self::Otherwise(_, domain) => domain.as_ref(),
        }
    }

    /// The text that is shown.
    pub(super) fn into_text(self) -> Arc<str> {
        match self {
            Self::Parsed(domain) => domain.into_shared_text(),
            Self::Otherwise(text, _) => text,
        }
    }
}
