//! `XEN_DOMCTL_getpageframeinfo3`: which frames of a domain a saver has to look at.

use alloc::sync::Arc;

use radon_addr::Gfn;
use radon_p2m::Kind;
use xen_abi::Errno;
use xen_abi::domctl::{
    Domctl, DomctlGetpageframeinfo3, XEN_DOMCTL_PFINFO_BROKEN, XEN_DOMCTL_PFINFO_NOTAB,
    XEN_DOMCTL_PFINFO_XTAB,
};

use super::{Outcome, Result};
use crate::domain::Domain;
use crate::hypercall::Caller;
use crate::layout;

/// Frames in one call (Xen's limit).
const MOST: u64 = 1024;

/// Replaces each frame number of the array by the frame's type.
pub fn get(caller: &Caller<'_>, domain: &Arc<Domain>, op: &Domctl) -> Result {
    let list: DomctlGetpageframeinfo3 = op.payload();
    if list.num > MOST {
        return Err(Errno::E2BIG);
    }
    let width = if layout::is_compat(caller.domain) { 4 } else { 8 };
    let mut words = alloc::vec![0u8; list.num as usize * width];
    caller.copy_in(list.array.raw(), &mut words)?;
    {
        let p2m = domain.p2m.read();
        for word in words.chunks_exact_mut(width) {
            let mut raw = [0u8; 8];
            raw.iter_mut().zip(word.iter()).for_each(|(to, from)| *to = *from);
            let kind = match p2m.kind(Gfn::new(u64::from_le_bytes(raw))) {
                k if k.is_own_ram() => XEN_DOMCTL_PFINFO_NOTAB,
                Kind::Broken => XEN_DOMCTL_PFINFO_BROKEN,
                _ => XEN_DOMCTL_PFINFO_XTAB,
            };
            word.iter_mut().zip(u64::from(kind).to_le_bytes()).for_each(|(to, from)| *to = from);
        }
    }
    caller.copy_out(list.array.raw(), &words)?;
    Ok(Outcome::Done)
}
