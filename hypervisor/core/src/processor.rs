//! The processor half of a vCPU, of whichever kind this machine has. The common exit reads a dozen registers: with the kinds
//! told apart by a tag instead of a table of functions, each read is a load in place of a call.

use alloc::boxed::Box;

use radon_addr::Maddr;
use radon_cpu::{Backend, Control, Descriptor, Event, Exit, Gpr, Mode, Segment, SegmentReg};
use radon_svm::SvmVcpu;

/// A [`Backend`] that is one of those this hypervisor knows.
pub enum Processor {
    /// AMD's.
    Svm(SvmVcpu),
    /// Another: that of a test.
    Other(Box<dyn Backend>),
}

impl AsRef<dyn Backend> for Processor {
    fn as_ref(&self) -> &(dyn Backend + 'static) {
        match self {
            Processor::Svm(b) => b,
            Processor::Other(b) => b.as_ref(),
        }
    }
}

impl AsMut<dyn Backend> for Processor {
    fn as_mut(&mut self) -> &mut (dyn Backend + 'static) {
        match self {
            Processor::Svm(b) => b,
            Processor::Other(b) => b.as_mut(),
        }
    }
}

macro_rules! forward {
    (read { $($name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)?;)* }
     write { $($mname:ident($($marg:ident: $mty:ty),*) $(-> $mret:ty)?;)* }) => {
        #[allow(missing_docs, reason = "they are the trait's")]
        impl Processor {
            $(#[inline(always)]
            pub fn $name(&self, $($arg: $ty),*) $(-> $ret)? {
                match self {
                    Processor::Svm(b) => b.$name($($arg),*),
                    Processor::Other(b) => b.$name($($arg),*),
                }
            })*
            $(#[inline(always)]
            pub fn $mname(&mut self, $($marg: $mty),*) $(-> $mret)? {
                match self {
                    Processor::Svm(b) => b.$mname($($marg),*),
                    Processor::Other(b) => b.$mname($($marg),*),
                }
            })*
        }
    };
}

forward! {
    read {
    gpr(r: Gpr) -> u64;
    rip() -> u64;
    rflags() -> u64;
    control(c: Control) -> u64;
    segment(s: SegmentReg) -> Segment;
    descriptor_table(which: Descriptor) -> (u64, u32);
    next_rip() -> Option<u64>;
    fetched_bytes() -> ([u8; 15], usize);
    interrupt_shadow() -> bool;
    injecting() -> bool;
    interrupted_event() -> Option<Event>;
    tsc_offset() -> u64;
    tpr_class() -> u8;
    overhead_pages() -> usize;
    mode() -> Mode;
    cpl() -> u8;
    }
    write {
    run() -> Exit;
    set_gpr(r: Gpr, value: u64);
    set_rip(rip: u64);
    set_rflags(value: u64);
    set_control(c: Control, value: u64);
    set_segment(s: SegmentReg, value: Segment);
    set_descriptor_table(which: Descriptor, base: u64, limit: u32);
    clear_interrupt_shadow();
    inject(event: Event);
    cancel_injection();
    request_interrupt_window(want: bool);
    set_nested_root(root: Maddr);
    flush_tlb();
    set_tsc_offset(offset: u64);
    set_tpr_class(class: u8);
    migrated();
    load();
    unload();
    set_port_maps(io_bitmap: Maddr);
    }
}
