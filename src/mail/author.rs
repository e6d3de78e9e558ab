//! The author domain: the domain of the address in the From header field.
//!
//! DMARC assures a recipient that the domain shown as the author's is the one that was
//! authenticated. That holds only as long as this reader and every mail client take the same domain
//! out of the field. So there are two readers. The strict one (`parse`) follows the grammar of RFC
//! 5322 to the letter, and of what the grammar allows it refuses the few forms that clients are
//! known to read in different ways (see [`Malformed`]). Fields that it refuses go to the lenient
//! one (`lenient`), which collects the domain of every address that some reader might see. If they
//! are one, it does not matter which reader is right; if they are several, none of them can pass.

mod encoded_word;
mod lenient;
mod lookalike;
mod parse;
mod reading;
#[cfg(test)]
mod tests;

use super::domain::Domain;
#[cfg(any(test, feature = "testing"))]
pub use reading::MAX_AUTHOR_DOMAINS;
use reading::Reading;
pub use reading::{AuthorDomains, Malformed};

/// The author of a message, as far as DMARC needs it.
///
/// The DMARC result that follows is given with each value. A `pass` is possible only for
/// [`Author::One`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Author {
    /// One From header field, with one address or more, all of one domain for every reader: the
    /// usual. DMARC applies to that domain.
    One(Domain),
    /// One From header field with addresses of several domains, or of which several readers see
    /// several domains.
    ///
    /// The first is valid, and a way around DMARC for a sender that adds a second address (RFC 9989
    /// §11.5). DMARC applies to each domain: `fail` with the strictest policy of the domains that
    /// fail, `temperror` where DNS trouble may have hidden a stricter one, `none` where no domain
    /// has a policy, and `permerror` where nothing failed: no verifier can know which of the
    /// authors a client shows.
    Several(AuthorDomains),
    /// Several From header fields; the domains of all of them that could be read, which may be
    /// none.
    ///
    /// No identifier is aligned with such a message (RFC 9989 §4.4): `fail` where a domain has a
    /// policy, `temperror` where there was DNS trouble, `permerror` otherwise.
    SeveralFields(AuthorDomains),
    /// One From header field with an address that has characters which reorder or break text: whom
    /// a client shows cannot be known.
    ///
    /// DMARC applies to each domain, as for [`Author::Several`], and what is neither `fail` nor
    /// `temperror` is `permerror`.
    Misleading(AuthorDomains),
    /// No From header field: `permerror`.
    Missing,
    /// The one From header field is a group without members (RFC 6854), so that there is no author:
    /// `none`.
    NoMembers,
    /// No reader finds a domain in the one From header field: `permerror`.
    ///
    /// Not `none`, though its definition allows that where no domain can be taken out of the
    /// message: `none` reads as if the author's domain had no policy, and may be hidden, while the
    /// sender may be evading one (RFC 9989 §11.5).
    Malformed(Malformed),
}

impl Author {
    /// Reads the From header fields of a message: their raw values, in the order of appearance.
    ///
    /// A value may begin with white space, be folded with CRLF or LF, and end with a line break.
    #[cfg(any(test, feature = "testing"))]
    pub fn from_fields<V: AsRef<[u8]>>(values: &[V]) -> Self {
        values.iter().fold(Self::Missing, |author, value| author.and_field(value.as_ref()))
    }

    /// The author, when one more From header field comes.
    #[must_use]
    pub fn and_field(self, value: &[u8]) -> Self {
        let reading = read(value);
        let all = match self {
            Self::Missing => {
                return match reading {
                    Ok(Reading { domains, .. }) if domains.as_slice().is_empty() => Self::NoMembers,
                    Ok(Reading { domains, misleading: true }) => Self::Misleading(domains),
                    Ok(Reading { domains, .. }) => match domains.as_slice() {
                        [domain] if !domains.truncated => Self::One(domain.clone()),
                        _ => Self::Several(domains),
                    },
                    Err(reason) => Self::Malformed(reason),
                };
            }
            Self::One(domain) => AuthorDomains { domains: vec![domain], truncated: false },
            Self::Several(domains) | Self::Misleading(domains) | Self::SeveralFields(domains) => {
                domains
            }
            Self::NoMembers | Self::Malformed(_) => AuthorDomains::default(),
        };
        let mut all = all;
        if let Ok(Reading { domains, .. }) = reading {
            domains.domains.iter().for_each(|domain| all.add(domain));
            all.truncated |= domains.truncated;
        }
        Self::SeveralFields(all)
    }

    /// The domains that DMARC applies to, in the order of appearance.
    pub fn domains(&self) -> &[Domain] {
        match self {
            Self::One(domain) => std::slice::from_ref(domain),
            Self::Several(domains) | Self::Misleading(domains) | Self::SeveralFields(domains) => {
                domains.as_slice()
            }
            Self::Missing | Self::NoMembers | Self::Malformed(_) => &[],
        }
    }

    /// Whether there are more domains than [`Self::domains`] has: any may be among the others.
    pub fn has_more_domains(&self) -> bool {
        match self {
            Self::Several(domains) | Self::Misleading(domains) | Self::SeveralFields(domains) => {
                domains.is_truncated()
            }
            Self::One(_) | Self::Missing | Self::NoMembers | Self::Malformed(_) => false,
        }
    }
}

/// Reads a From header field: strictly, and where the grammar does not settle what everybody reads,
/// leniently too.
fn read(value: &[u8]) -> Result<Reading, Malformed> {
    let strict = parse::domains(value).and_then(|reading| match lookalike::specials(value) {
        // Readers that take compatible characters as one see another text. It must say the same.
        Some(folded) => match parse::domains(folded.as_bytes()) {
            Ok(other) if other.domains == reading.domains => Ok(reading),
            _ => Err(Malformed::Lookalike),
        },
        None => Ok(reading),
    });
    match strict {
        Ok(reading) if !reading.domains.as_slice().is_empty() => Ok(reading),
        Ok(group) => Ok(lenient::read(value).unwrap_or(group)),
        Err(reason) => lenient::read(value).ok_or(reason),
    }
}

/// Whether a header field's name is that of a From field, in any case.
///
/// White space before the colon is obsolete (RFC 5322 §4.5) and yet accepted: clients show such a
/// field as the author.
pub fn is_from(name: &[u8]) -> bool {
    name.trim_ascii_end().eq_ignore_ascii_case(b"From")
}
