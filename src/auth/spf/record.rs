//! Finding and parsing SPF records (RFC 7208 §4.4 to §4.6).

use std::{borrow::Cow, fmt::Display, ops::Deref, str::Chars, sync::Arc};

use viaspf::record::{
    DomainSpec, Macro, MacroExpand, MacroKind, MacroString, MacroStringSegment, Mechanism,
    Modifier, SpfRecord, Term,
};

use super::{
    kept::KeptOutcomes,
    limits::{MAX_KEPT_RECORD, MAX_MACROS, MAX_RECORD, MAX_TERMS},
};
use crate::{
    dns::{Dns, Name, Texts},
    mail::octets::count_work,
};

/// The largest number in a macro that the parser takes; no name has more parts (RFC 7208 §7.1,
/// §7.3).
const MAX_DIGITS: &str = "255";

/// About how many octets of memory a term or a macro takes when it has been parsed.
const PART: usize = 128;

fn count_terms(text: &[u8]) -> usize {
    text.split(|&octet| octet == b' ').skip(1).filter(|term| !term.is_empty()).count()
}

/// An upper bound: escapes count as well.
fn count_macros(text: &[u8]) -> usize {
    text.iter().filter(|&&octet| octet == b'%').count()
}

/// Why the texts at a name are not a record that can be evaluated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum RecordError {
    /// None of them is an SPF record.
    NotFound,
    /// More than one is (RFC 7208 §4.5).
    Several,
    /// The record breaks the grammar (RFC 7208 §4.6), for the reason given.
    Syntax(String),
}

/// A record that was parsed.
#[derive(Debug, PartialEq)]
pub(super) struct ParsedRecord {
    record: SpfRecord,
    /// About how many octets of memory it takes, without the outcomes.
    pub(super) weight: usize,
    /// Whether the targets of its terms may depend on more than its domain.
    pub(super) has_macros: bool,
    /// Outcomes of checks of domains that have this record.
    pub(super) outcomes: KeptOutcomes,
}

impl Deref for ParsedRecord {
    type Target = SpfRecord;

    fn deref(&self) -> &SpfRecord {
        &self.record
    }
}

/// The record among the texts: as it is kept with them, or else parsed.
pub(super) fn find(texts: &Texts) -> Result<Arc<ParsedRecord>, RecordError> {
    match texts.parsed() {
        Some(record) => Ok(record),
        None => select(texts).map(Arc::new),
    }
}

/// As [`find`]; a record that was parsed is kept with the texts, which are those at a name.
pub(super) fn find_and_keep(
    dns: &Dns,
    name: &Name,
    texts: &Texts,
) -> Result<Arc<ParsedRecord>, RecordError> {
    if let Some(record) = texts.parsed() {
        return Ok(record);
    }
    let record = Arc::new(select(texts)?);
    keep(dns, name, texts, &record, 0);
    Ok(record)
}

/// Keeps a record with its texts, and counts so many octets for its outcomes; whether it is kept
/// now, for one that is too large is not.
pub(super) fn keep(
    dns: &Dns,
    name: &Name,
    texts: &Texts,
    record: &Arc<ParsedRecord>,
    outcomes: usize,
) -> bool {
    record.weight <= MAX_KEPT_RECORD
        && dns.keep_parsed(name, texts, Arc::clone(record), record.weight + outcomes)
}

/// The one SPF record among the texts.
///
/// ```text
/// record  = version terms *SP
/// version = "v=spf1"
/// terms   = *( 1*SP ( directive / modifier ) )
/// ```
fn select(texts: &[Box<[u8]>]) -> Result<ParsedRecord, RecordError> {
    let mut records = texts.iter().filter(|text| is_record(text));
    let record = records.next().ok_or(RecordError::NotFound)?;
    if records.next().is_some() {
        return Err(RecordError::Several);
    }
    let (text, record) = (record, parse(record)?);
    let weight = text.len() + PART * (record.terms.len() + count_macros(text));
    let has_macros = count_macros(text) > 0;
    Ok(ParsedRecord { record, weight, has_macros, outcomes: KeptOutcomes::default() })
}

