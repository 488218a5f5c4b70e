//! One event channel: its state and where it is delivered.

use core::num::NonZeroU8;

use radon_addr::{DomId, Port, VcpuId};
use xen_abi::event_channel::EVTCHN_FIFO_PRIORITY_DEFAULT;

/// Priority a channel gets when it is bound.
pub(crate) const PRIORITY_DEFAULT: u8 = EVTCHN_FIFO_PRIORITY_DEFAULT as u8;

/// What a port is bound to (`ECS_*` of Xen, `EVTCHNSTAT_*` of event_channel.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not in use.
    Free,
    /// Never available (port 0).
    Reserved,
    /// Waiting for `remote` to bind the other end.
    Unbound {
        /// The only domain that may connect.
        remote: DomId,
    },
    /// Connected to `port` of `remote`.
    Interdomain {
        /// The peer.
        remote: DomId,
        /// The peer's port.
        port: Port,
    },
    /// A physical interrupt routed as an event.
    Pirq {
        /// Guest's interrupt number.
        pirq: u32,
    },
    /// A virtual interrupt from the hypervisor.
    Virq {
        /// `VIRQ_*` (xen.h).
        virq: u32,
    },
    /// Inter-processor interrupt within the domain.
    Ipi,
}

/// A hypervisor service that consumes a channel's events itself (Xen's "xen_consumer"), e.g. an ioreq server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumer(pub NonZeroU8);

/// One port of one domain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Channel {
    pub state: State,
    /// Who consumes the events when it is not the guest.
    pub consumer: Option<Consumer>,
    pub notify_vcpu: VcpuId,
    /// FIFO: queue for future events.
    pub priority: u8,
    /// FIFO: event raised while its array page does not exist yet.
    pub hidden_pending: bool,
    /// FIFO: queue on which the event was linked last.
    pub last_priority: u8,
    pub last_vcpu: VcpuId,
}

impl Channel {
    pub const FREE: Channel = Channel {
        state: State::Free,
        consumer: None,
        notify_vcpu: VcpuId::new(0),
        priority: PRIORITY_DEFAULT,
        hidden_pending: false,
        last_priority: 0,
        last_vcpu: VcpuId::new(0),
    };

    /// May the guest see events on this port?
    pub fn usable(&self) -> bool {
        self.consumer.is_none() && !matches!(self.state, State::Free | State::Reserved)
    }
}

/// Answer to `EVTCHNOP_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What the port is bound to; `Free` and `Reserved` are `EVTCHNSTAT_closed`.
    pub state: State,
    /// vCPU that gets the upcall.
    pub vcpu: VcpuId,
}

/// What the core has to do after an event was raised. Dropping it loses a wake-up.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// This vCPU's upcall became pending: assert its event interrupt and wake it.
    pub upcall: Option<VcpuId>,
    /// This port went from not pending to pending: wake vCPUs that poll for it (`SCHEDOP_poll`).
    pub pollers: Option<Port>,
    /// Not a guest's event: tell this hypervisor service (for that vCPU and port).
    pub consumer: Option<(Consumer, VcpuId, Port)>,
}

impl Notify {
    /// Nothing to do.
    pub const NONE: Notify = Notify { upcall: None, pollers: None, consumer: None };
}

/// Where an event sent by the guest goes (`EVTCHNOP_send`).
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Raised in this domain (IPI, loopback) or dropped (unbound).
    Local(Notify),
    /// Call [`crate::EventChannels::receive`] on domain `dom` for `port`.
    Remote {
        /// Receiving domain.
        dom: DomId,
        /// Its port.
        port: Port,
    },
}

/// Result of [`crate::EventChannels::close`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The port is free now.
    Done,
    /// Nothing was changed: lock this domain's channels too and call [`crate::close_pair`].
    NeedsPeer(DomId),
}
