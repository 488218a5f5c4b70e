//! What clones have in common is read from the device once: a cache in dom0's page cache, by place on the file system's device.
//!
//! A clone (`FICLONE`) shares its blocks with its base until one of both is written, and the file system then writes elsewhere. But
//! Linux caches by file, so eight clones that boot read the same blocks eight times. Here one more file per file system
//! shares the blocks too: the *pin*, a temporary file without a name in which byte `p` is the device's byte `p`. Disks whose data lie at
//! `p` are read through the pin, so dom0's page cache holds them once.
//!
//! # Why it is never stale
//! 1. **The pin is never written.** As long as it has a block, the file system has to write elsewhere whoever writes that block's
//!    data, and cannot give the block to anyone else. So what the pin says of `p` is true of every file that lies at `p`, for as long as
//!    the pin is there. It is ended only as a whole: reads under way keep theirs open.
//! 2. **A part of a disk is looked for only while it has never been written** by this process, which alone may write it (the file is
//!    locked, and written back before the first look). Before a write or discard begins, its range is [`Place::Own`], for good; so no
//!    look can come between a write's beginning and its end.
//! 3. **A look asks the file system, there and then**, where the range lies. What is not plainly on the device and shared is `Own`.
//!    If the pin lacks a part of that place, the blocks are cloned into it from the very range, and the pin is asked whether it lies
//!    where it should.
//!
//! So (disk's range) = (place at the time of the look) = (pin's bytes there), none of which has changed since.
//!
//! # What it costs
//! Space that only the pin holds (all others have been written or deleted) would not be free: [`Shares::sweep`] ends a pin that
//! holds too much of that. With the last disk of a file system its pin goes, and with the process all of them.

use crate::map::{Map, Place};
use crate::request::Span;
use radon_linux::fiemap;
use radon_linux::reflink::clone_range;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, fdatasync, open, statx};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

/// Intervals that are remembered of one disk; beyond that, it is read from its own file.
const MOST_PARTS: usize = 1 << 16;

/// Space that a pin may hold alone, in bytes.
const ALONE: u64 = 64 << 20;

/// The pins of all file systems.
#[derive(Debug)]
pub struct Shares {
    pools: Mutex<BTreeMap<u64, Weak<Pool>>>,
    /// Bytes that a pin may hold alone.
    alone: u64,
}

impl Default for Shares {
    fn default() -> Self {
        Self::holding_at_most(ALONE)
    }
}

/// One file system's.
#[derive(Debug)]
struct Pool {
    folder: std::path::PathBuf,
    pin: RwLock<Pin>,
}

#[derive(Debug)]
struct Pin {
    file: Arc<OwnedFd>,
    /// What it has: places.
    has: Map,
    /// Counts the pins that this file system has had.
    generation: u64,
}

/// One disk's part in it.
#[derive(Debug)]
pub struct Share {
    pool: Arc<Pool>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    map: Map,
    /// The pin that its places are in.
    generation: u64,
}

/// A part of a read: where in the pin, if not in the disk's own file.
pub type Part = (Span, Option<(Arc<OwnedFd>, u64)>);

/// The guarded values are right after each statement: a panic elsewhere does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn new_pin(folder: &Path) -> io::Result<Arc<OwnedFd>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(Arc::new(open(folder, flags, Mode::RUSR | Mode::WUSR)?))
}

impl Shares {
    /// Pins may hold so many bytes, or an eighth of what they hold, that nobody else needs.
    pub fn holding_at_most(alone: u64) -> Self {
        Self { pools: Mutex::default(), alone }
    }

