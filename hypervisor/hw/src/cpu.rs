//! Physical CPUs: who am I, how many are there, waiting, features.
#![allow(unsafe_code)] // GS base and halting

use core::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use radon_addr::CpuId;

/// Most CPUs that can be used.
pub const MAX_CPUS: usize = 256;

const NOT_REGISTERED: u32 = u32::MAX;
static APIC_IDS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(NOT_REGISTERED) }; MAX_CPUS];
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Says that this CPU runs the hypervisor and by which local APIC id it is reached. Ids are given out densely from 0.
pub fn register(cpu: CpuId, apic_id: u32) {
    if let Some(slot) = APIC_IDS.get(cpu.index()) {
        slot.store(apic_id, Relaxed);
        COUNT.fetch_max(cpu.raw() + 1, Release);
    }
}

/// How many CPUs are registered, at least one.
#[inline]
pub fn count() -> usize {
    (COUNT.load(Acquire) as usize).max(1)
}

/// The local APIC id of a registered CPU.
#[inline]
pub fn apic_id(cpu: CpuId) -> Option<u32> {
    let id = APIC_IDS.get(cpu.index())?.load(Relaxed);
    (id != NOT_REGISTERED).then_some(id)
}

/// The registered CPU with this local APIC id.
pub fn by_apic_id(apic_id: u32) -> Option<CpuId> {
    (0..count() as u32).map(CpuId::new).find(|&c| self::apic_id(c) == Some(apic_id))
}

/// Tells the processor that this is a wait loop.
#[inline]
pub fn pause() {
    core::hint::spin_loop();
    // The thread that is waited for may need this processor.
    #[cfg(not(target_os = "none"))]
    std::thread::yield_now();
}

/// Writes this CPU's caches back to memory and empties them (WBINVD).
pub fn write_back_caches() {
    #[cfg(target_os = "none")]
    // SAFETY: memory keeps its contents.
    unsafe {
        core::arch::asm!("wbinvd", options(nostack, preserves_flags));
    }
}

pub use imp::{halt_forever, halt_until_interrupt, set_this, this};

#[cfg(target_os = "none")]
mod imp {
    use super::MAX_CPUS;
    use crate::msr;
    use core::arch::asm;
    use radon_addr::CpuId;

    /// What GS points to; the entry code knows only that the CPU's id is the first word.
    #[repr(C, align(64))]
    struct Block {
        cpu: u32,
    }
    static BLOCKS: [Block; MAX_CPUS] = {
        let mut blocks = [const { Block { cpu: 0 } }; MAX_CPUS];
        let mut i = 0;
        while i < MAX_CPUS {
            blocks[i].cpu = i as u32;
            i += 1;
        }
        blocks
    };

    /// Makes the running CPU be `cpu`. The first thing every CPU does.
    pub fn set_this(cpu: CpuId) {
        let block = BLOCKS.get(cpu.index()).unwrap_or(&BLOCKS[0]);
        msr::write(msr::GS_BASE, &raw const *block as u64);
    }

    /// The running CPU.
    #[inline(always)]
    pub fn this() -> CpuId {
        let id: u32;
        // SAFETY: GS points to this CPU's block since `set_this`; guests' GS is put away by `svm::run`.
        unsafe { asm!("mov {:e}, gs:[0]", out(reg) id, options(nostack, preserves_flags, pure, readonly)) };
        CpuId::new(id)
    }

    /// Sleeps until an interrupt has been handled. One that became pending before is not lost: STI takes effect
    /// after HLT has started.
    #[inline]
    pub fn halt_until_interrupt() {
        // SAFETY: the IDT's external vectors go to `irq::dispatch`, whose handlers touch only atomics.
        unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
    }

    /// Stops this CPU for good.
    pub fn halt_forever() -> ! {
        loop {
            // SAFETY: stopping is always allowed.
            unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
        }
    }
}

#[cfg(not(target_os = "none"))]
mod imp {
    use crate::sim::thread::with;
    use radon_addr::CpuId;

    /// Makes the running thread be `cpu`.
    pub fn set_this(cpu: CpuId) {
        crate::sim::set_this(cpu);
    }
    /// The simulated CPU that the running thread is.
    pub fn this() -> CpuId {
        CpuId::new(with(|t| t.cpu.get()))
    }
    /// Delivers what is pending.
    pub fn halt_until_interrupt() {
        crate::irq::window();
    }
    /// Ends the simulated machine.
    pub fn halt_forever() -> ! {
        panic!("CPU halted")
    }
}

/// Facts about the processor that the hypervisor itself depends on (CPUID leaf and bit beside each).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// 8000_0001.ECX[2]
    pub svm: bool,
    /// 8000_000A.EDX[0] nested paging
    pub npt: bool,
    /// 8000_000A.EDX[3] next RIP saved
    pub nrips: bool,
    /// 8000_000A.EDX[5] VMCB clean bits
    pub vmcb_clean: bool,
    /// 8000_000A.EDX[6] flush by ASID
    pub flush_by_asid: bool,
    /// 8000_000A.EDX[7] decode assists
    pub decode_assists: bool,
    /// 8000_000A.EBX number of address space ids
    pub asids: u32,
    /// 1.ECX[26]
    pub xsave: bool,
    /// 1.ECX[21]
    pub x2apic: bool,
    /// 1.ECX[24]
    pub tsc_deadline: bool,
    /// 1.ECX[31] there is a hypervisor below us
    pub hypervisor: bool,
    /// 8000_0007.EDX[8]
    pub invariant_tsc: bool,
    /// 8000_0001.EDX[26]
    pub page_1g: bool,
    /// 8000_0001.EDX[27]
    pub rdtscp: bool,
    /// 8000_0021.EAX[8]
    pub automatic_ibrs: bool,
    /// 8000_0008.EAX[7:0] physical address bits
    pub phys_bits: u8,
}

/// Reads the running CPU's features; slow (CPUID may trap), so ask once.
pub fn features() -> Features {
    use crate::cpuid::leaf;
    let bit = |reg: u32, n: u32| reg >> n & 1 != 0;
    let one = leaf(1, 0);
    let max_ext = leaf(0x8000_0000, 0).eax;
    let ext = |n: u32| if n <= max_ext { leaf(n, 0) } else { crate::cpuid::ZERO };
    let (e1, e7, e8, ea, e21) =
        (ext(0x8000_0001), ext(0x8000_0007), ext(0x8000_0008), ext(0x8000_000a), ext(0x8000_0021));
    let svm = bit(e1.ecx, 2);
    let sub = if svm { ea } else { crate::cpuid::ZERO };
    Features {
        svm,
        npt: bit(sub.edx, 0),
        nrips: bit(sub.edx, 3),
        vmcb_clean: bit(sub.edx, 5),
        flush_by_asid: bit(sub.edx, 6),
        decode_assists: bit(sub.edx, 7),
        asids: sub.ebx,
        xsave: bit(one.ecx, 26),
        x2apic: bit(one.ecx, 21),
        tsc_deadline: bit(one.ecx, 24),
        hypervisor: bit(one.ecx, 31),
        invariant_tsc: bit(e7.edx, 8),
        page_1g: bit(e1.edx, 26),
        rdtscp: bit(e1.edx, 27),
        automatic_ibrs: bit(e21.eax, 8),
        phys_bits: if max_ext >= 0x8000_0008 { e8.eax as u8 } else { 36 },
    }
}
