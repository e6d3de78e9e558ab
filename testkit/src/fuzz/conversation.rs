//! A whole milter conversation: it ends, each question has the answers that it should have, and
//! neither the borders of what is read at once nor a reload change anything.
//!
//! The first octet chooses the configuration, the second one the chunks. Then packets: the command,
//! the number of octets, the octets; with the command `!` they go out as they are, without a packet
//! around them.

use std::{path::Path, sync::Arc, sync::LazyLock};

use spf_milter::{
    config::{Config, LogLevel, Overrides, load_text},
    dns::{Dns, zone::Zone},
    log::Log,
    milter::{Server, testing::serve},
    observe::Observer,
    runtime::{Clock, Runtime, Shared},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::watch,
};

use super::Input;

const CONFIGS: [&str; 6] = [
    "verify_dkim = yes\nverify_dmarc = yes\nheader = Received-SPF, Authentication-Results\ndmarc_quarantine_action = quarantine\ndmarc_reject_action = reject\n",
    "header = Authentication-Results\nreject_helo_results = fail, permerror\n",
    "verify_dkim = yes\ntrusted_networks = 192.0.2.128/25\ndelete_incoming_authentication_results = yes\ndry_run = yes\n",
    "verify_dkim = yes\nverify_dmarc = yes\ndefer_spf_rejection = yes\nheader = Authentication-Results\ndmarc_reject_action = reject\nfail_reply_text_exp = %{exp} %{s} %{p}\n",
    "verify_dkim = yes\nverify_dmarc = yes\nverify_iprev = yes\nheader = Received-SPF, Authentication-Results\ndmarc_reject_action = reject\n\
     trusted_relays = 203.0.113.0/24\nclient_map = 10.0.0.0/8=192.0.2.1 mail.example.com\nspf_exempt_networks = 192.0.2.128/25\n",
    "verify_dkim = yes\nverify_dmarc = yes\nheader = Authentication-Results\ndmarc_quarantine_action = quarantine\nexempt_recipients = bob@example.org, postmaster@\n",
];

/// Another configuration, to be put in force while the conversation is under way.
const OTHER: &str =
    "authserv_id = another.example\nheader = Authentication-Results\nreject_results = fail\n";

const ZONE: &str = "
example.com TXT v=spf1 ip4:192.0.2.0/24 -all exp=why.example.com
why.example.com TXT %{i} may not send for %{d}
mail.example.com TXT v=spf1 a -all
mail.example.com A 192.0.2.1
bad.example.com TXT v=spf1 moo
slow.example.com * !timeout
_dmarc.example.com TXT v=DMARC1; p=reject
_dmarc.q.example.com TXT v=DMARC1; p=quarantine
192.0.2.1 PTR mail.example.com
";

static ALL: LazyLock<Vec<Config>> = LazyLock::new(|| {
    let read = |text: &&str| {
        let text = format!(
            "socket = unix:/nowhere\nlog_destination = stderr\nhostname = mx.example.org\n{text}"
        );
        load_text(text.as_bytes(), Path::new("fuzzed"), &Overrides::default())
            .unwrap_or_else(|errors| panic!("{errors}"))
            .config
    };
    CONFIGS.iter().chain([&OTHER]).map(read).collect()
});

static DNS: LazyLock<Dns> = LazyLock::new(|| {
    let text = format!("{ZONE}{}", include_str!("../../../tests/dkim/zone"));
    Dns::from_zone(Arc::new(Zone::parse(&text).unwrap()))
});

/// One packet.
fn packet(command: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 1).unwrap();
    [&length.to_be_bytes(), [command].as_slice(), content].concat()
}

