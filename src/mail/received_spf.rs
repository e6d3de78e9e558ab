//! Received-SPF (RFC 7208 §9.1): written into a header field, and read back.

#[cfg(any(test, feature = "testing"))]
use super::lexer::{Cursor, ParseError, ParseErrorKind};
use super::{
    envelope::EMPTY_PATH,
    header_field::{Folding, HeaderField},
    ip_address::push_address,
    results::words,
    spf_result::SpfResult,
    tokens,
};
use std::{borrow::Cow, net::IpAddr};

/// The name of the header field.
pub const NAME: &str = "Received-SPF";

words! {
    /// An identity that SPF verifies (RFC 7208 §2.3, §2.4).
    #[derive(Ord, PartialOrd)]
    Identity {
        /// The name that the client gave in HELO or EHLO.
        Helo = "helo",
        /// The reverse-path.
        Mailfrom = "mailfrom",
    }
}

/// A Received-SPF header field: the result of one identity.
///
/// Text is as it was received, without quotes or angle brackets of its own; it reads back as it was
/// written, unless [`shorten`](tokens::shorten) has to cut it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReceivedSpf<'a> {
    /// The result.
    pub result: SpfResult,
    /// A remark for people; [`describe`] makes one.
    pub comment: Option<Cow<'a, str>>,
    /// The name of the host that verified.
    pub receiver: Option<Cow<'a, str>>,
    /// The address of the client; an IPv4-mapped one is written as IPv4.
    pub client_ip: Option<IpAddr>,
    /// The name in HELO or EHLO.
    pub helo: Option<Cow<'a, str>>,
    /// The reverse-path; `postmaster@` and the HELO name for an empty one.
    pub envelope_from: Option<Cow<'a, str>>,
    /// The identity that was verified.
    pub identity: Option<Identity>,
    /// The mechanism that matched, `default` when none did.
    pub mechanism: Option<Cow<'a, str>>,
    /// Why the result is temperror or permerror.
    pub problem: Option<Cow<'a, str>>,
}

