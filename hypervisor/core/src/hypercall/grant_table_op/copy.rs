//! `GNTTABOP_copy`: bytes between a grant (or own memory) and a grant (or own memory).

use alloc::sync::Arc;

use radon_addr::{DomId, Gfn, GrantRef, Maddr, PAGE_SIZE};
use radon_frames::FrameRef;
use radon_grant::{Access, GntStatus, Mode, Purpose, Via};
use radon_hw::mem;
use xen_abi::grant_table::{GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GNTST_OKAY, GnttabCopy, GnttabCopyPtr};

use super::super::{Answer, Caller, Continuation, OK, Reply, Width};
use super::{BATCH, resolve};
use crate::domain::Domain;
use crate::{domains, grants, physmap};

/// One end of a copy, held until the copy is done.
enum End {
    Granted { granter: Arc<Domain>, gref: GrantRef, access: Access, at: Maddr },
    Own { _frame: FrameRef, at: Maddr },
}

impl End {
    fn at(&self) -> Maddr {
        match self {
            End::Granted { at, .. } | End::Own { at, .. } => *at,
        }
    }
    fn release(self) {
        if let End::Granted { granter, gref, access, .. } = self {
            grants::unpin(&granter, gref, access, true);
        }
    }
}

/// The array of copies.
pub fn call(caller: &mut Caller<'_>, args: [u64; 6]) -> Reply {
    let [op, list, count, ..] = args;
    for i in 0..count {
        let at = match caller.width {
            Width::Long => caller.element::<GnttabCopy>(list, i)?,
            Width::Compat => caller.element::<xen_abi::compat::CompatGnttabCopy>(list, i)?,
        };
        if i > 0 && i % BATCH == 0 && caller.should_yield() {
            return Ok(Answer::Continue(Continuation::three(op, at, count - i)));
        }
        match caller.width {
            Width::Long => {
                let copy: GnttabCopy = caller.read(at)?;
                // The status is the last word but the padding of the structure.
                caller.write(at.wrapping_add(36), &outcome(caller, &copy))?;
            }
            Width::Compat => {
                let copy: GnttabCopy = caller.read::<xen_abi::compat::CompatGnttabCopy>(at)?.into();
                caller.write(at.wrapping_add(20), &outcome(caller, &copy))?;
            }
        }
    }
    OK
}

fn outcome(caller: &Caller<'_>, copy: &GnttabCopy) -> i16 {
    match one(caller, copy) {
        Ok(()) => GNTST_OKAY,
        Err(e) => e.raw(),
    }
}

fn one(caller: &Caller<'_>, copy: &GnttabCopy) -> Result<(), GntStatus> {
    let from_grant = copy.flags & GNTCOPY_SOURCE_GREF != 0;
    let to_grant = copy.flags & GNTCOPY_DEST_GREF != 0;
    let inside = |offset: u16| usize::from(offset) + usize::from(copy.len) <= PAGE_SIZE;
    if !inside(copy.source.offset) || !inside(copy.dest.offset) {
        return Err(GntStatus::BAD_COPY_ARG);
    }
    let source = end(caller, &copy.source, from_grant, Mode::Read, copy.len)?;
    let dest = match end(caller, &copy.dest, to_grant, Mode::Write, copy.len) {
        Ok(d) => d,
        Err(e) => {
            source.release();
            return Err(e);
        }
    };
    mem::copy(dest.at(), source.at(), usize::from(copy.len));
    source.release();
    dest.release();
    Ok(())
}

/// Finds and holds one end.
fn end(
    caller: &Caller<'_>,
    p: &GnttabCopyPtr,
    granted: bool,
    mode: Mode,
    len: u16,
) -> Result<End, GntStatus> {
    if !granted {
        if resolve(caller, p.domid) != caller.domain.id || p.domid != DomId::SELF.raw() {
            return Err(GntStatus::PERMISSION_DENIED);
        }
        let frame = physmap::get_frame(caller.domain, Gfn::new(p.gmfn()), mode == Mode::Write)
            .map_err(|_| GntStatus::BAD_PAGE)?;
        let at = Maddr::new(frame.mfn().maddr().raw() + u64::from(p.offset));
        return Ok(End::Own { _frame: frame, at });
    }
    let granter = domains::find(resolve(caller, p.domid)).ok_or(GntStatus::BAD_DOMAIN)?;
    let access = Access { by: caller.domain.id, mode, via: Via::Host };
    let gref = GrantRef::new(p.gref());
    let pinned = granter.grants.lock().pin(gref, access, Purpose::Copy, |r| grants::acquire(&granter, r))?;
    if let Err(e) = pinned.check_range(p.offset, len) {
        grants::unpin(&granter, gref, access, true);
        return Err(e);
    }
    let at = Maddr::new(pinned.mfn.maddr().raw() + u64::from(p.offset));
    Ok(End::Granted { granter, gref, access, at })
}
