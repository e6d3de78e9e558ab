//! The checks that fuzzing runs: those of `tests/fuzz/`.

#[path = "../../tests/fuzz/mod.rs"]
pub mod checks;
