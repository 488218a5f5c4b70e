//! Work that goes on behind the answer.

use crate::app::App;
use crate::database::Row;
use radon_api::{ApiError, Result, Time, Value, xmlrpc};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many ended tasks are kept.
const KEPT: usize = 200;

/// Flags of tasks under way, by reference: set to have one cancelled.
#[derive(Default)]
pub struct Tasks(Mutex<HashMap<String, Arc<AtomicBool>>>);

impl Tasks {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Arc<AtomicBool>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a task to end; whether it is under way.
    pub fn cancel(&self, reference: &str) -> bool {
        let all = self.all();
        let flag = all.get(reference);
        flag.inspect(|f| f.store(true, Ordering::Relaxed)).is_some()
    }
}

/// A task under way.
pub struct Task {
    app: Arc<App>,
    /// Its reference.
    pub reference: String,
    /// Somebody wants it to end.
    pub cancel: Arc<AtomicBool>,
}

/// Notes a new task that nobody carries out yet.
pub fn create(app: &App, label: &str, description: &str, session: &str, kind: &str) -> Result<String> {
    let fields = Row::from([
        ("name_label".to_owned(), Value::from(label)),
        ("name_description".to_owned(), Value::from(description)),
        ("created".to_owned(), Value::Time(Time::now())),
        ("resident_on".to_owned(), Value::from(app.host.as_str())),
        ("session".to_owned(), Value::from(session)),
        ("type".to_owned(), Value::from(kind)),
    ]);
    app.database.change(|c| {
        let ended = |r: &Row| r.get("status").and_then(Value::text) != Some("pending");
        let mut old: Vec<(Time, String)> = Vec::new();
        for (reference, object) in c.before().objects("task").filter(|(_, o)| ended(&o.row)) {
            if let Some(Value::Time(finished)) = object.row.get("finished") {
                old.push((*finished, reference.clone()));
            }
        }
        old.sort();
        for (_, reference) in old.iter().take(old.len().saturating_sub(KEPT)) {
            c.remove("task", reference)?;
        }
        c.insert("task", fields)
    })
}

impl Task {
    /// Carries out a task that was noted.
    pub fn begin(app: &Arc<App>, reference: &str) -> Self {
        let cancel = Arc::new(AtomicBool::new(false));
        app.tasks.all().insert(reference.to_owned(), cancel.clone());
        Self { app: app.clone(), reference: reference.to_owned(), cancel }
    }

    /// How much is done, 0 to 1; an error if somebody wants it to end.
    pub fn progress(&self, done: f64) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(ApiError::task_cancelled(&self.reference));
        }
        self.app.database.change(|c| {
            let shown =
                matches!(c.field("task", &self.reference, "progress")?, Value::Float(p) if done - p < 0.01);
            if shown { Ok(()) } else { c.set("task", &self.reference, "progress", done) }
        })
    }

    /// Notes how it ended.
    pub fn end(self, result: &Result<Value>) {
        self.app.tasks.all().remove(&self.reference);
        let noted = self.app.database.change(|c| {
            let task = self.reference.as_str();
            c.set("task", task, "finished", Time::now())?;
            match result {
                Ok(value) => {
                    let mut text = String::new();
                    if *value != Value::void() {
                        xmlrpc::write(&mut text, value);
                    }
                    c.set("task", task, "result", text)?;
                    c.set("task", task, "progress", 1.0)?;
                    c.set("task", task, "status", "success")
                }
                Err(error) => {
                    let words = std::iter::once(error.code.to_owned()).chain(error.params.iter().cloned());
                    c.set("task", task, "error_info", Value::strings(words))?;
                    let cancelled = error.code == "TASK_CANCELLED";
                    c.set("task", task, "status", if cancelled { "cancelled" } else { "failure" })
                }
            }
        });
        // A task that was destroyed meanwhile has nobody who asks for it.
        drop(noted);
    }
}
