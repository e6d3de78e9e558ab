//! A second evaluation: all walks in full, one query after the other, no short cuts. The zones have
//! no trouble.

use super::*;

pub(super) const DOMAINS: &[&str] =
    &["x", "a.x", "b.a.x", "c.b.a.x", "d.b.a.x", "e.x", "1.2.3.4.5.6.7.8.a.x", "y", "a.y"];
const TEXTS: &[&[&str]] = &[
    &[],
    &[],
    &["v=DMARC1; p=reject"],
    &["v=DMARC1; p=reject; sp=quarantine; np=none"],
    &["v=DMARC1; p=none; np=reject; t=y"],
    &["v=DMARC1; p=quarantine; adkim=s"],
    &["v=DMARC1; p=reject; aspf=s"],
    &["v=DMARC1; p=reject; psd=y"],
    &["v=DMARC1; p=quarantine; psd=n"],
    &["v=DMARC1; p=bogus"],
    &["v=DMARC1; p=none", "v=DMARC1; p=reject"],
];

/// The records of each of [`DOMAINS`]: an index of [`TEXTS`], `None` for trouble; and whether the
/// domain has an address.
pub(super) type Content = Vec<(Option<usize>, bool)>;

pub(super) fn zone_of(content: &Content) -> Zone {
    let mut zone = Zone::new();
    for (name, (texts, exists)) in DOMAINS.iter().zip(content) {
        match texts {
            Some(index) => TEXTS[*index]
                .iter()
                .for_each(|text| zone.add_txt(&format!("_dmarc.{name}"), text.as_bytes())),
            None => {
                zone.add_failure(&format!("_dmarc.{name}"), Some(RecordType::Txt), Failure::Timeout)
            }
        }
        if *exists {
            zone.add_a(name, [192, 0, 2, 1].into());
        }
    }
    zone
}

fn reference_record(zone: &Zone, at: &str) -> Option<Record> {
    match zone.answer(&Name::new(&format!("_dmarc.{at}")).unwrap(), RecordType::Txt) {
        Ok(crate::dns::Answer::Txt(texts)) => {
            match &texts.iter().filter_map(|text| Record::parse(text)).collect::<Vec<_>>()[..] {
                [record] => Some(record.clone()),
                _ => None,
            }
        }
        _ => None,
    }
}

pub(super) fn reference_walk(zone: &Zone, start: &str) -> (String, Vec<(String, Record)>) {
    let mut found = Vec::new();
    let mut target = start.to_owned();
    let mut first = true;
    loop {
        if let Some(record) = reference_record(zone, &target) {
            let psd = record.psd;
            found.push((target.clone(), record));
            if psd != Psd::Unstated {
                break;
            }
        }
        let labels: Vec<_> = target.split('.').collect();
        let keep = if first && labels.len() >= 8 { 7 } else { labels.len() - 1 };
        if keep == 0 {
            break;
        }
        target = labels[labels.len() - keep..].join(".");
        first = false;
    }
    let labels: Vec<_> = start.split('.').collect();
    for (at, record) in &found {
        if record.psd == Psd::No {
            return (at.clone(), found.clone());
        }
        if record.psd == Psd::Yes && at != start {
            return (labels[labels.len() - at.split('.').count() - 1..].join("."), found.clone());
        }
    }
    (found.last().map_or(start.to_owned(), |(at, _)| at.clone()), found)
}

/// Result and effective policy.
fn reference(
    zone: &Zone,
    author: &str,
    identifiers: &Identifiers,
) -> (DmarcResult, Option<Policy>) {
    let (organizational, found) = reference_walk(zone, author);
    let record_at = |at: &str| found.iter().find(|(name, _)| name == at).cloned();
    let applied =
        record_at(author).or_else(|| record_at(&organizational)).or_else(|| found.last().cloned());
    let Some((at, record)) = applied else { return (DmarcResult::None, None) };
    let Some(policies) = record.policies else { return (DmarcResult::None, None) };
    let missing =
        zone.answer(&Name::new(author).unwrap(), RecordType::Existence) == Err(Failure::NxDomain);
    let policy = match (at == author, missing) {
        (true, _) => policies.p,
        (false, true) => policies.np.or(policies.sp).unwrap_or(policies.p),
        (false, false) => policies.sp.unwrap_or(policies.p),
    };
    let policy = if record.testing { policy.lowered() } else { policy };
    let aligned = |domain: &Domain, mode| {
        domain.as_str() == author
            || mode == Alignment::Relaxed
                && reference_walk(zone, domain.as_str()).0 == organizational
    };
    let status = |wanted_spf, wanted_dkim| {
        identifiers
            .spf
            .iter()
            .any(|(domain, result)| *result == wanted_spf && aligned(domain, record.aspf))
            || identifiers
                .dkim
                .iter()
                .any(|dkim| dkim.status == wanted_dkim && aligned(&dkim.domain, record.adkim))
    };
    let result = match (
        status(SpfResult::Pass, DkimStatus::Pass),
        status(SpfResult::Temperror, DkimStatus::Temperror),
    ) {
        (true, _) => DmarcResult::Pass,
        (false, true) => DmarcResult::Temperror,
        (false, false) => DmarcResult::Fail,
    };
    (result, Some(policy))
}