impl ReceivedSpf<'_> {
    /// A field with a result, and nothing more to say.
    pub fn new(result: SpfResult) -> Self {
        Self {
            result,
            comment: None,
            receiver: None,
            client_ip: None,
            helo: None,
            envelope_from: None,
            identity: None,
            mechanism: None,
            problem: None,
        }
    }

    /// Writes the header field.
    ///
    /// ```text
    /// header-field   = "Received-SPF:" [CFWS] result [FWS comment] [FWS key-value-list] [FWS] CRLF
    /// key-value-list = key-value-pair *( ";" [CFWS] key-value-pair ) [";"]
    /// key-value-pair = key [CFWS] "=" ( dot-atom / quoted-string )
    /// ```
    ///
    /// `[FWS]` by erratum 5436.
    pub fn write(&self) -> HeaderField {
        let mut field = Folding::new(NAME);
        field.push(self.result.as_str());
        if let Some(comment) = &self.comment {
            tokens::write_comment(comment, |word| field.push(word));
        }
        let mut client_ip = String::with_capacity(40);
        if let Some(ip) = self.client_ip {
            push_address(&mut client_ip, ip.to_canonical());
        }
        let pairs = [
            ("receiver", self.receiver.as_deref()),
            ("client-ip", self.client_ip.map(|_| client_ip.as_str())),
            ("helo", self.helo.as_deref()),
            ("envelope-from", self.envelope_from.as_deref()),
            ("identity", self.identity.map(Identity::as_str)),
            ("mechanism", self.mechanism.as_deref()),
            ("problem", self.problem.as_deref()),
        ];
        let mut first = true;
        for (key, value) in pairs {
            let Some(value) = value else { continue };
            if !first {
                field.attach(";");
            }
            first = false;
            field.push_with(|chunk| {
                chunk.push_str(key);
                chunk.push('=');
                push_value(chunk, value);
            });
        }
        field.finish()
    }

    /// Reads the value of a header field, folded or not. Unknown keys are skipped; of a key given
    /// twice the first counts.
    ///
    /// # Errors
    ///
    /// Where the field cannot be read, and why.
    #[cfg(any(test, feature = "testing"))]
    pub fn parse(value: &[u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(value);
        cursor.skip_cfws()?;
        let error = cursor.error(ParseErrorKind::Unexpected);
        let mut field = Self::new(SpfResult::parse(&read_word(&mut cursor)).ok_or(error)?);
        field.comment = cursor.skip_cfws()?.map(Cow::Owned);
        while !cursor.is_at_end() {
            let error = cursor.error(ParseErrorKind::Unexpected);
            let key = read_word(&mut cursor);
            cursor.skip_cfws()?;
            if key.is_empty() || !cursor.take(b'=') {
                return Err(error);
            }
            cursor.skip_cfws()?;
            let value = if cursor.peek() == Some(b'"') {
                cursor.quoted_string()?
            } else {
                read_dot_atom(&mut cursor)?
            };
            field.set(&key, value).map_err(|()| error)?;
            cursor.skip_cfws()?;
            if !cursor.take(b';') && !cursor.is_at_end() {
                return Err(cursor.error(ParseErrorKind::Unexpected));
            }
            cursor.skip_cfws()?;
        }
        Ok(field)
    }

    #[cfg(any(test, feature = "testing"))]
    fn set(&mut self, key: &str, value: String) -> Result<(), ()> {
        let text = match key {
            "receiver" => &mut self.receiver,
            "helo" => &mut self.helo,
            "envelope-from" => &mut self.envelope_from,
            "mechanism" => &mut self.mechanism,
            "problem" => &mut self.problem,
            "client-ip" => {
                let ip = value.parse().map_err(|_| ())?;
                self.client_ip.get_or_insert(ip);
                return Ok(());
            }
            "identity" => {
                let identity = [Identity::Helo, Identity::Mailfrom]
                    .into_iter()
                    .find(|identity| identity.as_str() == value);
                self.identity = self.identity.or(identity);
                return Ok(());
            }
            _ => return Ok(()),
        };
        text.get_or_insert(value.into());
        Ok(())
    }
}

/// Words for people about a result, to go into the comment.
///
/// The sender is the domain of the HELO identity or the address of the MAIL FROM identity.
pub fn describe(
    result: SpfResult,
    identity: Identity,
    sender: &str,
    client_ip: Option<IpAddr>,
    receiver: &str,
) -> String {
    let mut text = String::with_capacity(160);
    if !receiver.is_empty() {
        text.push_str(receiver);
        text.push_str(": ");
    }
    text.push_str(match identity {
        Identity::Helo => "domain ",
        Identity::Mailfrom => "domain of ",
    });
    text.push_str(&tokens::shorten(sender));
    text.push_str(match result {
        SpfResult::None => " publishes no SPF record to go by",
        SpfResult::Neutral => " neither permits nor denies ",
        SpfResult::Pass => " permits ",
        SpfResult::Fail => " denies ",
        SpfResult::Softfail => " probably denies ",
        SpfResult::Temperror => " could not be asked about ",
        SpfResult::Permerror => " has no SPF records that can be evaluated for ",
    });
    match client_ip {
        _ if result == SpfResult::None => {}
        Some(client_ip) => push_address(&mut text, client_ip.to_canonical()),
        None => text.push_str("client without address"),
    }
    if result == SpfResult::Temperror {
        text.push_str(", DNS error that may pass");
    }
    text
}

/// Words for people about a sender without a domain, of whom nothing can be found out.
pub fn describe_without_domain(sender: &str, receiver: &str) -> String {
    let receiver = if receiver.is_empty() { String::new() } else { [receiver, ": "].concat() };
    if sender == EMPTY_PATH {
        return receiver + "the reverse-path is empty, and there is no HELO name to go by";
    }
    [&receiver, &*tokens::shorten(sender), " has no domain to go by"].concat()
}

