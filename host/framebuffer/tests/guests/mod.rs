//! Guests with framebuffer and keyboard, and viewers of them, without Xen.

use radon_framebuffer::keyboard::{self, Place, Pointing};
use radon_framebuffer::machine::{Channel, Machine};
use radon_framebuffer::page::Width;
use radon_framebuffer::picture::{self, Nudge, Served};
use radon_framebuffer::screen::Screen;
use radon_framebuffer::typist::Input;
use radon_framebuffer::viewer;
use radon_linux::mailbox::{Mailbox, Post, mailbox};
use radon_xen::page::SharedPages;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Waits for something that another thread does.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "{what}: not in time");
        std::thread::yield_now();
    }
}

/// A page of a framebuffer is at this frame, its directory at the next; the picture begins at the third.
pub const FRAME: u64 = 10;
const KEYBOARD: u32 = 7;

#[derive(Default)]
struct Wire {
    masked: AtomicBool,
    pending: AtomicBool,
    notified: AtomicBool,
}

/// This end of a channel.
pub struct Bound {
    wire: Arc<Wire>,
    bell: (Post<()>, Mailbox<()>),
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.1.as_fd()
    }
}

impl Channel for Bound {
    fn notify(&self) {
        self.wire.notified.store(true, Ordering::SeqCst);
    }

    fn take(&self) -> io::Result<bool> {
        self.bell.1.take();
        let masked = self.wire.masked.swap(true, Ordering::SeqCst);
        Ok(!masked && self.wire.pending.swap(false, Ordering::SeqCst))
    }

    fn unmask(&self) {
        self.wire.masked.store(false, Ordering::SeqCst);
        if self.wire.pending.load(Ordering::SeqCst) {
            self.bell.0.send(());
        }
    }
}

/// A guest.
#[derive(Default)]
pub struct Guest {
    pages: BTreeMap<u64, Arc<SharedPages>>,
    wires: [Arc<Wire>; 2],
    bells: Mutex<BTreeMap<u32, Post<()>>>,
    stride: usize,
}

impl Machine for Guest {
    type Pages = Arc<SharedPages>;
    type Channel = Bound;

    fn frames(&self, _: u16, frames: &[u64]) -> io::Result<Arc<SharedPages>> {
        let pages = frames.first().and_then(|first| self.pages.get(first)).cloned();
        pages.filter(|p| p.len() >= frames.len() * 4096).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn granted(&self, domid: u16, reference: u32) -> io::Result<Arc<SharedPages>> {
        self.frames(domid, &[reference.into()])
    }

    fn bind(&self, _: u16, port: u32) -> io::Result<Bound> {
        let wire = self.wires.get(port as usize).ok_or(io::ErrorKind::NotFound)?.clone();
        let bell = mailbox()?;
        self.bells.lock().unwrap().insert(port, bell.0.clone());
        Ok(Bound { wire, bell })
    }
}

/// What a guest says of its framebuffer in the store.
pub fn front(updates: bool) -> picture::Front {
    picture::Front { domid: 1, frame: FRAME, port: 0, width: Width::Bits64, updates, most: 2 << 20 }
}

impl Guest {
    /// With a picture of this size.
    pub fn new(width: usize, height: usize) -> Self {
        let stride = width * 4;
        let frames = (stride * height).div_ceil(4096);
        let mut guest = Self { stride, ..Self::default() };
        for (frame, count) in
            [(FRAME, 1), (FRAME + 1, 1), (FRAME + 2, frames.max(1024)), (KEYBOARD.into(), 1)]
        {
            guest.pages.insert(frame, Arc::new(SharedPages::anonymous(count).unwrap()));
        }
        let (page, directory) = (&guest.pages[&FRAME], &guest.pages[&(FRAME + 1)]);
        for (at, word) in
            [(16, width), (20, height), (24, stride), (28, 2 << 20), (32, 32), (40, FRAME as usize + 1)]
        {
            page.store(at, word as u32);
        }
        for n in 0..512 {
            directory.store(n * 8, (FRAME + 2) as u32 + n as u32);
        }
        guest
    }

    pub fn page(&self) -> &SharedPages {
        &self.pages[&FRAME]
    }

    /// Both devices, served.
    pub fn connect(&self, screen: &Arc<Screen>, updates: bool) -> (Served<Nudge>, Served<Vec<Input>>) {
        let front = front(updates);
        let pointing = Pointing::Absolute;
        let keys = keyboard::Front { domid: 1, page: Place::Grant(KEYBOARD), port: 1, pointing };
        (picture::connect(self, &front, screen).unwrap(), keyboard::connect(self, &keys, screen).unwrap())
    }

    pub fn raise(&self, port: u32) {
        self.wires[port as usize].pending.store(true, Ordering::SeqCst);
        if let Some(bell) = self.bells.lock().unwrap().get(&port) {
            bell.send(());
        }
    }

