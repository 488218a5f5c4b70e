//! Binding ports: `EVTCHNOP_alloc_unbound`, `bind_interdomain`, `bind_virq`, `bind_ipi`, `bind_pirq`,
//! `bind_vcpu`.

use radon_addr::{DomId, Port, VcpuId};
use xen_abi::Errno;
use xen_abi::xen::{NR_VIRQS, virq_is_global};

use crate::channel::{Consumer, Notify, State};
use crate::table::EventChannels;

const VCPU0: VcpuId = VcpuId::new(0);

impl EventChannels {
    /// `EVTCHNOP_alloc_unbound`: a new port that `remote` may bind (the core resolves `DOMID_SELF` to its
    /// caller). Errors: `ENOSPC`, `ENOMEM`, `EINVAL` (dying).
    pub fn alloc_unbound(&mut self, remote: DomId) -> Result<Port, Errno> {
        let port = self.find_free()?;
        self.bind(port, State::Unbound { remote }, VCPU0, None);
        Ok(port)
    }

    /// A new port for `remote` whose events the hypervisor's `consumer` gets; `vcpu` is passed to it.
    /// Errors as [`Self::alloc_unbound`], and `ENOENT`.
    pub fn alloc_unbound_xen(
        &mut self,
        remote: DomId,
        vcpu: VcpuId,
        consumer: Consumer,
    ) -> Result<Port, Errno> {
        self.check_vcpu(vcpu)?;
        let port = self.find_free()?;
        self.bind(port, State::Unbound { remote }, vcpu, Some(consumer));
        Ok(port)
    }

    /// `EVTCHNOP_bind_virq`. Errors: `EINVAL` no such VIRQ, or a global one for another vCPU than 0; `ENOENT`
    /// no such vCPU; `EEXIST` already bound; and those of allocation.
    pub fn bind_virq(&mut self, virq: u32, vcpu: VcpuId) -> Result<Port, Errno> {
        if virq >= NR_VIRQS || (virq_is_global(virq) && vcpu != VCPU0) {
            return Err(Errno::EINVAL);
        }
        self.check_vcpu(vcpu)?;
        if self.virq_to_port(vcpu, virq).is_some() {
            return Err(Errno::EEXIST);
        }
        let port = self.find_free()?;
        self.bind(port, State::Virq { virq }, vcpu, None);
        self.set_virq_port(vcpu, virq, port);
        Ok(port)
    }

    /// `EVTCHNOP_bind_ipi`. Errors: `ENOENT` and those of allocation.
    pub fn bind_ipi(&mut self, vcpu: VcpuId) -> Result<Port, Errno> {
        self.check_vcpu(vcpu)?;
        let port = self.find_free()?;
        self.bind(port, State::Ipi, vcpu, None);
        Ok(port)
    }

    /// `EVTCHNOP_bind_pirq` (bookkeeping only: routing the interrupt is the core's business).
    /// Errors: `EINVAL` beyond the domain's interrupts, `EEXIST`, and those of allocation.
    pub fn bind_pirq(&mut self, pirq: u32) -> Result<Port, Errno> {
        if pirq >= self.nr_pirqs {
            return Err(Errno::EINVAL);
        }
        if self.pirq_to_port(pirq).is_some() {
            return Err(Errno::EEXIST);
        }
        let port = self.find_free()?;
        self.bind(port, State::Pirq { pirq }, VCPU0, None);
        Ok(port)
    }

    /// Port to which a physical interrupt is bound. Linear in the ports in use: not for a hot path.
    pub fn pirq_to_port(&self, pirq: u32) -> Option<Port> {
        let mut from = Port::new(1);
        while let Some(port) = self.next_open(from) {
            if self.get(port)?.state == (State::Pirq { pirq }) {
                return Some(port);
            }
            from = port.checked_add(1)?;
        }
        None
    }

    /// `EVTCHNOP_bind_vcpu`: future events of `port` go to `vcpu`. Errors: `ENOENT` no such vCPU; `EINVAL`
    /// bad port, or a kind of channel that is tied to its vCPU (IPI, per-vCPU VIRQ, hypervisor-bound).
    pub fn bind_vcpu(&mut self, port: Port, vcpu: VcpuId) -> Result<(), Errno> {
        self.check_vcpu(vcpu)?;
        let channel = self.get_mut(port).filter(|c| c.consumer.is_none()).ok_or(Errno::EINVAL)?;
        match channel.state {
            State::Virq { virq } if virq_is_global(virq) => {}
            State::Unbound { .. } | State::Interdomain { .. } | State::Pirq { .. } => {}
            _ => return Err(Errno::EINVAL),
        }
        channel.notify_vcpu = vcpu;
        Ok(())
    }

    pub(crate) fn set_virq_port(&mut self, vcpu: VcpuId, virq: u32, port: Port) {
        let vcpu = if virq_is_global(virq) { VCPU0 } else { vcpu };
        if let Some(slot) = self.vcpus.get_mut(vcpu.index()).and_then(|v| v.virqs.get_mut(virq as usize)) {
            *slot = port;
        }
    }

    /// `port` waits for a connection from `remote`.
    fn expects(&self, port: Port, remote: DomId) -> bool {
        self.get(port).is_some_and(|c| c.state == (State::Unbound { remote }))
    }

    fn connect(&mut self, port: Port, remote: DomId, remote_port: Port) {
        if let Some(channel) = self.get_mut(port) {
            channel.state = State::Interdomain { remote, port: remote_port };
        }
    }
}

/// `EVTCHNOP_bind_interdomain` between two different domains: a new port of `local` is connected to
/// `remote_port` of `remote`, which must wait for `local`. Events sent by the remote end before this were
/// dropped, so one is raised on the new port; the [`Notify`] is about the local domain. Errors: those of
/// allocation; `EINVAL` when the remote port does not wait for this domain.
pub fn bind_interdomain(
    local: &mut EventChannels,
    remote: &mut EventChannels,
    remote_port: Port,
) -> Result<(Port, Notify), Errno> {
    let port = local.find_free()?;
    if !remote.expects(remote_port, local.dom) {
        return Err(Errno::EINVAL);
    }
    local.bind(port, State::Interdomain { remote: remote.dom, port: remote_port }, VCPU0, None);
    remote.connect(remote_port, local.dom, port);
    Ok((port, local.set_pending(port)))
}

/// [`bind_interdomain`] within one domain.
pub fn bind_loopback(local: &mut EventChannels, remote_port: Port) -> Result<(Port, Notify), Errno> {
    let dom = local.dom;
    let port = local.find_free()?;
    if !local.expects(remote_port, dom) {
        return Err(Errno::EINVAL);
    }
    local.bind(port, State::Interdomain { remote: dom, port: remote_port }, VCPU0, None);
    local.connect(remote_port, dom, port);
    Ok((port, local.set_pending(port)))
}
