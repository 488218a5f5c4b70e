//! VMs that start with the host. Here, without a hypervisor, none can: that is said, and once in each life of the machine.
//! (`cargo xtask test system-up/guide` sees one start.)
#![allow(clippy::unwrap_used)]

mod common;

use common::{places, xen};
use radon_api::{Call, Role, Value};
use radon_daemon::app::App;
use radon_daemon::dispatch;
use radon_daemon::{autostart, database::State};
use std::sync::Arc;

fn call(app: &Arc<App>, session: &Value, method: &str, params: Vec<Value>) -> Value {
    let params = std::iter::once(session.clone()).chain(params).collect();
    dispatch::call(app, Call { method: method.into(), params }).unwrap()
}

fn names(state: &State) -> Vec<String> {
    autostart::wanted(state).into_iter().map(|(_, name)| name).collect()
}

#[test]
fn they_are_tried_once_in_each_life_of_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::open(places(dir.path()), Arc::new(xen(dir.path()))).unwrap();
    app.users.set("root", Role::PoolAdmin, "password").unwrap();
    let params = vec![Value::from("root"), Value::from("password")];
    let session =
        dispatch::call(&app, Call { method: "session.login_with_password".into(), params }).unwrap();
    let on = || Value::pairs([("auto_poweron", "true")]);
    for (name, template, config) in [
        ("web", false, on()),
        ("db", false, on()),
        ("idle", false, Value::pairs([("auto_poweron", "false")])),
        ("debian", true, on()),
    ] {
        let mut record = Value::pairs([("name_label", name)]);
        if let Value::Map(fields) = &mut record {
            fields.insert("is_a_template".into(), Value::from(template));
            fields.insert("other_config".into(), config);
        }
        call(&app, &session, "VM.create", vec![record]);
    }
    assert_eq!(names(&app.database.state()), ["db", "web"]);

    let told = |app: &Arc<App>| call(app, &session, "message.get_all", vec![]).items().len();
    autostart::run(&app, "first life");
    assert_eq!(told(&app), 2, "nobody was told that two cannot start");
    assert!(autostart::done(&app.places.state, "first life"));
    assert!(!autostart::done(&app.places.state, "second life"));

    let pool = call(&app, &session, "pool.get_all", vec![]).items()[0].clone();
    let params = vec![pool, Value::from("auto_poweron"), Value::from("false")];
    call(&app, &session, "pool.add_to_other_config", params);
    assert!(names(&app.database.state()).is_empty(), "the pool wants none");
}
