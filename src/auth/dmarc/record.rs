//! DMARC policy records: what a domain owner publishes below `_dmarc` (RFC 9989 §4.7).

use crate::mail::{
    octets::{self, split_once},
    results::{Words as _, words},
};

words! {
    /// The handling that a domain owner asks for where DMARC fails: none, quarantine, reject (RFC
    /// 9989 §4.7), from mild to strict.
    Policy {
        /// Nothing.
        None = "none",
        /// To treat the message as suspicious.
        Quarantine = "quarantine",
        /// To reject the message.
        Reject = "reject",
    }
}

impl Policy {
    /// The policy one level below, which is what a domain in test mode asks for (`t=y`, RFC 9989
    /// §4.7).
    pub fn lowered(self) -> Self {
        match self {
            Self::Reject => Self::Quarantine,
            Self::Quarantine | Self::None => Self::None,
        }
    }

    /// `dmarc-request = "none" / "quarantine" / "reject"` (RFC 9989 §4.8), in any case.
    fn parse(value: &[u8]) -> Option<Self> {
        Self::find(|word| value.eq_ignore_ascii_case(word.as_bytes()))
    }
}

/// How close an identifier must be to the author domain (RFC 9989 §4.4).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Alignment {
    /// The same organizational domain.
    #[default]
    Relaxed,
    /// The same domain.
    Strict,
}

/// Whether the domain of a record is a public suffix domain (`psd`, RFC 9989 §4.7).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Psd {
    /// `y`: a public suffix domain. The organizational domain is one label below.
    Yes,
    /// `n`: the organizational domain, for itself and what is below.
    No,
    /// `u`: nothing.
    #[default]
    Unstated,
}

/// A DMARC policy record, as read.
///
/// Unknown tags, `ruf`, and `pct`, `rf` and `ri` of RFC 7489, are ignored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// The policies that can be used; `None` where the record's `p` is missing or bad, or its `sp`
    /// or `np` is bad, and no `rua` makes up for that: then DMARC is not applied (RFC 9989
    /// §4.10.1).
    pub policies: Option<Policies>,
    /// Whether the policies are not what the record says, because that cannot be used and `rua`
    /// makes up for it: then it counts as `p=none`.
    pub is_assumed: bool,
    /// `adkim`: how DKIM signing domains are aligned.
    pub adkim: Alignment,
    /// `aspf`: how the SPF domain is aligned.
    pub aspf: Alignment,
    /// `psd`: whether the domain is a public suffix domain.
    pub psd: Psd,
    /// `t=y`: test mode.
    pub testing: bool,
    /// `fo`: which failures are to be reported.
    pub fo: FailureOptions,
    /// `rua`: where aggregate reports are to be sent: the first 10 URIs of at most 1000
    /// octets, without a size behind them (`obs-dmarc-report-size`).
    pub rua: Box<[Box<str>]>,
}

/// The most URIs that are kept of a list.
const MAX_REPORT_URIS: usize = 10;

/// The most octets of a URI that is kept.
const MAX_REPORT_URI_LENGTH: usize = 1000;

/// The failures that a domain owner wants reported (`fo`, RFC 9989 §4.7).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FailureOptions {
    /// `0`: no method gave an aligned pass. Also where `fo` has no known option.
    pub all: bool,
    /// `1`: a method did not give an aligned pass.
    pub any: bool,
    /// `d`: a signature did not verify, aligned or not.
    pub dkim: bool,
    /// `s`: SPF did not pass, aligned or not.
    pub spf: bool,
}

impl FailureOptions {
    /// Reads a list with colons between its items, in any case; unknown items are ignored.
    fn parse(list: &[u8]) -> Self {
        let has = |option: u8| {
            list.split(|octet| *octet == b':')
                .map(trim)
                .any(|item| item.eq_ignore_ascii_case(&[option]))
        };
        let [all, any, dkim, spf] = [b'0', b'1', b'd', b's'].map(has);
        Self { all: all || !(any || dkim || spf), any, dkim, spf }
    }
}

/// The policies of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policies {
    /// For the domain itself.
    pub p: Policy,
    /// For subdomains that exist, if they are named apart.
    pub sp: Option<Policy>,
    /// For subdomains that do not exist, if they are named apart.
    pub np: Option<Policy>,
}

