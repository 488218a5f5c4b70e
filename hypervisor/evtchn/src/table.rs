//! The table of a domain's channels: storage, allocation of ports, per-vCPU state, queries.

use alloc::vec::Vec;

use radon_addr::{DomId, Maddr, PAGE_SIZE, Port, VcpuId};
use radon_hw::mem;
use xen_abi::Errno;
use xen_abi::event_channel::EVTCHN_FIFO_NR_CHANNELS;
use xen_abi::xen::{NR_VIRQS, virq_is_global};

use crate::channel::{Channel, Consumer, Notify, PRIORITY_DEFAULT, State, Status};
use crate::fifo::{self, Fifo};
use crate::shared::{Layout, SharedInfo, VCPU_INFO_SIZE, VcpuInfo};

/// Channels in one allocation.
const CHUNK: usize = 64;

/// Event-channel state of one vCPU.
#[derive(Clone, Debug)]
pub(crate) struct VcpuEvents {
    pub info: Option<VcpuInfo>,
    /// Port of each VIRQ, 0 = not bound. Global VIRQs are kept at vCPU 0.
    pub virqs: [Port; NR_VIRQS as usize],
    pub fifo: fifo::Queues,
}

/// All event channels of one domain. See the crate's documentation for the protocol.
pub struct EventChannels {
    pub(crate) dom: DomId,
    chunks: Vec<Vec<Channel>>,
    /// No port below this one is free.
    free_hint: u32,
    /// Highest port the domain may use (inclusive).
    max_port: u32,
    /// Ports in use, without port 0.
    active: u32,
    /// Of these, consumed by the hypervisor.
    xen_bound: u32,
    pub(crate) nr_pirqs: u32,
    dying: bool,
    /// Where an interrupted `EVTCHNOP_reset` goes on; 0 = none in progress.
    pub(crate) next_reset: u32,
    pub(crate) shared: Option<SharedInfo>,
    layout: Layout,
    pub(crate) vcpus: Vec<VcpuEvents>,
    pub(crate) fifo: Option<Fifo>,
}

impl EventChannels {
    /// Channels of domain `dom` with `max_vcpus` vCPUs and ports up to and including `max_port`
    /// (`max_evtchn_port` of `XEN_DOMCTL_createdomain`; negative values become `u32::MAX` there).
    /// Error: `ENOMEM`.
    pub fn new(dom: DomId, max_vcpus: u32, max_port: u32) -> Result<EventChannels, Errno> {
        let count = usize::try_from(max_vcpus).map_err(|_| Errno::EINVAL)?;
        let mut vcpus = Vec::new();
        vcpus.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        let vcpu = VcpuEvents {
            info: None,
            virqs: [Port::new(0); NR_VIRQS as usize],
            fifo: fifo::Queues::default(),
        };
        vcpus.resize(count, vcpu);
        let mut table = EventChannels {
            dom,
            chunks: Vec::new(),
            free_hint: 1,
            max_port,
            active: 0,
            xen_bound: 0,
            nr_pirqs: 0,
            dying: false,
            next_reset: 0,
            shared: None,
            layout: Layout::Native64,
            vcpus,
            fifo: None,
        };
        table.grow()?;
        if let Some(channel) = table.get_mut(Port::new(0)) {
            channel.state = State::Reserved;
        }
        Ok(table)
    }

    /// The owning domain.
    pub fn dom(&self) -> DomId {
        self.dom
    }

    /// Sets how many physical interrupts may be bound (default 0: none).
    pub fn set_nr_pirqs(&mut self, count: u32) {
        self.nr_pirqs = count;
    }

    /// From now on no port can be allocated (domain destruction).
    pub fn set_dying(&mut self) {
        self.dying = true;
    }

    /// Tells where the domain's `shared_info` page is.
    pub fn set_shared_info(&mut self, maddr: Maddr) {
        self.shared = Some(SharedInfo { maddr, layout: self.layout });
    }

