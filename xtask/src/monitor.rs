//! QEMU's monitor, and through it the emulated machine's clock, read from outside: its ACPI power-management timer.
//!
//! Under `-icount shift=0` one nanosecond of that clock is one instruction executed by the machine.

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// I/O port of the timer on QEMU's q35 (SeaBIOS places the power-management block at 0x600).
const PORT: &str = "0x608";
/// Ticks in a second (ACPI 6.5, section 4.8.3.3).
const FREQUENCY: u64 = 3_579_545;
/// The counter is 24 bits wide.
const MASK: u64 = (1 << 24) - 1;

/// The monitor of a running machine.
pub struct Monitor {
    stream: UnixStream,
}

/// A clock that follows the timer's wrapping counter; must be read more often than it wraps (4.7 s of machine time).
pub struct Clock {
    monitor: Monitor,
    last: u64,
    ticks: u64,
}

impl Monitor {
    /// QEMU's arguments that open the monitor at `path`.
    pub fn arguments(path: &Path) -> Vec<String> {
        vec!["-monitor".into(), format!("unix:{},server=on,wait=off", path.display())]
    }

    /// Connects to a machine that was just started.
    pub fn connect(path: &PathBuf) -> Result<Self> {
        let end = Instant::now() + Duration::from_secs(10);
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > end => {
                    return Err(error).context("QEMU's monitor does not answer");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut monitor = Self { stream };
        monitor.answer()?;
        Ok(monitor)
    }

    /// What the monitor answers to a command.
    pub fn command(&mut self, command: &str) -> Result<String> {
        self.stream.write_all(command.as_bytes())?;
        self.stream.write_all(b"\n")?;
        self.answer()
    }

    /// Everything up to the monitor's next prompt.
    fn answer(&mut self) -> Result<String> {
        let mut text = Vec::new();
        let mut buffer = [0; 1024];
        while !text.ends_with(b"(qemu) ") {
            match self.stream.read(&mut buffer)? {
                0 => bail!("the machine stopped"),
                n => text.extend_from_slice(&buffer[..n]),
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

impl Clock {
    /// The clock of a machine, from now on.
    pub fn new(monitor: Monitor) -> Self {
        Self { monitor, last: 0, ticks: 0 }
    }

    /// Machine time since the first reading, in nanoseconds.
    pub fn now(&mut self) -> Result<u64> {
        let text = self.monitor.command(&format!("i /w {PORT}"))?;
        let value =
            text.split("= 0x").nth(1).and_then(|v| v.get(..8)).context("the monitor gave no value")?;
        let raw = u64::from_str_radix(value, 16)? & MASK;
        self.ticks += raw.wrapping_sub(self.last) & MASK;
        self.last = raw;
        Ok(self.ticks.saturating_mul(1_000_000_000) / FREQUENCY)
    }
}
