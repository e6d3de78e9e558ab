//! The scenarios of `tests/it/scenarios.rs` through a real MTA.

use testkit::{drivers::postfix::PostfixDriver, scenario::play_all};

#[test]
#[ignore = "needs Postfix and root: make test"]
fn through_postfix() {
    play_all(&PostfixDriver::start());
}