    /// Draws a rectangle, and says so or does not.
    pub fn draw(&self, [x, y, width, height]: [usize; 4], colour: u32, say: bool) {
        let memory = &self.pages[&(FRAME + 2)];
        for (y, x) in (y..y + height).flat_map(|y| (x..x + width).map(move |x| (y, x))) {
            memory.store(y * self.stride + x * 4, colour);
        }
        if say {
            self.say([2, x as u32, y as u32, width as u32, height as u32, 0]);
        }
    }

    /// Puts an event into the ring.
    pub fn say(&self, words: [u32; 6]) {
        let page = self.page();
        until("room in the ring", || page.load(12).wrapping_sub(page.load(8)) < 51);
        let at = 2048 + (page.load(12) % 51) as usize * 40;
        for (n, word) in words.into_iter().enumerate() {
            page.store(at + n * 4, word);
        }
        page.store(12, page.load(12).wrapping_add(1));
        self.raise(0);
    }

    /// What was typed: the first two words of each event.
    pub fn typed(&self) -> Vec<[u32; 2]> {
        let page = &self.pages[&KEYBOARD.into()];
        let mut all = Vec::new();
        let (mut consumed, produced) = (page.load(0), page.load(4));
        while consumed != produced {
            let at = 1024 + (consumed % 51) as usize * 40;
            all.push([page.load(at), page.load(at + 4)]);
            consumed = consumed.wrapping_add(1);
        }
        page.store(0, consumed);
        self.raise(1);
        all
    }
}

/// A viewer, of plain pixels.
pub struct View {
    pub stream: UnixStream,
    pub size: (u16, u16),
    pub pixels: Vec<u32>,
    pub updates: usize,
}

impl View {
    pub fn new(screen: &Arc<Screen>) -> Self {
        Self::of_version(screen, b"RFB 003.008\n")
    }

    pub fn of_version(screen: &Arc<Screen>, version: &[u8; 12]) -> Self {
        let (mut stream, served) = UnixStream::pair().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let screen = screen.clone();
        std::thread::spawn(move || viewer::serve(served, &screen, "a guest"));
        let mut said = [0; 12];
        stream.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"RFB 003.008\n");
        stream.write_all(version).unwrap();
        if version == b"RFB 003.003\n" {
            assert_eq!(read::<4>(&mut stream), [0, 0, 0, 1]);
        } else {
            assert_eq!(read::<2>(&mut stream), [1, 1]);
            stream.write_all(&[1]).unwrap();
            if version == b"RFB 003.008\n" {
                assert_eq!(read::<4>(&mut stream), [0; 4]);
            }
        }
        stream.write_all(&[1]).unwrap();
        let hello = read::<24>(&mut stream);
        let size = (u16::from_be_bytes([hello[0], hello[1]]), u16::from_be_bytes([hello[2], hello[3]]));
        assert_eq!(hello[20..], [0, 0, 0, 7]);
        assert_eq!(&read::<7>(&mut stream), b"a guest");
        let pixels = vec![0x55; usize::from(size.0) * usize::from(size.1)];
        // Plain pixels, sizes.
        stream.write_all(&[2, 0, 0, 2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x21]).unwrap();
        let mut view = Self { stream, size, pixels, updates: 0 };
        view.ask(false);
        view
    }

    pub fn ask(&mut self, incremental: bool) {
        self.stream.write_all(&[3, incremental.into(), 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).unwrap();
    }

    /// Takes an update, and asks for the next.
    pub fn update(&mut self) {
        let [0, 0, high, low] = read::<4>(&mut self.stream) else { panic!("no update") };
        for _ in 0..u16::from_be_bytes([high, low]) {
            let head = read::<12>(&mut self.stream);
            let number = |n: usize| usize::from(u16::from_be_bytes([head[n], head[n + 1]]));
            let (x, y, width, height) = (number(0), number(2), number(4), number(6));
            if head[8..] == [0xff, 0xff, 0xff, 0x21] {
                self.size = (width as u16, height as u16);
                self.pixels = vec![0x55; width * height];
                continue;
            }
            assert_eq!(head[8..], [0; 4]);
            let mut bytes = vec![0; width * height * 4];
            self.stream.read_exact(&mut bytes).unwrap();
            for (n, pixel) in bytes.chunks(4).enumerate() {
                let at = (y + n / width) * usize::from(self.size.0) + x + n % width;
                self.pixels[at] = u32::from_le_bytes(pixel.try_into().unwrap());
            }
        }
        self.updates += 1;
        self.ask(true);
    }

    pub fn pixel(&self, x: usize, y: usize) -> u32 {
        self.pixels[y * usize::from(self.size.0) + x]
    }

    /// Takes updates until a pixel has a colour.
    pub fn sees(&mut self, x: usize, y: usize, colour: u32) {
        let end = Instant::now() + LIMIT;
        while x >= self.size.0.into() || self.pixel(x, y) != colour {
            assert!(Instant::now() < end, "no {colour:x} at {x}, {y}");
            self.update();
        }
    }

    pub fn key(&mut self, down: bool, keysym: u32) {
        let [a, b, c, d] = keysym.to_be_bytes();
        self.stream.write_all(&[4, down.into(), 0, 0, a, b, c, d]).unwrap();
    }
}

fn read<const N: usize>(stream: &mut UnixStream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}
