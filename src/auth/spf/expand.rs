//! Macro expansion (RFC 7208 §7).

use std::{borrow::Cow, fmt::Write as _, net::IpAddr};

use viaspf::record::{
    Escape, ExplainString, ExplainStringSegment, Macro, MacroExpand, MacroKind, MacroString,
    MacroStringSegment,
};

use super::{
    limits::{MAX_EXPANSION_WORK, MAX_EXPLANATION},
    query::{POSTMASTER, Query},
};
use crate::{
    dns::Name,
    mail::{
        domain::{Domain, MAX_DOMAIN_LENGTH, with_a_labels},
        octets::count_work,
    },
};

/// The expansion of `%{p}` where no name of the client is validated (RFC 7208 §7.3).
const UNKNOWN: &str = "unknown";

/// The values of the macros.
#[derive(Clone, Copy, Debug)]
pub struct Variables<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// The local-part of the sender.
    pub local_part: &'a str,
    /// The domain of the sender, `%{o}`.
    pub sender_domain: &'a str,
    /// The domain whose record is evaluated, `%{d}`.
    pub domain: &'a str,
    /// The HELO name, `%{h}`.
    pub helo: &'a str,
    /// This host, `%{r}`.
    pub receiver: &'a str,
    /// Seconds since 1970, `%{t}`.
    pub timestamp: u64,
    /// The validated name of the client, `%{p}`, where a macro needs it and it was found.
    pub validated: Option<&'a str>,
}

impl<'a> Variables<'a> {
    /// The values in the record of the sender's domain.
    pub(super) fn new(query: &Query<'a>, domain: &'a Domain) -> Self {
        let domain = domain.as_str();
        Self {
            client: query.client.to_canonical(),
            local_part: if query.local_part.is_empty() { POSTMASTER } else { query.local_part },
            sender_domain: domain,
            domain,
            helo: query.helo,
            receiver: query.receiver,
            timestamp: query.timestamp,
            validated: None,
        }
    }

    /// The values in the record of another domain.
    pub(super) fn of_record<'b>(&self, domain: &'b Name) -> Variables<'b>
    where
        'a: 'b,
    {
        Variables { domain: domain.as_str(), ..*self }
    }

    fn value(&self, kind: MacroKind) -> Cow<'a, str> {
        match kind {
            MacroKind::Sender => format!("{}@{}", self.local_part, self.sender_domain).into(),
            MacroKind::LocalPart => self.local_part.into(),
            MacroKind::DomainPart => self.sender_domain.into(),
            MacroKind::Domain => self.domain.into(),
            MacroKind::Ip => dotted(self.client).into(),
            MacroKind::ValidatedDomain => self.validated.unwrap_or(UNKNOWN).into(),
            // As other names: with A-labels (RFC 7208 §4.3), without a dot at its end.
            MacroKind::HeloDomain => {
                with_a_labels(self.helo.strip_suffix('.').unwrap_or(self.helo))
            }
            MacroKind::PrettyIp => self.client.to_string().into(),
            MacroKind::Receiver => {
                if self.receiver.is_empty() { UNKNOWN } else { self.receiver }.into()
            }
            MacroKind::Timestamp => self.timestamp.to_string().into(),
            MacroKind::VersionLabel => match self.client {
                IpAddr::V4(_) => "in-addr",
                IpAddr::V6(_) => "ip6",
            }
            .into(),
        }
    }
}

/// `%{i}`: an IPv4 address as ever, an IPv6 address as nibbles with dots between them (RFC 7208
/// §7.3).
///
/// Nibbles are in upper case, as explanations have always shown them; to DNS, case means nothing.
fn dotted(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let mut text = String::with_capacity(63);
            for octet in address.octets() {
                let dot = if text.is_empty() { "" } else { "." };
                // Writing to a `String` cannot fail.
                let _ = write!(text, "{dot}{:X}.{:X}", octet >> 4, octet & 0xf);
            }
            text
        }
    }
}

