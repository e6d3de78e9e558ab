//! The public suites, where the environment variable CORPUS names a folder that has them:
//! `make test CORPUS=DIR`. Without it they pass unseen.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod content;
mod dkim;
mod dmarc;
mod received;
mod spf;
mod spf_milter;

use testkit::corpus::Message;

#[test]
fn messages_are_taken_apart_as_an_mta_does() {
    let message = Message::parse(b"From x\nA: b\n\tc\nFrom:d\n\nbody\r\n\nend");
    let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    assert_eq!(message.fields, [field("A", " b\n\tc"), field("From", "d")]);
    assert_eq!(message.body, b"body\r\n\r\nend\r\n");
    assert_eq!(Message::parse(b"A: b\nno field\n").body, b"no field\r\n");
}
