//! All disks: follows the store.

use crate::connection;
use crate::device::{Device, Error, Id, KIND, Settings};
use radon_store::client::{Tx, Xenstore};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// How often sizes and counters are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often space that only the shared cache holds is looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// How often something that is waited for outside of the store is tried.
const RETRY: Duration = Duration::from_millis(50);

/// All disks of all guests.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    devices: BTreeMap<Id, Device>,
    /// Front ends' states that are watched.
    fronts: HashMap<String, Id>,
}

impl Server {
    /// None yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, devices: BTreeMap::new(), fronts: HashMap::new() }
    }

    /// Serves; returns when the store cannot be spoken to. Rings go on being served, and a new call with a new connection goes on
    /// with them.
    pub fn follow(&mut self, store: &mut Xenstore) -> Result<(), Error> {
        let root = format!("/local/domain/0/backend/{KIND}");
        store.watch(&root, KIND)?;
        self.fronts.clear();
        // What went while nobody looked.
        for id in self.devices.keys().copied().collect::<Vec<_>>() {
            self.update(store, id)?;
        }
        let (mut ticked, mut swept) = (Instant::now(), Instant::now());
        loop {
            let waiting = self.devices.values().any(Device::is_waiting);
            let deadline = if waiting { Instant::now() + RETRY } else { ticked + TICK };
            match store.next_event(deadline)? {
                Some(event) if event.path == root => {
                    self.look(store, &root)?;
                    let names: Vec<&str> =
                        self.devices.values().filter_map(Device::connection_name).collect();
                    connection::remove_stale(&self.settings.folder, &names);
                }
                Some(event) => {
                    let front = self.fronts.get(&event.path).copied();
                    if let Some(id) =
                        front.or_else(|| Id::of_path(&event.path).filter(|_| matters(&event.path)))
                    {
                        self.update(store, id)?;
                    }
                }
                None => {
                    let waiting = self.devices.iter().filter(|(_, d)| d.is_waiting());
                    for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
                        self.update(store, id)?;
                    }
                }
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                if swept.elapsed() >= SWEEP {
                    swept = ticked;
                    self.settings.shares.iter().for_each(|shares| shares.sweep());
                }
                for device in self.devices.values_mut() {
                    device.tick(store)?;
                }
            }
        }
    }

    /// All devices that the store has.
    fn look(&mut self, store: &mut Xenstore, root: &str) -> Result<(), Error> {
        for domid in store.list(Tx::NONE, root)? {
            for device in store.list(Tx::NONE, &format!("{root}/{domid}"))? {
                if let (Ok(domid), Ok(device)) = (domid.parse(), device.parse()) {
                    self.update(store, Id { domid, device })?;
                }
            }
        }
        Ok(())
    }

    fn update(&mut self, store: &mut Xenstore, id: Id) -> Result<(), Error> {
        let settings = &self.settings;
        let device = self.devices.entry(id).or_insert_with(|| Device::new(id, settings.clone()));
        if let Some(front) = device.front(store)? {
            let path = format!("{front}/state");
            if self.fronts.insert(path.clone(), id).is_none() {
                store.watch(&path, KIND)?;
            }
        }
        if !device.update(store)? {
            self.devices.remove(&id);
            for path in
                self.fronts.iter().filter(|(_, i)| **i == id).map(|(p, _)| p.clone()).collect::<Vec<_>>()
            {
                self.fronts.remove(&path);
                store.unwatch(&path, KIND)?;
            }
        }
        Ok(())
    }
}

/// Whether a change there can ask for something: the directory itself, or one of the nodes that states are read from.
fn matters(path: &str) -> bool {
    let below = path.split('/').nth(8);
    below.is_none_or(|name| matches!(name, "state" | "online" | "frontend" | "params"))
}

#[cfg(test)]
mod tests {
    use super::matters;

    #[test]
    fn changes_of_one_s_own_nodes_do_not_matter() {
        let base = "/local/domain/0/backend/rdisk/5/51712";
        assert!(matters(base) && matters(&format!("{base}/state")) && matters(&format!("{base}/online")));
        assert!(!matters(&format!("{base}/sectors")) && !matters(&format!("{base}/feature-barrier")));
    }
}
