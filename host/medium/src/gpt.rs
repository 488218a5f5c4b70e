//! A GUID partition table: made, read, grown.

use crate::{SECTOR, crc32};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::RangeInclusive;

/// Sectors at each end of the disk: header and 128 entries; at the beginning the protective MBR before them.
const TABLE: u64 = 33;
const ENTRIES: usize = 128;
const ENTRY: usize = 128;
const HEADER: usize = 92;
const SIGNATURE: &[u8; 8] = b"EFI PART";

/// A GUID, its bytes in the order of the text.
pub type Guid = [u8; 16];

/// Kinds of partitions.
pub mod kind {
    use super::Guid;

    /// GRUB's core image, for the BIOS (`21686148-6449-6E6F-744E-656564454649`).
    pub const BIOS_BOOT: Guid = *b"\x21\x68\x61\x48\x64\x49\x6e\x6f\x74\x4e\x65\x65\x64\x45\x46\x49";
    /// EFI system partition (`C12A7328-F81F-11D2-BA4B-00A0C93EC93B`).
    pub const ESP: Guid = *b"\xc1\x2a\x73\x28\xf8\x1f\x11\xd2\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b";
    /// Linux data (`0FC63DAF-8483-4772-8E79-3D69D8477DE4`).
    pub const LINUX: Guid = *b"\x0f\xc6\x3d\xaf\x84\x83\x47\x72\x8e\x79\x3d\x69\xd8\x47\x7d\xe4";
}

/// Why a table cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What is on it.
    #[error("no partition table that is understood here: {0}")]
    Bad(&'static str),
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub kind: Guid,
    /// Its own number.
    pub guid: Guid,
    /// First and last sector.
    pub sectors: RangeInclusive<u64>,
    /// Its name, up to 36 letters.
    pub name: String,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The disk's number.
    pub guid: Guid,
    /// In the order of their numbers, from 1 on.
    pub partitions: Vec<Partition>,
}

/// GUIDs are stored with their first three fields little-endian.
fn swapped(guid: &Guid) -> Guid {
    let [a, b, c, d, e, f, g, h, rest @ ..] = *guid;
    let mut out = [0; 16];
    out[..8].copy_from_slice(&[d, c, b, a, f, e, h, g]);
    out[8..].copy_from_slice(&rest);
    out
}

/// The last sector that partitions may have on a disk of this many.
pub fn last_usable(sectors: u64) -> u64 {
    sectors.saturating_sub(TABLE + 1)
}

impl Table {
    fn entries(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for partition in self.partitions.iter().take(ENTRIES) {
            let start = out.len();
            out.extend(swapped(&partition.kind));
            out.extend(swapped(&partition.guid));
            for sector in [partition.sectors.start(), partition.sectors.end()] {
                out.extend(sector.to_le_bytes());
            }
            out.extend([0; 8]);
            out.extend(partition.name.encode_utf16().take(36).flat_map(u16::to_le_bytes));
            out.resize(start + ENTRY, 0);
        }
        out.resize(ENTRIES * ENTRY, 0);
        out
    }

    fn header(&self, entries: &[u8], sectors: u64, backup: bool) -> Vec<u8> {
        let last = sectors.saturating_sub(1);
        let (here, other, table) =
            if backup { (last, 1, last.saturating_sub(TABLE - 1)) } else { (1, last, 2) };
        let mut out = SIGNATURE.to_vec();
        out.extend(0x1_0000u32.to_le_bytes());
        out.extend((HEADER as u32).to_le_bytes());
        out.extend([0; 8]);
        for sector in [here, other, TABLE + 1, last_usable(sectors)] {
            out.extend(sector.to_le_bytes());
        }
        out.extend(swapped(&self.guid));
        out.extend(table.to_le_bytes());
        for word in [ENTRIES as u32, ENTRY as u32, crc32(entries)] {
            out.extend(word.to_le_bytes());
        }
        let crc = crc32(&out).to_le_bytes();
        out[16..20].copy_from_slice(&crc);
        out.resize(SECTOR as usize, 0);
        out
    }

    /// Writes the table at both ends of a disk of so many sectors. The first 440 bytes, code for the BIOS, stay as they are.
    pub fn write(&self, disk: &mut (impl Write + Seek), sectors: u64) -> io::Result<()> {
        let entries = self.entries();
        // The backup first: killed in between, one of the two is whole.
        disk.seek(SeekFrom::Start(sectors.saturating_sub(TABLE) * SECTOR))?;
        disk.write_all(&entries)?;
        disk.write_all(&self.header(&entries, sectors, true))?;
        disk.seek(SeekFrom::Start(440))?;
        disk.write_all(&protective_mbr(sectors))?;
        disk.write_all(&self.header(&entries, sectors, false))?;
        disk.write_all(&entries)?;
        disk.flush()
    }

    /// Reads a disk's table.
    pub fn read(disk: &mut (impl Read + Seek)) -> Result<Self, Error> {
        let mut bytes = vec![0; (TABLE as usize) * SECTOR as usize];
        disk.seek(SeekFrom::Start(SECTOR))?;
        disk.read_exact(&mut bytes)?;
        Self::parse(&bytes)
    }

