//! What the hypervisor asks of a processor that can run guests: the [`Backend`] trait, implemented by `radon-svm`
//! (AMD) and, later, by a VMX back end.
//!
//! A `Backend` is the processor-facing half of one vCPU: its register state and the control structure. It knows
//! nothing of domains. It is used only by the pCPU that holds the vCPU's context lock.
#![no_std]
#![forbid(unsafe_code)]

mod exit;
mod state;

pub use exit::{Access, CrAccess, Event, EventKind, Exit, IoAccess, NestedFault};
pub use state::{Control, Descriptor, Gpr, Mode, Segment, SegmentReg};

use radon_addr::Maddr;

/// Bits of RFLAGS that the hypervisor looks at (APM vol. 2, 3.1.6).
pub mod rflags {
    /// Interrupts enabled.
    pub const IF: u64 = 1 << 9;
    /// Trap flag (single step).
    pub const TF: u64 = 1 << 8;
    /// Resume flag.
    pub const RF: u64 = 1 << 16;
    /// Virtual-8086 mode.
    pub const VM: u64 = 1 << 17;
    /// Always one.
    pub const FIXED: u64 = 2;
}

/// The processor half of one vCPU.
pub trait Backend: Send {
    /// Runs the guest until it exits.
    fn run(&mut self) -> Exit;
    /// A general register by its x86 encoding.
    fn gpr(&self, r: Gpr) -> u64;
    /// Sets a general register.
    fn set_gpr(&mut self, r: Gpr, value: u64);
    /// Instruction pointer.
    fn rip(&self) -> u64;
    /// Sets the instruction pointer.
    fn set_rip(&mut self, rip: u64);
    /// Flags.
    fn rflags(&self) -> u64;
    /// Sets flags.
    fn set_rflags(&mut self, value: u64);
    /// A control register, EFER, PAT, debug register or system-call MSR.
    fn control(&self, c: Control) -> u64;
    /// Sets one of [`Control`].
    fn set_control(&mut self, c: Control, value: u64);
    /// A segment register with its hidden part.
    fn segment(&self, s: SegmentReg) -> Segment;
    /// Sets a segment register with its hidden part.
    fn set_segment(&mut self, s: SegmentReg, value: Segment);
    /// Base and limit of GDT or IDT.
    fn descriptor_table(&self, which: Descriptor) -> (u64, u32);
    /// Sets base and limit of GDT or IDT.
    fn set_descriptor_table(&mut self, which: Descriptor, base: u64, limit: u32);
    /// The address of the instruction after the one that caused the exit, where the processor tells.
    fn next_rip(&self) -> Option<u64>;
    /// Instruction bytes delivered with the exit, where the processor tells (may be empty).
    fn fetched_bytes(&self) -> ([u8; 15], usize);
    /// True while the instruction after STI or MOV SS still blocks interrupts.
    fn interrupt_shadow(&self) -> bool;
    /// Ends the interrupt shadow (an emulated instruction has retired).
    fn clear_interrupt_shadow(&mut self);
    /// Event to be delivered at the next entry.
    fn inject(&mut self, event: Event);
    /// Takes back an event that is queued for the next entry.
    fn cancel_injection(&mut self);
    /// True when an event is already queued for the next entry.
    fn injecting(&self) -> bool;
    /// Event whose delivery the exit interrupted; it must be delivered again.
    fn interrupted_event(&self) -> Option<Event>;
    /// Asks for an exit as soon as the guest can take an interrupt (`true`), or takes the request back.
    fn request_interrupt_window(&mut self, want: bool);
    /// Root of the nested page table and the flush generation. A new generation makes the next entry flush.
    fn set_nested_root(&mut self, root: Maddr);
    /// All cached translations of this vCPU are stale from the next entry on.
    fn flush_tlb(&mut self);
    /// Guest TSC = machine TSC + offset.
    fn set_tsc_offset(&mut self, offset: u64);
    /// The TSC offset in force.
    fn tsc_offset(&self) -> u64;
    /// Virtual task priority (CR8), bits 0-3.
    fn set_tpr_class(&mut self, class: u8);
    /// The guest's CR8.
    fn tpr_class(&self) -> u8;
    /// This vCPU is about to run on another pCPU (or for the first time).
    fn migrated(&mut self);
    /// Its turn on this pCPU begins: state that the guest uses without an exit must be in the processor.
    fn load(&mut self) {}
    /// Its turn ends: what is only in the processor must be kept, as another vCPU may come next.
    fn unload(&mut self) {}
    /// Lets the guest reach an I/O port without an exit (hardware domain only).
    fn set_port_maps(&mut self, io_bitmap: Maddr);
    /// Frames held by this back end, for the memory accounting.
    fn overhead_pages(&self) -> usize;
    /// Operating mode of the guest now.
    fn mode(&self) -> Mode {
        let cs = self.segment(SegmentReg::Cs);
        if self.control(Control::Cr0) & 1 == 0 {
            Mode::Real
        } else if self.control(Control::Efer) & (1 << 10) != 0 && cs.long() {
            Mode::Long
        } else if cs.default_32() {
            Mode::Protected32
        } else {
            Mode::Protected16
        }
    }
    /// Current privilege level.
    fn cpl(&self) -> u8 {
        self.segment(SegmentReg::Ss).dpl()
    }
}
