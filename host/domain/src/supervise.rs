//! Watches for guests that end by themselves, and does what their configurations want then.

use crate::error::{Error, Result};
use crate::manager::Manager;
use crate::task::Control;
use radon_store::client::Xenstore;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long one wait for a change lasts, so that a cancellation is noticed.
const LOOK: Duration = Duration::from_secs(1);

impl Manager {
    /// Looks at every VM once; names of those whose guests had ended.
    pub fn follow_ends(&self, control: &Control) -> Result<Vec<String>> {
        let mut ended = Vec::new();
        for vm in self.record().vms()? {
            match self.ended(&vm.uuid.to_string(), control) {
                Ok(true) => ended.push(vm.config.name),
                Ok(false) => {}
                // One VM's trouble is not the others'; it stays in the task's record.
                Err(Error::Cancelled(step)) => return Err(Error::Cancelled(step)),
                Err(error) => eprintln!("radon-domain: {}: {error}", vm.config.name),
            }
        }
        Ok(ended)
    }
}

/// Until cancelled: after each change of the list of domains, opens the record, and does what is to be done. In between the
/// record is free for others.
pub fn run(record: &Path, control: &Control) -> Result<()> {
    let mut store = Xenstore::open()?;
    store.watch("@releaseDomain", "supervise")?;
    let mut changed = false;
    while !control.cancel.load(Ordering::Relaxed) {
        changed |= store.next_event(Instant::now() + LOOK)?.is_some();
        if !changed {
            continue;
        }
        match Manager::open(record).and_then(|vms| vms.follow_ends(control)) {
            Ok(names) => {
                names.iter().for_each(|name| println!("ended: {name}"));
                changed = false;
            }
            Err(Error::Cancelled(_)) => break,
            // Somebody has the record for long: tried again.
            Err(error) => eprintln!("radon-domain: {error}"),
        }
    }
    Ok(())
}
