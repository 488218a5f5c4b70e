//! The sleep types of S5, which only AML tells: `Name (_S5, Package () { a, b, ... })` in the DSDT or an SSDT.
//!
//! The object is constant in every machine's tables, so it is looked for in the bytes; nothing is executed.

/// `NameOp`, `\` or not, `_S5_`, `PackageOp`.
const NAME_OP: u8 = 0x08;
const ROOT: u8 = b'\\';
const NAME: [u8; 4] = *b"_S5_";
const PACKAGE_OP: u8 = 0x12;
const ZERO_OP: u8 = 0x00;
const ONE_OP: u8 = 0x01;
const BYTE_PREFIX: u8 = 0x0a;
const WORD_PREFIX: u8 = 0x0b;
const DWORD_PREFIX: u8 = 0x0c;
/// Sleep types have three bits.
const MAX: u32 = 7;

/// `SLP_TYPa` and `SLP_TYPb` of a table's `_S5`, if it has one that makes sense.
pub(crate) fn soft_off(aml: &[u8]) -> Option<(u8, u8)> {
    aml.windows(NAME.len()).enumerate().filter(|(_, w)| *w == NAME).find_map(|(at, _)| {
        let before = |n| at.checked_sub(n).and_then(|i| aml.get(i)).copied();
        let named = matches!((before(1), before(2)), (Some(NAME_OP), _) | (Some(ROOT), Some(NAME_OP)));
        let rest = aml.get(at.checked_add(NAME.len())?..)?;
        if named { package(rest) } else { None }
    })
}

/// The first two integers of a package.
fn package(aml: &[u8]) -> Option<(u8, u8)> {
    let (&op, rest) = aml.split_first()?;
    if op != PACKAGE_OP {
        return None;
    }
    // PkgLength: the top two bits of its first byte say how many bytes follow it.
    let more = usize::from(rest.first()? >> 6);
    let rest = rest.get(more.checked_add(1)?..)?;
    let (&count, rest) = rest.split_first()?;
    let (a, rest) = integer(rest)?;
    // Of a package with one element (seen in the field) both registers get it.
    let b = if count >= 2 { integer(rest)?.0 } else { a };
    Some((sleep_type(a)?, sleep_type(b)?))
}

fn sleep_type(n: u32) -> Option<u8> {
    u8::try_from(n).ok().filter(|n| u32::from(*n) <= MAX)
}

/// An integer constant, and what follows it.
fn integer(aml: &[u8]) -> Option<(u32, &[u8])> {
    let (&op, rest) = aml.split_first()?;
    let bytes = match op {
        ZERO_OP => return Some((0, rest)),
        ONE_OP => return Some((1, rest)),
        BYTE_PREFIX => 1,
        WORD_PREFIX => 2,
        DWORD_PREFIX => 4,
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(bytes)?;
    let value = value.iter().rev().fold(0u32, |n, b| n << 8 | u32::from(*b));
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::soft_off;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn table(object: &[u8]) -> Vec<u8> {
        [b"some AML before ".as_slice(), object, b" and after".as_slice()].concat()
    }

    #[test]
    fn forms_that_compilers_make() {
        // QEMU's; iasl's with constants 7 and 5, and with a path from the root; a word; a long package length.
        for (object, types) in [
            (&b"\x08_S5_\x12\x06\x04\x00\x00\x00\x00"[..], Some((0, 0))),
            (b"\x08_S5_\x12\x08\x04\x0a\x07\x0a\x05\x00\x00", Some((7, 5))),
            (b"\x08\\_S5_\x12\x07\x04\x01\x0a\x02\x00\x00", Some((1, 2))),
            (b"\x08_S5_\x12\x08\x02\x0b\x05\x00\x00", Some((5, 0))),
            (b"\x08_S5_\x12\x48\x00\x02\x0a\x06\x00", Some((6, 0))),
            (b"\x08_S5_\x12\x04\x01\x0a\x05", Some((5, 5))),
            // A name that is only mentioned, a method, a type of more than three bits, no integer.
            (b"_S5_\x12\x06\x04\x00\x00\x00\x00", None),
            (b"\x14\x0b_S5_\x00\xa4", None),
            (b"\x08_S5_\x12\x06\x02\x0a\x09\x00", None),
            (b"\x08_S5_\x12\x06\x02\x0dabc", None),
        ] {
            assert_eq!(soft_off(&table(object)), types, "{object:x?}");
        }
        // A mention before the object itself does not hide it.
        let both = [b" _S5_ ".as_slice(), b"\x08_S5_\x12\x06\x04\x00\x01\x00\x00".as_slice()].concat();
        assert_eq!(soft_off(&both), Some((0, 1)));
        assert_eq!(soft_off(b"_S5_"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(head in proptest::collection::vec(any::<u8>(), 0..20), tail in proptest::collection::vec(any::<u8>(), 0..20)) {
            let aml = [&head[..], b"\x08_S5_", &tail[..]].concat();
            if let Some((a, b)) = soft_off(&aml) {
                prop_assert!(a <= 7 && b <= 7);
            }
        }
    }
}
