//! A form of a relay's Received field, by its number, and a stranger's HELO, reverse name, ident and
//! sender in it, each with its length before it.

use super::Input;
use crate::models::relays::{FORMS, is_harmless};

pub fn check(octets: &[u8]) {
    let mut input = Input(octets);
    let number = usize::from(input.octet()) % FORMS.len();
    let (relay, form) = FORMS[number];
    // No line break comes over SMTP within a command.
    let [helo, name, ident, sender] = [(); 4].map(|()| input.text().replace(['\r', '\n'], ""));
    let value = form(&helo, &name, &ident, &sender);
    assert!(is_harmless(&value), "{relay}: {value:?}");
}