    /// The pool of the file system that a file is on, if that takes files without names. (One that cannot share blocks has none that
    /// are shared.)
    fn pool(&self, file: &OwnedFd, path: &Path) -> Option<Arc<Pool>> {
        let stat = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).ok()?;
        let device = u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor);
        let mut pools = lock(&self.pools);
        if let Some(pool) = pools.get(&device).and_then(Weak::upgrade) {
            return Some(pool);
        }
        let folder = path.parent()?.to_owned();
        let pin = new_pin(&folder).ok()?;
        let pin = Pin { file: pin, has: Map::default(), generation: 0 };
        let pool = Arc::new(Pool { folder, pin: RwLock::new(pin) });
        pools.insert(device, Arc::downgrade(&pool));
        Some(pool)
    }

    /// Ends pins that hold much space alone.
    pub fn sweep(&self) {
        let pools: Vec<_> = {
            let mut pools = lock(&self.pools);
            pools.retain(|_, pool| pool.strong_count() > 0);
            pools.values().filter_map(Weak::upgrade).collect()
        };
        for pool in pools {
            let (pin, generation) = {
                let pin = pool.pin.read().unwrap_or_else(PoisonError::into_inner);
                (pin.file.clone(), pin.generation)
            };
            // A failure to find out is no reason to hold on.
            let (alone, all) = held_alone(&pin).unwrap_or((u64::MAX, 0));
            if alone > self.alone.max(all / 8)
                && let Ok(new) = new_pin(&pool.folder)
            {
                *pool.pin.write().unwrap_or_else(PoisonError::into_inner) =
                    Pin { file: new, has: Map::default(), generation: generation + 1 };
                log::info!(
                    "{}: {} MiB shared by nobody any more are let go",
                    pool.folder.display(),
                    alone >> 20
                );
            }
        }
    }
}

/// Bytes of a file that it shares with nobody, and all it has.
fn held_alone(file: &OwnedFd) -> io::Result<(u64, u64)> {
    let (mut start, mut alone, mut all) = (0, 0, 0);
    loop {
        let extents = fiemap::extents(file, start, u64::MAX - start)?;
        let Some(last) = extents.last() else { return Ok((alone, all)) };
        start = last.start.saturating_add(last.length);
        for extent in &extents {
            all += extent.length;
            alone += if extent.shared { 0 } else { extent.length };
        }
    }
}

impl Pin {
    /// Whether it has a place now; what it lacks is cloned from where in `file` that place is said to be.
    fn take(&mut self, file: &OwnedFd, start: u64, place: Range<u64>) -> io::Result<bool> {
        let mut at = place.start;
        while at < place.end {
            let (end, has) = self.has.get(at);
            let end = end.min(place.end);
            if has.is_none() {
                clone_range(file, start + (at - place.start), end - at, &*self.file, at)?;
                if !self.lies_where_it_should(at..end)? {
                    return Ok(false);
                }
                self.has.set(at..end, Place::Shared(at));
            }
            at = end;
        }
        Ok(true)
    }

    fn lies_where_it_should(&self, range: Range<u64>) -> io::Result<bool> {
        let mut at = range.start;
        while at < range.end {
            let extents = fiemap::extents(&*self.file, at, range.end - at)?;
            if extents.is_empty() {
                return Ok(false);
            }
            for extent in extents {
                if extent.start > at || extent.place != fiemap::Place::Disk(extent.start) {
                    return Ok(false);
                }
                at = extent.start + extent.length;
            }
        }
        Ok(true)
    }
}

impl Share {
    /// Of a disk that this process alone may write; `None` if its file system has no pin.
    pub fn new(file: &Arc<OwnedFd>, path: &Path, shares: &Shares) -> Option<Self> {
        let pool = shares.pool(file, path)?;
        // What is only in memory yet is not where the file system says.
        fdatasync(&**file).ok()?;
        let generation = pool.pin.read().unwrap_or_else(PoisonError::into_inner).generation;
        Some(Self { pool, known: Mutex::new(Known { map: Map::default(), generation }) })
    }

    /// Where a part of the disk is to be read; `size`: of the disk, in bytes.
    pub fn find(&self, file: &OwnedFd, span: Span, size: u64) -> Vec<Part> {
        loop {
            // Again if the pin was ended in between.
            if let Some(parts) = self.find_in_pin(file, span, size) {
                return parts;
            }
        }
    }

