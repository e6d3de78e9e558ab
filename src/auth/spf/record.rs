//! Finding and reading SPF records (RFC 7208 §4.4 to §4.6).

use std::{borrow::Cow, cell::RefCell, fmt::Display, str::Chars, sync::Arc};

use viaspf::record::{
    DomainSpec, Macro, MacroExpand, MacroKind, MacroString, MacroStringSegment, Mechanism,
    Modifier, SpfRecord, Term,
};

use super::limits::{MAX_MACROS, MAX_RECORD, MAX_TERMS};
use crate::mail::octets::count_work;

/// The most that a macro's digits can say; more parts no name has (RFC 7208 §7.1, §7.3).
const MAX_DIGITS: &str = "255";

/// About how many octets of memory a term and a macro take when they have been read.
const PART: usize = 128;

/// About how many octets of memory the record among the texts takes when it has been read.
fn weight(texts: &[Box<[u8]>], record: &SpfRecord) -> usize {
    let text = texts.iter().find(|text| is_record(text));
    text.map_or(0, |text| text.len() + PART * (record.terms.len() + count_macros(text)))
}

fn count_terms(text: &[u8]) -> usize {
    text.split(|&octet| octet == b' ').skip(1).filter(|term| !term.is_empty()).count()
}

/// As many at most: escapes count as well.
fn count_macros(text: &[u8]) -> usize {
    text.iter().filter(|&&octet| octet == b'%').count()
}

/// Why the texts at a name are no record that can be evaluated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum RecordError {
    /// None of them is an SPF record.
    NotFound,
    /// More than one is (RFC 7208 §4.5).
    Several,
    /// The record breaks the grammar (RFC 7208 §4.6), for the reason given.
    Syntax(String),
}

/// Sets of records that were read and may soon be asked for again; for each thread, so that none
/// waits for another.
const KEPT_SETS: usize = 128;

/// Records of a set, the newest first. With fewer, sets would overflow, and be read again and
/// again, long before all of them are full.
const SET_LENGTH: usize = 8;

/// An answer is kept if it has at most so many octets and texts, and a record of so many terms and
/// macros: large ones are rare, and would take much memory. One that is kept takes about 6 KiB at
/// most.
const MAX_KEPT_OCTETS: usize = 512;
const MAX_KEPT_TEXTS: usize = 16;
const MAX_KEPT_PARTS: usize = 32;

/// A record, and about how many octets of memory it takes.
type Weighed = (Arc<SpfRecord>, usize);

/// What is remembered of an answer: the answer itself, so that no other can take its address, and
/// its record.
type Kept = Option<(Arc<[Box<[u8]>]>, Weighed)>;

thread_local! {
    static KEPT: RefCell<Vec<[Kept; SET_LENGTH]>> = const { RefCell::new(Vec::new()) };
}

/// As [`select`], but an answer that comes again, as from a cache, is not read again.
pub(super) fn select_kept(texts: &Arc<[Box<[u8]>]>) -> Result<Weighed, RecordError> {
    // Addresses of answers have a pattern, as all are of some size; the upper bits of a product
    // with the golden ratio have none.
    let product = u64::try_from(Arc::as_ptr(texts).addr())
        .unwrap_or_default()
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let place = usize::try_from(product >> 32).unwrap_or_default() % KEPT_SETS;
    let known = KEPT.with_borrow(|kept| {
        let mut set = kept.get(place)?.iter().flatten();
        set.find_map(|(answer, record)| Arc::ptr_eq(answer, texts).then(|| record.clone()))
    });
    if let Some(record) = known {
        return Ok(record);
    }
    let record = Arc::new(select(texts)?);
    let weight = weight(texts, &record);
    let record = (record, weight);
    if is_small(texts, &record.0) {
        KEPT.with_borrow_mut(|kept| {
            kept.resize(KEPT_SETS, [const { None }; SET_LENGTH]);
            // A place beyond the table, which the remainder rules out, keeps nothing; the record is
            // read again then.
            if let Some(set) = kept.get_mut(place) {
                set.rotate_right(1);
                set[0] = Some((Arc::clone(texts), record.clone()));
            }
        });
    }
    Ok(record)
}

fn is_small(texts: &[Box<[u8]>], record: &SpfRecord) -> bool {
    let macros =
        || texts.iter().flat_map(|text| text.iter()).filter(|&&octet| octet == b'%').count();
    texts.len() <= MAX_KEPT_TEXTS
        && texts.iter().map(|text| text.len()).sum::<usize>() <= MAX_KEPT_OCTETS
        && record.terms.len() <= MAX_KEPT_PARTS
        && macros() <= MAX_KEPT_PARTS
}