/// The packets of an input, and whether an MTA could send them.
fn packets(input: &mut Input<'_>) -> (Vec<(u8, Vec<u8>)>, bool) {
    let mut packets = Vec::new();
    let mut is_legal = true;
    // Before the client is announced, between messages, in the envelope, in the header, in the body.
    let mut stage = 0;
    while !input.is_at_end() && packets.len() < 200 {
        let command = input.octet();
        let mut content = input.octets().to_vec();
        if b"CHMRLUD".contains(&command) && content.last() != Some(&0) {
            content.push(0);
        }
        let next = match (stage, command) {
            (_, b'D')
                if content.len() > 1
                    && content.iter().filter(|octet| **octet == 0).count() % 2 == 0 =>
            {
                Some(stage)
            }
            (0, b'C') if is_client(&content) => Some(1),
            (1, b'H') if has_nuls(&content, 1) && content.len() > 1 => Some(1),
            (1, b'M') if content.first().is_some_and(|octet| *octet != 0) => Some(2),
            (2, b'R') if content.first().is_some_and(|octet| *octet != 0) => Some(2),
            (2 | 3, b'L')
                if has_nuls(&content, 2) && content.first().is_some_and(|octet| *octet != 0) =>
            {
                Some(3)
            }
            (2 | 3, b'N') if content.is_empty() => Some(4),
            (4, b'B') => Some(4),
            (4, b'E') => Some(1),
            (1..=4, b'A') if content.is_empty() => Some(1),
            _ => None,
        };
        match next {
            Some(next) => stage = next,
            None => is_legal = false,
        }
        packets.push((command, content));
    }
    (packets, is_legal)
}

fn has_nuls(content: &[u8], wanted: usize) -> bool {
    content.iter().filter(|octet| **octet == 0).count() == wanted && content.last() == Some(&0)
}

/// A host name, the family, port and address.
fn is_client(content: &[u8]) -> bool {
    let mut parts = content.splitn(2, |octet| *octet == 0);
    let (host, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Some((b'4', address)) = rest.split_first() else { return false };
    let Some(address) = address.get(2..).and_then(|address| address.strip_suffix(b"\0")) else {
        return false;
    };
    !host.is_empty()
        && std::str::from_utf8(address)
            .is_ok_and(|address| address.parse::<std::net::Ipv4Addr>().is_ok())
}

/// Plays octets in chunks; the answers and the log. `reload`: another configuration comes into
/// force once it is agreed what is asked for.
fn play(config: usize, octets: &[u8], chunk: usize, reload: bool) -> (Vec<u8>, Vec<String>) {
    let log = Log::keep(LogLevel::Debug);
    let runtime = |config: &Config| {
        let runtime = Runtime::new(config.clone(), DNS.clone(), "localhost".into(), 0);
        Runtime { clock: Clock::Fixed(1_795_400_000), ..runtime }
    };
    let shared = Shared::new(runtime(&ALL[config]));
    let (sender, draining) = watch::channel(false);
    let server =
        Arc::new(Server { shared: shared.clone(), observer: Observer::new(log.clone()), draining });
    let answers = super::block_on(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut reader, mut writer) = ours.into_split();
        let read = async {
            let mut answers = Vec::new();
            let _ = reader.read_to_end(&mut answers).await;
            answers
        };
        let write = async {
            let offer: Vec<u8> =
                [6_u32, 0x1ff, 0x1f_ffff].iter().flat_map(|number| number.to_be_bytes()).collect();
            // An MTA that is hung up on notices by reading.
            let _ = writer.write_all(&packet(b'O', &offer)).await;
            if reload {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                shared.replace(runtime(&ALL[CONFIGS.len()]));
            }
            for part in octets.chunks(chunk) {
                let _ = writer.write_all(part).await;
                if chunk < octets.len() {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            }
            let _ = writer.write_all(&packet(b'Q', b"")).await;
            writer
        };
        let (answers, _writer, _) = tokio::join!(read, write, serve(theirs, server));
        answers
    });
    drop(sender);
    (answers, log.take_kept())
}

/// The answers, one by one.
fn answers(mut octets: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut answers = Vec::new();
    while !octets.is_empty() {
        let (length, rest) = octets.split_first_chunk::<4>().expect("half an answer");
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap();
        assert!(length >= 1 && length <= rest.len(), "half an answer: {rest:?}");
        let (answer, rest) = rest.split_at(length);
        answers.push((answer[0], answer[1..].to_vec()));
        octets = rest;
    }
    answers
}

