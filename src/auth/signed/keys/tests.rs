use proptest::prelude::{Strategy, any, prop, proptest};

use super::*;

/// RSA keys of so many bits, with the exponent 3; nobody has the other half.
const RSA_512: &str = "MEYCQQCAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABAgED";
const RSA_1024: &str = "MIGHAoGBAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABAgED";

const ED25519: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

fn ed25519(record: &str) -> Result<(bool, bool), KeyProblem> {
    let record = record.replace("KEY", ED25519);
    let wanted = KeyUse { algorithm: Algorithm::Ed25519, min_bits: 0, is_subdomain: false };
    let record = KeyRecord::parse(record.as_bytes())?;
    record.judge(wanted).map(|key| (key.testing, record.strict))
}

#[test]
fn tags_of_a_key() {
    assert_eq!(ed25519("v=DKIM1; k=ed25519; p=KEY"), Ok((false, false)));
    assert_eq!(ed25519("k=ed25519;p=KEY;\n"), Ok((false, false)));
    assert_eq!(
        ed25519(
            "v=DKIM1; t= y : s:x; g=; n=a note; u=1; k=ed25519; h=sha1:sha256; s=tlsrpt:email; p=KEY"
        ),
        Ok((true, true))
    );
    assert_eq!(
        ed25519(
            "v=DKIM1; k=ed25519; s=*; h= sha512 : sha256; p=11qYAYKxCrfVS/7TyWQHOg7 hcvPapiMlrwIaaPcHURo="
        ),
        Ok((false, false))
    );
    for (record, reason) in [
        ("v=DKIM1; k=ed25519; p=", KeyProblem::Revoked),
        ("v=DKIM1; k=ed25519", KeyProblem::Syntax),
        ("v=DKIM2; k=ed25519; p=KEY", KeyProblem::Syntax),
        ("k=ed25519; v=DKIM1; p=KEY", KeyProblem::Syntax),
        ("k=ed25519; k=ed25519; p=KEY", KeyProblem::Syntax),
        ("k=ed25519\\; p=KEY", KeyProblem::Algorithm),
        ("v=spf1 -all", KeyProblem::Syntax),
        ("", KeyProblem::Syntax),
        ("p=KEY", KeyProblem::Algorithm),
        ("k=ed25519; p=KEY; s=tlsrpt", KeyProblem::Service),
        ("k=ed25519; p=KEY; h=sha1", KeyProblem::Hash),
        ("k=ed25519; p=AAAA", KeyProblem::Syntax),
        ("k=ed25519; p=?", KeyProblem::Syntax),
    ] {
        assert_eq!(ed25519(record), Err(reason), "{record}");
    }
}

/// The keys by the letter of RFC 6376 §3.6.1 and the rules of this crate: each text read anew for
/// this use.
fn usable_by_the_letter(
    texts: &[String],
    wanted: KeyUse,
) -> Result<Vec<(String, bool)>, KeyProblem> {
    let judge = |text: &str| {
        let tags: Vec<(&str, &str)> =
            text.split(';').map(|spec| spec.split_once('=').unwrap_or((spec, "?"))).collect();
        let find =
            |wanted: &str| tags.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        let lists = |tag, word: &str| {
            find(tag)
                .is_some_and(|list| list.split(':').any(|item| item.eq_ignore_ascii_case(word)))
        };
        let is_repeated = |name: &str| tags.iter().filter(|(other, _)| *other == name).count() > 1;
        if tags.iter().any(|(name, _)| is_repeated(name)) {
            return Err(KeyProblem::Syntax);
        }
        let key = match find("p") {
            _ if find("v").is_some_and(|version| version != "DKIM1") => None,
            _ if find("v").is_some() && tags[0].0 != "v" => None,
            key => key,
        };
        let key = key.ok_or(KeyProblem::Syntax)?;
        if key.is_empty() {
            return Err(KeyProblem::Revoked);
        }
        if find("s").is_some() && !lists("s", "*") && !lists("s", "email") {
            return Err(KeyProblem::Service);
        }
        if find("h").is_some() && !lists("h", "sha256") {
            return Err(KeyProblem::Hash);
        }
        let name = if wanted.algorithm == Algorithm::Rsa { "rsa" } else { "ed25519" };
        if !find("k").unwrap_or("rsa").eq_ignore_ascii_case(name) {
            return Err(KeyProblem::Algorithm);
        }
        let bits = match (name, key) {
            ("ed25519", ED25519) => 256,
            ("rsa", RSA_512) => 512,
            ("rsa", RSA_1024) => 1024,
            _ => return Err(KeyProblem::Syntax),
        };
        if lists("t", "s") && wanted.is_subdomain {
            return Err(KeyProblem::Subdomain);
        }
        if name == "rsa" && bits < wanted.min_bits.max(1024) {
            return Err(KeyProblem::TooShort(bits));
        }
        Ok((key.to_owned(), lists("t", "y")))
    };
    let mut texts = texts.to_vec();
    texts.sort();
    let judged: Vec<_> = texts.iter().map(|text| judge(text)).collect();
    let keys: Vec<_> = judged.iter().flatten().take(3).cloned().collect();
    let problems = || judged.iter().filter_map(|judged| judged.as_ref().err().copied());
    let problem = || problems().find(|problem| *problem != KeyProblem::Syntax);
    if keys.is_empty() { Err(problem().unwrap_or(KeyProblem::Syntax)) } else { Ok(keys) }
}

