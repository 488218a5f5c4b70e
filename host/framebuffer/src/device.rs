//! The devices in the store: follows `backend/vfb` and `backend/vkbd`, says what there is to have, takes up what front ends offer.
//!
//! Only devices whose directory says `server = radon-vnc` are this program's: what `xl` makes is qemu's.

use crate::geometry;
use crate::keyboard::{self, Place, Pointing};
use crate::machine::Machine;
use crate::page::Width;
use crate::picture::{self, Nudge, Served};
use crate::screen::Screen;
use crate::server::Screens;
use crate::state::{self, Seen, State, Step};
use crate::typist::Input;
use radon_domain::uuid::Uuid;
use radon_store::client::{self, Tx, Xenstore};
use radon_xen::privcmd::Privcmd;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a device's node `server` says.
pub const SERVER: &str = radon_domain::nodes::VNC;
const RELEASE: &str = "@releaseDomain";
/// Nothing is looked at without an event; this long is for ever.
const LONG: Duration = Duration::from_secs(3600);

/// Which device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A framebuffer.
    Picture,
    /// Keyboard and pointer.
    Keyboard,
}

impl Kind {
    /// Its directories' name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Picture => "vfb",
            Self::Keyboard => "vkbd",
        }
    }
}

/// A device of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// What it is.
    pub kind: Kind,
    /// The guest's domain.
    pub domid: u16,
    /// Its number.
    pub number: u32,
}

impl Id {
    /// This end's directory.
    pub fn path(self) -> String {
        radon_domain::nodes::backend_path(self.kind.name(), self.domid, self.number)
    }

    /// The device that a path at or below such a directory belongs to, and the node's name.
    pub fn of_path(path: &str) -> Option<(Self, Option<&str>)> {
        let mut words = path.strip_prefix("/local/domain/0/backend/")?.splitn(4, '/');
        let kind = match words.next()? {
            "vfb" => Kind::Picture,
            "vkbd" => Kind::Keyboard,
            _ => return None,
        };
        let (domid, number) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some((Self { kind, domid, number }, words.next()))
    }
}

#[derive(Debug)]
enum Connection {
    Picture(picture::Front, Served<Nudge>),
    Keyboard(keyboard::Front, Served<Vec<Input>>),
}

impl Connection {
    fn is(&self, front: &Front) -> bool {
        match (self, front) {
            (Self::Picture(known, _), Front::Picture(front)) => known == front,
            (Self::Keyboard(known, _), Front::Keyboard(front)) => known == front,
            _ => false,
        }
    }
}

enum Front {
    Picture(picture::Front),
    Keyboard(keyboard::Front),
}

#[derive(Debug)]
struct Device {
    id: Id,
    screen: Arc<Screen>,
    vm: Uuid,
    front: Option<String>,
    connection: Option<Connection>,
    /// Why it could not be served the last time: said once.
    complaint: String,
}

/// All devices of all guests.
#[derive(Debug)]
pub struct Devices<M> {
    machine: M,
    privcmd: Arc<Privcmd>,
    screens: Arc<Screens>,
    all: BTreeMap<Id, Device>,
    /// Front ends' states that are watched.
    fronts: HashMap<String, Id>,
}

type Result<T> = std::result::Result<T, client::Error>;

impl<M: Machine> Devices<M> {
    /// None yet.
    pub fn new(machine: M, privcmd: Arc<Privcmd>, screens: Arc<Screens>) -> Self {
        Self { machine, privcmd, screens, all: BTreeMap::new(), fronts: HashMap::new() }
    }

    /// Follows the store; returns when it cannot be spoken to. What is connected is served on, and a new call with a new connection
    /// goes on with it.
    pub fn follow(&mut self, store: &mut Xenstore) -> Result<()> {
        self.fronts.clear();
        for device in self.all.values_mut() {
            device.front = None;
        }
        for kind in [Kind::Picture, Kind::Keyboard] {
            store.watch(&root(kind), kind.name())?;
        }
        store.watch(RELEASE, RELEASE)?;
        for id in self.all.keys().copied().collect::<Vec<_>>() {
            self.update(store, id)?;
        }
        loop {
            let Some(event) = store.next_event(Instant::now() + LONG)? else { continue };
            if event.path == RELEASE {
                self.release();
            } else if let Some(kind) =
                [Kind::Picture, Kind::Keyboard].into_iter().find(|k| event.path == root(*k))
            {
                self.look(store, kind)?;
            } else if let Some(id) = self.fronts.get(&event.path).copied() {
                self.update(store, id)?;
            } else if let Some((id, node)) = Id::of_path(&event.path)
                && node.is_none_or(|node| matches!(node, "state" | "online" | "frontend" | "server"))
            {
                self.update(store, id)?;
            }
        }
    }

