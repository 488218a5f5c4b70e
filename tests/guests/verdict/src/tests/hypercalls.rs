//! The hypercall itself: how it is made, who may, what comes back.

use harness::hypercall::{self, raw};
use harness::memory::{self, Page};
use harness::{Verdict, cpu, ensure, ensure_eq, tests};
use xen_abi::Errno;
use xen_abi::cpuid::XEN_HYPERCALL_MSR;
use xen_abi::features::*;
use xen_abi::hypercall::*;
use xen_abi::version::*;
use xen_abi::xen::MulticallEntry;
use zerocopy::FromZeros;

tests! {
    here: hypercall_unknown_is_enosys, hypercall_pv_only_is_enosys, hypercall_user_mode_is_eperm,
        hypercall_page_works, hypercall_other_instruction, hypercall_number_beyond_32_bits, xen_version_strings,
        xen_version_numbers, xen_version_features, xen_version_bad_pointer_is_efault, xen_version_unknown_is_enosys,
        multicall_results_in_order, multicall_nested_is_refused, multicall_bad_list_is_efault, multicall_failing_entry,
        hypercall_changes_its_own_registers_only;
}

const ENOSYS: i64 = Errno::ENOSYS.to_ret();
const EFAULT: i64 = Errno::EFAULT.to_ret();
/// An address that no page table of the guest maps.
pub const UNMAPPED: u64 = 0x7000_0000_0000;

/// Numbers without a hypercall return -ENOSYS.
fn hypercall_unknown_is_enosys() -> Verdict {
    for number in [11, 43, 47, 56, 63, 64, 100, 0x3fff, 0xffff_ffff] {
        ensure_eq!(raw(number, [1, 2, 3, 4, 5]), ENOSYS, "hypercall {number}");
    }
    Ok(())
}

/// Hypercalls of PV guests return -ENOSYS.
fn hypercall_pv_only_is_enosys() -> Verdict {
    for number in [0, 1, 2, 3, 4, 5, 8, 9, 10, 14, 22, 23, 25] {
        ensure_eq!(raw(number, [0; 5]), ENOSYS, "hypercall {number}");
    }
    Ok(())
}

/// A hypercall from user mode returns -EPERM.
fn hypercall_user_mode_is_eperm() -> Verdict {
    ensure_eq!(cpu::user_hypercall(cpu::is_intel()), Errno::EPERM.to_ret(), "xen_version from user mode");
    Ok(())
}

/// Writing a frame to MSR 0x40000000 fills it with code that makes hypercalls.
fn hypercall_page_works() -> Verdict {
    let page = Page::new();
    harness::trap::catch(|| cpu::wrmsr(XEN_HYPERCALL_MSR, page.at(0)))?;
    let code: u64 = page.get(32 * u64::from(HYPERVISOR_XEN_VERSION));
    ensure!(code != 0, "the page is empty");
    let number = u64::from(HYPERVISOR_XEN_VERSION);
    let through = hypercall::through_page(page.at(0), number, [0; 5]);
    ensure_eq!(through, raw(number, [0; 5]), "xen_version through the page");
    Ok(())
}

/// A call changes only the registers of its own arguments, however long it takes and however often it is interrupted.
fn hypercall_changes_its_own_registers_only() -> Verdict {
    let entry = MulticallEntry {
        op: u64::from(HYPERVISOR_XEN_VERSION),
        args: [0; 6],
        ..MulticallEntry::new_zeroed()
    };
    let mut list = alloc::vec![entry; 8192];
    let args = [hypercall::handle(&mut list).raw(), list.len() as u64, 0x3333, 0x4444, 0x5555, 0x6666];
    let (result, after) = hypercall::with_registers(u64::from(HYPERVISOR_MULTICALL), args);
    ensure_eq!(result, 0, "multicall");
    ensure!(list.iter().all(|e| e.result as i64 > 0), "not all calls were made");
    ensure_eq!(after[2..], args[2..], "registers that hold no argument");
    Ok(())
}

