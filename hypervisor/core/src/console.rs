//! The machine's console between the hypervisor and the hardware domain: input goes to the domain by VIRQ_CONSOLE,
//! other domains' words go to the log, a line at a time.

use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicU64, Ordering};

use radon_addr::Ns;
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

/// When the receiver is due for a look.
pub fn next_poll() -> Ns {
    Ns::new(NEXT_POLL.load(Ordering::Relaxed))
}

/// Takes what the UART has received, if it is time, and tells the hardware domain.
pub fn poll_input() {
    let now = time::now();
    let due = NEXT_POLL.load(Ordering::Relaxed);
    if now.raw() < due
        || NEXT_POLL
            .compare_exchange(due, now.raw().saturating_add(POLL_NS), Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
    {
        return;
    }
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

/// Words of a domain that is not the hardware domain: to the log, if it may still write.
pub fn guest_output(domain: &Domain, bytes: &[u8]) {
    if let Ok(text) = core::str::from_utf8(bytes)
        && domain.log_limit.allow()
    {
        radon_hw::guest!("({}) {}", domain.id, text.trim_end_matches('\n'));
    }
}
