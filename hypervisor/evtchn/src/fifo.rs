//! The FIFO ABI (event_channel.h; the design is David Vrabel's "FIFO-based event channel ABI").
//!
//! Each port has a 32-bit word in the guest's event array: PENDING, MASKED, LINKED, BUSY and a LINK to the
//! next port. Each vCPU has a control block with a bitmap of ready queues and the head of each of 16 queues;
//! the tails are private to the hypervisor. The hypervisor only appends, the guest only removes.
//!
//! A guest may change its words at any time. Every update is one atomic operation or a compare-and-exchange
//! loop of bounded length, every link we follow is our own (tails), so a misbehaving guest only corrupts its
//! own queues.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use radon_addr::{Maddr, Mfn, PAGE_SIZE, Port, VcpuId};
use radon_hw::mem;
use xen_abi::Errno;
use xen_abi::event_channel::{
    EVTCHN_FIFO_BUSY, EVTCHN_FIFO_LINK_MASK, EVTCHN_FIFO_LINKED, EVTCHN_FIFO_MASKED, EVTCHN_FIFO_MAX_QUEUES,
    EVTCHN_FIFO_NR_CHANNELS, EVTCHN_FIFO_PENDING, EVTCHN_FIFO_PRIORITY_MIN, EvtchnFifoControlBlock,
};

use crate::channel::{Notify, PRIORITY_DEFAULT};
use crate::table::EventChannels;

const PENDING: u32 = 1 << EVTCHN_FIFO_PENDING;
const MASKED: u32 = 1 << EVTCHN_FIFO_MASKED;
const LINKED: u32 = 1 << EVTCHN_FIFO_LINKED;
const BUSY: u32 = 1 << EVTCHN_FIFO_BUSY;
const QUEUES: usize = EVTCHN_FIFO_MAX_QUEUES as usize;
const CONTROL_BLOCK_SIZE: usize = size_of::<EvtchnFifoControlBlock>();
/// Index of the first head in a control block seen as 32-bit words.
const HEADS: usize = 2;
const WORDS_PER_PAGE: u32 = (PAGE_SIZE / 4) as u32;
const MAX_PAGES: usize = (EVTCHN_FIFO_NR_CHANNELS / WORDS_PER_PAGE) as usize;
/// A well-behaved guest changes a linked, busy word at most 4 times while it is linked (mask, unmask, clear
/// pending, unlink).
const LINK_RETRIES: u32 = 4;

/// The domain's event array.
#[derive(Debug, Default)]
pub(crate) struct Fifo {
    pages: Vec<Mfn>,
}

/// One vCPU's control block and private tails.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queues {
    control: Option<Maddr>,
    /// Last port appended to each queue, 0 = known to be empty.
    tails: [u32; QUEUES],
}

impl Fifo {
    fn word(&self, port: Port) -> Option<&'static AtomicU32> {
        let page = self.pages.get((port.raw() / WORDS_PER_PAGE) as usize)?;
        let offset = u64::from(port.raw() % WORDS_PER_PAGE) * 4;
        Some(mem::atomic_u32(page.maddr().checked_add(offset)?))
    }
    fn test(&self, port: Port, bit: u32) -> Option<bool> {
        Some(self.word(port)?.load(SeqCst) & bit != 0)
    }
    pub fn is_pending(&self, port: Port) -> bool {
        self.test(port, PENDING).unwrap_or(false)
    }
    pub fn is_masked(&self, port: Port) -> bool {
        self.test(port, MASKED).unwrap_or(true)
    }
    fn is_linked(&self, port: Port) -> bool {
        self.test(port, LINKED).unwrap_or(false)
    }
    /// Clears PENDING only: the guest unlinks, and ignores events that are not pending.
    pub fn clear_pending(&self, port: Port) {
        if let Some(word) = self.word(port) {
            word.fetch_and(!PENDING, SeqCst);
        }
    }
}

/// The word at index `n` of the control block: 0 ready, [`HEADS`].. heads.
fn control_word(control: Maddr, n: usize) -> &'static AtomicU32 {
    mem::atomic_u32(Maddr::new(control.raw().wrapping_add(n as u64 * 4)))
}

