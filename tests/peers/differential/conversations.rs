//! Milter conversations of all orders, against themselves in other chunks and beside a reload.

use super::cases::{Random, rounds};
use testkit::fuzz;

fn push(input: &mut Vec<u8>, command: u8, content: &[u8]) {
    let content = &content[..content.len().min(255)];
    input.push(command);
    input.push(u8::try_from(content.len()).unwrap());
    input.extend_from_slice(content);
}

fn message(random: &mut Random, input: &mut Vec<u8>) {
    let paths = [
        "<u@example.com>",
        "<>",
        "<u@bad.example.com>",
        "<u@slow.example.com>",
        "u@example.com",
        "<u@q.example.com>",
        "<\"a b\"@example.com>",
    ];
    push(input, b'M', random.pick(&paths).as_bytes());
    if random.once_in(3) {
        push(input, b'R', b"<rcpt@example.org>");
    }
    if random.once_in(12) {
        return push(input, b'A', b"");
    }
    for _ in 0..random.below(6) {
        let (name, value) = match random.below(6) {
            0 => (
                "From",
                random.pick(&[
                    " a@example.com",
                    " a@q.example.com",
                    " a@x.example, b@example.com",
                    " <",
                    "",
                ]),
            ),
            1 => (
                "Authentication-Results",
                random.pick(&[
                    " mx.example.org; spf=pass",
                    " other.example; spf=pass",
                    " mx.example.org",
                    "",
                ]),
            ),
            2 => (
                "DKIM-Signature",
                random.pick(&[
                    " v=1",
                    " v=1; a=ed25519-sha256; d=example.com; s=ed; h=from; bh=AAAA; b=AAAA",
                ]),
            ),
            3 => ("Subject", random.pick(&[" x", "\n x", "  y\n\tz"])),
            4 => ("List-Id", " <list.example.com>"),
            _ => ("X", random.pick(&["", " ", "\tx"])),
        };
        push(input, b'L', &[name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    push(input, b'N', b"");
    for _ in 0..random.below(4) {
        let length = random.near(&[0, 64, 200]);
        push(input, b'B', &b"line\r\n".repeat(40)[..length.min(240)]);
    }
    push(input, b'E', if random.once_in(3) { b"the end\r\n" } else { b"" });
}

#[test]
fn chunks_and_reloads_change_nothing() {
    let mut random = Random::new("conversations");
    let count = rounds(20, 300);
    for _ in 0..count {
        let mut input = vec![random.octet(), random.octet()];
        for _ in 0..random.within(1..3) {
            let address = random.pick(&["192.0.2.1", "203.0.113.9", "192.0.2.200", "198.51.100.1"]);
            push(
                &mut input,
                b'C',
                &[b"mail.example.com\x004\x9c\x49", address.as_bytes(), b"\0"].concat(),
            );
            for _ in 0..random.below(3) {
                push(
                    &mut input,
                    b'H',
                    random
                        .pick(&["mail.example.com", "bad.example.com", "[192.0.2.1]", "x"])
                        .as_bytes(),
                );
            }
            for _ in 0..random.below(4) {
                if random.once_in(4) {
                    push(&mut input, b'D', b"Mi\x004Q1\0{auth_authen}\0user\0");
                }
                message(&mut random, &mut input);
            }
            push(&mut input, b'K', b"");
        }
        if random.once_in(10) {
            let at = random.below(input.len());
            input[at] = random.octet();
        }
        fuzz::run("conversation", &input);
    }
    println!("conversations: {count}, each in three ways");
}