impl Record {
    /// Reads one TXT record; `None` if it is not a DMARC record.
    ///
    /// ```text
    /// dmarc-record  = dmarc-version *(dmarc-sep dmarc-tag) [dmarc-sep]
    /// dmarc-version = "v" equals %s"DMARC1" ; case sensitive
    /// dmarc-sep     = *WSP ";" *WSP
    /// dmarc-tag     = 1*ALPHA equals 1*dmarc-value
    /// equals        = *WSP "=" *WSP
    /// dmarc-value   = %x20-3A / %x3C-7E     ; RFC 9989 §4.8
    /// ```
    ///
    /// The version must be right to the letter. After it, what is not a tag is skipped, and a bad
    /// value counts as none. So does a tag that occurs twice: tag-lists must not have that (RFC
    /// 6376 §3.2), and either value may be the one that was not meant. Names of tags are read in
    /// any case.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut tags = text.split(|octet| *octet == b';').map(tag);
        // Nothing, not even white space, goes before the version.
        if !matches!(text.first(), Some(b'v' | b'V'))
            || !matches!(tags.next(), Some(Some((b"v" | b"V", b"DMARC1"))))
        {
            return None;
        }
        let mut values = Values::default();
        tags.flatten().for_each(|(name, value)| values.add(name, value));
        let policy = |tag: Tag<'_>| match tag {
            Tag::Missing => Ok(None),
            Tag::Once(value) => Policy::parse(value).map(Some).ok_or(()),
            Tag::Repeated => Err(()),
        };
        let said = match (policy(values.p), policy(values.sp), policy(values.np)) {
            (Ok(Some(p)), Ok(sp), Ok(np)) => Some(Policies { p, sp, np }),
            _ => None,
        };
        let is_assumed = said.is_none() && uris(values.rua.value()).next().is_some();
        let assumed = is_assumed.then_some(Policies { p: Policy::None, sp: None, np: None });
        let alignment = |tag: Tag<'_>| {
            if tag.value().eq_ignore_ascii_case(b"s") {
                Alignment::Strict
            } else {
                Alignment::Relaxed
            }
        };
        Some(Self {
            policies: said.or(assumed),
            is_assumed,
            adkim: alignment(values.adkim),
            aspf: alignment(values.aspf),
            psd: match values.psd.value() {
                b"y" | b"Y" => Psd::Yes,
                b"n" | b"N" => Psd::No,
                _ => Psd::Unstated,
            },
            testing: values.t.value().eq_ignore_ascii_case(b"y"),
            fo: FailureOptions::parse(values.fo.value()),
            rua: uris(values.rua.value())
                .filter(|uri| uri.len() <= MAX_REPORT_URI_LENGTH)
                .take(MAX_REPORT_URIS)
                .map(Into::into)
                .collect(),
        })
    }
}

/// A tag's value in a record.
#[derive(Clone, Copy, Default)]
enum Tag<'a> {
    #[default]
    Missing,
    Once(&'a [u8]),
    Repeated,
}

impl<'a> Tag<'a> {
    /// The value, or nothing.
    fn value(self) -> &'a [u8] {
        match self {
            Self::Once(value) => value,
            Self::Missing | Self::Repeated => b"",
        }
    }
}

/// The tags that are kept.
#[derive(Default)]
struct Values<'a> {
    p: Tag<'a>,
    sp: Tag<'a>,
    np: Tag<'a>,
    adkim: Tag<'a>,
    aspf: Tag<'a>,
    psd: Tag<'a>,
    t: Tag<'a>,
    fo: Tag<'a>,
    rua: Tag<'a>,
}

impl<'a> Values<'a> {
    fn add(&mut self, name: &[u8], value: &'a [u8]) {
        let known = [
            ("p", &mut self.p),
            ("sp", &mut self.sp),
            ("np", &mut self.np),
            ("adkim", &mut self.adkim),
            ("aspf", &mut self.aspf),
            ("psd", &mut self.psd),
            ("t", &mut self.t),
            ("fo", &mut self.fo),
            ("rua", &mut self.rua),
        ];
        let is_it = |known: &(&str, _)| name.eq_ignore_ascii_case(known.0.as_bytes());
        let Some((_, tag)) = known.into_iter().find(is_it) else { return };
        *tag = match tag {
            Tag::Missing => Tag::Once(value),
            Tag::Once(_) | Tag::Repeated => Tag::Repeated,
        };
    }
}

/// A tag's name and value, white space around them taken away; `None` for a text that is not a tag.
fn tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    split_once(text, b'=').map(|(name, value)| (trim(name), trim(value)))
}

/// The text without the white space (`WSP = SP / HTAB`, RFC 5234 §B.1) around it.
fn trim(text: &[u8]) -> &[u8] {
    octets::trim(text, |octet| matches!(octet, b' ' | b'\t'))
}

