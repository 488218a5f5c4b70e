//! The local APIC of each CPU, in x2APIC mode where the processor has it, else memory-mapped.

#[cfg(target_os = "none")]
pub use imp::{
    clear_error, eoi, id, init_this_cpu, send_init, send_ipi, send_nmi, send_startup, without_x2apic, x2apic,
};
#[cfg(target_os = "none")]
pub(crate) use imp::{set_timer, start_timer_count, timer_count, use_tsc_deadline};

#[cfg(not(target_os = "none"))]
pub use sim::{clear_error, eoi, id, init_this_cpu, send_init, send_ipi, send_nmi, send_startup, x2apic};

#[cfg(target_os = "none")]
mod imp {
    use crate::irq::{VECTOR_ERROR, VECTOR_SPURIOUS, VECTOR_TIMER};
    use crate::{cpuid, mmio::MmioRegion, msr};
    use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
    use radon_addr::Maddr;

    /// Register numbers as in x2APIC; the memory-mapped offset is 16 times that.
    const ID: u32 = 0x02;
    const VERSION: u32 = 0x03;
    const TPR: u32 = 0x08;
    const EOI: u32 = 0x0b;
    const LDR: u32 = 0x0d;
    const SVR: u32 = 0x0f;
    const ESR: u32 = 0x28;
    const ICR: u32 = 0x30;
    const ICR_HIGH: u32 = 0x31;
    const LVT_TIMER: u32 = 0x32;
    const LVT_THERMAL: u32 = 0x33;
    const LVT_PERF: u32 = 0x34;
    const LVT_LINT0: u32 = 0x35;
    const LVT_LINT1: u32 = 0x36;
    const LVT_ERROR: u32 = 0x37;
    const TIMER_INITIAL: u32 = 0x38;
    const TIMER_CURRENT: u32 = 0x39;
    const TIMER_DIVIDE: u32 = 0x3e;

    const BASE_ENABLE: u64 = 1 << 11;
    const BASE_X2APIC: u64 = 1 << 10;
    const SVR_ENABLE: u32 = 1 << 8;
    const LVT_MASKED: u32 = 1 << 16;
    const LVT_NMI: u32 = 4 << 8;
    const LVT_TSC_DEADLINE: u32 = 2 << 17;
    const DIVIDE_BY_1: u32 = 0xb;
    const ICR_PENDING: u32 = 1 << 12;
    const ICR_ASSERT: u32 = 1 << 14;
    const ICR_NMI: u32 = 4 << 8;
    const ICR_INIT: u32 = 5 << 8;
    const ICR_STARTUP: u32 = 6 << 8;

    static X2APIC: AtomicBool = AtomicBool::new(false);
    static UNWANTED: AtomicBool = AtomicBool::new(false);

    /// `x2apic=no`: uses the memory-mapped registers. Before the first [`init_this_cpu`].
    pub fn without_x2apic() {
        UNWANTED.store(true, Relaxed);
    }

    /// Virtual address of the memory-mapped registers.
    static REGISTERS: AtomicU64 = AtomicU64::new(0);

    /// Is the x2APIC mode in use?
    #[inline]
    pub fn x2apic() -> bool {
        X2APIC.load(Relaxed)
    }

    #[inline]
    fn read(register: u32) -> u32 {
        if x2apic() { msr::read(0x800 + register) as u32 } else { region().read32(u64::from(register) << 4) }
    }

    #[inline]
    fn write(register: u32, value: u32) {
        if x2apic() {
            msr::write(0x800 + register, u64::from(value));
        } else {
            region().write32(u64::from(register) << 4, value);
        }
    }

    #[inline]
    fn region() -> MmioRegion {
        MmioRegion::from_va(REGISTERS.load(Relaxed), 0x1000)
    }

    /// Enables the running CPU's local APIC: all sources masked but NMI on LINT1, priority open, spurious vector set.
    pub fn init_this_cpu() {
        let base = msr::read(msr::APIC_BASE);
        if cpuid::leaf(1, 0).ecx >> 21 & 1 != 0 && !UNWANTED.load(Relaxed) {
            // From disabled the way leads through xAPIC mode.
            msr::write(msr::APIC_BASE, base | BASE_ENABLE);
            msr::write(msr::APIC_BASE, base | BASE_ENABLE | BASE_X2APIC);
            X2APIC.store(true, Relaxed);
        } else {
            if base & BASE_X2APIC != 0 {
                // The firmware switched it on; the way back leads through disabled.
                msr::write(msr::APIC_BASE, base & !(BASE_ENABLE | BASE_X2APIC));
            }
            msr::write(msr::APIC_BASE, base & !BASE_X2APIC | BASE_ENABLE);
            if REGISTERS.load(Relaxed) == 0
                && let Some(region) = crate::mmio::map(Maddr::new(base & 0xf_ffff_ffff_f000), 0x1000)
            {
                REGISTERS.store(region.va(), Relaxed);
            }
            // Flat logical model; only physical destinations are used, but some machines want a logical id.
            write(LDR, 1 << 24);
        }
        write(TPR, 0);
        write(SVR, SVR_ENABLE | u32::from(VECTOR_SPURIOUS));
        write(LVT_TIMER, LVT_MASKED | u32::from(VECTOR_TIMER));
        // Not every APIC has the last two; writing a missing one faults in x2APIC mode.
        let last_lvt = read(VERSION) >> 16 & 0xff;
        for (register, needs) in [(LVT_PERF, 4), (LVT_THERMAL, 5)] {
            if last_lvt >= needs {
                write(register, LVT_MASKED);
            }
        }
        write(LVT_LINT0, LVT_MASKED);
        write(LVT_LINT1, LVT_NMI);
        write(LVT_ERROR, u32::from(VECTOR_ERROR));
        clear_error();
        // Whatever the firmware left in service would block lower priorities for ever.
        for _ in 0..8 {
            eoi();
        }
        use_tsc_deadline(crate::time::deadline_mode());
    }

