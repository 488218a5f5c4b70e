//! The part of a vCPU that belongs to the pCPU which runs it: processor state, pending injections, MSRs that are not
//! in the control structure, and the translation memo used to read instructions.

use alloc::boxed::Box;

use radon_addr::{Maddr, Mfn, Ns};
use radon_cpu::Event;
use radon_frames::frames;
use radon_hw::fpu::FpuState;

use crate::processor::Processor;

/// Frames of the hypervisor's heap, freed when dropped.
pub struct OwnedFrames {
    first: Mfn,
    order: u8,
}

impl OwnedFrames {
    /// `2^order` frames from `first` on, allocated as one block.
    pub fn new(first: Mfn, order: u8) -> OwnedFrames {
        OwnedFrames { first, order }
    }
}

impl Drop for OwnedFrames {
    fn drop(&mut self) {
        let freed = frames().free(self.first, self.order);
        debug_assert!(freed.is_ok(), "{:?} was not ours", self.first);
    }
}

/// Register state of one vCPU.
pub struct Context {
    /// The processor half.
    pub backend: Processor,
    /// The frame of its control structure; dropped after the back end.
    pub control_frame: OwnedFrames,
    /// Extended state (x87, SSE, AVX).
    pub fpu: Box<FpuState>,
    /// XCR0 as the guest set it.
    pub xcr0: u64,
    /// Event to deliver at the next entry, before any interrupt.
    pub pending: Option<Event>,
    /// `SCHEDOP_block`: wait for any event, deliverable or not, then go on.
    pub blocking: bool,
    /// Nothing was waiting for delivery when the last entry was prepared.
    pub settled: bool,
    /// In HLT: only a deliverable interrupt makes it run on.
    pub halted: bool,
    /// MSRs kept in software.
    pub msrs: Msrs,
    /// Memo for instruction fetches.
    pub fetch: FetchMemo,
    /// Generation of the domain's p2m this vCPU has flushed to.
    pub tlb_generation: u64,
    /// Where the guest was initialised; a vCPU that was never initialised cannot be brought up.
    pub initialised: bool,
    /// Has been on a pCPU.
    pub loaded_before: bool,
    /// System time at which the clock record in vcpu_info was last written.
    pub clock_written: Option<Ns>,
}

/// Guest MSRs with no home in the control structure.
#[derive(Clone, Debug)]
pub struct Msrs {
    /// MTRRdefType, fixed ranges (11) and variable ranges (8 pairs).
    pub mtrr_def_type: u64,
    /// MTRRfix64K, fix16K (2), fix4K (8).
    pub mtrr_fixed: [u64; 11],
    /// Base and mask of the variable ranges.
    pub mtrr_variable: [u64; 16],
    /// TSC_AUX.
    pub tsc_aux: u64,
    /// MISC_ENABLE.
    pub misc_enable: u64,
    /// MCG_STATUS.
    pub mcg_status: u64,
    /// XSS.
    pub xss: u64,
}

impl Default for Msrs {
    fn default() -> Self {
        Msrs {
            // Enabled, default type write-back: what a PVH guest expects of its start.
            mtrr_def_type: 0xc06,
            mtrr_fixed: [0x0606_0606_0606_0606; 11],
            mtrr_variable: [0; 16],
            tsc_aux: 0,
            misc_enable: 0,
            mcg_status: 0,
            xss: 0,
        }
    }
}

/// Last page from which an instruction was fetched. It is only a hint: the bytes read through it must be the
/// instruction that the exit reported, and it dies with the address space and with any p2m change.
#[derive(Clone, Copy, Debug, Default)]
pub struct FetchMemo {
    /// Guest CR3 it belongs to.
    pub cr3: u64,
    /// Linear page number.
    pub page: u64,
    /// p2m generation.
    pub generation: u64,
    /// Machine address of the page.
    pub maddr: Option<Maddr>,
}

impl Context {
    /// Queues a fault or trap for delivery. A second exception while one is pending becomes a double fault, a third a
    /// shutdown, as on the processor (APM vol. 2, 8.2.9); benign pairs are simplified to the newer one.
    pub fn raise(&mut self, event: Event) {
        use radon_cpu::EventKind::Exception;
        let contributory = |v: u8| matches!(v, 0 | 10..=13 | 14);
        self.pending = match self.pending {
            Some(old)
                if old.kind == Exception
                    && event.kind == Exception
                    && contributory(old.vector)
                    && contributory(event.vector) =>
            {
                Some(Event::exception(8, Some(0)))
            }
            _ => Some(event),
        };
    }
}
