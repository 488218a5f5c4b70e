//! Closing ports: `EVTCHNOP_close`, `EVTCHNOP_reset`, and the end of a domain.

use alloc::vec::Vec;

use radon_addr::{DomId, Mfn, Port};
use xen_abi::Errno;

use crate::channel::{Closed, State};
use crate::table::EventChannels;

/// Who closes: a guest may not close what the hypervisor consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closer {
    /// `EVTCHNOP_close`, `EVTCHNOP_reset`.
    Guest,
    /// The hypervisor itself: domain destruction, a service going away.
    Xen,
}

impl EventChannels {
    /// Closes `port`. When it is connected to another domain nothing is done and the answer says whose lock
    /// is needed for [`close_pair`]. Errors: `EINVAL` port not open, or not the closer's to close.
    pub fn close(&mut self, port: Port, by: Closer) -> Result<Closed, Errno> {
        let channel = self.get(port).ok_or(Errno::EINVAL)?;
        if channel.consumer.is_some() && by == Closer::Guest {
            return Err(Errno::EINVAL);
        }
        match channel.state {
            State::Free | State::Reserved => return Err(Errno::EINVAL),
            State::Interdomain { remote, port: peer } => {
                if remote != self.dom {
                    return Ok(Closed::NeedsPeer(remote));
                }
                self.disconnect(peer, self.dom);
            }
            State::Virq { virq } => {
                let vcpu = channel.notify_vcpu;
                self.set_virq_port(vcpu, virq, Port::new(0));
            }
            State::Unbound { .. } | State::Pirq { .. } | State::Ipi => {}
        }
        self.free(port);
        Ok(Closed::Done)
    }

    /// The peer of an end that was closed waits for `dom` again.
    fn disconnect(&mut self, port: Port, dom: DomId) {
        if let Some(channel) = self.get_mut(port)
            && matches!(channel.state, State::Interdomain { .. })
        {
            channel.state = State::Unbound { remote: dom };
        }
    }

    /// Starts (`resume` = false) or goes on with `EVTCHNOP_reset`: the port from which to close. The core
    /// then closes each [`Self::next_open`] port as [`Closer::Guest`] while [`Self::has_active`], and ends
    /// with [`Self::reset_pause`] or [`Self::reset_finish`]. Error: `EBUSY` when one is already running.
    pub fn reset_begin(&mut self, resume: bool) -> Result<Port, Errno> {
        match (resume, self.next_reset) {
            (true, 0) | (false, 1..) => Err(Errno::EBUSY),
            (true, next) => Ok(Port::new(next)),
            (false, 0) => {
                self.next_reset = 1;
                Ok(Port::new(1))
            }
        }
    }

    /// The reset is interrupted; it goes on at `next`.
    pub fn reset_pause(&mut self, next: Port) {
        self.next_reset = next.raw().max(1);
    }

    /// Ends the reset: back to the 2-level ABI. Returns the guest frames that the FIFO ABI used, one entry
    /// per reference held. Error: `EAGAIN` when channels have been opened meanwhile.
    pub fn reset_finish(&mut self) -> Result<Vec<Mfn>, Errno> {
        self.next_reset = 0;
        if self.has_active() {
            return Err(Errno::EAGAIN);
        }
        Ok(self.take_fifo_frames())
    }
}

/// Closes `port` of `local`, which is connected to a port of `peer` (another domain): that end becomes
/// unbound again. Errors as [`EventChannels::close`]; `EINVAL` also when the port has been rebound to a third
/// domain meanwhile.
pub fn close_pair(
    local: &mut EventChannels,
    peer: &mut EventChannels,
    port: Port,
    by: Closer,
) -> Result<(), Errno> {
    match local.close(port, by)? {
        Closed::Done => Ok(()),
        Closed::NeedsPeer(dom) if dom == peer.dom => {
            if let Some(State::Interdomain { port: peer_port, .. }) = local.get(port).map(|c| c.state) {
                peer.disconnect(peer_port, local.dom);
            }
            local.free(port);
            Ok(())
        }
        Closed::NeedsPeer(_) => Err(Errno::EINVAL),
    }
}
