//! Times, as people here have them.

use std::time::SystemTime;

use jiff::{Timestamp, ZonedDateTime, tz::TimeZone};

use super::shown::Shown;

/// A time, with the clock of this place: `2026-11-27T09:30:00+01:00`. Empty for a time that no clock
/// could show.
pub fn spell_time(time: SystemTime) -> Shown {
    match Timestamp::try_from(time) {
        Ok(time) => spell_zoned(&time.to_zoned_datetime(TimeZone::system())),
        Err(_) => Shown::default(),
    }
}

/// The same of a time that has a place.
pub fn spell_zoned(time: &ZonedDateTime) -> Shown {
    time.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_their_zone() {
        for (text, spelt) in [
            ("2026-11-27T09:30:00.5+01:00[Europe/Berlin]", "2026-11-27T09:30:00+01:00"),
            ("2026-07-01T00:00:00-02:30[America/St_Johns]", "2026-07-01T00:00:00-02:30"),
            ("2026-07-01T23:59:59+00:00[UTC]", "2026-07-01T23:59:59+00:00"),
        ] {
            let Ok(time) = text.parse::<ZonedDateTime>() else { continue };
            assert_eq!(spell_zoned(&time).as_str(), spelt);
        }
        assert_eq!(spell_time(SystemTime::UNIX_EPOCH).as_str().len(), 25);
    }
}
