//! Who has logged in.

use crate::app::App;
use crate::database::Row;
use radon_api::{ApiError, Result, Role, Time, Value, model};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a session lives that nobody uses.
const IDLE: Duration = Duration::from_secs(24 * 3600);

/// How many there may be; the one that was used least lately goes first.
const MOST: usize = 1000;

/// A session.
#[derive(Clone, Debug)]
pub struct Login {
    /// Its user.
    pub user: String,
    /// What it may do.
    pub role: Role,
    used: Instant,
}

/// All of them, by secret reference.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<String, Login>>);

impl Sessions {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Login>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session of a reference; it counts as used now.
    pub fn find(&self, reference: &str) -> Result<Login> {
        let mut all = self.all();
        let login = all.get_mut(reference).filter(|l| l.used.elapsed() < IDLE);
        let login = login.ok_or_else(|| ApiError::session_invalid(reference))?;
        login.used = Instant::now();
        Ok(login.clone())
    }

    /// Whether there is such a session, without using it.
    pub fn lives(&self, reference: &str) -> bool {
        self.all().get(reference).is_some_and(|l| l.used.elapsed() < IDLE)
    }

    /// References of a user's sessions.
    pub fn of_user(&self, user: &str) -> Vec<String> {
        self.all().iter().filter(|(_, l)| l.user == user).map(|(r, _)| r.clone()).collect()
    }

    /// Names of those who have one.
    pub fn users(&self) -> Vec<String> {
        let mut users: Vec<String> = self.all().values().map(|l| l.user.clone()).collect();
        users.sort();
        users.dedup();
        users
    }
}

/// A new session, if name and password are right.
pub fn login(app: &App, name: &str, password: &str, originator: &str) -> Result<String> {
    let user = app.users.check(name, password)?;
    let permitted = model().messages().filter(|m| m.role <= user.role).map(|m| m.full_name().to_lowercase());
    let subject = app.database.state().by_uuid("subject", &crate::app::named_uuid("subject", name)).cloned();
    let fields = Row::from([
        ("this_host".to_owned(), Value::from(app.host.as_str())),
        ("last_active".to_owned(), Value::Time(Time::now())),
        ("validation_time".to_owned(), Value::Time(Time::now())),
        ("is_local_superuser".to_owned(), Value::Bool(user.role == Role::PoolAdmin)),
        ("subject".to_owned(), Value::from(subject.as_deref().unwrap_or(radon_api::NULL))),
        ("auth_user_sid".to_owned(), Value::from(name)),
        ("auth_user_name".to_owned(), Value::from(name)),
        ("rbac_permissions".to_owned(), Value::strings(permitted)),
        ("originator".to_owned(), Value::from(originator)),
    ]);
    let reference = app.database.change(|c| c.insert("session", fields))?;
    let old = {
        let mut all = app.sessions.all();
        let login = Login { user: name.to_owned(), role: user.role, used: Instant::now() };
        all.insert(reference.clone(), login);
        let mut old: Vec<String> =
            all.iter().filter(|(_, l)| l.used.elapsed() >= IDLE).map(|(r, _)| r.clone()).collect();
        if all.len() - old.len() > MOST {
            old.extend(all.iter().min_by_key(|(_, l)| l.used).map(|(r, _)| r.clone()));
        }
        old
    };
    old.iter().for_each(|reference| end(app, reference));
    Ok(reference)
}

/// Ends a session.
pub fn end(app: &App, reference: &str) {
    app.sessions.all().remove(reference);
    // It may be gone already.
    let _ = app.database.change(|c| c.remove("session", reference));
}
