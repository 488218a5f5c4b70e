//! The hypervisor's console: serial line, log ring, and leveled messages like Xen's.
//!
//! Log messages (`error! warn! info! debug!`, and `guest!` for what guests cause) go to the serial line and into the ring,
//! each line behind `(XEN) `. [`write`] is the raw serial line for what dom0 prints.

mod limit;
mod ring;
mod stamp;
mod uart;

pub use limit::RateLimit;
pub use ring::RING_SIZE;
pub use stamp::Stamps;
pub use uart::{COM1, COM2, Line};

use crate::lock::{Guard, SpinLock, rank};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use ring::Ring;
use stamp::Stamp;
use uart::Uart;

/// Importance of a message, most important first (`XENLOG_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Something failed.
    Error = 0,
    /// Something is odd.
    Warning = 1,
    /// Good to know.
    Info = 2,
    /// For developers.
    Debug = 3,
}

/// Who caused a message: each has its own threshold (`loglvl=` and `guest_loglvl=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The hypervisor itself.
    Hypervisor,
    /// A guest's doing; rate limited.
    Guest,
}

/// Which messages pass: levels below `always` do; below `limited` they do at a limited rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// Number of levels that always pass (0 = none, 4 = all).
    pub always: u8,
    /// Number of levels that pass at a limited rate (at least `always`).
    pub limited: u8,
}

struct AtomicThreshold(AtomicU8, AtomicU8);
impl AtomicThreshold {
    fn set(&self, t: Threshold) {
        self.0.store(t.always, Relaxed);
        self.1.store(t.limited.max(t.always), Relaxed);
    }
    fn get(&self) -> Threshold {
        Threshold { always: self.0.load(Relaxed), limited: self.1.load(Relaxed) }
    }
}

/// Errors, warnings and information of our own, of guests errors and warnings at a limited rate.
static LOGLVL: AtomicThreshold = AtomicThreshold(AtomicU8::new(3), AtomicU8::new(3));
static GUEST_LOGLVL: AtomicThreshold = AtomicThreshold(AtomicU8::new(0), AtomicU8::new(2));
static LIMIT: RateLimit = RateLimit::new();
static CRASHING: AtomicBool = AtomicBool::new(false);
/// The [`Stamps`] in use.
static STAMPS: AtomicU8 = AtomicU8::new(Stamps::None as u8);
/// `console_to_ring`: what dom0 prints is kept in the ring, too.
static TO_RING: AtomicBool = AtomicBool::new(false);

struct Console {
    uart: Option<Uart>,
    ring: Ring,
    /// The next byte of the log begins a line.
    line_start: bool,
}

static CONSOLE: SpinLock<Console> =
    SpinLock::new(rank::CONSOLE, Console { uart: None, ring: Ring::new(), line_start: true });

impl Console {
    /// To the serial line, with carriage returns.
    fn send(&mut self, bytes: &[u8]) {
        #[cfg(not(target_os = "none"))]
        crate::sim::thread::with(|t| t.console.borrow_mut().extend_from_slice(bytes));
        if let Some(uart) = &mut self.uart {
            for &b in bytes {
                if b == b'\n' {
                    uart.send(b'\r');
                }
                uart.send(b);
            }
        }
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for line in text.as_bytes().split_inclusive(|&b| b == b'\n') {
            if self.line_start {
                self.send(b"(XEN) ");
                self.ring.push(b"(XEN) ");
                let style = Stamps::from_number(STAMPS.load(Relaxed));
                if style != Stamps::None {
                    write!(Mid(self), "{}", Stamp::now(style))?;
                }
            }
            self.send(line);
            self.ring.push(line);
            self.line_start = line.last() == Some(&b'\n');
        }
        Ok(())
    }
}

/// The console within a line.
struct Mid<'a>(&'a mut Console);

impl Write for Mid<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.send(text.as_bytes());
        self.0.ring.push(text.as_bytes());
        Ok(())
    }
}

fn console() -> Guard<'static, Console> {
    if CRASHING.load(Relaxed) {
        return CONSOLE.seize();
    }
    CONSOLE.lock()
}

/// Starts using a serial port. False if there is none.
pub fn init_uart(port: u16, line: Line) -> bool {
    let uart = Uart::init(port, line);
    console().uart = uart;
    uart.is_some()
}

/// `console=none`: nothing is sent to a serial port or read from one any more. The ring goes on.
pub fn stop_uart() {
    console().uart = None;
}

/// Which time stamps lines begin with.
pub fn set_stamps(stamps: Stamps) {
    STAMPS.store(stamps as u8, Relaxed);
}

/// Whether [`write`] keeps what it is given in the ring.
pub fn set_to_ring(on: bool) {
    TO_RING.store(on, Relaxed);
}

/// Gives the ring more (or less) room: a power of two of bytes below 2^31. False if it is none.
pub fn use_ring(storage: &'static mut [u8]) -> bool {
    console().ring.move_to(storage)
}

/// Bytes that the ring holds.
pub fn ring_size() -> u32 {
    console().ring.size()
}

/// Sets the threshold of the hypervisor's (`loglvl=`) or the guests' messages (`guest_loglvl=`).
pub fn set_threshold(source: Source, threshold: Threshold) {
    match source {
        Source::Hypervisor => LOGLVL.set(threshold),
        Source::Guest => GUEST_LOGLVL.set(threshold),
    }
}

/// The threshold in force.
pub fn threshold(source: Source) -> Threshold {
    match source {
        Source::Hypervisor => LOGLVL.get(),
        Source::Guest => GUEST_LOGLVL.get(),
    }
}

