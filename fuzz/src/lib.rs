//! The checks that fuzzing runs: those of `testkit/src/fuzz/`.

pub use testkit::fuzz as checks;
