//! The virtual machine control block (AMD64 APM vol. 2, appendix B), as typed accessors over its frame.
//!
//! Setters mark the right VMCB clean field as dirty by construction: a field cannot be changed behind the
//! processor's back.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use radon_addr::Maddr;
use radon_cpu::Segment;
use radon_hw::mem;

/// Groups of the clean-bits field (offset 0x0C0): a set bit means "unchanged since the last VMRUN".
#[derive(Clone, Copy)]
#[repr(u32)]
enum Clean {
    Intercepts = 0,
    PortMaps = 1,
    Asid = 2,
    Tpr = 3,
    NestedPaging = 4,
    ControlRegs = 5,
    DebugRegs = 6,
    DescriptorTables = 7,
    Segments = 8,
    Cr2 = 9,
    None = 31,
}

/// Intercept word 1 (offset 0x00C).
pub mod intercept1 {
    #![allow(missing_docs)]
    pub const INTR: u32 = 1 << 0;
    pub const NMI: u32 = 1 << 1;
    pub const SMI: u32 = 1 << 2;
    pub const INIT: u32 = 1 << 3;
    pub const VINTR: u32 = 1 << 4;
    pub const RDPMC: u32 = 1 << 15;
    pub const CPUID: u32 = 1 << 18;
    pub const INVD: u32 = 1 << 22;
    pub const HLT: u32 = 1 << 24;
    pub const INVLPGA: u32 = 1 << 26;
    pub const IOIO: u32 = 1 << 27;
    pub const MSR: u32 = 1 << 28;
    pub const TASK_SWITCH: u32 = 1 << 29;
    pub const SHUTDOWN: u32 = 1 << 31;
}

/// Intercept word 2 (offset 0x010).
pub mod intercept2 {
    #![allow(missing_docs)]
    pub const VMRUN: u32 = 1 << 0;
    pub const VMMCALL: u32 = 1 << 1;
    pub const VMLOAD: u32 = 1 << 2;
    pub const VMSAVE: u32 = 1 << 3;
    pub const STGI: u32 = 1 << 4;
    pub const CLGI: u32 = 1 << 5;
    pub const SKINIT: u32 = 1 << 6;
    pub const WBINVD: u32 = 1 << 9;
    pub const MONITOR: u32 = 1 << 10;
    pub const MWAIT: u32 = 1 << 11;
    pub const XSETBV: u32 = 1 << 13;
}

/// A VMCB in its own frame.
///
/// The words are read and written one by one at every exit, so the frame is looked up once and kept.
pub struct Vmcb {
    base: Maddr,
    words: &'static [AtomicU64; 512],
}

/// A field narrower than a word, within its word.
trait Field: Copy {
    fn extract(word: u64, shift: u32) -> Self;
    fn insert(self, word: u64, shift: u32) -> u64;
}

macro_rules! narrow {
    ($($ty:ty)*) => {$(
        impl Field for $ty {
            #[inline(always)]
            fn extract(word: u64, shift: u32) -> Self {
                (word >> shift) as $ty
            }
            #[inline(always)]
            fn insert(self, word: u64, shift: u32) -> u64 {
                word & !(u64::from(<$ty>::MAX) << shift) | u64::from(self) << shift
            }
        }
    )*};
}
narrow! { u8 u32 }
impl Field for u64 {
    #[inline(always)]
    fn extract(word: u64, _: u32) -> Self {
        word
    }
    #[inline(always)]
    fn insert(self, _: u64, _: u32) -> u64 {
        self
    }
}

