//! A case, and what is measured in it.

use testkit::wait_for;

use super::{
    rng::Rng,
    subject::{Sample, Subject},
};

/// Memory that may stay after a case, in KiB: that of a full cache, which has 16384 places of 1 KiB
/// (`docs/limits.md`), and as much that the allocator keeps.
pub const MAX_GROWTH: usize = 32 * 1024;

/// Descriptors that may be open afterwards that were not open before: those of look-ups whose time
/// is not over.
const MAX_MORE: usize = 2;

/// One way to treat the daemon.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub promise: &'static str,
    /// It is a part of `make test`.
    pub is_short: bool,
    /// Answers with what was seen.
    pub run: fn(&mut Stage) -> String,
}

impl Case {
    pub const fn new(
        name: &'static str,
        promise: &'static str,
        run: fn(&mut Stage) -> String,
    ) -> Self {
        Self { name, promise, is_short: false, run }
    }

    /// A case of `make test`, too.
    pub const fn short(mut self) -> Self {
        self.is_short = true;
        self
    }
}

/// What a case works with.
pub struct Stage {
    pub rng: Rng,
    /// Less of all.
    pub is_short: bool,
    before: Sample,
    after: Sample,
}

impl Stage {
    pub fn new(rng: Rng, is_short: bool) -> Self {
        Self { rng, is_short, before: Sample::default(), after: Sample::default() }
    }

    /// A number that is smaller in the short form.
    pub fn count(&self, full: usize) -> usize {
        if self.is_short { full.div_ceil(4) } else { full }
    }

    /// Measures a daemon that was used, and has nothing to do now.
    pub fn before(&mut self, subject: &Subject) {
        let mut last = usize::MAX;
        self.before = wait_for("the daemon to be at rest", || {
            let now = subject.sample();
            let is_steady = now.descriptors == last;
            last = now.descriptors;
            is_steady.then_some(now)
        });
    }

    /// Measures a daemon whose clients have left: all that they cost must be given back.
    pub fn after(&mut self, subject: &Subject) {
        self.after_growth(subject, MAX_GROWTH);
    }

    /// As [`Self::after`], with another bound for the memory that stays, in KiB.
    pub fn after_growth(&mut self, subject: &Subject, growth: usize) {
        let most = self.before.descriptors + MAX_MORE;
        self.after = wait_for("descriptors to be closed", || {
            let now = subject.sample();
            (now.descriptors <= most).then_some(now)
        });
        let (before, after) = (self.before, self.after);
        assert!(after.memory <= before.memory + growth, "memory: {before:?}, then {after:?}");
        assert!(after.threads <= before.threads + 2, "threads: {before:?}, then {after:?}");
    }

    pub fn measured(&self) -> String {
        let (before, after) = (self.before, self.after);
        format!(
            "{} -> {} ({}), {} -> {}",
            before.memory, after.memory, after.peak, before.descriptors, after.descriptors
        )
    }
}
