//! `GNTTABOP_transfer`, the accepting side: an entry into which a page is given.

use core::sync::atomic::Ordering::SeqCst;

use radon_addr::{DomId, Gfn, GrantRef};
use xen_abi::grant_table::{GTF_ACCEPT_TRANSFER, GTF_TRANSFER_COMMITTED, GTF_TRANSFER_COMPLETED};

use crate::shared::Header;
use crate::status::GntStatus;
use crate::table::{GrantTable, Version};

const ATTEMPTS: u32 = 5;

/// An entry committed to a transfer.
#[must_use]
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    gref: GrantRef,
    version: Version,
}

impl GrantTable {
    /// Commits an entry that accepts a page from `from`. Error: `GENERAL_ERROR` when it does not, or keeps
    /// changing.
    pub fn prepare_transfer(&mut self, gref: GrantRef, from: DomId) -> Result<Transfer, GntStatus> {
        let word = self.header(gref).ok_or(GntStatus::GENERAL_ERROR)?;
        let mut old = word.load(SeqCst);
        for _ in 0..ATTEMPTS {
            let mut header = Header::from_raw(old);
            if header != (Header { flags: GTF_ACCEPT_TRANSFER, domid: from }) {
                return Err(GntStatus::GENERAL_ERROR);
            }
            header.flags |= GTF_TRANSFER_COMMITTED;
            match word.compare_exchange(old, header.raw(), SeqCst, SeqCst) {
                Ok(_) => return Ok(Transfer { gref, version: self.version }),
                Err(seen) => old = seen,
            }
        }
        Err(GntStatus::GENERAL_ERROR)
    }

    /// Ends a committed transfer: `add` puts the page at the frame number the entry names; then the guest is
    /// told. Error: that of `add`; `GENERAL_ERROR` when the table's version changed meanwhile.
    pub fn finish_transfer(
        &mut self,
        transfer: Transfer,
        add: impl FnOnce(Gfn) -> Result<(), GntStatus>,
    ) -> Result<(), GntStatus> {
        if transfer.version != self.version {
            return Err(GntStatus::GENERAL_ERROR);
        }
        let (Some(gfn), Some(word)) = (self.entry_gfn(transfer.gref), self.header(transfer.gref)) else {
            return Err(GntStatus::GENERAL_ERROR);
        };
        let result = add(gfn);
        word.fetch_or(u32::from(GTF_TRANSFER_COMPLETED), SeqCst);
        result
    }
}
