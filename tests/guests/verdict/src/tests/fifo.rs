//! Event channels, FIFO ABI: each test in a child, for the change of ABI cannot be undone.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use harness::hypercall::event_op;
use harness::memory::atomic_u32;
use harness::{Page, Verdict, ensure, ensure_eq, event, tests, time};
use xen_abi::Errno;
use xen_abi::event_channel::*;
use xen_abi::xen::DOMID_SELF;
use zerocopy::FromZeros;

tests! {
    child: fifo_event_is_linked, fifo_masked_is_not_linked, fifo_unmask_links, fifo_priorities_in_order,
        fifo_queue_in_order_of_sending, fifo_merges, fifo_control_block_errors, fifo_expand_before_init,
        fifo_expand_errors, fifo_priority_errors, fifo_event_before_array, fifo_upcall, fifo_reset_back_to_2_level,
        fifo_close_clears_pending, fifo_link_bits;
}

const PENDING: u32 = 1 << EVTCHN_FIFO_PENDING;
const MASKED: u32 = 1 << EVTCHN_FIFO_MASKED;
const LINKED: u32 = 1 << EVTCHN_FIFO_LINKED;

/// The domain's FIFO structures.
#[derive(Clone, Copy)]
struct Fifo {
    control: Page,
    array: Page,
}

fn init_control(control_gfn: u64, offset: u32, vcpu: u32) -> Result<EvtchnInitControl, Errno> {
    let mut op = EvtchnInitControl { control_gfn, offset, vcpu, ..EvtchnInitControl::new_zeroed() };
    event_op(EVTCHNOP_INIT_CONTROL, &mut op).map(|_| op)
}

fn expand(array_gfn: u64) -> Result<u64, Errno> {
    event_op(EVTCHNOP_EXPAND_ARRAY, &mut EvtchnExpandArray { array_gfn })
}

fn set_priority(port: u32, priority: u32) -> Result<u64, Errno> {
    event_op(EVTCHNOP_SET_PRIORITY, &mut EvtchnSetPriority { port, priority })
}

/// Switches to the FIFO ABI; events start out unmasked.
fn fifo() -> Result<Fifo, Errno> {
    let (control, array) = (Page::new(), Page::new());
    init_control(control.gfn, 0, 0)?;
    expand(array.gfn)?;
    Ok(Fifo { control, array })
}

impl Fifo {
    fn word(self, port: u32) -> &'static core::sync::atomic::AtomicU32 {
        atomic_u32(self.array.at(4 * u64::from(port)))
    }

    /// A connected pair of ports with nothing pending.
    fn pair(self) -> Result<(u32, u32), Errno> {
        let first = event::alloc_unbound(DOMID_SELF)?;
        let second = event::bind_interdomain(DOMID_SELF, first)?;
        self.take();
        Ok((first, second))
    }

    /// Consumes all queues as a guest does: the ports in order.
    fn take(self) -> Vec<u32> {
        let mut ports = Vec::new();
        let mut ready = atomic_u32(self.control.at(0)).swap(0, Ordering::SeqCst);
        while ready != 0 {
            let queue = ready.trailing_zeros();
            let mut head: u32 = self.control.get(8 + 4 * u64::from(queue));
            while head != 0 {
                let word = self.word(head);
                let before = word.fetch_and(!(LINKED | EVTCHN_FIFO_LINK_MASK), Ordering::SeqCst);
                if before & PENDING != 0 && before & MASKED == 0 {
                    word.fetch_and(!PENDING, Ordering::SeqCst);
                    ports.push(head);
                }
                head = before & EVTCHN_FIFO_LINK_MASK;
            }
            self.control.set(8 + 4 * u64::from(queue), 0_u32);
            ready &= !(1 << queue);
            ready |= atomic_u32(self.control.at(0)).swap(0, Ordering::SeqCst);
        }
        ports
    }
}

/// A sent event is pending, linked on the default queue, and its queue ready.
fn fifo_event_is_linked() -> Verdict {
    let fifo = fifo()?;
    let (first, second) = fifo.pair()?;
    event::send(second)?;
    ensure_eq!(fifo.word(first).load(Ordering::SeqCst) & (PENDING | LINKED), PENDING | LINKED, "event word");
    ensure_eq!(fifo.control.get::<u32>(0), 1 << EVTCHN_FIFO_PRIORITY_DEFAULT, "ready queues");
    ensure_eq!(fifo.control.get::<u32>(8 + 4 * 7), first, "head of the default queue");
    ensure_eq!(fifo.take(), [first], "events");
    Ok(())
}

/// A masked event becomes pending and is on no queue.
fn fifo_masked_is_not_linked() -> Verdict {
    let fifo = fifo()?;
    let (first, second) = fifo.pair()?;
    fifo.word(first).fetch_or(MASKED, Ordering::SeqCst);
    event::send(second)?;
    ensure_eq!(
        fifo.word(first).load(Ordering::SeqCst) & (PENDING | LINKED | MASKED),
        PENDING | MASKED,
        "event word"
    );
    ensure_eq!(fifo.take(), [], "events");
    Ok(())
}

/// The unmask operation puts a pending event on its queue.
fn fifo_unmask_links() -> Verdict {
    let fifo = fifo()?;
    let (first, second) = fifo.pair()?;
    fifo.word(first).fetch_or(MASKED, Ordering::SeqCst);
    event::send(second)?;
    ensure_eq!(event::unmask(first), Ok(0), "unmask");
    ensure_eq!(fifo.take(), [first], "events");
    Ok(())
}