    /// The running CPU's local APIC id.
    pub fn id() -> u32 {
        let raw = read(ID);
        if x2apic() { raw } else { raw >> 24 }
    }

    /// Acknowledges the interrupt in service with the highest priority.
    #[inline]
    pub fn eoi() {
        write(EOI, 0);
    }

    /// Forgets recorded errors.
    pub fn clear_error() {
        write(ESR, 0);
    }

    fn send(apic_id: u32, command: u32) {
        if x2apic() {
            // Unlike the memory-mapped register this MSR does not wait for earlier stores; the receiver must see them.
            core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
            msr::write(0x800 + ICR, u64::from(apic_id) << 32 | u64::from(command));
            return;
        }
        for _ in 0..1_000_000 {
            if read(ICR) & ICR_PENDING == 0 {
                break;
            }
            crate::cpu::pause();
        }
        write(ICR_HIGH, apic_id << 24);
        write(ICR, command);
    }

    /// Sends an interrupt to the CPU with this local APIC id.
    #[inline]
    pub fn send_ipi(apic_id: u32, vector: u8) {
        send(apic_id, ICR_ASSERT | u32::from(vector));
    }

    /// Sends an NMI.
    pub fn send_nmi(apic_id: u32) {
        send(apic_id, ICR_ASSERT | ICR_NMI);
    }

    /// Sends INIT: the CPU waits for a start-up IPI (wait 10 ms before it).
    pub fn send_init(apic_id: u32) {
        send(apic_id, ICR_ASSERT | ICR_INIT);
    }

    /// Sends a start-up IPI: the CPU starts in real mode at `page * 4096` (below 1 MiB).
    pub fn send_startup(apic_id: u32, page: u8) {
        send(apic_id, ICR_ASSERT | ICR_STARTUP | u32::from(page));
    }

    /// Chooses the timer's mode on this CPU.
    pub(crate) fn use_tsc_deadline(yes: bool) {
        write(TIMER_DIVIDE, DIVIDE_BY_1);
        write(TIMER_INITIAL, 0);
        write(LVT_TIMER, u32::from(VECTOR_TIMER) | if yes { LVT_TSC_DEADLINE } else { 0 });
        // The mode must be in force before the MSR is written (Intel SDM vol. 3, 11.5.4.1).
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    }

    /// Arms the timer: a TSC value or a count from now; 0 stops it.
    #[inline]
    pub(crate) fn set_timer(tsc_deadline: bool, value: u64) {
        if tsc_deadline {
            msr::write(msr::TSC_DEADLINE, value);
        } else {
            write(TIMER_INITIAL, value as u32);
        }
    }

    /// Lets the masked timer count down from its maximum, for calibration.
    pub(crate) fn start_timer_count() {
        write(LVT_TIMER, LVT_MASKED | u32::from(VECTOR_TIMER));
        write(TIMER_DIVIDE, DIVIDE_BY_1);
        write(TIMER_INITIAL, u32::MAX);
    }

    /// The timer's present count.
    pub(crate) fn timer_count() -> u32 {
        read(TIMER_CURRENT)
    }
}

#[cfg(not(target_os = "none"))]
mod sim {
    /// No local APIC to set up.
    pub fn init_this_cpu() {}
    /// The CPU's number serves as its id.
    pub fn id() -> u32 {
        crate::cpu::this().raw()
    }
    /// The simulated CPU does not use x2APIC.
    pub fn x2apic() -> bool {
        false
    }
    /// Nothing to acknowledge.
    pub fn eoi() {}
    /// No errors are recorded.
    pub fn clear_error() {}
    /// Goes nowhere; use `sim::raise` on the receiving thread.
    pub fn send_ipi(_apic_id: u32, _vector: u8) {}
    /// Goes nowhere.
    pub fn send_nmi(_apic_id: u32) {}
    /// Goes nowhere.
    pub fn send_init(_apic_id: u32) {}
    /// Goes nowhere.
    pub fn send_startup(_apic_id: u32, _page: u8) {}
}
