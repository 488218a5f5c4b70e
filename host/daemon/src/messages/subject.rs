//! `subject` and `role`: users of the file of users, and what they may do. Read-only here: `radond user` changes them.

use crate::app::{fields, named_uuid};
use crate::database::{Change, Database};
use crate::dispatch::{Args, Context, Handler};
use crate::users::Users;
use radon_api::{ApiError, Result, Role, Value, model};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("subject.get_permissions_name_label", of_subject),
    ("role.get_permissions", included),
    ("role.get_permissions_name_label", permissions),
    ("role.get_by_permission_name_label", by_permission),
];

fn role_ref(role: Role) -> String {
    format!("OpaqueRef:{}", named_uuid("role", role.name()))
}

/// Makes the objects as the file of users has them.
pub fn refresh(database: &Database, users: &Users) -> Result<()> {
    let all = users.all()?;
    database.change(|c| {
        for role in Role::ALL {
            if c.row("role", &role_ref(role)).is_ok() {
                continue;
            }
            let lower = Role::ALL.into_iter().filter(|r| *r < role).map(role_ref);
            let fields = fields([
                ("uuid", Value::from(named_uuid("role", role.name()))),
                ("name_label", Value::from(role.name())),
                ("name_description", Value::from(role.description())),
                ("subroles", Value::strings(lower)),
            ]);
            c.insert("role", fields)?;
        }
        remove_all(c)?;
        for user in &all {
            let fields = fields([
                ("uuid", Value::from(named_uuid("subject", &user.name))),
                ("subject_identifier", Value::from(user.name.as_str())),
                ("roles", Value::strings([role_ref(user.role)])),
            ]);
            c.insert("subject", fields)?;
        }
        Ok(())
    })
}

fn remove_all(change: &mut Change<'_>) -> Result<()> {
    for reference in change.all("subject")? {
        change.remove("subject", &reference)?;
    }
    Ok(())
}

fn names(role: Role) -> Value {
    Value::strings(model().messages().filter(|m| m.role <= role).map(|m| m.full_name().to_lowercase()))
}

fn find(context: &Context, reference: &str) -> Result<Role> {
    let state = context.app.database.state();
    state.text("role", reference, "name_label")?.parse().map_err(ApiError::internal)
}

fn of_subject(context: &Context, args: &Args) -> Result<Value> {
    let reference = args.text("self")?;
    let role = {
        let state = context.app.database.state();
        let roles = state.field("subject", reference, "roles")?;
        roles.items().first().and_then(Value::text).unwrap_or_default().to_owned()
    };
    find(context, &role).map(names)
}

fn included(context: &Context, args: &Args) -> Result<Value> {
    let role = find(context, args.text("self")?)?;
    Ok(Value::strings(Role::ALL.into_iter().filter(|r| *r <= role).map(role_ref)))
}

fn permissions(context: &Context, args: &Args) -> Result<Value> {
    find(context, args.text("self")?).map(names)
}

fn by_permission(_: &Context, args: &Args) -> Result<Value> {
    let label = args.text("label")?;
    let message = model().messages().find(|m| m.full_name().eq_ignore_ascii_case(label));
    let least = message.map(|m| m.role);
    Ok(Value::strings(Role::ALL.into_iter().filter(|r| least.is_some_and(|least| *r >= least)).map(role_ref)))
}
