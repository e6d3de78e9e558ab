//! Messages of independent signers through real MTAs, as they are and with one octet changed; and
//! the same messages before OpenDKIM and OpenDMARC.

mod hop;
mod odd;
mod peers;
mod samples;

use hop::{CLIENT_ZONE, CONFIG, Hop, Kind};
use odd::odd_messages;
use samples::{Sample, large, message, samples};
use spf_milter::dns::zone::Zone;
use testkit::{
    nameserver::NameServer,
    signers::{Key, Manner, Message, Tool, UNSIGNED, sign, sign_one},
};

const DOMAIN: &str = "signed.example";

const CANONICALIZATIONS: [&str; 4] =
    ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"];

fn nameserver() -> NameServer {
    let keys: String = Key::GOOD.iter().map(|key| key.record(DOMAIN)).collect();
    let zone = format!("{CLIENT_ZONE}_dmarc.{DOMAIN} TXT v=DMARC1; p=reject\n{keys}");
    NameServer::start(Zone::parse(&zone).unwrap())
}

fn start(kind: Kind) -> Hop {
    Hop::start(kind, CONFIG, nameserver())
}

/// One octet changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Change {
    Body,
    SignedField,
    UnsignedField,
    Signature,
}

impl Change {
    const ALL: [Self; 4] = [Self::Body, Self::SignedField, Self::UnsignedField, Self::Signature];

    /// `None` where there is nothing to change.
    fn apply(self, message: &Message) -> Option<Message> {
        let mut changed = message.clone();
        match self {
            Self::Body => {
                let body = changed.body.as_mut()?;
                // One that is neither of a line end nor white space.
                let place =
                    body.iter().position(|octet| !octet.is_ascii_whitespace() && *octet != b'.')?;
                body[place] ^= 1;
            }
            Self::SignedField | Self::UnsignedField => {
                let name = if self == Self::SignedField { "Subject" } else { UNSIGNED };
                let value = &mut changed.find(name).value;
                let place = value.iter().position(u8::is_ascii_alphabetic).unwrap();
                value[place] = if value[place] == b'q' { b'r' } else { b'q' };
            }
            Self::Signature => {
                let value = &mut changed.find("DKIM-Signature").value;
                let start = signature_data(value).0;
                // Behind what `header.b` shows.
                let places =
                    (start..value.len()).filter(|place| value[*place].is_ascii_alphanumeric());
                let place = places.into_iter().nth(20).unwrap();
                value[place] = if value[place] == b'A' { b'B' } else { b'A' };
            }
        }
        Some(changed)
    }

    /// The part of it that is to be seen.
    fn reason(change: Option<Self>) -> Option<&'static str> {
        match change {
            None | Some(Self::UnsignedField) => None,
            Some(Self::Body) => Some("body hash did not verify"),
            Some(Self::SignedField | Self::Signature) => Some("signature did not verify"),
        }
    }
}

/// Where the value of `b=` begins, and the value without white space.
fn signature_data(value: &[u8]) -> (usize, String) {
    let mut start = 0;
    for tag in value.split(|octet| *octet == b';') {
        let text = String::from_utf8_lossy(tag);
        if let Some((name, data)) = text.split_once('=')
            && name.trim() == "b"
        {
            return (start + name.len() + 1, data.split_ascii_whitespace().collect());
        }
        start += tag.len() + 1;
    }
    panic!("no b= tag: {}", String::from_utf8_lossy(value));
}

/// The whole Authentication-Results field that a message with one signature must get.
fn expected(hop: &Hop, manner: &Manner, message: &Message, reason: Option<&str>) -> String {
    let signature = message.fields.iter().find(|field| field.is("DKIM-Signature")).unwrap();
    let prefix = &signature_data(&signature.value).1[..8];
    // A value with other characters than a token's is quoted.
    let prefix =
        if prefix.contains(['/', '=']) { format!("\"{prefix}\"") } else { prefix.to_owned() };
    let (dkim, dmarc, disposition) = match reason {
        None => ("pass".to_owned(), "pass", "none"),
        Some(reason) => (format!("fail reason=\"{reason}\""), "fail", "none reason=not-enforced"),
    };
    format!(
        "mta.example.org; spf=pass smtp.mailfrom=bounces.example; dkim={dkim} header.d={} header.s={} header.a={} header.b={prefix}; \
         dmarc={dmarc} (p=reject dis={disposition}) header.from={DOMAIN} policy.dmarc=reject; \
         iprev=pass policy.iprev={} (mail.client.example)",
        manner.domain,
        manner.key.name(),
        manner.key.algorithm(),
        hop.client(),
    )
}

/// OpenDKIM makes Ed25519 signatures over simple header fields that nobody verifies, dkimpy and
/// OpenDKIM itself included.
fn manner(tool: Tool, key: Key, canonicalization: &'static str) -> Manner {
    let is_broken =
        tool == Tool::OpenDkim && key == Key::Ed25519 && canonicalization.starts_with("simple/");
    Manner::new(if is_broken { Tool::Dkimpy } else { tool }, key, canonicalization, DOMAIN)
}

