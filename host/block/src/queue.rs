//! One ring being served: requests taken, data moved, answers given. One thread has it, and nothing else has any of it.
//!
//! A turn takes what waits in the ring (at most a ring's worth), reads the descriptions of indirect requests, starts what can start,
//! copies between the guest's pages and dom0's own in one call, and publishes all answers at once. So a guest's requests
//! cost others nothing but their share of processors and disks: rings do not wait for each other.
//!
//! A request goes through these steps:
//!
//! ```text
//! taken -> (description read) -> queued -> read  -> copied out -> answered
//!                                       -> copied in -> written -> answered
//!                                       -> flushed                -> answered
//!                                       -> discarded              -> answered
//!                                       -> flushed -> copied in -> written -> flushed -> answered     (barrier, alone)
//! ```

use crate::buffers::{Buffers, Run};
use crate::disk::{Disk, Piece};
use crate::request::{self, MOST_SEGMENTS, SECTOR, Segment, Slot, Span, Status, Transfer, What};
use crate::ring::{Broken, Response, Ring};
use crate::table::Table;
use radon_linux::uring::{self, Completion, Operation};
use radon_xen::PAGE_SIZE;
use radon_xen::gntdev::{Copy, Direction};
use radon_xen::page::SharedPages;
use std::collections::VecDeque;
use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The other end: pages that it grants, and its event channel.
pub trait Guest {
    /// Copies between granted pages and `memory`; `done`: whether each copy was made.
    fn copy(&mut self, memory: &SharedPages, copies: &[Copy], done: &mut Vec<bool>) -> io::Result<()>;
    /// Tells it that there are answers.
    fn notify(&mut self) -> io::Result<()>;
}

/// Bytes of an indirect request's description.
const DESCRIPTION: usize = MOST_SEGMENTS as usize * 8;
/// Pieces of a read at most; one that lies in more is read from the disk's own file.
const MOST_PIECES: usize = 32;
/// Operations besides requests' own: waiting for events.
const WAITS: u32 = 4;
/// Tokens from here on are not requests'.
pub const FIRST_WAIT: u64 = u64::MAX - WAITS as u64;

/// Linux's EAGAIN and EINTR: try again. EOPNOTSUPP.
const AGAIN: [i32; 2] = [-11, -4];
const NOT_SUPPORTED: i32 = -95;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Transfer(Transfer),
    Flush,
    Discard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Queued,
    FlushBefore,
    Io,
    FlushAfter,
}

#[derive(Debug)]
struct Job {
    id: u64,
    operation: u8,
    work: Work,
    span: Span,
    segments: Vec<Segment>,
    run: Option<Run>,
    stage: Stage,
    /// What is under way; of a piece, the rest.
    pieces: Vec<(Piece, usize)>,
    left: usize,
    status: Status,
}

/// A request before its segments are known.
#[derive(Debug)]
struct Fresh {
    entry: u32,
    id: u64,
    operation: u8,
    what: What,
}

/// The ring, its requests, and what they need.
#[derive(Debug)]
pub struct Queue<P, G> {
    guest: G,
    ring: Ring<P>,
    table: Table,
    disk: Arc<Disk>,
    uring: uring::Ring,
    buffers: Buffers,
    /// Where descriptions of indirect requests go, one place for each entry of the table.
    descriptions: usize,
    /// By entry of the table.
    jobs: Vec<Option<Job>>,
    /// Taken by a predecessor.
    again: VecDeque<(u32, Slot)>,
    /// Not begun, oldest first.
    queued: VecDeque<u32>,
    /// Begun and not ended.
    begun: usize,
    /// A barrier is among them.
    barrier: bool,
    /// Copies of this turn, and whose they are: (entry, copies).
    copies: Vec<Copy>,
    copying: Vec<(u32, usize)>,
    ended: Vec<Completion>,
    finished: Vec<(u32, Response)>,
    /// Memory of the turn's, kept for the next one: large lists that come and go are pages asked of the kernel and given back.
    fresh: Vec<Fresh>,
    descriptions_wanted: Vec<Copy>,
    done: Vec<bool>,
}

