//! Values: booleans, numbers, sizes.

use crate::{LogLevel, LogThreshold, Problem};

/// Reads a boolean word as Xen's `parse_bool` does; `None` when it is neither.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "no" | "off" | "false" | "disable" | "0" => Some(false),
        "yes" | "on" | "true" | "enable" | "1" => Some(true),
        _ => None,
    }
}

/// Reads a size in bytes: a number (decimal, 0x or 0 for octal) and a suffix `B K M G T`; without suffix it counts KiB.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| matches!(c.to_ascii_uppercase(), 'K' | 'M' | 'G' | 'T'));
    let digits_b = text.strip_suffix(['B', 'b']);
    // "0xB" is eleven KiB, not "0x" bytes: a B after a hexadecimal number is a digit.
    let (digits, shift) = match digits_b {
        Some(d) if !text.starts_with("0x") => (d, 0),
        _ => {
            let shift = match text.get(digits.len()..)? {
                "" => 10,
                "K" | "k" => 10,
                "M" | "m" => 20,
                "G" | "g" => 30,
                "T" | "t" => 40,
                _ => return None,
            };
            (digits, shift)
        }
    };
    parse_int(digits)?.checked_mul(1 << shift)
}

/// Reads an unsigned number in C notation.
pub(crate) fn parse_int(text: &str) -> Option<u64> {
    let starts_with_digit = |t: &str| t.starts_with(|c: char| c.is_ascii_hexdigit());
    let (digits, radix) = if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        (hex, 16)
    } else if text.len() > 1 && text.starts_with('0') {
        (text, 8)
    } else {
        (text, 10)
    };
    // from_str_radix alone would take a sign.
    if starts_with_digit(digits) { u64::from_str_radix(digits, radix).ok() } else { None }
}

pub(crate) fn number(value: Option<&str>) -> Result<u32, Problem> {
    value.and_then(parse_int).and_then(|n| u32::try_from(n).ok()).ok_or(Problem::BadValue)
}

pub(crate) fn size(value: Option<&str>) -> Result<u64, Problem> {
    value.and_then(parse_size).ok_or(Problem::BadValue)
}

/// `none|error|warning|info|debug|all`, optionally `always/limited`.
pub(crate) fn threshold(value: Option<&str>) -> Result<LogThreshold, Problem> {
    let level = |name: &str| match name {
        "none" => Ok(LogLevel::None),
        "error" => Ok(LogLevel::Error),
        "warning" => Ok(LogLevel::Warning),
        "info" => Ok(LogLevel::Info),
        "debug" | "all" => Ok(LogLevel::Debug),
        _ => Err(Problem::BadValue),
    };
    let value = value.ok_or(Problem::BadValue)?;
    let (always, limited) = value.split_once('/').unwrap_or((value, value));
    let always = level(always)?;
    Ok(LogThreshold { always, limited: level(limited)?.max(always) })
}
