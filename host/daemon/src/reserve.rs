//! Volumes that VMs are about to get: from before it is looked whether nobody else has them, until the database shows who does.
//!
//! Who wants a volume for a VM reserves it, and then looks whether something is being done with it or another VM has it; who wants to
//! do something with a volume marks it busy, and then looks whether it is reserved or attached. So of two at the same time at least
//! one sees the other.

use crate::app::App;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A VM's use of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The volume.
    pub vdi: String,
    /// What connects the two.
    pub vbd: String,
    /// The guest may write.
    pub writes: bool,
    /// Others may write at the same time.
    pub sharable: bool,
}

/// All uses that are about to begin, by volume.
#[derive(Default)]
pub struct Reserved(Mutex<HashMap<String, Vec<Use>>>);

impl Reserved {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Vec<Use>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a VM is about to get the volume.
    pub fn is(&self, vdi: &str) -> bool {
        self.all().contains_key(vdi)
    }

    /// Adds a use, unless one that is about to begin excludes it.
    fn add(&self, new: &Use) -> bool {
        let mut all = self.all();
        let uses = all.entry(new.vdi.clone()).or_default();
        let clash = |other: &Use| (other.writes || new.writes) && !new.sharable;
        let free = !uses.iter().any(clash);
        if free {
            uses.push(new.clone());
        }
        free
    }

    fn remove(&self, old: &Use) {
        let mut all = self.all();
        if let Some(uses) = all.get_mut(&old.vdi) {
            if let Some(at) = uses.iter().position(|u| u == old) {
                uses.swap_remove(at);
            }
            if uses.is_empty() {
                all.remove(&old.vdi);
            }
        }
    }
}

/// Some reserved volumes; given back with it.
pub struct Reservation {
    app: Arc<App>,
    uses: Vec<Use>,
}

impl Reservation {
    /// One of no volumes yet.
    pub fn new(app: &Arc<App>) -> Self {
        Self { app: app.clone(), uses: Vec::new() }
    }

    /// Reserves a volume; whether it could.
    pub fn add(&mut self, new: Use) -> bool {
        let added = self.app.reserved.add(&new);
        if added {
            self.uses.push(new);
        }
        added
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.uses.iter().for_each(|u| self.app.reserved.remove(u));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(vbd: &str, writes: bool, sharable: bool) -> Use {
        Use { vdi: "vdi".to_owned(), vbd: vbd.to_owned(), writes, sharable }
    }

    #[test]
    fn a_writer_is_alone_unless_it_may_be_shared() {
        let reserved = Reserved::default();
        assert!(reserved.add(&one("a", false, false)) && reserved.add(&one("b", false, false)));
        assert!(!reserved.add(&one("c", true, false)));
        reserved.remove(&one("a", false, false));
        assert!(reserved.is("vdi") && !reserved.add(&one("c", true, false)));
        reserved.remove(&one("b", false, false));
        assert!(!reserved.is("vdi") && reserved.add(&one("c", true, false)));
        assert!(!reserved.add(&one("d", false, false)) && !reserved.add(&one("d", true, false)));
        assert!(reserved.add(&one("e", true, true)));
        reserved.remove(&one("nobody", true, true));
        assert!(reserved.is("vdi"));
    }
}
