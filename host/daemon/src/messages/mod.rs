//! What each class's own messages do: a file for each class.

pub(crate) mod console;
pub mod event;
pub mod host;
pub mod message;
pub mod network;
mod network_settings;
pub mod pbd;
pub mod session;
pub mod sr;
pub mod subject;
pub mod task;
pub mod vbd;
pub mod vdi;
pub mod vif;
mod vif_port;
pub mod vm;
pub mod vm_copy;
pub mod vm_power;
pub mod vm_sync;

use crate::database::{Change, Row, State};
use crate::dispatch::{Context, Handler};
use radon_api::{ApiError, Class, Result, Value};

/// All handlers, by message.
pub fn all() -> Vec<(&'static str, Handler)> {
    let mut all = Vec::new();
    for part in [
        event::HANDLERS,
        host::HANDLERS,
        message::HANDLERS,
        network::HANDLERS,
        pbd::HANDLERS,
        session::HANDLERS,
        sr::HANDLERS,
        subject::HANDLERS,
        task::HANDLERS,
        vbd::HANDLERS,
        vdi::HANDLERS,
        vif::HANDLERS,
        vm::HANDLERS,
        vm_copy::HANDLERS,
        vm_power::HANDLERS,
    ] {
        all.extend_from_slice(part);
    }
    all
}

/// What can be done with an object now.
pub fn allowed(state: &State, class: &Class, row: &Row) -> Value {
    let busy = !matches!(row.get("current_operations"), Some(Value::Map(items)) if items.is_empty());
    if busy {
        return Value::Set(Vec::new());
    }
    let words: Vec<&str> = match class.name.as_str() {
        "VM" => vm::allowed(row),
        "VBD" => vbd::allowed(state, row),
        "VIF" => vif::allowed(state, row),
        "VDI" => vec!["snapshot", "clone", "copy", "resize", "resize_online", "destroy", "update", "forget"],
        "SR" => vec![
            "scan",
            "update",
            "destroy",
            "forget",
            "plug",
            "unplug",
            "vdi_create",
            "vdi_destroy",
            "vdi_resize",
        ],
        "network" => vec!["attaching"],
        "host" if truth(row, "enabled") => vec!["provision", "vm_start"],
        "task" if text(row, "status") == "pending" => vec!["cancel", "destroy"],
        "task" => vec!["destroy"],
        _ => Vec::new(),
    };
    Value::strings(words)
}

/// Whether a field may get that value from a client: what the model's types do not say. May change other fields with it.
pub fn may_set(
    context: &Context,
    change: &mut Change<'_>,
    class: &str,
    reference: &str,
    field: &str,
    value: &Value,
) -> Result<()> {
    match class {
        "VM" => vm::may_set(change, reference, field, value),
        "VBD" => vbd::may_set(change, reference, field, value),
        "PBD" => pbd::may_set(change, reference, field),
        "task" => task::may_change(context, change, reference),
        "network" if field == "MTU" => in_range(field, value, 68, 65_535),
        "network" => network::may_set(change, reference, field, value),
        "VIF" => vif::may_set(change, reference, field, value),
        _ => Ok(()),
    }
}

/// What follows from another value of a field, outside of the database. If it cannot be, the error says so.
pub fn was_set(context: &Context, class: &str, reference: &str, field: &str, old: Value) -> Result<()> {
    match class {
        "network" => network::was_set(context, reference, field, old),
        "VIF" => vif::was_set(context, reference, field, old),
        _ => Ok(()),
    }
}

fn in_range(field: &str, value: &Value, least: i64, most: i64) -> Result<()> {
    let number = value.int().unwrap_or_default();
    if (least..=most).contains(&number) { Ok(()) } else { Err(ApiError::invalid_value(field, number)) }
}

/// A field of a row as text; empty if there is none.
pub fn text<'a>(row: &'a Row, field: &str) -> &'a str {
    row.get(field).and_then(Value::text).unwrap_or_default()
}

/// A field of a row as a number; 0 if there is none.
pub fn int(row: &Row, field: &str) -> i64 {
    row.get(field).and_then(Value::int).unwrap_or_default()
}

/// Whether a field of a row is true.
pub fn truth(row: &Row, field: &str) -> bool {
    row.get(field).is_some_and(Value::truth)
}

/// No result.
pub fn done() -> Result<Value> {
    Ok(Value::void())
}
