//! The part that all of these tests share: how many cases, from which seed, and how they are made up.

use std::{env, fmt, ops::Range};

/// A number of the environment.
fn setting(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) if !text.is_empty() => {
            text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number"))
        }
        _ => default,
    }
}

/// How many cases: a part of ROUNDS.
pub(crate) fn rounds(part: u64, default: u64) -> u64 {
    match setting("ROUNDS", 0) {
        0 => default,
        rounds => (rounds * part / 100).max(1),
    }
}

/// Random numbers that come again with the seed (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    /// Of the seed of this run; each test has its own row of numbers.
    pub(crate) fn new(test: &str) -> Self {
        let seed = setting("SEED", 1);
        println!("{test}: SEED={seed}");
        let mixed = test
            .bytes()
            .fold(seed, |seed, octet| seed.wrapping_mul(0x100_0000_01b3) ^ u64::from(octet));
        Self(mixed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    pub(crate) fn within(&mut self, range: Range<usize>) -> usize {
        range.start + self.below(range.end - range.start)
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    pub(crate) fn octet(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    /// A length at a border, or a little off.
    pub(crate) fn near(&mut self, borders: &[usize]) -> usize {
        (borders[self.below(borders.len())] + self.below(5)).saturating_sub(2)
    }
}

/// Differences, counted by their explanation.
#[derive(Default)]
pub(crate) struct Differences {
    equal: u64,
    explained: std::collections::BTreeMap<&'static str, u64>,
    unexplained: Vec<String>,
}

impl Differences {
    pub(crate) fn equal(&mut self) {
        self.equal += 1;
    }

    pub(crate) fn explained(&mut self, name: &'static str) {
        *self.explained.entry(name).or_default() += 1;
    }

    pub(crate) fn unexplained(&mut self, what: impl fmt::Display) {
        self.unexplained.push(what.to_string());
    }

    /// Prints what was counted, and fails where something is not explained.
    pub(crate) fn finish(self, what: &str) {
        let explained: u64 = self.explained.values().sum();
        println!(
            "{what}: {} equal, {explained} explained, {} not",
            self.equal,
            self.unexplained.len()
        );
        for (name, count) in &self.explained {
            println!("    {count} {name}");
        }
        let mut shortest: Vec<&String> = self.unexplained.iter().collect();
        shortest.sort_by_key(|text| text.len());
        assert!(
            shortest.is_empty(),
            "{what}: {} differences, the shortest:\n{}",
            shortest.len(),
            {
                let first: Vec<&str> = shortest.iter().take(12).map(|text| text.as_str()).collect();
                first.join("\n")
            }
        );
    }
}
