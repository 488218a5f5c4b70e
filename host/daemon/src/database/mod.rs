//! Objects and their fields.
//!
//! All of it is in memory; what is not volatile is also in one file (redb), which holds every change before anybody is told of it.
//! Changes are made one at a time, in transactions: all of one is there, or nothing, whenever the process is killed. Readers do not
//! wait for the disk.
//!
//! Each transaction has a number, higher than all before it, also those before the daemon was started anew: what changed since
//! when follows from the numbers at the objects ([`crate::event`]).

mod change;
mod disk;
mod state;

pub use change::Change;
pub use disk::Failed;
pub use state::{Gone, Object, Row, State};

use disk::Disk;
use radon_api::{ApiError, Result};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

/// The database.
pub struct Database {
    state: RwLock<State>,
    writer: Mutex<Disk>,
    changed: (Mutex<u64>, Condvar),
}

fn whole<T>(result: std::result::Result<T, PoisonError<T>>) -> T {
    // A panic within a transaction leaves the state as it was before: changes are applied in one piece.
    result.unwrap_or_else(PoisonError::into_inner)
}

impl Database {
    /// Opens the file, and makes it if there is none.
    pub fn open(path: &Path) -> std::result::Result<Self, Failed> {
        let disk = Disk::open(path)?;
        let mut state = State::new(first_number());
        disk.read(|class, reference, row| state.put(class, reference, row))?;
        let number = state.number();
        Ok(Self {
            state: RwLock::new(state),
            writer: Mutex::new(disk),
            changed: (Mutex::new(number), Condvar::new()),
        })
    }

    /// Everything as it is now; holds changes up while it is kept.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        whole(self.state.read())
    }

    /// One transaction. An error undoes it.
    pub fn change<T>(&self, body: impl FnOnce(&mut Change<'_>) -> Result<T>) -> Result<T> {
        let disk: MutexGuard<'_, Disk> = whole(self.writer.lock());
        let (done, changes) = {
            let state = self.state();
            let mut change = Change::new(&state);
            let done = body(&mut change)?;
            (done, change.finish())
        };
        if changes.is_empty() {
            return Ok(done);
        }
        disk.write(&changes).map_err(|e| ApiError::internal(format!("the database: {e}")))?;
        let number = {
            let mut state = whole(self.state.write());
            state.apply(changes);
            state.number()
        };
        *whole(self.changed.0.lock()) = number;
        self.changed.1.notify_all();
        Ok(done)
    }

    /// Waits until there is a transaction after that number, or it is that late; whether there is.
    pub fn wait_after(&self, number: u64, deadline: Instant) -> bool {
        let mut last = whole(self.changed.0.lock());
        while *last <= number {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            last = match self.changed.1.wait_timeout(last, left) {
                Ok((last, _)) => last,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        true
    }
}

/// Higher than any number given out before, as long as there are fewer than a million transactions in a second and the clock goes
/// forward.
fn first_number() -> u64 {
    u64::try_from(radon_api::Time::now().0).unwrap_or(0) * 1_000_000
}
