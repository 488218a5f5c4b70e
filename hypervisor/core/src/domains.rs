//! The list of all domains, by id.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use radon_addr::{DOMID_FIRST_RESERVED, DomId};
use radon_hw::lock::{RwLock, rank};

use crate::domain::Domain;

static DOMAINS: RwLock<BTreeMap<DomId, Arc<Domain>>> = RwLock::new(rank::DOMLIST, BTreeMap::new());

/// The domain with this id, alive or dying.
pub fn find(id: DomId) -> Option<Arc<Domain>> {
    DOMAINS.read().get(&id).cloned()
}

/// The first domain with an id of at least `id`.
pub fn first_from(id: DomId) -> Option<Arc<Domain>> {
    DOMAINS.read().range((Bound::Included(id), Bound::Unbounded)).next().map(|e| e.1.clone())
}

/// All domains, by ascending id.
pub fn all() -> Vec<Arc<Domain>> {
    DOMAINS.read().values().cloned().collect()
}

/// Adds a domain; false when the id is taken.
pub fn add(domain: &Arc<Domain>) -> bool {
    let mut list = DOMAINS.write();
    if list.contains_key(&domain.id) {
        return false;
    }
    list.insert(domain.id, domain.clone());
    true
}

/// Takes a domain off the list.
pub fn remove(id: DomId) {
    let gone = DOMAINS.write().remove(&id);
    drop(gone); // outside the lock: it may be the last reference
}

/// An id that is free, searching upwards from `after` and around (as Xen: an id is not reused soon).
pub fn free_id(after: u16) -> Option<DomId> {
    let list = DOMAINS.read();
    let next = |i: u16| if i.saturating_add(1) >= DOMID_FIRST_RESERVED { 1 } else { i + 1 };
    let mut id = next(after);
    for _ in 0..DOMID_FIRST_RESERVED {
        if !list.contains_key(&DomId::new(id)) {
            return Some(DomId::new(id));
        }
        id = next(id);
    }
    None
}

/// The control domain.
pub fn dom0() -> Option<Arc<Domain>> {
    find(DomId::DOM0)
}
