//! The same messages before the daemon, and before OpenDKIM and OpenDMARC in a row: what they say,
//! and where they differ.
//!
//! OpenDMARC goes by the Authentication-Results field that OpenDKIM added, and by its own SPF
//! check.

use std::{fmt::Write as _, net::SocketAddr, sync::Arc};

use spf_milter::dns::zone::Zone;

use testkit::{
    daemon::Daemon,
    fields::Field,
    milter_client::{MilterClient, Reply},
    opendkim::OpenDkim,
    opendmarc::{OpenDmarc, nameserver_on_port_53},
    scenario::complete_config,
    signers::{Key, Manner, Message, Tool, sign_one, sign_tags},
};

use super::{hop::CLIENT_ZONE, samples::message};

const BODY: &[u8] = b"Hello,\r\n\r\nthis is the text.\r\n";

/// The public suffixes of OpenDMARC's list; the daemon needs none.
const SUFFIXES: [&str; 2] = ["example", "org"];

/// A message, and what is said of it: `DKIM results / DMARC result`.
#[derive(Clone)]
struct Case {
    name: &'static str,
    message: Message,
    /// The envelope sender.
    sender: &'static str,
    ours: &'static str,
    theirs: &'static str,
    /// Why they differ.
    why: &'static str,
}

fn zone() -> String {
    let keys: String =
        Key::GOOD.iter().chain([&Key::Rsa(512)]).map(|key| key.record("signed.example")).collect();
    let public = Key::Rsa(2048).public();
    let mut zone = format!("{CLIENT_ZONE}{keys}");
    for (selector, record) in [
        ("testing", "v=DKIM1; t=y; p="),
        ("strict", "v=DKIM1; t=s; p="),
        ("sha1", "v=DKIM1; h=sha1; p="),
        ("other", "v=DKIM1; s=other; p="),
        ("bare", "p="),
    ] {
        writeln!(zone, "{selector}._domainkey.signed.example TXT {record}{public}").unwrap();
    }
    zone + "revoked._domainkey.signed.example TXT v=DKIM1; p=
broken._domainkey.signed.example TXT v=DKIM1; p=AAAA
two._domainkey.signed.example TXT v=DKIM1; p=
servfail._domainkey.signed.example TXT !servfail
_dmarc.signed.example TXT v=DMARC1; p=reject
signed.example TXT v=spf1 ip4:192.0.2.9 -all
"
}

const PASS: &str = "pass / pass";
const FAIL: &str = "fail / fail";

/// RFC 8601 §2.7.1: a signature that could not be tried for want of a usable key is permerror;
/// OpenDKIM has it fail.
const KEY: &str = "no usable key";

/// RFC 8601 §2.7.1: what is not acceptable is policy, what cannot be processed is neutral; OpenDKIM
/// has permerror for both.
const POLICY: &str = "not acceptable";
const NEUTRAL: &str = "not understood";

/// RFC 9989 §11.5: which author a reader is shown cannot be known; OpenDMARC takes one, or says
/// nothing.
const AMBIGUOUS: &str = "not one author for certain";

/// Anybody who holds the message can add to the body; OpenDMARC does not know of it.
const LENGTH: &str = "part of the body is not signed";

/// Tags around those of a case.
fn tags(selector: &str, more: &str) -> String {
    format!(
        " v=1; a=rsa-sha256; c=relaxed/relaxed; d=signed.example; s={selector}; {more}h={{h}}; bh={{bh}}; b="
    )
}

const NAMES: [&str; 4] = ["From", "To", "Subject", "Date"];

fn cases() -> Vec<Case> {
    let aligned = Case {
        sender: "<a@signed.example>",
        ..case("SPF aligned", plain(), "none / pass", "none / pass", "")
    };
    [whole_and_changed(), tagged(), weak_and_forged(), authors(), vec![aligned]].concat()
}

fn case(
    name: &'static str,
    message: Message,
    ours: &'static str,
    theirs: &'static str,
    why: &'static str,
) -> Case {
    Case { name, message, sender: "<a@bounces.example>", ours, theirs, why }
}

fn plain() -> Message {
    message(&[], Some(BODY))
}

