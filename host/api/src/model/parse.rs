//! Reads the model's files. They are part of the program: an error in them is found by a test, not by a user.

use super::{Access, Class, Field, Message, Model, Origin, Param, implicit};
use crate::kind::Kind;
use crate::role::Role;
use crate::value::Value;

type Parsed<T> = Result<T, String>;

/// All files, and what follows from them.
pub(super) fn read(sources: &[&str]) -> Parsed<Model> {
    let mut model = Model::default();
    for line in sources.iter().flat_map(|s| s.lines()) {
        let text = line.trim();
        if !text.is_empty() && !text.starts_with('#') {
            statement(&mut model, text).map_err(|why| format!("{text}: {why}"))?;
        }
    }
    for class in &mut model.classes {
        implicit::add(class);
    }
    for (c, class) in model.classes.iter().enumerate() {
        for (m, message) in class.messages.iter().enumerate() {
            model.messages.insert(message.full_name(), (c, m));
            model.messages.insert(format!("{}_{}", class.name, message.name), (c, m));
        }
    }
    Ok(model)
}

fn split<'a>(text: &'a str, mark: &str, what: &str) -> Parsed<(&'a str, &'a str)> {
    text.split_once(mark).map(|(a, b)| (a.trim(), b.trim())).ok_or_else(|| format!("no {what} ({mark})"))
}

fn statement(model: &mut Model, text: &str) -> Parsed<()> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match word {
        "enum" => {
            let mut words = rest.split_whitespace().map(str::to_owned);
            let name = words.next().ok_or("no name")?;
            model.enums.insert(name, words.collect());
            return Ok(());
        }
        "class" => {
            model.classes.push(class(rest)?);
            return Ok(());
        }
        _ => {}
    }
    let class = model.classes.last_mut().ok_or("before the first class")?;
    match word {
        "field" => class.fields.push(field(rest)?),
        "hidden" => class.fields.push(Field { access: Access::Hidden, ..declared(rest)? }),
        "call" => class.messages.push(call(&class.name, rest)?),
        "made" => class.made_by = Some(rest.strip_prefix("by ").ok_or("made by whom?")?.parse()?),
        _ => {
            for word in text.split_whitespace() {
                match word {
                    "volatile" => class.volatile = true,
                    "silent" => class.silent = true,
                    "unlisted" => class.unlisted = true,
                    "abstract" => class.is_abstract = true,
                    _ => return Err(format!("what is {word}?")),
                }
            }
        }
    }
    Ok(())
}

fn class(text: &str) -> Parsed<Class> {
    let (name, doc) = split(text, ":", "text")?;
    Ok(Class {
        name: name.to_owned(),
        doc: doc.to_owned(),
        volatile: false,
        silent: false,
        unlisted: false,
        is_abstract: false,
        made_by: None,
        fields: Vec::new(),
        messages: Vec::new(),
    })
}

/// `ro NAME ...`, `rw(ROLE) NAME ...`, `const NAME ...`.
fn field(text: &str) -> Parsed<Field> {
    let (access, rest) = split(text, " ", "name")?;
    let role = |word: &str| -> Parsed<Option<Role>> {
        match access.strip_prefix(word).and_then(|r| r.strip_prefix('(')).and_then(|r| r.strip_suffix(')')) {
            Some(role) => Ok(Some(role.parse()?)),
            None => Ok(None),
        }
    };
    let access = match access {
        "ro" => Access::ReadOnly,
        "const" => Access::Constructor(None),
        _ => match (role("rw")?, role("const")?) {
            (Some(role), _) => Access::ReadWrite(role),
            (_, Some(role)) => Access::Constructor(Some(role)),
            _ => return Err(format!("what is {access}?")),
        },
    };
    Ok(Field { access, ..declared(rest)? })
}

/// `NAME TYPE [= DEFAULT | from CLASS.FIELD] -- DOC`.
fn declared(text: &str) -> Parsed<Field> {
    let (head, doc) = split(text, " -- ", "text")?;
    let (name, rest) = split(head, " ", "type")?;
    let (kind, default, from) = if let Some((kind, from)) = rest.split_once(" from ") {
        let (class, field) = split(from, ".", "field")?;
        (kind.parse()?, None, Some((class.to_owned(), field.to_owned())))
    } else if let Some((kind, default)) = rest.split_once(" = ") {
        let kind: Kind = kind.parse()?;
        let default = literal(&kind, default)?;
        (kind, Some(default), None)
    } else {
        (rest.parse()?, None, None)
    };
    Ok(Field { name: name.to_owned(), kind, access: Access::ReadOnly, default, from, doc: doc.to_owned() })
}

fn literal(kind: &Kind, text: &str) -> Parsed<Value> {
    kind.literal(text.trim()).ok_or_else(|| format!("{text} is no {kind}"))
}

/// `NAME(PARAM: TYPE [= DEFAULT], ...) -> TYPE as ROLE -- DOC [!ERRORS]`.
fn call(class: &str, text: &str) -> Parsed<Message> {
    let (head, tail) = split(text, " -- ", "text")?;
    let (name, rest) = split(head, "(", "parameters")?;
    let (params, result) = rest.rsplit_once(") -> ").ok_or("no result")?;
    let (result, role) = split(result, " as ", "role")?;
    let (doc, errors) = tail.split_once('!').unwrap_or((tail, ""));
    Ok(Message {
        class: class.to_owned(),
        name: name.to_owned(),
        params: params.split(", ").filter(|p| !p.is_empty()).map(param).collect::<Parsed<_>>()?,
        result: result.parse()?,
        role: role.parse()?,
        errors: errors.split_whitespace().map(str::to_owned).collect(),
        doc: doc.trim().to_owned(),
        origin: Origin::Explicit,
    })
}

fn param(text: &str) -> Parsed<Param> {
    let (name, rest) = split(text, ": ", "type")?;
    let (kind, default) = match rest.split_once(" = ") {
        Some((kind, default)) => (kind.parse()?, Some(default)),
        None => (rest.parse::<Kind>()?, None),
    };
    let default = default.map(|d| literal(&kind, d)).transpose()?;
    Ok(Param { name: name.to_owned(), kind, default })
}
