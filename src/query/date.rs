//! Dates.

/// The day of a time, in seconds since 1970: `2026-11-27`.
pub(super) fn date(time: u64) -> String {
    const DAY: u64 = 24 * 60 * 60;
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut day) = (1970, time / DAY);
    // Nobody asks for more, and the loop ends.
    while year < 9999 {
        let length = if is_leap(year) { 366 } else { 365 };
        if day < length {
            break;
        }
        day -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", day.min(30) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days() {
        for (time, day) in [
            (0, "1970-01-01"),
            (86_399, "1970-01-01"),
            (86_400, "1970-01-02"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_709_164_800, "2024-02-29"),
            (1_735_603_200, "2024-12-31"),
            (1_735_689_600, "2025-01-01"),
            (1_795_770_000, "2026-11-27"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(time), day, "{time}");
        }
        assert!(date(u64::MAX).starts_with("9999-12-31"));
    }
}