/// Expands a domain-spec to the name that it stands for.
///
/// `None` where that cannot be the name of a question. A name that is too long loses labels on the
/// left (RFC 7208 §7.3).
pub(super) fn expand_domain(string: &MacroString, variables: &Variables<'_>) -> Option<Name> {
    let mut text = String::new();
    let mut work = 0;
    for segment in &string.segments {
        work += expand_segment(&mut text, segment, variables);
        if work > MAX_EXPANSION_WORK {
            return None;
        }
        keep_end(&mut text);
    }
    let mut rest = text.strip_suffix('.').unwrap_or(&text);
    while rest.len() > MAX_DOMAIN_LENGTH {
        rest = rest.split_once('.')?.1;
    }
    Name::new(rest)
}

/// Drops the beginning of a text that has become far too long for a name. The labels on the right
/// remain: text that the sender puts on the left must not push out the domain that asked for it.
fn keep_end(text: &mut String) {
    if text.len() > 16 * MAX_DOMAIN_LENGTH {
        let cut = text.len() - 2 * MAX_DOMAIN_LENGTH;
        let cut = (cut..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
        text.drain(..cut);
    }
}

/// Expands an explain-string (RFC 7208 §6.2); one that would become very long is cut.
pub fn expand_explain_string(string: &ExplainString, variables: &Variables<'_>) -> String {
    expand_explanation(string, variables).0
}

/// Expands an explain-string; `None` where the text would become very long.
pub(super) fn expand_whole_explain_string(
    string: &ExplainString,
    variables: &Variables<'_>,
) -> Option<String> {
    let (text, whole) = expand_explanation(string, variables);
    whole.then_some(text)
}

/// The expansion as far as it goes, and whether that is all of it.
fn expand_explanation(string: &ExplainString, variables: &Variables<'_>) -> (String, bool) {
    let mut text = String::new();
    let mut work = 0;
    for segment in &string.segments {
        match segment {
            ExplainStringSegment::MacroString(string) => {
                for segment in &string.segments {
                    work += expand_segment(&mut text, segment, variables);
                    if work > MAX_EXPANSION_WORK || text.len() > MAX_EXPLANATION {
                        return (cut_end(text), false);
                    }
                }
            }
            ExplainStringSegment::Space => text.push(' '),
        }
        if text.len() > MAX_EXPLANATION {
            return (cut_end(text), false);
        }
    }
    (text, true)
}

/// Cuts a text to the length of the longest explanation.
fn cut_end(mut text: String) -> String {
    while text.len() > MAX_EXPLANATION {
        text.pop();
    }
    text
}

/// Adds the expansion of a segment; returns how many octets of values that took.
fn expand_segment(
    text: &mut String,
    segment: &MacroStringSegment,
    variables: &Variables<'_>,
) -> usize {
    match segment {
        MacroStringSegment::MacroLiteral(literal) => text.push_str(literal.as_ref()),
        MacroStringSegment::MacroExpand(MacroExpand::Escape(escape)) => {
            text.push_str(match escape {
                Escape::Percent => "%",
                Escape::Space => " ",
                Escape::UrlEncodedSpace => "%20",
            })
        }
        MacroStringSegment::MacroExpand(MacroExpand::Macro(m)) => {
            return expand_macro(text, m, variables);
        }
    }
    0
}

fn expand_macro(text: &mut String, m: &Macro, variables: &Variables<'_>) -> usize {
    let value = variables.value(m.kind());
    let work = value.len();
    count_work(work);
    let value: Cow<'_, str> = if m.limit().is_none() && !m.reverse() && m.delimiters().is_none() {
        value
    } else {
        transform(&value, m).into()
    };
    if m.url_encode() {
        url_encode(text, &value)
    } else {
        text.push_str(&value)
    }
    work
}

/// Splits at the delimiters, turns round, takes the right-hand parts, joins with dots (RFC 7208
/// §7.3).
fn transform(value: &str, m: &Macro) -> String {
    let delimiters = m.delimiters().map_or(".", AsRef::as_ref);
    let mut parts: Vec<&str> = value.split(|c| delimiters.contains(c)).collect();
    if m.reverse() {
        parts.reverse();
    }
    let limit = m.limit().map_or(parts.len(), |limit| usize::from(limit.get()));
    let skipped = parts.len().saturating_sub(limit);
    parts.into_iter().skip(skipped).collect::<Vec<_>>().join(".")
}

/// Upper-case macro letters: everything but the unreserved characters of RFC 3986 §2.3 is escaped.
fn url_encode(text: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
}
