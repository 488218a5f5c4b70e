//! The file: one row for each object, as JSON.

use super::Change;
use super::state::Row;
use radon_api::{Class, jsonrpc, model};
use redb::{Database as Redb, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value as Json;
use std::path::Path;

const OBJECTS: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("objects");

/// What can go wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// Another process has it.
    #[error("another radond has this database; end that one first")]
    Busy,
    /// The file.
    #[error("{0}")]
    File(#[from] redb::Error),
    /// A row.
    #[error("the row of {0} {1} cannot be read: {2}")]
    Row(String, String, String),
}

fn file(error: impl Into<redb::Error>) -> Failed {
    Failed::File(error.into())
}

/// The opened file.
pub(super) struct Disk(Redb);

impl Disk {
    pub fn open(path: &Path) -> Result<Self, Failed> {
        let database = match Redb::create(path) {
            Err(DatabaseError::DatabaseAlreadyOpen) => return Err(Failed::Busy),
            other => other.map_err(file)?,
        };
        let transaction = database.begin_write().map_err(file)?;
        drop(transaction.open_table(OBJECTS).map_err(file)?);
        transaction.commit().map_err(file)?;
        Ok(Self(database))
    }

    /// Tells all rows. Fields that the model does not have (any more) are left out, new ones have their defaults.
    pub fn read(&self, mut tell: impl FnMut(&'static Class, &str, Row)) -> Result<(), Failed> {
        let transaction = self.0.begin_read().map_err(file)?;
        let table = transaction.open_table(OBJECTS).map_err(file)?;
        for entry in table.iter().map_err(file)? {
            let (key, bytes) = entry.map_err(file)?;
            let (name, reference) = key.value();
            let Some(class) = model().class(name) else { continue };
            let wrong = |why: String| Failed::Row(name.to_owned(), reference.to_owned(), why);
            let kept: Json = serde_json::from_slice(bytes.value()).map_err(|e| wrong(e.to_string()))?;
            let mut row = Row::new();
            for field in class.fields.iter().filter(|f| f.from.is_none()) {
                let value = match kept.get(&field.name) {
                    Some(json) => {
                        let value = jsonrpc::from_json(json.clone()).map_err(wrong)?;
                        field.kind.accept(model(), &field.name, value).map_err(|e| wrong(e.to_string()))?
                    }
                    None => field.default.clone().unwrap_or_else(|| field.kind.empty()),
                };
                row.insert(field.name.clone(), value);
            }
            tell(class, reference, row);
        }
        Ok(())
    }

    /// One transaction: all of it is on the disk when this returns.
    pub fn write(&self, changes: &super::change::Changes) -> Result<(), Failed> {
        let mut lasting = changes.rows.iter().filter(|c| c.lasting).peekable();
        if lasting.peek().is_none() {
            return Ok(());
        }
        let transaction = self.0.begin_write().map_err(file)?;
        {
            let mut table = transaction.open_table(OBJECTS).map_err(file)?;
            for change in lasting {
                let key = (change.class.name.as_str(), change.reference.as_str());
                match &change.row {
                    Some(row) => {
                        let kept = row.iter().filter(|(name, _)| Change::is_kept(name));
                        let json: serde_json::Map<String, Json> =
                            kept.map(|(name, value)| (name.clone(), jsonrpc::json(value))).collect();
                        let bytes = Json::Object(json).to_string();
                        table.insert(key, bytes.as_bytes()).map_err(file)?;
                    }
                    None => drop(table.remove(key).map_err(file)?),
                }
            }
        }
        transaction.commit().map_err(file)
    }
}