/// A message that is signed as usual.
fn by(tool: Tool, key: Key, canonicalization: &'static str) -> Message {
    let mut signed = plain();
    sign_one(&Manner::new(tool, key, canonicalization, "signed.example"), &mut signed);
    signed
}

fn whole_and_changed() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add =
        |name, message, ours, theirs, why| cases.push(case(name, message, ours, theirs, why));
    add("not signed", plain(), "none / fail", "none / fail", "");
    for (name, key) in [
        ("rsa1024", Key::Rsa(1024)),
        ("rsa2048", Key::Rsa(2048)),
        ("rsa4096", Key::Rsa(4096)),
        ("ed25519", Key::Ed25519),
    ] {
        add(name, by(Tool::OpenDkim, key, "relaxed/relaxed"), PASS, PASS, "");
        add(name, by(Tool::Dkimpy, key, "relaxed/simple"), PASS, PASS, "");
        add(name, by(Tool::Dkimpy, key, "simple/simple"), PASS, PASS, "");
    }
    add(
        "OpenDKIM's own simple Ed25519",
        by(Tool::OpenDkim, Key::Ed25519, "simple/simple"),
        FAIL,
        FAIL,
        "",
    );
    let mut changed = by(Tool::Dkimpy, Key::Rsa(2048), "relaxed/relaxed");
    changed.body.as_mut().unwrap()[0] ^= 1;
    add("body changed", changed, FAIL, FAIL, "");
    let mut changed = by(Tool::Dkimpy, Key::Rsa(2048), "relaxed/relaxed");
    changed.find("Subject").value[2] ^= 1;
    add("field changed", changed, FAIL, FAIL, "");
    cases
}

/// Tags and keys of every kind.
fn tagged() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add =
        |name, message, ours, theirs, why| cases.push(case(name, message, ours, theirs, why));
    let tagged = |tags: &str| {
        let mut signed = plain();
        sign_tags(Key::Rsa(2048), "rsa-sha256", tags, &NAMES, &mut signed);
        signed
    };
    add("testing key", tagged(&tags("testing", "")), PASS, PASS, "");
    add("i= below d=", tagged(&tags("rsa2048", "i=@sub.signed.example; ")), PASS, PASS, "");
    add(
        "i= below d=, strict key",
        tagged(&tags("strict", "i=@sub.signed.example; ")),
        "permerror / fail",
        "fail / fail",
        KEY,
    );
    add(
        "i= outside d=",
        tagged(&tags("rsa2048", "i=@other.example; ")),
        "permerror / fail",
        "permerror / fail",
        "",
    );
    add("key for sha1", tagged(&tags("sha1", "")), "permerror / fail", "fail / fail", KEY);
    add(
        "key for another service",
        tagged(&tags("other", "")),
        "permerror / fail",
        "fail / fail",
        KEY,
    );
    add("key record without v=", tagged(&tags("bare", "")), PASS, PASS, "");
    add("key revoked", tagged(&tags("revoked", "")), "permerror / fail", "fail / fail", KEY);
    add("key broken", tagged(&tags("broken", "")), "permerror / fail", "permerror / fail", "");
    add("no key", tagged(&tags("nowhere", "")), "permerror / fail", "fail / fail", KEY);
    add(
        "DNS fails",
        tagged(&tags("servfail", "")),
        "temperror / temperror",
        " / fail",
        "no result of OpenDKIM is no pass to OpenDMARC; here nothing is rejected for a failure of DNS",
    );
    add(
        "expired",
        tagged(&tags("rsa2048", "t=1000000000; x=1000000001; ")),
        "policy / fail",
        "permerror / fail",
        POLICY,
    );
    add(
        "made in the future",
        tagged(&tags("rsa2048", "t=4102444800; ")),
        "policy / fail",
        "permerror / fail",
        POLICY,
    );
    add(
        "x= before t=",
        tagged(&tags("rsa2048", "t=1000000001; x=1000000000; ")),
        "neutral / fail",
        "permerror / fail",
        NEUTRAL,
    );
    add(
        "tag twice",
        tagged(&tags("rsa2048", "q=dns/txt; q=dns/txt; ")),
        "neutral / fail",
        "pass / pass",
        "RFC 6376 §3.2: a tag that comes twice makes the whole list invalid",
    );
    add("unknown tag", tagged(&tags("rsa2048", "zz=1; ")), PASS, PASS, "");
    add(
        "unknown query method",
        tagged(&tags("rsa2048", "q=http; ")),
        "neutral / fail",
        "permerror / fail",
        NEUTRAL,
    );
    add(
        "v=2",
        tagged(&tags("rsa2048", "").replace("v=1", "v=2")),
        "neutral / fail",
        "permerror / fail",
        NEUTRAL,
    );
    add("l= of the whole body", tagged(&tags("rsa2048", "l=29; ")), PASS, PASS, "");
    add("l= of a part", tagged(&tags("rsa2048", "l=7; ")), "policy / fail", "pass / pass", LENGTH);
    add("l=0", tagged(&tags("rsa2048", "l=0; ")), "policy / fail", "pass / pass", LENGTH);
    add(
        "l= beyond the body",
        tagged(&tags("rsa2048", "l=1000; ")),
        "permerror / fail",
        "fail / fail",
        "the signature is wrong whatever the body is",
    );
    cases
}

