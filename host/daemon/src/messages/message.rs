//! `message`: what somebody should read.

use super::{done, text};
use crate::app::{App, fields};
use crate::database::Row;
use crate::dispatch::{Args, Context, Handler};
use radon_api::{ApiError, Result, Time, Value, model};
use std::collections::BTreeMap;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("message.create", create),
    ("message.destroy", destroy),
    ("message.destroy_many", destroy_many),
    ("message.get", get),
    ("message.get_since", get_since),
];

/// The class that a word of the enumeration `cls` means.
fn class_of(word: &str) -> Result<&'static str> {
    let class = model().classes.iter().find(|c| c.name.eq_ignore_ascii_case(word));
    class.map(|c| c.name.as_str()).ok_or_else(|| ApiError::invalid_value("cls", word))
}

/// Leaves a message of the host's own about a VM.
pub fn tell(app: &App, name: &str, vm: &str, body: &str) -> Result<()> {
    app.database.change(|c| {
        let uuid = c.text("VM", vm, "uuid")?.to_owned();
        let row = fields([
            ("timestamp", Value::Time(Time::now())),
            ("name", Value::from(name)),
            ("priority", Value::from(3i64)),
            ("cls", Value::from("VM")),
            ("obj_uuid", Value::from(uuid)),
            ("body", Value::from(body)),
        ]);
        c.insert("message", row).map(drop)
    })
}

fn create(context: &Context, args: &Args) -> Result<Value> {
    let (class, uuid) = (class_of(args.text("cls")?)?, args.text("obj_uuid")?);
    let made = context.app.database.change(|c| {
        if c.before().by_uuid(class, uuid).is_none() {
            return Err(ApiError::uuid_invalid(class, uuid));
        }
        let mut row = fields([("timestamp", Value::Time(Time::now()))]);
        for name in ["name", "priority", "cls", "obj_uuid", "body"] {
            row.insert(name.to_owned(), args.value(name)?.clone());
        }
        c.insert("message", row)
    })?;
    Ok(Value::from(made))
}

fn destroy(context: &Context, args: &Args) -> Result<Value> {
    context.app.database.change(|c| c.remove("message", args.text("self")?))?;
    done()
}

fn destroy_many(context: &Context, args: &Args) -> Result<Value> {
    context.app.database.change(|c| {
        let all = args.value("messages")?.items().iter().filter_map(Value::text);
        all.into_iter().try_for_each(|reference| c.remove("message", reference))
    })?;
    done()
}

fn records(context: &Context, wanted: impl Fn(&Row) -> bool) -> Result<Value> {
    let state = context.app.database.state();
    let all = state.objects("message").filter(|(_, o)| wanted(&o.row));
    Ok(Value::Map(all.map(|(r, o)| (r.clone(), Value::Map(o.row.clone()))).collect::<BTreeMap<_, _>>()))
}

fn is_after(row: &Row, since: &Value) -> bool {
    match (row.get("timestamp"), since) {
        (Some(Value::Time(at)), Value::Time(since)) => at >= since,
        _ => false,
    }
}

fn get(context: &Context, args: &Args) -> Result<Value> {
    let (class, uuid, since) = (args.text("cls")?, args.text("obj_uuid")?, args.value("since")?);
    records(context, |row| text(row, "cls") == class && text(row, "obj_uuid") == uuid && is_after(row, since))
}

fn get_since(context: &Context, args: &Args) -> Result<Value> {
    let since = args.value("since")?;
    records(context, |row| is_after(row, since))
}
