//! The PVH start info, version 1 (xen/include/public/arch-x86/hvm/start_info.h): what `%ebx` points to at the entry.

use alloc::vec::Vec;
use radon_addr::Gpa;

use crate::dom0_memory::Region;

const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;
const HEADER_LEN: usize = 56;
const MODULE_LEN: usize = 32;
const MEMMAP_LEN: usize = 24;
/// `SIF_PRIVILEGED` (xen.h).
pub const SIF_PRIVILEGED: u32 = 1 << 0;
/// `SIF_INITDOMAIN` (xen.h).
pub const SIF_INITDOMAIN: u32 = 1 << 1;

/// One boot module (an initrd), already placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module<'a> {
    /// First byte.
    pub gpa: Gpa,
    /// Bytes.
    pub len: u64,
    /// Its command line; empty for none.
    pub cmdline: &'a [u8],
}

/// Contents of a start info.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartInfoParams<'a> {
    /// `SIF_*` flags: 0 for a guest, `SIF_PRIVILEGED | SIF_INITDOMAIN` for dom0.
    pub flags: u32,
    /// Kernel command line without a terminating zero (an embedded zero ends it).
    pub cmdline: &'a [u8],
    /// Boot modules.
    pub modules: &'a [Module<'a>],
    /// Memory map, sorted.
    pub memmap: &'a [Region],
    /// ACPI RSDP; `None` for a guest without ACPI.
    pub rsdp: Option<Gpa>,
}

/// Builder of the start info blob.
pub struct StartInfo;

impl StartInfo {
    /// Bytes [`StartInfo::build`] will return.
    pub fn len(p: &StartInfoParams<'_>) -> usize {
        let strings = p
            .modules
            .iter()
            .map(|m| string_len(m.cmdline))
            .fold(string_len(p.cmdline), usize::saturating_add);
        let modules = p.modules.len().saturating_mul(MODULE_LEN);
        let memmap = p.memmap.len().saturating_mul(MEMMAP_LEN);
        HEADER_LEN.saturating_add(modules).saturating_add(memmap).saturating_add(strings)
    }

    /// Header, module list, memory map and strings as one blob to be placed at `at` (8-byte aligned, below 4 GiB); its
    /// first byte is the `hvm_start_info`. Addresses wrap if the blob itself would.
    pub fn build(p: &StartInfoParams<'_>, at: Gpa) -> Vec<u8> {
        let base = at.raw();
        let modules_at = base.wrapping_add(HEADER_LEN as u64);
        let memmap_at = modules_at.wrapping_add((p.modules.len() * MODULE_LEN) as u64);
        let mut string_at = memmap_at.wrapping_add((p.memmap.len() * MEMMAP_LEN) as u64);
        let mut strings = Vec::new();
        let mut place = |s: &[u8]| -> u64 {
            if s.is_empty() {
                return 0;
            }
            let here = string_at;
            strings.extend(s.iter().copied().take_while(|&b| b != 0));
            strings.resize(strings.len().saturating_add(1), 0);
            string_at = memmap_at.wrapping_add((p.memmap.len() * MEMMAP_LEN + strings.len()) as u64);
            here
        };
        let present = |n: usize, at: u64| if n == 0 { 0 } else { at };
        let mut b = Vec::with_capacity(Self::len(p));
        let put32 = |b: &mut Vec<u8>, v: u32| b.extend_from_slice(&v.to_le_bytes());
        let put64 = |b: &mut Vec<u8>, v: u64| b.extend_from_slice(&v.to_le_bytes());
        for v in [MAGIC, VERSION, p.flags, p.modules.len() as u32] {
            put32(&mut b, v);
        }
        put64(&mut b, present(p.modules.len(), modules_at));
        put64(&mut b, place(p.cmdline));
        put64(&mut b, p.rsdp.map_or(0, Gpa::raw));
        put64(&mut b, present(p.memmap.len(), memmap_at));
        put32(&mut b, p.memmap.len() as u32);
        put32(&mut b, 0);
        for m in p.modules {
            for v in [m.gpa.raw(), m.len, place(m.cmdline), 0] {
                put64(&mut b, v);
            }
        }
        for r in p.memmap {
            put64(&mut b, r.start);
            put64(&mut b, r.len());
            put32(&mut b, r.kind.e820());
            put32(&mut b, 0);
        }
        b.extend_from_slice(&strings);
        b
    }
}

fn string_len(s: &[u8]) -> usize {
    let n = s.iter().position(|&b| b == 0).unwrap_or(s.len());
    if s.is_empty() { 0 } else { n.saturating_add(1) }
}
