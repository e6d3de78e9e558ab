//! The Authentication-Results that the program writes, as independent readers find them: the results
//! that were meant, and no more, whatever senders put into their names.
//!
//! Each reader reads all fields in one process; OpenDMARC gets them with a message each.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

use spf_milter::{
    config::{Overrides, load_text},
    dns::{Dns, zone::Zone},
    mail::auth_results::{AuthenticationResults, Keyword, MethodResult, Property},
    runtime::Runtime,
    session::{Client, Edit, Granted, Session},
};
use testkit::{
    fields::Field,
    opendmarc::{OpenDmarc, nameserver_on_port_53},
    scenario::HOST,
    signer,
};

/// The domain that OpenDMARC takes for that of the author.
const AUTHOR: &str = "author.example";

/// A field, and what was meant by it: `method=result` of each result, and the domains that were
/// found.
struct Written {
    value: String,
    meant: Vec<String>,
}

/// Random numbers that are the same for the same seed (Marsaglia's xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(below).unwrap()).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }

    /// Text that means something somewhere in a header field.
    fn odd_text(&mut self) -> String {
        const PIECES: [&str; 44] = [
            "(",
            ")",
            "((",
            "))",
            "\"",
            "\\",
            "\\\"",
            "\\)",
            ";",
            ",",
            "=",
            ".",
            "..",
            "@",
            "/",
            ":",
            "<",
            ">",
            "[",
            "]",
            "?",
            "=?",
            "?=",
            " ",
            "  ",
            "\t",
            "a",
            "b.example",
            "é",
            "\u{202e}",
            "\\x{28}",
            "x);dmarc=pass;b",
            "x;dkim=pass header.d=author.example",
            "\";dkim=pass header.d=author.example;spf=pass reason=\"",
            ") ; dkim=pass header.d=author.example (",
            "none",
            "; dmarc=pass header.from=author.example",
            "=?utf-8?q?=29=3Bdmarc=3Dpass?=",
            "\\\";dkim=pass header.d=author.example (",
            "\r\n dmarc=pass",
            "\n",
            "mta.example.org;",
            "\u{0}",
            "%",
        ];
        (0..=self.roll(5)).map(|_| self.pick(&PIECES)).collect()
    }

    /// The same as a label, or some, of a name that DNS can be asked for.
    fn odd_name(&mut self) -> String {
        let text: String = self
            .odd_text()
            .chars()
            .filter(|c| c.is_ascii() && !c.is_ascii_control())
            .take(60)
            .collect();
        let text = text.split('.').filter(|label| !label.is_empty()).collect::<Vec<_>>().join(".");
        format!("{}.ptr.example", if text.is_empty() { "x" } else { &text })
    }
}

/// Words that are not a keyword of an enumeration here, but texts of one.
fn keyword(text: &str) -> Keyword {
    Keyword::parse(text).unwrap()
}

/// A field with any text wherever there may be one, and a signature of the author at its end, which
/// passes or not.
fn random_field(dice: &mut Dice) -> Written {
    let mut field = AuthenticationResults::new(HOST);
    for _ in 0..=dice.roll(4) {
        let (method, ptype, property) = dice.pick(&[
            ("spf", "smtp", "mailfrom"),
            ("spf", "smtp", "helo"),
            ("dkim", "header", "b"),
            ("dkim", "header", "i"),
            ("dmarc", "policy", "dmarc"),
            ("iprev", "policy", "iprev"),
        ]);
        let mut result = MethodResult::new(
            keyword(method),
            keyword(dice.pick(&["pass", "fail", "temperror", "permerror"])),
        );
        if dice.roll(3) == 0 {
            result = result.with_comment(dice.odd_text());
        }
        if dice.roll(2) == 0 {
            result.reason = Some(dice.odd_text());
        }
        let value = match dice.roll(3) {
            0 => dice.odd_text(),
            1 => format!("{}@b.example", dice.odd_text()),
            _ => format!("{}b", dice.odd_text()),
        };
        let mut property = Property::new(keyword(ptype), keyword(property), value);
        if dice.roll(3) == 0 {
            property = property.with_comment(dice.odd_text());
        }
        // Fields of signatures that fail must not pass for somebody, nor leave their domain to the
        // next.
        if method == "dkim" {
            result = result.with_property(Property::new("header", "d", "signer.example"));
        }
        field.results.push(result.with_property(property));
    }
    let last = MethodResult::new("dkim", keyword(dice.pick(&["pass", "fail"])));
    field.results.push(
        last.with_property(Property::new("header", "d", AUTHOR)).with_comment(dice.odd_text()),
    );
    let mut meant = vec![HOST.to_owned()];
    for result in &field.results {
        meant.push(format!("{}={}", result.method, result.result));
        let domains = result.properties.iter().filter(|property| property.property == "d");
        meant.extend(domains.map(|property| format!("header.d={}", property.value)));
    }
    Written { value: field.write().value, meant }
}