/// Algorithms and keys that are too weak, and fields that were added.
fn weak_and_forged() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add =
        |name, message, ours, theirs, why| cases.push(case(name, message, ours, theirs, why));
    let mut signed = plain();
    sign_tags(Key::Rsa(512), "rsa-sha256", &tags("rsa512", ""), &NAMES, &mut signed);
    add("key of 512 bits", signed, "policy / fail", "policy / fail", "");
    let mut signed = plain();
    sign_tags(
        Key::Rsa(2048),
        "rsa-sha1",
        &tags("rsa2048", "").replace("sha256", "sha1"),
        &NAMES,
        &mut signed,
    );
    add(
        "rsa-sha1",
        signed,
        "permerror / fail",
        "pass / pass",
        "RFC 8301 §3.1: verifiers must not take rsa-sha1",
    );
    let mut signed = plain();
    sign_tags(Key::Rsa(2048), "rsa-sha256", &tags("rsa2048", ""), &NAMES[1..], &mut signed);
    add("From not signed", signed, "permerror / fail", "permerror / fail", "");
    let mut signed = by(Tool::Dkimpy, Key::Rsa(2048), "relaxed/relaxed");
    signed.fields.insert(0, Field::new("From", " ceo@signed.example"));
    add(
        "second From on top",
        signed,
        "policy / fail",
        "pass / pass",
        "RFC 6376 §8.15: readers are shown a From that nobody signed",
    );
    let mut signed = by(Tool::Dkimpy, Key::Rsa(2048), "relaxed/relaxed");
    signed.fields.push(Field::new("From", " ceo@bounces.example"));
    add(
        "second From below",
        signed,
        "policy / fail",
        "fail / fail",
        "RFC 6376 §8.15: From was not signed as often as it is there, whatever the signature says",
    );
    let mut signed = by(Tool::Dkimpy, Key::Rsa(2048), "relaxed/relaxed");
    signed.fields.insert(1, Field::new("Subject", " another"));
    let why = "RFC 6376 §8.15: readers are shown a Subject that nobody signed";
    add("second Subject on top", signed, "policy / fail", PASS, why);
    let mut signed = by(Tool::Dkimpy, Key::Rsa(2048), "relaxed/relaxed");
    signed.fields.insert(1, Field::new("X-Mailer", " another"));
    add("a field on top that may occur often", signed, PASS, PASS, "");
    let mut signed = by(Tool::Dkimpy, Key::Rsa(2048), "relaxed/relaxed");
    let again = signed.fields[0].clone();
    signed.fields.insert(0, again);
    let signed = super::Change::Signature.apply(&signed).unwrap();
    add("a bad and a good signature", signed, "fail pass / pass", "fail pass / pass", "");
    let mut signed = by(Tool::Dkimpy, Key::Rsa(2048), "relaxed/relaxed");
    signed.fields.insert(0, Field::new("DKIM-Signature", " nonsense"));
    let why = "OpenDKIM says nothing of a message with a field that it cannot read";
    add("nonsense and a good signature", signed, "neutral pass / pass", " / fail", why);
    cases
}

