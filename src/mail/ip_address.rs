//! IP addresses as text.

use std::net::{IpAddr, Ipv4Addr};

/// Adds an address as text, as its `Display` does. Every message has some: that of IPv4 is written
/// without the formatting machinery.
pub fn push_address(text: &mut String, address: IpAddr) {
    match address {
        IpAddr::V4(address) => push_v4(text, address),
        IpAddr::V6(address) => text.push_str(&address.to_string()),
    }
}

fn push_v4(text: &mut String, address: Ipv4Addr) {
    for (position, octet) in address.octets().into_iter().enumerate() {
        if position > 0 {
            text.push('.');
        }
        let digit = |divisor: u8| char::from(b'0' + octet / divisor % 10);
        if octet >= 100 {
            text.push(digit(100));
        }
        if octet >= 10 {
            text.push(digit(10));
        }
        text.push(digit(1));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_displayed(address: IpAddr) {
            let mut text = "x".to_owned();
            push_address(&mut text, address);
            prop_assert_eq!(text, format!("x{address}"));
        }
    }

    #[test]
    fn every_octet() {
        for octet in 0..=u8::MAX {
            let mut text = String::new();
            push_address(&mut text, [octet, 0, octet, 255].into());
            assert_eq!(text, format!("{octet}.0.{octet}.255"));
        }
    }
}
