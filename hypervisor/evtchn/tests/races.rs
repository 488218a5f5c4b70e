//! The 2-level ABI while a guest on other CPUs masks, unmasks and takes its upcalls as Linux does: the last event of each
//! port is handled. Threads stand for CPUs; Miri runs this too.
mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use common::*;
use radon_evtchn::Layout;

const PORTS: u32 = 5;
const ROUNDS: u32 = if cfg!(miri) { 8 } else { 4_000 };

/// What the guest's CPU shares with the others.
struct Guest {
    dom: Mutex<Dom>,
    shared: radon_addr::Maddr,
    info: radon_addr::Maddr,
    /// The interrupt line of its vCPU.
    woken: AtomicBool,
    done: AtomicBool,
    handled: Vec<AtomicU32>,
}

impl Guest {
    fn pending(&self, port: u32, on: bool) {
        set_bit(self.shared, 2048, port, on);
    }
    fn is_pending(&self, port: u32) -> bool {
        bit(self.shared, 2048, port)
    }
    fn is_masked(&self, port: u32) -> bool {
        bit(self.shared, 2048 + 512, port)
    }
    fn mask(&self, port: u32) {
        set_bit(self.shared, 2048 + 512, port, true);
    }
    /// `EVTCHNOP_unmask`.
    fn unmask(&self, port: u32) {
        if self.dom.lock().unwrap().ec.unmask(p(port)).unwrap().upcall.is_some() {
            self.woken.store(true, SeqCst);
        }
    }

    /// The upcall handler: flag, selector, pending bits.
    fn upcall(&self, ports: &[u32]) {
        while radon_hw::mem::atomic_u8(self.info).swap(0, SeqCst) != 0 {
            let selected = word(self.info, 8).swap(0, SeqCst);
            if selected & 1 == 0 {
                continue;
            }
            for (&port, handled) in ports.iter().zip(&self.handled) {
                if self.is_pending(port) && !self.is_masked(port) {
                    self.mask(port);
                    self.pending(port, false);
                    handled.fetch_add(1, SeqCst);
                    self.unmask(port);
                }
            }
        }
    }
}

#[test]
fn the_last_event_is_handled_whatever_the_masks_do() {
    let mut dom = Dom::new(1, Layout::Native64, 100);
    let ports: Vec<u32> = (0..PORTS).map(|_| dom.ec.alloc_unbound(d(2)).unwrap().raw()).collect();
    let guest = Guest {
        shared: dom.shared,
        info: dom.info(0),
        dom: Mutex::new(dom),
        woken: AtomicBool::new(false),
        done: AtomicBool::new(false),
        handled: ports.iter().map(|_| AtomicU32::new(0)).collect(),
    };
    let sent: Vec<AtomicU32> = ports.iter().map(|_| AtomicU32::new(0)).collect();
    std::thread::scope(|s| {
        // The vCPU that handles events.
        s.spawn(|| {
            loop {
                let last = guest.done.load(SeqCst);
                if guest.woken.swap(false, SeqCst) {
                    guest.upcall(&ports);
                } else if last {
                    return;
                } else {
                    std::thread::yield_now();
                }
            }
        });
        // Another vCPU of the guest masks and unmasks.
        let other = s.spawn(|| {
            for round in 0..ROUNDS {
                let port = ports[round as usize % ports.len()];
                guest.mask(port);
                guest.unmask(port);
            }
        });
        // The sender.
        for round in 0..ROUNDS {
            let i = (round.wrapping_mul(2_654_435_761) >> 20) as usize % ports.len();
            sent[i].store(guest.handled[i].load(SeqCst) + 1, SeqCst);
            if guest.dom.lock().unwrap().ec.set_pending(p(ports[i])).upcall.is_some() {
                guest.woken.store(true, SeqCst);
            }
        }
        other.join().unwrap();
        guest.done.store(true, SeqCst);
    });
    for (i, port) in ports.iter().enumerate() {
        assert!(!guest.is_pending(*port) && !guest.is_masked(*port), "port {port}: an event was lost");
        assert!(
            guest.handled[i].load(SeqCst) >= sent[i].load(SeqCst).min(1),
            "port {port} was never handled"
        );
    }
}
