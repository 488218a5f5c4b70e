//! What guests have read, written, sent and received: counters of the kernel's back ends in sysfs, and those that `radon-block` keeps.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// One domain's counters, of all its devices, since each was made. Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Io {
    /// Read from disks.
    pub read: u64,
    /// Written to them.
    pub written: u64,
    /// Sent by the guest.
    pub sent: u64,
    /// Received by it.
    pub received: u64,
}

/// Bytes of a sector, as blkback counts.
const SECTOR: u64 = 512;
/// Where `radon-block` keeps its counters, unless it was told otherwise.
const OWN: &str = "/run/radon-block";

/// Those of every domain that has such devices.
pub fn all() -> BTreeMap<u16, Io> {
    below(Path::new("/sys"), Path::new(OWN))
}

fn below(sysfs: &Path, own: &Path) -> BTreeMap<u16, Io> {
    let mut all: BTreeMap<u16, Io> = BTreeMap::new();
    for (name, path) in entries(&sysfs.join("bus/xen-backend/devices")) {
        if let Some(domid) = name.strip_prefix("vbd-").and_then(|rest| domain(rest, '-')) {
            let io = all.entry(domid).or_default();
            let sectors = |file: &str| counter(&path.join("statistics").join(file)).saturating_mul(SECTOR);
            io.read = io.read.saturating_add(sectors("rd_sect"));
            io.written = io.written.saturating_add(sectors("wr_sect"));
        }
    }
    // `12-51712.counters`: names and numbers, as `radon-block list` shows them.
    for (name, path) in entries(own) {
        if let Some(domid) = name.strip_suffix(".counters").and_then(|rest| domain(rest, '-')) {
            let io = all.entry(domid).or_default();
            let text = fs::read_to_string(path).unwrap_or_default();
            let counted = text.split_whitespace().filter_map(|word| word.split_once('='));
            for (counter, value) in counted.filter_map(|(name, value)| Some((name, value.parse().ok()?))) {
                match counter {
                    "bytes-read" => io.read = io.read.saturating_add(value),
                    "bytes-written" => io.written = io.written.saturating_add(value),
                    _ => {}
                }
            }
        }
    }
    for (name, path) in entries(&sysfs.join("class/net")) {
        if let Some(domid) = name.strip_prefix("vif").and_then(|rest| domain(rest, '.')) {
            let io = all.entry(domid).or_default();
            let bytes = |file: &str| counter(&path.join("statistics").join(file));
            // What dom0's end receives, the guest has sent.
            io.sent = io.sent.saturating_add(bytes("rx_bytes"));
            io.received = io.received.saturating_add(bytes("tx_bytes"));
        }
    }
    all
}

/// The domain of `12-51712` and `12.0`.
fn domain(rest: &str, mark: char) -> Option<u16> {
    let (domid, device) = rest.split_once(mark)?;
    device.parse::<u32>().ok()?;
    domid.parse().ok()
}

fn entries(folder: &Path) -> Vec<(String, std::path::PathBuf)> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    found.map(|e| (e.file_name().to_string_lossy().into_owned(), e.path())).collect()
}

fn counter(path: &Path) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_a_domain_are_added_up() {
        let sysfs = tempfile::tempdir().unwrap();
        let put = |path: &str, value: &str| {
            let path = sysfs.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        };
        for disk in ["51712", "51728"] {
            put(&format!("bus/xen-backend/devices/vbd-3-{disk}/statistics/rd_sect"), "4\n");
            put(&format!("bus/xen-backend/devices/vbd-3-{disk}/statistics/wr_sect"), "1\n");
        }
        put("bus/xen-backend/devices/vif-3-0/nodename", "x");
        put("class/net/vif3.0/statistics/rx_bytes", "100\n");
        put("class/net/vif3.0/statistics/tx_bytes", "7\n");
        put("class/net/vif4.0-q/statistics/rx_bytes", "1\n");
        put("class/net/eth0/statistics/rx_bytes", "1\n");
        let own = tempfile::tempdir().unwrap();
        let counters = "reads=9 writes=1 errors=0 bytes-read=10 bytes-shared=7 bytes-written=20 ";
        for name in ["3-51744.counters", "5-51712.counters", "5-51712.0123.0", "lock"] {
            fs::write(own.path().join(name), counters).unwrap();
        }
        let all = below(sysfs.path(), own.path());
        let disks = Io { read: 10, written: 20, ..Io::default() };
        let three = Io { read: 4096 + 10, written: 1024 + 20, sent: 100, received: 7 };
        assert_eq!(all, BTreeMap::from([(3, three), (5, disks)]));
        assert!(below(&sysfs.path().join("none"), &own.path().join("none")).is_empty());
    }
}
