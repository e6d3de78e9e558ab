//! Relaxed alignment whatever records say, and where there are none.

use super::{
    reference::{
        Content, DOMAINS, POSSIBLE, content, possible_zone, reference_walk, some_identifiers,
        some_lost, troubled_zone, zone_of,
    },
    *,
};

/// The alignment, within the time of a session, and how many questions it took.
fn relaxed(zone: Zone, author: &Author, identifiers: &Identifiers) -> (RelaxedAlignment, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let zone = Arc::new(zone);
    let dns = Dns::from_zone(zone.clone());
    let alignment = runtime.block_on(async {
        let discovery = Discovery::new(author.clone());
        let limit = std::time::Duration::from_secs(20);
        let aligned = align_relaxed(&dns, &discovery, identifiers);
        let aligned = tokio::time::timeout(limit, aligned).await;
        aligned.unwrap_or_else(|_| relaxed_by_now(&discovery, identifiers))
    });
    (alignment, zone.queries())
}

/// By walks in full, in a zone without trouble.
fn reference(zone: &Zone, author: &str, identifiers: &Identifiers) -> RelaxedAlignment {
    let wanted = reference_walk(zone, author).0;
    let is_related = |domain: &Domain| reference_walk(zone, domain.as_str()).0 == wanted;
    let is_any = |spf: SpfResult, dkim: DkimStatus| {
        identifiers.spf.iter().any(|(domain, result)| *result == spf && is_related(domain))
            || identifiers
                .dkim
                .iter()
                .any(|found| found.status == dkim && is_related(&found.domain))
    };
    if is_any(SpfResult::Pass, DkimStatus::Pass) {
        RelaxedAlignment::Aligned
    } else if is_any(SpfResult::Temperror, DkimStatus::Temperror) {
        RelaxedAlignment::Unknown
    } else {
        RelaxedAlignment::Unaligned
    }
}

fn possible(
    content: &Content,
    lost: &[bool],
    author: &str,
    identifiers: &Identifiers,
) -> RelaxedAlignment {
    let count = lost.iter().filter(|lost| **lost).count() as u32;
    let mut found = (0..POSSIBLE.len().pow(count))
        .map(|number| reference(&possible_zone(content, lost, number), author, identifiers));
    let first = found.next().unwrap();
    if found.all(|other| other == first) { first } else { RelaxedAlignment::Unknown }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn agrees_with_walks_in_full(content in content(), author in prop::sample::select(DOMAINS), identifiers in some_identifiers()) {
        let (found, queries) = relaxed(zone_of(&content), &Author::One(domain(author)), &identifiers);
        prop_assert_eq!(found, reference(&zone_of(&content), author, &identifiers));
        prop_assert!(queries <= 8 + 7 * 3, "{} queries", queries);
    }

    /// What is at the names without an answer counts where it could change the alignment, and
    /// nowhere else.
    #[test]
    fn trouble_counts_where_it_can_matter(
        content in content(),
        lost in some_lost(),
        author in prop::sample::select(DOMAINS),
        identifiers in some_identifiers(),
    ) {
        let zone = troubled_zone(&content, &lost, false, author, "!servfail");
        let (found, _) = relaxed(zone, &Author::One(domain(author)), &identifiers);
        prop_assert_eq!(found, possible(&content, &lost, author, &identifiers));
    }

    /// Without any record nothing but the domain itself is aligned with it, however deep below a
    /// suffix that others share.
    #[test]
    fn without_records_a_domain_is_alone(author in "[a-c](\\.[a-c]){0,4}", other in "[a-c](\\.[a-c]){0,4}") {
        let passed = identifiers(&format!("spf=pass:{other} dkim=pass:{other}"));
        let expected = match author == other {
            true => RelaxedAlignment::Aligned,
            false => RelaxedAlignment::Unaligned,
        };
        prop_assert_eq!(relaxed(Zone::new(), &Author::One(domain(&author)), &passed).0, expected);
    }
}

#[test]
fn nobody_is_aligned_with_neighbours_below_a_shared_suffix() {
    use RelaxedAlignment::{Aligned, Unaligned, Unknown};
    let none = "";
    let suffix = "_dmarc.co.uk TXT \"v=DMARC1; p=none; psd=y\"\n";
    let shop = "_dmarc.shop.co.uk TXT \"v=DMARC1; p=none; adkim=s; aspf=s\"\n";
    for (zone, author, passed, expected) in [
        (none, "shop.co.uk", "evil.co.uk", Unaligned),
        (none, "shop.co.uk", "co.uk", Unaligned),
        (none, "co.uk", "evil.co.uk", Unaligned),
        (none, "shop.co.uk", "shop.co.uk", Aligned),
        (none, "shop.co.uk", "mail.shop.co.uk", Unaligned),
        (suffix, "shop.co.uk", "evil.co.uk", Unaligned),
        (suffix, "co.uk", "evil.co.uk", Unaligned),
        (suffix, "shop.co.uk", "co.uk", Unaligned),
        (suffix, "shop.co.uk", "a.b.shop.co.uk", Aligned),
        // A record of its own joins what is below it, even one that asks for strict alignment.
        (shop, "shop.co.uk", "mail.shop.co.uk", Aligned),
        (shop, "a.shop.co.uk", "b.shop.co.uk", Aligned),
        (shop, "shop.co.uk", "evil.co.uk", Unaligned),
        (shop, "evil.co.uk", "shop.co.uk", Unaligned),
        ("_dmarc.mail.shop.co.uk TXT !servfail", "shop.co.uk", "mail.shop.co.uk", Unaligned),
        ("_dmarc.shop.co.uk TXT !servfail", "shop.co.uk", "mail.shop.co.uk", Unknown),
        // The silence of a stranger's names is nothing to the author.
        ("_dmarc.evil.co.uk TXT !silence", "shop.co.uk", "evil.co.uk", Unaligned),
        ("_dmarc.a.evil.co.uk TXT !servfail", "shop.co.uk", "a.evil.co.uk", Unaligned),
    ] {
        let identifiers = identifiers(&format!("spf=none:{passed} dkim=pass:{passed}"));
        let (found, _) =
            relaxed(Zone::parse(zone).unwrap(), &Author::One(domain(author)), &identifiers);
        assert_eq!(found, expected, "{author} {passed} in {zone}");
    }
    let two = Author::from_fields(&["a@shop.co.uk, a@other.test"]);
    let passed = identifiers("dkim=pass:shop.co.uk");
    assert_eq!(relaxed(Zone::new(), &two, &passed), (Unaligned, 0));
}
