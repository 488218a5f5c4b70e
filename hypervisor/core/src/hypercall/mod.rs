//! The hypercall entry: who calls, with which arguments, and what becomes of the answer.
//!
//! # Life of a hypercall
//! The guest's VMMCALL exits; [`dispatch`] reads number and arguments by the caller's width (64-bit: RAX; RDI, RSI, RDX,
//! R10, R8, R9. 32-bit: EAX; EBX, ECX, EDX, ESI, EDI, EBP), calls the handler, and either writes the result to RAX and
//! steps over the instruction, or (long operation interrupted) writes the continued arguments back and leaves RIP on the
//! instruction, so that the guest calls again as soon as interrupts have been served.

use alloc::sync::Arc;
use core::cell::OnceCell;

use radon_addr::{DomId, Gva, Ns};
use radon_cpu::{Event, Gpr, Mode};
use radon_hw::time;
use xen_abi::{Errno, hypercall as nr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub use continuation::Continuation;

use crate::context::Context;
use crate::domain::Domain;
use crate::guest_access::{self, AddressSpace};
use crate::vcpu::Vcpu;
use crate::{domains, exits};

pub mod console_io;
mod continuation;
pub mod event_channel_op;
pub mod grant_table_op;
pub mod hvm_op;
pub mod memory_op;
pub mod multicall;
pub mod physdev_op;
pub mod platform_op;
pub mod sched_op;
pub mod vcpu_op;
pub mod vm_assist;
pub mod xen_version;

/// What a handler answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Answer {
    /// The value for RAX.
    Done(i64),
    /// Call again so: there is more to do.
    Continue(Continuation),
}

/// Result of a handler: an answer, or an errno for RAX.
pub type Reply = Result<Answer, Errno>;

/// Success with value 0.
pub const OK: Reply = Ok(Answer::Done(0));

/// Register width of the caller; structures with pointers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 64-bit caller.
    Long,
    /// 32-bit caller.
    Compat,
}

/// The vCPU that makes a hypercall.
pub struct Caller<'a> {
    /// Its domain.
    pub domain: &'a Arc<Domain>,
    /// Itself.
    pub vcpu: &'a Arc<Vcpu>,
    /// Its registers.
    pub context: &'a mut Context,
    /// Its address space, found out when first needed.
    pub space: OnceCell<AddressSpace>,
    /// Its width.
    pub width: Width,
    /// When the call must give way to interrupts, from its first look at the clock on.
    pub deadline: OnceCell<Ns>,
}

/// How long a hypercall may run before it answers [`Answer::Continue`].
const SLICE_NS: u64 = 1_000_000;

impl Caller<'_> {
    /// The caller's address space.
    pub fn space(&self) -> &AddressSpace {
        self.space.get_or_init(|| AddressSpace::of(self.context))
    }
    /// Reads a structure at a guest-virtual address.
    pub fn read<T: FromBytes + IntoBytes>(&self, at: u64) -> Result<T, Errno> {
        guest_access::read(self.domain, self.space(), Gva::new(at))
    }
    /// Writes a structure at a guest-virtual address.
    pub fn write<T: IntoBytes + Immutable>(&self, at: u64, value: &T) -> Result<(), Errno> {
        guest_access::write(self.domain, self.space(), Gva::new(at), value)
    }
    /// Reads bytes.
    pub fn copy_in(&self, at: u64, buf: &mut [u8]) -> Result<(), Errno> {
        guest_access::copy_in(self.domain, self.space(), Gva::new(at), buf)
    }
    /// Writes bytes.
    pub fn copy_out(&self, at: u64, buf: &[u8]) -> Result<(), Errno> {
        guest_access::copy_out(self.domain, self.space(), Gva::new(at), buf)
    }
    /// Address of element `index` of an array of `T`.
    pub fn element<T>(&self, base: u64, index: u64) -> Result<u64, Errno> {
        let offset = index.checked_mul(size_of::<T>() as u64).ok_or(Errno::EFAULT)?;
        base.checked_add(offset).ok_or(Errno::EFAULT)
    }
    /// `-EPERM` unless the caller is the control domain.
    pub fn require_privilege(&self) -> Result<(), Errno> {
        if self.domain.privileged() { Ok(()) } else { Err(Errno::EPERM) }
    }
    /// The domain an operation names: itself, or (with privilege) any other.
    pub fn target(&self, id: u16) -> Result<Arc<Domain>, Errno> {
        if id == DomId::SELF.raw() || id == self.domain.id.raw() {
            return Ok(self.domain.clone());
        }
        self.require_privilege()?;
        domains::find(DomId::new(id)).ok_or(Errno::ESRCH)
    }
    /// Should a long operation give way now?
    pub fn should_yield(&self) -> bool {
        let now = time::now();
        now >= *self.deadline.get_or_init(|| now.saturating_add(SLICE_NS))
    }
}