/// What a signature finds at a name that DNS knows.
async fn find(dns: &Dns, name: &Name, wanted: KeyUse) -> Result<Vec<(String, bool)>, KeyProblem> {
    let mut lookups = KeyLookups::default();
    lookups.start(dns, name, Duration::from_secs(5));
    let keys = lookups.finish().await.unwrap();
    let text = |key: UsableKey<'_>| {
        let texts = [ED25519, RSA_512, RSA_1024];
        let is_this = |text: &&&str| {
            let algorithm = if **text == ED25519 { Algorithm::Ed25519 } else { Algorithm::Rsa };
            let parsed = PublicKey::parse(&decode_base64(text.as_bytes()).unwrap(), algorithm);
            format!("{:?}", parsed.unwrap()) == format!("{:?}", key.key)
        };
        (texts.iter().find(is_this).unwrap().to_string(), key.testing)
    };
    keys.find(name, wanted).unwrap().map(|keys| keys.iter().map(text).collect())
}

fn any_record() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![ED25519, RSA_512, RSA_1024, "", "AAAA"]);
    let more = prop::sample::select(vec![
        "",
        ";k=rsa",
        ";k=ED25519",
        ";k=x",
        ";s=email",
        ";s=x:*",
        ";s=tlsrpt",
        ";h=sha1",
        ";h=sha1:SHA256",
        ";t=y",
        ";t=s",
        ";t=Y:s",
        ";v=DKIM1",
        ";n=1",
        "x",
        ";p=",
        ";k=ed25519;t=s",
    ]);
    let version = prop::sample::select(vec!["", "v=DKIM1;", "v=DKIM2;", "k=ed25519;", "a"]);
    (version, key, more).prop_map(|(version, key, more)| format!("{version}p={key}{more}"))
}

proptest! {
    /// As they were parsed or as they were kept, for one use and then for another.
    #[test]
    fn keys_are_those_of_the_letter(
        records in prop::collection::vec(any_record(), 1..6),
        uses in prop::collection::vec((any::<bool>(), any::<bool>(), prop::sample::select(vec![0, 1024, 1025])), 2..4),
    ) {
        let name = Name::new("s._domainkey.example.com").unwrap();
        let texts: Vec<Box<[u8]>> = records.iter().map(|text| text.as_bytes().into()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dns = Dns::knowing(&name, &texts.into());
            for (is_rsa, is_subdomain, min_bits) in uses {
                let algorithm = if is_rsa { Algorithm::Rsa } else { Algorithm::Ed25519 };
                let wanted = KeyUse { algorithm, min_bits, is_subdomain };
                assert_eq!(find(&dns, &name, wanted).await, usable_by_the_letter(&records, wanted), "{wanted:?}");
                let answer = dns.lookup(&name, RecordType::Txt).await;
                assert!(matches!(answer, Ok(Answer::Txt(texts)) if texts.parsed::<KeyRecords>().is_some()));
            }
        });
    }

    #[test]
    fn any_octets_are_read_without_a_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = KeyRecord::parse(&text);
    }

    #[test]
    fn any_key_is_read_without_a_panic(key in "[A-Za-z0-9+/]{0,300}") {
        let record = format!("v=DKIM1; p={key}");
        let _ = KeyRecord::parse(record.as_bytes());
    }
}