pub(super) fn is_record(text: &[u8]) -> bool {
    let mut octets = text.iter();
    let has_version = b"v=spf1"
        .iter()
        .all(|wanted| octets.next().is_some_and(|octet| octet.eq_ignore_ascii_case(wanted)));
    has_version && matches!(octets.next(), None | Some(b' '))
}

fn parse(text: &[u8]) -> Result<SpfRecord, RecordError> {
    count_work(text.len());
    let too_many =
        |most: usize, what: &str| Err(RecordError::Syntax(format!("more than {most} {what}")));
    if text.len() > MAX_RECORD {
        return too_many(MAX_RECORD, "octets");
    }
    // A term has two octets at least.
    if text.len() > 2 * MAX_TERMS && count_terms(text) > MAX_TERMS {
        return too_many(MAX_TERMS, "terms");
    }
    if text.len() > MAX_MACROS && count_macros(text) > MAX_MACROS {
        return too_many(MAX_MACROS, "macros");
    }
    let text = match str::from_utf8(text) {
        Ok(text) if text.is_ascii() => text,
        _ => return Err(RecordError::Syntax("octets that are not ASCII".into())),
    };
    let text = cap_digits(text);
    let text = drop_misread_modifiers(text)?;
    let record: SpfRecord =
        text.parse().map_err(|_| RecordError::Syntax(explain_syntax_error(&text)))?;
    check(&record)?;
    Ok(record)
}

