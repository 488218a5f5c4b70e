//! A FAT file system with files in it, made at once: FAT16 up to 128 MiB, FAT32 above.
//!
//! Files lie in one piece each, in the order given; every time in it is 1980-01-01, the first that FAT knows. Names are kept as
//! they are, by VFAT's long entries.

use crate::SECTOR;
use std::collections::BTreeMap;
use std::io::{self, Seek, SeekFrom, Write};

const S: usize = SECTOR as usize;
/// 1980-01-01 in a directory entry.
const DAY: u16 = 0x21;
const DIRECTORY: u8 = 0x10;
const LONG_NAME: u8 = 0x0f;
const LABEL: u8 = 0x08;
/// Entries of FAT16's root folder.
const ROOT: usize = 512;
/// From so many sectors on it is FAT32 (128 MiB).
const LARGE: u64 = 1 << 18;

/// Why it cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The files need more.
    #[error("the files need {need} KiB; the file system has {has} KiB")]
    Full {
        /// KiB of all files.
        need: u64,
        /// KiB for files.
        has: u64,
    },
    /// This is no size for it.
    #[error("a FAT file system of {0} KiB cannot be made here: 4 MiB to 32 GiB can")]
    Size(u64),
}

/// A file: its path with `/`, its content.
pub type File<'a> = (String, &'a [u8]);

/// Where everything is.
struct Layout {
    fat32: bool,
    sectors: u64,
    reserved: u64,
    /// Sectors of one of the two tables.
    table: u64,
    per_cluster: u64,
    clusters: u64,
}

impl Layout {
    fn new(sectors: u64) -> Result<Self, Error> {
        let fat32 = sectors >= LARGE;
        if !(8192..=64 << 20).contains(&sectors) {
            return Err(Error::Size(sectors / 2));
        }
        let (reserved, root, entry) = if fat32 { (32, 0, 4) } else { (4, (ROOT * 32 / S) as u64, 2) };
        // FAT16 has up to 65524 clusters, FAT32 at least 65525.
        let per_cluster = match fat32 {
            true if sectors < 1 << 20 => 1,
            true => 8,
            false => 1 << (sectors >> 16).min(2),
        };
        let most = (sectors - reserved - root) / per_cluster;
        let table = ((most + 2) * entry).div_ceil(SECTOR);
        let clusters = (sectors - reserved - root - 2 * table) / per_cluster;
        Ok(Self { fat32, sectors, reserved, table, per_cluster, clusters })
    }

    fn root_at(&self) -> u64 {
        self.reserved + 2 * self.table
    }

    /// First sector of a cluster.
    fn at(&self, cluster: u64) -> u64 {
        let data = self.root_at() + if self.fat32 { 0 } else { (ROOT * 32 / S) as u64 };
        data + (cluster - 2) * self.per_cluster
    }

    fn clusters_for(&self, bytes: usize) -> u64 {
        (bytes as u64).div_ceil(self.per_cluster * SECTOR)
    }

    fn boot_sector(&self, label: &[u8; 11], serial: u32) -> Vec<u8> {
        let mut out = b"\xeb\x58\x90MSWIN4.1".to_vec();
        out.extend((S as u16).to_le_bytes());
        out.push(self.per_cluster as u8);
        out.extend((self.reserved as u16).to_le_bytes());
        out.push(2);
        out.extend((if self.fat32 { 0 } else { ROOT as u16 }).to_le_bytes());
        out.extend(0u16.to_le_bytes());
        out.push(0xf8);
        out.extend((if self.fat32 { 0 } else { self.table as u16 }).to_le_bytes());
        out.extend([63, 0, 255, 0]);
        out.extend([0; 4]);
        out.extend((self.sectors as u32).to_le_bytes());
        if self.fat32 {
            out.extend((self.table as u32).to_le_bytes());
            out.extend([0; 4]);
            // The root folder's cluster, the information sector, the copy of this one.
            out.extend(2u32.to_le_bytes());
            out.extend([1, 0, 6, 0]);
            out.extend([0; 12]);
        }
        out.extend([0x80, 0, 0x29]);
        out.extend(serial.to_le_bytes());
        out.extend(label);
        out.extend(if self.fat32 { b"FAT32   " } else { b"FAT16   " });
        out.resize(S - 2, 0);
        out.extend([0x55, 0xaa]);
        out
    }

