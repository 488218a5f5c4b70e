//! The file of a VM's history: records, one behind the other.
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | `RCON` |
//! | 4..6 | length of the text in bytes, 1 to 2048 |
//! | 6..8 | the domain |
//! | 8..12 | index of the first byte in the domain's ring |
//! | 12..16 | the host's boot: domains of another one are others, whatever their numbers |
//! | 16..20 | FNV-1a of bytes 4..16 and the text |
//! | 20.. | the text |
//!
//! Little-endian. A record is written before the guest gets its ring's place back: what a killed daemon has kept is known by the index
//! ([`Ring::catch_up`](crate::ring::Ring::catch_up)), and a record that it left unfinished is still in the ring.

use crate::ring::{Chunk, OUT};

const MAGIC: [u8; 4] = *b"RCON";
/// Bytes of a record without its text.
pub const HEAD: usize = 20;

/// Whose ring it is: a domain, of one boot of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The domain.
    pub domid: u16,
    /// The boot ([`boot`]).
    pub boot: u32,
}

/// A number of this boot of the host.
pub fn boot() -> u32 {
    // Without it a daemon that is started anew finds what it has kept already once more in the ring.
    let id = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    fnv([&id, &[]])
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose ring it came from.
    pub source: Source,
    /// What came.
    pub chunk: Chunk,
}

fn fnv(parts: [&[u8]; 2]) -> u32 {
    let bytes = parts.into_iter().flatten();
    bytes.fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// As it is in the file.
pub fn encode(source: Source, chunk: &Chunk) -> Vec<u8> {
    let text = chunk.bytes.get(..OUT as usize).unwrap_or(&chunk.bytes);
    let mut fields = Vec::with_capacity(12);
    fields.extend((text.len() as u16).to_le_bytes());
    fields.extend(source.domid.to_le_bytes());
    fields.extend(chunk.start.to_le_bytes());
    fields.extend(source.boot.to_le_bytes());
    let check = fnv([&fields, text]);
    [&MAGIC[..], &fields, &check.to_le_bytes(), text].concat()
}

/// The first record, and what follows it; `None` if there is none that is whole.
pub fn decode(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (fields, rest) = rest.split_first_chunk::<12>()?;
    let (check, rest) = rest.split_first_chunk::<4>()?;
    let [l0, l1, d0, d1, s0, s1, s2, s3, boot @ ..] = *fields;
    let length = usize::from(u16::from_le_bytes([l0, l1]));
    if length == 0 || length > OUT as usize {
        return None;
    }
    let (text, rest) = rest.split_at_checked(length)?;
    if fnv([fields, text]) != u32::from_le_bytes(*check) {
        return None;
    }
    let source = Source { domid: u16::from_le_bytes([d0, d1]), boot: u32::from_le_bytes(boot) };
    let chunk = Chunk { start: u32::from_le_bytes([s0, s1, s2, s3]), bytes: text.to_vec() };
    Some((Record { source, chunk }, rest))
}

/// All whole records from the beginning on.
pub fn decode_all(mut bytes: &[u8]) -> Vec<Record> {
    let mut all = Vec::new();
    while let Some((record, rest)) = decode(bytes) {
        all.push(record);
        bytes = rest;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Record> {
        (any::<u16>(), any::<u32>(), any::<u32>(), prop::collection::vec(any::<u8>(), 1..=OUT as usize))
            .prop_map(|(domid, boot, start, bytes)| Record {
                source: Source { domid, boot },
                chunk: Chunk { start, bytes },
            })
    }

    proptest! {
        /// Cut anywhere, the whole records in front of the cut are read, and nothing else.
        #[test]
        fn cut_short(all in prop::collection::vec(record(), 1..6), cut: prop::sample::Index) {
            let encoded: Vec<Vec<u8>> = all.iter().map(|r| encode(r.source, &r.chunk)).collect();
            let file = encoded.concat();
            let cut = cut.index(file.len() + 1);
            let mut whole = 0;
            let mut length = 0;
            while whole < all.len() && length + encoded[whole].len() <= cut {
                length += encoded[whole].len();
                whole += 1;
            }
            prop_assert_eq!(decode_all(&file[..cut]), &all[..whole]);
        }

        #[test]
        fn a_damaged_record_is_none(one in record(), at: prop::sample::Index, bit in 0u8..8) {
            let mut bytes = encode(one.source, &one.chunk);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_ne!(decode(&bytes).map(|(r, _)| r), Some(one));
        }

        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_all(&bytes);
        }
    }
}
