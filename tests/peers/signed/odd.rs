//! The changes that MTAs make to messages that they should not be sent, and the outcomes of the
//! daemon then.

use super::{Change, DOMAIN, expected, hop::Kind, samples::message, start};
use testkit::signers::{Key, Manner, Tool, sign_one};

/// The fate of a message that an MTA may take as it likes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Pass,
    /// The daemon was shown another body, or other fields.
    Fail(Change),
    /// The code of the reply.
    Refused(u16),
}

/// How an odd message is made from a signed one, and what becomes of it.
struct Oddity {
    name: &'static str,
    /// Of the message that is signed.
    fields: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
    /// The octets that are replaced after that, and those that replace them.
    replaced: (&'static str, &'static str),
    postfix: [Fate; 2],
    sendmail: [Fate; 2],
}

/// Messages that MTAs should not be sent. Their fates are those of a simple/simple and of a
/// relaxed/relaxed signature.
fn oddities() -> Vec<Oddity> {
    const PASS: [Fate; 2] = [Fate::Pass; 2];
    // Postfix cuts a header at 100 KB (`header_size_limit`), and makes spaces of CRs
    // (`cleanup_replace_stray_cr_lf`).
    const OTHER_FIELDS: [Fate; 2] = [Fate::Fail(Change::SignedField); 2];
    const OTHER_BODY: [Fate; 2] = [Fate::Fail(Change::Body); 2];
    // Sendmail takes no CR or LF by itself, and no header above 32 KB.
    const LEAVES: [Fate; 2] = [Fate::Refused(421); 2];
    const TOO_LARGE: [Fate; 2] = [Fate::Refused(552); 2];
    let oddity = |name, postfix, sendmail| Oddity {
        name,
        fields: Vec::new(),
        body: b"one\r\ntwo\r\n".to_vec(),
        replaced: ("", ""),
        postfix,
        sendmail,
    };
    let folds = |count: usize| {
        (0..count)
            .map(|number| format!("\n <{number:040}@x.example>"))
            .collect::<String>()
            .into_bytes()
    };
    let field = |value: &[u8]| vec![("X-Odd", value.to_vec())];
    vec![
        Oddity {
            replaced: ("one\r\ntwo", "one\ntwo"),
            ..oddity("bare LF in the body, signed as CRLF", PASS, LEAVES)
        },
        Oddity {
            fields: field(b" a\n b"),
            replaced: ("a\r\n b", "a\n b"),
            ..oddity("bare LF in the header, signed as CRLF", PASS, LEAVES)
        },
        Oddity {
            body: b"one\rtwo\r\n".to_vec(),
            ..oddity("bare CR in the body", OTHER_BODY, LEAVES)
        },
        Oddity {
            body: b"one\r\r\ntwo\r\n".to_vec(),
            ..oddity("CR CR LF in the body", OTHER_BODY, LEAVES)
        },
        Oddity { body: b"one\0two\r\n".to_vec(), ..oddity("NUL in the body", PASS, PASS) },
        Oddity {
            body: [b"z".repeat(5000), b"\r\n".to_vec()].concat(),
            ..oddity("a line of 5000 octets", PASS, PASS)
        },
        Oddity {
            body: [b"z".repeat(70_000), b"\r\n".to_vec()].concat(),
            ..oddity("a line of 70000 octets", PASS, PASS)
        },
        Oddity {
            fields: field(&[b" ".as_slice(), &b"z".repeat(1900)].concat()),
            ..oddity("a field of 1900 octets", PASS, PASS)
        },
        Oddity {
            fields: field(&[b" ".as_slice(), &b"z".repeat(5000)].concat()),
            ..oddity("a field of 5000 octets", PASS, PASS)
        },
        Oddity { fields: field(&folds(500)), ..oddity("a folded field of 27 KB", PASS, PASS) },
        Oddity {
            fields: field(&folds(1000)),
            ..oddity("a folded field of 54 KB", PASS, TOO_LARGE)
        },
        Oddity {
            fields: field(&folds(2500)),
            ..oddity("a folded field of 135 KB", OTHER_FIELDS, TOO_LARGE)
        },
        Oddity {
            replaced: ("Subject:", "Subject :"),
            ..oddity("a space before the colon, signed without", PASS, PASS)
        },
        Oddity { fields: field(b" a\n \n b"), ..oddity("a fold of only white space", PASS, PASS) },
        Oddity {
            fields: field(b" a\n  "),
            ..oddity("only white space after a fold, at the end", PASS, PASS)
        },
        Oddity { fields: field(b""), ..oddity("an empty field", PASS, PASS) },
        Oddity { fields: field(b"   "), ..oddity("a field of spaces", PASS, PASS) },
        Oddity {
            fields: field(b" a\x01\x7f\x1b b"),
            ..oddity("control characters in a field", PASS, PASS)
        },
    ]
}

pub(crate) fn odd_messages(kind: Kind) {
    let mut hop = start(kind);
    let mut wrong = Vec::new();
    for oddity in oddities() {
        for (index, canonicalization) in
            ["simple/simple", "relaxed/relaxed"].into_iter().enumerate()
        {
            let fields: Vec<(&str, &[u8])> =
                oddity.fields.iter().map(|(name, value)| (*name, value.as_slice())).collect();
            let mut signed = message(&fields, Some(&oddity.body));
            let manner = Manner::new(Tool::Dkimpy, Key::Ed25519, canonicalization, DOMAIN);
            sign_one(&manner, &mut signed);
            // Sendmail leaves clients that send what it does not like.
            hop.reconnect();
            let reply = hop.offer(&replaced(signed.octets(), oddity.replaced));
            let fate = if reply.code == 250 {
                let results = hop.received(&reply).results();
                let fates = [Fate::Pass, Fate::Fail(Change::Body), Fate::Fail(Change::SignedField)];
                let fits = |fate: &Fate| {
                    let change = if let Fate::Fail(change) = fate { Some(*change) } else { None };
                    results == [expected(&hop, &manner, &signed, Change::reason(change))]
                };
                fates
                    .into_iter()
                    .find(fits)
                    .unwrap_or_else(|| panic!("{}: {results:#?}", oddity.name))
            } else {
                Fate::Refused(reply.code)
            };
            let expected = if kind == Kind::Postfix { oddity.postfix } else { oddity.sendmail };
            if fate != expected[index] {
                wrong.push(format!("{}, {canonicalization}: {fate:?} {reply:?}", oddity.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn replaced(mut octets: Vec<u8>, (from, to): (&str, &str)) -> Vec<u8> {
    if !from.is_empty() {
        let at = octets.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        octets.splice(at..at + from.len(), to.bytes());
    }
    octets
}
