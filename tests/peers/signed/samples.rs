//! Messages that are hard to hand on unchanged.

use std::fmt::Write as _;

use testkit::{
    fields::Field,
    signers::{Message, UNSIGNED},
};

/// A message, and what is special about it.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub name: &'static str,
    pub message: Message,
}

/// A message with these fields after the usual ones.
pub(crate) fn message(fields: &[(&str, &[u8])], body: Option<&[u8]>) -> Message {
    let usual: [(&str, &[u8]); 6] = [
        ("From", b" \"A. Sender\" <a.sender@signed.example>"),
        ("To", b" bob@rcpt.example.org"),
        ("Subject", b" The usual"),
        ("Date", b" Sat, 21 Nov 2026 10:00:00 +0000"),
        ("Message-ID", b" <20261121100000.4711@signed.example>"),
        (UNSIGNED, b" nobody signs this"),
    ];
    let replaced = |name: &str| fields.iter().any(|field| field.0 == name);
    let kept = usual.iter().filter(|field| !replaced(field.0));
    Message {
        fields: kept.chain(fields).map(|(name, value)| Field::new(name, *value)).collect(),
        body: body.map(<[u8]>::to_vec),
    }
}

/// All of them.
pub(crate) fn samples() -> Vec<Sample> {
    let mut references = " <0.first@references.example>".to_owned();
    for number in 1..120 {
        let fold = ["\n\t", "\n ", " \n        ", "\t \n \t"][number % 4];
        write!(references, "{fold}<{number}.{}@references.example>", "x".repeat(number % 60))
            .unwrap();
    }
    let long = |length: usize| [b"y".repeat(length), b"\r\n".to_vec()].concat();
    let all_octets: Vec<u8> = (0x80..=0xff).collect();
    let text: &[u8] = b"Hello,\r\n\r\nthis is the text.\r\n";
    let sample = |name, message| Sample { name, message };
    vec![
        sample("plain", message(&[], Some(text))),
        sample("folded fields", message(&[("References", references.as_bytes())], Some(text))),
        sample(
            "white space after the colon",
            message(
                &[
                    ("Subject", b"no space"),
                    ("X-Two", b"  two spaces"),
                    ("X-Tab", b"\ta tab\t\tand more \t"),
                    ("X-Fold", b"\n at once a new line"),
                    ("X-Space-Fold", b" \n\t a space before it"),
                    ("X-Inside", b" many   spaces \t inside"),
                ],
                Some(text),
            ),
        ),
        sample(
            "8-bit octets",
            message(
                &[("Subject", "  Grüße aus Köln".as_bytes()), ("X-Latin", b" caf\xe9 \xff")],
                Some(&[b"Gr\xc3\xbc\xc3\x9fe\r\n".as_slice(), &all_octets, b"\r\n"].concat()),
            ),
        ),
        sample("dots", message(&[], Some(b".\r\n..\r\n...\r\n.x\r\n. \r\nx.\r\n\r\n.\r\n"))),
        sample(
            "lines of 998 octets",
            message(
                &[("X-Long", &[b" ".as_slice(), &b"z".repeat(990)].concat())],
                Some(&[long(998), long(997), b".\r\n".to_vec(), long(998)].concat()),
            ),
        ),
        sample(
            "white space in the body",
            message(
                &[],
                Some(b"\ttab \t\r\n   three   spaces   \r\n \r\n\t\r\ntext  \r\n\r\n \r\n\r\n\r\n"),
            ),
        ),
        sample("an empty body", message(&[], Some(b""))),
        sample("only a header", message(&[], None)),
        sample("an empty line", message(&[], Some(b"\r\n"))),
        sample("empty lines", message(&[], Some(b"\r\n\r\n\r\n"))),
        sample("only white space", message(&[], Some(b" \t\r\n \r\n"))),
        sample("a hundred kilobytes", message(&[], Some(&large(100_000)))),
    ]
}

/// A body of about this size with lines of every length below 998, dots at some beginnings, and no
/// period that chunks could share.
pub(crate) fn large(size: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(size + 1000);
    let mut state = 1_u32;
    while body.len() < size {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = (state >> 16) as usize % 998;
        let first: &[u8] = [b".".as_slice(), b" ", b"\t", b"w"][(state >> 8) as usize % 4];
        let filler = [b"abc  def\tgh ".as_slice(), b"0123456789ABCDEF", b"\xc3\xa4 "]
            [(state >> 27) as usize % 3];
        body.extend(first.iter().chain(filler.iter().cycle()).take(length));
        body.extend_from_slice(b"\r\n");
    }
    body
}
