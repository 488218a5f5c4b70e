//! The data model: what `model/*.model` says, and the messages that follow from it.
//!
//! ```text
//! enum NAME WORD...
//! class NAME: DOC
//!   volatile | silent | unlisted | abstract | made by ROLE
//!   field ro|rw(ROLE)|const[(ROLE)] NAME TYPE [= DEFAULT | from CLASS.FIELD] -- DOC
//!   hidden NAME TYPE = DEFAULT -- DOC
//!   call NAME(PARAM: TYPE [= DEFAULT], ...) -> TYPE as ROLE -- DOC [!ERROR ERROR ...]
//! ```
//! *volatile*: gone when the host daemon ends; *silent*: no events; *unlisted*: no `get_all`; *abstract*: no objects. A *const* field is
//! given when the object is made; one with a role can be set later as well. A field *from* another class's reference lists the
//! objects that refer to this one.

mod implicit;
mod parse;

use crate::kind::Kind;
use crate::role::Role;
use crate::value::Value;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Everything.
#[derive(Debug, Default)]
pub struct Model {
    /// Classes, in the order of the files.
    pub classes: Vec<Class>,
    /// Words of each enumeration.
    pub enums: BTreeMap<String, Vec<String>>,
    /// Messages by full name, the implicit ones included: where they are in `classes`.
    messages: BTreeMap<String, (usize, usize)>,
}

/// A class.
#[derive(Debug)]
pub struct Class {
    /// XenAPI's name.
    pub name: String,
    /// What it is.
    pub doc: String,
    /// Its objects are gone when the host daemon ends.
    pub volatile: bool,
    /// Its objects make no events.
    pub silent: bool,
    /// Its objects cannot be listed.
    pub unlisted: bool,
    /// It has no objects.
    pub is_abstract: bool,
    /// Who may make and remove its objects with `create` and `destroy`.
    pub made_by: Option<Role>,
    /// Its fields.
    pub fields: Vec<Field>,
    /// Its messages, the implicit ones behind the others.
    pub messages: Vec<Message>,
}

/// How a client may write a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Not at all.
    ReadOnly,
    /// When the object is made; later too, with that role.
    Constructor(Option<Role>),
    /// When the object is made, and later with that role.
    ReadWrite(Role),
    /// Nor read.
    Hidden,
}

/// A field.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// How a client may write it.
    pub access: Access,
    /// Its value unless it is given one.
    pub default: Option<Value>,
    /// The class and field whose references it lists.
    pub from: Option<(String, String)>,
    /// What it is.
    pub doc: String,
}

/// A parameter.
#[derive(Clone, Debug)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// What it is when left out.
    pub default: Option<Value>,
}

/// What a message follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It stands in the model.
    Explicit,
    /// References to all objects.
    GetAll,
    /// Records of all objects.
    GetAllRecords,
    /// Records of those that fit an expression.
    GetAllRecordsWhere,
    /// The record of one.
    GetRecord,
    /// The one of a number.
    GetByUuid,
    /// Those of a name.
    GetByNameLabel,
    /// Makes one of a record.
    Create,
    /// Removes one.
    Destroy,
    /// Reads a field.
    Get(String),
    /// Writes a field.
    Set(String),
    /// Adds an item to a set, or a key to a map.
    Add(String),
    /// Takes one away.
    Remove(String),
}

/// A message.
#[derive(Debug)]
pub struct Message {
    /// The class's name.
    pub class: String,
    /// Its own name.
    pub name: String,
    /// Parameters, without the session.
    pub params: Vec<Param>,
    /// What it answers.
    pub result: Kind,
    /// Who may call it.
    pub role: Role,
    /// Codes of errors besides those that every message may have.
    pub errors: Vec<String>,
    /// What it does.
    pub doc: String,
    /// What it follows from.
    pub origin: Origin,
}

impl Message {
    /// `class.name`.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.class, self.name)
    }

    /// Whether it is called with a session.
    pub fn needs_session(&self) -> bool {
        self.role != Role::Anyone
    }

    /// Whether `Async.` may stand before it: it changes something, and is not about sessions, tasks or events themselves.
    pub fn may_be_async(&self) -> bool {
        let plain = matches!(self.origin, Origin::Explicit | Origin::Create | Origin::Destroy);
        plain && !matches!(self.class.as_str(), "session" | "task" | "event") && self.role > Role::ReadOnly
    }
}

