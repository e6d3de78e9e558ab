//! What relays make of strangers' words: the Received fields that they write, each with what it does
//! to HELO, reverse name, ident and sender before.

use spf_milter::mail::received::{Outcome, Walk};

/// The address of the client in every form.
pub const TRUE: &str = "203.0.113.66";

/// What is left of a stranger's word where the relay puts something for each such character.
fn without(word: &str, characters: &str, instead: &str) -> String {
    word.chars()
        .map(|c| if characters.contains(c) { instead.to_owned() } else { c.to_string() })
        .collect()
}

/// A sender's address as one that is valid: with a quoted local-part.
fn sender(word: &str) -> String {
    format!("<\"{}\"@evil.example>", without(word, "\"\t", ""))
}

/// A relay's field, made of a stranger's HELO, reverse name, ident and sender.
pub type Form = fn(&str, &str, &str, &str) -> String;

/// The forms, each with what its relay does to the words.
pub const FORMS: &[(&str, Form)] = &[
    ("Postfix", |helo, name, _, _| {
        let helo = without(helo, " \t()<>\"\\;@", "?");
        let name = without(name, " \t()<>\"\\;@[]", "");
        format!("from {helo} ({name} [{TRUE}])\n\tby gw.example (Postfix) with ESMTP id X; date")
    }),
    ("Postfix with a certificate", |helo, name, cn, _| {
        let helo = without(helo, " \t()<>\"\\;@", "?");
        let cn = without(cn, "()\"\\\t", "?");
        let name = without(name, " \t()<>\"\\;@[]", "");
        format!(
            "from {helo} ({name} [{TRUE}])\n\t(Client CN \"{cn}\", Issuer \"{cn}\" (not verified))\n\tby gw.example (Postfix) with ESMTPS id X; date"
        )
    }),
    ("Sendmail", |helo, name, ident, _| {
        let helo = without(helo, " \t()<>\"\\;", "");
        let ident = without(ident, "()\"", "");
        let name = without(name, " \t()<>\"\\;@", "");
        format!(
            "from {helo} ({ident}@{name} [{TRUE}])\n\tby gw (8.17.1/8.17.1) with ESMTP id X; date"
        )
    }),
    ("Sendmail without a name", |helo, _, ident, _| {
        let helo = without(helo, " \t()<>\"\\;", "");
        format!(
            "from {helo} ({}@[{TRUE}])\n\tby gw (8.17.1/8.17.1) with ESMTP id X; date",
            without(ident, "()\"", "")
        )
    }),
    ("Sendmail, a name that does not lead back", |helo, name, _, _| {
        let helo = without(helo, " \t()<>\"\\;", "");
        let name = without(name, " \t()<>\"\\;@", "");
        format!(
            "from {helo} ({name} [{TRUE}] (may be forged))\n\tby gw (8.17.1/8.17.1) with ESMTP id X; date"
        )
    }),
    ("Exim, all as it comes", |helo, name, ident, mail| {
        let name = without(name, " \t()<>\"\\;@[]", "");
        let mail = sender(mail);
        format!(
            "from {name} ([{TRUE}] helo={helo} ident={ident})\n\tby gw with esmtp (Exim 4.98)\n\t(envelope-from {mail})\n\tid X; date"
        )
    }),
    ("Exim without a name, all as it comes", |helo, _, ident, mail| {
        let mail = sender(mail);
        format!(
            "from [{TRUE}] (helo={helo} ident={ident})\n\tby gw with esmtp (Exim 4.98)\n\t(envelope-from {mail})\n\tid X; date"
        )
    }),
    ("Exim with a text of one's own", |helo, name, _, mail| {
        let name = without(name, " \t()<>\"\\;@[]", "");
        let helo = without(helo, " \t()", "");
        let mail = sender(mail);
        format!(
            "from {name} ([{TRUE}]) (helo={helo})\n\tby gw (Exim 4.96)\n\twith esmtps\n\t(envelope-from {mail}; tag=x)\n\tid X; date"
        )
    }),
    ("qmail", |helo, name, ident, _| {
        let odd = " \t()<>\"\\;'\u{fc}";
        let [helo, name, ident] = [helo, name, ident].map(|word| without(word, odd, "?"));
        format!("from {name} (HELO {helo}) ({ident}@{TRUE})\n  by gw with SMTP; date")
    }),
    ("IronPort", |helo, name, _, _| {
        let [helo, name] = [helo, name].map(|word| without(word, " \t()<>\"\\;'", "?"));
        format!("from {name} (HELO {helo}) ([{TRUE}])\n  by gw with ESMTP/TLS/AES256-SHA; date")
    }),
    ("Haraka, HELO up to the first white space", |helo, name, _, mail| {
        let helo = helo.split_whitespace().next().unwrap_or("x").to_owned();
        let name = without(name, " \t()", "");
        let mail = sender(mail);
        format!(
            "from {helo} ({name} [{TRUE}])\n\tby gw (Haraka/3.0.3) with ESMTP id X.1\n\tenvelope-from {mail};\n\tdate"
        )
    }),
    ("Exchange", |helo, _, _, _| {
        format!(
            "from {} ({TRUE}) by gw ([192.0.2.25]) with Microsoft SMTP Server id 15; date",
            without(helo, " \t()<>\"\\;", "")
        )
    }),
    ("maddy", |helo, name, _, mail| {
        let helo = without(helo, " \t()<>\"\\;", "");
        let name = without(name, " \t()<>\"\\;@[]", "");
        let mail = sender(mail);
        format!(
            "from {helo} ({name} [{TRUE}]) by gw (envelope-sender {mail}) with ESMTPS id X; date"
        )
    }),
    ("MDaemon over IPv6", |helo, _, _, mail| {
        let helo = without(helo, " \t()", "");
        let mail = sender(mail);
        format!("from {helo} by gw (MDaemon PRO v23.0.2d)\n\twith ESMTPS id X for {mail}; date")
    }),
    ("CommuniGate without a name, HELO as it comes", |helo, _, _, _| {
        format!("from [{TRUE}] (HELO {helo}) by gw (CommuniGate Pro SMTP 6) with ESMTP id 1; date")
    }),
    ("ZMailer, HELO as it comes", |helo, name, _, _| {
        let name = without(name, " \t()<>\"\\;@[]", "");
        format!(
            "from {name} ([{TRUE}]:40457 \"EHLO {helo}\" rhost-flags) by gw with ESMTP id X; date"
        )
    }),
    ("Qsmtpd, HELO as it comes", |helo, name, _, _| {
        let name = without(name, " \t()<>\"\\;@[]", "");
        format!("from {name} ([{TRUE}]:37098 HELO {helo}) by gw with ESMTPS; date")
    }),
    ("Courier", |helo, name, _, mail| {
        let helo = without(helo, " \t()", "");
        let name = without(name, " \t()<>\"\\;@[]", "");
        let mail = sender(mail);
        format!(
            "from {helo} ({name} [::ffff:{TRUE}])\n  (TLS: TLS1.3,256bits)\n  by gw with ESMTPS\n  id X (for {mail}); date"
        )
    }),
];

/// Whether a field of a relay's, with a stranger's words in it, can do no harm: it names the true
/// client, or it cannot be read.
pub fn is_harmless(value: &str) -> bool {
    let mut walk = Walk::new(true);
    // Nothing is inside, so that a hop that is passed over shows as well.
    walk.read(value.as_bytes(), |_| false);
    match walk.finish() {
        Outcome::Client(client) => client.address.to_string() == TRUE,
        Outcome::Unreadable(_) => true,
        _ => false,
    }
}
