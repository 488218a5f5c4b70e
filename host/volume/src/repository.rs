//! A storage repository, and what is done with its volumes.
//!
//! ## One of two states
//! Each operation that touches a file first notes in the database what it begins, and takes the note away in the transaction that
//! makes its result visible:
//! ```text
//! create, snapshot, clone, import   note Make -> file -> fsync -> record, note gone         undone: file removed
//! delete                            record gone, note Remove -> unlink -> note gone         done again: file removed
//! resize                            note Resize -> file's size -> fsync -> record, note gone  done again
//! rename                            record
//! ```
//! Whoever opens the database next carries out or undoes what he finds noted. A file belongs to one number, and numbers are never
//! used again, so this can be done any number of times. A file that is being made is locked by its maker; a note whose file is
//! locked is left alone.
//!
//! ## Who has a volume open
//! A writer holds an exclusive lock (flock) on its file, a reader of a snapshot a shared one. Deleting and shrinking need the
//! exclusive lock; snapshots and clones need none.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use radon_image::{FileSource, Format, Identity, Input, Output, SECTOR};

use crate::changes::{compare, differing_bytes, join};
use crate::database::Database;
use crate::error::At;
use crate::filesystem::{self, FileSystem, detect, nameless, sync_dir};
use crate::held::Held;
use crate::record::Intent;
use crate::transfer::{Disk, Progress, VolumeSink};
use crate::turn::{Keep, Turn, Turns};
use crate::{Kind, MAX_SIZE, Place, Result, Volume, VolumeError, VolumeId};

/// Who else may use the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// This process alone: the database stays open.
    Alone,
    /// Processes take turns: the database is open during an operation only (not while data are copied).
    Turns,
}

/// Bytes that a volume takes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Space {
    /// Of its file, those shared with others included.
    pub allocated: u64,
    /// Not shared: free again when it is deleted.
    pub exclusive: u64,
}

/// Bytes of the whole file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// All.
    pub size: u64,
    /// Free.
    pub free: u64,
}

