//! The checks that fuzzing runs, without libFuzzer: with the seeds, with all that was ever found,
//! and with both damaged at random.

use std::fs;

use testkit::fuzz;

/// Inputs of a target: what is committed in `tests/fuzz/seeds` and, of what was found wrong once,
/// `tests/fuzz/found`.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut inputs = Vec::new();
    for kind in ["seeds", "found"] {
        let folder = testkit::root().join("tests/fuzz").join(kind).join(target);
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a folder's entry").path();
            inputs.push((path.display().to_string(), fs::read(&path).expect("a file")));
        }
    }
    inputs.sort();
    inputs
}

#[test]
fn seeds_and_finds() {
    for (target, check) in fuzz::TARGETS {
        let inputs = inputs(target);
        assert!(inputs.len() > 1, "no seeds of {target}");
        for (path, octets) in inputs {
            println!("{path}");
            check(&octets);
        }
    }
}

/// A few damaged inputs of each target, so that a check that is out of date is noticed without
/// libFuzzer.
#[test]
fn damaged_seeds() {
    let mut state: u64 = 11;
    // A generator for what need not be good (Steele and others, SplitMix64).
    let mut random = move |below: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(below.max(1)).expect("a number"))
            .expect("a number")
    };
    for (target, check) in fuzz::TARGETS {
        let inputs = inputs(target);
        for _ in 0..150 {
            let (_, mut octets) = inputs[random(inputs.len())].clone();
            for _ in 0..=random(3) {
                let at = random(octets.len() + 1);
                match random(4) {
                    0 if at < octets.len() => {
                        octets[at] = u8::try_from(random(256)).expect("an octet")
                    }
                    1 => octets.insert(at, u8::try_from(random(256)).expect("an octet")),
                    2 => _ = octets.drain(at..(at + random(8)).min(octets.len())),
                    _ => {
                        let (_, other) = &inputs[random(inputs.len())];
                        let from = random(other.len());
                        let part = other[from..(from + random(40)).min(other.len())].to_vec();
                        octets.splice(at..at, part);
                    }
                }
            }
            println!("{target}: {:?}", String::from_utf8_lossy(&octets));
            check(&octets);
        }
    }
}