/// Entry from the exit handler.
pub fn dispatch(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context) {
    let mode = context.backend.mode();
    if context.backend.cpl() != 0 {
        // As Xen answers. Real mode may call, by linear addresses.
        context.backend.set_gpr(Gpr::Rax, Errno::EPERM.to_ret() as u64);
        exits::advance(domain, vcpu, context, radon_decode::Kind::Vmmcall);
        return;
    }
    let width = if mode == Mode::Long { Width::Long } else { Width::Compat };
    let (number, args) = arguments(context, width);
    let mut caller =
        Caller { domain, vcpu, context, space: OnceCell::new(), width, deadline: OnceCell::new() };
    let reply = call(&mut caller, number, args);
    match reply {
        Ok(Answer::Continue(next)) => set_arguments(context, width, next),
        Ok(Answer::Done(value)) => finish(domain, vcpu, context, width, value),
        Err(e) => finish(domain, vcpu, context, width, e.to_ret()),
    }
}

fn finish(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context, width: Width, value: i64) {
    let rax = if width == Width::Long { value as u64 } else { value as u64 & 0xffff_ffff };
    // Fetch the instruction before RAX changes nothing but RAX: a fault here must not lose the answer.
    context.backend.set_gpr(Gpr::Rax, rax);
    exits::advance(domain, vcpu, context, radon_decode::Kind::Vmmcall);
}

const LONG_ARGS: [Gpr; 6] = [Gpr::Rdi, Gpr::Rsi, Gpr::Rdx, Gpr::R10, Gpr::R8, Gpr::R9];
const COMPAT_ARGS: [Gpr; 6] = [Gpr::Rbx, Gpr::Rcx, Gpr::Rdx, Gpr::Rsi, Gpr::Rdi, Gpr::Rbp];

/// Number and arguments. Every register is named in the source, so that reading it is one load.
fn arguments(context: &Context, width: Width) -> (u64, [u64; 6]) {
    let b = &context.backend;
    let number = b.gpr(Gpr::Rax);
    match width {
        Width::Long => {
            let [a0, a1, a2, a3, a4, a5] = LONG_ARGS;
            (number, [b.gpr(a0), b.gpr(a1), b.gpr(a2), b.gpr(a3), b.gpr(a4), b.gpr(a5)])
        }
        Width::Compat => {
            let [a0, a1, a2, a3, a4, a5] = COMPAT_ARGS;
            let args = [b.gpr(a0), b.gpr(a1), b.gpr(a2), b.gpr(a3), b.gpr(a4), b.gpr(a5)];
            (number & 0xffff_ffff, args.map(|a| a & 0xffff_ffff))
        }
    }
}

fn set_arguments(context: &mut Context, width: Width, next: Continuation) {
    let regs = if width == Width::Long { LONG_ARGS } else { COMPAT_ARGS };
    for (n, value) in next.changes() {
        if let Some(register) = regs.get(n) {
            context.backend.set_gpr(*register, value);
        }
    }
}

/// Calls the handler of one hypercall number. Also used for the entries of a multicall.
pub fn call(caller: &mut Caller<'_>, number: u64, args: [u64; 6]) -> Reply {
    let Ok(number) = u32::try_from(number) else { return Err(Errno::ENOSYS) };
    match number {
        nr::HYPERVISOR_MEMORY_OP => memory_op::call(caller, args),
        nr::HYPERVISOR_MULTICALL => multicall::call(caller, args),
        nr::HYPERVISOR_XEN_VERSION => xen_version::call(caller, args),
        nr::HYPERVISOR_CONSOLE_IO => console_io::call(caller, args),
        nr::HYPERVISOR_GRANT_TABLE_OP => grant_table_op::call(caller, args),
        nr::HYPERVISOR_VM_ASSIST => vm_assist::call(caller, args),
        nr::HYPERVISOR_VCPU_OP => vcpu_op::call(caller, args),
        nr::HYPERVISOR_SCHED_OP => sched_op::call(caller, args),
        nr::HYPERVISOR_EVENT_CHANNEL_OP => event_channel_op::call(caller, args),
        nr::HYPERVISOR_HVM_OP => hvm_op::call(caller, args),
        nr::HYPERVISOR_PHYSDEV_OP => physdev_op::call(caller, args),
        nr::HYPERVISOR_PLATFORM_OP => platform_op::call(caller, args),
        nr::HYPERVISOR_SET_TIMER_OP => vcpu_op::set_timer_op(caller, args),
        nr::HYPERVISOR_DOMCTL => crate::domctl::call(caller, args),
        nr::HYPERVISOR_SYSCTL => crate::sysctl::call(caller, args),
        // No security module, no machine-check injection: the answers that tools and Linux expect of a plain build.
        nr::HYPERVISOR_XSM_OP | nr::HYPERVISOR_MCA => Err(Errno::ENOSYS),
        _ => {
            if caller.domain.log_limit.allow() {
                radon_hw::guest!("{} hypercall {number} is not provided", caller.domain.id);
            }
            Err(Errno::ENOSYS)
        }
    }
}

/// An exception for the caller instead of an answer (kept for operations that may fault it).
pub fn fault(context: &mut Context, event: Event) {
    context.raise(event);
}
