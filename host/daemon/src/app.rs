//! All of the daemon's parts.

use crate::database::{Database, Row};
use crate::domains::Domains;
use crate::messages;
use crate::reserve::Reserved;
use crate::session::Sessions;
use crate::storage::Storage;
use crate::task::Tasks;
use crate::users::Users;
use radon_api::{ApiError, Result, Value};
use radon_domain::config::Backend;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

/// Where things are, and who serves them.
#[derive(Clone, Debug)]
pub struct Places {
    /// The daemon's own folder: database, users, certificate.
    pub state: PathBuf,
    /// Kernels and RAM disks that VMs may name.
    pub kernels: PathBuf,
    /// What networks there are to be (`radon-network`'s folder).
    pub networks: PathBuf,
    /// Where the console daemon listens.
    pub consoles: PathBuf,
    /// Where the daemon of framebuffers listens.
    pub framebuffers: PathBuf,
    /// Who serves disks that do not say.
    pub disks: Backend,
}

/// The daemon is killed on entering a step of a VM's operation: how tests cut operations short.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The message that the operation is part of, such as `VM.start`.
    pub message: String,
    /// The step's number, from 1.
    pub step: u32,
}

impl FromStr for Cut {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || format!("{text:?} is no message and step such as VM.start:3");
        let (message, step) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Self { message: message.to_owned(), step: step.parse().map_err(|_| wrong())? })
    }
}

/// The daemon.
pub struct App {
    /// Where things are.
    pub places: Places,
    /// Objects.
    pub database: Database,
    /// Who may log in.
    pub users: Users,
    /// Who has.
    pub sessions: Sessions,
    /// What is under way behind its answer.
    pub tasks: Tasks,
    /// Opened repositories.
    pub storage: Storage,
    /// The layer of domains.
    pub domains: Arc<dyn Domains>,
    /// When the daemon began: a clock that never goes back.
    pub started: Instant,
    /// This host's reference.
    pub host: String,
    /// Volumes that VMs are about to get.
    pub reserved: Reserved,
    /// What is to be cut short, for tests.
    pub cut: OnceLock<Cut>,
    busy: Mutex<HashMap<String, Doing>>,
}

/// A number that is the same always for a name: of what is made anew at each start.
pub fn named_uuid(kind: &str, name: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("radon/{kind}/{name}").as_bytes());
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    radon_domain::uuid::Uuid::from_bytes(bytes).to_string()
}

impl App {
    /// Opens everything, and makes the objects so that they say what is.
    pub fn open(places: Places, domains: Arc<dyn Domains>) -> Result<Arc<Self>> {
        let folder = |path: &Path| {
            std::fs::create_dir_all(path).map_err(|e| ApiError::internal(format!("{}: {e}", path.display())))
        };
        folder(&places.state)?;
        folder(&places.kernels)?;
        let path = places.state.join("objects.redb");
        let database =
            Database::open(&path).map_err(|e| ApiError::internal(format!("{}: {e}", path.display())))?;
        let users = Users::at(places.state.join("users"));
        let host = messages::host::discover(&database)?;
        messages::subject::refresh(&database, &users)?;
        let app = Arc::new(Self {
            places,
            database,
            users,
            sessions: Sessions::default(),
            tasks: Tasks::default(),
            storage: Storage::default(),
            domains,
            started: Instant::now(),
            host,
            reserved: Reserved::default(),
            cut: OnceLock::new(),
            busy: Mutex::default(),
        });
        messages::pbd::plug_all(&app);
        messages::network::settle(&app);
        messages::vm::follow(&app);
        Ok(app)
    }

    fn busy(&self) -> MutexGuard<'_, HashMap<String, Doing>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an operation on an object: nothing else is done with it until the guard goes, but for more of the same if that only reads.
    pub fn begin(
        self: &Arc<Self>,
        class: &'static str,
        reference: &str,
        operation: &'static str,
    ) -> Result<Busy> {
        self.database.state().object(class, reference)?;
        {
            let mut busy = self.busy();
            let doing = busy.entry(reference.to_owned()).or_insert(Doing { operation, times: 0 });
            if doing.times > 0 && !(doing.operation == operation && TOGETHER.contains(&operation)) {
                return Err(ApiError::other_operation(class, reference));
            }
            doing.times += 1;
        }
        let guard = Busy { app: self.clone(), class, reference: reference.to_owned() };
        guard.show()?;
        Ok(guard)
    }

    /// Whether something is being done with an object.
    pub fn is_busy(&self, reference: &str) -> bool {
        self.busy().contains_key(reference)
    }
}

/// Operations that leave their object as it is: several at the same time.
const TOGETHER: [&str; 2] = ["clone", "copy"];

/// What is being done with an object.
struct Doing {
    operation: &'static str,
    times: u32,
}

/// An operation on an object, under way.
pub struct Busy {
    app: Arc<App>,
    class: &'static str,
    reference: String,
}

impl Busy {
    /// Shows what is being done right now: whoever shows last, shows the last state.
    fn show(&self) -> Result<()> {
        self.app.database.change(|c| {
            let operation = self.app.busy().get(&self.reference).map(|doing| doing.operation);
            let named = format!("OpaqueRef:{}", named_uuid("operation", &self.reference));
            // It may have been removed meanwhile: that was the operation.
            match c.row(self.class, &self.reference) {
                Ok(_) => {
                    let shown = Value::pairs(operation.map(|o| (named, o)));
                    c.set(self.class, &self.reference, "current_operations", shown)
                }
                Err(_) => Ok(()),
            }
        })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        {
            let mut busy = self.app.busy();
            let left = busy.get_mut(&self.reference).map_or(0, |doing| {
                doing.times = doing.times.saturating_sub(1);
                doing.times
            });
            if left == 0 {
                busy.remove(&self.reference);
            }
        }
        // Shown only; nothing depends on it.
        let _ = self.show();
    }
}

/// Fields by name, for a new object.
pub fn fields<const N: usize>(items: [(&str, Value); N]) -> Row {
    items.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
