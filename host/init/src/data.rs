//! The data partition: found by its name, grown to the disk's end and given a file system at the first start, mounted.

use crate::{Failed, mounts};
use radon_medium::{SECTOR, gpt::Table};
use rustix::mount::MountFlags;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The partition's name in the partition table, and the file system's.
pub const NAME: &str = "RADON-DATA";
/// Where it is mounted.
pub const PLACE: &str = "/var/lib/radon";
/// Bytes at the beginning that are zero where no file system has ever been.
const BLANK: usize = 1 << 20;

/// A partition that was found.
struct Partition {
    device: PathBuf,
    disk: PathBuf,
    disk_sectors: u64,
}

/// Looks at the partitions that the kernel knows.
fn find() -> Option<Partition> {
    for entry in fs::read_dir("/sys/class/block").ok()?.flatten() {
        let path = entry.path();
        let Ok(events) = fs::read_to_string(path.join("uevent")) else { continue };
        if !events.lines().any(|line| line.strip_prefix("PARTNAME=") == Some(NAME)) {
            continue;
        }
        let disk = fs::canonicalize(&path).ok()?.parent()?.to_path_buf();
        let sectors = fs::read_to_string(disk.join("size")).ok()?.trim().parse().ok()?;
        return Some(Partition {
            device: Path::new("/dev").join(entry.file_name()),
            disk: Path::new("/dev").join(disk.file_name()?),
            disk_sectors: sectors,
        });
    }
    None
}

/// Waits for the partition: disks appear some time after their drivers. `plug` loads what new devices ask for.
fn wait(limit: Duration, plug: &mut dyn FnMut() -> bool) -> Option<Partition> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = find() {
            return Some(found);
        }
        if !plug() {
            if Instant::now() >= end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Mounts the data partition; tells what it did. None: there is none, and nothing will be kept.
pub fn mount(
    limit: Duration,
    plug: &mut dyn FnMut() -> bool,
    told: &mut dyn FnMut(String),
) -> Result<Option<PathBuf>, Failed> {
    let Some(mut found) = wait(limit, plug) else { return Ok(None) };
    if blank(&found.device)? {
        if grow(&found)? {
            told(format!("{NAME} reaches to the end of {} now", found.disk.display()));
            found = wait(limit, plug).ok_or("the partition is gone after it was grown")?;
        }
        told(format!("making a file system on {}", found.device.display()));
        let mkfs = Command::new("/usr/sbin/mkfs.xfs")
            .args(["-q", "-m", "reflink=1", "-L", NAME])
            .arg(&found.device)
            .output()
            .map_err(|e| format!("mkfs.xfs: {e}"))?;
        if !mkfs.status.success() {
            return Err(format!("mkfs.xfs: {}", String::from_utf8_lossy(&mkfs.stderr).trim()).into());
        }
    }
    let device = found.device.to_string_lossy().into_owned();
    mounts::one("xfs", &device, PLACE, MountFlags::NOATIME, "")?;
    Ok(Some(found.device))
}

/// Whether nothing was ever written where file systems begin.
fn blank(device: &Path) -> Result<bool, Failed> {
    let mut bytes = vec![0; BLANK];
    let named = |e| format!("{}: {e}", device.display());
    File::open(device).and_then(|mut f| f.read_exact(&mut bytes)).map_err(named)?;
    Ok(bytes.iter().all(|b| *b == 0))
}

/// Lets the partition reach to the disk's end, if it is the last one; the image was made for a small disk.
fn grow(found: &Partition) -> Result<bool, Failed> {
    let mut disk = File::options().read(true).write(true).open(&found.disk)?;
    let mut table = Table::read(&mut disk)?;
    let last = table.partitions.iter().max_by_key(|p| *p.sectors.start());
    if last.is_none_or(|p| p.name != NAME) || !table.grow_last(found.disk_sectors) {
        return Ok(false);
    }
    // The old backup, in the middle of the partition now, must not be taken for a file system's bytes.
    table.write(&mut disk, found.disk_sectors)?;
    disk.sync_all()?;
    disk.seek(SeekFrom::Start(SECTOR))?;
    radon_linux::block::reread_partitions(&disk)?;
    Ok(true)
}