    /// FAT32's information sector: how many clusters are free, and where to look.
    fn information(&self, used: u64) -> Vec<u8> {
        let mut out = b"RRaA".to_vec();
        out.resize(484, 0);
        out.extend(b"rrAa");
        out.extend(((self.clusters - used) as u32).to_le_bytes());
        out.extend((used as u32 + 2).to_le_bytes());
        out.resize(S - 2, 0);
        out.extend([0x55, 0xaa]);
        out
    }
}

/// A folder being filled: names to files or folders.
#[derive(Default)]
struct Folder<'a> {
    entries: BTreeMap<String, Node<'a>>,
}

enum Node<'a> {
    File(&'a [u8]),
    Folder(Folder<'a>),
}

impl<'a> Folder<'a> {
    fn add(&mut self, path: &str, content: &'a [u8]) {
        match path.trim_matches('/').split_once('/') {
            None => drop(self.entries.insert(path.to_owned(), Node::File(content))),
            Some((first, rest)) => {
                let node =
                    self.entries.entry(first.to_owned()).or_insert_with(|| Node::Folder(Folder::default()));
                if let Node::Folder(folder) = node {
                    folder.add(rest, content);
                }
            }
        }
    }

    /// Bytes of the folder itself; `.` and `..` with it, or the label.
    fn length(&self) -> usize {
        (2 + self.entries.keys().map(|name| 1 + long_entries(name)).sum::<usize>()) * 32
    }
}

/// How many entries a long name takes.
fn long_entries(name: &str) -> usize {
    name.encode_utf16().count().div_ceil(13)
}

/// What is being written: the table of clusters, and pieces of content.
struct Writer<'a, W> {
    layout: &'a Layout,
    disk: &'a mut W,
    start: u64,
    chain: Vec<u32>,
}

impl<W: Write + Seek> Writer<'_, W> {
    fn seek(&mut self, sector: u64) -> io::Result<()> {
        self.disk.seek(SeekFrom::Start(self.start + sector * SECTOR)).map(drop)
    }

    /// Takes clusters in one piece; the first one.
    fn take(&mut self, count: u64) -> Result<u32, Error> {
        let first = self.chain.len() as u32;
        if u64::from(first) + count > self.layout.clusters + 2 {
            let unit = self.layout.per_cluster * SECTOR;
            let (need, has) = ((u64::from(first) + count) * unit / 1024, self.layout.clusters * unit / 1024);
            return Err(Error::Full { need, has });
        }
        for n in 1..=count as u32 {
            let last = u64::from(n) == count;
            self.chain.push(if last { 0x0fff_ffff } else { first + n });
        }
        Ok(first)
    }

    fn content(&mut self, cluster: u32, bytes: &[u8]) -> io::Result<()> {
        self.seek(self.layout.at(u64::from(cluster)))?;
        self.disk.write_all(bytes)
    }

    /// Writes what is in a folder, then the folder's own entries, and returns these.
    fn folder(&mut self, folder: &Folder<'_>, own: u32, first: Vec<u8>) -> Result<Vec<u8>, Error> {
        let mut out = first;
        for (number, (name, node)) in folder.entries.iter().enumerate() {
            let (attribute, cluster, length) = match node {
                Node::File(content) => {
                    let count = self.layout.clusters_for(content.len());
                    let cluster = if count == 0 { 0 } else { self.take(count)? };
                    if count > 0 {
                        self.content(cluster, content)?;
                    }
                    (0x20, cluster, content.len() as u32)
                }
                Node::Folder(inner) => {
                    let cluster = self.take(self.layout.clusters_for(inner.length()))?;
                    let dots = [
                        entry(b".          ", DIRECTORY, cluster, 0),
                        entry(b"..         ", DIRECTORY, own, 0),
                    ];
                    let bytes = self.folder(inner, cluster, dots.concat())?;
                    self.content(cluster, &bytes)?;
                    (DIRECTORY, cluster, 0)
                }
            };
            out.extend(named(name, number, attribute, cluster, length));
        }
        Ok(out)
    }

    fn table(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (n, next) in self.chain.iter().enumerate() {
            let next = if n == 0 { 0x0fff_fff8 } else { *next };
            if self.layout.fat32 {
                out.extend(next.to_le_bytes());
            } else {
                out.extend((next as u16).to_le_bytes());
            }
        }
        out.resize((self.layout.table * SECTOR) as usize, 0);
        out
    }
}

