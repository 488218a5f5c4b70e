//! The page through which a child domain talks to the guest that made it: a verdict, and calls of services.

use crate::memory::{Page, atomic_u32};
use crate::verdict::{Outcome, Verdict};
use crate::{hypercall, time};
use alloc::string::String;
use core::sync::atomic::Ordering;

/// The mailbox's frame in the child.
pub const GFN: u64 = 0x1700;
const STATE: u64 = 0;
const OUTCOME: u64 = 4;
const TEXT_LEN: u64 = 8;
const CALL: u64 = 16;
const REPLY: u64 = 20;
const SERVICE: u64 = 24;
const ARGS: u64 = 32;
const RESULT: u64 = 80;
const TEXT: u64 = 512;
const TEXT_MAX: usize = 1024;
/// Free for what a test and its service agree on: up to the end of the page.
pub const DATA: u64 = 2048;
const DONE: u32 = 2;

/// A function of a child that its maker may call.
pub type Service = fn(&[u64; 6]) -> u64;

/// This domain's own mailbox, if it is a child.
pub fn own() -> Page {
    Page { gfn: GFN }
}

/// Child: leaves its verdict.
pub fn post(verdict: &Verdict) {
    let page = own();
    let (code, why) = match verdict {
        Ok(()) => (0, ""),
        Err(outcome @ Outcome::Failure(_)) => (1, outcome.parts().1),
        Err(outcome @ Outcome::Skip(_)) => (2, outcome.parts().1),
        Err(outcome @ Outcome::Error(_)) => (3, outcome.parts().1),
    };
    let why = &why.as_bytes()[..why.len().min(TEXT_MAX)];
    for (byte, at) in why.iter().zip(TEXT..) {
        page.set(at, *byte);
    }
    page.set(TEXT_LEN, why.len() as u32);
    page.set(OUTCOME, code as u32);
    atomic_u32(page.at(STATE)).store(DONE, Ordering::SeqCst);
}

/// Maker: the child's verdict, once it has left one.
pub fn verdict(page: Page) -> Option<Verdict> {
    if atomic_u32(page.at(STATE)).load(Ordering::SeqCst) != DONE {
        return None;
    }
    let len = u64::from(page.get::<u32>(TEXT_LEN)).min(TEXT_MAX as u64);
    let bytes: alloc::vec::Vec<u8> = (0..len).map(|at| page.get(TEXT + at)).collect();
    let why = String::from_utf8_lossy(&bytes).into_owned();
    Some(match page.get::<u32>(OUTCOME) {
        0 => Ok(()),
        1 => Err(Outcome::Failure(why)),
        2 => Err(Outcome::Skip(why)),
        _ => Err(Outcome::Error(why)),
    })
}

/// Child: answers calls for ever.
pub fn serve(services: &[(&str, Service)]) -> ! {
    let page = own();
    let (call, reply) = (atomic_u32(page.at(CALL)), atomic_u32(page.at(REPLY)));
    loop {
        let number = call.load(Ordering::SeqCst);
        if number == reply.load(Ordering::SeqCst) {
            hypercall::sleep_until(time::now() + 200_000);
            continue;
        }
        let args = core::array::from_fn(|i| page.get(ARGS + 8 * i as u64));
        let result = services.get(page.get::<u32>(SERVICE) as usize).map_or(u64::MAX, |(_, run)| run(&args));
        page.set(RESULT, result);
        reply.store(number, Ordering::SeqCst);
    }
}

/// Maker: starts a call without waiting for its end.
pub fn begin(page: Page, service: usize, args: [u64; 6]) {
    page.set(SERVICE, service as u32);
    for (arg, at) in args.iter().zip((ARGS..).step_by(8)) {
        page.set(at, *arg);
    }
    atomic_u32(page.at(CALL)).fetch_add(1, Ordering::SeqCst);
}

/// Maker: whether the last call has ended.
pub fn ended(page: Page) -> bool {
    atomic_u32(page.at(CALL)).load(Ordering::SeqCst) == atomic_u32(page.at(REPLY)).load(Ordering::SeqCst)
}

/// Maker: the result of the last call.
pub fn result(page: Page) -> u64 {
    page.get(RESULT)
}
