//! Raising, masking and sending events: the hot path. The FIFO half is in `fifo`.

use radon_addr::{DomId, Port, VcpuId};
use xen_abi::Errno;

use crate::channel::{Notify, Sent, State};
use crate::shared::VcpuInfo;
use crate::table::EventChannels;

impl EventChannels {
    /// `EVTCHNOP_send`. Error: `EINVAL` for a bad port or one from which a guest cannot send.
    pub fn send(&mut self, port: Port) -> Result<Sent, Errno> {
        let channel = self.get(port).filter(|c| c.consumer.is_none()).ok_or(Errno::EINVAL)?;
        match channel.state {
            State::Interdomain { remote, port: peer } if remote == self.dom => {
                Ok(Sent::Local(self.receive(remote, port, peer)))
            }
            State::Interdomain { remote, port } => Ok(Sent::Remote { dom: remote, port }),
            State::Ipi => Ok(Sent::Local(self.set_pending(port))),
            State::Unbound { .. } => Ok(Sent::Local(Notify::NONE)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Sends from a channel whose local consumer is the hypervisor. Error: `EINVAL` for any other channel.
    pub fn send_xen(&mut self, port: Port) -> Result<Sent, Errno> {
        let channel = self.get(port).filter(|c| c.consumer.is_some()).ok_or(Errno::EINVAL)?;
        match channel.state {
            State::Interdomain { remote, port: peer } if remote == self.dom => {
                Ok(Sent::Local(self.receive(remote, port, peer)))
            }
            State::Interdomain { remote, port } => Ok(Sent::Remote { dom: remote, port }),
            _ => Ok(Sent::Local(Notify::NONE)),
        }
    }

    /// An event from `from_port` of domain `from` arrives at `port`. It is dropped when the two are no longer
    /// connected: the sender's lock is not held any more.
    pub fn receive(&mut self, from: DomId, from_port: Port, port: Port) -> Notify {
        match self.get(port) {
            Some(c) if c.state == (State::Interdomain { remote: from, port: from_port }) => {
                match c.consumer {
                    Some(consumer) => {
                        Notify { consumer: Some((consumer, c.notify_vcpu, port)), ..Notify::NONE }
                    }
                    None => self.set_pending(port),
                }
            }
            _ => Notify::NONE,
        }
    }

    /// Raises a VIRQ: a global one wherever it is bound, the others on `vcpu`. Not bound: nothing happens.
    pub fn send_virq(&mut self, virq: u32, vcpu: VcpuId) -> Notify {
        match self.virq_to_port(vcpu, virq) {
            Some(port) => self.set_pending(port),
            None => Notify::NONE,
        }
    }

    /// Raises `port` on the vCPU it is bound to. Ports that are not the guest's are ignored.
    pub fn set_pending(&mut self, port: Port) -> Notify {
        let Some(channel) = self.usable(port) else { return Notify::NONE };
        let vcpu = channel.notify_vcpu;
        if self.fifo.is_some() {
            return self.fifo_set_pending(port, vcpu);
        }
        let Some(shared) = self.shared else { return Notify::NONE };
        // The order is the ABI's: pending, then mask, then selector, then upcall.
        if !shared.raise(port) {
            return Notify::NONE;
        }
        let upcall = if shared.is_masked(port) { None } else { self.select_2l(port, vcpu) };
        Notify { upcall, pollers: Some(port), consumer: None }
    }

    /// `EVTCHNOP_unmask`. Error: `EINVAL` bad port (closed ports are ignored, as in Xen).
    pub fn unmask(&mut self, port: Port) -> Result<Notify, Errno> {
        let channel = self.get(port).ok_or(Errno::EINVAL)?;
        let vcpu = channel.notify_vcpu;
        if !channel.usable() {
            return Ok(Notify::NONE);
        }
        if self.fifo.is_some() {
            return Ok(self.fifo_unmask(port, vcpu));
        }
        let Some(shared) = self.shared else { return Ok(Notify::NONE) };
        let upcall =
            if shared.unmask(port) && shared.is_pending(port) { self.select_2l(port, vcpu) } else { None };
        Ok(Notify { upcall, ..Notify::NONE })
    }

    /// `SCHEDOP_poll`: is an event waiting on `port`? Error: `EINVAL` bad or closed port.
    pub fn poll(&self, port: Port) -> Result<bool, Errno> {
        self.usable(port).ok_or(Errno::EINVAL)?;
        Ok(self.is_pending(port))
    }

    /// Is the port's pending bit set? `false` for a port that is not the guest's.
    pub fn is_pending(&self, port: Port) -> bool {
        self.usable(port).is_some()
            && match &self.fifo {
                Some(fifo) => fifo.is_pending(port),
                None => self.shared.is_some_and(|s| s.is_pending(port)),
            }
    }

    /// Is the port masked? `true` for a port that is not the guest's.
    pub fn is_masked(&self, port: Port) -> bool {
        self.usable(port).is_none()
            || match &self.fifo {
                Some(fifo) => fifo.is_masked(port),
                None => self.shared.is_none_or(|s| s.is_masked(port)),
            }
    }

    pub(crate) fn clear_pending(&mut self, port: Port) {
        if self.usable(port).is_none() {
            return;
        }
        match (&self.fifo, self.shared) {
            (Some(fifo), _) => fifo.clear_pending(port),
            (None, Some(shared)) => shared.clear_pending(port),
            (None, None) => {}
        }
    }

    /// Marks the selector and the upcall of `vcpu`; the vCPU when the upcall is new.
    fn select_2l(&self, port: Port, vcpu: VcpuId) -> Option<VcpuId> {
        let info = self.vcpus.get(vcpu.index())?.info?;
        (info.select(self.layout(), port) && info.mark_upcall()).then_some(vcpu)
    }

    /// Sets the upcall flag of `vcpu`; the vCPU when it was clear.
    pub(crate) fn mark_upcall(&self, vcpu: VcpuId) -> Option<VcpuId> {
        self.vcpus.get(vcpu.index())?.info.is_some_and(VcpuInfo::mark_upcall).then_some(vcpu)
    }
}
