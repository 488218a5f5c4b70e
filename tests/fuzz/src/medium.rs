//! The partition table of a disk that the host starts from.

use radon_medium::{SECTOR, crc32, gpt::Table};
use std::io::Cursor;

/// Bytes of header and entries.
const TABLE: usize = 33 * SECTOR as usize;
/// Sectors of the disk that a table is written to again.
const SECTORS: u64 = 100;

/// Byte 0: whether the checksums are made right. Bytes 1 to 8: sectors of the disk that the table is to grow into. Then the disk from its
/// second sector on, the rest zeros. What is read can be written and read again, and no partition shrinks.
pub fn gpt(data: &[u8]) {
    let Some((&[how, ref sectors @ ..], rest)) = data.split_first_chunk::<9>() else { return };
    let sectors = u64::from_le_bytes(*sectors);
    let mut bytes = rest.to_vec();
    bytes.resize(TABLE, 0);
    if how & 1 != 0 {
        let entries = crc32(&bytes[SECTOR as usize..]).to_le_bytes();
        bytes[88..92].copy_from_slice(&entries);
        bytes[16..20].fill(0);
        let header = crc32(&bytes[..92]).to_le_bytes();
        bytes[16..20].copy_from_slice(&header);
    }
    let Ok(mut table) = Table::parse(&bytes) else { return };
    let mut disk = Cursor::new(vec![0; (SECTORS * SECTOR) as usize]);
    table.write(&mut disk, SECTORS).expect("a disk in memory");
    assert_eq!(disk.get_ref().len() as u64, SECTORS * SECTOR);
    assert_eq!(Table::read(&mut disk).expect("what was written"), table);
    let before = table.clone();
    let grew = table.grow_last(sectors);
    assert_eq!(grew, table != before);
    for (old, new) in before.partitions.iter().zip(&table.partitions) {
        assert!(new.sectors.start() == old.sectors.start() && new.sectors.end() >= old.sectors.end());
        assert!(new == old || *new.sectors.end() < sectors);
    }
}
