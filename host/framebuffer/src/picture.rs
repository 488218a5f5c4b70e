//! A guest's framebuffer while it is connected: a thread that hears what the guest says has changed and takes that over for who looks.
//!
//! Nobody looks: nothing is copied. A guest that says nothing of changes is compared, a few times a second. One that says too much is heard
//! [`REFRESH`] apart.

use crate::geometry::{Geometry, Rect};
use crate::machine::{Channel, Machine};
use crate::page::{self, Event, Page, Width};
use crate::screen::Screen;
use radon_linux::mailbox::{Mailbox, Post, mailbox};
use radon_xen::page::SharedPages;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the picture is taken over at most.
pub const REFRESH: Duration = Duration::from_millis(30);
/// How often a guest's picture is compared that says nothing of changes.
pub const SAMPLE: Duration = Duration::from_millis(150);

/// What the thread is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nudge {
    /// Somebody new looks.
    Look,
    /// It is over.
    Stop,
}

/// What a front end says in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// Its domain.
    pub domid: u16,
    /// Frame of the page.
    pub frame: u64,
    /// Its event channel.
    pub port: u32,
    /// How it writes numbers.
    pub width: Width,
    /// It tells of changes.
    pub updates: bool,
    /// Bytes of memory that its picture may have: what the toolstack has given it.
    pub most: u32,
}

/// A thread that serves a device; dropped, it has ended.
#[derive(Debug)]
pub struct Served<T> {
    pub(crate) post: Post<T>,
    pub(crate) stop: fn(&Post<T>),
    pub(crate) thread: Option<JoinHandle<()>>,
}

impl<T> Drop for Served<T> {
    fn drop(&mut self) {
        (self.stop)(&self.post);
        // A panic of the thread has been reported by itself.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Picture<P, C> {
    page: Page<P>,
    memory: P,
    geometry: Geometry,
    channel: C,
    screen: Arc<Screen>,
    nudges: Mailbox<Nudge>,
    updates: bool,
    damage: Rect,
    /// The last complaint about this guest.
    complaint: String,
}

/// Maps, binds, and serves.
pub fn connect<M: Machine>(
    machine: &M,
    front: &Front,
    screen: &Arc<Screen>,
) -> Result<Served<Nudge>, String> {
    let map = |what: &str, frames: &[u64]| {
        machine.frames(front.domid, frames).map_err(|e| format!("{what} cannot be mapped: {e}"))
    };
    let page = Page::new(map("the framebuffer's page", &[front.frame])?);
    let claim = page.claim();
    let geometry = claim.check()?;
    // Mapping is dom0's memory, and frames may be claimed many times over.
    if claim.memory > front.most {
        return Err(format!("{} bytes of memory: it was given {}", claim.memory, front.most));
    }
    let directory = map("the framebuffer's directory", &page.directory(front.width, claim.memory))?;
    let memory = map("the framebuffer", &page::frames(&directory, front.width, claim.memory))?;
    let channel = machine.bind(front.domid, front.port).map_err(|e| format!("its event channel: {e}"))?;
    let (post, nudges) = mailbox().map_err(|e| e.to_string())?;
    let mut picture = Picture {
        page,
        memory,
        geometry,
        channel,
        screen: screen.clone(),
        nudges,
        updates: front.updates,
        damage: Rect::default(),
        complaint: String::new(),
    };
    picture.adopt(geometry);
    let domid = front.domid;
    let run = move || {
        if let Err(error) = picture.run(claim.memory) {
            log::error!("domain {domid}: its framebuffer: {error}");
        }
    };
    let thread = std::thread::Builder::new().name(format!("picture {domid}")).spawn(run);
    let thread = thread.map_err(|e| format!("no thread: {e}"))?;
    screen.set_picture(Some(post.clone()));
    Ok(Served { post, stop: |post| post.send(Nudge::Stop), thread: Some(thread) })
}

impl<P: Deref<Target = SharedPages>, C: Channel> Picture<P, C> {
    fn adopt(&mut self, geometry: Geometry) {
        self.geometry = geometry;
        let size = (geometry.width(), geometry.height());
        self.damage = Rect::whole(size.0, size.1);
        self.screen.draw(|canvas| {
            let other = canvas.size() != size;
            if other {
                canvas.resize(size.0, size.1);
            }
            other
        });
    }

