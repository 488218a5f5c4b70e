//! Pages of a guest, however they were mapped; among them those of the rings that its toolstack has made for it (store, console).

use crate::foreign;
use crate::gntdev::{GrantDevice, GrantedPage};
use crate::page::SharedPages;
use crate::privcmd::Privcmd;
use std::io;
use std::ops::Deref;

/// Pages of a guest, however they were mapped.
#[derive(Debug)]
pub enum GuestPages {
    /// This domain's own kernel's, or found by their frames.
    Shared(SharedPages),
    /// One that it grants.
    Granted(GrantedPage),
}

impl GuestPages {
    /// Maps the page that a domain grants under a reserved reference; or, where its builder set up no grant table, by the frame.
    pub fn reserved(
        privcmd: &Privcmd,
        grants: Option<&GrantDevice>,
        domid: u16,
        reference: u32,
        frame: u64,
    ) -> io::Result<Self> {
        let granted = grants.map(|grants| grants.map(domid, reference));
        match granted {
            Some(Ok(page)) => Ok(Self::Granted(page)),
            granted => match foreign::map(privcmd, domid, &[frame]) {
                Ok(pages) => Ok(Self::Shared(pages)),
                Err(error) => Err(granted.and_then(Result::err).unwrap_or(error)),
            },
        }
    }
}

impl Deref for GuestPages {
    type Target = SharedPages;

    fn deref(&self) -> &SharedPages {
        match self {
            Self::Shared(pages) => pages,
            Self::Granted(page) => page,
        }
    }
}
