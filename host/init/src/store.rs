//! The first nodes of the store: what toolstacks expect of dom0.

use crate::Failed;
use radon_store::client::{Tx, Xenstore};

/// As `xen-init-dom0` writes them.
const NODES: &[(&str, &str)] = &[("/local/domain/0/domid", "0"), ("/local/domain/0/name", "Domain-0")];

/// Writes them; once they are there nothing changes.
pub fn run() -> Result<(), Failed> {
    let mut store = Xenstore::open()?;
    for (path, value) in NODES {
        store.write(Tx::NONE, path, value)?;
    }
    Ok(())
}
