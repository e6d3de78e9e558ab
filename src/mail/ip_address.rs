//! IP addresses as text.

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr},
};

thread_local! {
    /// The address that this thread wrote last, and its text.
    static LAST: RefCell<Option<(IpAddr, String)>> = const { RefCell::new(None) };
}

/// Adds an address as text, as its `Display` does. That of a client is written several times for
/// each message, one time after the other.
pub fn push_address(text: &mut String, address: IpAddr) {
    LAST.with_borrow_mut(|last| match last {
        Some((known, written)) if *known == address => text.push_str(written),
        _ => {
            let written = last.insert((address, String::with_capacity(15)));
            push(&mut written.1, address);
            text.push_str(&written.1);
        }
    });
}

/// Adds an address: one of IPv4 without the formatting machinery.
fn push(text: &mut String, address: IpAddr) {
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
        fn as_displayed(addresses in proptest::collection::vec((any::<IpAddr>(), 1_usize..3), 0..4)) {
            for (address, times) in addresses {
                for _ in 0..times {
                    let mut text = "x".to_owned();
                    push_address(&mut text, address);
                    prop_assert_eq!(text, format!("x{address}"));
                }
            }
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
