//! Event channels of one domain: the ports, what they are bound to, and the delivery of events through memory
//! shared with the guest by the 2-level or the FIFO ABI (Xen's event_channel.h).
//!
//! # Protocol with the core
//! - An [`EventChannels`] is plain data; the core keeps one per domain in a spin lock of rank EVTCHN. An operation on
//!   two domains either takes both (`lock_pair`): [`bind_interdomain`], [`close_pair`]; or is split so that one lock
//!   at a time is enough: [`EventChannels::send`] says where an event goes, [`EventChannels::receive`] raises it there
//!   and re-checks that the two ports are still connected.
//! - Frames of the guest that hold `vcpu_info`, FIFO control blocks and FIFO event words are handed in as machine
//!   addresses; the core keeps a reference on each for as long as it is used here, and drops those that
//!   [`EventChannels::reset_finish`] or [`EventChannels::take_fifo_frames`] gives back.
//! - Whatever raises an event returns a [`Notify`], which says whom to wake.
//!
//! Nothing read from guest memory is trusted: a guest that corrupts its shared words loses events, no more.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bind;
mod channel;
mod close;
mod deliver;
mod fifo;
mod shared;
mod table;

pub use bind::{bind_interdomain, bind_loopback};
pub use channel::{Closed, Consumer, Notify, Sent, State, Status};
pub use close::{Closer, close_pair};
pub use shared::{LEGACY_MAX_VCPUS, Layout, VCPU_INFO_SIZE};
pub use table::EventChannels;
