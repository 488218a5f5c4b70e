//! Points in time as XenAPI writes them: `20260101T00:00:00Z`.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

/// The last second of the year 9999: what can be written.
const LAST: i64 = 253_402_300_799;

impl Time {
    /// By the system's clock.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_secs()).unwrap_or(LAST).min(LAST))
    }
}

/// Days since 1970 of a day of the Gregorian calendar ("days_from_civil" of H. Hinnant's chrono algorithms).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day (the inverse).
fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.clamp(0, LAST);
        let (year, month, day) = date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}{month:02}{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl FromStr for Time {
    type Err = ();

    /// Also `20260101T00:00:00` (XML-RPC's own form) and with dashes in the date; UTC always.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (date, clock) = text.strip_suffix('Z').unwrap_or(text).split_once('T').ok_or(())?;
        let date = date.replace('-', "");
        if date.len() != 8 || !date.bytes().all(|b| b.is_ascii_digit()) {
            return Err(());
        }
        let part = |text: Option<&str>, least: i64, most: i64| -> Result<i64, ()> {
            let text = text.filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit())).ok_or(())?;
            let number = text.parse().map_err(drop)?;
            if (least..=most).contains(&number) { Ok(number) } else { Err(()) }
        };
        let year = part(date.get(..4), 1970, 9999)?;
        let month = part(date.get(4..6), 1, 12)?;
        let day = part(date.get(6..), 1, 31)?;
        let mut words = clock.split(':');
        let hour = part(words.next(), 0, 23)?;
        let minute = part(words.next(), 0, 59)?;
        let second = part(words.next().map(|w| w.split('.').next().unwrap_or(w)), 0, 60)?;
        if words.next().is_some() {
            return Err(());
        }
        Ok(Self((days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second).min(LAST)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn well_known_days() {
        for (text, seconds) in [
            ("19700101T00:00:00Z", 0),
            ("20000229T12:00:00Z", 951_825_600),
            ("20260101T00:00:00Z", 1_767_225_600),
            ("99991231T23:59:59Z", LAST),
        ] {
            assert_eq!(text.parse(), Ok(Time(seconds)));
            assert_eq!(Time(seconds).to_string(), text);
        }
        assert_eq!("2026-01-01T00:00:00.5Z".parse(), Ok(Time(1_767_225_600)));
        for bad in
            ["", "T", "2026", "20260101", "20261301T00:00:00Z", "20260101T24:00:00Z", "20260101T+1:00:00Z"]
        {
            assert_eq!(bad.parse::<Time>(), Err(()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn there_and_back(seconds in 0..=LAST) {
            prop_assert_eq!(Time(seconds).to_string().parse(), Ok(Time(seconds)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9TZ:.+-]{0,24}|\\PC{0,12}") {
            let _ = text.parse::<Time>();
        }
    }
}
