//! Hypercalls: the raw call, and typed ones for what tests use often.

use crate::cpu::INTEL;
use core::arch::asm;
use xen_abi::domctl::{Domctl, XEN_DOMCTL_INTERFACE_VERSION};
use xen_abi::hvm_op::{HVMOP_GET_PARAM, HVMOP_SET_PARAM, HvmParam};
use xen_abi::hypercall::*;
use xen_abi::sched::{SCHEDOP_POLL, SCHEDOP_SHUTDOWN, SCHEDOP_YIELD, SchedPoll, SchedShutdown};
use xen_abi::sysctl::{Sysctl, XEN_SYSCTL_INTERFACE_VERSION};
use xen_abi::xen::DOMID_SELF;
use xen_abi::{Errno, Handle};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// What a hypercall returned: a value, or an error code.
pub type Result<T> = core::result::Result<T, Errno>;

/// The raw hypercall; returns what Xen left in `rax`.
#[inline(always)]
pub fn raw(number: u64, args: [u64; 5]) -> i64 {
    let ret: i64;
    // SAFETY: what Xen writes is what the arguments name; see the crate's documentation.
    unsafe {
        asm!(
            "cmp byte ptr [rip + {intel}], 0",
            "jne 2f",
            "vmmcall",
            "jmp 3f",
            "2: vmcall",
            "3:",
            intel = sym INTEL,
            inout("rax") number => ret,
            inout("rdi") args[0] => _,
            inout("rsi") args[1] => _,
            inout("rdx") args[2] => _,
            inout("r10") args[3] => _,
            inout("r8") args[4] => _,
        );
    }
    ret
}

/// Makes a call with six argument registers; returns the result and what the registers hold afterwards.
pub fn with_registers(number: u64, args: [u64; 6]) -> (i64, [u64; 6]) {
    let ret: i64;
    let mut after = args;
    let [a, b, c, d, e, f] = &mut after;
    // SAFETY: as for `raw`.
    unsafe {
        asm!(
            "cmp byte ptr [rip + {intel}], 0",
            "jne 2f",
            "vmmcall",
            "jmp 3f",
            "2: vmcall",
            "3:",
            intel = sym INTEL,
            inout("rax") number => ret,
            inout("rdi") *a,
            inout("rsi") *b,
            inout("rdx") *c,
            inout("r10") *d,
            inout("r8") *e,
            inout("r9") *f,
        );
    }
    (ret, after)
}

/// A call to a hypercall page: `page` is its address.
pub fn through_page(page: u64, number: u64, args: [u64; 5]) -> i64 {
    let ret: i64;
    // SAFETY: Xen filled the page with code that makes the call with that number and returns.
    unsafe {
        asm!(
            "call {target}",
            target = in(reg) page + 32 * number,
            lateout("rax") ret,
            inout("rdi") args[0] => _,
            inout("rsi") args[1] => _,
            inout("rdx") args[2] => _,
            inout("r10") args[3] => _,
            inout("r8") args[4] => _,
        );
    }
    ret
}

/// Splits a return value.
pub fn check(ret: i64) -> Result<u64> {
    match ret {
        0.. => Ok(ret as u64),
        _ => Err(u16::try_from(-ret).ok().and_then(Errno::from_raw).unwrap_or(Errno::EINVAL)),
    }
}

/// Address of a structure as a hypercall argument.
pub fn address<T>(value: &mut T) -> u64 {
    core::ptr::from_mut(value).expose_provenance() as u64
}

/// A handle to a slice that Xen reads or writes while the borrow lasts.
pub fn handle<T>(values: &mut [T]) -> Handle<T> {
    Handle::new(values.as_mut_ptr().expose_provenance() as u64)
}

fn with<T: FromBytes + IntoBytes + Immutable>(number: u32, command: u32, arg: &mut T) -> Result<u64> {
    check(raw(u64::from(number), [u64::from(command), address(arg), 0, 0, 0]))
}

/// `HYPERVISOR_memory_op`.
pub fn memory_op<T: FromBytes + IntoBytes + Immutable>(command: u32, arg: &mut T) -> Result<u64> {
    with(HYPERVISOR_MEMORY_OP, command, arg)
}

/// `HYPERVISOR_event_channel_op`.
pub fn event_op<T: FromBytes + IntoBytes + Immutable>(command: u32, arg: &mut T) -> Result<u64> {
    with(HYPERVISOR_EVENT_CHANNEL_OP, command, arg)
}

/// `HYPERVISOR_grant_table_op` on one structure.
pub fn grant_op<T: FromBytes + IntoBytes + Immutable>(command: u32, arg: &mut T) -> Result<u64> {
    check(raw(u64::from(HYPERVISOR_GRANT_TABLE_OP), [u64::from(command), address(arg), 1, 0, 0]))
}

/// `HYPERVISOR_vcpu_op`.
pub fn vcpu_op<T: FromBytes + IntoBytes + Immutable>(command: u32, vcpu: u32, arg: &mut T) -> Result<u64> {
    check(raw(u64::from(HYPERVISOR_VCPU_OP), [u64::from(command), u64::from(vcpu), address(arg), 0, 0]))
}

