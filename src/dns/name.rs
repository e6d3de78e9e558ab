//! Names as DNS is asked for them.

use std::{fmt, fmt::Write as _, net::IpAddr, sync::Arc};

use crate::mail::domain::{Domain, MAX_DOMAIN_LENGTH};

/// A name that can be looked up: lower case, without the last dot.
///
/// Wider than [`Domain`]: macro-strings (RFC 7208 §7) can put any ASCII character into a label.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name(Arc<str>);

impl Name {
    /// Makes a name of text: labels of 1 to 63 octets separated by dots, 253 octets at most, one
    /// dot at the end allowed.
    ///
    /// `None` for anything else, and for text that is not ASCII: no such name can be asked for (RFC
    /// 8616 §4).
    pub fn new(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let fits = text.len() <= MAX_DOMAIN_LENGTH
            && text.is_ascii()
            && text.split('.').all(|label| (1..=63).contains(&label.len()));
        if !fits {
            return None;
        }
        let mut name: Arc<str> = text.into();
        Arc::make_mut(&mut name).make_ascii_lowercase();
        Some(Self(name))
    }

    /// The name below `in-addr.arpa` or `ip6.arpa` that stands for an address.
    pub fn reverse(address: IpAddr) -> Self {
        let mut text = String::with_capacity(72);
        // Writing to a `String` cannot fail.
        match address {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                let _ = write!(text, "{d}.{c}.{b}.{a}.in-addr.arpa");
            }
            IpAddr::V6(address) => {
                for octet in address.octets().iter().rev() {
                    let _ = write!(text, "{:x}.{:x}.", octet & 0xf, octet >> 4);
                }
                text.push_str("ip6.arpa");
            }
        }
        Self(text.into())
    }

    /// The name as shared text.
    pub fn to_shared_text(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The name as text: lower case, no last dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&Domain> for Name {
    fn from(domain: &Domain) -> Self {
        Self(domain.to_shared_text())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(Name::new("Mail.Example.COM.").unwrap().as_str(), "mail.example.com");
        assert_eq!(Name::new("o'neil \"x\".example").unwrap().as_str(), "o'neil \"x\".example");
        for bad in ["", ".", "a..b", ".a", "bücher.example", &"a.".repeat(130), &"a".repeat(64)] {
            assert_eq!(Name::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn reverse_names() {
        let reverse = |text: &str| Name::reverse(text.parse().unwrap()).to_string();
        assert_eq!(reverse("192.0.2.1"), "1.2.0.192.in-addr.arpa");
        assert_eq!(
            reverse("2001:db8::cb01"),
            "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
    }
}
