//! From a request to its message.

use crate::app::App;
use crate::task::{self, Task};
use crate::{implicit, messages};
use radon_api::{ApiError, Call, Message, Origin, Result, Role, Value, model};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

/// Who calls, and as what task.
pub struct Context {
    /// The daemon.
    pub app: Arc<App>,
    /// What is called.
    pub message: &'static Message,
    /// Reference of the session, empty for who logs in.
    pub session: String,
    /// Its user.
    pub user: String,
    /// What it may do.
    pub role: Role,
    /// The task, for a call that was answered already.
    pub task: Option<Task>,
}

impl Context {
    /// Whether somebody wants it to end; how much is done, 0 to 1.
    pub fn progress(&self, done: f64) -> Result<()> {
        self.task.as_ref().map_or(Ok(()), |t| t.progress(done))
    }
}

/// Arguments by name; their types are as the model says.
pub struct Args(BTreeMap<&'static str, Value>);

impl Args {
    /// One of them.
    pub fn value(&self, name: &str) -> Result<&Value> {
        self.0.get(name).ok_or_else(|| ApiError::internal(format!("no parameter {name}")))
    }

    /// Text, or a reference.
    pub fn text(&self, name: &str) -> Result<&str> {
        self.value(name)?.text().ok_or_else(|| ApiError::field_type(name))
    }

    /// A whole number.
    pub fn int(&self, name: &str) -> Result<i64> {
        self.value(name)?.int().ok_or_else(|| ApiError::field_type(name))
    }

    /// Yes or no.
    pub fn truth(&self, name: &str) -> Result<bool> {
        Ok(self.value(name)?.truth())
    }
}

/// What a message does.
pub type Handler = fn(&Context, &Args) -> Result<Value>;

/// Handlers by the message's full name.
pub fn handlers() -> &'static HashMap<&'static str, Handler> {
    static ALL: LazyLock<HashMap<&'static str, Handler>> =
        LazyLock::new(|| messages::all().into_iter().collect());
    &ALL
}

/// Carries a call out. May take as long as the message does: not for an event loop.
pub fn call(app: &Arc<App>, call: Call) -> Result<Value> {
    let unknown = || ApiError::method_unknown(&call.method);
    let (later, name) = match call.method.strip_prefix("Async.") {
        Some(name) => (true, name),
        None => (false, call.method.as_str()),
    };
    let message = model().message(name).filter(|m| !later || m.may_be_async()).ok_or_else(unknown)?;
    count(&call, message)?;
    let mut params = call.params.into_iter();
    let mut context = Context {
        app: app.clone(),
        message,
        session: String::new(),
        user: String::new(),
        role: Role::Anyone,
        task: None,
    };
    if message.needs_session() {
        let Some(Value::String(session)) = params.next() else { return Err(ApiError::session_invalid("")) };
        let login = app.sessions.find(&session)?;
        (context.session, context.user, context.role) = (session, login.user, login.role);
        permitted(&context, message)?;
    }
    let args = arguments(message, params)?;
    if !later {
        return carry_out(&context, message, &args);
    }
    let kind = if message.result == radon_api::Kind::Void {
        "<none/>".to_owned()
    } else {
        message.result.to_string()
    };
    let reference =
        task::create(app, &format!("Async.{}", message.full_name()), &message.doc, &context.session, &kind)?;
    context.task = Some(Task::begin(app, &reference));
    let work = move || {
        let result = carry_out(&context, message, &args);
        if let Some(task) = context.task {
            task.end(&result);
        }
    };
    match std::thread::Builder::new().name("task".into()).spawn(work) {
        Ok(_) => Ok(Value::String(reference)),
        Err(error) => Err(ApiError::internal(format!("cannot start a thread: {error}"))),
    }
}

/// Carries out what the host does by itself, as a task that everybody sees.
pub fn own(app: &Arc<App>, name: &str, params: Vec<Value>) -> Result<Value> {
    let message = model().message(name).ok_or_else(|| ApiError::method_unknown(name))?;
    let args = arguments(message, params.into_iter())?;
    let reference = task::create(app, name, &message.doc, "", "<none/>")?;
    let context = Context {
        app: app.clone(),
        message,
        session: String::new(),
        user: String::new(),
        role: Role::PoolAdmin,
        task: Some(Task::begin(app, &reference)),
    };
    let result = carry_out(&context, message, &args);
    if let Some(task) = context.task {
        task.end(&result);
    }
    result
}

fn count(call: &Call, message: &Message) -> Result<()> {
    let session = usize::from(message.needs_session());
    let least = session + message.params.iter().filter(|p| p.default.is_none()).count();
    if (least..=session + message.params.len()).contains(&call.params.len()) {
        return Ok(());
    }
    Err(ApiError::parameter_count(&call.method, least, call.params.len()))
}

/// An error unless whoever calls may also call this message.
pub fn permitted(context: &Context, message: &Message) -> Result<()> {
    if message.role <= context.role {
        return Ok(());
    }
    let why = format!("{} has role {}; this needs {} or higher", context.user, context.role, message.role);
    Err(ApiError::permission_denied(message.full_name().to_lowercase(), why))
}

fn arguments(message: &'static Message, mut params: impl Iterator<Item = Value>) -> Result<Args> {
    let mut args = BTreeMap::new();
    for param in &message.params {
        let value = match params.next() {
            Some(value) => param.kind.accept(model(), &param.name, value)?,
            None => param.default.clone().unwrap_or_else(|| param.kind.empty()),
        };
        args.insert(param.name.as_str(), value);
    }
    Ok(Args(args))
}

fn carry_out(context: &Context, message: &'static Message, args: &Args) -> Result<Value> {
    match message.origin {
        Origin::Explicit | Origin::Create | Origin::Destroy => {
            let name = message.full_name();
            let handler = handlers().get(name.as_str());
            handler.ok_or_else(|| ApiError::not_implemented(name))?(context, args)
        }
        _ => implicit::carry_out(context, message, args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_has_what_carries_it_out_and_nothing_else_is_there() {
        let mut named: Vec<String> = Vec::new();
        for message in model().messages() {
            if matches!(message.origin, Origin::Explicit | Origin::Create | Origin::Destroy) {
                named.push(message.full_name());
            }
        }
        let missing: Vec<_> = named.iter().filter(|n| !handlers().contains_key(n.as_str())).collect();
        assert!(missing.is_empty(), "without a handler: {missing:?}");
        let stray: Vec<_> = handlers().keys().filter(|h| !named.iter().any(|n| n == *h)).collect();
        assert!(stray.is_empty(), "not in the model: {stray:?}");
        assert_eq!(messages::all().len(), handlers().len(), "a message has two handlers");
    }
}
