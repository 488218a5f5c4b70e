//! What a repository asks of the file system it lies on.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use radon_image::{FileSource, ReadAt};
use radon_linux::fiemap;
use rustix::fs::{Mode, OFlags, ioctl_ficlone, open, statfs};
use rustix::io::Errno;

use crate::error::At;
use crate::held::Held;
use crate::{Extent, Place, Result, VolumeError};

/// What a repository asks of the file system it lies on.
pub trait FileSystem: Send + Sync {
    /// Its name, for people.
    fn name(&self) -> &'static str;

    /// Makes an empty file share all blocks of another, as they are at one moment.
    fn clone_file(&self, from: &File, to: &File) -> io::Result<()> {
        Ok(ioctl_ficlone(to, from)?)
    }

    /// Where a file's bytes lie. What has been written is on the disk afterwards.
    fn extents(&self, file: &File) -> io::Result<Vec<Extent>>;
}

/// A local file system that shares blocks: XFS; also Btrfs.
#[derive(Debug)]
pub struct Reflink(&'static str);

impl FileSystem for Reflink {
    fn name(&self) -> &'static str {
        self.0
    }

    fn extents(&self, file: &File) -> io::Result<Vec<Extent>> {
        fiemap::all(file)
    }
}

/// NFS 4.2: the server shares blocks (CLONE) and knows holes (SEEK), but does not say where bytes lie.
#[derive(Debug)]
pub struct Nfs;

impl FileSystem for Nfs {
    fn name(&self) -> &'static str {
        "nfs"
    }

    fn extents(&self, file: &File) -> io::Result<Vec<Extent>> {
        file.sync_all()?;
        let source = FileSource::new(file.try_clone()?)?;
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(data) = source.next_data(at)? {
            let (start, length) = (data.start, data.end - data.start);
            found.push(Extent { start, length, place: Place::Unknown, shared: true });
            at = data.end;
        }
        Ok(found)
    }
}

const XFS: i64 = 0x5846_5342;
const BTRFS: i64 = 0x9123_683e;
const NFS: i64 = 0x6969;

/// Finds out what a folder lies on, and tries whether it shares blocks.
pub(crate) fn detect(dir: &Path) -> Result<Box<dyn FileSystem>> {
    let kind = statfs(dir).at(dir)?.f_type;
    let system: Box<dyn FileSystem> = match kind {
        NFS => Box::new(Nfs),
        XFS => Box::new(Reflink("xfs")),
        BTRFS => Box::new(Reflink("btrfs")),
        _ => Box::new(Reflink("unknown")),
    };
    let (from, to) = (nameless(dir)?, nameless(dir)?);
    rustix::io::write(&from, &[1; 4096]).at(dir)?;
    system
        .clone_file(&from, &to)
        .map_err(|cause| VolumeError::NoReflink { dir: dir.to_path_buf(), cause })?;
    Ok(system)
}

/// A file without a name: gone when it is closed, however that comes about.
pub(crate) fn nameless(dir: &Path) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match open(dir, flags, mode) {
        Ok(file) => Ok(file.into()),
        // NFS has no such thing. A file that loses its name there keeps a hidden one while it is open; only if the whole machine dies,
        // that is left over, for `sweep`.
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
            let path = dir.join(format!("nameless-{}", crate::VolumeId::random().at(dir)?));
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = File::from(open(&path, flags, mode).at(&path)?);
            file.try_lock().map_err(io::Error::from).at(&path)?;
            std::fs::remove_file(&path).at(&path)?;
            Ok(file)
        }
        Err(error) => Err(error).at(dir),
    }
}

/// Removes the nameless files of machines that are no more: whoever lives has his locked.
pub(crate) fn sweep(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir).at(dir)? {
        let path = entry.at(dir)?.path();
        let opened = File::options().read(true).write(true).open(&path);
        if opened.is_ok_and(|file| Held::lock(file).is_ok()) {
            std::fs::remove_file(&path).at(&path)?;
        }
    }
    Ok(())
}

/// Has a folder's entries on the disk.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    let handle = File::open(dir).at(dir)?;
    rustix::fs::fsync(handle.as_fd()).at(dir)
}
