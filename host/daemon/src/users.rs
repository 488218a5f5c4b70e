//! Who may log in: a file of names, roles and hashes of passwords (argon2id).

use argon2::password_hash::{PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Argon2, PasswordHash};
use radon_api::{ApiError, Result, Role};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The file: a line `name role hash` for each user.
pub struct Users {
    path: PathBuf,
    /// A hash takes 19 MiB and some time: one at a time, so that a flood of log-ins takes no more.
    turn: Mutex<()>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What is typed to log in.
    pub name: String,
    /// What it may do.
    pub role: Role,
    hash: String,
}

fn broken(why: impl std::fmt::Display) -> ApiError {
    ApiError::internal(format!("the file of users: {why}"))
}

/// A new random word of `bytes` random bytes.
pub fn random_word(bytes: usize) -> io::Result<String> {
    let mut random = vec![0; bytes];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    Ok(random.iter().map(|b| format!("{b:02x}")).collect())
}

fn hash(password: &str) -> Result<String> {
    let mut salt = [0; 16];
    rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty()).map_err(broken)?;
    let salt = SaltString::encode_b64(&salt).map_err(broken)?;
    Ok(Argon2::default().hash_password(password.as_bytes(), &salt).map_err(broken)?.to_string())
}

/// A hash of nobody's password.
fn nobody() -> Result<String> {
    static HASH: OnceLock<String> = OnceLock::new();
    match HASH.get() {
        Some(hash) => Ok(hash.clone()),
        None => {
            let made = hash(&random_word(16).map_err(broken)?)?;
            Ok(HASH.get_or_init(|| made).clone())
        }
    }
}

impl Users {
    /// Those of this file; there need not be one yet.
    pub fn at(path: PathBuf) -> Self {
        Self { path, turn: Mutex::new(()) }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of them.
    pub fn all(&self) -> Result<Vec<User>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(broken(error)),
        };
        text.lines().filter(|l| !l.trim().is_empty()).map(line).collect()
    }

    fn write(&self, users: &[User]) -> Result<()> {
        let new = self.path.with_extension("new");
        let text: String = users.iter().map(|u| format!("{} {} {}\n", u.name, u.role, u.hash)).collect();
        let _ = fs::remove_file(&new);
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            fs::File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()
        };
        write().map_err(broken)
    }

    /// Adds a user, or gives one another password and role.
    pub fn set(&self, name: &str, role: Role, password: &str) -> Result<()> {
        let ok = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(ok) {
            return Err(ApiError::invalid_value("name", name));
        }
        if password.is_empty() {
            return Err(ApiError::invalid_value("password", ""));
        }
        let hash = hash(password)?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut users = self.all()?;
        users.retain(|u| u.name != name);
        users.push(User { name: name.to_owned(), role, hash });
        self.write(&users)
    }

    /// Takes one away; whether there was one.
    pub fn remove(&self, name: &str) -> Result<bool> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut users = self.all()?;
        let before = users.len();
        users.retain(|u| u.name != name);
        self.write(&users)?;
        Ok(users.len() < before)
    }

    /// The user of that name and password. It takes as long when there is none of that name.
    pub fn check(&self, name: &str, password: &str) -> Result<User> {
        let found = self.all()?.into_iter().find(|u| u.name == name);
        let hash = match &found {
            Some(user) => user.hash.clone(),
            None => nobody()?,
        };
        let parsed = PasswordHash::new(&hash).map_err(broken)?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok();
        found.filter(|_| fits).ok_or_else(ApiError::authentication_failed)
    }
}

fn line(text: &str) -> Result<User> {
    let mut words = text.split_whitespace();
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some(name), Some(role), Some(hash), None) => {
            let role = role.parse().map_err(broken)?;
            Ok(User { name: name.to_owned(), role, hash: hash.to_owned() })
        }
        _ => Err(broken("a line is not `name role hash`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_password_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let users = Users::at(dir.path().join("users"));
        users.set("root", Role::PoolAdmin, "one").unwrap();
        users.set("eve", Role::ReadOnly, "two").unwrap();
        assert_eq!(users.check("root", "one").unwrap().role, Role::PoolAdmin);
        for (name, password) in [("root", "two"), ("root", ""), ("eve", "one"), ("nobody", "one")] {
            assert_eq!(users.check(name, password).unwrap_err().code, "SESSION_AUTHENTICATION_FAILED");
        }
        users.set("root", Role::VmAdmin, "three").unwrap();
        assert!(users.check("root", "one").is_err());
        assert_eq!(users.check("root", "three").unwrap().role, Role::VmAdmin);
        assert!(users.remove("eve").unwrap() && !users.remove("eve").unwrap());
        assert!(!fs::read_to_string(users.path()).unwrap().contains("three"));
        assert_eq!(users.all().unwrap().len(), 1);
        assert!(users.set("a b", Role::ReadOnly, "x").is_err());
    }
}