/// Logs a message if its level passes; the macros call this. A newline is added.
pub fn log(source: Source, level: Level, message: fmt::Arguments<'_>) {
    let t = threshold(source);
    let level = level as u8;
    let mut missed = 0;
    if level >= t.always {
        if level >= t.limited {
            return;
        }
        let Some(n) = LIMIT.check(crate::time::now()) else { return };
        missed = n;
    }
    let mut c = console();
    // Writing to the console cannot fail; a failing `Display` loses its own message only.
    if missed > 0 {
        let _ = writeln!(c, "printk: {missed} messages suppressed.");
    }
    let _ = c.write_fmt(message);
    let _ = c.write_str("\n");
}

/// Writes raw bytes to the serial line (dom0's `HYPERVISOR_console_io`); to the ring only with [`set_to_ring`].
pub fn write(bytes: &[u8]) {
    let mut console = console();
    console.send(bytes);
    if TO_RING.load(Relaxed) {
        console.ring.push(bytes);
    }
}

/// Writes to the serial line and the ring regardless of levels, each line behind `(XEN) ` (guests' console output
/// with `console_to_ring`, panic messages).
pub fn print(message: fmt::Arguments<'_>) {
    let _ = console().write_fmt(message);
}

/// A byte typed on the serial line, if there is one.
pub fn read() -> Option<u8> {
    #[cfg(not(target_os = "none"))]
    if let Some(b) = crate::sim::thread::with(|t| t.input.borrow_mut().pop_front()) {
        return Some(b);
    }
    console().uart.as_mut()?.receive()
}

/// Copies log bytes from position `from` (`None`: from the oldest kept) and returns how many and the position after them
/// (`XEN_SYSCTL_readconsole`). The caller repeats with the returned position for large buffers.
pub fn read_ring(from: Option<u32>, buf: &mut [u8]) -> (usize, u32) {
    console().ring.read(from, buf)
}

/// Forgets the log before the position that [`read_ring`] returned.
pub fn clear_ring(upto: u32) {
    console().ring.clear(upto);
}

/// From now on the console's lock is broken whenever somebody has something to say: the machine is crashing.
pub fn force_unlock() {
    CRASHING.store(true, Relaxed);
}

/// Logs an error of the hypervisor.
#[macro_export]
macro_rules! error {
    ($($arg:tt)*) => { $crate::console::log($crate::console::Source::Hypervisor, $crate::console::Level::Error, format_args!($($arg)*)) };
}
/// Logs a warning of the hypervisor.
#[macro_export]
macro_rules! warn {
    ($($arg:tt)*) => { $crate::console::log($crate::console::Source::Hypervisor, $crate::console::Level::Warning, format_args!($($arg)*)) };
}
/// Logs information.
#[macro_export]
macro_rules! info {
    ($($arg:tt)*) => { $crate::console::log($crate::console::Source::Hypervisor, $crate::console::Level::Info, format_args!($($arg)*)) };
}
/// Logs for developers.
#[macro_export]
macro_rules! debug {
    ($($arg:tt)*) => { $crate::console::log($crate::console::Source::Hypervisor, $crate::console::Level::Debug, format_args!($($arg)*)) };
}
/// Logs something that a guest caused, at a limited rate: `guest!("{dom}: bad thing {x}")` warns,
/// `guest!(Error, "...")` names another [`Level`](crate::console::Level).
#[macro_export]
macro_rules! guest {
    ($format:literal $($arg:tt)*) => { $crate::guest!(Warning, $format $($arg)*) };
    ($level:ident, $($arg:tt)*) => { $crate::console::log($crate::console::Source::Guest, $crate::console::Level::$level, format_args!($($arg)*)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, because the thresholds and the ring are shared by the process.
    #[test]
    fn levels_prefixes_and_ring() {
        let (_, begin) = read_ring(None, &mut vec![0; RING_SIZE as usize]);
        crate::info!("hello {}", 1);
        crate::debug!("not shown");
        print(format_args!("a\nb"));
        print(format_args!("c\n"));
        let shown = b"(XEN) hello 1\n(XEN) a\n(XEN) bc\n";
        assert_eq!(crate::sim::take_console(), shown);
        write(b"raw\n");
        assert_eq!(crate::sim::take_console(), b"raw\n");
        let mut buf = [0; 200];
        let (n, _) = read_ring(Some(begin), &mut buf);
        assert!(buf[..n].windows(shown.len()).any(|w| w == shown));

        set_threshold(Source::Guest, Threshold { always: 1, limited: 2 });
        for _ in 0..30 {
            crate::guest!("w{}", 1);
        }
        assert_eq!(crate::sim::take_console().len(), 10 * "(XEN) w1\n".len());
        crate::guest!(Error, "e");
        crate::guest!(Info, "i");
        assert_eq!(crate::sim::take_console(), b"(XEN) e\n");
        set_to_ring(true);
        let (_, before) = read_ring(None, &mut vec![0; RING_SIZE as usize]);
        write(b"kept");
        set_to_ring(false);
        write(b"not kept");
        let (n, _) = read_ring(Some(before), &mut buf);
        assert_eq!(&buf[..n], b"kept");
        crate::sim::take_console();
        crate::sim::set_now(radon_addr::Ns::new(2_000_001_000));
        set_stamps(Stamps::Boot);
        crate::guest!(Error, "stamped");
        set_stamps(Stamps::None);
        assert_eq!(crate::sim::take_console(), b"(XEN) [    2.000001] stamped\n");
        crate::sim::type_console(b"k");
        assert_eq!((read(), read()), (Some(b'k'), None));
    }
}
