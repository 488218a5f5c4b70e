//! What each service of dom0 does besides its work: it goes to the background, is the only one in its folder, listens, says that it
//! is ready.

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};

/// Starts this program again as a process of its own, with one more argument, and waits until that is [`ready`]. Its number.
pub fn go_to_background(argument: impl AsRef<OsStr>) -> io::Result<u32> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .arg(argument)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut said)?;
    }
    if said.contains("ready") {
        Ok(child.id())
    } else {
        Err(io::Error::other(format!("the daemon did not start: {}", child.wait()?)))
    }
}

/// The service is ready: tells whoever waits for it. `background`: by [`go_to_background`], whose end of our output then closes.
pub fn ready(pid_file: Option<&Path>, background: bool) -> io::Result<()> {
    if let Some(path) = pid_file {
        fs::write(path, format!("{}\n", std::process::id())).map_err(|e| named(path, e))?;
    }
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET")
        && let Ok(socket) = UnixDatagram::unbound()
    {
        let _ = socket.send_to(b"READY=1", path);
    }
    if background {
        setsid().ok();
        io::stdout().write_all(b"ready\n")?;
        // What waits for the end of our output, and whoever closes the terminal, is of no concern any more.
        let null = File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
    }
    Ok(())
}

/// Locks a file, which is made if need be, for as long as the result lives: only one process may serve a folder.
pub fn lock(path: &Path) -> io::Result<File> {
    let lock = File::options().create(true).truncate(false).write(true).open(path);
    let lock = lock.map_err(|e| named(path, e))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        let held = format!("another daemon is running (it has {} locked)", path.display());
        io::Error::new(io::ErrorKind::ResourceBusy, held)
    })?;
    Ok(lock)
}

/// Listens on a socket that only root can connect to, in place of what a predecessor left.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(|e| named(path, e))?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// As many open files as the system allows.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_folder_is_served_by_one_and_again_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = lock(&path).unwrap();
        assert!(lock(&path).unwrap_err().to_string().contains("another"));
        drop(first);
        lock(&path).unwrap();
    }

    #[test]
    fn a_socket_that_was_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        drop(listen(&path).unwrap());
        let _listener = listen(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