pub(super) fn content() -> impl Strategy<Value = Content> {
    prop::collection::vec(
        (prop::sample::select((0..TEXTS.len()).collect::<Vec<_>>()).prop_map(Some), any::<bool>()),
        DOMAINS.len(),
    )
}

pub(super) fn some_identifiers() -> impl Strategy<Value = Identifiers> {
    let any_domain = || prop::sample::select(DOMAINS).prop_map(domain);
    let result = prop::sample::select(vec![SpfResult::Pass, SpfResult::Fail, SpfResult::Temperror]);
    let status =
        prop::sample::select(vec![DkimStatus::Pass, DkimStatus::Other, DkimStatus::Temperror]);
    let dkim =
        (any_domain(), status).prop_map(|(domain, status)| DkimIdentifier { domain, status });
    (prop::option::of((any_domain(), result)), prop::collection::vec(dkim, 0..3))
        .prop_map(|(spf, dkim)| Identifiers { spf, dkim })
}

fn evaluate_in(zone: Zone, author: &str, identifiers: &Identifiers) -> Outcome {
    let dns = Dns::from_zone(Arc::new(zone));
    block_on(async {
        let discovery = discover(&dns, &Author::One(domain(author))).await;
        evaluate(&dns, &discovery, identifiers).await
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn agrees_with_a_second_evaluation(content in content(), author in prop::sample::select(DOMAINS), identifiers in some_identifiers()) {
        let outcome = evaluate_in(zone_of(&content), author, &identifiers);
        let effective = outcome.policy.as_ref().map(AppliedPolicy::effective);
        prop_assert_eq!((outcome.result, effective), reference(&zone_of(&content), author, &identifiers));
        if let Some(found) = outcome.organizational_domain {
            prop_assert_eq!(found.to_string(), reference_walk(&zone_of(&content), author).0);
        }
    }

    /// An outcome in spite of trouble is the same as without it, whatever the lost answers were.
    #[test]
    fn trouble_changes_nothing_but_to_temperror(
        content in content(),
        lost in prop::collection::vec(prop::bool::weighted(0.2), DOMAINS.len()),
        author in prop::sample::select(DOMAINS),
        identifiers in some_identifiers(),
    ) {
        let broken = content.iter().zip(&lost).map(|((texts, exists), lost)| (texts.filter(|_| !lost), *exists)).collect();
        let outcome = evaluate_in(zone_of(&broken), author, &identifiers);
        if outcome.result != DmarcResult::Temperror {
            let effective = outcome.policy.as_ref().map(AppliedPolicy::effective);
            // A name that is lost exists, and so do the names above it.
            let mut whole = zone_of(&content);
            let lost = DOMAINS.iter().zip(lost).filter(|(_, lost)| *lost);
            lost.for_each(|(name, _)| whole.add_txt(&format!("_dmarc.{name}"), b"something else"));
            prop_assert_eq!((outcome.result, effective), reference(&whole, author, &identifiers));
        }
    }
}

/// Records that a name without an answer may have: one of each kind that can matter. The name
/// exists, and so do the names above it.
pub(super) const POSSIBLE: &[&[&str]] = &[
    &["something else"],
    &["v=DMARC1; p=reject"],
    &["v=DMARC1; p=none; adkim=s; aspf=s"],
    &["v=DMARC1; p=bogus"],
    &["v=DMARC1; p=quarantine; psd=n"],
    &["v=DMARC1; p=bogus; psd=n"],
    &["v=DMARC1; p=reject; psd=y"],
    &["v=DMARC1; p=none", "v=DMARC1; p=reject"],
];

/// The records of one of the ways to fill the names without an answer, by its number.
pub(super) fn possible_zone(content: &Content, lost: &[bool], mut number: usize) -> Zone {
    let mut zone = Zone::new();
    for ((name, (texts, _)), lost) in DOMAINS.iter().zip(content).zip(lost) {
        let texts = if *lost {
            let possible = POSSIBLE[number % POSSIBLE.len()];
            number /= POSSIBLE.len();
            possible
        } else {
            TEXTS[texts.unwrap()]
        };
        texts.iter().for_each(|text| zone.add_txt(&format!("_dmarc.{name}"), text.as_bytes()));
    }
    zone
}

/// All outcomes that some content of the names without an answer would give.
fn possible_outcomes(
    content: &Content,
    lost: &[bool],
    unknown: bool,
    author: &str,
    identifiers: &Identifiers,
) -> Vec<Short> {
    let count = lost.iter().filter(|lost| **lost).count() as u32;
    let mut outcomes = Vec::new();
    for number in 0..POSSIBLE.len().pow(count) {
        for existing in if unknown { &[true, false][..] } else { &[true][..] } {
            let mut zone = possible_zone(content, lost, number);
            for (name, (_, exists)) in DOMAINS.iter().zip(content) {
                let exists = if unknown && *name == author { *existing } else { *exists };
                if exists {
                    zone.add_a(name, [192, 0, 2, 1].into());
                }
                // Names below a name make it exist; DNS denies only the author domain.
                if unknown && *name == author && !exists {
                    zone.add_failure(name, None, Failure::NxDomain);
                }
            }
            let (result, policy) = reference(&zone, author, identifiers);
            let outcome = (result, policy.filter(|_| result == DmarcResult::Fail));
            if !outcomes.contains(&outcome) {
                outcomes.push(outcome);
            }
        }
    }
    outcomes
}

/// The result, and with a fail the policy; trouble may change both.
type Short = (DmarcResult, Option<Policy>);

fn short_of(outcome: &Outcome) -> Short {
    let effective = outcome.policy.as_ref().map(AppliedPolicy::effective);
    (outcome.result, effective.filter(|_| outcome.result == DmarcResult::Fail))
}

/// A zone where some names have no answer: an error, or nothing at all.
pub(super) fn troubled_zone(
    content: &Content,
    lost: &[bool],
    unknown: bool,
    author: &str,
    how: &str,
) -> Zone {
    let mut text = String::new();
    for ((name, (texts, exists)), lost) in DOMAINS.iter().zip(content).zip(lost) {
        if *lost {
            text += &format!("_dmarc.{name} TXT {how}\n");
        } else {
            TEXTS[texts.unwrap()]
                .iter()
                .for_each(|record| text += &format!("_dmarc.{name} TXT \"{record}\"\n"));
        }
        if unknown && *name == author {
            text += &format!("{name} * {how}\n");
        } else if *exists {
            text += &format!("{name} A 192.0.2.1\n");
        }
    }
    Zone::parse(&text).unwrap()
}

/// At most three names are lost, for all that may be there is tried.
pub(super) fn some_lost() -> impl Strategy<Value = Vec<bool>> {
    prop::collection::vec(0..DOMAINS.len(), 0..4)
        .prop_map(|lost| (0..DOMAINS.len()).map(|number| lost.contains(&number)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The outcome is temperror if, and only if, what is at the names without an answer could
    /// change it; whether they answer with an error or not at all.
    #[test]
    fn trouble_counts_where_it_can_matter_and_nowhere_else(
        content in content(),
        lost in some_lost(),
        unknown in prop::bool::weighted(0.2),
        author in prop::sample::select(DOMAINS),
        identifiers in some_identifiers(),
    ) {
        let possible = possible_outcomes(&content, &lost, unknown, author, &identifiers);
        let expected = match &possible[..] {
            [outcome] => *outcome,
            _ => (DmarcResult::Temperror, None),
        };
        let outcome = evaluate_in(troubled_zone(&content, &lost, unknown, author, "!servfail"), author, &identifiers);
        prop_assert_eq!(short_of(&outcome), expected, "{:?} {:?}", possible, outcome);
        let zone = troubled_zone(&content, &lost, unknown, author, "!silence");
        let outcome = silence::evaluate_within_limit(zone, &[author], &identifiers);
        // Siblings of the author domain are asked for once its own walk has been answered, be it
        // with an error.
        let waits = DOMAINS.iter().zip(&lost).any(|(name, lost)| *lost && (*name == author || domain(author).is_subdomain_of(&domain(name))));
        if !waits || outcome.result != DmarcResult::Temperror {
            prop_assert_eq!(short_of(&outcome), expected, "{:?} {:?}", possible, outcome);
        }
    }
}