/// `HYPERVISOR_vcpu_op` without argument.
pub fn vcpu_op_plain(command: u32, vcpu: u32) -> Result<u64> {
    check(raw(u64::from(HYPERVISOR_VCPU_OP), [u64::from(command), u64::from(vcpu), 0, 0, 0]))
}

/// `HYPERVISOR_hvm_op`.
pub fn hvm_op<T: FromBytes + IntoBytes + Immutable>(command: u32, arg: &mut T) -> Result<u64> {
    with(HYPERVISOR_HVM_OP, command, arg)
}

/// `HYPERVISOR_sched_op`.
pub fn sched_op<T: FromBytes + IntoBytes + Immutable>(command: u32, arg: &mut T) -> Result<u64> {
    with(HYPERVISOR_SCHED_OP, command, arg)
}

/// `HYPERVISOR_physdev_op`.
pub fn physdev_op<T: FromBytes + IntoBytes + Immutable>(command: u32, arg: &mut T) -> Result<u64> {
    with(HYPERVISOR_PHYSDEV_OP, command, arg)
}

/// `HYPERVISOR_xen_version` that fills a structure.
pub fn xen_version<T: FromBytes + IntoBytes + Immutable>(command: u32, arg: &mut T) -> Result<u64> {
    with(HYPERVISOR_XEN_VERSION, command, arg)
}

/// `HYPERVISOR_xen_version` without argument.
pub fn xen_version_plain(command: u32) -> Result<u64> {
    check(raw(u64::from(HYPERVISOR_XEN_VERSION), [u64::from(command), 0, 0, 0, 0]))
}

/// A domctl: header from `command` and `domain`, `arg` as its payload, in and out.
pub fn domctl<T: FromBytes + IntoBytes + Immutable>(command: u32, domain: u16, arg: &mut T) -> Result<u16> {
    domctl_version(XEN_DOMCTL_INTERFACE_VERSION, command, domain, arg)
}

/// [`domctl`] with an interface version. Returns the domain that Xen wrote back.
pub fn domctl_version<T: FromBytes + IntoBytes + Immutable>(
    interface_version: u32,
    cmd: u32,
    domain: u16,
    arg: &mut T,
) -> Result<u16> {
    let mut op = Domctl { cmd, interface_version, domain, ..Domctl::new_zeroed() };
    op.set_payload(arg);
    let ret = check(raw(u64::from(HYPERVISOR_DOMCTL), [address(&mut op), 0, 0, 0, 0]));
    *arg = op.payload();
    ret.map(|_| op.domain)
}

/// A domctl without payload.
pub fn domctl_plain(command: u32, domain: u16) -> Result<u16> {
    domctl(command, domain, &mut 0_u64)
}

/// A sysctl: `arg` is its payload, in and out.
pub fn sysctl<T: FromBytes + IntoBytes + Immutable>(cmd: u32, arg: &mut T) -> Result<u64> {
    sysctl_version(XEN_SYSCTL_INTERFACE_VERSION, cmd, arg)
}

/// [`sysctl`] with an interface version.
pub fn sysctl_version<T: FromBytes + IntoBytes + Immutable>(
    interface_version: u32,
    cmd: u32,
    arg: &mut T,
) -> Result<u64> {
    let mut op = Sysctl { cmd, interface_version, ..Sysctl::new_zeroed() };
    op.set_payload(arg);
    let ret = check(raw(u64::from(HYPERVISOR_SYSCTL), [address(&mut op), 0, 0, 0, 0]));
    *arg = op.payload();
    ret
}

/// `HVMOP_get_param`.
pub fn get_param(domid: u16, index: u32) -> Result<u64> {
    let mut arg = HvmParam { domid, index, ..HvmParam::new_zeroed() };
    hvm_op(HVMOP_GET_PARAM, &mut arg).map(|_| arg.value)
}

/// `HVMOP_set_param`.
pub fn set_param(domid: u16, index: u32, value: u64) -> Result<u64> {
    hvm_op(HVMOP_SET_PARAM, &mut HvmParam { domid, index, value, ..HvmParam::new_zeroed() })
}

/// [`get_param`] of this domain.
pub fn own_param(index: u32) -> Result<u64> {
    get_param(DOMID_SELF, index)
}

/// `SCHEDOP_shutdown` of this domain.
pub fn shutdown(reason: u32) {
    let _ = sched_op(SCHEDOP_SHUTDOWN, &mut SchedShutdown { reason });
}

/// `SCHEDOP_yield`.
pub fn yield_now() {
    let _ = check(raw(u64::from(HYPERVISOR_SCHED_OP), [u64::from(SCHEDOP_YIELD), 0, 0, 0, 0]));
}

/// `SCHEDOP_poll` for no port: sleeps until the absolute system time.
pub fn sleep_until(timeout: u64) {
    let mut poll = SchedPoll { timeout, ..SchedPoll::new_zeroed() };
    let _ = sched_op(SCHEDOP_POLL, &mut poll);
}
