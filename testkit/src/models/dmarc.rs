//! DMARC of one author domain (RFC 9989 §4.4, §4.7, §4.10, §5.3), without any care for queries or
//! time.
//!
//! DNS trouble is modelled by trying: a name that cannot be asked for may hold anything. Where all
//! that it might hold gives one result, that is the result; otherwise it is unknown.

use std::collections::{BTreeMap, BTreeSet};

/// A record as far as a verifier needs it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Record {
    /// `p`, `sp`, `np` as 0 (none), 1 (quarantine), 2 (reject); `None` where no policy can be used.
    pub policies: Option<(u8, Option<u8>, Option<u8>)>,
    pub strict_dkim: bool,
    pub strict_spf: bool,
    /// `y`, `n` or `u`.
    pub psd: char,
    pub testing: bool,
}

fn trim(text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    while matches!(text.last(), Some(b' ' | b'\t')) {
        text.pop();
    }
    while matches!(text.first(), Some(b' ' | b'\t')) {
        text.remove(0);
    }
    text
}

/// The tags behind the version; `None` if the text is not a record.
fn tags(text: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut tags: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (number, part) in text.split(|octet| *octet == b';').enumerate() {
        let Some(equals) = part.iter().position(|octet| *octet == b'=') else {
            if number == 0 {
                return None;
            }
            continue;
        };
        let (name, value) = (trim(&part[..equals]).to_ascii_lowercase(), trim(&part[equals + 1..]));
        if number == 0 && (name != b"v" || value != b"DMARC1" || matches!(text[0], b' ' | b'\t')) {
            return None;
        }
        if number > 0 {
            tags.push((name, value));
        }
    }
    Some(tags)
}

/// The reports that a record asks for: `0`, `1`, `d`, `s` of `fo`, and the URIs of `rua`, with their
/// sizes. `is_uri` says whether a `rua` has a URI that can be used.
pub fn reports(text: &[u8], is_uri: impl Fn(&[u8]) -> bool) -> Option<([bool; 4], Vec<Vec<u8>>)> {
    let tags = tags(text)?;
    let items = |wanted: &[u8], separator: u8| -> Vec<Vec<u8>> {
        let mut values = tags.iter().filter(|(name, _)| name == wanted);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => {
                value.split(|octet| *octet == separator).map(trim).collect()
            }
            _ => Vec::new(),
        }
    };
    let options: Vec<Vec<u8>> =
        items(b"fo", b':').iter().map(|item| item.to_ascii_lowercase()).collect();
    let mut fo = [&b"0"[..], b"1", b"d", b"s"].map(|one| options.iter().any(|item| item == one));
    if fo == [false; 4] {
        fo[0] = true;
    }
    Some((fo, items(b"rua", b',').into_iter().filter(|uri| is_uri(uri)).collect()))
}

/// Reads a record (RFC 9989 §4.7, §4.8); `None` if it is none. `is_uri` says whether a `rua` has a
/// URI that can be used.
pub fn parse(text: &[u8], is_uri: impl Fn(&[u8]) -> bool) -> Option<Record> {
    let tags = tags(text)?;
    // A tag that is there twice must not be (RFC 6376 §3.2): it has no value, and not none.
    let values = |wanted: &str| {
        tags.iter()
            .filter(|(name, _)| name == wanted.as_bytes())
            .map(|(_, value)| value)
            .collect::<Vec<_>>()
    };
    let value = |wanted: &str| match values(wanted).as_slice() {
        [value] => value.to_ascii_lowercase(),
        _ => Vec::new(),
    };
    let policy = |wanted: &str| match (values(wanted).len(), value(wanted).as_slice()) {
        (0, _) => Ok(None),
        (1, b"none") => Ok(Some(0)),
        (1, b"quarantine") => Ok(Some(1)),
        (1, b"reject") => Ok(Some(2)),
        _ => Err(()),
    };
    let rua = match values("rua").as_slice() {
        [value] => value.split(|octet| *octet == b',').any(|uri| is_uri(&trim(uri))),
        _ => false,
    };
    let policies = match (policy("p"), policy("sp"), policy("np")) {
        (Ok(Some(p)), Ok(sp), Ok(np)) => Some((p, sp, np)),
        _ if rua => Some((0, None, None)),
        _ => None,
    };
    Some(Record {
        policies,
        strict_dkim: value("adkim") == b"s",
        strict_spf: value("aspf") == b"s",
        psd: match value("psd").as_slice() {
            b"y" => 'y',
            b"n" => 'n',
            _ => 'u',
        },
        testing: value("t") == b"y",
    })
}

/// The content of a name below `_dmarc`: no record, one, or trouble. Several are none (§4.10,
/// step 2).
pub type Published = BTreeMap<String, Option<Record>>;

/// The world of one message.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// By domain, without `_dmarc`. A domain that is missing has no record.
    pub records: BTreeMap<String, Record>,
    /// Domains whose record cannot be asked for.
    pub trouble: BTreeSet<String>,
    /// Domains that do not exist.
    pub missing: BTreeSet<String>,
    /// Domains that cannot be asked whether they exist.
    pub doubtful: BTreeSet<String>,
}

/// An identifier that passed, or could not be verified: the domain and whether it is SPF's.
#[derive(Clone, Debug)]
pub struct Identified {
    pub domain: String,
    pub is_spf: bool,
    /// `None`: could not be verified for trouble that may go away.
    pub passed: Option<bool>,
}

/// A result, and of a fail the policy that is asked for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Finding {
    Pass,
    Fail(u8),
    None,
    /// It hangs on what cannot be asked for.
    Unknown,
}

fn parent(domain: &str) -> Option<&str> {
    domain.split_once('.').map(|(_, parent)| parent)
}