fn authors() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add =
        |name, message, ours, theirs, why| cases.push(case(name, message, ours, theirs, why));
    for (name, from, ours, theirs, why) in [
        ("author below the policy domain", " a@sub.signed.example", PASS, PASS, ""),
        ("author with a comment", " a@signed.example (b at other.example)", PASS, PASS, ""),
        (
            "author with an address in a comment",
            " a@signed.example (b@other.example)",
            "pass / permerror",
            PASS,
            AMBIGUOUS,
        ),
        ("author quoted", " \"b@other.example\" <a@signed.example>", PASS, PASS, ""),
        ("two authors of one domain", " a@signed.example, b@signed.example", PASS, PASS, ""),
        (
            "two authors",
            " a@signed.example, b@bounces.example",
            "pass / permerror",
            "pass / ",
            AMBIGUOUS,
        ),
        ("a group as author", " friends: a@signed.example;", PASS, PASS, ""),
        (
            "author without a domain",
            " a",
            "pass / permerror",
            "permerror / ",
            "the signature itself is good",
        ),
        ("author in another case", " a@SIGNED.Example", PASS, PASS, ""),
        (
            "author of a domain without policy",
            " a@bounces.example",
            "pass / none",
            "pass / none",
            "",
        ),
    ] {
        let mut signed = message(&[("From", from.as_bytes())], Some(BODY));
        sign_tags(Key::Rsa(2048), "rsa-sha256", &tags("rsa2048", ""), &NAMES, &mut signed);
        add(name, signed, ours, theirs, why);
    }
    cases
}

/// Sends a message to a milter and answers with its header then.
fn header(mut client: MilterClient, sender: &str, fields: &[Field], body: &[u8]) -> Vec<Field> {
    client.macros = [("j", "mta.example.org"), ("i", "4XyZ")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    client.connect("mail.client.example", Some(SocketAddr::from(([192, 0, 2, 9], 2525)))).unwrap();
    client.helo("mail.client.example").unwrap();
    assert_eq!(client.mail(sender).unwrap(), Reply::Continue);
    client.rcpt("<bob@rcpt.example.org>").unwrap();
    let finished = client.message(fields, body).unwrap();
    let header = if matches!(finished.reply, Reply::Continue | Reply::Accept) {
        finished.fields
    } else {
        vec![Field::new("Authentication-Results", format!(" refused; dkim={:?}", finished.reply))]
    };
    client.quit().unwrap();
    header
}

/// The results of DKIM, in order, and those of DMARC.
fn summary(header: &[Field]) -> String {
    let mut results = (Vec::new(), Vec::new());
    for field in header.iter().filter(|field| field.is("Authentication-Results")) {
        for part in field.unfolded().split(';') {
            let result =
                |method| part.trim().strip_prefix(method)?.split(' ').next().map(str::to_owned);
            results.0.extend(result("dkim="));
            results.1.extend(result("dmarc="));
        }
    }
    let (dkim, dmarc) = (results.0.join(" "), results.1.join(" "));
    format!("{dkim} / {dmarc}")
}

#[test]
#[ignore = "needs OpenDKIM, OpenDMARC, dkimpy and root: make test"]
fn side_by_side() {
    let zone = Arc::new(Zone::parse(&zone()).unwrap());
    let nameserver = nameserver_on_port_53(&zone);
    let daemon = Daemon::start(&complete_config(super::CONFIG, nameserver.address()));
    let opendkim = OpenDkim::verifier(nameserver.address());
    let opendmarc = OpenDmarc::start(nameserver.address(), &SUFFIXES);
    let mut table = String::new();
    let mut wrong = 0;
    for case in cases() {
        let body = case.message.body.as_deref().unwrap_or_default();
        let ours = summary(&header(daemon.client(), case.sender, &case.message.fields, body));
        let between = header(opendkim.client(), case.sender, &case.message.fields, body);
        let theirs = summary(&header(opendmarc.client(), case.sender, &between, body));
        let is_explained = (case.ours == case.theirs) == case.why.is_empty();
        if ours != case.ours || theirs != case.theirs || !is_explained {
            wrong += 1;
            writeln!(table, "{:<36} {ours:<30} {theirs:<30} {}", case.name, case.why).unwrap();
        }
    }
    assert_eq!(
        wrong,
        0,
        "otherwise than the table has it:\n{table}\n{}\n{}",
        opendkim.log(),
        opendmarc.log()
    );
}
