//! What `radon login` keeps: host, fingerprint, session. A file that only its owner can read.

use crate::arguments::Reach;
use crate::client::Client;
use crate::http::Server;
use crate::{Done, Failed, pin};
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Known {
    host: String,
    fingerprint: String,
    session: String,
}

fn path() -> Result<PathBuf, Failed> {
    let folder = match std::env::var_os("XDG_CONFIG_HOME").filter(|v| !v.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME").ok_or("there is no HOME")?).join(".config"),
    };
    Ok(folder.join("radon/login.json"))
}

fn read(path: &Path) -> Result<Option<Known>, Failed> {
    match fs::read(path) {
        Ok(bytes) => {
            Ok(Some(serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display()).into()),
    }
}

/// The password: of a file, or a line of standard input.
fn password(reach: &Reach) -> Result<String, Failed> {
    let text = match &reach.password_file {
        Some(path) if path != Path::new("-") => {
            fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?
        }
        _ => {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line)?;
            line
        }
    };
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn server(reach: &Reach) -> Result<Server, Failed> {
    let host = reach
        .host
        .clone()
        .ok_or("which host? Pass --host, or log in: radon login --host NAME --fingerprint ...")?;
    let fingerprint = reach.fingerprint.as_deref().map(pin::parse).transpose()?;
    Ok(Server { host, fingerprint })
}

/// `radon login`.
pub fn login(reach: &Reach) -> Done {
    let server = server(reach)?;
    let host = server.host.clone();
    // Before the password is asked for: who is not trusted does not get it.
    server.request("GET", "/", 0, &mut std::io::empty()).map(drop).or_else(|error| {
        if error.to_string().starts_with("the host answers 405") { Ok(()) } else { Err(error) }
    })?;
    let client = Client::login(server, &reach.user, &password(reach)?)?;
    let fingerprint = reach.fingerprint.clone().unwrap_or_default();
    let known = Known { host, fingerprint, session: client.session() };
    let path = path()?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec_pretty(&known)?)?;
    file.sync_all()?;
    Ok(fs::rename(&new, &path)?)
}

/// A session: the one that was kept; or a new one, if a host and a password are given.
pub fn session(reach: &Reach) -> Result<Client, Failed> {
    if reach.password_file.is_some() {
        return Client::login(server(reach)?, &reach.user, &password(reach)?);
    }
    let known = read(&path()?)?.filter(|k| reach.host.as_ref().is_none_or(|host| *host == k.host));
    let known = known.ok_or("log in first: radon login --host NAME --fingerprint ...")?;
    let server = Server { host: known.host, fingerprint: Some(pin::parse(&known.fingerprint)?) };
    Ok(Client::resume(server, known.session))
}