/// The field of a message whose names are odd.
async fn field_of_a_session(dice: &mut Dice) -> Written {
    let mut zone = Zone::parse(&signer::fill_in_keys(&format!(
        "ed._domainkey.{AUTHOR} TXT ${{ed25519}}\n_dmarc.{AUTHOR} TXT v=DMARC1; p=reject\nb.example TXT v=spf1 redirect=%{{l}}._spf.b.example\n"
    )))
    .unwrap();
    let name = dice.odd_name();
    zone.add_ptr("9.2.0.192.in-addr.arpa", &name);
    zone.add_a(&name, [192, 0, 2, 9].into());
    let text = "socket = unix:/nowhere\nheader = Authentication-Results\ninclude_all_results = yes\ninclude_mailfrom_local_part = yes\n\
                reject_results =\nverify_dkim = yes\nverify_dmarc = yes\nverify_iprev = yes\n";
    let config =
        load_text(text.as_bytes(), Path::new("test"), &Overrides::default()).unwrap().config;
    let runtime =
        Arc::new(Runtime::new(config, Dns::from_zone(Arc::new(zone)), "localhost".into(), 0));
    let client = Client { address: Some([192, 0, 2, 9].into()), port: 25, host: "unknown".into() };
    let (mut session, _) = Session::new(runtime, Granted::ALL, &client, Some(HOST));
    let helo = match dice.roll(3) {
        0 => dice.odd_text(),
        1 => format!("{}.b.example", dice.odd_text()),
        _ => "a\"b.x".to_owned(),
    };
    session.helo(&helo).await;
    let path = match dice.roll(6) {
        0 => "<>".to_owned(),
        1 => format!("<\"{}\"@b.example>", dice.odd_text()),
        2 => format!("<{}@b.example>", dice.odd_text()),
        3 => format!("<a@{}>", dice.odd_text()),
        4 => format!("<a@{}.b.example>", dice.odd_text()),
        _ => "<a@localhost>".to_owned(),
    };
    session.mail(path.as_bytes(), false, None).await;
    let mut message = vec![
        Field::new("From", format!(" a@{AUTHOR}")),
        Field::new("Subject", " x"),
        Field::new(
            "DKIM-Signature",
            format!(
                " v=1; a=rsa-sha256{}; d={}; s={}; h=from; bh={}; b={}",
                dice.pick(&["", "x", "=", "(", "\""]),
                dice.odd_text(),
                dice.odd_text(),
                dice.odd_text(),
                dice.odd_text()
            ),
        ),
    ];
    let body = b"Hello\r\n";
    if dice.roll(2) == 0 {
        message.push(Field::new(
            "DKIM-Signature",
            signer::sign(&format!("d={AUTHOR} s=ed"), &message, body),
        ));
    }
    if dice.roll(3) == 0 {
        message[0] = Field::new("From", format!(" {} <a@{AUTHOR}>", dice.odd_text()));
    }
    for field in &message {
        session.header(field.name.as_bytes(), &field.value);
    }
    session.end_of_header();
    session.body(body);
    let finished = session.end_of_message(None).await;
    let value = finished.edits.iter().find_map(|edit| match edit {
        Edit::Insert { field, .. } => Some(field.value.clone()),
        Edit::Delete { .. } => None,
    });
    let (value, record) = (value.unwrap(), finished.records.latest().unwrap());
    let mut meant = vec![HOST.to_owned()];
    meant.extend(
        record
            .identities
            .iter()
            .map(|identity| format!("spf={}", identity.verified.outcome.result)),
    );
    let content = record.content.clone().unwrap();
    for signature in content.dkim.unwrap() {
        meant.push(format!("dkim={}", signature.result()));
        meant.extend(signature.domain.map(|domain| format!("header.d={domain}")));
    }
    let dmarc = content.dmarc.unwrap();
    meant.push(format!("dmarc={}", dmarc.result));
    meant.extend(dmarc.author_domain.map(|domain| format!("header.from={domain}")));
    meant.push(format!("iprev={}", content.iprev.unwrap().result));
    Written { value, meant }
}