/// A directory entry with a short name.
fn entry(name: &[u8; 11], attribute: u8, cluster: u32, length: u32) -> Vec<u8> {
    let mut out = name.to_vec();
    out.extend([attribute, 0, 0, 0, 0]);
    out.extend(DAY.to_le_bytes());
    out.extend(DAY.to_le_bytes());
    out.extend(((cluster >> 16) as u16).to_le_bytes());
    out.extend([0, 0]);
    out.extend(DAY.to_le_bytes());
    out.extend((cluster as u16).to_le_bytes());
    out.extend(length.to_le_bytes());
    out
}

/// The entries of a name: long ones, and a short one made of the entry's number.
fn named(name: &str, number: usize, attribute: u8, cluster: u32, length: u32) -> Vec<u8> {
    let mut short = *b"           ";
    let text = format!("F{number:06X}");
    short.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    let sum = short.iter().fold(0u8, |sum, b| sum.rotate_right(1).wrapping_add(*b));
    let mut units: Vec<u16> = name.encode_utf16().collect();
    let pieces = long_entries(name);
    if !units.len().is_multiple_of(13) {
        units.push(0);
    }
    units.resize(pieces * 13, 0xffff);
    let mut out = Vec::new();
    for (n, piece) in units.chunks_exact(13).enumerate().rev() {
        let order = (n as u8 + 1) | if n + 1 == pieces { 0x40 } else { 0 };
        let bytes: Vec<u8> = piece.iter().flat_map(|u| u.to_le_bytes()).collect();
        out.push(order);
        out.extend(&bytes[..10]);
        out.extend([LONG_NAME, 0, sum]);
        out.extend(&bytes[10..22]);
        out.extend([0, 0]);
        out.extend(&bytes[22..]);
    }
    out.extend(entry(&short, attribute, cluster, length));
    out
}