/// The other vendor's instruction raises #UD, or works; it does not harm.
fn hypercall_other_instruction() -> Verdict {
    match harness::trap::catch(|| cpu::user_hypercall(!cpu::is_intel())) {
        Ok(ret) => ensure_eq!(ret, Errno::EPERM.to_ret(), "xen_version from user mode"),
        Err(fault) => ensure_eq!(fault.vector, harness::trap::vector::UD, "{fault}; exception"),
    }
    Ok(())
}

/// In 64-bit mode the number is all of rax.
fn hypercall_number_beyond_32_bits() -> Verdict {
    ensure_eq!(raw(1 << 32 | u64::from(HYPERVISOR_XEN_VERSION), [0; 5]), ENOSYS, "number 0x100000011");
    Ok(())
}

/// Extra version, capabilities, change set, compile information and command line are NUL-terminated strings.
fn xen_version_strings() -> Verdict {
    for (op, len) in [
        (XENVER_EXTRAVERSION, XEN_EXTRAVERSION_LEN),
        (XENVER_CAPABILITIES, XEN_CAPABILITIES_INFO_LEN),
        (XENVER_CHANGESET, XEN_CHANGESET_INFO_LEN),
        (XENVER_COMPILE_INFO, 144),
        (XENVER_COMMANDLINE, XEN_COMMANDLINE_LEN),
    ] {
        let page = Page::new();
        page.fill(u64::from_le_bytes([0xaa; 8]));
        let ret = raw(u64::from(HYPERVISOR_XEN_VERSION), [u64::from(op), page.at(0), 0, 0, 0]);
        ensure!(ret >= 0, "operation {op} returns {ret}");
        ensure!((0..len as u64).any(|at| page.get::<u8>(at) == 0), "operation {op} has no end");
        ensure_eq!(page.get::<u8>(len as u64), 0xaa, "byte behind the result of operation {op}");
    }
    let page = Page::new();
    raw(u64::from(HYPERVISOR_XEN_VERSION), [u64::from(XENVER_CAPABILITIES), page.at(0), 0, 0, 0]);
    let text: alloc::vec::Vec<u8> = (0..1024).map(|at| page.get(at)).take_while(|b| *b != 0).collect();
    ensure!(text.windows(14).any(|w| w == b"hvm-3.0-x86_64"), "capabilities lack hvm-3.0-x86_64");
    Ok(())
}

/// Version is 4.17 on both, page size 4096, and the platform parameters are written.
fn xen_version_numbers() -> Verdict {
    ensure_eq!(hypercall::xen_version_plain(XENVER_VERSION)?, 4 << 16 | 17, "version");
    ensure_eq!(hypercall::xen_version_plain(XENVER_PAGESIZE)?, 4096, "page size");
    let mut parameters = PlatformParameters { virt_start: 1 };
    ensure_eq!(
        hypercall::xen_version(XENVER_PLATFORM_PARAMETERS, &mut parameters)?,
        0,
        "platform parameters"
    );
    ensure!(parameters.virt_start != 1, "nothing was written");
    Ok(())
}

/// Features of a PVH dom0: translated, callback vector, safe PV clock, dom0; the second word is refused or empty.
fn xen_version_features() -> Verdict {
    let mut info = FeatureInfo { submap_idx: 0, submap: 0 };
    hypercall::xen_version(XENVER_GET_FEATURES, &mut info)?;
    let wanted = [
        XENFEAT_AUTO_TRANSLATED_PHYSMAP,
        XENFEAT_HVM_CALLBACK_VECTOR,
        XENFEAT_HVM_SAFE_PVCLOCK,
        XENFEAT_MEMORY_OP_VNODE_SUPPORTED,
        XENFEAT_DOM0,
    ];
    for feature in wanted {
        ensure!(info.submap >> feature & 1 == 1, "no feature {feature} in {:#x}", info.submap);
    }
    let mut second = FeatureInfo { submap_idx: 1, submap: 0 };
    ensure!(
        hypercall::xen_version(XENVER_GET_FEATURES, &mut second) == Err(Errno::EINVAL) || second.submap == 0,
        "word 1 is {:#x}",
        second.submap
    );
    Ok(())
}

