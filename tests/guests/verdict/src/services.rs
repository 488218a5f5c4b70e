//! What a serving child does for the test that made it.

use harness::mailbox::Service;
use harness::memory::{self, Page};
use harness::{event, grant, hypercall};
use xen_abi::grant_table::GTF_PERMIT_ACCESS;

macro_rules! services {
    ($($(#[$doc:meta])+ $name:ident = $run:expr;)*) => {
        #[allow(non_camel_case_types, reason = "turned into constants below")]
        enum Index { $($name),* }
        $($(#[$doc])+ #[allow(non_upper_case_globals, reason = "reads as a call")] pub const $name: usize = Index::$name as usize;)*
        /// All services, in order.
        pub const SERVICES: &[(&str, Service)] = &[$((stringify!($name), $run)),*];
    };
}

services! {
    /// Returns the sum of its first two arguments.
    add = |a| a[0].wrapping_add(a[1]);
    /// A hypercall: number and arguments.
    call = |a| hypercall::raw(a[0], [a[1], a[2], a[3], a[4], a[5]]) as u64;
    /// A zeroed page of RAM; returns its frame.
    page = |_| Page::new().gfn;
    /// Reads a 64-bit word at an address.
    peek = |a| memory::read(a[0]);
    /// Writes a 64-bit word.
    poke = |a| { memory::write(a[0], a[1]); 0 };
    /// Maps a frame of the grant table, `a[0]`; returns where, or the maximum.
    grant_table = |a| grant::map_table(a[0], false).map_or(u64::MAX, |p| p.gfn);
    /// Grants: table frame, reference, domain, frame, further flags (version 1).
    grant = |a| {
        grant::grant_v1(Page { gfn: a[0] }, a[1] as u32, a[2] as u16, a[3], GTF_PERMIT_ACCESS | a[4] as u16);
        0
    };
    /// Grants by version 2: table frame, reference, domain, frame, further flags, offset and length (16 bits each).
    grant_v2 = |a| {
        let part = (a[5] != 0).then_some((a[5] as u16, (a[5] >> 16) as u16));
        grant::grant_v2(Page { gfn: a[0] }, a[1] as u32, a[2] as u16, a[3], GTF_PERMIT_ACCESS | a[4] as u16, part);
        0
    };
    /// Sets the grant table's version; returns 1 when done.
    grant_version = |a| u64::from(grant::set_version(a[0] as u32) == Ok(a[0] as u32));
    /// Allocates a port for domain `a[0]`; returns it, or 0.
    alloc_unbound = |a| event::alloc_unbound(a[0] as u16).map_or(0, u64::from);
    /// Binds to domain `a[0]`'s port `a[1]`; returns the local port, or 0.
    bind_interdomain = |a| event::bind_interdomain(a[0] as u16, a[1] as u32).map_or(0, u64::from);
    /// Sends to a port; returns 1 when done.
    send = |a| u64::from(event::send(a[0] as u32).is_ok());
    /// How often the events of a port were handled here.
    handled = |a| { harness::cpu::sti(); harness::cpu::cli(); u64::from(event::handled(a[0] as u32)) };
    /// Shuts down with a reason.
    shutdown = |a| { hypercall::shutdown(a[0] as u32); 0 };
    /// Whether SSE registers survive a sleep, 1 for yes.
    sse = |_| u64::from(harness::cpu::sse_survives(|| harness::time::sleep_ms(10)));
    /// Counts NMIs.
    nmis = |_| u64::from(harness::trap::count(harness::trap::vector::NMI));
    /// Waits for `a[0]` ms without making a hypercall.
    spin = |a| { harness::time::spin_ms(a[0]); 0 };
    /// Answers each event of port `a[0]` by sending to it, `a[1]` times.
    echo = |a| {
        for n in 1..=a[1] {
            if !harness::time::wait(5000, || u64::from(event::handled(a[0] as u32)) >= n) {
                return n;
            }
            event::send_quietly(a[0] as u32);
        }
        0
    };
    /// Like `echo`, asleep by HLT between events.
    echo_halting = |a| {
        for n in 1..=a[1] {
            while u64::from(event::handled(a[0] as u32)) < n {
                harness::cpu::sti_halt();
            }
            event::send_quietly(a[0] as u32);
        }
        0
    };
}
