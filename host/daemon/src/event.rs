//! `event.from`: what has changed since a token.
//!
//! A token is the number of the last transaction that its holder knows, in the form that XenAPI's clients compare:
//! `00000000001234567890,00000000000000000000`. Nothing is kept for anybody between two calls.

use crate::database::{Database, State};
use radon_api::{ApiError, Class, Result, Value, model};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The longest wait for one answer.
const MOST: Duration = Duration::from_secs(120);

/// What somebody wants to know of.
#[derive(Debug, PartialEq, Eq)]
enum Subscription {
    All,
    Class(String),
    Object(String, String),
}

impl Subscription {
    fn parse(text: &str) -> Result<Self> {
        if text == "*" {
            return Ok(Self::All);
        }
        let (class, reference) = text.split_once('/').unwrap_or((text, ""));
        let class = class.to_lowercase();
        if !model().classes.iter().any(|c| c.name.to_lowercase() == class) {
            return Err(ApiError::subscription_parse_failure(text));
        }
        Ok(if text.contains('/') { Self::Object(class, reference.to_owned()) } else { Self::Class(class) })
    }

    fn wants(&self, class: &str, reference: &str) -> bool {
        match self {
            Self::All => true,
            Self::Class(name) => name == class,
            Self::Object(name, one) => name == class && one == reference,
        }
    }
}

/// A token's form.
pub fn token(number: u64) -> String {
    format!("{number:020},{:020}", 0)
}

fn parse_token(text: &str) -> Result<u64> {
    let wrong = || ApiError::token_parse_failure(text);
    if text.is_empty() {
        return Ok(0);
    }
    let (number, other) = text.split_once(',').ok_or_else(wrong)?;
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(number) || !digits(other) {
        return Err(wrong());
    }
    number.parse().map_err(|_| wrong())
}

/// Waits for changes. `alive` is asked now and then whether anybody still wants the answer.
pub fn from(
    database: &Database,
    classes: &[Value],
    since: &str,
    timeout: f64,
    alive: &dyn Fn() -> Result<()>,
) -> Result<Value> {
    let wanted =
        classes.iter().filter_map(Value::text).map(Subscription::parse).collect::<Result<Vec<_>>>()?;
    let since = parse_token(since)?;
    let wait = Duration::try_from_secs_f64(timeout.max(0.0)).unwrap_or(MOST).min(MOST);
    let deadline = Instant::now() + wait;
    loop {
        let (number, events) = {
            let state = database.state();
            if since != 0 && since < state.forgotten() {
                return Err(ApiError::events_lost());
            }
            let events = collect(&state, &wanted, since);
            if !events.is_empty() || Instant::now() >= deadline {
                return Ok(batch(&state, events));
            }
            (state.number(), events)
        };
        drop(events);
        let soon = (Instant::now() + Duration::from_secs(5)).min(deadline);
        database.wait_after(number, soon);
        alive()?;
    }
}

fn collect(state: &State, wanted: &[Subscription], since: u64) -> Vec<Value> {
    let mut events: Vec<(u64, Value)> = Vec::new();
    for class in model().classes.iter().filter(|c| !c.silent) {
        let name = class.name.to_lowercase();
        for (reference, object) in state.objects(&class.name).filter(|(_, o)| o.modified > since) {
            if wanted.iter().any(|w| w.wants(&name, reference)) {
                let operation = if object.created > since { "add" } else { "mod" };
                let snapshot = state.record(class, reference).ok().map(Value::Map);
                events.push((
                    object.modified,
                    event(class, &name, operation, reference, object.modified, snapshot),
                ));
            }
        }
    }
    for gone in state.gone().filter(|g| g.removed > since && g.created <= since) {
        let name = gone.class.name.to_lowercase();
        if wanted.iter().any(|w| w.wants(&name, &gone.reference)) {
            events.push((gone.removed, event(gone.class, &name, "del", &gone.reference, gone.removed, None)));
        }
    }
    events.sort_by_key(|(number, _)| *number);
    events.into_iter().map(|(_, event)| event).collect()
}

fn event(
    _: &Class,
    class: &str,
    operation: &str,
    reference: &str,
    number: u64,
    snapshot: Option<Value>,
) -> Value {
    let mut fields = BTreeMap::from([
        ("id".to_owned(), Value::String(number.to_string())),
        ("timestamp".to_owned(), Value::from("0.0")),
        ("class".to_owned(), Value::from(class)),
        ("operation".to_owned(), Value::from(operation)),
        ("ref".to_owned(), Value::from(reference)),
    ]);
    if let Some(snapshot) = snapshot {
        fields.insert("snapshot".into(), snapshot);
    }
    Value::Map(fields)
}

