//! A viewer: a thread that hears it, and one that sends it the picture. One that is slow gets fewer pictures, and nobody waits for it.

use crate::geometry::{LONGEST, Rect};
use crate::rfb::hello::{self, VERSION_LENGTH, Version};
use crate::rfb::message::{self, Message};
use crate::rfb::update::{self, Part, Taste};
use crate::rfb::zrle::Stream;
use crate::screen::Screen;
use crate::typist::Typist;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the beginning may take, and how long a viewer may take nothing of what it asked for.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is read at a time. No message but a list of 65535 encodings is longer.
const PIECE: usize = 4096;
/// Bytes of a message that is not whole yet.
const MOST: usize = 4 + 4 * 65535;

/// What a viewer waits for.
#[derive(Debug, Default)]
struct Wish {
    taste: Taste,
    /// What is new.
    news: bool,
    /// This part, new or not.
    again: Rect,
    told_scancodes: bool,
    gone: bool,
}

/// Serves a viewer until it is gone.
pub fn serve(mut stream: UnixStream, screen: &Screen, name: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let size = greet(&mut stream, screen, name)?;
    stream.set_read_timeout(None)?;
    let _watching = screen.watch();
    let wish = Mutex::new(Wish::default());
    let sending = stream.try_clone()?;
    std::thread::scope(|scope| {
        std::thread::Builder::new().name("viewer".into()).spawn_scoped(scope, || {
            // What goes wrong with a viewer is its business; the other thread hears of its end.
            let _ = send(&sending, screen, &wish, size);
            let _ = sending.shutdown(Shutdown::Both);
        })?;
        let mut typist = Typist::default();
        let heard = hear(&mut stream, screen, &wish, &mut typist);
        screen.put(typist.let_go());
        lock(&wish).gone = true;
        screen.wake();
        let _ = stream.shutdown(Shutdown::Both);
        heard
    })
}

fn lock(wish: &Mutex<Wish>) -> MutexGuard<'_, Wish> {
    wish.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wrong(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// Version, security, and the size that it is told.
fn greet(stream: &mut UnixStream, screen: &Screen, name: &str) -> io::Result<(u16, u16)> {
    stream.write_all(hello::VERSION)?;
    let mut answer = [0; VERSION_LENGTH];
    stream.read_exact(&mut answer)?;
    let version = Version::parse(answer).ok_or_else(|| wrong("no viewer: it does not say which version"))?;
    stream.write_all(version.offer())?;
    if version.chooses() {
        let mut choice = [0];
        stream.read_exact(&mut choice)?;
        if choice != [hello::NONE] {
            return Err(wrong(format!("it wants security of type {}", choice[0])));
        }
        stream.write_all(version.result())?;
    }
    // Whether it wants to be alone: nobody is sent away for it.
    stream.read_exact(&mut [0])?;
    let size = screen.size();
    stream.write_all(&hello::server(size, name))?;
    Ok(size)
}

/// Hears a viewer until it goes, or says what makes no sense.
fn hear(stream: &mut UnixStream, screen: &Screen, wish: &Mutex<Wish>, typist: &mut Typist) -> io::Result<()> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut piece = [0; PIECE];
    let mut skip = 0usize;
    loop {
        let count = match stream.read(&mut piece) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        let skipped = skip.min(count);
        skip -= skipped;
        bytes.extend(piece.get(skipped..count).unwrap_or_default());
        let mut used = 0;
        while let Some((message, length)) =
            message::parse(bytes.get(used..).unwrap_or_default()).map_err(wrong)?
        {
            used += length;
            match message {
                Message::Skip(more) => {
                    let here = (bytes.len() - used).min(more as usize);
                    used += here;
                    skip = more as usize - here;
                }
                Message::Request { incremental, x, y, width, height } => {
                    let within = (LONGEST, LONGEST);
                    let part = Rect::clipped(x.into(), y.into(), width.into(), height.into(), within);
                    {
                        let mut wish = lock(wish);
                        wish.news |= incremental;
                        if !incremental {
                            wish.again = wish.again.union(part);
                        }
                    }
                    screen.wake();
                }
                message => {
                    lock(wish).taste.hear(&message);
                    screen.put(typist.hear(&message));
                }
            }
        }
        bytes.drain(..used);
        if bytes.len() > MOST {
            return Err(wrong("a message without an end"));
        }
    }
}

/// What is sent: the parts, and how the viewer wants them.
struct Order {
    taste: Taste,
    parts: Vec<Part>,
}

/// Sends what is asked for, until the viewer is gone.
fn send(
    mut stream: &UnixStream,
    screen: &Screen,
    wish: &Mutex<Wish>,
    mut size: (u16, u16),
) -> io::Result<()> {
    let mut compressor = Stream::default();
    let mut seen = 0;
    loop {
        let order = screen.wait(|canvas| {
            let mut wish = lock(wish);
            if wish.gone {
                return Some(None);
            }
            let asked = wish.news || !wish.again.is_empty();
            let due = !wish.again.is_empty() || canvas.now() > seen;
            if !asked || !due {
                return None;
            }
            let taste = wish.taste;
            if taste.resizes && size != canvas.size() {
                // By itself: what is sent with it would be of the old size.
                size = canvas.size();
                seen = 0;
                (wish.news, wish.again) = (false, Rect::default());
                return Some(Some(Order { taste, parts: vec![Part::Size(size.0, size.1)] }));
            }
            let whole = Rect::whole(size.0, size.1);
            // What is sent again is not sent as news as well.
            let all = wish.again.union(whole) == wish.again;
            let mut rects = canvas.newer(0, if all { Rect::default() } else { wish.again });
            if all || wish.news {
                rects.extend(canvas.newer(if all { 0 } else { seen }, whole));
                seen = canvas.now();
            }
            // What changed is outside of what the viewer knows: it goes on waiting.
            if rects.is_empty() && wish.again.is_empty() {
                return None;
            }
            (wish.news, wish.again) = (false, Rect::default());
            let mut parts = Vec::new();
            if taste.scancodes && !std::mem::replace(&mut wish.told_scancodes, true) {
                parts.push(Part::Scancodes);
            }
            parts.extend(rects.into_iter().map(|rect| Part::Pixels(rect, canvas.copy(rect))));
            Some(Some(Order { taste, parts }))
        });
        let Some(Order { taste, parts }) = order else { return Ok(()) };
        stream.write_all(&update::encode(&taste, &parts, &mut compressor))?;
    }
}