    /// Reads a table from the bytes of the second sector on.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let get = |at: usize, length: usize| bytes.get(at..at + length).ok_or(Error::Bad("it is cut short"));
        let long = |at| Ok::<_, Error>(u64::from_le_bytes(get(at, 8)?.try_into().unwrap_or_default()));
        let word = |at| Ok::<_, Error>(u32::from_le_bytes(get(at, 4)?.try_into().unwrap_or_default()));
        let guid = |at| Ok::<_, Error>(swapped(&get(at, 16)?.try_into().unwrap_or_default()));
        if get(0, 8)? != SIGNATURE {
            return Err(Error::Bad("the signature is missing"));
        }
        if (word(12)?, long(72)?, word(80)?, word(84)?) != (HEADER as u32, 2, ENTRIES as u32, ENTRY as u32) {
            return Err(Error::Bad("its form is another"));
        }
        let mut header = get(0, HEADER)?.to_vec();
        header.iter_mut().skip(16).take(4).for_each(|b| *b = 0);
        if crc32(&header) != word(16)? {
            return Err(Error::Bad("the header's checksum is wrong"));
        }
        let entries = get(SECTOR as usize, ENTRIES * ENTRY)?;
        if crc32(entries) != word(88)? {
            return Err(Error::Bad("the entries' checksum is wrong"));
        }
        let mut partitions = Vec::new();
        for (number, entry) in entries.chunks_exact(ENTRY).enumerate() {
            if entry.iter().take(16).all(|b| *b == 0) {
                continue;
            }
            // Numbers are kept only where there is no hole among them.
            if partitions.len() != number {
                return Err(Error::Bad("an entry in the middle is empty"));
            }
            let at = SECTOR as usize + number * ENTRY;
            let name: Vec<u16> = get(at + 56, 72)?
                .chunks_exact(2)
                .map(|c| u16::from_le_bytes([c[0], c[1]]))
                .take_while(|c| *c != 0)
                .collect();
            let (first, last) = (long(at + 32)?, long(at + 40)?);
            if first > last {
                return Err(Error::Bad("a partition ends before it begins"));
            }
            partitions.push(Partition {
                kind: guid(at)?,
                guid: guid(at + 16)?,
                sectors: first..=last,
                name: String::from_utf16_lossy(&name),
            });
        }
        Ok(Self { guid: guid(56)?, partitions })
    }

    /// Lets the last partition reach to the end of a disk of so many sectors; says whether that makes it larger.
    pub fn grow_last(&mut self, sectors: u64) -> bool {
        // Partitions end where a megabyte does.
        let end = (last_usable(sectors) + 1) / 2048 * 2048;
        let Some(last) = self.partitions.iter_mut().max_by_key(|p| *p.sectors.start()) else { return false };
        if end == 0 || end - 1 <= *last.sectors.end() {
            return false;
        }
        last.sectors = *last.sectors.start()..=end - 1;
        true
    }
}

/// From byte 440 of the first sector on: one partition of a kind that old tools leave alone.
fn protective_mbr(sectors: u64) -> Vec<u8> {
    let mut out = vec![0; 6];
    // Not active: a BIOS that insists on an active partition is older than those with SVM.
    out.extend([0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    out.extend(1u32.to_le_bytes());
    out.extend(u32::try_from(sectors.saturating_sub(1)).unwrap_or(u32::MAX).to_le_bytes());
    out.resize(70, 0);
    out.extend([0x55, 0xaa]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn table() -> Table {
        let partition = |n: u8, first: u64, last: u64| Partition {
            kind: kind::LINUX,
            guid: [n; 16],
            sectors: first..=last,
            name: format!("part-{n}"),
        };
        Table { guid: [9; 16], partitions: vec![partition(1, 2048, 4095), partition(2, 4096, 8191)] }
    }

    #[test]
    fn what_is_written_is_read_and_the_backup_is_the_same() {
        let sectors = 10240;
        let mut disk = Cursor::new(vec![7; (sectors * SECTOR) as usize]);
        table().write(&mut disk, sectors).unwrap();
        let bytes = disk.get_ref().clone();
        assert_eq!(Table::read(&mut disk).unwrap(), table());
        assert_eq!(bytes[..440], [7; 440], "the BIOS's code stays");
        assert_eq!(bytes[510..512], [0x55, 0xaa]);
        let backup = bytes.len() - 33 * 512;
        assert_eq!(bytes[1024..1024 + 32 * 512], bytes[backup..backup + 32 * 512]);
        assert_eq!(&bytes[bytes.len() - 512..bytes.len() - 504], SIGNATURE);
    }

    #[test]
    fn the_last_partition_grows_with_the_disk_and_never_shrinks() {
        let mut grown = table();
        assert!(!grown.grow_last(8191 + 34));
        assert!(grown.grow_last(1 << 20));
        assert_eq!(grown.partitions[1].sectors, 4096..=(1 << 20) - 2049);
        assert!(!grown.grow_last(1 << 20));
        assert!(!grown.grow_last(0));
    }

    #[test]
    fn sfdisk_understands_it() {
        let Ok(tool) =
            ["/usr/sbin/sfdisk", "/sbin/sfdisk"].iter().find(|p| std::path::Path::new(p).exists()).ok_or(())
        else {
            // In Debian's package `fdisk`, which not every machine has.
            return;
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(10240 * SECTOR).unwrap();
        table().write(&mut file.as_file(), 10240).unwrap();
        let out = std::process::Command::new(tool).args(["--verify"]).arg(file.path()).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && said.contains("No errors"), "{said}");
    }

    proptest! {
        #[test]
        fn damage_is_noticed_and_never_a_panic(at in 0usize..33 * 512, value: u8, cut in 0usize..33 * 512) {
            let mut disk = Cursor::new(vec![0; 10240 * 512]);
            table().write(&mut disk, 10240).unwrap();
            let mut bytes = disk.into_inner()[512..34 * 512].to_vec();
            let whole = bytes.clone();
            bytes[at] = value;
            let read = Table::parse(&bytes);
            // Behind the header's end nothing counts.
            prop_assert!(read.is_err() || bytes == whole || (92..512).contains(&at));
            prop_assert!(Table::parse(&bytes[..cut]).is_err());
        }
    }
}
