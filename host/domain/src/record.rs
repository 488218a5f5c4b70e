//! The record of VMs and of what is being done with them: one file, in transactions.
//!
//! Rows are JSON: a program of another version reads what it knows. The file belongs to one process at a time; another one waits
//! for a while and then says so.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::machine::Power;
use crate::uuid::Uuid;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const VMS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("vms");
const TASKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("tasks");

/// Ended tasks that are kept to be looked at.
const KEPT_TASKS: usize = 100;

/// How long to wait for another process that has the file open.
const PATIENCE: Duration = Duration::from_secs(60);

/// A VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// Its identity.
    pub uuid: Uuid,
    /// What it is to be.
    pub config: Config,
    /// What it is to be doing.
    pub power: Power,
    /// Its domain, once that is complete.
    pub domid: Option<u16>,
    /// Where its guest's state is, or is being written.
    #[serde(default)]
    pub saved: Option<PathBuf>,
}

/// How a task stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Under way, or cut short by the end of the process.
    Running,
    /// Done.
    Done,
    /// Ended with this error, what it had begun undone.
    Failed(String),
    /// Found cut short when the program started again, and repaired.
    Repaired,
}

/// An operation on a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its number.
    pub id: u64,
    /// The VM.
    pub vm: Uuid,
    /// The operation's name.
    pub operation: String,
    /// The step that it is at, or was at last.
    pub step: String,
    /// Steps begun so far.
    pub steps: u32,
    /// How it stands.
    pub outcome: Outcome,
}

/// The record, open.
#[derive(Debug)]
pub struct Record {
    database: Database,
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::Record(error.to_string())
}

impl Record {
    /// Opens the file, and makes it if there is none.
    pub fn open(path: &Path) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        let database = loop {
            match Database::create(path) {
                Ok(database) => break database,
                Err(DatabaseError::DatabaseAlreadyOpen) if Instant::now() < deadline => {
                    // Nothing tells when the other process lets go.
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(DatabaseError::DatabaseAlreadyOpen) => {
                    return Err(broken(format!(
                        "{} is in use by another process (wait for it, or end it)",
                        path.display()
                    )));
                }
                Err(error) => return Err(broken(format!("{}: {error}", path.display()))),
            }
        };
        let record = Self { database };
        record.change(|_, _| Ok(()))?;
        Ok(record)
    }

    /// All VMs, by UUID.
    pub fn vms(&self) -> Result<Vec<Vm>> {
        let read = self.database.begin_read().map_err(broken)?;
        let table = read.open_table(VMS).map_err(broken)?;
        table.iter().map_err(broken)?.map(|row| parse(row.map_err(broken)?.1.value())).collect()
    }

    /// A VM by name or UUID.
    pub fn find(&self, name: &str) -> Result<Vm> {
        let unknown = || Error::Unknown { what: "VM", name: name.to_owned() };
        self.vms()?
            .into_iter()
            .find(|vm| vm.config.name == name || vm.uuid.to_string() == name)
            .ok_or_else(unknown)
    }

    /// A VM by UUID.
    pub fn vm(&self, uuid: Uuid) -> Result<Vm> {
        self.find(&uuid.to_string())
    }

    /// Adds a VM whose name is not taken.
    pub fn add(&self, vm: &Vm) -> Result<()> {
        if self.vms()?.iter().any(|other| other.config.name == vm.config.name) {
            return Err(Error::Invalid(format!("there is a VM {} already", vm.config.name)));
        }
        self.put(vm)
    }

    /// Writes a VM.
    pub fn put(&self, vm: &Vm) -> Result<()> {
        let bytes = serde_json::to_vec(vm).map_err(broken)?;
        self.change(|vms, _| {
            vms.insert(vm.uuid.to_string().as_str(), bytes.as_slice()).map(drop).map_err(broken)
        })
    }

    /// Changes a VM, and returns it.
    pub fn update(&self, uuid: Uuid, change: impl FnOnce(&mut Vm)) -> Result<Vm> {
        let mut vm = self.vm(uuid)?;
        change(&mut vm);
        self.put(&vm)?;
        Ok(vm)
    }

    /// Forgets a VM.
    pub fn remove(&self, uuid: Uuid) -> Result<()> {
        self.change(|vms, _| vms.remove(uuid.to_string().as_str()).map(drop).map_err(broken))
    }

    /// All tasks that are kept, oldest first.
    pub fn tasks(&self) -> Result<Vec<Task>> {
        let read = self.database.begin_read().map_err(broken)?;
        let table = read.open_table(TASKS).map_err(broken)?;
        table.iter().map_err(broken)?.map(|row| parse(row.map_err(broken)?.1.value())).collect()
    }

