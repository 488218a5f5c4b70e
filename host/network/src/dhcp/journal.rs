//! The leases of one network on disk: one line each, the newest of an address counts. A line ends with its checksum, and what
//! follows a line that is not whole was never told to a client.

use super::lease::{Lease, Time};
use crate::error::{Error, Result};
use crate::mac::Mac;
use crate::name::NetworkName;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const PREFIX: &str = "leases-";
/// The file is written anew when it has so many lines more than it needs.
const SPARE: usize = 1000;

/// The file, open for more leases.
#[derive(Debug)]
pub struct LeaseFile {
    path: PathBuf,
    file: File,
    lines: usize,
}

impl LeaseFile {
    /// Where a network's leases are.
    pub fn path(dir: &Path, network: &NetworkName) -> PathBuf {
        dir.join(format!("{PREFIX}{network}"))
    }

    /// Whether a file holds leases.
    pub fn is_one(path: &Path) -> bool {
        path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
    }

    /// The leases of a network: none, if there is no file.
    pub fn read(dir: &Path, network: &NetworkName) -> Result<BTreeMap<Ipv4Addr, Lease>> {
        let path = Self::path(dir, network);
        match fs::read(&path) {
            Ok(bytes) => Ok(parse(&bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(source) => Err(Error::File { path, source }),
        }
    }

    /// Opens a network's file, with the leases that it holds.
    pub fn open(dir: &Path, network: &NetworkName) -> Result<(Self, BTreeMap<Ipv4Addr, Lease>)> {
        let leases = Self::read(dir, network)?;
        let path = Self::path(dir, network);
        // A torn line at the end goes, or it would hide what follows.
        let file = rewrite(&path, &leases).map_err(|source| Error::File { path: path.clone(), source })?;
        Ok((Self { path, file, lines: leases.len() }, leases))
    }

    /// Makes a change durable. `all` are the leases with it.
    pub fn note(&mut self, address: Ipv4Addr, all: &BTreeMap<Ipv4Addr, Lease>) -> Result<()> {
        let result = if self.lines > all.len() + SPARE {
            rewrite(&self.path, all).map(|file| {
                self.file = file;
                self.lines = all.len();
            })
        } else {
            let text = all.get(&address).map(|lease| line(address, *lease)).unwrap_or_default();
            self.lines += 1;
            self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data())
        };
        result.map_err(|source| Error::File { path: self.path.clone(), source })
    }
}

/// Writes the file anew, under another name first.
fn rewrite(path: &Path, leases: &BTreeMap<Ipv4Addr, Lease>) -> std::io::Result<File> {
    // Not one of `is_one`: whoever finds it removes nothing that counts.
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let new = path.with_file_name(format!("new-{name}"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let text: String = leases.iter().map(|(address, lease)| line(*address, *lease)).collect();
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok(file)
}

fn line(address: Ipv4Addr, lease: Lease) -> String {
    let who = lease.mac.map_or_else(|| "declined".to_owned(), |mac| mac.to_string());
    let text = format!("{address} {who} {}", lease.until);
    let sum = crc32fast::hash(text.as_bytes());
    format!("{text} {sum:08x}\n")
}

/// The leases in a file, up to the first line that is not whole.
pub fn parse(bytes: &[u8]) -> BTreeMap<Ipv4Addr, Lease> {
    let whole = bytes.split_inclusive(|b| *b == b'\n').map_while(|line| line.strip_suffix(b"\n"));
    whole.map_while(|line| parse_line(std::str::from_utf8(line).ok()?)).collect()
}

fn parse_line(line: &str) -> Option<(Ipv4Addr, Lease)> {
    let (text, sum) = line.rsplit_once(' ')?;
    if u32::from_str_radix(sum, 16).ok()? != crc32fast::hash(text.as_bytes()) {
        return None;
    }
    let mut words = text.split(' ');
    let address = words.next()?.parse().ok()?;
    let mac: Option<Mac> = match words.next()? {
        "declined" => None,
        mac => Some(mac.parse().ok()?),
    };
    let until: Time = words.next()?.parse().ok()?;
    Some((address, Lease { mac, until }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some(n: u32) -> (Ipv4Addr, Lease) {
        let mac = (!n.is_multiple_of(3)).then(|| Mac::new([0, 1, 2, 3, 4, n as u8 | 1]).unwrap());
        (Ipv4Addr::from_bits(0x0a00_0000 + n), Lease { mac, until: u64::from(n) * 1000 })
    }

    #[test]
    fn the_checksum_is_crc_32() {
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn leases_outlive_a_restart_and_the_file_does_not_grow_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let network: NetworkName = "n".parse().unwrap();
        let (mut file, mut leases) = LeaseFile::open(dir.path(), &network).unwrap();
        for n in 0..3000u32 {
            let (address, lease) = some(n % 10);
            leases.insert(address, Lease { until: u64::from(n), ..lease });
            file.note(address, &leases).unwrap();
        }
        assert_eq!(LeaseFile::read(dir.path(), &network).unwrap(), leases);
        let length = fs::metadata(LeaseFile::path(dir.path(), &network)).unwrap().len();
        assert!(length < 1100 * 50, "{length} bytes");
        // A line that was being written when the machine lost power.
        let mut bytes = fs::read(LeaseFile::path(dir.path(), &network)).unwrap();
        bytes.extend(b"10.0.0.9 00:01:02");
        fs::write(LeaseFile::path(dir.path(), &network), &bytes).unwrap();
        let (mut file, mut again) = LeaseFile::open(dir.path(), &network).unwrap();
        assert_eq!(again, leases);
        let (address, lease) = some(77);
        again.insert(address, lease);
        file.note(address, &again).unwrap();
        assert_eq!(LeaseFile::read(dir.path(), &network).unwrap(), again);
    }

    proptest! {
        #[test]
        fn a_file_cut_anywhere_has_the_lines_before(numbers in proptest::collection::vec(0u32..20, 0..20), cut in 0usize..1200) {
            let text: String = numbers.iter().map(|n| some(*n)).map(|(a, l)| line(a, l)).collect();
            let cut = cut.min(text.len());
            let lines = text[..cut].matches('\n').count();
            let wanted: BTreeMap<_, _> = numbers.iter().take(lines).map(|n| some(*n)).collect();
            prop_assert_eq!(parse(&text.as_bytes()[..cut]), wanted);
        }

        #[test]
        fn garbage_is_no_lease(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
