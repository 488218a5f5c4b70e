//! The CMOS real-time clock, read once at boot.

use crate::port::{in8, out8};

/// Raw registers: second, minute, hour, day, month, year, century.
const REGISTERS: [u8; 7] = [0, 2, 4, 7, 8, 9, 0x32];

fn cmos(register: u8) -> u8 {
    out8(0x70, register);
    in8(0x71)
}

/// Seconds since 1970, `None` if there is no believable clock. Does not wait for a second to begin: two equal readings outside
/// an update are enough.
pub(crate) fn read() -> Option<u64> {
    // An update takes at most 2 ms; a port access takes about 1 us.
    let mut patience = 10_000u32;
    let mut last = None;
    loop {
        patience = patience.checked_sub(1)?;
        if cmos(0xa) & 0x80 != 0 {
            continue;
        }
        let now = REGISTERS.map(cmos);
        if last == Some(now) {
            return decode(now, cmos(0xb));
        }
        last = Some(now);
    }
}

/// Interprets the registers under the format bits of status B: bit 2 binary, bit 1 24 hours.
fn decode(raw: [u8; 7], status_b: u8) -> Option<u64> {
    let number = |v: u8| {
        if status_b & 4 != 0 {
            Some(v)
        } else {
            (v & 15 < 10 && v >> 4 < 10).then(|| (v >> 4) * 10 + (v & 15))
        }
    };
    let [sec, min, hour, day, month, year, century] = raw;
    let pm = status_b & 2 == 0 && hour & 0x80 != 0;
    let mut h = number(hour & 0x7f)?;
    if status_b & 2 == 0 {
        h = h % 12 + if pm { 12 } else { 0 };
    }
    let (sec, min, day, month, year) =
        (number(sec)?, number(min)?, number(day)?, number(month)?, number(year)?);
    if sec > 60 || min > 59 || h > 23 || !(1..=31).contains(&day) || !(1..=12).contains(&month) || year > 99 {
        return None;
    }
    // The century register is not everywhere; believe it only if it says 20xx or 21xx.
    let century = number(century).filter(|c| (20..=21).contains(c)).unwrap_or(20);
    let days = days_since_1970(u64::from(century) * 100 + u64::from(year), u64::from(month), u64::from(day));
    Some(days * 86_400 + u64::from(h) * 3600 + u64::from(min) * 60 + u64::from(sec))
}

/// Days from 1970-01-01 to a Gregorian date (year >= 1970).
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    // Years that begin in March put the leap day last.
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(days_since_1970(1970, 1, 1), 0);
        assert_eq!(days_since_1970(2000, 2, 29), 11_016);
        assert_eq!(days_since_1970(2024, 12, 31), 20_088);
        assert_eq!(days_since_1970(2100, 3, 1), 47_541);
    }

    #[test]
    fn formats() {
        // 2024-02-29 23:59:58, as BCD 24 h, binary 24 h, BCD 12 h.
        let expect = Some(1_709_251_198);
        assert_eq!(decode([0x58, 0x59, 0x23, 0x29, 2, 0x24, 0x20], 2), expect);
        assert_eq!(decode([58, 59, 23, 29, 2, 24, 20], 6), expect);
        assert_eq!(decode([0x58, 0x59, 0x91, 0x29, 2, 0x24, 0xff], 0), expect);
        assert_eq!(decode([0; 7], 2), None);
        assert_eq!(decode([0xff; 7], 2), None);
    }

    #[test]
    fn missing_clock_ends() {
        // All ports read as ones: an update that never ends.
        assert_eq!(read(), None);
    }
}
