//! Messages that follow from a class and its fields.

use super::{Access, Class, Field, Message, Origin, Param};
use crate::kind::Kind;
use crate::role::Role;

/// Adds them to a class, but for those that it has its own version of.
pub(super) fn add(class: &mut Class) {
    let mut made = Vec::new();
    if !class.is_abstract {
        whole(class, &mut made);
    }
    for field in &class.fields {
        of_field(&class.name, field, &mut made);
    }
    made.retain(|m: &Message| !class.messages.iter().any(|own| own.name == m.name));
    class.messages.extend(made);
}

fn param(name: &str, kind: Kind) -> Param {
    Param { name: name.to_owned(), kind, default: None }
}

fn message(
    class: &str,
    name: String,
    params: Vec<Param>,
    result: Kind,
    role: Role,
    origin: Origin,
) -> Message {
    let doc = match &origin {
        Origin::Explicit => String::new(),
        Origin::GetAll => "references to all objects".to_owned(),
        Origin::GetAllRecords => "records of all objects".to_owned(),
        Origin::GetAllRecordsWhere => {
            "records of the objects that fit: `field \"name\" = \"value\"`, `and`, `or`, `not (...)`"
                .to_owned()
        }
        Origin::GetRecord => "all fields of an object".to_owned(),
        Origin::GetByUuid => "the object of that number".to_owned(),
        Origin::GetByNameLabel => "objects of that name".to_owned(),
        Origin::Create => "makes an object".to_owned(),
        Origin::Destroy => "removes an object".to_owned(),
        Origin::Get(field) => format!("reads {field}"),
        Origin::Set(field) => format!("writes {field}"),
        Origin::Add(field) => format!("adds to {field}"),
        Origin::Remove(field) => format!("takes from {field}"),
    };
    Message { class: class.to_owned(), name, params, result, role, errors: Vec::new(), doc, origin }
}

/// About objects as a whole.
fn whole(class: &Class, made: &mut Vec<Message>) {
    let name = class.name.as_str();
    let reference = || Kind::Ref(name.to_owned());
    let record = || Kind::Record(name.to_owned());
    let records = || Kind::Map(Box::new(reference()), Box::new(record()));
    let mut add = |message_name: &str, params, result, role, origin| {
        made.push(message(name, message_name.to_owned(), params, result, role, origin));
    };
    let read = Role::ReadOnly;
    if !class.unlisted {
        add("get_all", vec![], Kind::Set(Box::new(reference())), read, Origin::GetAll);
        add("get_all_records", vec![], records(), read, Origin::GetAllRecords);
        let expression = vec![param("expr", Kind::String)];
        add("get_all_records_where", expression, records(), read, Origin::GetAllRecordsWhere);
    }
    add("get_record", vec![param("self", reference())], record(), read, Origin::GetRecord);
    add("get_by_uuid", vec![param("uuid", Kind::String)], reference(), read, Origin::GetByUuid);
    if class.field("name_label").is_some() {
        let label = vec![param("label", Kind::String)];
        add("get_by_name_label", label, Kind::Set(Box::new(reference())), read, Origin::GetByNameLabel);
    }
    if let Some(role) = class.made_by {
        add("create", vec![param("args", record())], reference(), role, Origin::Create);
        add("destroy", vec![param("self", reference())], Kind::Void, role, Origin::Destroy);
    }
}

/// About one field.
fn of_field(class: &str, field: &Field, made: &mut Vec<Message>) {
    if field.access == Access::Hidden {
        return;
    }
    let name = &field.name;
    let own = || param("self", Kind::Ref(class.to_owned()));
    let mut add = |message_name: String, params, result, role, origin| {
        made.push(message(class, message_name, params, result, role, origin));
    };
    add(format!("get_{name}"), vec![own()], field.kind.clone(), Role::ReadOnly, Origin::Get(name.clone()));
    let (Access::ReadWrite(role) | Access::Constructor(Some(role))) = field.access else { return };
    let value = param("value", field.kind.clone());
    add(format!("set_{name}"), vec![own(), value], Kind::Void, role, Origin::Set(name.clone()));
    match &field.kind {
        Kind::Set(item) => {
            let value = || param("value", (**item).clone());
            add(format!("add_{name}"), vec![own(), value()], Kind::Void, role, Origin::Add(name.clone()));
            add(
                format!("remove_{name}"),
                vec![own(), value()],
                Kind::Void,
                role,
                Origin::Remove(name.clone()),
            );
        }
        Kind::Map(key, item) => {
            let key = || param("key", (**key).clone());
            let value = param("value", (**item).clone());
            let (adds, removes) = (format!("add_to_{name}"), format!("remove_from_{name}"));
            add(adds, vec![own(), key(), value], Kind::Void, role, Origin::Add(name.clone()));
            add(removes, vec![own(), key()], Kind::Void, role, Origin::Remove(name.clone()));
        }
        _ => {}
    }
}