impl Class {
    /// A field by its name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }
}

impl Model {
    /// A class by its name.
    pub fn class(&self, name: &str) -> Option<&Class> {
        self.classes.iter().find(|c| c.name == name)
    }

    /// A message by `class.name`, or `class_name` (an older way to write it).
    pub fn message(&self, full_name: &str) -> Option<&Message> {
        let (class, message) = self.messages.get(full_name)?;
        self.classes.get(*class)?.messages.get(*message)
    }

    /// All messages.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.classes.iter().flat_map(|c| &c.messages)
    }
}

const SOURCES: [&str; 4] = [
    include_str!("../../model/access.model"),
    include_str!("../../model/host.model"),
    include_str!("../../model/storage.model"),
    include_str!("../../model/vm.model"),
];

/// The model.
pub fn model() -> &'static Model {
    static MODEL: LazyLock<Model> = LazyLock::new(|| {
        // It is part of this program and the same always; a test reads it.
        parse::read(&SOURCES).unwrap_or_else(|error| unreachable!("the data model: {error}"))
    });
    &MODEL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_be_read_and_every_name_in_it_exists() {
        let model = parse::read(&SOURCES).unwrap();
        let check = |kind: &Kind, at: &str| {
            let mut queue = vec![kind.clone()];
            while let Some(kind) = queue.pop() {
                match kind {
                    // Users are subjects: the class of the old field is never met.
                    Kind::Ref(class) | Kind::Record(class) => {
                        assert!(class == "user" || model.class(&class).is_some(), "{at}: class {class}");
                    }
                    Kind::Enum(name) => assert!(model.enums.contains_key(&name), "{at}: enum {name}"),
                    Kind::Set(item) => queue.push(*item),
                    Kind::Map(key, item) => queue.extend([*key, *item]),
                    _ => {}
                }
            }
        };
        let mut names = std::collections::BTreeSet::new();
        for class in &model.classes {
            assert!(names.insert(class.name.to_lowercase()), "{} twice", class.name);
            assert!(class.is_abstract || class.field("uuid").is_some(), "{}: no uuid", class.name);
            for field in &class.fields {
                let at = format!("{}.{}", class.name, field.name);
                check(&field.kind, &at);
                assert!(!field.doc.is_empty(), "{at}: no text");
                if let Some((class, name)) = &field.from {
                    let other = model.class(class).and_then(|c| c.field(name));
                    let other = other.unwrap_or_else(|| panic!("{at}: from {class}.{name}"));
                    assert!(matches!(other.kind, Kind::Ref(_)), "{at}");
                }
                if let (Kind::Enum(_), Some(default)) = (&field.kind, &field.default) {
                    assert_eq!(field.kind.accept(&model, &at, default.clone()).as_ref(), Ok(default));
                }
            }
            for message in &class.messages {
                let at = message.full_name();
                check(&message.result, &at);
                message.params.iter().for_each(|p| check(&p.kind, &at));
                assert!(names.insert(at.clone()), "{at} twice");
                for code in &message.errors {
                    assert!(crate::error::CODES.iter().any(|c| c.0 == code), "{at}: error {code}");
                }
            }
        }
    }

    #[test]
    fn messages_follow_from_fields() {
        let model = model();
        let has = |name: &str| model.message(name).is_some();
        for name in [
            "VM.get_all",
            "VM.get_all_records",
            "VM.get_all_records_where",
            "VM.get_record",
            "VM.get_by_uuid",
            "VM.get_by_name_label",
            "VM.create",
            "VM.destroy",
            "VM.get_power_state",
            "VM.set_name_label",
            "VM.add_to_other_config",
            "VM.remove_from_other_config",
            "VM.add_tags",
            "VM.remove_tags",
            "VM.start",
            "VM_start",
            "VDI.set_name_label",
        ] {
            assert!(has(name), "{name}");
        }
        for name in [
            "VM.set_power_state",
            "VM.set_uuid",
            "session.get_all",
            "event.get_record",
            "SR.set_type",
            "task.get_session",
        ] {
            assert!(!has(name), "{name}");
        }
        let set = model.message("VM.set_affinity").unwrap();
        assert_eq!(
            (set.role, set.params.len(), set.params[0].name.as_str()),
            (Role::VmPowerAdmin, 2, "self")
        );
        assert!(model.message("VM.start").unwrap().may_be_async());
        assert!(!model.message("VM.get_all").unwrap().may_be_async());
    }
}
