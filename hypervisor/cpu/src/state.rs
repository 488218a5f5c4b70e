//! Names of architectural registers.

/// General register by its encoding in ModRM/REX (0 = RAX .. 15 = R15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Gpr {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

impl Gpr {
    /// All, in encoding order.
    pub const ALL: [Gpr; 16] = [
        Gpr::Rax,
        Gpr::Rcx,
        Gpr::Rdx,
        Gpr::Rbx,
        Gpr::Rsp,
        Gpr::Rbp,
        Gpr::Rsi,
        Gpr::Rdi,
        Gpr::R8,
        Gpr::R9,
        Gpr::R10,
        Gpr::R11,
        Gpr::R12,
        Gpr::R13,
        Gpr::R14,
        Gpr::R15,
    ];
    /// By encoding; only the low four bits count.
    pub const fn from_encoding(n: u8) -> Gpr {
        Self::ALL[(n & 15) as usize]
    }
}

/// Control registers and the MSRs that are part of the guest state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Control {
    Cr0,
    Cr2,
    Cr3,
    Cr4,
    Dr0,
    Dr1,
    Dr2,
    Dr3,
    Dr6,
    Dr7,
    Efer,
    Pat,
    Star,
    Lstar,
    Cstar,
    Sfmask,
    KernelGsBase,
    SysenterCs,
    SysenterEsp,
    SysenterEip,
    DebugCtl,
}

/// Segment registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SegmentReg {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
    Ldtr,
    Tr,
}

/// GDT or IDT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Descriptor {
    Gdt,
    Idt,
}

/// A segment with its hidden part. `attributes` uses the VMCB form: bits 0-7 are descriptor bits 40-47 (type, S,
/// DPL, P), bits 8-11 are descriptor bits 52-55 (AVL, L, D/B, G).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Segment {
    pub selector: u16,
    pub attributes: u16,
    pub limit: u32,
    pub base: u64,
}

impl Segment {
    /// Descriptor privilege level.
    pub const fn dpl(&self) -> u8 {
        ((self.attributes >> 5) & 3) as u8
    }
    /// L bit: 64-bit code.
    pub const fn long(&self) -> bool {
        self.attributes & (1 << 9) != 0
    }
    /// D/B bit.
    pub const fn default_32(&self) -> bool {
        self.attributes & (1 << 10) != 0
    }
}

/// Operating mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No protection.
    Real,
    /// 16-bit protected mode.
    Protected16,
    /// 32-bit protected or compatibility mode.
    Protected32,
    /// 64-bit mode.
    Long,
}
