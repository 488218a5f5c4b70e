//! Names of the image's functions, for crash reports.
//!
//! `cargo xtask` fills the reserved table after linking (see there for the layout); until then addresses stay numbers.
#![allow(unsafe_code)] // a link section of its own

mod table;

use core::fmt;
use radon_hw::mem::IMAGE_BASE;

/// Bytes reserved for the table.
const TABLE_BYTES: usize = 192 << 10;
/// At the table's start, filled or not: how the tool finds it in the file.
const MAGIC: [u8; 8] = *b"RADONSYM";

/// `magic`, then a little-endian u32 count, then `count` pairs of u32 (offset of the function from `IMAGE_BASE`, offset of
/// its NUL-terminated name from the table's start) sorted by the first.
#[repr(C, align(8))]
struct Table([u8; TABLE_BYTES]);

#[used]
#[unsafe(link_section = ".ksyms")]
static TABLE: Table = {
    let mut bytes = [0; TABLE_BYTES];
    let mut i = 0;
    while i < MAGIC.len() {
        bytes[i] = MAGIC[i];
        i += 1;
    }
    Table(bytes)
};

fn table() -> &'static [u8] {
    // The bytes change after the compiler saw them.
    core::hint::black_box(&TABLE.0)
}

/// The name of the function at or before `address`, and the distance to its start.
fn lookup(address: u64) -> Option<(&'static str, u64)> {
    let offset = u32::try_from(address.checked_sub(IMAGE_BASE)?).ok()?;
    table::find(table(), offset).map(|(name, distance)| (name, distance.into()))
}

/// Prints as `name+0x12`, or nothing when the name is not known.
pub struct Symbol(pub u64);

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match lookup(self.0).filter(|_| crate::layout::is_code(self.0)) {
            Some((name, distance)) => write!(f, "{name}+{distance:#x}"),
            None => Ok(()),
        }
    }
}
