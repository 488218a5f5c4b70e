//! The daemon as a process, driven by Debian's own `xenstore-*` (package xenstore-utils) and over its socket; killed,
//! started again, replaced.

use radon_store::wire;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use xen_abi::xs_wire::*;

const DAEMON: &str = env!("CARGO_BIN_EXE_radon-stored");

/// A daemon in a folder of its own, without Xen.
struct Daemon {
    dir: TempDir,
    child: Child,
}

impl Daemon {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = Self::spawn(dir.path());
        let daemon = Self { dir, child };
        daemon.wait();
        daemon
    }

    fn spawn(dir: &Path) -> Child {
        let mut command = Command::new(DAEMON);
        command.args(["--no-domain-init", "--no-fork"]).env("XENSTORED_RUNDIR", dir);
        command.stderr(Stdio::null()).spawn().unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// Until it answers.
    fn wait(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(self.socket()).is_err() {
            assert!(Instant::now() < end, "the daemon does not answer");
            std::thread::yield_now();
        }
    }

    fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(self.dir.path());
        self.wait();
    }

    fn client(&self) -> Client {
        Client { stream: UnixStream::connect(self.socket()).unwrap(), bytes: Vec::new() }
    }

    /// One of Debian's tools: its output, if it succeeds.
    fn tool(&self, name: &str, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new(name);
        command.args(arguments).env("XENSTORED_PATH", self.socket()).stderr(Stdio::null());
        let out = command.output().unwrap_or_else(|e| panic!("{name}: {e}; it is in package xenstore-utils"));
        out.status.success().then(|| String::from_utf8(out.stdout).unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client {
    stream: UnixStream,
    bytes: Vec<u8>,
}

impl Client {
    fn send(&mut self, kind: u32, tx_id: u32, payload: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(&wire::message(kind, 3, tx_id, payload))
    }

    /// The next message, as kind and text; an error if the daemon has hung up.
    fn receive(&mut self) -> std::io::Result<(u32, String)> {
        loop {
            if let Some((message, used)) = wire::split(&self.bytes).unwrap() {
                let text = String::from_utf8(message.payload.to_vec()).unwrap();
                let message = (message.kind, text.trim_end_matches('\0').replace('\0', " "));
                self.bytes.drain(..used);
                return Ok(message);
            }
            let mut some = [0; 4096];
            match self.stream.read(&mut some)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => self.bytes.extend_from_slice(&some[..count]),
            }
        }
    }

    fn ask(&mut self, kind: u32, tx_id: u32, payload: &[u8]) -> (u32, String) {
        self.send(kind, tx_id, payload).unwrap();
        self.receive().unwrap()
    }
}

#[test]
fn debians_tools_find_what_they_expect() {
    let daemon = Daemon::start();
    let tool = |name: &str, arguments: &[&str]| daemon.tool(name, arguments);
    assert_eq!(tool("xenstore-list", &["/"]).unwrap(), "tool\n");
    assert!(tool("xenstore-write", &["/a/b", "1", "/a/c", "two words"]).is_some());
    assert_eq!(tool("xenstore-read", &["/a/b", "/a/c"]).unwrap(), "1\ntwo words\n");
    assert_eq!(tool("xenstore-read", &["-p", "/a/b"]).unwrap(), "/a/b: 1\n");
    assert_eq!(tool("xenstore-read", &["/nothing"]), None);
    assert!(tool("xenstore-exists", &["/a/b"]).is_some());
    assert!(tool("xenstore-exists", &["/nothing"]).is_none());
    assert_eq!(tool("xenstore-list", &["/a"]).unwrap(), "b\nc\n");
    assert!(tool("xenstore-chmod", &["-r", "/a", "n0", "r3", "b4"]).is_some());
    assert_eq!(
        tool("xenstore-ls", &["-f", "-p", "/a"]).unwrap(),
        "/a/b = \"1\"   (n0,r3,b4)\n/a/c = \"two words\"   (n0,r3,b4)\n"
    );
    // Writes of several paths are one transaction: none is done if one is refused.
    assert!(tool("xenstore-write", &["/a/d", "1", "/a//bad", "2"]).is_none());
    assert!(tool("xenstore-exists", &["/a/d"]).is_none());
    assert!(tool("xenstore-rm", &["-t", "/a/b"]).is_some());
    assert_eq!(tool("xenstore-ls", &["/a"]).unwrap(), "c = \"two words\"\n");
    assert!(tool("xenstore-rm", &["/a"]).is_some());
    assert_eq!(tool("xenstore-list", &["/"]).unwrap(), "tool\n");
}

#[test]
fn a_directory_of_thousands_is_listed_whole() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    for n in 0..3000 {
        assert_eq!(client.ask(XS_WRITE, 0, format!("/many/child-{n}\0").as_bytes()).1, "OK");
    }
    assert_eq!(client.ask(XS_DIRECTORY, 0, b"/many\0"), (XS_ERROR, "E2BIG".into()));
    let listed = daemon.tool("xenstore-list", &["/many"]).unwrap();
    let expected: String = (0..3000).map(|n| format!("child-{n}\n")).collect();
    assert_eq!(listed, expected);
}

