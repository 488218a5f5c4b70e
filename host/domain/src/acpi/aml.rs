//! The little AML that a guest's DSDT needs (ACPI 6.4, chapter 20 "AML Specification").

/// `PkgLength` (20.2.4) and the bytes it counts, itself included.
fn package(body: &[u8]) -> Vec<u8> {
    // One byte up to 63; else a nibble and one to three bytes. The length includes its own bytes.
    let more = match body.len() {
        0..=62 => 0,
        63..=4093 => 1,
        4094..=1_048_572 => 2,
        _ => 3,
    };
    let total = body.len() + 1 + more;
    let mut out = if more == 0 {
        vec![total as u8]
    } else {
        let mut bytes = vec![(more << 6) as u8 | (total & 0xf) as u8];
        bytes.extend((0..more).map(|n| (total >> (4 + 8 * n)) as u8));
        bytes
    };
    out.extend_from_slice(body);
    out
}

/// A name of one segment, padded with underscores (20.2.2).
pub fn segment(name: &str) -> [u8; 4] {
    let mut out = [b'_'; 4];
    for (to, from) in out.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    out
}

/// An integer (20.2.3) in its shortest form.
pub fn integer(value: u32) -> Vec<u8> {
    match value {
        0 => vec![0x00],
        1 => vec![0x01],
        2..=0xff => vec![0x0a, value as u8],
        0x100..=0xffff => [&[0x0b], &(value as u16).to_le_bytes()[..]].concat(),
        _ => [&[0x0c], &value.to_le_bytes()[..]].concat(),
    }
}

/// A string (20.2.3); ASCII without zeros.
pub fn string(text: &str) -> Vec<u8> {
    [&[0x0d], text.as_bytes(), &[0]].concat()
}

/// `Name (name, value)` (20.2.5.1).
pub fn name(name: &str, value: &[u8]) -> Vec<u8> {
    [&[0x08], &segment(name)[..], value].concat()
}

/// `Scope (\name) { ... }` (20.2.5.1).
pub fn scope(name: &str, body: &[u8]) -> Vec<u8> {
    let inner = [&b"\\"[..], &segment(name), body].concat();
    [&[0x10], &package(&inner)[..]].concat()
}

/// `Device (name) { ... }` (20.2.5.2).
pub fn device(name: &str, body: &[u8]) -> Vec<u8> {
    let inner = [&segment(name)[..], body].concat();
    [&[0x5b, 0x82], &package(&inner)[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_lengths_count_themselves() {
        for (body, head) in [
            (0, vec![1]),
            (62, vec![63]),
            (63, vec![0x41, 0x04]),
            (4093, vec![0x4f, 0xff]),
            (4094, vec![0x81, 0x00, 0x01]),
        ] {
            let out = package(&vec![0xaa; body]);
            assert_eq!(out[..head.len()], head[..], "{body}");
            assert_eq!(out.len(), body + head.len());
        }
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(name("_UID", &integer(3)), b"\x08_UID\x0a\x03");
        assert_eq!(integer(0x1234), [0x0b, 0x34, 0x12]);
        assert_eq!(integer(0x1_0000), [0x0c, 0, 0, 1, 0]);
        assert_eq!(scope("_SB", &[]), b"\x10\x06\\_SB_");
        assert_eq!(device("C000", &string("x")), b"\x5b\x82\x08C000\x0dx\x00");
    }
}
