//! Disks to boot from, made without tools and without time: the same content gives the same bytes.
//!
//! | module | the noun |
//! |---|---|
//! | [`gpt`] | a partition table (UEFI specification 2.10, chapter 5) |
//! | [`fat`] | a FAT16 or FAT32 file system with files in it (Microsoft's "FAT32 File System Specification", 1.03) |
#![forbid(unsafe_code)]

pub mod fat;
pub mod gpt;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;

/// CRC-32 as in GPT, zip and Ethernet.
pub fn crc32(bytes: &[u8]) -> u32 {
    let fold = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| c >> 1 ^ if c & 1 == 1 { 0xedb8_8320 } else { 0 })
    };
    !bytes.iter().fold(!0, fold)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_check_value_of_crc_32() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926);
    }
}