#[test]
fn watches_tell_the_tool() {
    let daemon = Daemon::start();
    let mut watcher = Command::new("xenstore-watch")
        .args(["-n", "4", "/w"])
        .env("XENSTORED_PATH", daemon.socket())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = std::io::BufReader::new(watcher.stdout.take().unwrap());
    let mut line = || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        line.trim_end().to_owned()
    };
    assert_eq!(line(), "/w");
    daemon.tool("xenstore-write", &["/w/x", "1"]).unwrap();
    assert_eq!(line(), "/w/x");
    daemon.tool("xenstore-chmod", &["/w/x", "r1"]).unwrap();
    assert_eq!(line(), "/w/x");
    daemon.tool("xenstore-rm", &["/w"]).unwrap();
    assert_eq!(line(), "/w");
    assert!(watcher.wait().unwrap().success());
}

/// Whatever was acknowledged is there after a kill at any moment; of what was not, all of a transaction or nothing.
#[test]
fn nothing_acknowledged_is_forgotten_by_a_kill() {
    let mut daemon = Daemon::start();
    let mut done: Vec<u32> = vec![0; 3];
    for round in 0..12u64 {
        let stop = AtomicBool::new(false);
        let clients: Vec<Client> = (0..done.len()).map(|_| daemon.client()).collect();
        let pid = daemon.child.id();
        std::thread::scope(|scope| {
            let writers: Vec<_> = clients
                .into_iter()
                .enumerate()
                .map(|(who, client)| {
                    let from = done[who];
                    let stop = &stop;
                    scope.spawn(move || write_until_killed(client, who, from, stop))
                })
                .collect();
            let random = std::collections::hash_map::RandomState::new();
            let wait = std::hash::BuildHasher::hash_one(&random, round) % 20_000;
            let end = Instant::now() + Duration::from_micros(1000 + wait);
            while Instant::now() < end {
                std::hint::spin_loop();
            }
            Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
            stop.store(true, Ordering::Relaxed);
            for (who, writer) in writers.into_iter().enumerate() {
                done[who] = writer.join().unwrap();
            }
        });
        daemon.restart();
        let mut client = daemon.client();
        for (who, last) in done.iter_mut().enumerate() {
            let mut read = |name: &str| client.ask(XS_READ, 0, format!("/kill/{who}/{name}\0").as_bytes());
            let (kind, value) = read("a");
            if kind == XS_ERROR {
                assert_eq!(*last, 0);
                continue;
            }
            assert_eq!(read("b").1, value, "half of a transaction, client {who}");
            let value: u32 = value.parse().unwrap();
            assert!(value == *last || value == *last + 1, "{value} after {last} acknowledged, client {who}");
            *last = value;
        }
        assert_eq!(client.ask(XS_CONTROL, 0, b"check\0").1, "OK");
    }
    assert!(done.iter().sum::<u32>() > 20, "{done:?}");
}