    /// Notes a new task. A VM has one at a time.
    pub fn begin(&self, vm: Uuid, operation: &str) -> Result<Task> {
        let tasks = self.tasks()?;
        if let Some(other) = tasks.iter().find(|t| t.vm == vm && t.outcome == Outcome::Running) {
            return Err(Error::Invalid(format!(
                "task {} ({}) of this VM is under way or was cut short (cure: `radon-domain recover`)",
                other.id, other.operation
            )));
        }
        let id = tasks.last().map_or(1, |t| t.id + 1);
        let task = Task {
            id,
            vm,
            operation: operation.to_owned(),
            step: String::new(),
            steps: 0,
            outcome: Outcome::Running,
        };
        let ended: Vec<u64> = tasks.iter().filter(|t| t.outcome != Outcome::Running).map(|t| t.id).collect();
        let old = ended.len().saturating_sub(KEPT_TASKS);
        let bytes = serde_json::to_vec(&task).map_err(broken)?;
        self.change(|_, table| {
            for id in ended.iter().take(old) {
                table.remove(id).map_err(broken)?;
            }
            table.insert(id, bytes.as_slice()).map(drop).map_err(broken)
        })?;
        Ok(task)
    }

    /// Writes a task.
    pub fn note(&self, task: &Task) -> Result<()> {
        let bytes = serde_json::to_vec(task).map_err(broken)?;
        self.change(|_, table| table.insert(task.id, bytes.as_slice()).map(drop).map_err(broken))
    }

    fn change(&self, body: impl FnOnce(&mut VmTable<'_>, &mut TaskTable<'_>) -> Result<()>) -> Result<()> {
        let write = self.database.begin_write().map_err(broken)?;
        {
            let mut vms = write.open_table(VMS).map_err(broken)?;
            let mut tasks = write.open_table(TASKS).map_err(broken)?;
            body(&mut vms, &mut tasks)?;
        }
        write.commit().map_err(broken)
    }
}

type VmTable<'a> = redb::Table<'a, &'static str, &'static [u8]>;
type TaskTable<'a> = redb::Table<'a, u64, &'static [u8]>;

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> (tempfile::TempDir, Record) {
        let folder = tempfile::tempdir().unwrap();
        let record = Record::open(&folder.path().join("db")).unwrap();
        (folder, record)
    }

    fn vm(name: &str) -> Vm {
        let config = Config::new(name, "/kernel".into());
        Vm { uuid: Uuid::random().unwrap(), config, power: Power::Halted, domid: None, saved: None }
    }

    #[test]
    fn vms_are_kept_and_names_are_unique() {
        let (folder, record) = record();
        let mut one = vm("one");
        one.config.disks.insert(
            "xvda".parse().unwrap(),
            crate::config::Disk { path: "/d".into(), read_only: true, backend: Default::default() },
        );
        one.config.nics.insert(
            crate::config::NicId(3),
            crate::config::Nic {
                bridge: "b".into(),
                mac: Some("00:16:3e:00:00:01".parse().unwrap()),
                port: None,
            },
        );
        record.add(&one).unwrap();
        assert!(record.add(&vm("one")).is_err());
        record.update(one.uuid, |vm| vm.power = Power::Running).unwrap();
        drop(record);
        let record = Record::open(&folder.path().join("db")).unwrap();
        one.power = Power::Running;
        assert_eq!(record.find("one").unwrap(), one);
        assert_eq!(record.find(&one.uuid.to_string()).unwrap(), one);
        record.remove(one.uuid).unwrap();
        assert!(record.find("one").is_err());
    }

    #[test]
    fn a_vm_has_one_task_at_a_time_and_old_ones_go() {
        let (_folder, record) = record();
        let vm = Uuid::random().unwrap();
        let mut task = record.begin(vm, "start").unwrap();
        assert!(record.begin(vm, "pause").is_err());
        let other = record.begin(Uuid::random().unwrap(), "start").unwrap();
        task.outcome = Outcome::Failed("why".into());
        record.note(&task).unwrap();
        for _ in 0..KEPT_TASKS + 5 {
            let mut task = record.begin(vm, "pause").unwrap();
            task.outcome = Outcome::Done;
            record.note(&task).unwrap();
        }
        let tasks = record.tasks().unwrap();
        assert!(tasks.len() <= KEPT_TASKS + 2, "{}", tasks.len());
        assert!(tasks.iter().any(|t| t.id == other.id), "a running task is never forgotten");
    }
}