/// Fields of all kinds. `SEED` in the environment gives others.
fn fields() -> Vec<Written> {
    let seed = std::env::var("SEED").ok().map_or(20_261_119, |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut dice = Dice(seed);
    let mut fields: Vec<Written> = (0..400).map(|_| random_field(&mut dice)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for _ in 0..200 {
        fields.push(runtime.block_on(field_of_a_session(&mut dice)));
    }
    fields
}

/// The lines that a reader says, one for each field.
fn read_with(command: &mut Command, fields: &[Written]) -> Vec<String> {
    let mut reader = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = reader.stdin.take().unwrap();
    let text: String = fields.iter().map(|field| field.value.clone() + "\0").collect();
    let writer = thread::spawn(move || input.write_all(text.as_bytes()));
    let output = reader.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), fields.len(), "{command:?}");
    lines
}

/// The results in the order of their methods: method, result, and the domain that belongs to it.
fn sorted(words: &[&str]) -> Vec<String> {
    let mut results: Vec<String> = Vec::new();
    for word in words.iter().skip(1) {
        match results.last_mut().filter(|_| word.starts_with("header.")) {
            Some(last) => *last += &format!(" {word}"),
            None => results.push((*word).to_owned()),
        }
    }
    results.sort_by_key(|result| result.split('=').next().unwrap().to_owned());
    results
}

/// Holds what a reader said against what was meant.
fn compare(reader: &str, fields: &[Written], lines: &[String]) {
    let mut wrong = String::new();
    for (field, line) in fields.iter().zip(lines) {
        let read: Vec<&str> = line.split(' ').collect();
        let meant: Vec<&str> = field.meant.iter().map(String::as_str).collect();
        if read[0] != meant[0] || sorted(&read) != sorted(&meant) {
            wrong += &format!("{}\n  meant {}\n  read  {line}\n", field.value, meant.join(" "));
        }
    }
    assert!(wrong.is_empty(), "{reader} reads otherwise:\n{wrong}");
}

fn script(interpreter: &str, name: &str) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers").join(name));
    command
}

#[test]
#[ignore = "needs authres: make test"]
fn python_authres() {
    let fields = fields();
    // Debian's own, whatever else is there.
    compare(
        "authres",
        &fields,
        &read_with(&mut script("/usr/bin/python3", "python_authres.py"), &fields),
    );
}

#[test]
#[ignore = "needs Mail::AuthenticationResults: make test"]
fn mail_authentication_results() {
    let fields = fields();
    let lines = read_with(&mut script("/usr/bin/perl", "mail_authentication_results.pl"), &fields);
    compare("Mail::AuthenticationResults", &fields, &lines);
}

#[test]
#[ignore = "needs SpamAssassin: make test"]
fn spamassassin() {
    let fields = fields();
    compare(
        "SpamAssassin",
        &fields,
        &read_with(&mut script("/usr/bin/perl", "spamassassin.pl"), &fields),
    );
}

/// OpenDMARC reports no results but its own: a pass where the author's signature is one.
#[test]
#[ignore = "needs OpenDMARC and root: make test"]
fn opendmarc() {
    let zone = Arc::new(Zone::parse(&format!("_dmarc.{AUTHOR} TXT v=DMARC1; p=reject")).unwrap());
    let nameserver = nameserver_on_port_53(&zone);
    let opendmarc = OpenDmarc::start(nameserver.address(), &["example", "org"]);
    let mut wrong = String::new();
    let fields = fields();
    let mut passes = 0;
    for field in &fields {
        let mut client = opendmarc.client();
        client.macros = [("j", HOST), ("i", "4XyZ")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        client
            .connect("mail.client.example", Some(SocketAddr::from(([192, 0, 2, 9], 2525))))
            .unwrap();
        client.helo("mail.client.example").unwrap();
        client.mail("<a@bounces.example>").unwrap();
        client.rcpt("<bob@rcpt.example.org>").unwrap();
        let message = [
            Field::new("Authentication-Results", format!(" {}", field.value)),
            Field::new("From", format!(" a@{AUTHOR}")),
            Field::new("Subject", " x"),
        ];
        let finished = client.message(&message, b"Hello\r\n").unwrap();
        client.quit().unwrap();
        let own = format!("dmarc=pass (p=reject dis=none) header.from={AUTHOR}");
        let is_pass = finished
            .fields
            .iter()
            .any(|field| field.is("Authentication-Results") && field.unfolded().contains(&own));
        let is_said = finished.fields.len() > message.len();
        let is_meant = field
            .meant
            .windows(2)
            .any(|pair| pair == ["dkim=pass".to_owned(), format!("header.d={AUTHOR}")]);
        passes += usize::from(is_pass);
        if is_pass != is_meant || !is_said {
            wrong += &format!("{}\n  meant {is_meant}, read {is_pass}\n", field.value);
        }
    }
    assert!(wrong.is_empty(), "OpenDMARC reads otherwise:\n{wrong}\n{}", opendmarc.log());
    assert!((100..fields.len() - 100).contains(&passes), "{passes} of {}", fields.len());
}