/// Writing to an unmapped address returns -EFAULT.
fn xen_version_bad_pointer_is_efault() -> Verdict {
    for op in [XENVER_EXTRAVERSION, XENVER_CAPABILITIES, XENVER_GET_FEATURES] {
        let ret = raw(u64::from(HYPERVISOR_XEN_VERSION), [u64::from(op), UNMAPPED, 0, 0, 0]);
        ensure_eq!(ret, EFAULT, "operation {op}");
    }
    Ok(())
}

/// An unknown sub-operation returns -ENOSYS.
fn xen_version_unknown_is_enosys() -> Verdict {
    ensure_eq!(raw(u64::from(HYPERVISOR_XEN_VERSION), [99, 0, 0, 0, 0]), ENOSYS, "operation 99");
    Ok(())
}

fn entry(op: u32, args: [u64; 6]) -> MulticallEntry {
    MulticallEntry { op: u64::from(op), result: 0xdead, args }
}

fn multicall(list: &mut [MulticallEntry]) -> i64 {
    let at = hypercall::handle(list).raw();
    raw(u64::from(HYPERVISOR_MULTICALL), [at, list.len() as u64, 0, 0, 0])
}

/// A multicall executes its calls in order and stores each result; an unknown one does not stop it.
fn multicall_results_in_order() -> Verdict {
    let version = hypercall::xen_version_plain(XENVER_VERSION)?;
    let mut list = [
        entry(HYPERVISOR_XEN_VERSION, [0; 6]),
        entry(63, [0; 6]),
        entry(HYPERVISOR_XEN_VERSION, [u64::from(XENVER_PAGESIZE), 0, 0, 0, 0, 0]),
    ];
    ensure_eq!(multicall(&mut list), 0, "multicall");
    ensure_eq!(list[0].result, version, "first result");
    ensure_eq!(list[1].result as i64, ENOSYS, "second result");
    ensure_eq!(list[2].result, 4096, "third result");
    Ok(())
}

/// A multicall inside a multicall returns -EINVAL and does nothing.
fn multicall_nested_is_refused() -> Verdict {
    let mut inner = [entry(HYPERVISOR_XEN_VERSION, [0; 6])];
    let at = hypercall::handle(&mut inner).raw();
    let mut outer = [entry(HYPERVISOR_MULTICALL, [at, 1, 0, 0, 0, 0])];
    ensure_eq!(multicall(&mut outer), 0, "outer multicall");
    let result = outer[0].result as i64;
    ensure!(result == Errno::EINVAL.to_ret() || result == ENOSYS, "inner multicall returned {result}");
    ensure_eq!(memory::read::<u64>(at + 8), 0xdead, "result of the inner call");
    Ok(())
}

/// A list at an unmapped address returns -EFAULT; an empty one 0.
fn multicall_bad_list_is_efault() -> Verdict {
    ensure_eq!(raw(u64::from(HYPERVISOR_MULTICALL), [UNMAPPED, 1, 0, 0, 0]), EFAULT, "unmapped list");
    ensure_eq!(raw(u64::from(HYPERVISOR_MULTICALL), [UNMAPPED, 0, 0, 0, 0]), 0, "empty list");
    Ok(())
}

/// An entry with a bad pointer gets -EFAULT as its result; the others are executed.
fn multicall_failing_entry() -> Verdict {
    let mut info = FeatureInfo::new_zeroed();
    let mut list = [
        entry(HYPERVISOR_XEN_VERSION, [u64::from(XENVER_CAPABILITIES), UNMAPPED, 0, 0, 0, 0]),
        entry(
            HYPERVISOR_XEN_VERSION,
            [u64::from(XENVER_GET_FEATURES), hypercall::address(&mut info), 0, 0, 0, 0],
        ),
    ];
    ensure_eq!(multicall(&mut list), 0, "multicall");
    ensure_eq!((list[0].result as i64, list[1].result), (EFAULT, 0), "results");
    ensure!(info.submap != 0, "the second call was not made");
    Ok(())
}
