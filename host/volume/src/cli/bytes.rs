//! Numbers of bytes as people write them.

/// `10G` and the like: K, M, G, T, P are powers of 1024.
pub fn parse(text: &str) -> Result<u64, String> {
    let trimmed = text.trim_end_matches("iB").trim_end_matches('B');
    let digits = trimmed.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match trimmed.get(digits.len()..).unwrap_or_default().to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        "P" => 50,
        _ => return Err("bytes, or a whole number with K, M, G or T (10G)".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "bytes, or a whole number with K, M, G or T (10G)")?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large a number".into())
}

/// With three digits or so, and the unit.
pub fn show(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_read() {
        for (text, bytes) in
            [("512", 512), ("10G", 10 << 30), ("64TiB", 64 << 40), ("1k", 1024), ("3MB", 3 << 20)]
        {
            assert_eq!(super::parse(text), Ok(bytes));
        }
        for text in ["", "G", "1.5G", "-1", "99999999P", "10X"] {
            assert!(super::parse(text).is_err(), "{text}");
        }
    }
}
