//! The one way to read and write guest memory: by the calling vCPU's virtual addresses, or by guest-physical address.
//!
//! Every access translates, checks the p2m kind and copies while holding the p2m's read lock, so a frame cannot be
//! taken away in the middle. Each datum is fetched once: callers work on the copy.

use radon_addr::{Gpa, Gva, Maddr, PAGE_SIZE};
use radon_cpu::{Control, Mode};
use radon_hw::mem;
use radon_p2m::Reader;
use radon_p2m::guest_walk::{self, Access, Registers};
use xen_abi::Errno;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::context::Context;
use crate::domain::Domain;

/// The caller's address space, as of this exit.
#[derive(Clone, Copy)]
pub struct AddressSpace {
    registers: Registers,
    long: bool,
    user: bool,
}

impl AddressSpace {
    /// Of the vCPU whose context this is.
    pub fn of(context: &Context) -> AddressSpace {
        let b = &context.backend;
        AddressSpace {
            registers: Registers {
                cr0: b.control(Control::Cr0),
                cr3: b.control(Control::Cr3),
                cr4: b.control(Control::Cr4),
                efer: b.control(Control::Efer),
            },
            long: b.mode() == Mode::Long,
            user: b.cpl() == 3,
        }
    }

    /// 64-bit caller?
    pub fn is_long(&self) -> bool {
        self.long
    }
}

/// Machine address of a guest-physical one.
#[inline]
fn machine(p2m: &mut Reader<'_>, gpa: Gpa, write: bool) -> Option<Maddr> {
    let entry = p2m.lookup(gpa.gfn())?;
    let ok = if write { entry.kind.is_writable_ram() } else { entry.kind.is_ram() };
    ok.then(|| Maddr::new(entry.mfn.maddr().raw() | gpa.offset() as u64))
}

/// Guest-physical address of a virtual one.
#[inline]
fn physical(p2m: &mut Reader<'_>, space: &AddressSpace, gva: Gva, access: Access) -> Option<Gpa> {
    let read = |gpa: Gpa| machine(p2m, gpa, false).map(mem::read::<u64>);
    guest_walk::translate(&space.registers, gva, access, read).ok().map(|t| t.gpa)
}

/// Calls `each(machine address, offset in the buffer, length)` for every page-bounded piece of `[gva, gva + len)`.
fn pieces(
    domain: &Domain,
    space: &AddressSpace,
    gva: Gva,
    len: usize,
    access: Access,
    mut each: impl FnMut(Maddr, usize, usize),
) -> Result<(), Errno> {
    let write = access.write;
    let mut p2m = domain.p2m.read();
    let mut reader = p2m.reader();
    let mut done = 0usize;
    while done < len {
        let mut at = gva.raw().checked_add(done as u64).ok_or(Errno::EFAULT)?;
        if !space.long {
            at &= 0xffff_ffff;
        }
        let room = PAGE_SIZE - (at as usize & (PAGE_SIZE - 1));
        let n = room.min(len - done);
        let gpa = physical(&mut reader, space, Gva::new(at), access).ok_or(Errno::EFAULT)?;
        let mut populated = false;
        let maddr = loop {
            if let Some(maddr) = machine(&mut reader, gpa, write) {
                break maddr;
            }
            // A page whose first write is to be noted, or one that is populated on its first touch, which this is.
            drop(p2m);
            if !(write && crate::log_dirty::touch(domain, gpa.gfn())) {
                // Once only: a page that is there, but may not be written, looks populated.
                if populated || !crate::pod::populate(domain, gpa.gfn()) {
                    return Err(Errno::EFAULT);
                }
                populated = true;
            }
            p2m = domain.p2m.read();
            reader = p2m.reader();
        };
        each(maddr, done, n);
        done += n;
    }
    Ok(())
}

fn copy_from(
    domain: &Domain,
    space: &AddressSpace,
    gva: Gva,
    buf: &mut [u8],
    access: Access,
) -> Result<(), Errno> {
    pieces(domain, space, gva, buf.len(), access, |m, at, n| {
        if let Some(part) = buf.get_mut(at..at + n) {
            mem::read_bytes(m, part);
        }
    })
}

fn copy_to(domain: &Domain, space: &AddressSpace, gva: Gva, buf: &[u8], access: Access) -> Result<(), Errno> {
    pieces(domain, space, gva, buf.len(), access, |m, at, n| {
        if let Some(part) = buf.get(at..at + n) {
            mem::write_bytes(m, part);
        }
    })
}

/// Copies from the caller's memory.
pub fn copy_in(domain: &Domain, space: &AddressSpace, gva: Gva, buf: &mut [u8]) -> Result<(), Errno> {
    copy_from(domain, space, gva, buf, Access::READ)
}

/// Copies to the caller's memory.
pub fn copy_out(domain: &Domain, space: &AddressSpace, gva: Gva, buf: &[u8]) -> Result<(), Errno> {
    copy_to(domain, space, gva, buf, Access::WRITE)
}

/// Reads for an instruction that is emulated, with the rights of the code that it is part of.
pub fn load(domain: &Domain, space: &AddressSpace, gva: Gva, buf: &mut [u8]) -> Result<(), Errno> {
    copy_from(domain, space, gva, buf, Access::READ.by(space.user))
}

/// Writes for an instruction that is emulated, see [`load`].
pub fn store(domain: &Domain, space: &AddressSpace, gva: Gva, buf: &[u8]) -> Result<(), Errno> {
    copy_to(domain, space, gva, buf, Access::WRITE.by(space.user))
}

/// Reads a structure.
pub fn read<T: FromBytes + FromZeros + IntoBytes>(
    domain: &Domain,
    space: &AddressSpace,
    gva: Gva,
) -> Result<T, Errno> {
    let mut value = T::new_zeroed();
    copy_in(domain, space, gva, value.as_mut_bytes())?;
    Ok(value)
}

/// Writes a structure.
pub fn write<T: IntoBytes + Immutable>(
    domain: &Domain,
    space: &AddressSpace,
    gva: Gva,
    value: &T,
) -> Result<(), Errno> {
    copy_out(domain, space, gva, value.as_bytes())
}

/// Guest-physical address that an instruction's access goes to, without touching the memory.
pub fn translate(domain: &Domain, space: &AddressSpace, gva: Gva, write: bool) -> Option<Gpa> {
    physical(&mut domain.p2m.read().reader(), space, gva, Access { user: space.user, write, execute: false })
}
/// Was the code that runs there user code?
pub fn is_user(space: &AddressSpace) -> bool {
    space.user
}

/// Reads up to `buf.len()` instruction bytes at a linear address; returns how many could be read, and the machine
/// address of the first.
pub fn fetch(domain: &Domain, space: &AddressSpace, linear: Gva, buf: &mut [u8]) -> (usize, Option<Maddr>) {
    let access = Access::FETCH.by(space.user);
    let p2m = domain.p2m.read();
    let mut reader = p2m.reader();
    let (mut done, mut first) = (0usize, None);
    while done < buf.len() {
        let at = linear.raw().wrapping_add(done as u64);
        let n = (PAGE_SIZE - (at as usize & (PAGE_SIZE - 1))).min(buf.len() - done);
        let Some(gpa) = physical(&mut reader, space, Gva::new(at), access) else { break };
        let Some(maddr) = machine(&mut reader, gpa, false) else { break };
        if let Some(part) = buf.get_mut(done..done + n) {
            mem::read_bytes(maddr, part);
        }
        first = first.or(Some(maddr));
        done += n;
    }
    (done, first)
}
