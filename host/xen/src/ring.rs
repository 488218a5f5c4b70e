//! The page of a ring that a toolstack has made for a guest: its store's, its console's.

use crate::foreign;
use crate::gntdev::{GrantDevice, GrantedPage};
use crate::page::SharedPages;
use crate::privcmd::Privcmd;
use std::io;
use std::ops::Deref;

/// A ring's page, however it was mapped.
#[derive(Debug)]
pub enum RingPage {
    /// This domain's own kernel's, or one found by its frame.
    Shared(SharedPages),
    /// One that the guest grants from its creation on.
    Granted(GrantedPage),
}

impl RingPage {
    /// Maps the page that a domain grants under a reserved reference; or, where its builder set up no grant table, by the frame.
    pub fn map(
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

impl Deref for RingPage {
    type Target = SharedPages;

    fn deref(&self) -> &SharedPages {
        match self {
            Self::Shared(pages) => pages,
            Self::Granted(page) => page,
        }
    }
}
