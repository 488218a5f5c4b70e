//! Interrupts from CPU to CPU.

use radon_addr::CpuId;

/// Makes a CPU leave guest mode, or wake up if it sleeps. Kicking oneself makes the next entry exit at once.
#[inline]
pub fn kick(cpu: CpuId) {
    #[cfg(target_os = "none")]
    if let Some(id) = crate::cpu::apic_id(cpu) {
        crate::apic::send_ipi(id, crate::irq::VECTOR_KICK);
    }
    #[cfg(not(target_os = "none"))]
    crate::sim::kick(cpu);
}

/// Sends an NMI to every other registered CPU (the image's NMI handler halts when the machine is crashing).
pub fn nmi_others() {
    let me = crate::cpu::this();
    for cpu in (0..crate::cpu::count() as u32).map(CpuId::new).filter(|&c| c != me) {
        if let Some(id) = crate::cpu::apic_id(cpu) {
            crate::apic::send_nmi(id);
        }
    }
}