/// Counts two nodes up in one transaction each time; the last count that was acknowledged.
fn write_until_killed(mut client: Client, who: usize, from: u32, stop: &AtomicBool) -> u32 {
    let mut last = from;
    let mut step = |next: u32| -> std::io::Result<bool> {
        client.send(XS_TRANSACTION_START, 0, b"\0")?;
        let id = client.receive()?.1.parse().unwrap();
        for name in ["a", "b"] {
            client.send(XS_WRITE, id, format!("/kill/{who}/{name}\0{next}").as_bytes())?;
            client.receive()?;
        }
        client.send(XS_TRANSACTION_END, id, b"T\0")?;
        Ok(client.receive()?.1 == "OK")
    };
    while !stop.load(Ordering::Relaxed) {
        match step(last + 1) {
            Ok(true) => last += 1,
            Ok(false) => {}
            Err(_) => break,
        }
    }
    last
}

#[test]
fn a_live_update_keeps_connections_watches_and_half_a_request() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    assert_eq!(client.ask(XS_WRITE, 0, b"/a\0before").1, "OK");
    assert_eq!(client.ask(XS_WATCH, 0, b"/a\0token\0").1, "OK");
    assert_eq!(client.receive().unwrap(), (XS_WATCH_EVENT, "/a token".into()));
    let id = client.ask(XS_TRANSACTION_START, 0, b"\0").1.parse().unwrap();
    assert_eq!(client.ask(XS_WRITE, id, b"/a\0lost").1, "OK");
    // Half a request is in the daemon's hands when it goes.
    let request = wire::message(XS_READ, 3, 0, b"/a\0");
    client.stream.write_all(&request[..18]).unwrap();
    let pid = daemon.child.id();
    for _ in 0..3 {
        let mut command = Command::new(DAEMON);
        command.arg("--live-update").env("XENSTORED_RUNDIR", daemon.dir.path());
        let out = command.output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    assert!(Path::new(&format!("/proc/{pid}/exe")).exists());
    client.stream.write_all(&request[18..]).unwrap();
    assert_eq!(client.receive().unwrap(), (XS_READ, "before".into()));
    assert_eq!(client.ask(XS_TRANSACTION_END, id, b"T\0"), (XS_ERROR, "EAGAIN".into()));
    let mut other = daemon.client();
    assert_eq!(other.ask(XS_WRITE, 0, b"/a/b\0after").1, "OK");
    assert_eq!(client.receive().unwrap(), (XS_WATCH_EVENT, "/a/b token".into()));
    assert_eq!(daemon.tool("xenstore-read", &["/a", "/a/b"]).unwrap(), "before\nafter\n");
}

#[test]
fn a_program_that_cannot_take_over_does_not() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    assert_eq!(client.ask(XS_CONTROL, 0, b"live-update\0-f\0/nothing/there\0").1, "no such file");
    assert_eq!(client.ask(XS_CONTROL, 0, b"live-update\0-f\0/bin/false\0").1, "OK");
    let answer = client.ask(XS_CONTROL, 0, b"live-update\0-s\0").1;
    assert!(answer.contains("does not understand"), "{answer}");
    assert_eq!(client.ask(XS_WRITE, 0, b"/a\0still").1, "OK");
}

#[test]
fn there_is_one_daemon() {
    let daemon = Daemon::start();
    let second = Daemon::spawn(daemon.dir.path()).wait().unwrap();
    assert!(!second.success());
    assert!(daemon.tool("xenstore-list", &["/"]).is_some());
}

#[test]
fn a_client_that_is_not_one_is_given_up_alone() {
    let daemon = Daemon::start();
    let mut good = daemon.client();
    let mut bad = daemon.client();
    bad.stream.write_all(&[0xff; 64]).unwrap();
    assert!(bad.receive().is_err());
    assert_eq!(good.ask(XS_MKDIR, 0, b"/a\0").1, "OK");
    assert_eq!(good.ask(99, 0, b""), (XS_ERROR, "ENOSYS".into()));
}
