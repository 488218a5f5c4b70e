//! Opened repositories.

use radon_api::{ApiError, Result};
use radon_volume::{Repository, Sharing, VolumeError};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A volume's name while nobody has been told of it yet: what of these the database does not know when the daemon starts is what a
/// killed one had begun, and goes.
pub const UNFINISHED: &str = "radond-unfinished-5f0c3c7e";

/// Opened repositories by the SR's reference.
#[derive(Default)]
pub struct Storage(Mutex<BTreeMap<String, Arc<Repository>>>);

impl Storage {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Repository>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens one. It belongs to this process until it is closed.
    pub fn open(&self, sr: &str, dir: &Path) -> Result<Arc<Repository>> {
        let mut all = self.all();
        if let Some(open) = all.get(sr) {
            return Ok(open.clone());
        }
        let repository = Arc::new(Repository::open(dir, Sharing::Alone).map_err(refused)?);
        all.insert(sr.to_owned(), repository.clone());
        Ok(repository)
    }

    /// Closes one.
    pub fn close(&self, sr: &str) {
        self.all().remove(sr);
    }

    /// An opened one.
    pub fn find(&self, sr: &str) -> Result<Arc<Repository>> {
        self.all().get(sr).cloned().ok_or_else(|| ApiError::sr_not_attached(sr))
    }
}

/// What the layer of volumes says, as XenAPI says it.
pub fn refused(error: VolumeError) -> ApiError {
    match error {
        VolumeError::BadSize(size) => ApiError::invalid_value("virtual_size", size),
        VolumeError::InUse(id) => ApiError::vdi_in_use(id, "destroy"),
        other => ApiError::sr_backend("", "", other),
    }
}