/// Adds a value: a dot-atom as it is, anything else as a quoted string.
fn push_value(chunk: &mut String, value: &str) {
    let value = tokens::shorten(value);
    if tokens::is_dot_atom(&value) && !tokens::may_begin_encoded_word(&value) {
        chunk.push_str(&value);
    } else {
        tokens::push_quoted(chunk, &value);
    }
}

/// Reads a result or key, in lower case.
#[cfg(any(test, feature = "testing"))]
fn read_word(cursor: &mut Cursor<'_>) -> String {
    let octets =
        cursor.take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    String::from_utf8_lossy(octets).to_ascii_lowercase()
}

#[cfg(any(test, feature = "testing"))]
fn read_dot_atom(cursor: &mut Cursor<'_>) -> Result<String, ParseError> {
    let error = cursor.error(ParseErrorKind::NoWord);
    let octets = cursor.take_while(|b| b == b'.' || tokens::is_atom_octet(b) || !b.is_ascii());
    if octets.is_empty() { Err(error) } else { Ok(String::from_utf8_lossy(octets).into_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn full() -> ReceivedSpf<'static> {
        let client_ip = Some("192.0.2.1".parse().unwrap());
        let (sender, receiver) = ("u@example.com", "mail.receiver.example");
        ReceivedSpf {
            comment: Some(
                describe(SpfResult::Pass, Identity::Mailfrom, sender, client_ip, receiver).into(),
            ),
            receiver: Some(receiver.into()),
            client_ip,
            helo: Some("[192.0.2.1]".into()),
            envelope_from: Some(sender.into()),
            identity: Some(Identity::Mailfrom),
            mechanism: Some("ip4:192.0.2.1".into()),
            ..ReceivedSpf::new(SpfResult::Pass)
        }
    }

    #[test]
    fn values_that_are_no_dot_atoms_are_quoted() {
        let field = full().write();
        assert_eq!(field.name, "Received-SPF");
        let expected = concat!(
            "pass (mail.receiver.example: domain of u@example.com permits\n",
            " 192.0.2.1) receiver=mail.receiver.example; client-ip=192.0.2.1;\n",
            " helo=\"[192.0.2.1]\"; envelope-from=\"u@example.com\"; identity=mailfrom;\n",
            " mechanism=\"ip4:192.0.2.1\"",
        );
        assert_eq!(field.value, expected);
        assert_eq!(ReceivedSpf::parse(field.value.as_bytes()), Ok(full()));
    }

    #[test]
    fn client_addresses() {
        let write = |ip: &str| {
            ReceivedSpf {
                client_ip: Some(ip.parse().unwrap()),
                ..ReceivedSpf::new(SpfResult::None)
            }
            .write()
            .value
        };
        assert_eq!(write("2001:db8::1"), "none client-ip=\"2001:db8::1\"");
        assert_eq!(write("::ffff:192.0.2.1"), "none client-ip=192.0.2.1");
        assert_eq!(ReceivedSpf::new(SpfResult::None).write().value, "none");
    }

    #[test]
    fn fields_of_others_are_read() {
        let field = ReceivedSpf::parse(
            b" Pass (mybox.example.org: domain of\r\n myname@example.com (really) designates 192.0.2.1 as permitted sender)\r\n\treceiver=mybox.example.org;\
              client-ip = 192.0.2.1; x-extra=1; envelope-from=\"myname@example.com\"; helo=foo.example.com; helo=second; identity=pra;",
        )
        .unwrap();
        assert_eq!(field.result, SpfResult::Pass);
        assert_eq!(field.helo.as_deref(), Some("foo.example.com"));
        assert_eq!(field.envelope_from.as_deref(), Some("myname@example.com"));
        assert_eq!(field.identity, None);
        assert!(field.comment.unwrap().contains("(really)"));
        for bad in [
            "",
            "maybe",
            "pass x",
            "pass helo=",
            "pass helo=a b=c",
            "pass client-ip=1",
            "pass (x",
            "pass helo=\"x",
            "pass helo=a\nb",
        ] {
            assert!(ReceivedSpf::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_result_is_described() {
        let results = ["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"];
        let texts = results.map(|result| {
            describe(
                SpfResult::parse(result).unwrap(),
                Identity::Helo,
                "example.com",
                None,
                "mx.example",
            )
        });
        for (at, text) in texts.iter().enumerate() {
            assert!(text.starts_with("mx.example: domain example.com "), "{text}");
            assert!(!texts.iter().skip(at + 1).any(|other| other == text), "{text}");
        }
    }

    #[test]
    fn senders_without_a_domain_are_described() {
        assert_eq!(
            describe_without_domain("alice", "mx.example"),
            "mx.example: alice has no domain to go by"
        );
        let empty = "the reverse-path is empty, and there is no HELO name to go by";
        assert_eq!(describe_without_domain("<>", ""), empty);
        assert_eq!(describe_without_domain("<>", "mx.example"), format!("mx.example: {empty}"));
    }

    /// Readers without quoted-pairs, and readers that cut only at semicolons outside of quoted
    /// strings.
    #[test]
    fn nothing_breaks_out_of_a_value() {
        let field = ReceivedSpf {
            helo: Some("a\"b.x; problem=\"".into()),
            ..ReceivedSpf::new(SpfResult::Fail)
        }
        .write();
        assert_eq!(field.value, "fail helo=\"a\\\\x{22}b.x; problem=\\\\x{22}\"");
        let field =
            ReceivedSpf { comment: Some("a) b (c".into()), ..ReceivedSpf::new(SpfResult::Fail) }
                .write();
        assert_eq!(field.value, "fail (a\\\\x{29} b \\\\x{28}c)");
    }

    #[test]
    fn long_names_stay_within_lines() {
        let (sender, helo) = (format!("{}@example.com", "l".repeat(5000)), "h".repeat(5000));
        let comment = describe(SpfResult::Fail, Identity::Mailfrom, &sender, None, "mx.example");
        let field = ReceivedSpf {
            comment: Some(comment.into()),
            helo: Some(helo.into()),
            envelope_from: Some(sender.into()),
            ..full()
        }
        .write();
        assert!(field.value.split('\n').all(|line| line.len() <= 998));
        assert!(field.value.contains("l...@example.com\""));
        assert!(ReceivedSpf::parse(field.value.as_bytes()).is_ok());
    }

    fn text() -> impl Strategy<Value = Option<Cow<'static, str>>> {
        prop::option::of(prop_oneof![
            ".{0,60}",
            "[ -~]{0,60}",
            "[\\x00-\\x20\\\\\"();=?@.ax{}é]{0,60}",
            "[a-z.@\\\\\"]{0,2000}"
        ])
        .prop_map(|text| text.map(Cow::Owned))
    }

    proptest! {
        #[test]
        fn fields_read_back(
            comment in text(), receiver in text(), helo in text(), envelope_from in text(), mechanism in text(), problem in text(),
            ip: Option<IpAddr>,
        ) {
            let comment = comment.map(|text| text.split(' ').map(tokens::shorten).collect::<Vec<_>>().join(" ").into());
            let shorten = |text: Option<Cow<'static, str>>| text.map(|text| tokens::shorten(&text).into_owned().into());
            let written = ReceivedSpf {
                result: SpfResult::Fail,
                comment,
                receiver: receiver.clone(),
                client_ip: ip.map(|ip| ip.to_canonical()),
                helo: helo.clone(),
                envelope_from: envelope_from.clone(),
                identity: Some(Identity::Helo),
                mechanism: mechanism.clone(),
                problem: problem.clone(),
            };
            let field = written.write();
            crate::mail::header_field::check_lines(&field);
            let expected = ReceivedSpf {
                receiver: shorten(receiver),
                helo: shorten(helo),
                envelope_from: shorten(envelope_from),
                mechanism: shorten(mechanism),
                problem: shorten(problem),
                ..written
            };
            prop_assert_eq!(ReceivedSpf::parse(field.value.as_bytes()), Ok(expected));
        }

        #[test]
        fn reading_never_panics(value: Vec<u8>) {
            let _ = ReceivedSpf::parse(&value);
        }
    }
}
