//! The machine's console between the hypervisor and the hardware domain: input goes to the domain by VIRQ_CONSOLE,
//! other domains' words go to the log, a line at a time.

use alloc::collections::VecDeque;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use radon_addr::{CpuId, Ns};
use radon_hw::lock::{Rank, SpinLock, rank};
use radon_hw::{console, time};
use xen_abi::xen::VIRQ_CONSOLE;

use crate::domain::Domain;
use crate::events;

/// How often the UART's receiver is looked at (its interrupt line belongs to the hardware domain).
const POLL_NS: u64 = 10 * Ns::MS;
/// Unread input kept.
const INPUT_MAX: usize = 4096;

static INPUT: SpinLock<VecDeque<u8>> = SpinLock::new(Rank(rank::TIMER.0 + 1), VecDeque::new());
static NEXT_POLL: AtomicU64 = AtomicU64::new(0);
/// The pCPU that looked last.
static POLLER: AtomicU32 = AtomicU32::new(0);

/// When this idle pCPU should look at the receiver. The one that looked last goes on; the others need not wake up for it,
/// unless it has found other work.
pub fn next_poll(this: CpuId) -> Ns {
    let due = Ns::new(NEXT_POLL.load(Ordering::Relaxed));
    if POLLER.load(Ordering::Relaxed) == this.raw() { due } else { due.saturating_add(9 * POLL_NS) }
}

/// Takes what the UART has received, if it is time, and tells the hardware domain.
pub fn poll_input(this: CpuId) {
    let now = time::now();
    let due = NEXT_POLL.load(Ordering::Relaxed);
    if now.raw() < due
        || NEXT_POLL
            .compare_exchange(due, now.raw().saturating_add(POLL_NS), Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
    {
        return;
    }
    POLLER.store(this.raw(), Ordering::Relaxed);
    let mut got = false;
    while let Some(byte) = console::read() {
        let mut queue = INPUT.lock();
        if queue.len() < INPUT_MAX {
            queue.push_back(byte);
        }
        got = true;
    }
    if got {
        events::send_global_virq(VIRQ_CONSOLE);
    }
}

/// Next byte typed at the machine's console.
pub fn next_input() -> Option<u8> {
    INPUT.lock().pop_front()
}

/// A guest's words, without what would move the terminal's cursor or look like a line of somebody else's.
struct Printable<'a>(&'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&b| match b {
            b'\t' | b' '..=b'~' => f.write_char(char::from(b)),
            _ => f.write_char('.'),
        })
    }
}

/// Words of a domain that is not the hardware domain: to the log, if it may still write; each line under its name.
pub fn guest_output(domain: &Domain, bytes: &[u8]) {
    for line in bytes.split(|&b| b == b'\n').map(|l| l.trim_ascii_end()).filter(|l| !l.is_empty()) {
        if domain.log_limit.allow() {
            radon_hw::guest!("({}) {}", domain.id, Printable(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Printable;

    #[test]
    fn a_guest_cannot_draw_on_the_terminal() {
        let said = b"ok\tfine \x1b[2J\r(XEN) Panic on CPU 0:\x00\xff";
        assert_eq!(alloc::format!("{}", Printable(said)), "ok\tfine .[2J.(XEN) Panic on CPU 0:..");
    }
}
