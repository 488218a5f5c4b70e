//! Start of the guest and the bounds of its image.

use crate::{console, cpu, event, memory, time, trap};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use xen_abi::start_info::{HvmStartInfo, SIF_INITDOMAIN, XEN_HVM_START_MAGIC_VALUE};

core::arch::global_asm!(include_str!("boot.s"), options(att_syntax));

unsafe extern "C" {
    static image_start: u8;
    static data_start: u8;
    static data_end: u8;
    static bss_start: u8;
    static data_copy: u8;
    static image_end: u8;
    fn entry32();
    fn entry_flat32();
    fn entry_pae32();
    fn entry_serve32();
    fn entry_real16();
    fn entry_compat();
    fn entry_halt();
    fn entry_count();
    fn entry_triple_fault();
}

unsafe extern "Rust" {
    /// What the binary does, given its command line. The machine is powered off when it returns.
    safe fn guest_main(command_line: &str);
}

/// Bytes a command line may have.
const COMMAND_LINE_LEN: usize = 1024;

static IS_DOM0: AtomicBool = AtomicBool::new(false);
static MAGIC: AtomicU32 = AtomicU32::new(0);

/// Whether this is dom0.
pub fn is_dom0() -> bool {
    IS_DOM0.load(Ordering::Relaxed)
}

/// Magic number of the start information this guest was given.
pub fn start_magic() -> u32 {
    MAGIC.load(Ordering::Relaxed)
}

/// The image's bounds in guest physical memory (all symbols are linked at their physical address).
pub struct Image {
    /// First byte.
    pub start: u64,
    /// Start of the data section, which changes as the guest runs.
    pub data: u64,
    /// Where an untouched copy of the data section is.
    pub data_copy: u64,
    /// End of what the file holds; from here to `end` all is zero at the start.
    pub file_end: u64,
    /// End of the image in memory.
    pub end: u64,
    /// 32-bit entry point.
    pub entry: u64,
}

/// Where this image is.
pub fn image() -> Image {
    Image {
        start: (&raw const image_start) as u64,
        data: (&raw const data_start) as u64,
        data_copy: (&raw const data_copy) as u64,
        file_end: (&raw const data_end) as u64,
        end: (&raw const image_end) as u64,
        entry: entry32 as *const () as u64,
    }
}

/// Other entry points of the image, for children.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Makes 32-bit calls without paging; [`mailbox::DATA`](crate::mailbox::DATA) has the results.
    Flat32,
    /// The same with PAE paging.
    Pae32,
    /// The same in the compatibility mode of 64-bit mode.
    Compat,
    /// Makes hypercalls from 32-bit mode without paging (stock Xen cannot follow PAE tables that QEMU marked), as the mailbox asks.
    Serve32,
    /// Makes a hypercall from real mode, and shuts down with reason 1 if it succeeds.
    Real16,
    /// Halts with interrupts off.
    Halt,
    /// Counts in a 32-bit word at [`mailbox::DATA`](crate::mailbox::DATA) for ever.
    Count,
    /// Ends in a triple fault.
    TripleFault,
}

impl Entry {
    /// Its address.
    pub fn address(self) -> u64 {
        let entry = match self {
            Self::Flat32 => entry_flat32,
            Self::Pae32 => entry_pae32,
            Self::Compat => entry_compat,
            Self::Serve32 => entry_serve32,
            Self::Real16 => entry_real16,
            Self::Halt => entry_halt,
            Self::Count => entry_count,
            Self::TripleFault => entry_triple_fault,
        };
        entry as *const () as u64
    }
}

/// Start of the zeroed part of the image.
pub fn bss() -> u64 {
    (&raw const bss_start) as u64
}

/// Called by the entry code with the physical address of the start information.
#[unsafe(no_mangle)]
extern "C" fn harness_start(start_info: u64) -> ! {
    // SAFETY: the loader left a start information structure there; all memory below 8 GiB is mapped 1:1.
    let info = unsafe { (start_info as *const HvmStartInfo).read_unaligned() };
    MAGIC.store(info.magic, Ordering::Relaxed);
    let mut buffer = [0_u8; COMMAND_LINE_LEN];
    let mut len = 0;
    if info.magic == XEN_HVM_START_MAGIC_VALUE {
        IS_DOM0.store(info.flags & SIF_INITDOMAIN != 0, Ordering::Relaxed);
        while info.cmdline_paddr != 0 && len < COMMAND_LINE_LEN {
            // SAFETY: the command line is a NUL-terminated string in RAM.
            let byte = unsafe { ((info.cmdline_paddr + len as u64) as *const u8).read() };
            if byte == 0 {
                break;
            }
            buffer[len] = byte;
            len += 1;
        }
    }
    trap::init();
    cpu::init();
    memory::init();
    console::init();
    event::init();
    time::init();
    guest_main(core::str::from_utf8(&buffer[..len]).unwrap_or_default());
    console::drain();
    if is_dom0() {
        // ACPI power-off of the emulated machine (q35): PM1a control, sleep enable, type 0.
        let _ = trap::catch(|| cpu::out16(0x604, 0x2000));
    }
    crate::hypercall::shutdown(xen_abi::sched::SHUTDOWN_POWEROFF);
    loop {
        cpu::halt();
    }
}