fn batch(state: &State, events: Vec<Value>) -> Value {
    let listed = model().classes.iter().filter(|c| !c.silent);
    let counts = listed.map(|c| (c.name.to_lowercase(), Value::Short(state.count(&c.name) as i32)));
    Value::Map(BTreeMap::from([
        ("events".to_owned(), Value::Set(events)),
        ("valid_ref_counts".to_owned(), Value::Map(counts.collect())),
        ("token".to_owned(), Value::String(token(state.number()))),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Row;

    fn database() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("db")).unwrap();
        (dir, database)
    }

    fn ask(database: &Database, classes: &[&str], token: &str) -> (Vec<(String, String)>, String) {
        let classes: Vec<Value> = classes.iter().map(|c| Value::from(*c)).collect();
        let batch = from(database, &classes, token, 0.0, &|| Ok(())).unwrap();
        let text = |v: &Value, name: &str| v.get(name).unwrap().text().unwrap().to_owned();
        let events =
            batch.get("events").unwrap().items().iter().map(|e| (text(e, "operation"), text(e, "ref")));
        (events.collect(), text(&batch, "token"))
    }

    #[test]
    fn each_change_is_told_once_and_in_order() {
        let (_dir, database) = database();
        let name = |n: &str| Row::from([("name_label".to_owned(), Value::from(n))]);
        let one = database.change(|c| c.insert("network", name("one"))).unwrap();
        let (events, token) = ask(&database, &["network"], "");
        assert_eq!(events, [("add".to_owned(), one.clone())]);
        assert!(ask(&database, &["*"], &token).0.is_empty());
        let two = database.change(|c| c.insert("network", name("two"))).unwrap();
        database.change(|c| c.set("network", &one, "name_label", "other")).unwrap();
        let (events, later) = ask(&database, &["Network"], &token);
        assert_eq!(events, [("add".to_owned(), two.clone()), ("mod".to_owned(), one.clone())]);
        assert_eq!(ask(&database, &[&format!("network/{two}")], &token).0.len(), 1);
        assert!(ask(&database, &["VM"], &token).0.is_empty());
        database.change(|c| c.remove("network", &two)).unwrap();
        assert_eq!(ask(&database, &["network"], &later).0, [("del".to_owned(), two)]);
        // Who never knew of it is not told that it is gone.
        assert_eq!(ask(&database, &["network"], &token).0, [("mod".to_owned(), one)]);
        assert!(later > token);
    }

    #[test]
    fn who_lists_an_object_changes_with_it() {
        let (_dir, database) = database();
        let vm = database.change(|c| c.insert("VM", Row::new())).unwrap();
        let (_, token) = ask(&database, &["*"], "");
        let vbd = Row::from([("VM".to_owned(), Value::from(vm.as_str()))]);
        let vbd = database.change(|c| c.insert("VBD", vbd)).unwrap();
        assert_eq!(ask(&database, &["vm"], &token).0, [("mod".to_owned(), vm.clone())]);
        let record = database.state().record(model().class("VM").unwrap(), &vm).unwrap();
        assert_eq!(record["VBDs"], Value::strings([vbd]));
    }

    #[test]
    fn a_wait_ends_with_the_change() {
        let (_dir, database) = database();
        let (_, token) = ask(&database, &["*"], "");
        std::thread::scope(|scope| {
            let waiting =
                scope.spawn(|| from(&database, &[Value::from("*")], &token, 60.0, &|| Ok(())).unwrap());
            database.change(|c| c.insert("network", Row::new())).unwrap();
            assert_eq!(waiting.join().unwrap().get("events").unwrap().items().len(), 1);
        });
    }

    #[test]
    fn nonsense_is_refused() {
        let (_dir, database) = database();
        let code = |class: &str, token: &str| {
            from(&database, &[Value::from(class)], token, 0.0, &|| Ok(())).unwrap_err().code
        };
        for bad in ["x", "1", "1,x", "-1,0", "99999999999999999999999,0"] {
            assert_eq!(code("*", bad), "EVENT_FROM_TOKEN_PARSE_FAILURE", "{bad}");
        }
        assert_eq!(code("no_such", ""), "EVENT_SUBSCRIPTION_PARSE_FAILURE");
        assert_eq!(code("*", "5,0"), "EVENTS_LOST");
    }
}
