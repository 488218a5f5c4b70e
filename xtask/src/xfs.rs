//! An XFS of a test's own, whose files can share blocks.

use crate::shell;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::PathBuf;

/// A mounted one, in a folder of the target directory; unmounted, and its image removed, when it is dropped. What else is put into
/// the folder stays, to be looked at.
pub struct Xfs {
    base: PathBuf,
}

impl Xfs {
    /// An empty one of so many bytes. What the last one in the same folder left goes.
    pub fn new(base: PathBuf, size: u64) -> Result<Self> {
        let mounted = Self { base };
        mounted.clear();
        let _ = fs::remove_dir_all(&mounted.base);
        let (image, dir) = (mounted.image(), mounted.dir());
        fs::create_dir_all(&dir)?;
        File::create(&image)?.set_len(size)?;
        shell::quiet(shell::command("mkfs.xfs").args(["-q", "-m", "reflink=1"]).arg(&image))?;
        shell::quiet(shell::command("mount").args(["-o", "loop"]).arg(&image).arg(&dir))
            .context("cannot mount an XFS: run this as root, on a machine with loop devices and XFS")?;
        Ok(mounted)
    }

    /// Where it is mounted.
    pub fn dir(&self) -> PathBuf {
        self.base.join("mnt")
    }

    /// The folder that has the image and the mount point.
    pub fn base(&self) -> &PathBuf {
        &self.base
    }

    /// A folder in it.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir().join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    fn image(&self) -> PathBuf {
        self.base.join("image")
    }

    fn clear(&self) {
        let _ = shell::quiet(shell::command("umount").arg("-l").arg(self.dir()));
        let _ = fs::remove_file(self.image());
    }
}

impl Drop for Xfs {
    fn drop(&mut self) {
        self.clear();
    }
}
