//! Look-ups close to each other: a guest's page tables and the data they lead to often lie in one large leaf, which is then found
//! once.

use crate::entry::{Entry, Format, Npt};
use crate::p2m::P2m;
use radon_addr::{Gfn, Mfn};

/// Reads a p2m that does not change meanwhile, and remembers the last leaf.
pub struct Reader<'a, F: Format = Npt> {
    p2m: &'a P2m<F>,
    /// First gfn of the leaf and number of its pages, 0 when there is none yet.
    first: u64,
    pages: u64,
    /// The leaf itself.
    leaf: Option<Entry>,
}

impl<F: Format> P2m<F> {
    /// For several look-ups in a row.
    #[inline]
    pub fn reader(&self) -> Reader<'_, F> {
        Reader { p2m: self, first: 0, pages: 0, leaf: None }
    }
}

impl<F: Format> Reader<'_, F> {
    /// As [`P2m::lookup`].
    #[inline]
    pub fn lookup(&mut self, gfn: Gfn) -> Option<Entry> {
        let within = gfn.raw().wrapping_sub(self.first);
        if within < self.pages {
            return self.leaf.map(|leaf| Entry { mfn: Mfn::new(leaf.mfn.raw() | within), ..leaf });
        }
        self.find(gfn)
    }

    #[inline(never)]
    fn find(&mut self, gfn: Gfn) -> Option<Entry> {
        let found = self.p2m.lookup(gfn)?;
        let within = (1 << found.order) - 1;
        self.first = gfn.raw() & !within;
        self.pages = within + 1;
        self.leaf = Some(Entry { mfn: Mfn::new(found.mfn.raw() & !within), ..found });
        Some(found)
    }
}
