//! Outcomes of DKIM.

use std::{borrow::Cow, fmt};

use super::trace::Trace;
use crate::{
    auth::signed::{body::BodyCoverage, keys::KeyProblem},
    mail::{domain::Domain, octets::first_octets, results::words},
};

words! {
    /// The results of DKIM (RFC 8601 §2.7.1).
    DkimResult {
        /// The message is not signed.
        None = "none",
        /// A signature that is acceptable and verified.
        Pass = "pass",
        /// A signature that is acceptable and did not verify.
        Fail = "fail",
        /// A signature that is not acceptable in some respect.
        Policy = "policy",
        /// A signature that cannot be read.
        Neutral = "neutral",
        /// No verdict for now; a later attempt may bring one.
        Temperror = "temperror",
        /// No verdict, and there will be none.
        Permerror = "permerror",
    }
}

/// Why a signature did not pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// More signatures than are verified; the number is how many more this outcome stands for,
    /// itself included.
    TooManySignatures(usize),
    /// The header is too large to be kept.
    HeaderTooLarge,
    /// `h=` has more names than are taken.
    TooManyFields,
    /// The field is not a tag-list, or has a tag twice (RFC 6376 §3.2).
    Syntax,
    /// A tag that every signature has is not there (RFC 6376 §3.5).
    MissingTag(&'static str),
    /// The value of a tag does not have the form that it must have (RFC 6376 §3.5).
    BadTag(&'static str),
    /// `v=` is another version than 1.
    Version,
    /// `a=` is an algorithm that is not known.
    Algorithm,
    /// `a=rsa-sha1`, which has permanently failed evaluation (RFC 8301 §3.1).
    Sha1,
    /// `c=` is a canonicalization that is not known.
    Canonicalization,
    /// `q=` has no query method that is known.
    QueryMethod,
    /// The domain of `i=` is neither that of `d=` nor below it.
    Identity,
    /// `h=` does not have From (RFC 6376 §5.4).
    FromNotSigned,
    /// A field of this name may occur once; `h=` names it, and there are more of them than it names
    /// (RFC 6376 §8.15).
    FieldNotSignedAsOften(&'static str),
    /// `x=` is not after `t=`.
    Times,
    /// `t=` is in the future.
    Future,
    /// `x=` is past.
    Expired,
    /// There is no key that can be used.
    Key(KeyProblem),
    /// The signature is good, but `l=` leaves octets of the body open (RFC 6376 §8.2).
    BodyNotCovered(BodyCoverage),
    /// `l=` is larger than the body.
    LengthBeyondBody,
    /// The body is not what was signed.
    BodyHash,
    /// The header is not what was signed, or the key is another.
    Signature,
}

impl Reason {
    /// The result that follows from it.
    ///
    /// As in RFC 8601 §2.7.1: a signature that cannot be read or processed is neutral, one that is
    /// not acceptable is policy, one that lacks something that it needs is permerror. RFC 8301 §3.1
    /// and §3.2: SHA-1 "has permanently failed", a short key is not acceptable.
    pub fn result(self) -> DkimResult {
        match self {
            Self::TooManySignatures(_)
            | Self::HeaderTooLarge
            | Self::TooManyFields
            | Self::FieldNotSignedAsOften(_)
            | Self::BodyNotCovered(_)
            | Self::Future
            | Self::Expired
            | Self::Key(KeyProblem::TooShort(_)) => DkimResult::Policy,
            Self::Key(KeyProblem::Unavailable(_)) => DkimResult::Temperror,
            Self::Syntax
            | Self::BadTag(_)
            | Self::Version
            | Self::Algorithm
            | Self::Canonicalization
            | Self::QueryMethod
            | Self::Times => DkimResult::Neutral,
            Self::MissingTag(_)
            | Self::Sha1
            | Self::Identity
            | Self::FromNotSigned
            | Self::Key(_)
            | Self::LengthBeyondBody => DkimResult::Permerror,
            Self::BodyHash | Self::Signature => DkimResult::Fail,
        }
    }
}

/// The text for `reason=` (RFC 8601 §2.2): ASCII without quotation marks and backslashes, and
/// without text from the message.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::TooManySignatures(1) => "too many signatures",
            Self::TooManySignatures(more) => return write!(f, "too many signatures ({more} more)"),
            Self::HeaderTooLarge => "header too large",
            Self::TooManyFields => "too many names in h= tag",
            Self::Syntax => "syntax error in signature",
            Self::MissingTag(tag) => return write!(f, "signature without {tag}= tag"),
            Self::BadTag(tag) => return write!(f, "bad {tag}= tag in signature"),
            Self::Version => "unknown signature version",
            Self::Algorithm => "unknown signature algorithm",
            Self::Sha1 => "rsa-sha1 is no longer valid",
            Self::Canonicalization => "unknown canonicalization",
            Self::QueryMethod => "unknown key query method",
            Self::Identity => "i= tag outside of d= domain",
            Self::FromNotSigned => "From field not signed",
            Self::FieldNotSignedAsOften(name) => {
                return write!(f, "more {name} fields than were signed");
            }
            Self::BodyNotCovered(body) => return body.fmt(f),
            Self::Times => "signature expires before it was made",
            Self::Future => "signature made in the future",
            Self::Expired => "signature expired",
            Self::Key(problem) => return problem.fmt(f),
            Self::LengthBeyondBody => "l= tag larger than body",
            Self::BodyHash => "body hash did not verify",
            Self::Signature => "signature did not verify",
        };
        f.write_str(text)
    }
}

