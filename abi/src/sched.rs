//! Scheduler operations of a guest on itself (`sched.h`).

use crate::{
    handle::Handle,
    macros::{c_consts, c_struct},
};

c_consts! {
    /// Sub-operations of `HYPERVISOR_sched_op`.
    SCHEDOPS: u32 {
        SCHEDOP_YIELD = 0,
        SCHEDOP_BLOCK = 1,
        SCHEDOP_SHUTDOWN = 2,
        SCHEDOP_POLL = 3,
        SCHEDOP_REMOTE_SHUTDOWN = 4,
        SCHEDOP_SHUTDOWN_CODE = 5,
        SCHEDOP_WATCHDOG = 6,
        SCHEDOP_PIN_OVERRIDE = 7,
    }
}

c_consts! {
    /// Why a domain shut down.
    SHUTDOWNS: u32 {
        SHUTDOWN_POWEROFF = 0,
        SHUTDOWN_REBOOT = 1,
        SHUTDOWN_SUSPEND = 2,
        SHUTDOWN_CRASH = 3,
        SHUTDOWN_WATCHDOG = 4,
        SHUTDOWN_SOFT_RESET = 5,
        SHUTDOWN_MAX = 5,
    }
}

c_struct! {
    /// `SCHEDOP_shutdown`, `SCHEDOP_shutdown_code`.
    pub struct SchedShutdown = "struct sched_shutdown", 4 {
        reason: u32,
    }

    /// `SCHEDOP_poll`: block until one of the ports is pending or the system time (ns; 0: none) is reached.
    pub struct SchedPoll = "struct sched_poll", 24 {
        ports: Handle<u32>,
        nr_ports: u32,
        _pad: [u8; 4],
        timeout: u64,
    }

    /// `SCHEDOP_remote_shutdown`.
    pub struct SchedRemoteShutdown = "struct sched_remote_shutdown", 8 {
        domain_id: u16,
        _pad: [u8; 2],
        reason: u32,
    }

    /// `SCHEDOP_watchdog`; timeout in seconds.
    pub struct SchedWatchdog = "struct sched_watchdog", 8 {
        id: u32,
        timeout: u32,
    }

    /// `SCHEDOP_pin_override`; negative: undo.
    pub struct SchedPinOverride = "struct sched_pin_override", 4 {
        pcpu: i32,
    }
}
