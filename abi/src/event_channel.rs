//! Event channels (`event_channel.h`): operations, 2-level and FIFO layouts.

use crate::macros::{c_consts, c_struct, c_union};

c_consts! {
    /// Sub-operations of `HYPERVISOR_event_channel_op`.
    EVTCHNOPS: u32 {
        EVTCHNOP_BIND_INTERDOMAIN = 0,
        EVTCHNOP_BIND_VIRQ = 1,
        EVTCHNOP_BIND_PIRQ = 2,
        EVTCHNOP_CLOSE = 3,
        EVTCHNOP_SEND = 4,
        EVTCHNOP_STATUS = 5,
        EVTCHNOP_ALLOC_UNBOUND = 6,
        EVTCHNOP_BIND_IPI = 7,
        EVTCHNOP_BIND_VCPU = 8,
        EVTCHNOP_UNMASK = 9,
        EVTCHNOP_RESET = 10,
        EVTCHNOP_INIT_CONTROL = 11,
        EVTCHNOP_EXPAND_ARRAY = 12,
        EVTCHNOP_SET_PRIORITY = 13,
    }
}

c_consts! {
    /// Values of [`EvtchnStatus::status`].
    EVTCHN_STATUSES: u32 {
        EVTCHNSTAT_CLOSED = 0,
        EVTCHNSTAT_UNBOUND = 1,
        EVTCHNSTAT_INTERDOMAIN = 2,
        EVTCHNSTAT_PIRQ = 3,
        EVTCHNSTAT_VIRQ = 4,
        EVTCHNSTAT_IPI = 5,
    }
}

c_consts! {
    /// Limits, FIFO priorities and bit numbers of a FIFO event word, bits of [`EvtchnBindPirq::flags`].
    EVTCHN_LIMITS: u32 {
        BIND_PIRQ__WILL_SHARE = 1,
        EVTCHN_2L_NR_CHANNELS = 4096,
        EVTCHN_FIFO_PRIORITY_MAX = 0,
        EVTCHN_FIFO_PRIORITY_DEFAULT = 7,
        EVTCHN_FIFO_PRIORITY_MIN = 15,
        EVTCHN_FIFO_MAX_QUEUES = 16,
        EVTCHN_FIFO_PENDING = 31,
        EVTCHN_FIFO_MASKED = 30,
        EVTCHN_FIFO_LINKED = 29,
        EVTCHN_FIFO_BUSY = 28,
        EVTCHN_FIFO_LINK_BITS = 17,
        EVTCHN_FIFO_LINK_MASK = 0x1ffff,
        EVTCHN_FIFO_NR_CHANNELS = 0x20000,
    }
}

c_struct! {
    /// `EVTCHNOP_alloc_unbound`: a port in `dom` that `remote_dom` may bind to. Out: `port`.
    pub struct EvtchnAllocUnbound = "struct evtchn_alloc_unbound", 8 {
        dom: u16,
        remote_dom: u16,
        port: u32,
    }

    /// `EVTCHNOP_bind_interdomain`: connect to an unbound remote port. Out: `local_port`.
    pub struct EvtchnBindInterdomain = "struct evtchn_bind_interdomain", 12 {
        remote_dom: u16,
        _pad: [u8; 2],
        remote_port: u32,
        local_port: u32,
    }

    /// `EVTCHNOP_bind_virq`. Out: `port`.
    pub struct EvtchnBindVirq = "struct evtchn_bind_virq", 12 {
        virq: u32,
        vcpu: u32,
        port: u32,
    }

    /// `EVTCHNOP_bind_pirq`. Out: `port`.
    pub struct EvtchnBindPirq = "struct evtchn_bind_pirq", 12 {
        pirq: u32,
        flags: u32,
        port: u32,
    }

    /// `EVTCHNOP_bind_ipi`. Out: `port`.
    pub struct EvtchnBindIpi = "struct evtchn_bind_ipi", 8 {
        vcpu: u32,
        port: u32,
    }

    /// `EVTCHNOP_close`.
    pub struct EvtchnClose = "struct evtchn_close", 4 {
        port: u32,
    }

    /// `EVTCHNOP_send`.
    pub struct EvtchnSend = "struct evtchn_send", 4 {
        port: u32,
    }

    /// `EVTCHNOP_status`. Out: `status`, `vcpu` and, by status, `u`.
    pub struct EvtchnStatus = "struct evtchn_status", 24 {
        dom: u16,
        _pad: [u8; 2],
        port: u32,
        status: u32,
        vcpu: u32,
        u: [u8; 8],
    }

    /// [`EvtchnStatus::u`] of an interdomain port; of an unbound one only `dom` counts.
    pub struct EvtchnStatusInterdomain = "", 8 {
        dom: u16,
        _pad: [u8; 2],
        port: u32,
    }

    /// `EVTCHNOP_bind_vcpu`.
    pub struct EvtchnBindVcpu = "struct evtchn_bind_vcpu", 8 {
        port: u32,
        vcpu: u32,
    }

    /// `EVTCHNOP_unmask`.
    pub struct EvtchnUnmask = "struct evtchn_unmask", 4 {
        port: u32,
    }

    /// `EVTCHNOP_reset`.
    pub struct EvtchnReset = "struct evtchn_reset", 2 {
        dom: u16,
    }

    /// `EVTCHNOP_init_control`: place a vCPU's FIFO control block. Out: `link_bits`.
    pub struct EvtchnInitControl = "struct evtchn_init_control", 24 {
        control_gfn: u64,
        offset: u32,
        vcpu: u32,
        link_bits: u8,
        _pad: [u8; 7],
    }

    /// `EVTCHNOP_expand_array`: add a page to the FIFO event array.
    pub struct EvtchnExpandArray = "struct evtchn_expand_array", 8 {
        array_gfn: u64,
    }

    /// `EVTCHNOP_set_priority`.
    pub struct EvtchnSetPriority = "struct evtchn_set_priority", 8 {
        port: u32,
        priority: u32,
    }

    /// FIFO control block of one vCPU, in guest memory.
    pub struct EvtchnFifoControlBlock = "struct evtchn_fifo_control_block", 72 {
        ready: u32,
        _rsvd: u32,
        head: [u32; EVTCHN_FIFO_MAX_QUEUES as usize],
    }
}

c_union!(EvtchnStatus, 8);
