//! Steps of an operation: where it can be followed, cancelled, and, in tests, killed.

use crate::error::{Error, Result};
use crate::record::{Outcome, Record, Task};
use crate::uuid::Uuid;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

macro_rules! steps {
    ($($(#[$doc:meta])+ $name:ident = $text:literal,)+) => {
        /// A step of an operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Step { $($(#[$doc])+ $name,)+ }

        impl Step {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

steps! {
    /// Kernel and RAM disk are read.
    ReadFiles = "read-files",
    /// The hypervisor makes a domain.
    CreateDomain = "create-domain",
    /// vCPUs, limits, CPUID policy.
    SetLimits = "set-limits",
    /// It gets its memory.
    Populate = "populate",
    /// The kernel is put there.
    Load = "load",
    /// Parameters, event channels, grants, registers.
    Parameters = "parameters",
    /// Its nodes are written to the store.
    WriteNodes = "write-nodes",
    /// The store's daemon is told of its ring.
    Introduce = "introduce",
    /// A disk's block device is opened.
    OpenDisk = "open-disk",
    /// A disk's nodes are written.
    WriteDisk = "write-disk",
    /// dom0's kernel takes the disk up.
    AwaitDisk = "await-disk",
    /// An interface's nodes are written.
    WriteNic = "write-nic",
    /// dom0's kernel makes its end of the interface.
    AwaitNic = "await-nic",
    /// That end becomes a port of the bridge.
    JoinBridge = "join-bridge",
    /// The nodes of a framebuffer, or of its keyboard, are written.
    WriteScreen = "write-screen",
    /// `radon-vnc` takes it up.
    AwaitScreen = "await-screen",
    /// The record says that the domain is complete.
    RecordDomain = "record-domain",
    /// Its vCPUs may run.
    Unpause = "unpause",
    /// Its vCPUs stop.
    Pause = "pause",
    /// The record says what is to be so.
    Commit = "commit",
    /// The guest is asked to end.
    AskGuest = "ask-guest",
    /// It says that it has understood.
    AwaitAnswer = "await-answer",
    /// It ends.
    AwaitEnd = "await-end",
    /// A device is told to close, and goes.
    Detach = "detach",
    /// A device's nodes are removed.
    RemoveDevice = "remove-device",
    /// The hypervisor takes the domain away.
    DestroyDomain = "destroy-domain",
    /// Its last page is free.
    AwaitGone = "await-gone",
    /// Its nodes are removed.
    RemoveNodes = "remove-nodes",
    /// Limit and target of its memory are set.
    SetTarget = "set-target",
    /// The guest's balloon follows.
    AwaitBalloon = "await-balloon",
    /// A suspended guest's state is written to a file.
    Save = "save",
    /// A guest that was suspended in vain goes on where it was.
    GoOn = "go-on",
    /// A new domain gets the state that is in a file.
    Restore = "restore",
    /// The file is removed.
    RemoveFile = "remove-file",
    /// The guest is told which vCPUs to use.
    SetVcpus = "set-vcpus",
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who follows an operation.
pub trait Progress {
    /// The operation is about to do this step; an error ends it here.
    fn at(&mut self, step: Step) -> Result<()>;

    /// Somebody wants it to end before it is done.
    fn cancelled(&self) -> bool {
        false
    }
}

/// From outside: whether an operation is to go on.
#[derive(Debug, Default)]
pub struct Control {
    /// Set to have it cancelled at its next step; what it has begun is undone.
    pub cancel: Arc<AtomicBool>,
    /// The process is killed on entering the step of this number (from 1): how tests cut operations short.
    pub kill_at_step: Option<u32>,
    /// The operation is cancelled on entering the step of this number.
    pub cancel_at_step: Option<u32>,
    /// Steps are printed as they begin.
    pub verbose: bool,
}

/// Follows an operation into the record.
#[derive(Debug)]
pub struct Journal<'a> {
    record: &'a Record,
    task: Task,
    control: &'a Control,
    sealed: bool,
}

impl<'a> Journal<'a> {
    /// Notes a new task.
    pub fn begin(record: &'a Record, vm: Uuid, operation: &str, control: &'a Control) -> Result<Self> {
        let task = record.begin(vm, operation)?;
        Ok(Self { record, task, control, sealed: false })
    }

    /// Goes on with a task that was cut short.
    pub fn resume(record: &'a Record, task: Task, control: &'a Control) -> Self {
        Self { record, task, control, sealed: false }
    }

    /// From here on it goes through to its end, whoever would have it cancelled: what follows only takes away.
    pub fn seal(&mut self) {
        self.sealed = true;
    }

    /// Notes its end.
    pub fn end(mut self, outcome: Outcome) -> Result<()> {
        self.task.outcome = outcome;
        self.record.note(&self.task)
    }
}

impl Progress for Journal<'_> {
    fn at(&mut self, step: Step) -> Result<()> {
        let number = self.task.steps + 1;
        if self.control.cancel_at_step == Some(number) {
            self.control.cancel.store(true, Ordering::Relaxed);
        }
        if self.cancelled() {
            return Err(Error::Cancelled(step.to_string()));
        }
        self.task.step = step.to_string();
        self.task.steps = number;
        self.record.note(&self.task)?;
        if self.control.verbose {
            eprintln!("{}: step {}, {step}", self.task.operation, self.task.steps);
        }
        if self.control.kill_at_step == Some(self.task.steps) {
            kill_self();
        }
        Ok(())
    }

    fn cancelled(&self) -> bool {
        !self.sealed && self.control.cancel.load(Ordering::Relaxed)
    }
}

/// Ends this process as the kernel's out-of-memory killer would.
fn kill_self() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_task_ends_at_its_next_step_unless_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let record = Record::open(&folder.path().join("db")).unwrap();
        let control = Control::default();
        let vm = Uuid::random().unwrap();
        let mut journal = Journal::begin(&record, vm, "start", &control).unwrap();
        journal.at(Step::Populate).unwrap();
        control.cancel.store(true, Ordering::Relaxed);
        assert!(matches!(journal.at(Step::Load), Err(Error::Cancelled(step)) if step == "load"));
        journal.seal();
        journal.at(Step::DestroyDomain).unwrap();
        let task = &record.tasks().unwrap()[0];
        assert_eq!((task.step.as_str(), task.steps, &task.outcome), ("destroy-domain", 2, &Outcome::Running));
        journal.end(Outcome::Failed("cancelled".into())).unwrap();
        assert_eq!(record.tasks().unwrap()[0].outcome, Outcome::Failed("cancelled".into()));
    }
}
