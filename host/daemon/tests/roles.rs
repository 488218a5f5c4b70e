//! Every message is called by a user of every role: exactly those are refused whose role is too low, and each of them as such.

mod common;

use common::{places, xen};
use radon_api::{Call, Role, Value, model};
use radon_daemon::app::App;
use radon_daemon::dispatch;
use std::path::Path;
use std::sync::Arc;

fn open(dir: &Path) -> Arc<App> {
    App::open(places(dir), Arc::new(xen(dir))).unwrap()
}

fn login(app: &Arc<App>, role: Role) -> Value {
    let params = vec![Value::from(role.name()), Value::from("password")];
    dispatch::call(app, Call { method: "session.login_with_password".into(), params }).unwrap()
}

#[test]
fn every_role_may_call_what_it_includes_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let app = open(dir.path());
    for role in Role::ALL {
        app.users.set(role.name(), role, "password").unwrap();
    }
    let (mut permitted, mut refused) = (0, 0);
    for role in Role::ALL {
        let session = login(&app, role);
        for message in model().messages().filter(|m| m.needs_session() && m.full_name() != "session.logout") {
            for prefix in ["", "Async."] {
                if prefix == "Async." && !message.may_be_async() {
                    continue;
                }
                let mut params = vec![session.clone()];
                // Of no use to any message that changes something: what is let through fails for another reason.
                params.extend(message.params.iter().map(|_| Value::Bool(true)));
                let method = format!("{prefix}{}", message.full_name());
                let result = dispatch::call(&app, Call { method: method.clone(), params });
                let code = result.err().map_or("", |e| e.code);
                assert_ne!(code, "MESSAGE_METHOD_UNKNOWN", "{method}");
                assert_eq!(
                    code == "RBAC_PERMISSION_DENIED",
                    role < message.role,
                    "{role} calls {method}: {code}"
                );
                if role < message.role { refused += 1 } else { permitted += 1 }
            }
        }
        dispatch::call(&app, Call { method: "session.logout".into(), params: vec![session.clone()] })
            .unwrap();
        let again = dispatch::call(&app, Call { method: "VM.get_all".into(), params: vec![session] });
        assert_eq!(again.unwrap_err().code, "SESSION_INVALID");
    }
    assert!(permitted > 2000 && refused > 500, "{permitted} permitted, {refused} refused");
}

#[test]
fn objects_are_the_same_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let app = open(dir.path());
    app.users.set("root", Role::PoolAdmin, "password").unwrap();
    let all = |app: &Arc<App>| {
        let state = app.database.state();
        let classes = model().classes.iter().filter(|c| !c.volatile && c.name != "host_cpu");
        let rows = classes.flat_map(|c| {
            let all: Vec<_> =
                state.objects(&c.name).map(|(r, _)| (r.clone(), state.record(c, r).unwrap())).collect();
            all
        });
        rows.filter(|(_, row)| !row.contains_key("last_updated")).collect::<Vec<_>>()
    };
    app.database
        .change(|c| {
            let vm = c.insert("VM", Default::default())?;
            c.set("VM", &vm, "tags", Value::strings(["a", "b"]))?;
            c.set("VM", &vm, "HVM_shadow_multiplier", 1.5)?;
            c.set("VM", &vm, "snapshot_time", radon_api::Time(5))?;
            c.set("VM", &vm, "memory_static_max", 5_000_000_000i64)
        })
        .unwrap();
    let before = all(&app);
    assert!(before.len() >= 3);
    let host = app.host.clone();
    drop(app);
    // The thread that follows domains lets go of the database when it looks the next time; until then it is open.
    let app = loop {
        match App::open(places(dir.path()), Arc::new(xen(dir.path()))) {
            Ok(app) => break app,
            Err(error) if error.to_string().contains("another radond") => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(all(&app), before);
    assert_eq!(app.host, host);
}

#[test]
fn only_who_operates_the_host_chooses_a_vms_number() {
    let dir = tempfile::tempdir().unwrap();
    let app = open(dir.path());
    for role in [Role::VmAdmin, Role::PoolOperator] {
        app.users.set(role.name(), role, "password").unwrap();
    }
    let made = |role: Role, uuid: &str| {
        let session = login(&app, role);
        let record = Value::pairs([("name_label", "web"), ("uuid", uuid)]);
        let call = |method: &str, param| {
            let params = vec![session.clone(), param];
            dispatch::call(&app, Call { method: method.into(), params }).unwrap()
        };
        let vm = call("VM.create", record);
        call("VM.get_uuid", vm).text().unwrap().to_owned()
    };
    let (wanted, none) = ("01234567-89ab-cdef-0123-456789abcdef", "00000000-0000-0000-0000-000000000000");
    // It may be the number of a domain that another toolstack made: whose console it would be, and what `VM.hard_shutdown` would end.
    assert_ne!(made(Role::VmAdmin, wanted), wanted);
    // dom0's.
    assert_ne!(made(Role::PoolOperator, none), none);
    assert_eq!(made(Role::PoolOperator, wanted), wanted);
    assert_ne!(made(Role::PoolOperator, wanted), wanted);
}
