//! Why a guest stopped running, decoded once from the processor's own numbers.

use radon_addr::Gpa;

use crate::state::Gpr;

/// Reason of an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A physical interrupt is pending.
    Interrupt,
    /// A non-maskable interrupt arrived.
    Nmi,
    /// The guest can now take an interrupt (asked for by `request_interrupt_window`).
    InterruptWindow,
    /// CPUID.
    Cpuid,
    /// HLT.
    Hlt,
    /// VMMCALL / VMCALL.
    Hypercall,
    /// RDMSR (`write == false`) or WRMSR.
    Msr {
        /// WRMSR.
        write: bool,
    },
    /// IN/OUT and their string forms.
    Io(IoAccess),
    /// Access the nested page table does not allow.
    NestedFault(NestedFault),
    /// MOV to or from a control register that is intercepted.
    Cr(CrAccess),
    /// An intercepted exception.
    Exception {
        /// Vector.
        vector: u8,
        /// Error code pushed, where the vector has one.
        code: Option<u32>,
        /// Faulting address for #PF.
        address: u64,
    },
    /// Triple fault.
    Shutdown,
    /// WBINVD or INVD.
    CacheFlush,
    /// XSETBV.
    Xsetbv,
    /// RDTSC or RDTSCP.
    ReadTsc {
        /// RDTSCP.
        with_aux: bool,
    },
    /// PAUSE in a tight loop.
    Pause,
    /// MONITOR or MWAIT: `#UD`, the feature is hidden.
    Monitor,
    /// An instruction of nested virtualisation (VMRUN, CLGI, ...): `#UD`.
    Virtualisation,
    /// INVLPG(A), task switch or other things that are never intercepted on purpose.
    Other(u64),
    /// MOV DRn while the back end does not hold the guest's breakpoint addresses; it sees to that itself.
    DebugRegister,
    /// The control structure was refused by the processor.
    Invalid,
    /// The processor has put its own state where the guest's belongs: the guest cannot go on.
    HostState,
}

/// An I/O-port access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoAccess {
    /// Port number.
    pub port: u16,
    /// Operand size: 1, 2 or 4.
    pub size: u8,
    /// IN (guest reads).
    pub input: bool,
    /// INS/OUTS.
    pub string: bool,
    /// REP prefix.
    pub rep: bool,
    /// RIP after the instruction.
    pub next_rip: u64,
}

/// How memory was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Data read.
    Read,
    /// Data write.
    Write,
    /// Instruction fetch.
    Execute,
}

/// A nested page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedFault {
    /// Guest-physical address.
    pub gpa: Gpa,
    /// How it was touched.
    pub access: Access,
    /// The translation was present but lacked a right.
    pub present: bool,
    /// The fault hit while the processor walked the guest's own page table.
    pub table_walk: bool,
}

/// MOV CRn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrAccess {
    /// Control register number.
    pub number: u8,
    /// MOV to CR.
    pub write: bool,
    /// General register, where the processor tells it.
    pub gpr: Option<Gpr>,
}

/// Kind of an injected event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// External interrupt.
    Interrupt,
    /// NMI.
    Nmi,
    /// Exception.
    Exception,
    /// INT n.
    Software,
}

/// An event delivered through the guest's IDT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Kind.
    pub kind: EventKind,
    /// Vector.
    pub vector: u8,
    /// Error code to push.
    pub code: Option<u32>,
}

impl Event {
    /// External interrupt with this vector.
    pub const fn interrupt(vector: u8) -> Event {
        Event { kind: EventKind::Interrupt, vector, code: None }
    }
    /// Exception with or without error code.
    pub const fn exception(vector: u8, code: Option<u32>) -> Event {
        Event { kind: EventKind::Exception, vector, code }
    }
    /// `#UD`.
    pub const UNDEFINED: Event = Event::exception(6, None);
    /// `#GP(0)`.
    pub const PROTECTION: Event = Event::exception(13, Some(0));
    /// NMI.
    pub const NMI: Event = Event { kind: EventKind::Nmi, vector: 2, code: None };
}