    fn look(&mut self, store: &mut Xenstore, kind: Kind) -> Result<()> {
        for domid in store.list(Tx::NONE, &root(kind))? {
            for number in store.list(Tx::NONE, &format!("{}/{domid}", root(kind)))? {
                if let (Ok(domid), Ok(number)) = (domid.parse(), number.parse()) {
                    self.update(store, Id { kind, domid, number })?;
                }
            }
        }
        Ok(())
    }

    /// Domains have gone: nothing of theirs is held on to, whoever is slow to take their nodes away.
    fn release(&mut self) {
        for device in self.all.values_mut().filter(|d| d.connection.is_some()) {
            let status = self.privcmd.domain_status(device.id.domid);
            let lives = status.is_ok_and(|s| s.is_some_and(|s| !s.dying && s.handle == device.vm.bytes()));
            if !lives {
                device.let_go();
            }
        }
    }

    fn update(&mut self, store: &mut Xenstore, id: Id) -> Result<()> {
        if !self.all.contains_key(&id) {
            if store.read(Tx::NONE, &format!("{}/server", id.path()))?.as_deref() != Some(SERVER) {
                return Ok(());
            }
            let Ok(Some(status)) = self.privcmd.domain_status(id.domid) else { return Ok(()) };
            let vm = Uuid::from_bytes(status.handle);
            let name = store.read(Tx::NONE, &format!("/local/domain/{}/name", id.domid))?;
            let screen = self.screens.of(vm, id.domid, &name.unwrap_or_default());
            self.all.insert(
                id,
                Device { id, screen, vm, front: None, connection: None, complaint: String::new() },
            );
        }
        let Some(device) = self.all.get_mut(&id) else { return Ok(()) };
        if device.front.is_none()
            && let Some(front) = store.read(Tx::NONE, &format!("{}/frontend", id.path()))?
        {
            let path = format!("{front}/state");
            store.watch(&path, "front")?;
            self.fronts.insert(path, id);
            device.front = Some(front);
        }
        if !device.update(&self.machine, store)? {
            let vm = device.vm;
            if let Some(front) = &device.front {
                let path = format!("{front}/state");
                self.fronts.remove(&path);
                store.unwatch(&path, "front")?;
            }
            self.all.remove(&id);
            if !self.all.values().any(|other| other.vm == vm) {
                self.screens.ended(vm, id.domid);
            }
        }
        Ok(())
    }
}

fn root(kind: Kind) -> String {
    format!("/local/domain/0/backend/{}", kind.name())
}

impl Device {
    fn read(&self, store: &mut Xenstore, name: &str) -> Result<Option<String>> {
        store.read(Tx::NONE, &format!("{}/{name}", self.id.path()))
    }

    fn write(&self, store: &mut Xenstore, name: &str, value: &str) -> Result<()> {
        store.write(Tx::NONE, &format!("{}/{name}", self.id.path()), value)
    }

    /// Says a state, if the device is still there: what the toolstack has taken away is not to come back as a node.
    fn say(&self, store: &mut Xenstore, state: State) -> Result<()> {
        let path = format!("{}/state", self.id.path());
        store.transaction(|store, tx| {
            if store.read(tx, &path)?.is_some() {
                store.write(tx, &path, state.text())?;
            }
            Ok(())
        })
    }

    fn front(&self, store: &mut Xenstore, name: &str) -> Result<Option<String>> {
        match &self.front {
            Some(front) => store.read(Tx::NONE, &format!("{front}/{name}")),
            None => Ok(None),
        }
    }

    /// Does what there is to do; whether the device is still there.
    fn update<M: Machine>(&mut self, machine: &M, store: &mut Xenstore) -> Result<bool> {
        loop {
            let front = State::parse(self.front(store, "state")?.as_deref());
            let seen = Seen {
                back: State::parse(self.read(store, "state")?.as_deref()),
                front,
                online: self.read(store, "online")?.as_deref() == Some("1"),
                served: self.connection.is_some(),
            };
            match state::next(seen) {
                Step::Wait => {
                    if front == Some(State::Initialised) && self.is_another(store)? {
                        self.let_go();
                        continue;
                    }
                    return Ok(true);
                }
                Step::Offer => {
                    self.let_go();
                    let features: &[&str] = match self.id.kind {
                        Kind::Picture => &["feature-resize"],
                        Kind::Keyboard => &["feature-abs-pointer", "feature-raw-pointer"],
                    };
                    for name in features {
                        self.write(store, name, "1")?;
                    }
                    self.say(store, State::InitWait)?;
                }
                Step::Connect => {
                    if let Err(why) = self.connect(machine, store)? {
                        // A guest may begin anew as often as it likes; logs are not its.
                        if why != self.complaint {
                            let kind = self.id.kind.name();
                            log::warn!("domain {}: its {kind} cannot be served: {why}", self.id.domid);
                            self.complaint.clone_from(&why);
                        }
                        let path = self.id.path().replacen("backend", "error/backend", 1);
                        store.write(Tx::NONE, &format!("{path}/error"), &why)?;
                        self.say(store, State::Closed)?;
                    }
                }
                Step::Close => {
                    self.let_go();
                    self.say(store, State::Closed)?;
                }
                Step::Forget => {
                    self.let_go();
                    return Ok(false);
                }
            }
        }
    }

