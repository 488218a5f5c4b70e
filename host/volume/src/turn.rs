//! A turn with the database: the right to change the repository, one thread of one process at a time.
//!
//! A full file system must not keep anybody from deleting, and a transaction needs a few pages. So some room is kept in a file
//! (`reserve`), which is given up for a transaction that leads to more room, and made again when there is some.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags, fallocate};

use crate::database::{Change, Database};
use crate::{Result, Sharing, VolumeError};

/// Bytes kept for transactions on a full file system.
const RESERVE: u64 = 4 << 20;

/// The database, when nobody has a turn.
pub(crate) struct Turns {
    dir: PathBuf,
    sharing: Sharing,
    slot: Mutex<Option<Database>>,
    /// How many want the database to stay open.
    keepers: AtomicUsize,
}

/// The right to change the repository.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    slot: MutexGuard<'a, Option<Database>>,
    /// The database was opened for this turn: others may have been at it.
    pub fresh: bool,
}

impl Turns {
    pub fn new(dir: &Path, sharing: Sharing) -> Self {
        Self { dir: dir.to_path_buf(), sharing, slot: Mutex::new(None), keepers: AtomicUsize::new(0) }
    }

    /// Waits for a turn.
    pub fn wait(&self) -> Result<Turn<'_>> {
        let slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let mut turn = Turn { turns: self, fresh: slot.is_none(), slot };
        turn.open()?;
        Ok(turn)
    }

    fn reserve(&self) -> PathBuf {
        self.dir.join("reserve")
    }

    /// Has the reserve, if there is room for it.
    fn keep_reserve(&self) {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        if let Ok(file) = options.open(self.reserve()) {
            // If there is none now, the next turn tries again.
            let _ = fallocate(&file, FallocateFlags::empty(), 0, RESERVE);
        }
    }
}

impl Turn<'_> {
    fn open(&mut self) -> Result<&Database> {
        if self.slot.is_none() {
            let path = self.turns.dir.join("volumes.redb");
            let opened = match Database::open(&path) {
                // Repair after a loss of power may need room.
                Err(VolumeError::Database(_)) if fs::remove_file(self.turns.reserve()).is_ok() => {
                    Database::open(&path)
                }
                other => other,
            };
            *self.slot = Some(opened?);
        }
        match &*self.slot {
            Some(database) => Ok(database),
            None => unreachable!("it has just been opened"),
        }
    }

    /// Reads the database.
    pub fn read<T>(&mut self, work: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        work(self.open()?)
    }

    /// One transaction: all of it is on the disk, or nothing.
    pub fn change(&mut self, work: impl Fn(&mut Change<'_>) -> Result<()>) -> Result<()> {
        let done = self.open()?.change(work);
        if matches!(done, Err(VolumeError::Database(_))) {
            // After an error it takes nothing more until it is opened again.
            *self.slot = None;
        }
        done
    }

    /// One that leads to more room, or takes back what was begun: the reserve may be used. What it does may be done twice.
    pub fn change_freeing(&mut self, work: impl Fn(&mut Change<'_>) -> Result<()>) -> Result<()> {
        match self.change(&work) {
            Err(VolumeError::Database(_)) => {
                let _ = fs::remove_file(self.turns.reserve());
                self.change(&work)
            }
            other => other,
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.keep_reserve();
        if self.turns.sharing == Sharing::Turns && self.turns.keepers.load(Ordering::Acquire) == 0 {
            *self.slot = None;
        }
    }
}

/// As long as it lives, the database stays open after a turn: several operations in sequence, and nobody else between them.
pub struct Keep<'a>(&'a Turns);

impl<'a> Keep<'a> {
    pub(crate) fn new(turns: &'a Turns) -> Self {
        turns.keepers.fetch_add(1, Ordering::AcqRel);
        Self(turns)
    }
}

impl Drop for Keep<'_> {
    fn drop(&mut self) {
        let mut slot = self.0.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.keepers.fetch_sub(1, Ordering::AcqRel) == 1 && self.0.sharing == Sharing::Turns {
            *slot = None;
        }
    }
}