impl<P: Deref<Target = SharedPages>, G: Guest> Queue<P, G> {
    /// A queue over a ring that is attached or resumed. `buffer`: bytes of memory for data, at least one request's (1 MiB).
    pub fn new(
        guest: G,
        ring: Ring<P>,
        table: Table,
        again: Vec<(u32, Slot)>,
        disk: Arc<Disk>,
        buffer: usize,
    ) -> io::Result<Self> {
        let pages = (buffer / PAGE_SIZE).max(usize::from(MOST_SEGMENTS));
        let descriptions = pages * PAGE_SIZE;
        let size = ring.size() as usize;
        let memory = SharedPages::anonymous(pages + (size * DESCRIPTION).div_ceil(PAGE_SIZE))?;
        Ok(Self {
            guest,
            table,
            disk,
            // Twice the ring, since a read may be in pieces.
            uring: uring::Ring::new(ring.size() * 2 + MOST_PIECES as u32 + WAITS, Arc::new(memory))?,
            ring,
            buffers: Buffers::new(pages),
            descriptions,
            jobs: (0..size).map(|_| None).collect(),
            again: again.into(),
            queued: VecDeque::new(),
            begun: 0,
            barrier: false,
            copies: Vec::new(),
            copying: Vec::new(),
            ended: Vec::new(),
            finished: Vec::new(),
            fresh: Vec::new(),
            descriptions_wanted: Vec::new(),
            done: Vec::new(),
        })
    }

    /// The other end.
    pub fn guest(&mut self) -> &mut G {
        &mut self.guest
    }

    /// Waits until `file` can be read; `token` from [`FIRST_WAIT`] on comes back from [`Self::wait`] then.
    pub fn await_readable(&mut self, file: &Arc<OwnedFd>, token: u64) -> io::Result<()> {
        self.uring.push(file, Operation::Readable, token)
    }

    /// Begins what is asked of the kernel, and with `sleep` waits for the end of something. Returns tokens of waits that have ended.
    pub fn wait(&mut self, sleep: bool) -> io::Result<Vec<u64>> {
        self.uring.wait(usize::from(sleep), &mut self.ended)?;
        let mut waits = Vec::new();
        self.ended.retain(|c| {
            let own = c.token < FIRST_WAIT;
            if !own {
                waits.push(c.token);
            }
            own
        });
        Ok(waits)
    }

    /// Whether something was taken and is not answered.
    pub fn is_busy(&self) -> bool {
        !self.again.is_empty() || self.jobs.iter().any(Option::is_some)
    }

    /// One turn; whether anything moved, so that there may be more to do at once.
    pub fn turn(&mut self) -> Result<bool, Broken> {
        self.collect();
        self.take()?;
        let mut moved = !self.fresh.is_empty();
        self.describe();
        self.begin();
        moved |= self.copy();
        moved |= self.answer();
        // What could not even be asked of the kernel has ended already.
        Ok(moved || !self.ended.is_empty())
    }

    /// Asks for an event with the next request; `true`: there is something to do first.
    pub fn ask(&mut self) -> Result<bool, Broken> {
        // While requests wait for others or for memory, the next one has time.
        if self.queued.is_empty() { self.ring.ask() } else { Ok(false) }
    }

    fn count(&self, counter: impl Fn(&crate::disk::Counters) -> &AtomicU64, by: u64) {
        counter(&self.disk.counters).fetch_add(by, Ordering::Relaxed);
    }

    fn job(&mut self, entry: u32) -> Option<&mut Job> {
        self.jobs.get_mut(entry as usize)?.as_mut()
    }

    /// Takes requests from the ring, unless some wait to begin.
    fn take(&mut self) -> Result<(), Broken> {
        if !self.queued.is_empty() {
            return Ok(());
        }
        while let Some((entry, slot)) = self.again.pop_front() {
            self.decode(entry, &slot);
        }
        for _ in 0..self.ring.waiting()? {
            let slot = self.ring.next();
            let outstanding = self.jobs.len() as u32;
            let broken = Broken { outstanding, size: self.ring.size() };
            let entry = self.table.take(self.ring.taken(), &slot).ok_or(broken)?;
            self.ring.took();
            self.decode(entry, &slot);
        }
        Ok(())
    }