/// Drops unknown modifiers whose names begin as a mechanism does, such as `accredit=` and
/// `mx_hosts=`: the parser would read the mechanism and stumble over the rest. Unknown modifiers
/// mean nothing, only their syntax matters (RFC 7208 §6).
///
/// ```text
/// unknown-modifier = name "=" macro-string
/// name             = ALPHA *( ALPHA / DIGIT / "-" / "_" / "." )
/// ```
fn drop_misread_modifiers(text: Cow<'_, str>) -> Result<Cow<'_, str>, RecordError> {
    let misread = |term: &str| {
        let Some((name, _)) = term.split_once('=') else { return false };
        let begins = |mechanism: &str| {
            let mut octets = name.bytes();
            mechanism.bytes().all(|wanted| {
                octets.next().is_some_and(|octet| octet.eq_ignore_ascii_case(&wanted))
            })
        };
        ["a", "mx", "ptr"].into_iter().any(begins)
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    if !text.split(' ').any(misread) {
        return Ok(text);
    }
    let mut kept = String::with_capacity(text.len());
    for term in text.split(' ') {
        if misread(term) {
            let value = term.split_once('=').map_or("", |(_, value)| value);
            value.parse::<MacroString>().map_err(|_| RecordError::Syntax(syntax_error_in(term)))?;
            continue;
        }
        kept.push_str(term);
        kept.push(' ');
    }
    Ok(kept.into())
}

/// Checks two rules that are not in the grammar: modifiers that occur at most once (RFC 7208 §6),
/// and macros that only explanations may have (§7.2).
fn check(record: &SpfRecord) -> Result<(), RecordError> {
    let (mut redirects, mut explanations) = (0, 0);
    for term in &record.terms {
        let spec = match term {
            Term::Directive(directive) => mechanism_spec(&directive.mechanism),
            Term::Modifier(Modifier::Redirect(redirect)) => {
                redirects += 1;
                Some(&redirect.domain_spec)
            }
            Term::Modifier(Modifier::Explanation(explanation)) => {
                explanations += 1;
                Some(&explanation.domain_spec)
            }
            Term::Modifier(Modifier::Unknown(_)) => None,
        };
        if let Some(spec) = spec
            && macros(spec.as_ref()).any(|m| {
                matches!(m.kind(), MacroKind::PrettyIp | MacroKind::Receiver | MacroKind::Timestamp)
            })
        {
            return Err(RecordError::Syntax(format!(
                "macro in '{}' that only explanations may have",
                shorten(term)
            )));
        }
    }
    match (redirects, explanations) {
        (2.., _) => Err(RecordError::Syntax("more than one redirect modifier".into())),
        (_, 2..) => Err(RecordError::Syntax("more than one exp modifier".into())),
        _ => Ok(()),
    }
}

/// The domain-spec of a mechanism, where it has one.
pub(super) fn mechanism_spec(mechanism: &Mechanism) -> Option<&DomainSpec> {
    match mechanism {
        Mechanism::All | Mechanism::Ip4(_) | Mechanism::Ip6(_) => None,
        Mechanism::Include(include) => Some(&include.domain_spec),
        Mechanism::A(a) => a.domain_spec.as_ref(),
        Mechanism::Mx(mx) => mx.domain_spec.as_ref(),
        Mechanism::Ptr(ptr) => ptr.domain_spec.as_ref(),
        Mechanism::Exists(exists) => Some(&exists.domain_spec),
    }
}

/// The macros of a macro-string.
pub(super) fn macros(string: &MacroString) -> impl Iterator<Item = &Macro> {
    string.segments.iter().filter_map(|segment| match segment {
        MacroStringSegment::MacroExpand(MacroExpand::Macro(m)) => Some(m),
        _ => None,
    })
}

/// Names the first term that cannot be parsed.
fn explain_syntax_error(text: &str) -> String {
    // The first word is the version.
    let terms = text.split(' ').skip(1);
    let bad = terms
        .filter(|term| !term.is_empty())
        .find(|term| format!("v=spf1 {term}").parse::<SpfRecord>().is_err());
    match bad {
        Some(term) => syntax_error_in(term),
        None => "syntax error".into(),
    }
}

fn syntax_error_in(term: &str) -> String {
    format!("syntax error in '{}'", shorten(term))
}

/// A term as logs can have it.
pub(super) fn shorten(term: impl Display) -> String {
    let term = term.to_string();
    let mut rest = term.chars();
    let short: String = rest.by_ref().take(60).collect();
    if rest.next().is_some() { short + "..." } else { short }
}

/// Writes digits of macros that are larger than the parser takes as the largest that it takes: both
/// mean all parts.
///
/// ```text
/// macro-expand = ( "%{" macro-letter transformers *delimiter "}" ) / "%%" / "%_" / "%-"
/// transformers = *DIGIT [ "r" ]
/// ```
pub(super) fn cap_digits(text: &str) -> Cow<'_, str> {
    if !text.contains("%{") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        out.push('%');
        rest = after;
        // `%%{` is not a macro.
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('{') {
            out.push('{');
            let mut characters = inner.chars();
            if let Some(letter) = next_if(&mut characters, char::is_ascii_alphabetic) {
                out.push(letter);
                let number: String =
                    std::iter::from_fn(|| next_if(&mut characters, char::is_ascii_digit)).collect();
                let significant = number.trim_start_matches('0');
                let too_large =
                    significant.len() > 3 || significant.len() == 3 && significant > MAX_DIGITS;
                out.push_str(if too_large { MAX_DIGITS } else { &number });
            }
            rest = characters.as_str();
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Takes the next character if it is as wanted.
fn next_if(characters: &mut Chars<'_>, wanted: impl FnOnce(&char) -> bool) -> Option<char> {
    let next = characters.clone().next().filter(wanted)?;
    characters.next();
    Some(next)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::dns::{Answer, RecordType};

    fn text(s: &str) -> Box<[u8]> {
        s.as_bytes().into()
    }

    #[test]
    fn one_record_is_selected() {
        let terms = |texts: &[&str]| {
            select(&texts.iter().map(|t| text(t)).collect::<Vec<_>>()).map(|r| r.terms.len())
        };
        assert_eq!(terms(&["other", "v=spf1 -all"]), Ok(1));
        assert_eq!(terms(&["V=SPF1 -all  "]), Ok(1));
        assert_eq!(terms(&["v=spf1"]), Ok(0));
        assert_eq!(
            terms(&["v=spf10 -all", "v=spf1\t-all", "", "spf2.0/pra -all"]),
            Err(RecordError::NotFound)
        );
        assert_eq!(terms(&["v=spf1 -all", "V=spf1"]), Err(RecordError::Several));
    }

    /// The record at a name that the cache knows: as it is first found, and as it is found again.
    fn find_twice(texts: &Texts) -> [Result<Arc<ParsedRecord>, RecordError>; 2] {
        let name = Name::new("a.example").unwrap();
        let dns = Dns::knowing(&name, texts);
        let found = || match dns.lookup(&name, RecordType::Txt).now_or_never() {
            Some(Ok(Answer::Txt(texts))) => find_and_keep(&dns, &name, &texts),
            other => panic!("{other:?}"),
        };
        [found(), found()]
    }

    /// The record that is kept is the one that is there, however the answer is parsed.
    #[test]
    fn records_are_parsed_once() {
        let largest = MAX_KEPT_RECORD - PART;
        for (texts, is_kept) in [
            (vec!["v=spf1 -all".to_owned()], true),
            (vec!["x".to_owned(), "V=spf1 a mx include:%{d1r+}.b.example ~all ".to_owned()], true),
            (vec![format!("v=spf1{}", " a".repeat(62))], true),
            (vec![format!("v=spf1{}", " a".repeat(63))], false),
            (vec![format!("v=spf1 {}", "x=%{i} ".repeat(62))], false),
            (vec![format!("{:<largest$}", "v=spf1 -all")], true),
            (vec![format!("{:<1$}", "v=spf1 -all", largest + 1)], false),
            (vec!["v=spf1 -all".to_owned(), "v=spf1".to_owned()], false),
            (vec!["v=spf1 moo".to_owned()], false),
            (vec!["x".to_owned()], false),
        ] {
            let texts: Vec<_> = texts.iter().map(|record| text(record)).collect();
            let texts = Texts::from(texts);
            let anew = || select(&texts).map(Arc::new);
            let [first, second] = find_twice(&texts);
            assert_eq!((&first, &second), (&anew(), &anew()));
            let is_same =
                first.is_ok_and(|first| second.is_ok_and(|second| Arc::ptr_eq(&first, &second)));
            assert_eq!(is_same, is_kept, "{texts:?}");
        }
    }

    #[test]
    fn syntax_errors_name_the_term() {
        let problem = |s: &str| match select(&[text(s)]) {
            Err(RecordError::Syntax(problem)) => problem,
            other => panic!("{s}: {other:?}"),
        };
        assert_eq!(problem("v=spf1 mx ip4:1.2.3.4~all -all"), "syntax error in 'ip4:1.2.3.4~all'");
        assert_eq!(problem("v=spf1 a\u{a0}-all"), "octets that are not ASCII");
        assert_eq!(problem("v=spf1 a\t-all"), "syntax error in 'a\t-all'");
        assert!(problem("v=spf1 redirect=a.example redirect=b.example").contains("redirect"));
        assert!(problem("v=spf1 exp=a.example exp=b.example").contains("exp"));
        assert!(problem("v=spf1 -all exp=%{r}.example.com").contains("%{r}"));
        assert!(problem("v=spf1 exists:%{d0}.example").contains("%{d0}"));
    }

    #[test]
    fn large_digits_mean_all_parts() {
        assert_eq!(cap_digits("exists:%{d2147483648}.x"), "exists:%{d255}.x");
        assert_eq!(
            cap_digits("exists:%{d300r-}.x %%{d300} %{d0} %{d002}"),
            "exists:%{d255r-}.x %%{d300} %{d0} %{d002}"
        );
        assert_eq!(cap_digits("%{"), "%{");
        assert_eq!(cap_digits("%{é} %"), "%{é} %");
        // Something odd before it does not keep a later one from being read.
        assert_eq!(cap_digits("%é %{d300} %"), "%é %{d255} %");
    }
}
