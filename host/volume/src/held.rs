//! A file that is locked for as long as it is open.

use std::fs::File;
use std::ops::Deref;

/// A file with a lock on it. The lock is given back explicitly: a process that is just being started by another thread has the file
/// open, too, until it runs its own program, and the lock would last as long.
#[derive(Debug)]
pub(crate) struct Held(File);

impl Held {
    /// Takes an exclusive lock; the error says whether somebody else has one.
    pub fn lock(file: File) -> Result<Self, std::fs::TryLockError> {
        file.try_lock()?;
        Ok(Self(file))
    }
}

impl Deref for Held {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}