/// Queues of higher priority come first, whatever was sent first.
fn fifo_priorities_in_order() -> Verdict {
    let fifo = fifo()?;
    let pairs = [fifo.pair()?, fifo.pair()?, fifo.pair()?];
    for (pair, priority) in pairs.iter().zip([15, 7, 0]) {
        set_priority(pair.0, priority)?;
    }
    for pair in &pairs {
        event::send(pair.1)?;
    }
    ensure_eq!(fifo.take(), [pairs[2].0, pairs[1].0, pairs[0].0], "events");
    Ok(())
}

/// Events of one queue come in the order they were sent in.
fn fifo_queue_in_order_of_sending() -> Verdict {
    let fifo = fifo()?;
    let pairs = [fifo.pair()?, fifo.pair()?, fifo.pair()?, fifo.pair()?];
    let order = [2, 0, 3, 1];
    for n in order {
        event::send(pairs[n].1)?;
    }
    ensure_eq!(fifo.take(), order.map(|n| pairs[n].0), "events");
    for n in order.iter().rev() {
        event::send(pairs[*n].1)?;
    }
    ensure_eq!(fifo.take().len(), 4, "events of the second round");
    Ok(())
}

/// An event sent twice is on its queue once.
fn fifo_merges() -> Verdict {
    let fifo = fifo()?;
    let (first, second) = fifo.pair()?;
    event::send(second)?;
    event::send(second)?;
    ensure_eq!(fifo.take(), [first], "events");
    Ok(())
}

/// Control blocks must be aligned, inside a page, on memory, for a vCPU that exists, and given once.
fn fifo_control_block_errors() -> Verdict {
    let page = Page::new();
    ensure_eq!(init_control(page.gfn, 4, 0).map(|_| ()), Err(Errno::EINVAL), "offset 4");
    ensure_eq!(init_control(page.gfn, 4096 - 64, 0).map(|_| ()), Err(Errno::EINVAL), "offset 4032");
    ensure_eq!(init_control(page.gfn, 0, 9).map(|_| ()), Err(Errno::ENOENT), "vCPU 9");
    ensure_eq!(init_control(0xf_ffff_ffff, 0, 0).map(|_| ()), Err(Errno::EINVAL), "frame without memory");
    ensure_eq!(init_control(page.gfn, 8, 0).map(|_| ()), Ok(()), "good control block");
    ensure_eq!(init_control(page.gfn, 512, 0).map(|_| ()), Err(Errno::EINVAL), "second control block");
    Ok(())
}

/// Without control block there is no array: -EOPNOTSUPP.
fn fifo_expand_before_init() -> Verdict {
    ensure_eq!(expand(Page::new().gfn), Err(Errno::EOPNOTSUPP), "expand_array under the 2-level ABI");
    Ok(())
}

/// Array pages must be memory.
fn fifo_expand_errors() -> Verdict {
    init_control(Page::new().gfn, 0, 0)?;
    ensure_eq!(expand(0xf_ffff_ffff), Err(Errno::EINVAL), "frame without memory");
    ensure_eq!(expand(Page::new().gfn), Ok(0), "first page");
    ensure_eq!(expand(Page::new().gfn), Ok(0), "second page");
    Ok(())
}

/// Priorities are 0 to 15, ports must exist.
fn fifo_priority_errors() -> Verdict {
    let fifo = fifo()?;
    let (first, _) = fifo.pair()?;
    ensure_eq!(set_priority(first, 15), Ok(0), "priority 15");
    ensure_eq!(set_priority(first, 16), Err(Errno::EINVAL), "priority 16");
    ensure_eq!(set_priority(1 << 18, 0), Err(Errno::EINVAL), "port 2^18");
    Ok(())
}

/// An event sent before its array page is there comes when the page does.
fn fifo_event_before_array() -> Verdict {
    let (control, array) = (Page::new(), Page::new());
    init_control(control.gfn, 0, 0)?;
    let first = event::alloc_unbound(DOMID_SELF)?;
    let second = event::bind_interdomain(DOMID_SELF, first)?;
    event::send(second)?;
    expand(array.gfn)?;
    let fifo = Fifo { control, array };
    let events = fifo.take();
    ensure!(events.contains(&first), "events {events:?} lack port {first}");
    Ok(())
}

/// An upcall is made for a FIFO event too.
fn fifo_upcall() -> Verdict {
    let fifo = fifo()?;
    let (_, second) = fifo.pair()?;
    time::spin(5, || false);
    let before = harness::trap::count(event::UPCALL);
    event::send(second)?;
    ensure!(time::spin(200, || harness::trap::count(event::UPCALL) > before), "no upcall");
    Ok(())
}

/// After `reset` the domain is back at the 2-level ABI.
fn fifo_reset_back_to_2_level() -> Verdict {
    fifo()?;
    ensure_eq!(event_op(EVTCHNOP_RESET, &mut EvtchnReset { dom: DOMID_SELF }), Ok(0), "reset");
    let (first, second) = event::loopback()?;
    event::send(second)?;
    ensure!(event::is_pending(first) || event::handled(first) > 0, "no 2-level event after the reset");
    ensure!(fifo().is_ok(), "no way back to FIFO");
    Ok(())
}

/// A port that is closed while its event is pending is not pending when it is opened again.
fn fifo_close_clears_pending() -> Verdict {
    let fifo = fifo()?;
    let (first, second) = fifo.pair()?;
    fifo.word(first).fetch_or(MASKED, Ordering::SeqCst);
    event::send(second)?;
    event::close(first)?;
    ensure_eq!(fifo.word(first).load(Ordering::SeqCst) & PENDING, 0, "pending bit of the closed port");
    Ok(())
}

/// `init_control` tells that links have 17 bits.
fn fifo_link_bits() -> Verdict {
    ensure_eq!(u32::from(init_control(Page::new().gfn, 0, 0)?.link_bits), EVTCHN_FIFO_LINK_BITS, "link bits");
    Ok(())
}