    fn run(&mut self, memory: u32) -> io::Result<()> {
        let mut last = Instant::now();
        // Events of before, too.
        let mut heard = true;
        loop {
            let watched = self.screen.is_watched();
            let due = match () {
                () if heard || watched && !self.damage.is_empty() => Some(last + REFRESH),
                () if watched && !self.updates => Some(last + SAMPLE),
                () => None,
            };
            let (event, nudged) = self.sleep(due)?;
            if nudged {
                for nudge in self.nudges.take() {
                    match nudge {
                        Nudge::Stop => return Ok(()),
                        Nudge::Look => {
                            self.damage = Rect::whole(self.geometry.width(), self.geometry.height())
                        }
                    }
                }
            }
            heard |= event && self.channel.take()?;
            if due.is_none_or(|due| due > Instant::now()) {
                continue;
            }
            last = Instant::now();
            if std::mem::take(&mut heard) {
                self.hear(memory);
                self.channel.notify();
                self.channel.unmask();
            }
            if !self.updates {
                self.damage = Rect::whole(self.geometry.width(), self.geometry.height());
            }
            if self.screen.is_watched() {
                self.take_over();
            }
        }
    }

    /// Until then, an event, or a nudge.
    fn sleep(&self, until: Option<Instant>) -> io::Result<(bool, bool)> {
        let wait = until.map(|until| until.saturating_duration_since(Instant::now()));
        wait_for(&self.channel, &self.nudges, wait)
    }

    fn hear(&mut self, memory: u32) {
        let size = (self.geometry.width(), self.geometry.height());
        let Some(events) = self.page.events() else {
            self.complain("an index from nowhere");
            self.damage = Rect::whole(size.0, size.1);
            return;
        };
        for event in events {
            match event {
                Event::Update { x, y, width, height } => {
                    let size = (self.geometry.width(), self.geometry.height());
                    self.damage = self.damage.union(page::damage(x, y, width, height, size));
                }
                Event::Resize(claim) => match (crate::geometry::Claim { memory, ..claim }).check() {
                    Ok(geometry) => self.adopt(geometry),
                    Err(why) => self.complain(&why),
                },
            }
        }
    }

    fn take_over(&mut self) {
        let (part, geometry, memory) = (std::mem::take(&mut self.damage), self.geometry, &self.memory);
        self.screen.draw(|canvas| canvas.absorb(&geometry, part, |at, to| memory.read(at, to)));
    }

    fn complain(&mut self, why: &str) {
        if self.complaint != why {
            log::warn!("a framebuffer's guest says {why}");
            why.clone_into(&mut self.complaint);
        }
    }
}

/// Waits for an event or a message, at most so long: which of them there is.
pub(crate) fn wait_for<T>(
    channel: &impl Channel,
    mailbox: &Mailbox<T>,
    limit: Option<Duration>,
) -> io::Result<(bool, bool)> {
    use std::os::fd::AsFd;
    let mut fds = [
        PollFd::from_borrowed_fd(channel.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(mailbox.as_fd(), PollFlags::IN),
    ];
    // Rounded up: not to wake just before it is time.
    let limit = limit.map(|l| l + Duration::from_micros(50));
    let limit = limit.map(|l| Timespec { tv_sec: l.as_secs() as i64, tv_nsec: l.subsec_nanos().into() });
    match poll(&mut fds, limit.as_ref()) {
        Ok(_) => Ok(fds.map(|fd| !fd.revents().is_empty()).into()),
        Err(rustix::io::Errno::INTR) => Ok((false, false)),
        Err(error) => Err(error.into()),
    }
}
