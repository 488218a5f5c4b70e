//! How much is done at the same time: so much for each guest, and so much for all.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

/// Places for work under way.
#[derive(Clone, Debug)]
pub struct Slots {
    each: usize,
    all: usize,
    taken: Arc<Mutex<BTreeMap<Ipv4Addr, usize>>>,
}

/// A place, free again when this is gone.
#[derive(Debug)]
pub struct Slot {
    slots: Slots,
    who: Ipv4Addr,
}

impl Slots {
    /// So many for each, and for all together.
    pub fn new(each: usize, all: usize) -> Self {
        Self { each, all, taken: Arc::default() }
    }

    /// A place for somebody; none, if that one has enough, or all have.
    pub fn take(&self, who: Ipv4Addr) -> Option<Slot> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= self.all || taken.get(&who).copied().unwrap_or(0) >= self.each {
            return None;
        }
        *taken.entry(who).or_default() += 1;
        Some(Slot { slots: self.clone(), who })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.who) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_guest_leaves_room_for_others() {
        let slots = Slots::new(2, 3);
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let held = [slots.take(a).unwrap(), slots.take(a).unwrap()];
        assert!(slots.take(a).is_none());
        let other = slots.take(b).unwrap();
        assert!(slots.take(b).is_none());
        drop(held);
        assert!(slots.take(b).is_some() && slots.taken.lock().unwrap().len() == 1);
        drop(other);
        assert!(slots.taken.lock().unwrap().is_empty());
    }
}
