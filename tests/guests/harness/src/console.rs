//! Output: `CONSOLEIO_write` of dom0, the PV console ring of a domain that has one, else nothing.

use crate::hypercall::{own_param, raw};
use crate::{boot, event, memory, time};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};
use xen_abi::console::CONSOLEIO_WRITE;
use xen_abi::hvm_op::{HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN};
use xen_abi::hypercall::HYPERVISOR_CONSOLE_IO;

/// Frame and port of the ring; frame 0: none.
static RING: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
const OUT: u64 = 1024;
const OUT_LEN: u32 = 2048;
const OUT_CONS: u64 = 3072 + 8;
const OUT_PROD: u64 = 3072 + 12;

pub(crate) fn init() {
    if boot::is_dom0() {
        return;
    }
    if let (Ok(frame), Ok(port)) = (own_param(HVM_PARAM_CONSOLE_PFN), own_param(HVM_PARAM_CONSOLE_EVTCHN)) {
        RING[0].store(frame, Ordering::Relaxed);
        RING[1].store(port, Ordering::Relaxed);
    }
}

struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            if self.len == self.bytes.len() {
                self.flush();
            }
            self.bytes[self.len] = byte;
            self.len += 1;
        }
        Ok(())
    }
}

impl Line {
    fn flush(&mut self) {
        if boot::is_dom0() {
            let args = [u64::from(CONSOLEIO_WRITE), self.len as u64, self.bytes.as_mut_ptr() as u64, 0, 0];
            raw(u64::from(HYPERVISOR_CONSOLE_IO), args);
        } else {
            ring_write(&self.bytes[..self.len]);
        }
        self.len = 0;
    }
}

fn ring_write(bytes: &[u8]) {
    let base = RING[0].load(Ordering::Relaxed) << 12;
    if base == 0 {
        return;
    }
    for byte in bytes {
        let (produced, deadline) = (memory::read::<u32>(base + OUT_PROD), time::deadline_ms(2000));
        while produced.wrapping_sub(memory::read::<u32>(base + OUT_CONS)) >= OUT_LEN
            && !time::passed(deadline)
        {
            event::send_quietly(RING[1].load(Ordering::Relaxed) as u32);
            time::sleep_ms(1);
        }
        memory::write(base + OUT + u64::from(produced % OUT_LEN), *byte);
        memory::write(base + OUT_PROD, produced.wrapping_add(1));
    }
    event::send_quietly(RING[1].load(Ordering::Relaxed) as u32);
}

/// Waits until the ring's reader has read all, or a second.
pub fn drain() {
    let base = RING[0].load(Ordering::Relaxed) << 12;
    let deadline = time::deadline_ms(1000);
    while base != 0
        && memory::read::<u32>(base + OUT_PROD) != memory::read::<u32>(base + OUT_CONS)
        && !time::passed(deadline)
    {
        time::sleep_ms(1);
    }
}

/// Prints one line, in one hypercall unless it is very long.
pub fn line(args: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; 512], len: 0 };
    let _ = writeln!(line, "{args}");
    line.flush();
}

/// Prints a line.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => { $crate::console::line(format_args!($($arg)*)) };
}
