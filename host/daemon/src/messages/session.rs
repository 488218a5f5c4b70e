//! `session`: logging in and out.

use super::done;
use crate::dispatch::{Args, Context, Handler};
use crate::session;
use radon_api::{ApiError, Result, Role, Value};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("session.login_with_password", login),
    ("session.logout", logout),
    ("session.change_password", change_password),
    ("session.get_all_subject_identifiers", users),
    ("session.logout_subject_identifier", logout_user),
];

fn login(context: &Context, args: &Args) -> Result<Value> {
    let (name, password) = (args.text("uname")?, args.text("pwd")?);
    session::login(&context.app, name, password, args.text("originator")?).map(Value::from)
}

fn logout(context: &Context, _: &Args) -> Result<Value> {
    session::end(&context.app, &context.session);
    done()
}

fn change_password(context: &Context, args: &Args) -> Result<Value> {
    let users = &context.app.users;
    let user = users.check(&context.user, args.text("old_pwd")?)?;
    users.set(&user.name, user.role, args.text("new_pwd")?)?;
    done()
}

fn users(context: &Context, _: &Args) -> Result<Value> {
    Ok(Value::strings(context.app.sessions.users()))
}

fn logout_user(context: &Context, args: &Args) -> Result<Value> {
    let name = args.text("subject_identifier")?;
    let others: Vec<_> = context.app.users.all()?.into_iter().filter(|u| u.name == name).collect();
    if others.iter().any(|u| u.role > context.role && context.role < Role::PoolAdmin) {
        return Err(ApiError::permission_denied(
            "session.logout_subject_identifier",
            "the user's role is higher",
        ));
    }
    for reference in context.app.sessions.of_user(name) {
        session::end(&context.app, &reference);
    }
    done()
}
