//! What the toolstack told of a domain and only it asks for again.

use radon_addr::{DomId, Port};

/// Toolstack's notes on one domain.
#[derive(Clone, Copy, Debug, Default)]
pub struct ToolstackState {
    /// It has been unpaused: its CPU policy is final.
    pub started: bool,
    /// `XEN_DOMCTL_setdebugging`.
    pub debugged: bool,
    /// Port to raise when the domain suspends (`XEN_DOMCTL_subscribe`).
    pub suspend_port: Option<Port>,
    /// The domain that this one is the device model of.
    pub target: Option<DomId>,
    /// Bytes of the paging pool (`XEN_DOMCTL_set_paging_mempool_size`); page tables come from the heap.
    pub pool_bytes: u64,
    /// System time at which its emulated TSC was 0.
    pub tsc_zero_ns: u64,
}