    fn decode(&mut self, entry: u32, slot: &Slot) {
        let request::Request { id, operation, what } = request::decode(self.ring.protocol(), slot);
        match what {
            Ok(what) => self.fresh.push(Fresh { entry, id, operation, what }),
            Err(status) => self.finish_as(entry, id, operation, status),
        }
    }

    /// Reads the descriptions of indirect requests, checks all, and queues them.
    fn describe(&mut self) {
        let place = |entry: u32, base: usize| base + entry as usize * DESCRIPTION;
        let mut fresh = std::mem::take(&mut self.fresh);
        let (copies, base) = (&mut self.descriptions_wanted, self.descriptions);
        copies.clear();
        copies.extend(fresh.iter().filter_map(|f| match f.what {
            What::Indirect { count, page, .. } => Some(Copy {
                direction: Direction::FromGrant,
                reference: page,
                offset: 0,
                at: place(f.entry, base),
                length: count * 8,
            }),
            _ => None,
        }));
        let mut all = std::mem::take(&mut self.done);
        all.clear();
        if !copies.is_empty() && self.guest.copy(self.uring.memory(), copies, &mut all).is_err() {
            all.clear();
        }
        let mut done = all.iter().copied();
        for Fresh { entry, id, operation, what } in fresh.drain(..) {
            let checked = match what {
                What::Indirect { transfer, sector, count, .. } => {
                    let mut bytes = vec![0; usize::from(count) * 8];
                    if done.next() == Some(true) {
                        self.uring.memory().read(place(entry, self.descriptions), &mut bytes);
                        let segments = request::segments(&bytes, count);
                        segments.and_then(|segments| self.check(transfer, sector, segments))
                    } else {
                        Err(Status::Error)
                    }
                }
                What::Transfer(transfer, sector, segments) => self.check(transfer, sector, segments),
                What::Flush => Ok((Work::Flush, Span { start: 0, length: 0 }, Vec::new())),
                What::Discard { sector, count } if self.disk.discards().is_some() => {
                    let span = self.disk.geometry().discard(sector, count);
                    span.map(|span| (Work::Discard, span, Vec::new()))
                }
                What::Discard { .. } => Err(Status::NotSupported),
            };
            match checked {
                Ok((work, span, segments)) => {
                    let job = Job {
                        id,
                        operation,
                        work,
                        span,
                        segments,
                        run: None,
                        stage: Stage::Queued,
                        pieces: Vec::new(),
                        left: 0,
                        status: Status::Okay,
                    };
                    if let Some(place) = self.jobs.get_mut(entry as usize) {
                        *place = Some(job);
                    }
                    self.queued.push_back(entry);
                }
                Err(status) => self.finish_as(entry, id, operation, status),
            }
        }
        (self.fresh, self.done) = (fresh, all);
    }

    fn check(
        &self,
        transfer: Transfer,
        sector: u64,
        segments: Vec<Segment>,
    ) -> Result<(Work, Span, Vec<Segment>), Status> {
        let span = self.disk.geometry().transfer(transfer, sector, &segments)?;
        Ok((Work::Transfer(transfer), span, segments))
    }

    /// Begins queued requests, in order, until one has to wait: for memory, for the kernel's queue, for a barrier.
    fn begin(&mut self) {
        while let Some(&entry) = self.queued.front() {
            let room = self.uring.room();
            let barrier = self.barrier;
            let begun = self.begun;
            let Some(job) = self.jobs.get_mut(entry as usize).and_then(Option::as_mut) else { return };
            let alone = job.work == Work::Transfer(Transfer::Barrier);
            if barrier || alone && begun > 0 || room < MOST_PIECES + WAITS as usize {
                return;
            }
            if let Work::Transfer(_) = job.work
                && job.span.length > 0
            {
                job.run = self.buffers.take(job.span.length as usize);
                if job.run.is_none() {
                    return;
                }
            }
            self.queued.pop_front();
            self.begun += 1;
            self.barrier = alone;
            self.first_step(entry);
        }
    }

    fn first_step(&mut self, entry: u32) {
        let Some(job) = self.job(entry) else { return };
        let (work, span) = (job.work, job.span);
        match work {
            Work::Transfer(Transfer::Read) => {
                self.count(|c| &c.reads, 1);
                self.count(|c| &c.bytes_read, span.length);
                self.read(entry, span);
            }
            Work::Transfer(Transfer::Write) => self.copy_in(entry),
            Work::Transfer(Transfer::Barrier) => self.sync(entry, Stage::FlushBefore),
            Work::Flush => self.sync(entry, Stage::FlushAfter),
            Work::Discard => self.discard(entry, span),
        }
    }