/// The one SPF record among the texts.
///
/// ```text
/// record  = version terms *SP
/// version = "v=spf1"
/// terms   = *( 1*SP ( directive / modifier ) )
/// ```
pub(super) fn select(texts: &[Box<[u8]>]) -> Result<SpfRecord, RecordError> {
    let mut records = texts.iter().filter(|text| is_record(text));
    let record = records.next().ok_or(RecordError::NotFound)?;
    if records.next().is_some() {
        return Err(RecordError::Several);
    }
    parse(record)
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
    count_work(text.len());
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

/// What the grammar does not say but the RFC does: modifiers that occur at most once (§6), macros
/// for explanations alone (§7.2).
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
fn mechanism_spec(mechanism: &Mechanism) -> Option<&DomainSpec> {
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

/// Names the first term that cannot be read.
fn explain_syntax_error(text: &str) -> String {
    // The first word is the version.
    let terms = text.split(' ').skip(1);
    let bad = terms.filter(|term| !term.is_empty()).find(|term| {
        count_work(term.len());
        format!("v=spf1 {term}").parse::<SpfRecord>().is_err()
    });
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
        // `%%{` is no macro.
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
    use super::*;

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

    #[test]
    fn answers_are_read_once() {
        let texts: Arc<[Box<[u8]>]> = [text("v=spf1 -all")].into();
        let select_kept = |texts: &_| select_kept(texts).map(|(record, _)| record);
        let first = select_kept(&texts).unwrap();
        assert!(Arc::ptr_eq(&first, &select_kept(&texts).unwrap()));
        // An equal answer is another one.
        assert!(!Arc::ptr_eq(&first, &select_kept(&[text("v=spf1 -all")].into()).unwrap()));
        let long: Arc<[Box<[u8]>]> = [text(&format!("v=spf1 -all {}", "a".repeat(2000)))].into();
        assert!(select_kept(&long).is_err());
        let (terms, macros) = (" a".repeat(100), "%{i}.".repeat(50));
        let others: Vec<_> = (0..100).map(|_| text("x")).chain([text("v=spf1 -all")]).collect();
        let large = [
            vec![text(&format!("v=spf1{terms}"))],
            vec![text(&format!("v=spf1 exists:{macros}example"))],
            others,
        ];
        for texts in large {
            let texts: Arc<[Box<[u8]>]> = texts.into();
            assert!(!Arc::ptr_eq(&select_kept(&texts).unwrap(), &select_kept(&texts).unwrap()));
        }
        assert_eq!(select_kept(&[].into()), Err(RecordError::NotFound));
        // Far more answers than are kept.
        let mut answers = Vec::new();
        for number in 0..3 * KEPT_SETS * SET_LENGTH {
            let texts: Arc<[Box<[u8]>]> =
                [text(&format!("v=spf1 ip4:192.0.2.{}", number % 256))].into();
            assert_eq!(*select_kept(&texts).unwrap(), select(&texts).unwrap());
            answers.push(texts);
        }
        for texts in &answers {
            assert_eq!(*select_kept(texts).unwrap(), select(texts).unwrap());
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
        // What is odd before it does not keep a later one from being read.
        assert_eq!(cap_digits("%é %{d300} %"), "%é %{d255} %");
    }

    #[test]
    fn small_records_are_kept() {
        let kept = |texts: &[Box<[u8]>]| is_small(texts, &select(texts).unwrap());
        let filled = |record: String, octets: usize| {
            [text(&format!("{record}{}", " ".repeat(octets - record.len())))]
        };
        for (octets, is_kept) in [(511, true), (512, true), (513, false)] {
            assert_eq!(kept(&filled("v=spf1 -all".into(), octets)), is_kept, "{octets} octets");
        }
        for (count, is_kept) in [(15, true), (16, true), (17, false)] {
            let others = (1..count).map(|n| text(&n.to_string()));
            assert_eq!(
                kept(&others.chain([text("v=spf1 -all")]).collect::<Vec<_>>()),
                is_kept,
                "{count} texts"
            );
        }
        for (count, is_kept) in [(31, true), (32, true), (33, false)] {
            assert_eq!(
                kept(&[text(&format!("v=spf1{}", " a".repeat(count)))]),
                is_kept,
                "{count} terms"
            );
            assert_eq!(
                kept(&[text(&format!("v=spf1 x={}", "%{i}".repeat(count)))]),
                is_kept,
                "{count} macros"
            );
        }
        assert_eq!(KEPT_SETS * SET_LENGTH, 1024);
    }
}