    /// Whether the front end has begun anew without closing, as after a suspension.
    fn is_another(&self, store: &mut Xenstore) -> Result<bool> {
        let front = self.read_front(store)?;
        Ok(matches!((&self.connection, front), (Some(known), Ok(front)) if !known.is(&front)))
    }

    fn let_go(&mut self) {
        match self.connection.take() {
            Some(Connection::Picture(_, served)) => {
                self.screen.set_picture(None);
                drop(served);
            }
            Some(Connection::Keyboard(_, served)) => {
                self.screen.set_keyboard(None);
                drop(served);
            }
            None => {}
        }
    }

    fn connect<M: Machine>(
        &mut self,
        machine: &M,
        store: &mut Xenstore,
    ) -> Result<std::result::Result<(), String>> {
        let connected = self.read_front(store)?.and_then(|front| match front {
            Front::Picture(front) => {
                let served = picture::connect(machine, &front, &self.screen)?;
                Ok(Connection::Picture(front, served))
            }
            Front::Keyboard(front) => {
                let served = keyboard::connect(machine, &front, &self.screen)?;
                Ok(Connection::Keyboard(front, served))
            }
        });
        match connected {
            Ok(connection) => self.connection = Some(connection),
            Err(why) => return Ok(Err(why)),
        }
        if self.id.kind == Kind::Picture {
            self.write(store, "request-update", "1")?;
        }
        log::info!("domain {}: its {} is served", self.id.domid, self.id.kind.name());
        self.say(store, State::Connected)?;
        Ok(Ok(()))
    }

    /// What the front end's nodes say; an error names the one that makes no sense.
    fn read_front(&self, store: &mut Xenstore) -> Result<std::result::Result<Front, String>> {
        let mut get = |name: &str| self.front(store, name);
        let (port, frame) = (get("event-channel")?, get("page-ref")?);
        // Frames are signed numbers where a toolstack writes them.
        let frame = frame.and_then(|f| f.parse::<u64>().ok());
        let Some(port) = port.and_then(|p| p.parse().ok()) else {
            return Ok(Err("its event-channel is no number".to_owned()));
        };
        let domid = self.id.domid;
        if self.id.kind == Kind::Picture {
            let width = Width::of(get("protocol")?.as_deref());
            let updates = get("feature-update")?.as_deref() == Some("1");
            let most = geometry::given(self.read(store, "videoram")?.as_deref());
            let front = frame.map(|frame| picture::Front { domid, frame, port, width, updates, most });
            return Ok(front.map(Front::Picture).ok_or_else(|| "its page-ref is no number".to_owned()));
        }
        let grant = get("page-gref")?.and_then(|g| g.parse().ok());
        let mut wants = |name: &str| Ok::<_, client::Error>(get(name)?.as_deref() == Some("1"));
        let pointing = match (wants("request-abs-pointer")?, wants("request-raw-pointer")?) {
            (false, _) => Pointing::Relative,
            (true, false) => Pointing::Absolute,
            (true, true) => Pointing::Raw,
        };
        let page = grant.map(Place::Grant).or(frame.map(Place::Frame));
        let front = page.map(|page| keyboard::Front { domid, page, port, pointing });
        Ok(front
            .map(Front::Keyboard)
            .ok_or_else(|| "neither its page-gref nor its page-ref is a number".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let id = Id { kind: Kind::Keyboard, domid: 5, number: 0 };
        assert_eq!(id.path(), "/local/domain/0/backend/vkbd/5/0");
        assert_eq!(Id::of_path(&id.path()), Some((id, None)));
        assert_eq!(Id::of_path("/local/domain/0/backend/vkbd/5/0/state"), Some((id, Some("state"))));
        for none in [
            "/local/domain/0/backend/vkbd/5",
            "/local/domain/0/backend/vbd/5/0",
            "/local/domain/5/device/vfb/0/state",
        ] {
            assert_eq!(Id::of_path(none), None);
        }
    }
}
