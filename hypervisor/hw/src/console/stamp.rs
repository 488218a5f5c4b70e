//! Time stamps at the start of log lines (`console_timestamps=`).

use crate::time;
use core::fmt::{self, Display, Formatter};

/// What stands between `(XEN) ` and a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Stamps {
    /// Nothing.
    #[default]
    None,
    /// Date and time (UTC).
    Date,
    /// The same with milliseconds.
    DateMs,
    /// Seconds since start, with microseconds.
    Boot,
    /// The time stamp counter.
    Raw,
}

impl Stamps {
    /// Back from its number; what is none means no stamps.
    pub(super) fn from_number(n: u8) -> Stamps {
        [Stamps::None, Stamps::Date, Stamps::DateMs, Stamps::Boot, Stamps::Raw]
            .into_iter()
            .find(|s| *s as u8 == n)
            .unwrap_or_default()
    }
}

/// A moment as the style shows it.
pub(super) struct Stamp {
    style: Stamps,
    wall_ns: u64,
    boot_ns: u64,
    tsc: u64,
}

impl Stamp {
    /// Now.
    pub(super) fn now(style: Stamps) -> Stamp {
        let (boot, tsc) = time::now_and_tsc();
        let boot_ns = boot.raw();
        Stamp { style, wall_ns: time::wall_clock_at_boot_ns().saturating_add(boot_ns), boot_ns, tsc }
    }
}

impl Display for Stamp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.style {
            Stamps::None => Ok(()),
            Stamps::Boot => {
                write!(f, "[{:5}.{:06}] ", self.boot_ns / 1_000_000_000, self.boot_ns / 1000 % 1_000_000)
            }
            Stamps::Raw => write!(f, "[{:016x}] ", self.tsc),
            Stamps::Date | Stamps::DateMs => {
                let seconds = self.wall_ns / 1_000_000_000;
                let (year, month, day) = date(seconds / 86_400);
                let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
                write!(f, "[{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}")?;
                if self.style == Stamps::DateMs {
                    write!(f, ".{:03}", self.wall_ns / 1_000_000 % 1000)?;
                }
                f.write_str("] ")
            }
        }
    }
}

/// Year, month and day of a day counted from 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    // Years from March on, so that a leap day is the last; 146097 days are 400 years, and day 0 was day 719468.
    let days = days.saturating_add(719_468);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let january = month >= 10;
    let civil_month = if january { month - 9 } else { month + 3 };
    (era * 400 + year + u64::from(january), civil_month, day - (153 * month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (19_722, (2023, 12, 31)),
            (20_780, (2026, 11, 23)),
        ] {
            assert_eq!(date(days), expected, "{days}");
        }
    }

    #[test]
    fn each_style() {
        let shown = |style| {
            let wall_ns = (20_780 * 86_400 + 3723) * 1_000_000_000 + 42_000_000;
            Stamp { style, wall_ns, boot_ns: 12_000_345_678, tsc: 0xabc }.to_string()
        };
        assert_eq!(shown(Stamps::None), "");
        assert_eq!(shown(Stamps::Date), "[2026-11-23 01:02:03] ");
        assert_eq!(shown(Stamps::DateMs), "[2026-11-23 01:02:03.042] ");
        assert_eq!(shown(Stamps::Boot), "[   12.000345] ");
        assert_eq!(shown(Stamps::Raw), "[0000000000000abc] ");
        assert_eq!(Stamps::from_number(Stamps::Boot as u8), Stamps::Boot);
        assert_eq!(Stamps::from_number(99), Stamps::None);
    }
}