/// The valid URIs of a list, without a size behind them.
///
/// ```text
/// dmarc-urilist         = (dmarc-uri / obs-dmarc-uri) *(*WSP "," *WSP (dmarc-uri / obs-dmarc-uri))
/// obs-dmarc-uri         = dmarc-uri obs-dmarc-report-size
/// obs-dmarc-report-size = "!" 1*DIGIT [ "k" / "m" / "g" / "t" ] ; RFC 9989 §4.8
/// ```
fn uris(list: &[u8]) -> impl Iterator<Item = &str> {
    list.split(|octet| *octet == b',').map(trim).filter_map(|text| {
        let (uri, size) =
            split_once(text, b'!').map_or((text, None), |(uri, size)| (uri, Some(size)));
        let is_valid = is_uri(uri) && size.is_none_or(is_report_size);
        str::from_utf8(uri).ok().filter(|_| is_valid)
    })
}

fn is_report_size(text: &[u8]) -> bool {
    let digits = match text.split_last() {
        Some((unit, digits)) if b"kmgtKMGT".contains(unit) => digits,
        _ => text,
    };
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// Whether the text is a URI as far as its characters go: `URI = scheme ":" hier-part [ "?" query ]
/// [ "#" fragment ]` (RFC 3986 §3).
fn is_uri(text: &[u8]) -> bool {
    let Some((scheme, rest)) = split_once(text, b':') else { return false };
    let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|octet| octet.is_ascii_alphanumeric() || b"+-.".contains(octet));
    let mut escapes = rest.split(|octet| *octet == b'%');
    is_scheme
        && escapes.next().is_some_and(|text| text.iter().all(is_uri_character))
        && escapes.all(|text| {
            matches!(text, [high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() && rest.iter().all(is_uri_character))
        })
}

/// `reserved / unreserved` (RFC 3986 §2.2, §2.3); the comma and the exclamation mark end a URI
/// before.
fn is_uri_character(octet: &u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Record> {
        Record::parse(text.as_bytes())
    }

    /// The policies as `p/sp/np`, `-` for none of them, `invalid` for a record that cannot be used,
    /// `no record`.
    fn policies(text: &str) -> String {
        let Some(record) = parse(text) else { return "no record".into() };
        let Some(Policies { p, sp, np }) = record.policies else { return "invalid".into() };
        let word = |policy: Option<Policy>| policy.map_or("-", Policy::as_str);
        format!("{p}/{}/{}", word(sp), word(np))
    }

    #[test]
    fn versions() {
        for text in [
            "v=DMARC1; p=none",
            "v=DMARC1;p=none",
            "v = DMARC1 ; p=none",
            "v\t=\tDMARC1\t;p=none",
            "V=DMARC1;p=none;",
        ] {
            assert_eq!(policies(text), "none/-/-", "{text}");
        }
        for text in ["", ";", "v", "v=", "v=DMARC1", "v=DMARC1 ", "v=DMARC1;"] {
            let expected = if text.contains("DMARC1") { "invalid" } else { "no record" };
            assert_eq!(policies(text), expected, "{text}");
        }
        for text in [
            "v=dmarc1; p=none",
            "v=DMARC; p=none",
            "v=DMARC12; p=none",
            "v=DMARC1 p=none",
            "v=DMARC1, p=none",
            "v=\"DMARC1\"; p=none",
            "v=DMARC1\u{a0}; p=none",
            " v=DMARC1; p=none",
            ";v=DMARC1; p=none",
            "p=none; v=DMARC1",
            "v==DMARC1; p=none",
            "v=DMARC1=; p=none",
            "\u{feff}v=DMARC1; p=none",
        ] {
            assert_eq!(policies(text), "no record", "{text}");
        }
    }

    #[test]
    fn policy_tags() {
        for (text, expected) in [
            ("p=reject", "reject/-/-"),
            ("p = reject ", "reject/-/-"),
            ("p=REJECT; SP=Quarantine; nP=none", "reject/quarantine/none"),
            ("sp=none;np=quarantine;p=reject", "reject/none/quarantine"),
            (";; ;p=reject;;", "reject/-/-"),
            ("p=reject; nonsense; x; =; =y", "reject/-/-"),
            ("p=reject; pct=0; rf=afrf; ri=86400; fo=1; x-y=z; rua=", "reject/-/-"),
            ("p=reject; \u{fc}=\u{1}; rua=mailto:a@x.example", "reject/-/-"),
            ("", "invalid"),
            ("p=", "invalid"),
            ("p=bogus", "invalid"),
            ("p=reject x", "invalid"),
            ("p=reject,", "invalid"),
            ("p reject", "invalid"),
            ("p=reject; p=reject", "invalid"),
            ("p=reject; P=none", "invalid"),
            ("p=reject; sp=", "invalid"),
            ("p=reject; sp=bogus", "invalid"),
            ("p=reject; np=bogus", "invalid"),
            ("p=reject; np=none; np=none", "invalid"),
            ("sp=reject", "invalid"),
        ] {
            assert_eq!(policies(&format!("v=DMARC1; {text}")), expected, "{text}");
            // With an address for reports, what was invalid asks for nothing.
            let with_rua = if expected == "invalid" { "none/-/-" } else { expected };
            if !text.contains("rua") {
                assert_eq!(
                    policies(&format!("v=DMARC1; {text}; rua=mailto:a@x.example")),
                    with_rua,
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn other_tags() {
        let record = parse("v=DMARC1; p=none").unwrap();
        assert_eq!((record.adkim, record.aspf), (Alignment::Relaxed, Alignment::Relaxed));
        assert_eq!((record.psd, record.testing), (Psd::Unstated, false));
        let record = parse("v=DMARC1; adkim=s; aspf=S; psd=y; t=y").unwrap();
        assert_eq!((record.adkim, record.aspf), (Alignment::Strict, Alignment::Strict));
        assert_eq!((record.psd, record.testing), (Psd::Yes, true));
        assert_eq!(parse("v=DMARC1; psd=N").unwrap().psd, Psd::No);
        for text in [
            "v=DMARC1; adkim=x; aspf=strict; psd=maybe; t=1",
            "v=DMARC1; adkim=s;adkim=s; aspf=r;aspf=s; psd=y;psd=n; t=y;t=y",
        ] {
            let record = parse(text).unwrap();
            assert_eq!((record.adkim, record.aspf), (Alignment::Relaxed, Alignment::Relaxed));
            assert_eq!((record.psd, record.testing), (Psd::Unstated, false));
        }
    }

    #[test]
    fn report_addresses() {
        for good in [
            "mailto:",
            "mailto:a@x.example",
            "mailto:a@x.example!10m",
            "mailto:a@x.example!5",
            "bogus, https://report.example/dmarc?a=b#c",
            "mailto:d%2Cmarc@x.example",
            " mailto:a@x.example , ",
            "MAILTO:a@x.example",
        ] {
            assert_eq!(policies(&format!("v=DMARC1; rua={good}")), "none/-/-", "{good}");
        }
        for bad in [
            "",
            "bogus",
            "a@x.example",
            ":",
            "1a:b",
            "mailto:a b@x.example",
            "mailto:%zz",
            "mailto:%2",
            "mailto:a!",
            "mailto:a!m",
            "mailto:ü",
        ] {
            assert_eq!(policies(&format!("v=DMARC1; rua={bad}")), "invalid", "{bad}");
        }
        assert_eq!(policies("v=DMARC1; ruf=mailto:a@x.example"), "invalid");
    }

    #[test]
    fn report_addresses_are_kept_up_to_the_bounds() {
        let rua = |list: &str| parse(&format!("v=DMARC1; p=none; rua={list}")).unwrap().rua;
        assert_eq!(
            *rua("mailto:A@x.example!10m , bogus,https://x.example/?a"),
            ["mailto:A@x.example".into(), "https://x.example/?a".into()]
        );
        assert!(rua("a@x.example").is_empty() && parse("v=DMARC1; p=none").unwrap().rua.is_empty());
        for (count, kept) in [(9, 9), (10, 10), (11, 10)] {
            assert_eq!(rua(&vec!["mailto:a"; count].join(",")).len(), kept, "{count}");
        }
        for (octets, kept) in [(999, 1), (1000, 1), (1001, 0)] {
            assert_eq!(rua(&format!("mailto:{}", "a".repeat(octets - 7))).len(), kept, "{octets}");
            // It counts all the same.
            let text = format!("rua=mailto:{}", "a".repeat(octets));
            assert_eq!(policies(&format!("v=DMARC1; {text}")), "none/-/-", "{octets}");
        }
    }

    #[test]
    fn failure_options() {
        for (list, expected) in [
            ("", "0"),
            ("0", "0"),
            ("1", "1"),
            ("d", "d"),
            (" D : s ", "ds"),
            ("1:x", "1"),
            ("x", "0"),
            ("0:1:d:s", "01ds"),
            ("d; fo=s", "0"),
        ] {
            let FailureOptions { all, any, dkim, spf } =
                parse(&format!("v=DMARC1; p=none; fo={list}")).unwrap().fo;
            let options = [(all, '0'), (any, '1'), (dkim, 'd'), (spf, 's')];
            let options: String =
                options.iter().filter(|(is_set, _)| *is_set).map(|(_, option)| option).collect();
            assert_eq!(options, expected, "{list}");
        }
    }

    #[test]
    fn test_mode_lowers() {
        assert_eq!(
            [Policy::Reject, Policy::Quarantine, Policy::None].map(Policy::lowered),
            [Policy::Quarantine, Policy::None, Policy::None]
        );
        assert!(Policy::None < Policy::Quarantine && Policy::Quarantine < Policy::Reject);
    }
}
