//! Received-SPF (RFC 7208 §9.1), written into a header field.

use super::{
    envelope::EMPTY_PATH,
    header_field::{Folding, HeaderField},
    ip_address::push_address,
    results::{SpfResult, words},
    tokens,
};
use std::{borrow::Cow, net::IpAddr};

/// The name of the header field.
pub const NAME: &str = "Received-SPF";

words! {
    /// An identity that SPF verifies (RFC 7208 §2.3, §2.4).
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
    /// A remark for people; [`push_description`] makes one.
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
            field.push_comment(comment);
        }
        let mut pairs = Pairs { field: &mut field, has_one: false };
        pairs.add("receiver=", self.receiver.as_deref(), push_value);
        pairs.add("client-ip=", self.client_ip.map(|ip| ip.to_canonical()), push_client_ip);
        pairs.add("helo=", self.helo.as_deref(), push_value);
        pairs.add("envelope-from=", self.envelope_from.as_deref(), push_value);
        // A word of ours, which is a dot-atom.
        pairs.add("identity=", self.identity, |chunk, identity| chunk.push_str(identity.as_str()));
        pairs.add("mechanism=", self.mechanism.as_deref(), push_value);
        pairs.add("problem=", self.problem.as_deref(), push_value);
        field.finish()
    }
}

/// The pairs of keys and values of a field.
struct Pairs<'a> {
    field: &'a mut Folding,
    has_one: bool,
}

impl Pairs<'_> {
    /// Adds a pair with the value, if there is one. Inlined, for the keys are known when the program is
    /// compiled.
    #[inline]
    fn add<T>(&mut self, key: &str, value: Option<T>, push_value: impl FnOnce(&mut String, T)) {
        let Some(value) = value else { return };
        if std::mem::replace(&mut self.has_one, true) {
            self.field.attach(";");
        }
        self.field.push_with(|chunk| {
            chunk.push_str(key);
            push_value(chunk, value);
        });
    }
}

/// The words of [`push_description`].
#[cfg(any(test, feature = "testing"))]
pub fn describe(
    result: SpfResult,
    identity: Identity,
    sender: &str,
    client_ip: Option<IpAddr>,
    receiver: &str,
) -> String {
    let mut text = String::new();
    push_description(&mut text, result, identity, sender, client_ip, receiver);
    text
}

/// Adds words for people about a result, to go into the comment.
///
/// The sender is the domain of the HELO identity or the address of the MAIL FROM identity.
pub fn push_description(
    text: &mut String,
    result: SpfResult,
    identity: Identity,
    sender: &str,
    client_ip: Option<IpAddr>,
    receiver: &str,
) {
    // There is room for the words and the address.
    text.reserve(receiver.len() + sender.len() + 128);
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
        Some(client_ip) => push_address(text, client_ip.to_canonical()),
        None => text.push_str("client without address"),
    }
    if result == SpfResult::Temperror {
        text.push_str(", DNS error that may pass");
    }
}

/// Words for people about a sender without a domain, of whom nothing can be found out.
pub fn describe_without_domain(sender: &str, receiver: &str) -> String {
    let receiver = if receiver.is_empty() { String::new() } else { [receiver, ": "].concat() };
    if sender == EMPTY_PATH {
        return receiver + "the reverse-path is empty, and there is no HELO name to go by";
    }
    [&receiver, &*tokens::shorten(sender), " has no domain to go by"].concat()
}

/// Words for people about a sender whose client is not known, so that there is nothing to verify.
pub fn describe_without_client(sender: &str, receiver: &str) -> String {
    let receiver = if receiver.is_empty() { String::new() } else { [receiver, ": "].concat() };
    [&receiver, "the client that sent for ", &*tokens::shorten(sender), " is not known"].concat()
}

/// Adds an address: that of IPv4 is a dot-atom, that of IPv6 is not.
fn push_client_ip(chunk: &mut String, address: IpAddr) {
    match address {
        IpAddr::V4(_) => push_address(chunk, address),
        IpAddr::V6(_) => push_value(chunk, &address.to_string()),
    }
}

/// Adds a value: a dot-atom as it is, anything else as a quoted string.
fn push_value(chunk: &mut String, value: &str) {
    let value = tokens::shorten(value);
    if tokens::is_harmless_dot_atom(&value) {
        chunk.push_str(&value);
    } else {
        tokens::push_quoted(chunk, &value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let identity = Some(Identity::Mailfrom);
        let field = ReceivedSpf { identity, ..ReceivedSpf::new(SpfResult::Pass) }.write();
        assert_eq!(field.value, "pass identity=mailfrom");
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
}
