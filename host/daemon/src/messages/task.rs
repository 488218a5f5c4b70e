//! `task`: following and cancelling what goes on behind its answer.

use super::done;
use crate::database::Change;
use crate::dispatch::{Args, Context, Handler};
use crate::task;
use radon_api::{ApiError, Result, Role, Value};

pub(super) const HANDLERS: &[(&str, Handler)] =
    &[("task.create", create), ("task.destroy", destroy), ("task.cancel", cancel)];

fn create(context: &Context, args: &Args) -> Result<Value> {
    let (label, description) = (args.text("label")?, args.text("description")?);
    task::create(&context.app, label, description, &context.session, "<none/>").map(Value::from)
}

/// Others' tasks are the operators' business.
pub(super) fn may_change(context: &Context, change: &Change<'_>, reference: &str) -> Result<()> {
    let owner = change.text("task", reference, "session")?;
    if owner == context.session || context.role >= Role::PoolOperator {
        return Ok(());
    }
    Err(ApiError::permission_denied("task", format!("task {reference} is another session's")))
}

fn destroy(context: &Context, args: &Args) -> Result<Value> {
    let reference = args.text("self")?;
    context.app.database.change(|c| {
        may_change(context, c, reference)?;
        c.remove("task", reference)
    })?;
    // Nobody can cancel it by its reference any more: it goes through to its end.
    done()
}

fn cancel(context: &Context, args: &Args) -> Result<Value> {
    let reference = args.text("task")?;
    context.app.database.change(|c| {
        may_change(context, c, reference)?;
        if c.text("task", reference, "status")? != "pending" {
            return Err(ApiError::operation_not_allowed("the task has ended"));
        }
        let ours = context.app.tasks.cancel(reference);
        // One that a client made is over at once; ours say so when they have undone what they had begun.
        c.set("task", reference, "status", if ours { "cancelling" } else { "cancelled" })
    })?;
    done()
}
