//! Macro expansion (RFC 7208 §7), octet by octet.

use std::net::IpAddr;

/// The values of macros.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    pub client: IpAddr,
    pub local_part: &'a str,
    pub sender_domain: &'a str,
    pub domain: &'a str,
    pub helo: &'a str,
    pub receiver: &'a str,
    pub timestamp: u64,
}

/// Expands an explain-string (RFC 7208 §6.2, §7.1); `None` where it breaks the grammar.
///
/// ```text
/// explain-string   = *( macro-string / SP )
/// macro-string     = *( macro-expand / macro-literal )
/// macro-expand     = ( "%{" macro-letter transformers *delimiter "}" ) / "%%" / "%_" / "%-"
/// macro-literal    = %x21-24 / %x26-7E
/// macro-letter     = "s" / "l" / "o" / "d" / "i" / "p" / "h" / "c" / "r" / "t" / "v"
/// transformers     = *DIGIT [ "r" ]
/// delimiter        = "." / "-" / "+" / "," / "/" / "_" / "="
/// ```
///
/// `%{p}` is `unknown`: the client has no name.
pub fn expand(text: &[u8], values: &Values<'_>) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((&octet, after)) = rest.split_first() {
        rest = after;
        if octet != b'%' {
            if !(0x20..=0x7e).contains(&octet) {
                return None;
            }
            out.push(char::from(octet));
            continue;
        }
        let (&kind, after) = rest.split_first()?;
        rest = after;
        match kind {
            b'%' => out.push('%'),
            b'_' => out.push(' '),
            b'-' => out.push_str("%20"),
            b'{' => {
                let end = rest.iter().position(|octet| *octet == b'}')?;
                out.push_str(&expand_one(&rest[..end], values)?);
                rest = &rest[end + 1..];
            }
            _ => return None,
        }
    }
    Some(out)
}

fn expand_one(text: &[u8], values: &Values<'_>) -> Option<String> {
    let (&letter, rest) = text.split_first()?;
    let value = value(letter.to_ascii_lowercase(), values)?;
    let digits = rest.iter().take_while(|octet| octet.is_ascii_digit()).count();
    let (digits, rest) = rest.split_at(digits);
    let (reverse, delimiters) = match rest.split_first() {
        Some((b'r' | b'R', rest)) => (true, rest),
        _ => (false, rest),
    };
    if !delimiters.iter().all(|octet| b".-+,/_=".contains(octet)) {
        return None;
    }
    let delimiters: Vec<char> = if delimiters.is_empty() {
        vec!['.']
    } else {
        delimiters.iter().map(|d| char::from(*d)).collect()
    };
    let keep = if digits.is_empty() {
        usize::MAX
    } else {
        // "The DIGIT transformer [...] MUST be nonzero"; more parts than any name has are all
        // parts.
        let number = digits.iter().fold(0_usize, |number, digit| {
            number.saturating_mul(10).saturating_add(usize::from(digit - b'0'))
        });
        if number == 0 {
            return None;
        }
        number
    };
    let mut parts: Vec<String> = vec![String::new()];
    for c in value.chars() {
        if delimiters.contains(&c) {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(c);
        }
    }
    if reverse {
        parts.reverse();
    }
    while parts.len() > keep {
        parts.remove(0);
    }
    // Without a transformer or a delimiter nothing is split, and joining with dots gives what was
    // there.
    let joined = parts.join(".");
    if !letter.is_ascii_uppercase() {
        return Some(joined);
    }
    let mut escaped = String::new();
    for octet in joined.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(octet))
            }
            _ => escaped.push_str(&format!("%{octet:02X}")),
        }
    }
    Some(escaped)
}

fn value(letter: u8, values: &Values<'_>) -> Option<String> {
    Some(match letter {
        b's' => format!("{}@{}", values.local_part, values.sender_domain),
        b'l' => values.local_part.to_owned(),
        b'o' => values.sender_domain.to_owned(),
        b'd' => values.domain.to_owned(),
        b'i' => match values.client {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => {
                let digits =
                    address.octets().iter().map(|octet| format!("{octet:02X}")).collect::<String>();
                digits.chars().map(String::from).collect::<Vec<_>>().join(".")
            }
        },
        b'p' => "unknown".to_owned(),
        b'v' => if values.client.is_ipv4() { "in-addr" } else { "ip6" }.to_owned(),
        b'h' => values.helo.to_owned(),
        b'c' => values.client.to_string(),
        b'r' => values.receiver.to_owned(),
        b't' => values.timestamp.to_string(),
        _ => return None,
    })
}
