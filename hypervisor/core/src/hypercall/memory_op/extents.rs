//! The caller's list of frame numbers, read a few at a time: finding a guest-virtual address costs as much as the work on a page.

use radon_addr::Gfn;
use xen_abi::Errno;
use zerocopy::IntoBytes;

use super::super::{Caller, Width};

/// Elements read at once.
const AHEAD: usize = 16;

/// A list of `count` frame numbers of the caller's width at a guest-virtual address.
pub struct Extents {
    list: u64,
    count: u64,
    /// Number of the first element in `read`.
    first: u64,
    /// How many elements there are in `read`.
    known: u64,
    read: [u64; AHEAD],
}

impl Extents {
    /// The list at `list`; nothing is read yet.
    pub fn new(list: u64, count: u64) -> Extents {
        Extents { list, count, first: 0, known: 0, read: [0; AHEAD] }
    }

    /// Element `i`. It may have been read together with those before it: what the caller changes meanwhile is its own affair.
    pub fn get(&mut self, caller: &Caller<'_>, i: u64) -> Result<Gfn, Errno> {
        let mut at = i.wrapping_sub(self.first);
        if at >= self.known {
            self.fetch(caller, i)?;
            at = 0;
        }
        self.read.get(at as usize).map(|raw| Gfn::new(*raw)).ok_or(Errno::EFAULT)
    }

    fn fetch(&mut self, caller: &Caller<'_>, i: u64) -> Result<(), Errno> {
        let some = self.count.saturating_sub(i).clamp(1, AHEAD as u64);
        // The list may end before its count does: what is there counts, up to the very element that is not.
        self.known = match self.read_some(caller, i, some) {
            Ok(()) => some,
            Err(_) if some > 1 => self.read_some(caller, i, 1).map(|()| 1)?,
            Err(e) => return Err(e),
        };
        self.first = i;
        Ok(())
    }

    fn read_some(&mut self, caller: &Caller<'_>, i: u64, some: u64) -> Result<(), Errno> {
        let some = some as usize;
        self.known = 0;
        match caller.width {
            Width::Long => {
                let at = caller.element::<u64>(self.list, i)?;
                let read = self.read.get_mut(..some).ok_or(Errno::EFAULT)?;
                caller.copy_in(at, read.as_mut_bytes())
            }
            Width::Compat => {
                let at = caller.element::<u32>(self.list, i)?;
                let mut narrow = [0u32; AHEAD];
                let read = narrow.get_mut(..some).ok_or(Errno::EFAULT)?;
                caller.copy_in(at, read.as_mut_bytes())?;
                self.read.iter_mut().zip(narrow).for_each(|(wide, n)| *wide = u64::from(n));
                Ok(())
            }
        }
    }
}