pub(crate) fn check(octets: &[u8]) {
    let mut input = Input(octets);
    let config = usize::from(input.octet()) % CONFIGS.len();
    let chunk = usize::from(input.octet()) + 1;
    let (packets, is_legal) = packets(&mut input);
    let raw: Vec<u8> = packets.iter().flat_map(octets_of).collect();
    let (sent, log) = play(config, &raw, usize::MAX, false);
    log.iter().for_each(|line| super::assert_printable(line));
    let all = answers(&sent);
    is_answered(&packets, is_legal, &all);
    // An MTA that negotiates anew begins anew, with the configuration of that time.
    let agrees_anew = all.iter().filter(|(kind, _)| *kind == b'O').count() > 1;
    for (chunk, reload) in [(chunk, false), (usize::MAX, !agrees_anew)] {
        let (again, log_again) = play(config, &raw, chunk, reload);
        assert_eq!(answers(&again), all, "in chunks of {chunk}, reload {reload}");
        assert_eq!(log_again, log, "in chunks of {chunk}, reload {reload}");
    }
    // A body in other packets is the same body; where no answer to them is agreed on, nothing else
    // changes.
    if is_legal && CONFIGS[config].contains("verify_dkim") {
        let cut: Vec<u8> = packets
            .iter()
            .flat_map(|packet| halves(packet).into_iter().flat_map(|half| octets_of(&half)))
            .collect();
        let (again, log_again) = play(config, &cut, usize::MAX, false);
        assert_eq!(answers(&again), all, "with the body in halves");
        assert_eq!(log_again, log, "with the body in halves");
    }
}

fn octets_of((command, content): &(u8, Vec<u8>)) -> Vec<u8> {
    if *command == b'!' { content.clone() } else { packet(*command, content) }
}

/// A packet of a body as two.
fn halves(packet: &(u8, Vec<u8>)) -> Vec<(u8, Vec<u8>)> {
    let (command, content) = packet;
    if *command != b'B' || content.len() < 2 {
        return vec![packet.clone()];
    }
    let (first, second) = content.split_at(content.len() / 2);
    vec![(*command, first.to_vec()), (*command, second.to_vec())]
}

/// Holds the answers against the questions.
fn is_answered(packets: &[(u8, Vec<u8>)], is_legal: bool, answers: &[(u8, Vec<u8>)]) {
    let Some(((b'O', agreed), answers)) = answers.split_first() else {
        panic!("no agreement: {answers:?}");
    };
    let steps = u32::from_be_bytes(agreed[8..12].try_into().unwrap());
    // Changes stand in front of the answer to an end of a message.
    let mut is_changed = false;
    for (kind, _) in answers {
        match kind {
            b'h' | b'i' | b'm' | b'q' => is_changed = true,
            b'c' | b'a' | b'r' | b't' | b'y' | b'd' | b's' => is_changed = false,
            // Steps that are agreed on may be asked for again.
            b'p' | b'O' => {}
            other => panic!("answer {other} of {answers:?}"),
        }
    }
    assert!(!is_changed, "changes without an answer: {answers:?}");
    let finals: Vec<u8> =
        answers.iter().map(|(kind, _)| *kind).filter(|kind| b"carty".contains(kind)).collect();
    let answered = |command: u8| match command {
        b'C' => steps & 0x1000 == 0,
        b'H' => steps & 0x2000 == 0,
        b'M' => steps & 0x4000 == 0,
        b'R' => steps & 0x8000 == 0,
        b'L' => steps & 0x80 == 0,
        b'N' => steps & 0x4_0000 == 0,
        b'B' => steps & 0x8_0000 == 0,
        b'T' => steps & 0x1_0000 == 0,
        b'U' => steps & 0x2_0000 == 0,
        b'E' => true,
        _ => false,
    };
    if packets.iter().all(|(command, _)| *command != b'!') {
        assert!(finals.len() <= packets.len(), "{packets:?} {answers:?}");
    }
    if !is_legal {
        return;
    }
    let questions: Vec<u8> =
        packets.iter().map(|(command, _)| *command).filter(|command| answered(*command)).collect();
    // An MTA that is asked to stop says no more of the message or the session.
    let stop = questions
        .iter()
        .zip(&finals)
        .position(|(command, answer)| *command != b'E' && *answer != b'c');
    match stop {
        Some(_) => assert!(finals.len() <= questions.len(), "{packets:?} {answers:?}"),
        None => assert_eq!(finals.len(), questions.len(), "{packets:?} {answers:?}"),
    }
}