macro_rules! field {
    ($(#[$m:meta])* $get:ident, $set:ident, $ty:ty, $off:expr, $clean:ident) => {
        $(#[$m])*
        #[inline(always)]
        pub fn $get(&self) -> $ty {
            <$ty as Field>::extract(self.words[$off / 8].load(Relaxed), $off % 8 * 8)
        }
        /// Sets the field and marks its clean group dirty.
        #[inline(always)]
        pub fn $set(&mut self, value: $ty) {
            let word = &self.words[$off / 8];
            word.store(value.insert(word.load(Relaxed), $off % 8 * 8), Relaxed);
            self.dirty(Clean::$clean);
        }
    };
}

/// The word of the clean bits.
const CLEAN: usize = 0xc0 / 8;

impl Vmcb {
    /// Takes over a zeroed frame of RAM; `None` if it is none.
    pub fn new(base: Maddr) -> Option<Vmcb> {
        Some(Vmcb { base, words: mem::frame_words(base.mfn())? })
    }
    /// Where it lies.
    pub fn maddr(&self) -> Maddr {
        self.base
    }
    #[inline(always)]
    fn at(&self, offset: u64) -> Maddr {
        Maddr::new(self.base.raw() | offset)
    }
    #[inline(always)]
    fn dirty(&mut self, group: Clean) {
        if !matches!(group, Clean::None) {
            let clean = &self.words[CLEAN];
            clean.store(clean.load(Relaxed) & !(1u64 << group as u32), Relaxed);
        }
    }
    /// All groups clean: called right after an exit.
    #[inline(always)]
    pub fn mark_clean(&mut self) {
        self.words[CLEAN].store(0x3ff, Relaxed);
    }
    /// All groups dirty: the vCPU moved to another pCPU.
    pub fn mark_dirty(&mut self) {
        self.words[CLEAN].store(0, Relaxed);
    }

    field!(/// Exceptions intercepted, a bit per vector.
        exceptions, set_exceptions, u32, 0x008, Intercepts);
    field!(/// Reads (low 16) and writes (high 16) of control registers intercepted.
        cr_intercepts, set_cr_intercepts, u32, 0x000, Intercepts);
    field!(/// Reads (low 16) and writes (high 16) of debug registers intercepted.
        dr_intercepts, set_dr_intercepts, u32, 0x004, Intercepts);
    field!(/// Intercept word 1.
        intercept1, set_intercept1, u32, 0x00c, Intercepts);
    field!(/// Intercept word 2.
        intercept2, set_intercept2, u32, 0x010, Intercepts);
    field!(/// I/O permission map.
        iopm, set_iopm, u64, 0x040, PortMaps);
    field!(/// MSR permission map.
        msrpm, set_msrpm, u64, 0x048, PortMaps);
    field!(/// TSC offset.
        tsc_offset, set_tsc_offset, u64, 0x050, Intercepts);
    field!(/// Address-space id.
        asid, set_asid, u32, 0x058, Asid);
    field!(/// TLB control: 0 nothing, 1 flush all, 3 flush this ASID.
        tlb_control, set_tlb_control, u8, 0x05c, None);
    field!(/// Virtual interrupt control (V_TPR, V_IRQ, V_INTR_MASKING, vector).
        vintr, set_vintr, u64, 0x060, Tpr);
    field!(/// Interrupt shadow (bit 0).
        interrupt_shadow, set_interrupt_shadow, u64, 0x068, None);
    field!(/// Exit code.
        exit_code, set_exit_code, u64, 0x070, None);
    field!(/// Exit information 1.
        exit_info1, set_exit_info1, u64, 0x078, None);
    field!(/// Exit information 2.
        exit_info2, set_exit_info2, u64, 0x080, None);
    field!(/// Event whose delivery was interrupted.
        exit_int_info, set_exit_int_info, u64, 0x088, None);
    field!(/// Nested paging enable.
        nested_control, set_nested_control, u64, 0x090, NestedPaging);
    field!(/// Event to inject.
        event_inject, set_event_inject, u64, 0x0a8, None);
    field!(/// Nested page-table root.
        nested_cr3, set_nested_cr3, u64, 0x0b0, NestedPaging);
    field!(/// Next sequential RIP, on processors that save it.
        next_rip, set_next_rip, u64, 0x0c8, None);
    field!(/// Current privilege level.
        cpl, set_cpl, u8, 0x4cb, Segments);
    field!(/// EFER.
        efer, set_efer, u64, 0x4d0, ControlRegs);
    field!(/// CR4.
        cr4, set_cr4, u64, 0x548, ControlRegs);
    field!(/// CR3.
        cr3, set_cr3, u64, 0x550, ControlRegs);
    field!(/// CR0.
        cr0, set_cr0, u64, 0x558, ControlRegs);
    field!(/// DR7.
        dr7, set_dr7, u64, 0x560, DebugRegs);
    field!(/// DR6.
        dr6, set_dr6, u64, 0x568, DebugRegs);
    field!(/// RFLAGS.
        rflags, set_rflags, u64, 0x570, None);
    field!(/// RIP.
        rip, set_rip, u64, 0x578, None);
    field!(/// RSP.
        rsp, set_rsp, u64, 0x5d8, None);
    field!(/// RAX.
        rax, set_rax, u64, 0x5f8, None);
    field!(/// STAR.
        star, set_star, u64, 0x600, None);
    field!(/// LSTAR.
        lstar, set_lstar, u64, 0x608, None);
    field!(/// CSTAR.
        cstar, set_cstar, u64, 0x610, None);
    field!(/// SFMASK.
        sfmask, set_sfmask, u64, 0x618, None);
    field!(/// KERNEL_GS_BASE.
        kernel_gs_base, set_kernel_gs_base, u64, 0x620, None);
    field!(/// SYSENTER_CS.
        sysenter_cs, set_sysenter_cs, u64, 0x628, None);
    field!(/// SYSENTER_ESP.
        sysenter_esp, set_sysenter_esp, u64, 0x630, None);
    field!(/// SYSENTER_EIP.
        sysenter_eip, set_sysenter_eip, u64, 0x638, None);
    field!(/// CR2.
        cr2, set_cr2, u64, 0x640, Cr2);
    field!(/// Guest PAT.
        pat, set_pat, u64, 0x668, NestedPaging);
    field!(/// DEBUGCTL.
        debug_ctl, set_debug_ctl, u64, 0x670, None);

    /// Instruction bytes fetched (decode assist), and how many.
    pub fn fetched(&self) -> ([u8; 15], usize) {
        let n = mem::read::<u8>(self.at(0xd0)) as usize;
        let mut bytes = [0; 15];
        mem::read_bytes(self.at(0xd1), &mut bytes);
        (bytes, n.min(15))
    }
    /// Segment register or descriptor table at this offset of the save area.
    #[inline]
    pub fn segment(&self, offset: usize) -> Segment {
        let word = |i: usize| self.words.get(offset / 8 + i).map_or(0, |w| w.load(Relaxed));
        let low = word(0);
        Segment {
            selector: low as u16,
            attributes: (low >> 16) as u16,
            limit: (low >> 32) as u32,
            base: word(1),
        }
    }
    /// Sets a segment register or descriptor table.
    pub fn set_segment(&mut self, offset: usize, s: Segment) {
        let low = u64::from(s.selector) | u64::from(s.attributes) << 16 | u64::from(s.limit) << 32;
        for (i, value) in [low, s.base].into_iter().enumerate() {
            if let Some(w) = self.words.get(offset / 8 + i) {
                w.store(value, Relaxed);
            }
        }
        self.dirty(Clean::Segments);
        self.dirty(Clean::DescriptorTables);
    }
}