    /// Selects the word size of `shared_info` and `vcpu_info`. As in Xen nothing is converted: bits already
    /// set stay where they are.
    pub fn set_layout(&mut self, layout: Layout) {
        self.layout = layout;
        if let Some(shared) = &mut self.shared {
            shared.layout = layout;
        }
    }

    /// The layout in use.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Tells where the `vcpu_info` of `vcpu` initially is (in `shared_info`); changes no memory. `maddr` must
    /// be aligned to the word size.
    pub fn set_vcpu_info(&mut self, vcpu: VcpuId, maddr: Maddr) -> Result<(), Errno> {
        self.vcpu_mut(vcpu)?.info = Some(VcpuInfo { maddr });
        Ok(())
    }

    /// Moves the `vcpu_info` of `vcpu` to `maddr` (`VCPUOP_register_vcpu_info`): copies the old contents
    /// (zeroes when there was none) and marks everything pending so that nothing is lost. `maddr` must be
    /// aligned to the word size and not cross a page. Error: `ENOENT`.
    pub fn move_vcpu_info(&mut self, vcpu: VcpuId, maddr: Maddr) -> Result<Notify, Errno> {
        let layout = self.layout;
        let state = self.vcpu_mut(vcpu)?;
        match state.info {
            Some(old) if old.maddr == maddr => {}
            Some(old) => mem::copy(maddr, old.maddr, VCPU_INFO_SIZE as usize),
            None => mem::write_bytes(maddr, &[0; VCPU_INFO_SIZE as usize]),
        }
        let info = VcpuInfo { maddr };
        state.info = Some(info);
        info.select_all(layout);
        let upcall = info.mark_upcall().then_some(vcpu);
        Ok(Notify { upcall, ..Notify::NONE })
    }

    /// Forgets the `vcpu_info` of `vcpu` (death, soft reset); returns where it was.
    pub fn drop_vcpu_info(&mut self, vcpu: VcpuId) -> Option<Maddr> {
        self.vcpu_mut(vcpu).ok()?.info.take().map(|info| info.maddr)
    }

    /// Address of the `vcpu_info` of `vcpu`.
    pub fn vcpu_info(&self, vcpu: VcpuId) -> Option<Maddr> {
        Some(self.vcpus.get(vcpu.index())?.info?.maddr)
    }

    /// Is an upcall due on `vcpu`? (`evtchn_upcall_pending`)
    pub fn upcall_pending(&self, vcpu: VcpuId) -> bool {
        self.vcpus.get(vcpu.index()).and_then(|v| v.info).is_some_and(VcpuInfo::upcall_pending)
    }

    /// `EVTCHNOP_status`. Errors: `EINVAL` bad port, `EACCES` a hypervisor-bound port.
    pub fn status(&self, port: Port) -> Result<Status, Errno> {
        let channel = self.get(port).ok_or(Errno::EINVAL)?;
        match channel.consumer {
            Some(_) => Err(Errno::EACCES),
            None => Ok(Status { state: channel.state, vcpu: channel.notify_vcpu }),
        }
    }

    /// Port of a VIRQ, `None` when it is not bound. Global VIRQs are looked up whatever `vcpu` is.
    pub fn virq_to_port(&self, vcpu: VcpuId, virq: u32) -> Option<Port> {
        let vcpu = if virq_is_global(virq) { VcpuId::new(0) } else { vcpu };
        let port = *self.vcpus.get(vcpu.index())?.virqs.get(virq as usize)?;
        (port.raw() != 0).then_some(port)
    }

    /// First port at or above `from` that is in use: how reset and destruction walk the table.
    pub fn next_open(&self, from: Port) -> Option<Port> {
        (from.raw().max(1)..self.valid_ports())
            .map(Port::new)
            .find(|&port| self.get(port).is_some_and(|c| c.state != State::Free))
    }

    /// Is any channel still in use that the guest (not the hypervisor) consumes?
    pub fn has_active(&self) -> bool {
        self.active > self.xen_bound
    }