/// Every sample in every canonicalization, signers and keys taking turns, as signed and changed.
fn samples_pass_and_fail(kind: Kind) {
    let mut hop = start(kind);
    let keys = [Key::Ed25519, Key::Rsa(2048), Key::Rsa(1024)];
    let mut signed: Vec<(Sample, Manner)> = Vec::new();
    for (number, sample) in samples().into_iter().enumerate() {
        for (turn, canonicalization) in CANONICALIZATIONS.into_iter().enumerate() {
            let tool = if (number + turn) % 2 == 0 { Tool::OpenDkim } else { Tool::Dkimpy };
            let manner = manner(tool, keys[(number + turn) % keys.len()], canonicalization);
            signed.push((sample.clone(), manner));
        }
    }
    sign_all(&mut signed);
    let mut wrong = Vec::new();
    for (sample, manner) in &signed {
        for change in std::iter::once(None).chain(Change::ALL.map(Some)) {
            let Some(message) = change.map_or_else(
                || Some(sample.message.clone()),
                |change| change.apply(&sample.message),
            ) else {
                continue;
            };
            let received = hop.pass(&message.octets());
            let expected = expected(&hop, manner, &message, Change::reason(change));
            if received.results() != [expected.clone()] {
                wrong.push(format!(
                    "{}, {manner:?}, {change:?}: {:#?} instead of {expected}",
                    sample.name,
                    received.results()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Both signers, all keys, all canonicalizations, with and without `l=`; each for a message of its
/// own.
fn keys_and_canonicalizations(kind: Kind) {
    let mut hop = start(kind);
    let mut signed = Vec::new();
    for (number, key) in Key::GOOD.into_iter().enumerate() {
        for (turn, canonicalization) in CANONICALIZATIONS.into_iter().enumerate() {
            for tool in [Tool::OpenDkim, Tool::Dkimpy] {
                let sample = samples().swap_remove((number + 4 * turn) % samples().len());
                let length = (number + turn) % 3 == 0;
                signed.push((sample, Manner { length, ..manner(tool, key, canonicalization) }));
            }
        }
    }
    sign_all(&mut signed);
    for (sample, manner) in &signed {
        let results = hop.pass(&sample.message.octets()).results();
        assert_eq!(
            results,
            [expected(&hop, manner, &sample.message, None)],
            "{}, {manner:?}",
            sample.name
        );
    }
}

fn sign_all(signed: &mut [(Sample, Manner)]) {
    let mut jobs: Vec<_> =
        signed.iter_mut().map(|(sample, manner)| (manner.clone(), &mut sample.message)).collect();
    sign(&mut jobs);
}

/// Both signers on one message, in turn; then what they signed in part.
fn several_signatures(kind: Kind) {
    let mut hop = start(kind);
    let mut signed = message(&[], Some(&large(5000)));
    let manners = [
        Manner::new(Tool::Dkimpy, Key::Rsa(2048), "relaxed/relaxed", DOMAIN),
        Manner::new(Tool::OpenDkim, Key::Ed25519, "relaxed/simple", DOMAIN),
        Manner {
            length: true,
            ..Manner::new(Tool::OpenDkim, Key::Rsa(1024), "simple/simple", DOMAIN)
        },
        Manner::new(Tool::Dkimpy, Key::Rsa(4096), "simple/relaxed", DOMAIN),
    ];
    for manner in &manners {
        sign_one(manner, &mut signed);
    }
    let results = |hop: &mut Hop, message: &Message| -> Vec<String> {
        let fields = hop.pass(&message.octets()).results();
        let [field] = &fields[..] else { panic!("not one field: {fields:#?}") };
        field
            .split("; ")
            .filter(|part| part.starts_with("dkim=") || part.starts_with("dmarc="))
            .map(str::to_owned)
            .collect()
    };
    let pass = |number: usize| {
        let (manner, place) = (&manners[number], manners.len() - 1 - number);
        let prefix = signature_data(&signed.fields[place].value).1[..8].to_owned();
        let prefix = if prefix.contains(['/', '=']) { format!("\"{prefix}\"") } else { prefix };
        let (key, algorithm) = (manner.key.name(), manner.key.algorithm());
        format!("header.d={DOMAIN} header.s={key} header.a={algorithm} header.b={prefix}")
    };
    let dmarc = |result: &str| {
        let (result, reason) =
            if result == "pass" { ("pass", "") } else { ("fail", " reason=not-enforced") };
        format!(
            "dmarc={result} (p=reject dis=none{reason}) header.from={DOMAIN} policy.dmarc=reject"
        )
    };
    let expected: Vec<String> =
        [3, 2, 1, 0].map(|number| format!("dkim=pass {}", pass(number))).into();
    assert_eq!(results(&mut hop, &signed), [expected, vec![dmarc("pass")]].concat());
    // Only what has an `l=` holds when text is added, and is not enough.
    let mut longer = signed.clone();
    let total = longer.body.as_ref().unwrap().len();
    longer.body.as_mut().unwrap().extend_from_slice(b"more\r\n");
    let fail =
        |number: usize| format!("dkim=fail reason=\"body hash did not verify\" {}", pass(number));
    let partly =
        format!("dkim=policy reason=\"{total} of {} body octets signed\" {}", total + 6, pass(2));
    assert_eq!(results(&mut hop, &longer), [fail(3), partly, fail(1), fail(0), dmarc("fail")]);
    // White space at the end of a line: the relaxed bodies hold.
    let mut spaced = signed.clone();
    let body = spaced.body.as_mut().unwrap();
    let end = body.windows(2).position(|pair| pair == b"\r\n").unwrap();
    body.splice(end..end, *b" \t");
    let passes = |number: usize| format!("dkim=pass {}", pass(number));
    let partial =
        fail(2).replacen("fail", &format!("fail ({total} of {} body octets signed)", total + 2), 1);
    assert_eq!(results(&mut hop, &spaced), [passes(3), partial, fail(1), passes(0), dmarc("pass")]);
}

/// Ten megabytes, in every canonicalization; then with their last letter changed.
fn many_megabytes(kind: Kind) {
    let mut hop = start(kind);
    for (key, canonicalization) in
        [(Key::Rsa(2048), "relaxed/relaxed"), (Key::Ed25519, "relaxed/simple")]
    {
        let manner = manner(Tool::OpenDkim, key, canonicalization);
        let mut signed = message(&[], Some(&large(10_000_000)));
        sign_one(&manner, &mut signed);
        let received = hop.pass(&signed.octets());
        assert_eq!(received.results(), [expected(&hop, &manner, &signed, None)]);
        assert_eq!(
            received.body.len(),
            signed.body.as_ref().unwrap().iter().filter(|octet| **octet != b'\r').count()
        );
        let body = signed.body.as_mut().unwrap();
        let last = body.iter().rposition(|octet| octet.is_ascii_alphanumeric()).unwrap();
        body[last] = if body[last] == b'a' { b'b' } else { b'a' };
        let reason = Change::reason(Some(Change::Body));
        assert_eq!(
            hop.pass(&signed.octets()).results(),
            [expected(&hop, &manner, &signed, reason)]
        );
    }
}

/// Two hops, both with the daemon: as many results as authserv-ids, none of them by anybody else.
fn relayed_twice(first: Kind, second: Kind) {
    let manner = Manner::new(Tool::Dkimpy, Key::Rsa(2048), "simple/simple", DOMAIN);
    let mut signed = message(
        &[("Authentication-Results", b" mta.example.org; dkim=pass header.d=forged.example")],
        Some(&large(3000)),
    );
    // A field that is deleted on the way cannot be signed.
    let forged = signed.fields.pop().unwrap();
    sign_one(&manner, &mut signed);
    signed.fields.insert(1, forged);
    let mut hop = start(first);
    let between = hop.pass(&signed.octets());
    let of_first = expected(&hop, &manner, &signed, None);
    assert_eq!(between.results(), std::slice::from_ref(&of_first));
    drop(hop);
    for (id, keeps) in [("", false), ("authserv_id = inner.example.org\n", true)] {
        let mut hop = Hop::start(second, &format!("{CONFIG}{id}"), nameserver());
        let received = hop.pass(&between.octets());
        let of_second = expected(&hop, &manner, &signed, None);
        if keeps {
            let of_second = of_second.replacen("mta.example.org", "inner.example.org", 1);
            assert_eq!(received.results(), [of_second, of_first.clone()]);
        } else {
            assert_eq!(received.results(), [of_second]);
        }
    }
}

macro_rules! through_both {
    ($($name:ident)*) => {$(
        mod $name {
            use super::Kind;

            #[test]
            #[ignore = "needs Postfix, OpenDKIM, dkimpy and root: make test"]
            fn postfix() {
                super::$name(Kind::Postfix);
            }

            #[test]
            #[ignore = "needs Sendmail, OpenDKIM, dkimpy and root: make test"]
            fn sendmail() {
                super::$name(Kind::Sendmail);
            }
        }
    )*};
}

through_both! {
    samples_pass_and_fail
    keys_and_canonicalizations
    several_signatures
    many_megabytes
    odd_messages
}

#[test]
#[ignore = "needs Postfix, Sendmail, dkimpy and root: make test"]
fn relayed_by_postfix_and_sendmail() {
    relayed_twice(Kind::Postfix, Kind::Sendmail);
    relayed_twice(Kind::Sendmail, Kind::Postfix);
    relayed_twice(Kind::Postfix, Kind::Postfix);
}