    fn read(&mut self, entry: u32, span: Span) {
        let mut pieces = self.disk.read(span);
        if pieces.len() > MOST_PIECES {
            let file = self.disk.file().clone();
            pieces = vec![Piece { file, offset: span.start, length: span.length as u32 }];
        }
        let Some(job) = self.job(entry) else { return };
        let mut at = job.run.map_or(0, |run| run.at);
        job.stage = Stage::Io;
        job.pieces = pieces
            .into_iter()
            .map(|piece| {
                let place = at;
                at += piece.length as usize;
                (piece, place)
            })
            .collect();
        self.push_pieces(entry);
    }

    fn write(&mut self, entry: u32) {
        let file = self.disk.file().clone();
        let Some(job) = self.job(entry) else { return };
        let (span, at) = (job.span, job.run.map_or(0, |run| run.at));
        job.stage = Stage::Io;
        job.pieces = vec![(Piece { file, offset: span.start, length: span.length as u32 }, at)];
        self.count(|c| &c.writes, 1);
        self.count(|c| &c.bytes_written, span.length);
        self.disk.changing(span);
        self.push_pieces(entry);
    }

    fn push_pieces(&mut self, entry: u32) {
        let Some(job) = self.job(entry) else { return };
        job.left = job.pieces.len();
        for piece in 0..job.left {
            self.push_piece(entry, piece);
        }
    }

    /// Asks the kernel for (the rest of) a piece.
    fn push_piece(&mut self, entry: u32, index: usize) {
        let Some(Some(job)) = self.jobs.get(entry as usize) else { return };
        let Some((piece, at)) = job.pieces.get(index) else { return };
        let (offset, length, at) = (piece.offset, piece.length, *at);
        let operation = match job.work {
            Work::Transfer(Transfer::Read) => Operation::Read { offset, at, length },
            _ => Operation::Write { offset, at, length },
        };
        let token = u64::from(entry) << 8 | index as u64;
        if self.uring.push(&piece.file, operation, token).is_err() {
            self.ended.push(Completion { token, result: -5 });
        }
    }

    fn sync(&mut self, entry: u32, stage: Stage) {
        self.count(|c| &c.flushes, 1);
        self.push(entry, stage, Operation::Sync);
    }

    fn discard(&mut self, entry: u32, span: Span) {
        self.count(|c| &c.discards, 1);
        self.disk.changing(span);
        match self.disk.discard_now(span) {
            None => {
                let hole = Operation::PunchHole { offset: span.start, length: span.length };
                self.push(entry, Stage::Io, hole);
            }
            Some(result) => {
                let result = result.map_or_else(|e| -e.raw_os_error().unwrap_or(5), |()| 0);
                self.await_one(entry, Stage::Io);
                self.ended.push(Completion { token: u64::from(entry) << 8, result });
            }
        }
    }

    fn await_one(&mut self, entry: u32, stage: Stage) {
        if let Some(job) = self.job(entry) {
            (job.stage, job.left) = (stage, 1);
            job.pieces.clear();
        }
    }

    fn push(&mut self, entry: u32, stage: Stage, operation: Operation) {
        self.await_one(entry, stage);
        let token = u64::from(entry) << 8;
        if self.uring.push(self.disk.file(), operation, token).is_err() {
            self.ended.push(Completion { token, result: -5 });
        }
    }