    fn find_in_pin(&self, file: &OwnedFd, span: Span, size: u64) -> Option<Vec<Part>> {
        let mut known = lock(&self.known);
        let (pin, generation) = {
            let pin = self.pool.pin.read().unwrap_or_else(PoisonError::into_inner);
            (pin.file.clone(), pin.generation)
        };
        if known.generation != generation {
            known.map.forget_shared();
            known.generation = generation;
        }
        let mut parts: Vec<Part> = Vec::new();
        let (mut at, end) = (span.start, span.start + span.length);
        while at < end {
            if known.map.get(at).1.is_none() {
                let mut pin = self.pool.pin.write().unwrap_or_else(PoisonError::into_inner);
                if pin.generation != generation {
                    return None;
                }
                look(&mut known.map, &mut pin, file, at, size);
            }
            // Looking tells something of `at`, always.
            let (until, place) = known.map.get(at);
            let until = until.min(end);
            let here = Span { start: at, length: until - at };
            match place {
                Some(Place::Shared(place)) => parts.push((here, Some((pin.clone(), place)))),
                _ => match parts.last_mut() {
                    Some((last, None)) => last.length += here.length,
                    _ => parts.push((here, None)),
                },
            }
            at = until;
        }
        if known.map.len() > MOST_PARTS {
            known.map.give_up();
        }
        Some(parts)
    }

    /// A part of the disk is about to change.
    pub fn forget(&self, span: Span) {
        let mut known = lock(&self.known);
        known.map.set(span.start..span.start.saturating_add(span.length), Place::Own);
        if known.map.len() > MOST_PARTS {
            known.map.give_up();
        }
    }
}

/// Finds out where the unknown around `at` is.
fn look(map: &mut Map, pin: &mut Pin, file: &OwnedFd, at: u64, size: u64) {
    let (until, _) = map.get(at);
    let unknown = map.unknown_from(at)..until.min(size.max(at + 1));
    let extents = fiemap::extents(file, at, 1).unwrap_or_default();
    let here = extents.iter().find(|e| e.start <= at && e.start.saturating_add(e.length) > at);
    let Some(extent) = here else {
        // A hole, up to the next extent; or an error.
        return map.set(at..unknown.end.min(next_extent(file, at, unknown.end)), Place::Own);
    };
    let part = extent.start.max(unknown.start)..(extent.start + extent.length).min(unknown.end);
    let place = match extent.place {
        fiemap::Place::Disk(place) if extent.shared => place + (part.start - extent.start),
        _ => return map.set(part, Place::Own),
    };
    // Whole blocks: the parts that are known already may end within one.
    let first = part.start.next_multiple_of(BLOCK);
    let last = part.end / BLOCK * BLOCK;
    if !extent.start.is_multiple_of(BLOCK) || !place.is_multiple_of(BLOCK) && first == part.start {
        return map.set(part, Place::Own);
    }
    if at < first || at >= last {
        let (from, to) = if at < first { (part.start, first.min(part.end)) } else { (last, part.end) };
        return map.set(from..to, Place::Own);
    }
    let place = place + (first - part.start);
    match pin.take(file, first, place..place + (last - first)) {
        Ok(true) => map.set(first..last, Place::Shared(place)),
        _ => map.set(part, Place::Own),
    }
}

/// Blocks of file systems are that large at most here; others' shared parts are not used.
const BLOCK: u64 = 4096;

/// Where the first extent behind `at` begins; `end` if there is none.
fn next_extent(file: &OwnedFd, at: u64, end: u64) -> u64 {
    let extents = fiemap::extents(file, at, end.saturating_sub(at)).unwrap_or_default();
    extents.iter().map(|e| e.start).find(|start| *start > at).unwrap_or(end)
}
