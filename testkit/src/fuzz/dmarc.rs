//! DMARC over any zone: discovery, walk and alignment, against a slow twin, within its queries.
//!
//! The first line is `AUTHOR-DOMAIN`, then `spf=DOMAIN`, `dkim=DOMAIN`, `dkim?DOMAIN` (could not be
//! verified) or `dkim!DOMAIN` (is not valid), with spaces between; the rest is a zone.

use std::sync::Arc;

use spf_milter::{
    auth::dmarc::{
        Alignment, Discovery, DkimIdentifier, DkimStatus, DmarcResult, Identifiers, Outcome,
        Record, evaluate, organizational_domain,
    },
    dns::{Answer, Dns, Failure, Name, RecordType, zone::Zone},
    mail::{author::Author, domain::Domain, results::SpfResult},
};

use super::dmarc_record::{number, twin_of};
use crate::models::dmarc::{self, Finding, Identified, World};

/// A question: the author's domain and what was found of identifiers.
struct Question {
    author: Domain,
    spf: Option<(Domain, SpfResult)>,
    dkim: Vec<DkimIdentifier>,
}

fn read(line: &str) -> Option<Question> {
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let author = Domain::parse(words.next()?).ok()?;
    let mut question = Question { author, spf: None, dkim: Vec::new() };
    for word in words.take(6) {
        if let Some(domain) = word.strip_prefix("spf=") {
            question.spf = Domain::parse(domain).ok().map(|domain| (domain, SpfResult::Pass));
        } else if let Some((kind, domain)) = word.split_at_checked(5)
            && let Ok(domain) = Domain::parse(domain)
        {
            let status = match kind {
                "dkim=" => DkimStatus::Pass,
                "dkim?" => DkimStatus::Temperror,
                "dkim!" => DkimStatus::Other,
                _ => continue,
            };
            question.dkim.push(DkimIdentifier { domain, status });
        }
    }
    Some(question)
}

/// The content of the zone for the domains that any walk comes to.
fn world(zone: &Zone, domains: &[&Domain], author: &Domain) -> World {
    let mut world = World::default();
    for domain in domains.iter().flat_map(|domain| dmarc::steps(domain.as_str())) {
        let Some(name) = Name::new(&format!("_dmarc.{domain}")) else { continue };
        match zone.answer(&name, RecordType::Txt) {
            Ok(Answer::Txt(texts)) => {
                let mut records = texts.iter().filter_map(|text| Record::parse(text));
                if let (Some(record), None) = (records.next(), records.next()) {
                    world.records.insert(domain, twin_of(&record));
                }
            }
            Err(failure) if !failure.is_void() => _ = world.trouble.insert(domain),
            _ => {}
        }
    }
    match zone.answer(&Name::from(author), RecordType::A) {
        Err(Failure::NxDomain) => _ = world.missing.insert(author.to_string()),
        Err(failure) if !failure.is_void() => _ = world.doubtful.insert(author.to_string()),
        _ => {}
    }
    world
}

pub(crate) fn check(octets: &[u8]) {
    let (line, rest) = super::first_line(octets);
    let Some(Question { author, spf, dkim }) = read(&line) else { return };
    let zone = Arc::new(Zone::parse(&super::zone_lines(rest).join("\n")).unwrap());
    let dns = Dns::from_zone(Arc::clone(&zone));
    let identifiers = Identifiers { spf: spf.clone(), dkim: dkim.clone() };
    let outcome = super::block_on(async {
        let discovery = Discovery::new(Author::One(author.clone()));
        discovery.advance(&dns).await;
        evaluate(&dns, &discovery, &identifiers).await
    });
    assert!(zone.queries() <= 86, "{} queries", zone.queries());
    is_legal(&outcome);

    let domains: Vec<&Domain> = [&author]
        .into_iter()
        .chain(spf.iter().map(|(domain, _)| domain))
        .chain(dkim.iter().map(|one| &one.domain))
        .collect();
    let world = world(&zone, &domains, &author);
    let mut identified = Vec::new();
    if let Some((domain, _)) = &spf {
        identified.push(Identified {
            domain: domain.to_string(),
            is_spf: true,
            passed: Some(true),
        });
    }
    for DkimIdentifier { domain, status } in &dkim {
        let passed = match status {
            DkimStatus::Pass => Some(true),
            DkimStatus::Temperror => None,
            DkimStatus::Other => Some(false),
        };
        identified.push(Identified { domain: domain.to_string(), is_spf: false, passed });
    }
    // All that may be is tried: bounded.
    let uncertain = identified.iter().filter(|one| one.passed.is_none()).count();
    if world.trouble.len() > 2 || uncertain > 2 {
        return;
    }
    let expected = dmarc::evaluate(&world, author.as_str(), &identified);
    let found = match outcome.result {
        DmarcResult::Pass => Finding::Pass,
        DmarcResult::Fail => {
            Finding::Fail(outcome.policy.as_ref().map_or(0, |policy| number(policy.effective())))
        }
        DmarcResult::None => Finding::None,
        DmarcResult::Temperror | DmarcResult::Permerror => Finding::Unknown,
    };
    let zone = String::from_utf8_lossy(rest);
    // An unknown result may be known for certain after more work than is worth it; a wrong one may
    // not be given.
    if found != Finding::Unknown || (world.trouble.is_empty() && world.doubtful.is_empty()) {
        assert_eq!(found, expected, "{line}\n{zone}\n{outcome:?}");
    }
    if world.trouble.is_empty() {
        let found = outcome.record.as_ref();
        let found =
            found.map(|one| (one.domain.to_string(), twin_of(&one.record), one.step as usize));
        let expected = dmarc::policy_record(&world, author.as_str());
        let expected = expected.filter(|(_, record, _)| record.policies.is_some());
        assert_eq!(found, expected, "{line}\n{zone}");
        for one in &outcome.alignments {
            let (domain, strict) = (one.identifier.domain(), one.mode == Alignment::Strict);
            let expected = dmarc::is_aligned(&world, author.as_str(), domain.as_str(), strict);
            assert!(
                one.is_aligned.is_none_or(|found| found == expected),
                "{line}\n{zone}\n{one:?}"
            );
        }
        for domain in domains {
            let found = super::block_on(organizational_domain(&dns, domain)).unwrap();
            assert_eq!(
                found.as_str(),
                dmarc::organizational_domain(&world, domain.as_str()),
                "{domain}\n{zone}"
            );
        }
    }
}

fn is_legal(outcome: &Outcome) {
    assert_eq!(outcome.result == DmarcResult::Pass, !outcome.aligned.is_empty(), "{outcome:?}");
    assert!(outcome.result != DmarcResult::Fail || outcome.policy.is_some(), "{outcome:?}");
    assert!(outcome.result != DmarcResult::Temperror || outcome.problem.is_some(), "{outcome:?}");
    if let Some(problem) = &outcome.problem {
        super::assert_printable(&problem.to_string());
    }
}
