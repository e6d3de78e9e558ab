//! Numbers, seconds and booleans.

use super::value::{Parsed, refuse, wrong};

/// Reads `yes` or `no`.
pub(crate) fn boolean(text: &str) -> Parsed<bool> {
    match text {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => refuse(text, "is not a boolean", "yes or no"),
    }
}

/// Reads an integer from `least` to `most`.
fn integer<T: From<u32>>(text: &str, least: u32, most: u32) -> Parsed<T> {
    let expected = match most {
        u32::MAX => format!("an integer from {least}"),
        _ => format!("an integer from {least} to {most}"),
    };
    match text.parse::<u32>() {
        Ok(number) if number < least => wrong(format!("{text} is too small (expected {expected})")),
        Ok(number) if number > most => wrong(format!("{text} is too large (expected {expected})")),
        Ok(number) => Ok(number.into()),
        Err(_) => {
            refuse(text, "is not an integer", format_args!("an integer from {least} to {most}"))
        }
    }
}

/// Reads a number of things, of at least `least`.
pub(crate) fn count_from(text: &str, least: u32) -> Parsed<usize> {
    // A count that does not fit stands for "no limit" as well as the largest does.
    integer::<u64>(text, least, u32::MAX)
        .map(|number| usize::try_from(number).unwrap_or(usize::MAX))
}

/// Reads a number of things, which may be 0.
pub(crate) fn count(text: &str) -> Parsed<usize> {
    count_from(text, 0)
}

/// Reads a number of things, 1 or more.
pub(crate) fn positive(text: &str) -> Parsed<usize> {
    count_from(text, 1)
}

/// The longest time that a parameter can name, in seconds. No MTA waits that long, and every clock
/// can count it.
const MAX_SECONDS: u32 = 3600;

/// Reads a number of seconds, 1 to 3600.
pub(crate) fn seconds(text: &str) -> Parsed<u64> {
    integer(text, 1, MAX_SECONDS)
}

/// The most refusals that are kept for the status.
pub(crate) const MAX_REFUSALS: u32 = 1000;

/// Reads a number of refusals, 0 to 1000.
pub(crate) fn refusals(text: &str) -> Parsed<usize> {
    integer::<u64>(text, 0, MAX_REFUSALS)
        .map(|number| usize::try_from(number).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(count("010"), Ok(10));
        assert_eq!(count("+10"), Ok(10));
        assert_eq!(count("0"), Ok(0));
        assert_eq!(count("4294967295"), Ok(4_294_967_295));
        for (text, expected) in [("1", Ok(1)), ("3599", Ok(3599)), ("3600", Ok(3600))] {
            assert_eq!(seconds(text), expected);
        }
        for large in ["3601", "2147484", "4294967295"] {
            assert_eq!(
                seconds(large).unwrap_err()[0].message,
                format!("{large} is too large (expected an integer from 1 to 3600)")
            );
        }
        for bad in ["", "-1", "ten", "1 0", "0x10", "4294967296", "1.0"] {
            assert!(count(bad).is_err(), "{bad}");
        }
        for (text, expected) in [("0", Ok(0)), ("999", Ok(999)), ("1000", Ok(1000))] {
            assert_eq!(refusals(text), expected);
        }
        assert_eq!(
            refusals("1001").unwrap_err()[0].message,
            "1001 is too large (expected an integer from 0 to 1000)"
        );
        assert_eq!(
            positive("0").unwrap_err()[0].message,
            "0 is too small (expected an integer from 1)"
        );
    }
}
