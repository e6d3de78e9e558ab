//! The checks of fuzzing: for each reader of a stranger's octets a function that takes octets and
//! panics where something is wrong.
//!
//! `fuzz/` runs them under libFuzzer, `tests/it/fuzzed.rs` with the seeds, with what fuzzing has
//! found, and with octets of its own.

mod claims;
mod config;
mod conversation;
mod dkim_body;
mod dkim_key;
mod dkim_signature;
mod dmarc;
mod dmarc_record;
mod dns_record;
mod dns_reply;
mod from;
mod identity;
mod log_line;
mod macros;
mod received;
mod relays;
mod spf;
mod written;

/// A check, by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All checks.
pub const TARGETS: &[Target] = &[
    ("claims", claims::check),
    ("config", config::check),
    ("conversation", conversation::check),
    ("dkim_body", dkim_body::check),
    ("dkim_key", dkim_key::check),
    ("dkim_signature", dkim_signature::check),
    ("dmarc", dmarc::check),
    ("dmarc_record", dmarc_record::check),
    ("dns_record", dns_record::check),
    ("dns_reply", dns_reply::check),
    ("from", from::check),
    ("identity", identity::check),
    ("log_line", log_line::check),
    ("macros", macros::check),
    ("received", received::check),
    ("relays", relays::check),
    ("spf", spf::check),
    ("written", written::check),
];

/// Runs one check.
///
/// # Panics
///
/// Where the check fails, or there is none of the name.
pub fn run(target: &str, octets: &[u8]) {
    let (_, check) = TARGETS
        .iter()
        .find(|(name, _)| *name == target)
        .unwrap_or_else(|| panic!("no target {target}"));
    check(octets);
}

/// Runs with a clock that stands still while there is something to do, and jumps when there is not.
fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

/// The first line, and the rest.
fn first_line(octets: &[u8]) -> (String, &[u8]) {
    let end = octets.iter().position(|octet| *octet == b'\n').unwrap_or(octets.len());
    let (line, rest) = octets.split_at(end);
    (String::from_utf8_lossy(line).into_owned(), rest.get(1..).unwrap_or_default())
}

/// The lines of a text that are lines of a zone, 200 at most.
fn zone_lines(octets: &[u8]) -> Vec<String> {
    use spf_milter::dns::zone::Zone;
    let text = String::from_utf8_lossy(octets);
    text.split('\n').filter(|line| Zone::parse(line).is_ok()).take(200).map(str::to_owned).collect()
}

/// Text for a line of a log, a reply or a field: nothing in it that breaks out.
fn assert_printable(text: &str) {
    assert!(text.chars().all(|c| !c.is_control()), "control characters in {text:?}");
}

/// Octets taken one after the other; zeros at the end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn octet(&mut self) -> u8 {
        match self.0.split_first() {
            Some((octet, rest)) => {
                self.0 = rest;
                *octet
            }
            None => 0,
        }
    }

    fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// Octets, their number before them.
    fn octets(&mut self) -> &'a [u8] {
        let wanted = usize::from(self.octet());
        let (octets, rest) = self.0.split_at(wanted.min(self.0.len()));
        self.0 = rest;
        octets
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(self.octets()).into_owned()
    }
}