/// The outcome for one DKIM-Signature field.
///
/// Of a broken signature it has as much as could be read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SignatureOutcome {
    /// Why it did not pass; `None` for a pass.
    pub reason: Option<Reason>,
    /// The signing domain (`d=`), for comparison.
    pub domain: Option<Domain>,
    /// The signing domain as written: it may have U-labels (RFC 8616 §5).
    pub domain_text: Option<Box<str>>,
    /// The selector (`s=`) as written: it may have U-labels.
    pub selector: Option<Box<str>>,
    /// The algorithm (`a=`), lower case: letters, digits and hyphens.
    pub algorithm: Option<Box<str>>,
    /// The identity (`i=`), decoded: any text without control characters. `None` where the
    /// signature has none.
    pub identity: Option<Box<str>>,
    /// The signature data (`b=`): base64 without white space, empty where there is none.
    pub signature: Box<str>,
    /// How much of the body it covers; `None` where the body was not hashed for it.
    pub body: Option<BodyCoverage>,
    /// How many bits the key has that was used.
    pub key_bits: Option<usize>,
    /// The domain is testing DKIM (`t=y` in the key): as good as unsigned, should it not pass (RFC
    /// 6376 §3.6.1).
    pub testing: bool,
    /// The steps of the verification, where that was asked for.
    pub trace: Option<Box<Trace>>,
}

impl SignatureOutcome {
    /// The result.
    pub fn result(&self) -> DkimResult {
        self.reason.map_or(DkimResult::Pass, Reason::result)
    }

    /// The selector as it is shown beside other names: as A-labels where it has U-labels, otherwise
    /// as written.
    pub fn ascii_selector(&self) -> Option<Cow<'_, str>> {
        self.selector.as_deref().map(|text| match Domain::parse(text) {
            Ok(selector) if !text.is_ascii() => selector.to_string().into(),
            _ => text.into(),
        })
    }

    /// A remark for people beside the result and the reason: a part of the body is not signed, the
    /// key is in test mode.
    pub fn comment(&self) -> Option<String> {
        let is_the_reason = matches!(self.reason, Some(Reason::BodyNotCovered(_)));
        let open = self.body.filter(|body| body.is_partial() && !is_the_reason);
        let comments =
            [open.map(|body| body.to_string()), self.testing.then(|| "testing".to_owned())];
        let comments: Vec<String> = comments.into_iter().flatten().collect();
        (!comments.is_empty()).then(|| comments.join(", "))
    }

    /// Whether it passed and covers all of the body, so that DMARC may rely on it.
    pub fn covers_message(&self) -> bool {
        self.reason.is_none() && self.body.is_some_and(|body| !body.is_partial())
    }
}

/// The most characters of a signature in `header.b`: a token of a header field cannot be longer.
const MAX_PREFIX: usize = 880;

/// The value of `header.b` for each outcome (RFC 6008 §4): the first 8 characters of the signature,
/// or more where two would be the same. `None` where there is no signature data. Of identical
/// signatures the first 880 characters are shown, which is all of a signature by a key of 4096
/// bits.
pub fn signature_prefixes(outcomes: &[SignatureOutcome]) -> Vec<Option<&str>> {
    // In sorted order the longest prefix shared with any other is shared with a neighbour.
    let mut lengths = vec![8_usize; outcomes.len()];
    let mut sorted: Vec<(&str, &mut usize)> =
        outcomes.iter().map(|outcome| &*outcome.signature).zip(&mut lengths).collect();
    sorted.sort_by_key(|(text, _)| *text);
    lengthen(sorted.iter_mut());
    lengthen(sorted.iter_mut().rev());
    let prefix = |(outcome, length)| {
        let text: &str = &(outcome as &SignatureOutcome).signature;
        (!text.is_empty()).then(|| first_octets(text, length))
    };
    outcomes.iter().zip(lengths).map(prefix).collect()
}

/// Makes each prefix long enough to differ from that of the text before it.
fn lengthen<'a, 'b: 'a>(texts: impl Iterator<Item = &'a mut (&'b str, &'b mut usize)>) {
    let mut former: Option<&str> = None;
    for (text, length) in texts {
        if let Some(former) = former {
            let shared = former.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
            **length = (**length).max((shared + 1).min(MAX_PREFIX));
        }
        former = Some(*text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(signatures: &[&str]) -> Vec<Option<String>> {
        let outcome = |text: &&str| SignatureOutcome {
            signature: (*text).into(),
            ..SignatureOutcome::default()
        };
        let outcomes: Vec<_> = signatures.iter().map(outcome).collect();
        signature_prefixes(&outcomes).into_iter().map(|text| text.map(str::to_owned)).collect()
    }

    #[test]
    fn prefixes_of_signatures_differ() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(prefixes(&["abcdefghijk", "xyz", ""]), [some("abcdefgh"), some("xyz"), None]);
        assert_eq!(
            prefixes(&["abcdefghijklm1", "abcdefgh2", "abcdefghijkl9", "zzzzzzzzzz"]),
            [some("abcdefghijklm"), some("abcdefgh2"), some("abcdefghijkl9"), some("zzzzzzzz")]
        );
        assert_eq!(
            prefixes(&["abcdefghij", "abcdefghij"]),
            [some("abcdefghij"), some("abcdefghij")]
        );
        for (length, shown) in [(879, 879), (880, 880), (881, 880), (1400, 880)] {
            let long = "a".repeat(length);
            assert_eq!(prefixes(&[&long, &long]), [some(&long[..shown]), some(&long[..shown])]);
        }
        assert_eq!(prefixes(&["abcdefgh", "abcdefghij"]), [some("abcdefgh"), some("abcdefghi")]);
    }
}