/// Told after each step that leaves a trace.
pub type Steps = Box<dyn Fn(&'static str) + Send + Sync>;

/// A storage repository: a folder with a database and one file a volume.
pub struct Repository {
    dir: PathBuf,
    system: Box<dyn FileSystem>,
    turns: Turns,
    steps: Steps,
}

impl Repository {
    /// Makes one in a folder, which is made if need be. Killed on its way, it can be called again.
    pub fn init(dir: &Path) -> Result<()> {
        for part in [dir.join("volumes"), dir.join("frozen")] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&part).at(&part)?;
        }
        detect(dir)?;
        let (database, new) = (dir.join("volumes.redb"), dir.join("volumes.redb.new"));
        if database.exists() {
            return Err(VolumeError::Exists(dir.to_path_buf()));
        }
        if new.exists() {
            fs::remove_file(&new).at(&new)?;
        }
        drop(Database::create(&new)?);
        fs::rename(&new, &database).at(&database)?;
        sync_dir(dir)
    }

    /// Opens one; what a killed process had begun is brought to its end (if turns are taken: at the first turn).
    pub fn open(dir: &Path, sharing: Sharing) -> Result<Self> {
        Self::open_with(dir, sharing, Box::new(|_| {}))
    }

    /// The same; `steps` is told after each step that leaves a trace. For tests, which end the process there.
    pub fn open_with(dir: &Path, sharing: Sharing, steps: Steps) -> Result<Self> {
        if !dir.join("volumes.redb").exists() {
            return Err(VolumeError::NoRepository(dir.to_path_buf()));
        }
        let system = detect(dir)?;
        let repository = Self { dir: dir.to_path_buf(), system, turns: Turns::new(dir, sharing), steps };
        if sharing == Sharing::Alone {
            drop(repository.turn()?);
        }
        Ok(repository)
    }

    /// The file system it lies on.
    pub fn system(&self) -> &dyn FileSystem {
        &*self.system
    }

    /// Keeps the repository to this process until the guard goes: several short operations in sequence need to open it once only.
    /// Not for long work.
    pub fn keep(&self) -> Keep<'_> {
        Keep::new(&self.turns)
    }

    fn turn(&self) -> Result<Turn<'_>> {
        let mut turn = self.turns.wait()?;
        if turn.fresh {
            self.recover(&mut turn)?;
        }
        Ok(turn)
    }

    fn step(&self, name: &'static str) {
        (self.steps)(name);
    }

    fn volumes_dir(&self) -> PathBuf {
        self.dir.join("volumes")
    }

    /// Where copies without a name lie.
    fn frozen_dir(&self) -> PathBuf {
        self.dir.join("frozen")
    }

    fn path(&self, id: VolumeId) -> PathBuf {
        self.volumes_dir().join(format!("{id}.raw"))
    }

    /// Carries out or undoes what was begun by those who are no more.
    fn recover(&self, turn: &mut Turn<'_>) -> Result<()> {
        filesystem::sweep(&self.frozen_dir())?;
        for (id, intent) in turn.read(Database::intents)? {
            let path = self.path(id);
            match intent {
                Intent::Make => {
                    match open_both(&path) {
                        Ok(file) => match Held::lock(file) {
                            Ok(held) => {
                                self.unlink(&path)?;
                                drop(held);
                            }
                            Err(TryLockError::WouldBlock) => continue,
                            Err(TryLockError::Error(error)) => return Err(error).at(&path),
                        },
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error).at(&path),
                    }
                    self.step("recovery: file gone");
                    turn.change_freeing(|change| change.end(id))?;
                }
                Intent::Remove => {
                    self.unlink(&path)?;
                    self.step("recovery: file gone");
                    turn.change_freeing(|change| change.end(id))?;
                }
                Intent::Resize { size } => {
                    let volume = turn.read(|database| database.volume(id))?;
                    self.finish_resize(turn, &volume, size)?;
                }
            }
        }
        Ok(())
    }

    /// Removes a file, if it is there, for good.
    fn unlink(&self, path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).at(path),
            _ => {}
        }
        sync_dir(&self.volumes_dir())
    }

    /// Begins a new volume: its empty file, locked.
    fn begin(&self, turn: &mut Turn<'_>, id: VolumeId) -> Result<Held> {
        turn.change(|change| change.begin(id, Intent::Make))?;
        self.step("make: noted");
        let path = self.path(id);
        let mut options = OpenOptions::new();
        let made = options.read(true).write(true).create_new(true).mode(0o600).open(&path).at(&path);
        let locked = made.and_then(|file| lock(file, id, &path));
        if locked.is_err() {
            turn.change_freeing(|change| change.end(id))?;
        }
        self.step("make: file made");
        locked
    }

    /// Ends a new volume: it is there, or nothing is left of it.
    fn finish(&self, turn: &mut Turn<'_>, volume: Volume, file: Held, filled: Result<()>) -> Result<Volume> {
        let path = self.path(volume.id);
        let done = filled.and_then(|()| {
            self.step("make: file filled");
            file.sync_all().at(&path)?;
            sync_dir(&self.volumes_dir())?;
            self.step("make: file on disk");
            turn.change(|change| {
                change.put(&volume)?;
                change.end(volume.id)
            })
        });
        if let Err(error) = done {
            // A transaction that failed may have been carried out.
            turn.change_freeing(|change| {
                change.forget(volume.id)?;
                change.begin(volume.id, Intent::Remove)
            })?;
            self.unlink(&path)?;
            turn.change_freeing(|change| change.end(volume.id))?;
            return Err(error);
        }
        self.step("make: recorded");
        Ok(volume)
    }

    fn new_volume(&self, name: &str, kind: Kind, size: u64, origin: Option<VolumeId>) -> Result<Volume> {
        let id = VolumeId::random().at(&self.dir)?;
        Ok(Volume { id, name: name.to_owned(), kind, size, origin, created: now() })
    }

    /// Makes an empty volume: it reads as zeros and takes up nothing.
    pub fn create(&self, name: &str, size: u64) -> Result<Volume> {
        check_size(size)?;
        let volume = self.new_volume(name, Kind::Volume, size, None)?;
        let mut turn = self.turn()?;
        let file = self.begin(&mut turn, volume.id)?;
        let filled = file.set_len(size).at(&self.path(volume.id));
        self.finish(&mut turn, volume, file, filled)
    }

    /// Makes a snapshot: the volume as it is at one moment, also while it is written. It never changes.
    pub fn snapshot(&self, origin: VolumeId, name: &str) -> Result<Volume> {
        self.copy(origin, name, Kind::Snapshot)
    }

    /// Makes a volume with the content of a volume or snapshot.
    pub fn clone_volume(&self, origin: VolumeId, name: &str) -> Result<Volume> {
        self.copy(origin, name, Kind::Volume)
    }

    fn copy(&self, origin: VolumeId, name: &str, kind: Kind) -> Result<Volume> {
        let mut turn = self.turn()?;
        let size = turn.read(|d| d.volume(origin))?.size;
        let from = self.path(origin);
        let from_file = File::open(&from).at(&from)?;
        let volume = self.new_volume(name, kind, size, Some(origin))?;
        let file = self.begin(&mut turn, volume.id)?;
        let filled = self.system.clone_file(&from_file, &file).at(&from);
        self.finish(&mut turn, volume, file, filled)
    }

    /// Changes a volume's size; what is beyond a smaller one is lost.
    pub fn resize(&self, id: VolumeId, size: u64, may_shrink: Shrink) -> Result<Volume> {
        check_size(size)?;
        let mut turn = self.turn()?;
        let volume = turn.read(|d| d.volume(id))?;
        if volume.kind == Kind::Snapshot {
            return Err(VolumeError::ReadOnly(id));
        }
        let mut held = None;
        if size < volume.size {
            if may_shrink == Shrink::No {
                return Err(VolumeError::Shrinks { now: volume.size, size });
            }
            held = self.hold(id)?;
        }
        turn.change(|change| change.begin(id, Intent::Resize { size }))?;
        self.step("resize: noted");
        self.finish_resize(&mut turn, &volume, size)?;
        drop(held);
        turn.read(|d| d.volume(id))
    }

    fn finish_resize(&self, turn: &mut Turn<'_>, volume: &Volume, size: u64) -> Result<()> {
        let path = self.path(volume.id);
        let file = OpenOptions::new().write(true).open(&path).at(&path)?;
        file.set_len(size).at(&path)?;
        self.step("resize: file has its size");
        file.sync_all().at(&path)?;
        turn.change_freeing(|change| {
            change.put(&Volume { size, ..volume.clone() })?;
            change.end(volume.id)
        })?;
        self.step("resize: recorded");
        Ok(())
    }

    /// Gives a volume another name.
    pub fn rename(&self, id: VolumeId, name: &str) -> Result<Volume> {
        let mut turn = self.turn()?;
        let volume = Volume { name: name.to_owned(), ..turn.read(|d| d.volume(id))? };
        turn.change(|change| change.put(&volume))?;
        self.step("rename: recorded");
        Ok(volume)
    }

    /// Deletes a volume or snapshot; nothing else is touched by that, and its space is free at once.
    pub fn delete(&self, id: VolumeId) -> Result<()> {
        let mut turn = self.turn()?;
        turn.read(|d| d.volume(id))?;
        let held = self.hold(id)?;
        turn.change_freeing(|change| {
            change.forget(id)?;
            change.begin(id, Intent::Remove)
        })?;
        self.step("delete: noted");
        self.unlink(&self.path(id))?;
        drop(held);
        self.step("delete: file gone");
        turn.change_freeing(|change| change.end(id))?;
        self.step("delete: done");
        Ok(())
    }

    /// Locks a volume's file against everybody; `None` if the file is lost.
    fn hold(&self, id: VolumeId) -> Result<Option<Held>> {
        let path = self.path(id);
        let file = match open_both(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).at(&path),
        };
        lock(file, id, &path).map(Some)
    }

    /// Opens a volume for reading and writing; nobody else can at the same time.
    pub fn open_volume(&self, id: VolumeId) -> Result<Disk> {
        let mut turn = self.turn()?;
        let volume = turn.read(|d| d.volume(id))?;
        if volume.kind == Kind::Snapshot {
            return Err(VolumeError::ReadOnly(id));
        }
        let path = self.path(id);
        let file = open_both(&path).at(&path)?;
        Ok(Disk::writable(lock(file, id, &path)?, volume.size))
    }

    /// Opens a volume or snapshot as it is now, for reading: later writes are not seen, and a volume that is in use can be read.
    pub fn open_frozen(&self, id: VolumeId) -> Result<Disk> {
        let (copy, size) = self.frozen(id)?;
        Ok(Disk::frozen(copy, size))
    }

    /// The file of a volume or snapshot, for a block back end. Who hands it out sees to it that nobody deletes the volume meanwhile.
    pub fn file(&self, id: VolumeId) -> Result<PathBuf> {
        self.volume(id).map(|_| self.path(id))
    }

    /// A volume or snapshot as it is now, as an image to be read: for copies into another repository.
    pub fn source(&self, id: VolumeId) -> Result<FileSource> {
        FileSource::new(self.frozen(id)?.0).at(&self.path(id))
    }

    /// A nameless copy of a volume's file, and its size.
    fn frozen(&self, id: VolumeId) -> Result<(File, u64)> {
        let mut turn = self.turn()?;
        let size = turn.read(|d| d.volume(id))?.size;
        let path = self.path(id);
        let from = File::open(&path).at(&path)?;
        let copy = nameless(&self.frozen_dir())?;
        self.system.clone_file(&from, &copy).at(&path)?;
        Ok((copy, size))
    }

    /// Makes a volume of an image. Nothing of it is left if the image is damaged or `progress` ends the work.
    pub fn import(
        &self,
        input: Input<'_>,
        format: Format,
        name: &str,
        progress: Progress<'_>,
    ) -> Result<Volume> {
        let mut volume = self.new_volume(name, Kind::Volume, 0, None)?;
        let file = self.begin(&mut self.turn()?, volume.id)?;
        let mut sink = VolumeSink { file: &file, progress, step: &self.steps };
        let filled =
            radon_image::import(input, format, &mut sink).map_err(VolumeError::from).and_then(|size| {
                volume.size = size;
                check_size(size)
            });
        self.finish(&mut self.turn()?, volume, file, filled)
    }

    /// Writes a volume or snapshot, as it is now, as an image.
    pub fn export(&self, id: VolumeId, format: Format, out: &mut dyn Output) -> Result<()> {
        let created = self.turn()?.read(|d| d.volume(id))?.created;
        let frozen = FileSource::new(self.frozen(id)?.0).at(&self.path(id))?;
        Ok(radon_image::export(&frozen, format, &Identity { uuid: id.0, created }, out)?)
    }

    /// The ranges of bytes that may differ between an older state and a newer one, at most a few blocks more than do; with no older
    /// one, all that may be anything but zeros. Bytes are compared only where the file system does not say where they lie.
    pub fn changed(&self, old: Option<VolumeId>, new: VolumeId) -> Result<Vec<Range<u64>>> {
        let (file, size) = self.frozen(new)?;
        self.differences(old, &file, size)
    }

    /// [`Self::open_frozen`] and [`Self::changed`] of one and the same moment.
    pub fn open_frozen_since(&self, old: VolumeId, new: VolumeId) -> Result<(Disk, Vec<Range<u64>>)> {
        let (file, size) = self.frozen(new)?;
        let changed = self.differences(Some(old), &file, size)?;
        Ok((Disk::frozen(file, size), changed))
    }

    fn differences(&self, old: Option<VolumeId>, new: &File, size: u64) -> Result<Vec<Range<u64>>> {
        let old = match old {
            None => {
                let turn = self.turn()?;
                let empty = nameless(&self.frozen_dir())?;
                drop(turn);
                empty
            }
            Some(old) => self.frozen(old)?.0,
        };
        let dir = self.volumes_dir();
        let was = self.system.extents(&old).at(&dir)?;
        let is = self.system.extents(new).at(&dir)?;
        let (mut differ, unknown) = compare(&was, &is, size);
        if !unknown.is_empty() {
            differing_bytes(&old, new, &unknown, &mut differ).at(&dir)?;
            differ = join(differ);
        }
        Ok(differ)
    }

    /// How much room a volume takes up.
    pub fn space(&self, id: VolumeId) -> Result<Space> {
        self.turn()?.read(|d| d.volume(id))?;
        let path = self.path(id);
        let file = File::open(&path).at(&path)?;
        let extents = self.system.extents(&file).at(&path)?;
        let own = extents.iter().filter(|e| !e.shared && e.place != Place::Unknown);
        let allocated = file.metadata().at(&path)?.blocks() * 512;
        Ok(Space { allocated, exclusive: own.map(|e| e.length).sum() })
    }

    /// The file system's room.
    pub fn totals(&self) -> Result<Totals> {
        let stat = rustix::fs::statvfs(&self.dir).at(&self.dir)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Totals { size: bytes(stat.f_blocks), free: bytes(stat.f_bavail) })
    }

    /// One volume.
    pub fn volume(&self, id: VolumeId) -> Result<Volume> {
        self.turn()?.read(|d| d.volume(id))
    }

    /// All volumes and snapshots, oldest first.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        self.turn()?.read(Database::volumes)
    }

    /// The volume of that number, or the only one of that name.
    pub fn find(&self, wanted: &str) -> Result<Volume> {
        let all = self.volumes()?;
        if let Some(volume) = all.iter().find(|v| v.id.to_string() == wanted) {
            return Ok(volume.clone());
        }
        let mut named = all.into_iter().filter(|v| v.name == wanted);
        match (named.next(), named.count()) {
            (Some(volume), 0) => Ok(volume),
            (Some(_), more) => Err(VolumeError::Ambiguous(more + 1, wanted.to_owned())),
            (None, _) => Err(VolumeError::NotFound(wanted.to_owned())),
        }
    }

    /// Compares the database with the files; says what does not fit.
    pub fn check(&self) -> Result<Vec<String>> {
        let mut turn = self.turn()?;
        let dir = self.volumes_dir();
        let mut wrong = Vec::new();
        let mut known = Vec::new();
        for (id, intent) in turn.read(Database::intents)? {
            known.push(self.path(id));
            if intent != Intent::Make {
                wrong.push(format!("{id}: an operation that began has not ended: {intent:?}"));
            }
        }
        for volume in turn.read(Database::volumes)? {
            let path = self.path(volume.id);
            match fs::metadata(&path) {
                Ok(data) if data.len() == volume.size => {}
                Ok(data) => {
                    wrong.push(format!(
                        "{}: {} bytes instead of {}",
                        path.display(),
                        data.len(),
                        volume.size
                    ));
                }
                Err(error) => wrong.push(format!("{}: {error}", path.display())),
            }
            known.push(path);
        }
        for entry in fs::read_dir(&dir).at(&dir)? {
            let path = entry.at(&dir)?.path();
            if !known.contains(&path) {
                wrong.push(format!("{}: belongs to no volume", path.display()));
            }
        }
        Ok(wrong)
    }
}

/// Whether a volume may become smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shrink {
    /// It may; what is beyond is lost.
    Yes,
    /// That is an error.
    No,
}

/// Opens a file for reading and writing; NFS locks no other against everybody.
fn open_both(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

fn lock(file: File, id: VolumeId, path: &Path) -> Result<Held> {
    match Held::lock(file) {
        Ok(held) => Ok(held),
        Err(TryLockError::WouldBlock) => Err(VolumeError::InUse(id)),
        Err(TryLockError::Error(error)) => Err(error).at(path),
    }
}

fn check_size(size: u64) -> Result<()> {
    if size == 0 || size > MAX_SIZE || !size.is_multiple_of(SECTOR) {
        return Err(VolumeError::BadSize(size));
    }
    Ok(())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
