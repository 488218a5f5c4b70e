//! A guest's keyboard and pointer while they are connected: a thread that puts what viewers do into the guest's ring, as it gets room.

use crate::input::{Event, Page};
use crate::machine::{Channel, Machine};
use crate::picture::{Served, wait_for};
use crate::screen::Screen;
use crate::typist::Input;
use radon_linux::mailbox::{Mailbox, mailbox};
use radon_xen::page::SharedPages;
use std::collections::VecDeque;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What waits for room in a guest's ring at most; then only keys that come up are taken.
const MOST_WAITING: usize = 512;
/// With those: no more keys than there are can come up.
const MOST_AT_ALL: usize = MOST_WAITING + 1024;
/// How often a guest's events are heard at most.
const PAUSE: Duration = Duration::from_millis(5);
/// The greatest raw coordinate (`feature-raw-pointer`, `io/kbdif.h`).
const RAW: i64 = 0x7fff;

/// How a guest wants to know where the pointer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointing {
    /// By how much it has moved.
    Relative,
    /// Where it is, in pixels.
    Absolute,
    /// Where it is, from 0 to 32767.
    Raw,
}

/// Where a front end's page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Granted.
    Grant(u32),
    /// A frame, as old front ends have it.
    Frame(u64),
}

/// What a front end says in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// Its domain.
    pub domid: u16,
    /// Its page.
    pub page: Place,
    /// Its event channel.
    pub port: u32,
    /// What it wants of the pointer.
    pub pointing: Pointing,
}

/// Turns what viewers do into events.
#[derive(Clone, Debug)]
pub struct Pointer {
    pointing: Pointing,
    last: (u16, u16),
}

impl Pointer {
    /// One that was nowhere yet.
    pub fn new(pointing: Pointing) -> Self {
        Self { pointing, last: (0, 0) }
    }

    /// The event for an input, in a picture of that size.
    pub fn event(&mut self, input: Input, size: (u16, u16)) -> Event {
        let (x, y, wheel) = match input {
            Input::Key { pressed, code } => return Event::Key { pressed, code },
            Input::Pointer { x, y, wheel } => (x, y, i32::from(wheel)),
        };
        let (x, y) = (x.min(size.0.saturating_sub(1)), y.min(size.1.saturating_sub(1)));
        let from = std::mem::replace(&mut self.last, (x, y));
        let raw = |place: u16, side: u16| {
            (i64::from(place) * RAW / i64::from(side.saturating_sub(1).max(1))) as i32
        };
        match self.pointing {
            Pointing::Relative => Event::Motion {
                x: i32::from(x) - i32::from(from.0),
                y: i32::from(y) - i32::from(from.1),
                z: wheel,
            },
            Pointing::Absolute => Event::Position { x: x.into(), y: y.into(), z: wheel },
            Pointing::Raw => Event::Position { x: raw(x, size.0), y: raw(y, size.1), z: wheel },
        }
    }
}

struct Keyboard<P, C> {
    page: Page<P>,
    channel: C,
    screen: Arc<Screen>,
    /// None of them at once: the end.
    inputs: Mailbox<Vec<Input>>,
    pointer: Pointer,
    waiting: VecDeque<Event>,
}

/// Maps, binds, and serves.
pub fn connect<M: Machine>(
    machine: &M,
    front: &Front,
    screen: &Arc<Screen>,
) -> Result<Served<Vec<Input>>, String> {
    let pages = match front.page {
        Place::Grant(reference) => machine.granted(front.domid, reference),
        Place::Frame(frame) => machine.frames(front.domid, &[frame]),
    };
    let page = Page::new(pages.map_err(|e| format!("the keyboard's page cannot be mapped: {e}"))?);
    let channel = machine.bind(front.domid, front.port).map_err(|e| format!("its event channel: {e}"))?;
    let (post, inputs) = mailbox().map_err(|e| e.to_string())?;
    let pointer = Pointer::new(front.pointing);
    let mut keyboard =
        Keyboard { page, channel, screen: screen.clone(), inputs, pointer, waiting: VecDeque::new() };
    let domid = front.domid;
    let run = move || {
        if let Err(error) = keyboard.run() {
            log::error!("domain {domid}: its keyboard: {error}");
        }
    };
    let thread = std::thread::Builder::new().name(format!("keyboard {domid}")).spawn(run);
    let thread = thread.map_err(|e| format!("no thread: {e}"))?;
    screen.set_keyboard(Some(post.clone()));
    Ok(Served { post, stop: |post| post.send(Vec::new()), thread: Some(thread) })
}

impl<P: Deref<Target = SharedPages>, C: Channel> Keyboard<P, C> {
    fn run(&mut self) -> io::Result<()> {
        let (mut masked, mut heard) = (false, Instant::now());
        loop {
            let due = masked.then(|| heard + PAUSE);
            let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
            let (event, typed) = wait_for(&self.channel, &self.inputs, wait)?;
            masked |= event && self.channel.take()?;
            if masked && heard + PAUSE <= Instant::now() {
                (masked, heard) = (false, Instant::now());
                self.channel.unmask();
            }
            if typed {
                let size = self.screen.size();
                for inputs in self.inputs.take() {
                    if inputs.is_empty() {
                        return Ok(());
                    }
                    for input in inputs {
                        self.wait(input, size);
                    }
                }
            }
            let mut any = false;
            while let Some(event) = self.waiting.front().copied().filter(|event| self.page.put(*event)) {
                any = true;
                log::trace!("{event:?}");
                self.waiting.pop_front();
            }
            if any {
                self.channel.notify();
            }
        }
    }

    fn wait(&mut self, input: Input, size: (u16, u16)) {
        let event = self.pointer.event(input, size);
        // Where the pointer was in between does not matter.
        if let (Some(Event::Position { z: 0, .. }), Event::Position { z: 0, .. }) =
            (self.waiting.back(), event)
        {
            self.waiting.pop_back();
        }
        let comes_up = matches!(event, Event::Key { pressed: false, .. });
        if self.waiting.len() < if comes_up { MOST_AT_ALL } else { MOST_WAITING } {
            self.waiting.push_back(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_ways_of_pointing() {
        let at = |x, y, wheel| Input::Pointer { x, y, wheel };
        let size = (800, 600);
        let mut relative = Pointer::new(Pointing::Relative);
        assert_eq!(relative.event(at(10, 20, 0), size), Event::Motion { x: 10, y: 20, z: 0 });
        assert_eq!(relative.event(at(7, 60_000, -1), size), Event::Motion { x: -3, y: 579, z: -1 });
        let mut absolute = Pointer::new(Pointing::Absolute);
        assert_eq!(absolute.event(at(900, 20, 1), size), Event::Position { x: 799, y: 20, z: 1 });
        let mut raw = Pointer::new(Pointing::Raw);
        assert_eq!(raw.event(at(799, 599, 0), size), Event::Position { x: 0x7fff, y: 0x7fff, z: 0 });
        assert_eq!(raw.event(at(0, 300, 0), size), Event::Position { x: 0, y: 16410, z: 0 });
        assert_eq!(raw.event(at(5, 5, 0), (1, 1)), Event::Position { x: 0, y: 0, z: 0 });
        let key = Input::Key { pressed: true, code: 30 };
        assert_eq!(raw.event(key, size), Event::Key { pressed: true, code: 30 });
    }
}