    /// Looks at what the kernel has ended.
    fn collect(&mut self) {
        let mut ended = std::mem::take(&mut self.ended);
        for Completion { token, result } in ended.drain(..) {
            let (entry, index) = ((token >> 8) as u32, (token & 0xff) as usize);
            let Some(job) = self.job(entry) else { continue };
            let piece = job.pieces.get_mut(index);
            match (piece, result) {
                (Some(_), error) if AGAIN.contains(&error) => {
                    self.push_piece(entry, index);
                    continue;
                }
                // Nothing where there should be something: the file has become shorter.
                (Some(_), ..=0) => job.status = Status::Error,
                (Some((piece, at)), moved) if (moved as u32) < piece.length => {
                    piece.offset += moved as u64;
                    piece.length -= moved as u32;
                    *at += moved as usize;
                    self.push_piece(entry, index);
                    continue;
                }
                (None, NOT_SUPPORTED) if job.work == Work::Discard => job.status = Status::NotSupported,
                (None, ..0) => job.status = Status::Error,
                _ => {}
            }
            job.left -= 1;
            if job.left == 0 {
                self.advance(entry);
            }
        }
        // What could not even be asked of the kernel again.
        ended.append(&mut self.ended);
        self.ended = ended;
    }

    /// The step after the one that has ended.
    fn advance(&mut self, entry: u32) {
        let Some(job) = self.job(entry) else { return };
        if job.status != Status::Okay {
            return self.finish(entry);
        }
        match (job.stage, job.work) {
            (Stage::FlushBefore, _) if job.span.length > 0 => self.copy_in(entry),
            (Stage::Io, Work::Transfer(Transfer::Read)) => self.plan_copies(entry, Direction::ToGrant),
            (Stage::Io, Work::Transfer(Transfer::Barrier)) => self.sync(entry, Stage::FlushAfter),
            _ => self.finish(entry),
        }
    }

    fn copy_in(&mut self, entry: u32) {
        self.plan_copies(entry, Direction::FromGrant);
    }

    fn plan_copies(&mut self, entry: u32, direction: Direction) {
        let Some(Some(job)) = self.jobs.get(entry as usize) else { return };
        let mut at = job.run.map_or(0, |run| run.at);
        for segment in &job.segments {
            let (reference, offset, length) = (segment.gref, segment.offset, segment.length);
            self.copies.push(Copy { direction, reference, offset, at, length });
            at += usize::from(length);
        }
        self.copying.push((entry, job.segments.len()));
    }

    /// Makes all copies of this turn; whether there were any.
    fn copy(&mut self) -> bool {
        if self.copying.is_empty() {
            return false;
        }
        let mut all = std::mem::take(&mut self.done);
        all.clear();
        if self.guest.copy(self.uring.memory(), &self.copies, &mut all).is_err() {
            all.clear();
        }
        self.copies.clear();
        let mut copying = std::mem::take(&mut self.copying);
        let mut done = all.iter().copied();
        for (entry, count) in copying.drain(..) {
            // All of them: the next request's come after.
            let good = done.by_ref().take(count).filter(|good| *good).count() == count;
            let Some(job) = self.job(entry) else { continue };
            if !good {
                job.status = Status::Error;
            }
            if good && job.work != Work::Transfer(Transfer::Read) {
                self.write(entry);
            } else {
                self.finish(entry);
            }
        }
        (self.copying, self.done) = (copying, all);
        true
    }

    fn finish(&mut self, entry: u32) {
        let Some(job) = self.jobs.get_mut(entry as usize).and_then(Option::take) else { return };
        if let Some(run) = job.run {
            self.buffers.give(run);
        }
        self.begun -= 1;
        if job.work == Work::Transfer(Transfer::Barrier) {
            self.barrier = false;
        }
        self.finish_as(entry, job.id, job.operation, job.status);
    }

    fn finish_as(&mut self, entry: u32, id: u64, operation: u8, status: Status) {
        if status != Status::Okay {
            self.count(|c| &c.errors, 1);
        }
        self.finished.push((entry, Response { id, operation, status: status.code() }));
    }

    /// Publishes the answers of this turn; whether there were any.
    fn answer(&mut self) -> bool {
        if self.finished.is_empty() {
            return false;
        }
        for (entry, response) in &self.finished {
            self.table.answering(*entry);
            self.ring.answer(*response);
        }
        let wanted = self.ring.publish(self.finished.len() as u32);
        for (entry, _) in self.finished.drain(..) {
            self.table.answered(entry);
        }
        if wanted && let Err(error) = self.guest.notify() {
            // The channel's other end is closed: the store will say so, too.
            log::debug!("the guest cannot be told of answers: {error}");
        }
        true
    }
}

const _: () = assert!(DESCRIPTION <= PAGE_SIZE && SECTOR == 512);
