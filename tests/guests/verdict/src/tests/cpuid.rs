//! Xen's CPUID leaves.

use harness::{Verdict, boot, cpu, ensure, ensure_eq, hypercall, tests};
use xen_abi::cpuid::*;
use xen_abi::version::XENVER_VERSION;

tests! {
    here: cpuid_signature, cpuid_version_equals_xen_version, cpuid_scan_finds_xen_once, cpuid_hypercall_msr,
        cpuid_hvm_features, cpuid_basic_leaves_sane, cpuid_hypervisor_bit, cpuid_above_maximum_is_harmless,
        start_information_magic;
    child: cpuid_domain_id_in_child, cpuid_topology_in_child;
    child_smp: cpuid_vcpu_id;
}

const FIRST: u32 = XEN_CPUID_FIRST_LEAF;

/// Leaf 0 has the signature "XenVMMXenVMM" and a highest leaf of at least 4.
fn cpuid_signature() -> Verdict {
    let [max, b, c, d] = cpu::cpuid(FIRST, 0);
    ensure_eq!(
        (b, c, d),
        (XEN_CPUID_SIGNATURE_EBX, XEN_CPUID_SIGNATURE_ECX, XEN_CPUID_SIGNATURE_EDX),
        "signature"
    );
    ensure!((FIRST + 4..=FIRST + XEN_CPUID_MAX_NUM_LEAVES).contains(&max), "highest leaf {max:#x}");
    Ok(())
}

/// Leaf 1 is the version that `XENVER_version` returns.
fn cpuid_version_equals_xen_version() -> Verdict {
    let version = hypercall::xen_version_plain(XENVER_VERSION)?;
    ensure_eq!(u64::from(cpu::cpuid(FIRST + 1, 0)[0]), version, "leaf 1");
    ensure_eq!(version >> 16, 4, "major version");
    Ok(())
}

/// A guest that looks for hypervisors from 0x40000000 in steps of 0x100 finds Xen, and finds it once.
fn cpuid_scan_finds_xen_once() -> Verdict {
    let found = (0..0x100_u32).map(|n| FIRST + 0x100 * n).filter(|leaf| {
        let [_, b, c, d] = cpu::cpuid(*leaf, 0);
        (b, c, d) == (XEN_CPUID_SIGNATURE_EBX, XEN_CPUID_SIGNATURE_ECX, XEN_CPUID_SIGNATURE_EDX)
    });
    ensure_eq!(found.count(), 1, "leaves with Xen's signature");
    Ok(())
}

/// Leaf 2: one hypercall page, placed through MSR 0x40000000.
fn cpuid_hypercall_msr() -> Verdict {
    let [pages, msr, ..] = cpu::cpuid(FIRST + 2, 0);
    ensure_eq!((pages, msr), (1, XEN_HYPERCALL_MSR), "pages, MSR");
    Ok(())
}

/// Leaf 4: vCPU id, domain id and upcall vector are announced, and right for dom0's first vCPU.
fn cpuid_hvm_features() -> Verdict {
    let [features, vcpu, domain, _] = cpu::cpuid(FIRST + 4, 0);
    let wanted = XEN_HVM_CPUID_VCPU_ID_PRESENT | XEN_HVM_CPUID_DOMID_PRESENT | XEN_HVM_CPUID_UPCALL_VECTOR;
    ensure_eq!(features & wanted, wanted, "features");
    ensure_eq!(vcpu, 0, "vCPU id");
    ensure!(!boot::is_dom0() || domain == 0, "domain id {domain}");
    Ok(())
}

/// The vendor is the machine's, and the leaves a kernel needs are there: long mode, APIC, MSRs, PAE.
fn cpuid_basic_leaves_sane() -> Verdict {
    let [max, ..] = cpu::cpuid(0, 0);
    ensure!(max >= 7, "highest basic leaf {max:#x}");
    let edx = cpu::cpuid(1, 0)[3];
    for (name, bit) in [("TSC", 4), ("MSR", 5), ("PAE", 6), ("CX8", 8), ("APIC", 9), ("SSE2", 26)] {
        ensure!(edx >> bit & 1 == 1, "no {name} in leaf 1");
    }
    ensure!(cpu::cpuid(0x8000_0000, 0)[0] >= 0x8000_0008, "no extended leaves");
    ensure!(cpu::cpuid(0x8000_0001, 0)[3] >> 29 & 1 == 1, "no long mode");
    let bits = cpu::cpuid(0x8000_0008, 0)[0];
    ensure!((32..=52).contains(&(bits & 0xff)), "physical address width {}", bits & 0xff);
    Ok(())
}

/// Leaf 1 says that there is a hypervisor, and that the APIC can do x2APIC.
fn cpuid_hypervisor_bit() -> Verdict {
    let ecx = cpu::cpuid(1, 0)[2];
    ensure!(ecx >> 31 & 1 == 1, "hypervisor bit is clear");
    ensure!(ecx >> 21 & 1 == 1, "x2APIC bit is clear");
    Ok(())
}

/// Leaves beyond the highest answer zeros or the data of the highest, and do not fault.
fn cpuid_above_maximum_is_harmless() -> Verdict {
    for leaf in [0x1000, 0x3fff_ffff, 0x4000_00ff, 0x4fff_ffff, 0x8000_ffff, 0xc000_0000, u32::MAX] {
        ensure!(cpu::cpuid(leaf, 0) == [0; 4] || leaf == 0x1000, "leaf {leaf:#x} is not zero");
    }
    Ok(())
}

/// The start information has its magic number.
fn start_information_magic() -> Verdict {
    ensure_eq!(boot::start_magic(), xen_abi::start_info::XEN_HVM_START_MAGIC_VALUE, "magic");
    Ok(())
}

/// A child's leaf 4 tells its domain id, which is not 0.
fn cpuid_domain_id_in_child() -> Verdict {
    let domain = cpu::cpuid(FIRST + 4, 0)[2];
    ensure!((1..0x7ff0).contains(&domain), "domain id {domain}");
    Ok(())
}

/// APIC id in leaf 1 is the one in the APIC.
fn cpuid_topology_in_child() -> Verdict {
    let id = harness::apic::get(harness::apic::register::ID) >> 24;
    ensure_eq!(harness::apic::initial_id(), id, "initial APIC id");
    Ok(())
}

/// The second vCPU reads vCPU id 1 in leaf 4 and an APIC id of its own.
fn cpuid_vcpu_id() -> Verdict {
    use core::sync::atomic::{AtomicU32, Ordering};
    static SEEN: [AtomicU32; 2] = [const { AtomicU32::new(u32::MAX) }; 2];
    harness::smp::prepare(|| {
        SEEN[1].store(harness::apic::initial_id(), Ordering::SeqCst);
        SEEN[0].store(harness::smp::vcpu_id(), Ordering::SeqCst);
    });
    ensure!(harness::smp::start_by_apic(2), "the second vCPU did not start");
    ensure!(
        harness::time::wait(2000, || SEEN[0].load(Ordering::SeqCst) != u32::MAX),
        "the second vCPU does not run"
    );
    ensure_eq!(SEEN[0].load(Ordering::SeqCst), 1, "vCPU id");
    ensure_eq!(SEEN[1].load(Ordering::SeqCst), 2, "APIC id");
    Ok(())
}
