//! The model as a page of text.

use crate::error::CODES;
use crate::model::{Access, Class, Field, Message, Model, Origin};
use crate::role::Role;
use std::fmt::Write;

const HEAD: &str = "# XenAPI\n\n\
<!-- Made from host/api/model by `cargo test -p radon-api --test document` (RADON_WRITE_DOCS=1 writes it). -->\n\n\
`radond` serves these messages as XML-RPC on `/RPC2` and `/`, and as JSON-RPC 1.0 and 2.0 on `/jsonrpc`. Each takes the session\n\
first (but for `session.login_with_password`); `Async.` before the name of one that changes something answers a task at once.\n\
For each field `f` there is `get_f`; for each that can be set `set_f`, for sets `add_f` and `remove_f`, for maps\n\
`add_to_f` and `remove_from_f`. Classes have `get_all`, `get_all_records`, `get_all_records_where`, `get_record`, `get_by_uuid` and, if\n\
they have a name, `get_by_name_label`.\n\n\
Fields: *ro* is only read, *const* is given when the object is made (and may be set later if a role is named), *rw* is set by the\n\
role named. Parameters with `=` may be left out from the right.\n";

/// The page.
pub fn page(model: &Model) -> String {
    let mut out = HEAD.to_owned();
    out.push_str("\n## Roles\n| role | |\n|---|---|\n");
    for role in Role::ALL {
        line(&mut out, format_args!("| {role} | {} |", role.description()));
    }
    for class in &model.classes {
        of_class(&mut out, class);
    }
    out.push_str("\n## Enumerations\n| | |\n|---|---|\n");
    for (name, words) in &model.enums {
        line(&mut out, format_args!("| {name} | {} |", words.join(", ")));
    }
    out.push_str("\n## Errors\n| code | parameters | |\n|---|---|---|\n");
    for (code, params, doc) in CODES {
        line(&mut out, format_args!("| {code} | {} | {doc} |", params.join(", ")));
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

fn of_class(out: &mut String, class: &Class) {
    line(out, format_args!("\n## {}\n{}{}.", class.name, class.doc[..1].to_uppercase(), &class.doc[1..]));
    if class.volatile && !class.is_abstract {
        line(out, format_args!("Gone when `radond` ends."));
    }
    if !class.fields.is_empty() {
        out.push_str("\n| field | type | | |\n|---|---|---|---|\n");
    }
    for field in class.fields.iter().filter(|f| f.access != Access::Hidden) {
        line(out, format_args!("| {} | {} | {} | {} |", field.name, field.kind, access(field), field.doc));
    }
    let own: Vec<&Message> = class
        .messages
        .iter()
        .filter(|m| matches!(m.origin, Origin::Explicit | Origin::Create | Origin::Destroy))
        .collect();
    if !own.is_empty() {
        out.push_str("\n| message | role | |\n|---|---|---|\n");
    }
    for message in own {
        let errors = message.errors.join(", ");
        let errors = if errors.is_empty() { errors } else { format!(" ({errors})") };
        line(out, format_args!("| `{}` | {} | {}{errors} |", signature(message), message.role, message.doc));
    }
}

fn access(field: &Field) -> String {
    match field.access {
        Access::ReadOnly | Access::Hidden => "ro".to_owned(),
        Access::Constructor(None) => "const".to_owned(),
        Access::Constructor(Some(role)) => format!("const, {role}"),
        Access::ReadWrite(role) => format!("rw, {role}"),
    }
}

/// `VM.start(vm: VM ref, ...) -> void`.
pub fn signature(message: &Message) -> String {
    let params = message.params.iter().map(|p| {
        let default = if p.default.is_some() { " =" } else { "" };
        format!("{}: {}{default}", p.name, p.kind)
    });
    let params: Vec<String> = params.collect();
    format!("{}.{}({}) -> {}", message.class, message.name, params.join(", "), message.result)
}
