//! The repository's database: one file, changed in transactions that are on the disk when they return.

use std::path::Path;
use std::time::{Duration, Instant};

use redb::{Database as Redb, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use crate::record::{Intent, Volume};
use crate::{Result, VolumeError, VolumeId};

const VOLUMES: TableDefinition<[u8; 16], &[u8]> = TableDefinition::new("volumes");
const INTENTS: TableDefinition<[u8; 16], &[u8]> = TableDefinition::new("intents");

/// How long a process waits for another one to leave the database.
const PATIENCE: Duration = Duration::from_secs(10);

/// The opened database: no other process has it open.
pub(crate) struct Database(Redb);

fn failed(error: impl Into<redb::Error>) -> VolumeError {
    VolumeError::Database(error.into())
}

impl Database {
    /// Makes a new one.
    pub fn create(path: &Path) -> Result<Self> {
        let database = Self(Redb::create(path).map_err(failed)?);
        database.change(|_| Ok(()))?;
        Ok(database)
    }

    /// Opens it; waits while another process has it.
    pub fn open(path: &Path) -> Result<Self> {
        let start = Instant::now();
        loop {
            match Redb::open(path) {
                Ok(database) => return Ok(Self(database)),
                Err(DatabaseError::DatabaseAlreadyOpen) if start.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(DatabaseError::DatabaseAlreadyOpen) => {
                    return Err(VolumeError::Busy(path.to_path_buf(), start.elapsed().as_secs()));
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// One transaction: all of it is on the disk, or nothing.
    pub fn change<T>(&self, work: impl FnOnce(&mut Change<'_>) -> Result<T>) -> Result<T> {
        let transaction = self.0.begin_write().map_err(failed)?;
        let done = {
            let volumes = transaction.open_table(VOLUMES).map_err(failed)?;
            let intents = transaction.open_table(INTENTS).map_err(failed)?;
            work(&mut Change { volumes, intents })?
        };
        transaction.commit().map_err(failed)?;
        Ok(done)
    }

    /// One volume.
    pub fn volume(&self, id: VolumeId) -> Result<Volume> {
        let transaction = self.0.begin_read().map_err(failed)?;
        let table = transaction.open_table(VOLUMES).map_err(failed)?;
        match table.get(id.0).map_err(failed)? {
            Some(bytes) => Ok(serde_json::from_slice(bytes.value())?),
            None => Err(VolumeError::NotFound(id.to_string())),
        }
    }

    /// All volumes, oldest first.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        let transaction = self.0.begin_read().map_err(failed)?;
        let table = transaction.open_table(VOLUMES).map_err(failed)?;
        let mut found: Vec<Volume> = Vec::new();
        for entry in table.iter().map_err(failed)? {
            found.push(serde_json::from_slice(entry.map_err(failed)?.1.value())?);
        }
        found.sort_by_key(|v| (v.created, v.id));
        Ok(found)
    }

    /// What was begun.
    pub fn intents(&self) -> Result<Vec<(VolumeId, Intent)>> {
        let transaction = self.0.begin_read().map_err(failed)?;
        let table = transaction.open_table(INTENTS).map_err(failed)?;
        let mut found = Vec::new();
        for entry in table.iter().map_err(failed)? {
            let (id, bytes) = entry.map_err(failed)?;
            found.push((VolumeId(id.value()), serde_json::from_slice(bytes.value())?));
        }
        Ok(found)
    }
}

/// A transaction.
pub(crate) struct Change<'t> {
    volumes: redb::Table<'t, [u8; 16], &'static [u8]>,
    intents: redb::Table<'t, [u8; 16], &'static [u8]>,
}

impl Change<'_> {
    /// Has this record of a volume.
    pub fn put(&mut self, volume: &Volume) -> Result<()> {
        let bytes = serde_json::to_vec(volume)?;
        self.volumes.insert(volume.id.0, bytes.as_slice()).map_err(failed)?;
        Ok(())
    }

    /// Has no record of it.
    pub fn forget(&mut self, id: VolumeId) -> Result<()> {
        self.volumes.remove(id.0).map_err(failed)?;
        Ok(())
    }

    /// Notes what is begun.
    pub fn begin(&mut self, id: VolumeId, intent: Intent) -> Result<()> {
        let bytes = serde_json::to_vec(&intent)?;
        self.intents.insert(id.0, bytes.as_slice()).map_err(failed)?;
        Ok(())
    }

    /// It has ended.
    pub fn end(&mut self, id: VolumeId) -> Result<()> {
        self.intents.remove(id.0).map_err(failed)?;
        Ok(())
    }
}
