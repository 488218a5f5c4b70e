//! `event`.

use crate::dispatch::{Args, Context, Handler};
use crate::event;
use radon_api::{ApiError, Result, Value, model};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("event.from", from),
    ("event.inject", inject),
    ("event.get_current_id", current),
    ("event.register", deprecated),
    ("event.unregister", deprecated),
    ("event.next", deprecated),
];

fn from(context: &Context, args: &Args) -> Result<Value> {
    let Value::Float(timeout) = *args.value("timeout")? else { return Err(ApiError::field_type("timeout")) };
    let alive = || context.app.sessions.find(&context.session).map(drop);
    event::from(&context.app.database, args.value("classes")?.items(), args.text("token")?, timeout, &alive)
}

fn inject(context: &Context, args: &Args) -> Result<Value> {
    let (class, reference) = (args.text("class")?, args.text("ref")?);
    let known = model().classes.iter().find(|c| c.name.eq_ignore_ascii_case(class) && !c.silent);
    let known = known.ok_or_else(|| ApiError::handle_invalid(class, reference))?;
    let before = context.app.database.change(|c| {
        c.touch(&known.name, reference)?;
        Ok(c.before().number())
    })?;
    Ok(Value::from(event::token(before)))
}

fn current(context: &Context, _: &Args) -> Result<Value> {
    Ok(Value::from(context.app.database.state().number()))
}

fn deprecated(_: &Context, _: &Args) -> Result<Value> {
    Err(ApiError::deprecated())
}
