//! Fuzz targets: one function per parser of untrusted bytes. Each takes any bytes and must return; a panic is a finding.
//!
//! `fuzz/` runs them under libFuzzer, `tests/replay.rs` replays `corpus/` under plain `cargo test`.

pub mod acpi;
pub mod api;
pub mod block;
pub mod boot;
pub mod console;
pub mod decode;
pub mod events;
pub mod framebuffer;
pub mod grants;
pub mod hypercall;
pub mod image;
pub mod medium;
pub mod mmio;
pub mod nbd;
pub mod network;
pub mod pci;
pub mod policy;
pub mod saved;
pub mod store;
pub mod symbols;
pub mod vapic;
pub mod walk;
pub mod xlcfg;

#[path = "../../../hypervisor/core/tests/random/mod.rs"]
mod random;

mod memory;

/// A target: its name, which is also that of its corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("hypercall", hypercall::run),
    ("decode_length", decode::length),
    ("decode_memory", decode::memory),
    ("evtchn", events::run),
    ("grant", grants::run),
    ("bootproto", boot::loader),
    ("acpi", acpi::run),
    ("kernel", boot::kernel),
    ("cmdline", boot::command_line),
    ("vpci", pci::run),
    ("policy", policy::run),
    ("store", store::run),
    ("store_records", store::records),
    ("vapic", vapic::run),
    ("mmio", mmio::run),
    ("walk", walk::run),
    ("symbols", symbols::run),
    ("vhd", image::vhd),
    ("qcow2", image::qcow2),
    ("nbd", nbd::run),
    ("gpt", medium::gpt),
    ("block_ring", block::ring),
    ("block_table", block::table),
    ("xmlrpc", api::xmlrpc),
    ("jsonrpc", api::jsonrpc),
    ("filter", api::filter),
    ("dhcp", network::dhcp),
    ("dhcp_reply", network::dhcp_reply),
    ("leases", network::leases),
    ("dns", network::dns),
    ("metadata", network::http),
    ("console_ring", console::ring),
    ("console_file", console::file),
    ("framebuffer_page", framebuffer::page),
    ("framebuffer_viewer", framebuffer::viewer),
    ("xlcfg", xlcfg::run),
    ("saved_vm", saved::run),
];