/// Makes `tail`'s word point to `next` while it is still LINKED; `false` when the guest has unlinked it, that
/// is, the queue is empty.
fn set_link(tail: &AtomicU32, next: u32) -> bool {
    let attempt = |old: u32| {
        tail.compare_exchange(old, (old & !(BUSY | EVTCHN_FIFO_LINK_MASK)) | next, SeqCst, SeqCst).map(|_| ())
    };
    let old = tail.load(SeqCst);
    if old & LINKED == 0 {
        return false;
    }
    let Err(_) = attempt(old) else { return true };
    // BUSY keeps a well-behaved guest from unmasking, so that only a bounded number of changes is left to it.
    let mut old = tail.fetch_or(BUSY, SeqCst) | BUSY;
    for _ in 0..LINK_RETRIES {
        if old & LINKED == 0 {
            tail.fetch_and(!BUSY, SeqCst);
            return false;
        }
        match attempt(old) {
            Ok(()) => return true,
            Err(seen) => old = seen,
        }
    }
    // The guest breaks the protocol: give up, it loses the event.
    tail.fetch_and(!BUSY, SeqCst);
    true
}

impl EventChannels {
    /// Checks the arguments of `EVTCHNOP_init_control` before the core translates the frame. Errors: `ENOENT`
    /// no such vCPU; `EINVAL` block crosses the page, is not 8-byte aligned, or the vCPU already has one.
    pub fn check_init_control(&self, vcpu: VcpuId, offset: u32) -> Result<(), Errno> {
        let state = self.vcpus.get(vcpu.index()).ok_or(Errno::ENOENT)?;
        let fits = Self::within_page(offset, CONTROL_BLOCK_SIZE) && offset.is_multiple_of(8);
        if fits && state.fifo.control.is_none() { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// `EVTCHNOP_init_control`: the control block of `vcpu` is at `offset` in `frame` (one reference is kept
    /// on success). The first call switches the domain from 2-level to FIFO: events that are pending then are
    /// kept and raised when their array page arrives. Errors as [`Self::check_init_control`].
    pub fn init_control(&mut self, vcpu: VcpuId, frame: Mfn, offset: u32) -> Result<(), Errno> {
        self.check_init_control(vcpu, offset)?;
        let control = frame.maddr().checked_add(u64::from(offset)).ok_or(Errno::EINVAL)?;
        if self.fifo.is_none() {
            for port in (1..self.valid_ports()).map(Port::new) {
                let pending = self.shared.is_some_and(|s| s.is_pending(port));
                if let Some(channel) = self.get_mut(port) {
                    channel.hidden_pending |= pending && channel.usable();
                    channel.priority = PRIORITY_DEFAULT;
                }
            }
            self.fifo = Some(Fifo::default());
        }
        self.vcpu_mut(vcpu)?.fifo.control = Some(control);
        Ok(())
    }

    /// Checks for `EVTCHNOP_expand_array` before the core translates the frame. Errors: `EOPNOTSUPP` not in
    /// FIFO mode, `ENOSPC` array complete.
    pub fn check_expand_array(&self) -> Result<(), Errno> {
        let fifo = self.fifo.as_ref().ok_or(Errno::EOPNOTSUPP)?;
        if fifo.pages.len() < MAX_PAGES { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    /// `EVTCHNOP_expand_array`: appends `frame` to the event array (one reference is kept on success) and
    /// raises the events that waited for it, each reported through `notify`. Errors as
    /// [`Self::check_expand_array`], `ENOMEM`.
    pub fn expand_array(&mut self, frame: Mfn, mut notify: impl FnMut(Notify)) -> Result<(), Errno> {
        self.check_expand_array()?;
        let valid = self.valid_ports();
        let fifo = self.fifo.as_mut().ok_or(Errno::EOPNOTSUPP)?;
        let first = u32::try_from(fifo.pages.len()).map_or(u32::MAX, |n| n.saturating_mul(WORDS_PER_PAGE));
        fifo.pages.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        fifo.pages.push(frame);
        for port in (first..first.saturating_add(WORDS_PER_PAGE).min(valid)).map(Port::new) {
            let waiting = self.get_mut(port).is_some_and(|c| core::mem::take(&mut c.hidden_pending));
            if waiting {
                notify(self.set_pending(port));
            }
        }
        Ok(())
    }

    /// `EVTCHNOP_set_priority`: for future events; one that is already queued stays where it is. Errors:
    /// `EINVAL` bad port or priority, `ENOSYS` not in FIFO mode, `EACCES` closed port.
    pub fn set_priority(&mut self, port: Port, priority: u32) -> Result<(), Errno> {
        let fifo = self.fifo.is_some();
        let channel = self.get_mut(port).ok_or(Errno::EINVAL)?;
        if !fifo {
            return Err(Errno::ENOSYS);
        }
        if !channel.usable() {
            return Err(Errno::EACCES);
        }
        if priority > EVTCHN_FIFO_PRIORITY_MIN {
            return Err(Errno::EINVAL);
        }
        channel.priority = priority as u8;
        Ok(())
    }

    /// Is the FIFO ABI in use?
    pub fn is_fifo(&self) -> bool {
        self.fifo.is_some()
    }

    /// Leaves the FIFO ABI (reset, destruction); the frames whose references the core has to drop.
    pub fn take_fifo_frames(&mut self) -> Vec<Mfn> {
        let mut frames = self.fifo.take().map(|f| f.pages).unwrap_or_default();
        for vcpu in &mut self.vcpus {
            let queues = core::mem::take(&mut vcpu.fifo);
            frames.extend(queues.control.map(Maddr::mfn));
        }
        frames
    }

    /// A free port whose event is still in a queue cannot be reused yet.
    pub(crate) fn fifo_is_linked(&self, port: Port) -> bool {
        self.fifo.as_ref().is_some_and(|f| f.is_linked(port))
    }

    pub(crate) fn fifo_set_pending(&mut self, port: Port, vcpu: VcpuId) -> Notify {
        let Some(word) = self.fifo.as_ref().and_then(|f| f.word(port)) else {
            if let Some(channel) = self.get_mut(port) {
                channel.hidden_pending = true;
            }
            return Notify::NONE;
        };
        // Without a control block the guest must not have unmasked anything on this vCPU: drop, as Xen does.
        let Some(control) = self.vcpus.get(vcpu.index()).and_then(|v| v.fifo.control) else {
            return Notify::NONE;
        };

        let pollers = (word.fetch_or(PENDING, SeqCst) & PENDING == 0).then_some(port);
        let mut upcall = None;
        if word.load(SeqCst) & MASKED == 0 && word.fetch_or(LINKED, SeqCst) & LINKED == 0 {
            let priority = self.get(port).map_or(PRIORITY_DEFAULT, |c| c.priority);
            if self.append(port, vcpu, control, priority)
                && control_word(control, 0).fetch_or(1 << priority, SeqCst) & (1 << priority) == 0
            {
                upcall = self.mark_upcall(vcpu);
            }
        }
        Notify { upcall, pollers, consumer: None }
    }

    pub(crate) fn fifo_unmask(&mut self, port: Port, vcpu: VcpuId) -> Notify {
        let Some(word) = self.fifo.as_ref().and_then(|f| f.word(port)) else { return Notify::NONE };
        if word.fetch_and(!MASKED, SeqCst) & PENDING == 0 {
            return Notify::NONE;
        }
        self.fifo_set_pending(port, vcpu)
    }

    /// Appends `port` (just marked LINKED) to a queue; `true` when the queue was empty and so got a new head.
    fn append(&mut self, port: Port, vcpu: VcpuId, control: Maddr, priority: u8) -> bool {
        let Some(channel) = self.get_mut(port) else { return false };
        let old = (channel.last_vcpu, usize::from(channel.last_priority));
        (channel.last_vcpu, channel.last_priority) = (vcpu, priority);
        let queue = usize::from(priority);
        // The port was unlinked: if it is some queue's tail, that queue is empty, and its word, linked again
        // by us, must not be taken for its tail.
        if let Some(tail) = self.vcpus.get_mut(old.0.index()).and_then(|v| v.fifo.tails.get_mut(old.1))
            && *tail == port.raw()
        {
            *tail = 0;
        }
        let Some(tail) = self.vcpus.get(vcpu.index()).and_then(|v| v.fifo.tails.get(queue)).copied() else {
            return false;
        };
        let tail_word = (tail != 0).then(|| self.fifo.as_ref()?.word(Port::new(tail))).flatten();
        let linked = tail_word.is_some_and(|word| set_link(word, port.raw()));
        if !linked {
            control_word(control, queue.wrapping_add(HEADS)).store(port.raw(), SeqCst);
        }
        if let Some(tail) = self.vcpus.get_mut(vcpu.index()).and_then(|v| v.fifo.tails.get_mut(queue)) {
            *tail = port.raw();
        }
        !linked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linking_keeps_the_other_bits_and_drops_busy() {
        let word = AtomicU32::new(PENDING | MASKED | LINKED | BUSY | 5);
        assert!(set_link(&word, 9));
        assert_eq!(word.load(SeqCst), PENDING | MASKED | LINKED | 9);
        let empty = AtomicU32::new(PENDING | 5);
        assert!(!set_link(&empty, 9));
        assert_eq!(empty.load(SeqCst), PENDING | 5);
    }
}