/// Makes a file system of `sectors` at byte `start` of a disk whose bytes there are zero.
///
/// `label` is cut or filled to 11 letters.
pub fn write(
    disk: &mut (impl Write + Seek),
    start: u64,
    sectors: u64,
    label: &str,
    serial: u32,
    files: &[File<'_>],
) -> Result<(), Error> {
    let layout = Layout::new(sectors)?;
    let mut name = *b"           ";
    name.iter_mut().zip(label.to_uppercase().bytes()).for_each(|(to, from)| *to = from);
    let mut root = Folder::default();
    files.iter().for_each(|(path, content)| root.add(path.trim_start_matches('/'), content));
    let mut writer = Writer { layout: &layout, disk, start, chain: vec![0x0fff_fff8, 0x0fff_ffff] };
    if !layout.fat32 && root.length() > ROOT * 32 {
        return Err(Error::Full { need: root.length() as u64 / 1024, has: (ROOT * 32 / 1024) as u64 });
    }
    let own = if layout.fat32 { writer.take(layout.clusters_for(root.length()))? } else { 0 };
    // To its subfolders the root is cluster 0, whatever it is.
    let bytes = writer.folder(&root, 0, entry(&name, LABEL, 0, 0))?;
    let root_at = if layout.fat32 { layout.at(u64::from(own)) } else { layout.root_at() };
    writer.seek(root_at)?;
    writer.disk.write_all(&bytes)?;
    let used = writer.chain.len() as u64 - 2;
    let table = writer.table();
    let boot = layout.boot_sector(&name, serial);
    for copy in if layout.fat32 { [0, 6].as_slice() } else { &[0] } {
        writer.seek(*copy)?;
        writer.disk.write_all(&boot)?;
        if layout.fat32 {
            writer.disk.write_all(&layout.information(used))?;
        }
    }
    writer.seek(layout.reserved)?;
    writer.disk.write_all(&table)?;
    writer.disk.write_all(&table)?;
    Ok(writer.disk.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use std::process::Command;

    fn tool(name: &str) -> Option<std::path::PathBuf> {
        ["/usr/bin", "/usr/sbin", "/sbin"]
            .iter()
            .map(|d| std::path::Path::new(d).join(name))
            .find(|p| p.exists())
    }

    /// mtools reads every file back, at both sizes.
    #[test]
    fn mtools_reads_what_was_written() {
        let big: Vec<u8> = (0..3_000_000u32).flat_map(|n| (n as u8 ^ (n >> 8) as u8).to_le_bytes()).collect();
        let files: Vec<File<'_>> = vec![
            ("meta-data".into(), b"instance-id: x\n"),
            ("EFI/BOOT/BOOTX64.EFI".into(), &big),
            ("a folder/with a rather long name.cfg".into(), b"y"),
            ("empty".into(), b""),
        ];
        let mcopy = tool("mcopy").expect("mtools (`cargo xtask setup` installs it)");
        for sectors in [8192u64, 70_000, 1 << 18, 1 << 20] {
            let files = if sectors == 8192 { &files[..1] } else { &files[..] };
            let image = tempfile::NamedTempFile::new().unwrap();
            image.as_file().set_len(sectors * SECTOR).unwrap();
            write(&mut image.as_file(), 0, sectors, "radon", 1, files).unwrap();
            for (path, content) in files {
                let out = Command::new(&mcopy)
                    .arg("-i")
                    .arg(image.path())
                    .args([&format!("::{path}"), "-"])
                    .output()
                    .unwrap();
                assert!(out.status.success(), "{sectors} {path}: {}", String::from_utf8_lossy(&out.stderr));
                assert_eq!(out.stdout.len(), content.len());
                assert!(out.stdout == *content, "{path}");
            }
            if let Some(fsck) = tool("fsck.fat") {
                let out = Command::new(fsck).arg("-n").arg(image.path()).output().unwrap();
                assert!(out.status.success(), "{sectors}: {}", String::from_utf8_lossy(&out.stdout));
            }
        }
    }

    #[test]
    fn the_same_files_are_the_same_bytes_and_too_many_are_an_error() {
        let make = |content: &[u8]| {
            let mut disk = Cursor::new(vec![0; 8192 * 512]);
            write(&mut disk, 0, 8192, "cidata", 7, &[("user-data".into(), content)])
                .map(|()| disk.into_inner())
        };
        assert!(make(b"x").unwrap() == make(b"x").unwrap());
        assert!(matches!(make(&[1; 5 << 20]), Err(Error::Full { .. })));
        assert!(matches!(Layout::new(100), Err(Error::Size(50))));
    }

    #[test]
    fn the_number_of_clusters_says_which_kind_it_is() {
        for sectors in
            (8192..=64u64 << 20).step_by(333_667).chain([LARGE - 1, LARGE, (1 << 20) - 1, 1 << 20, 8192])
        {
            let layout = Layout::new(sectors).unwrap();
            assert_eq!(layout.clusters >= 65_525, layout.fat32, "{sectors}: {}", layout.clusters);
            assert!(layout.clusters >= 4085);
            assert!(layout.at(layout.clusters + 2) <= sectors);
        }
    }
}
