//! Messages that follow from the data model.

use crate::database::{Database, State};
use crate::dispatch::{Args, Context};
use crate::messages;
use radon_api::filter::Filter;
use radon_api::{ApiError, Class, Kind, Message, Origin, Result, Value, model};
use std::collections::BTreeMap;

/// Carries one out.
pub fn carry_out(context: &Context, message: &'static Message, args: &Args) -> Result<Value> {
    let class = model().class(&message.class).ok_or_else(|| ApiError::method_unknown(message.full_name()))?;
    let database = &context.app.database;
    match &message.origin {
        Origin::GetAll => Ok(Value::strings(database.state().objects(&class.name).map(|(r, _)| r.clone()))),
        Origin::GetAllRecords => records(&database.state(), class, None),
        Origin::GetAllRecordsWhere => {
            let text = args.text("expr")?;
            let filter = Filter::parse(text).map_err(|_| ApiError::invalid_value("expr", text))?;
            records(&database.state(), class, Some(&filter))
        }
        Origin::GetRecord => database.state().record(class, args.text("self")?).map(Value::Map),
        Origin::GetByUuid => {
            let uuid = args.text("uuid")?;
            let state = database.state();
            let found = state.by_uuid(&class.name, uuid);
            found.map(|r| Value::from(r.as_str())).ok_or_else(|| ApiError::uuid_invalid(&class.name, uuid))
        }
        Origin::GetByNameLabel => {
            let label = args.value("label")?;
            let state = database.state();
            let named = state.objects(&class.name).filter(|(_, o)| o.row.get("name_label") == Some(label));
            Ok(Value::strings(named.map(|(r, _)| r.clone())))
        }
        Origin::Get(field) => get(database, class, args.text("self")?, field),
        Origin::Set(field) => change(context, class, args, field, |_| Ok(args.value("value")?.clone())),
        Origin::Add(field) => change(context, class, args, field, |old| add(old, class, field, args)),
        Origin::Remove(field) => {
            change(context, class, args, field, |old| Ok(remove(old, class, field, args)))
        }
        Origin::Explicit | Origin::Create | Origin::Destroy => {
            Err(ApiError::not_implemented(message.full_name()))
        }
    }
}

fn records(state: &State, class: &'static Class, filter: Option<&Filter>) -> Result<Value> {
    let mut found = BTreeMap::new();
    for (reference, _) in state.objects(&class.name) {
        let record = state.record(class, reference)?;
        if filter.is_none_or(|f| f.fits(&record)) {
            found.insert(reference.clone(), Value::Map(record));
        }
    }
    Ok(Value::Map(found))
}

fn get(database: &Database, class: &'static Class, reference: &str, field: &str) -> Result<Value> {
    let state = database.state();
    let object = state.object(&class.name, reference)?;
    let field = class.field(field).ok_or_else(|| ApiError::internal(format!("no field {field}")))?;
    Ok(state.value(class, field, reference, object))
}

/// Makes a field's new value of its old one; what must not be is refused before anything changes.
fn change(
    context: &Context,
    class: &'static Class,
    args: &Args,
    field: &str,
    new: impl FnOnce(&Value) -> Result<Value>,
) -> Result<Value> {
    let reference = args.text("self")?;
    let old = context.app.database.change(|c| {
        let old = c.field(&class.name, reference, field)?.clone();
        let value = new(&old)?;
        messages::may_set(context, c, &class.name, reference, field, &value)?;
        c.set(&class.name, reference, field, value)?;
        Ok(old)
    })?;
    messages::was_set(context, &class.name, reference, field, old)?;
    Ok(Value::void())
}

fn add(old: &Value, class: &Class, field: &str, args: &Args) -> Result<Value> {
    let value = args.value("value")?.clone();
    match old {
        Value::Set(items) => {
            let mut items = items.clone();
            if !items.contains(&value) {
                items.push(value);
            }
            Ok(Value::Set(items))
        }
        Value::Map(items) => {
            let key = key(class, field, args.value("key")?);
            if let Some(old) = items.get(&key) {
                return Err(ApiError::duplicate_key(&class.name, key, old.plain(), value.plain()));
            }
            let mut items = items.clone();
            items.insert(key, value);
            Ok(Value::Map(items))
        }
        _ => Err(ApiError::field_type(field)),
    }
}

fn remove(old: &Value, class: &Class, field: &str, args: &Args) -> Value {
    match old {
        Value::Set(items) => {
            let value = args.value("value").ok();
            Value::Set(items.iter().filter(|i| Some(*i) != value).cloned().collect())
        }
        Value::Map(items) => {
            let key = args.value("key").map(|k| key(class, field, k)).unwrap_or_default();
            Value::Map(
                items.iter().filter(|(k, _)| **k != key).map(|(k, v)| (k.clone(), v.clone())).collect(),
            )
        }
        other => other.clone(),
    }
}

/// Keys of maps are text, whatever their type.
fn key(class: &Class, field: &str, value: &Value) -> String {
    match class.field(field).map(|f| &f.kind) {
        Some(Kind::Map(..)) => value.plain(),
        _ => String::new(),
    }
}