    /// Ports for which there is storage.
    pub(crate) fn valid_ports(&self) -> u32 {
        u32::try_from(self.chunks.len().saturating_mul(CHUNK)).unwrap_or(u32::MAX)
    }

    pub(crate) fn get(&self, port: Port) -> Option<&Channel> {
        let index = port.raw() as usize;
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    pub(crate) fn get_mut(&mut self, port: Port) -> Option<&mut Channel> {
        let index = port.raw() as usize;
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    /// The channel, when it is bound and the guest consumes its events.
    pub(crate) fn usable(&self, port: Port) -> Option<&Channel> {
        self.get(port).filter(|c| c.usable())
    }

    pub(crate) fn vcpu_mut(&mut self, vcpu: VcpuId) -> Result<&mut VcpuEvents, Errno> {
        self.vcpus.get_mut(vcpu.index()).ok_or(Errno::ENOENT)
    }

    pub(crate) fn check_vcpu(&self, vcpu: VcpuId) -> Result<(), Errno> {
        if vcpu.index() < self.vcpus.len() { Ok(()) } else { Err(Errno::ENOENT) }
    }

    /// Ports the delivery ABI in use can name.
    fn abi_ports(&self) -> u32 {
        if self.fifo.is_some() { EVTCHN_FIFO_NR_CHANNELS } else { self.layout.ports_2l() }
    }

    fn grow(&mut self) -> Result<(), Errno> {
        let mut chunk = Vec::new();
        chunk.try_reserve_exact(CHUNK).map_err(|_| Errno::ENOMEM)?;
        chunk.resize(CHUNK, Channel::FREE);
        self.chunks.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.chunks.push(chunk);
        Ok(())
    }

    /// Lowest free port, with storage behind it; it stays free until [`Self::bind`].
    /// Errors: `EINVAL` dying domain, `ENOSPC` limit reached, `ENOMEM`.
    pub(crate) fn find_free(&mut self) -> Result<Port, Errno> {
        if self.dying {
            return Err(Errno::EINVAL);
        }
        let limit = self.max_port.saturating_add(1).min(self.abi_ports());
        let mut first_candidate = None;
        for number in self.free_hint..limit {
            let port = Port::new(number);
            if number >= self.valid_ports() {
                self.grow()?;
            }
            let free = self.get(port).is_some_and(|c| c.state == State::Free);
            if free {
                self.free_hint = *first_candidate.get_or_insert(number);
                // Still linked in a queue: reusing it now could deliver it on the old vCPU or priority.
                if !self.fifo_is_linked(port) {
                    return Ok(port);
                }
            }
        }
        Err(Errno::ENOSPC)
    }

    /// Takes a free port into use.
    pub(crate) fn bind(&mut self, port: Port, state: State, vcpu: VcpuId, consumer: Option<Consumer>) {
        if let Some(channel) = self.get_mut(port) {
            channel.state = state;
            channel.notify_vcpu = vcpu;
            channel.consumer = consumer;
            channel.priority = PRIORITY_DEFAULT;
            channel.hidden_pending = false;
            self.active = self.active.saturating_add(1);
            if consumer.is_some() {
                self.xen_bound = self.xen_bound.saturating_add(1);
            }
        }
    }

    /// Frees a port in use, clearing its pending state so that the next binding starts clean.
    pub(crate) fn free(&mut self, port: Port) {
        self.clear_pending(port);
        let Some(channel) = self.get_mut(port) else { return };
        let consumer = channel.consumer.take();
        channel.state = State::Free;
        channel.notify_vcpu = VcpuId::new(0);
        channel.hidden_pending = false;
        self.active = self.active.saturating_sub(1);
        if consumer.is_some() {
            self.xen_bound = self.xen_bound.saturating_sub(1);
        }
        self.free_hint = self.free_hint.min(port.raw()).max(1);
    }

    /// `offset` of a structure of `size` bytes lies within one page.
    pub(crate) fn within_page(offset: u32, size: usize) -> bool {
        (offset as usize).checked_add(size).is_some_and(|end| end <= PAGE_SIZE)
    }
}