/// The names of a tree walk (§4.10): never more than eight.
pub fn steps(domain: &str) -> Vec<String> {
    let mut steps = vec![domain.to_owned()];
    let labels: Vec<&str> = domain.split('.').collect();
    let mut left = if labels.len() >= 8 { 7 } else { labels.len() - 1 };
    while left > 0 {
        steps.push(labels[labels.len() - left..].join("."));
        left -= 1;
    }
    steps
}

/// The records that a walk finds, from the longest name to the shortest.
fn walk(world: &World, domain: &str) -> Vec<(String, Record)> {
    let mut found = Vec::new();
    for name in steps(domain) {
        if let Some(record) = world.records.get(&name) {
            found.push((name, *record));
            if record.psd != 'u' {
                break;
            }
        }
    }
    found
}

/// The organizational domain (§4.10.2).
pub fn organizational_domain(world: &World, domain: &str) -> String {
    let found = walk(world, domain);
    if let Some((name, _)) = found.iter().find(|(_, record)| record.psd == 'n') {
        return name.clone();
    }
    if let Some((name, _)) = found.iter().find(|(name, record)| record.psd == 'y' && name != domain)
    {
        let mut below = domain;
        while parent(below) != Some(name) {
            let Some(next) = parent(below) else { return domain.to_owned() };
            below = next;
        }
        return below.to_owned();
    }
    found.last().map_or_else(|| domain.to_owned(), |(name, _)| name.clone())
}

/// The record that applies (§4.10.1), whose it is, and the step that finds it: 0 for the author
/// domain, 1 for the organizational domain, 2 for the public suffix domain.
pub fn policy_record(world: &World, author: &str) -> Option<(String, Record, usize)> {
    if let Some(record) = world.records.get(author) {
        return Some((author.to_owned(), *record, 0));
    }
    let found = walk(world, author);
    let organizational = organizational_domain(world, author);
    let own = found.iter().find(|(name, _)| *name == organizational).map(|found| (found, 1));
    let above = || found.iter().find(|(_, record)| record.psd == 'y').map(|found| (found, 2));
    own.or_else(above).map(|((name, record), step)| (name.clone(), *record, step))
}

/// Whether a domain is aligned with the author's (§4.4).
pub fn is_aligned(world: &World, author: &str, domain: &str, strict: bool) -> bool {
    domain == author
        || (!strict && organizational_domain(world, domain) == organizational_domain(world, author))
}

/// The result where everything can be asked for.
fn evaluate_known(world: &World, author: &str, identified: &[Identified]) -> Finding {
    let Some((policy_domain, record, _)) = policy_record(world, author) else {
        return Finding::None;
    };
    let Some((p, sp, np)) = record.policies else { return Finding::None };
    for one in identified.iter().filter(|one| one.passed == Some(true)) {
        let strict = if one.is_spf { record.strict_spf } else { record.strict_dkim };
        if is_aligned(world, author, &one.domain, strict) {
            return Finding::Pass;
        }
    }
    let policy = if policy_domain == author {
        p
    } else {
        let existing = sp.unwrap_or(p);
        if world.missing.contains(author) { np.unwrap_or(existing) } else { existing }
    };
    Finding::Fail(if record.testing { policy.saturating_sub(1) } else { policy })
}

/// The records that might be at a name without an answer.
fn candidates() -> Vec<Option<Record>> {
    let mut candidates = vec![None];
    for psd in ['u', 'y', 'n'] {
        for strict in [false, true] {
            for policy in [None, Some(0), Some(2)] {
                candidates.push(Some(Record {
                    policies: policy.map(|policy| (policy, None, None)),
                    strict_dkim: strict,
                    strict_spf: strict,
                    psd,
                    testing: false,
                }));
            }
        }
    }
    candidates
}

/// The result, whatever cannot be asked for may hold.
///
/// `relevant` names with trouble are those that some walk may come to; others are left out, for
/// they cannot matter.
pub fn evaluate(world: &World, author: &str, identified: &[Identified]) -> Finding {
    let mut relevant: BTreeSet<String> = steps(author).into_iter().collect();
    identified.iter().for_each(|one| relevant.extend(steps(&one.domain)));
    let open: Vec<String> =
        world.trouble.iter().filter(|name| relevant.contains(*name)).cloned().collect();
    let mut findings = BTreeSet::new();
    try_all(world, &open, author, identified, &mut findings);
    match findings.into_iter().collect::<Vec<_>>().as_slice() {
        [finding] => *finding,
        _ => Finding::Unknown,
    }
}

fn try_all(
    world: &World,
    open: &[String],
    author: &str,
    identified: &[Identified],
    findings: &mut BTreeSet<Finding>,
) {
    // Two results are enough to know that it is unknown.
    if findings.len() > 1 {
        return;
    }
    if let Some((name, open)) = open.split_first() {
        for candidate in candidates() {
            let mut world = world.clone();
            world.records.remove(name);
            if let Some(record) = candidate {
                world.records.insert(name.clone(), record);
            }
            try_all(&world, open, author, identified, findings);
        }
        return;
    }
    if world.doubtful.contains(author) {
        for exists in [false, true] {
            let mut world = world.clone();
            world.doubtful.remove(author);
            if !exists {
                world.missing.insert(author.to_owned());
            }
            try_all(&world, &[], author, identified, findings);
        }
        return;
    }
    if let Some(open) = identified.iter().position(|one| one.passed.is_none()) {
        for passed in [false, true] {
            let mut identified = identified.to_vec();
            identified[open].passed = Some(passed);
            try_all(world, &[], author, &identified, findings);
        }
        return;
    }
    findings.insert(evaluate_known(world, author, identified));
}
