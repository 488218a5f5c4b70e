//! Runs services, one after the other is ready; starts again those that end.
//!
//! ```text
//! waiting --its turn, or its time--> running --ready--> ready
//!    ^                                  |                 |
//!    +-----ended: after a while---------+-----------------+        (a service that is done once: ended --> done)
//! ```
//! One thread; what happens comes as an [`Event`]. The first process gets every orphan, so ends are collected for all children.

use crate::backoff::Backoff;
use crate::data::PLACE;
use crate::log::Log;
use crate::service::{Ready, Service};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// What happens.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A child may have ended.
    Child,
    /// A service said a line.
    Said(usize, String),
    /// The machine is to be switched off.
    PowerOff,
    /// The machine is to begin anew.
    Reboot,
    /// Somebody at the console wants to know how things are.
    Status,
}

/// How long a service that was started may take before the next one is started nevertheless.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a socket is tried.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting(Instant),
    Running,
    Ready,
    Done,
}

struct Running {
    service: Service,
    state: State,
    pid: Option<Pid>,
    started: Instant,
    backoff: Backoff,
    starts: u32,
}

/// All services.
pub struct Supervisor {
    all: Vec<Running>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    /// What `radond` said of itself: certificate and address.
    pub fingerprint: Option<String>,
}

impl Supervisor {
    /// None of them runs yet.
    pub fn new(services: Vec<Service>, events: Receiver<Event>, sender: Sender<Event>) -> Self {
        let now = Instant::now();
        let begin = |service| Running {
            service,
            state: State::Waiting(now),
            pid: None,
            started: now,
            backoff: Backoff::default(),
            starts: 0,
        };
        Self { all: services.into_iter().map(begin).collect(), events, sender, fingerprint: None }
    }

    /// Whether all are there.
    pub fn ready(&self) -> bool {
        self.all.iter().all(|s| matches!(s.state, State::Ready | State::Done))
    }

    /// Goes on until something is asked for that is not a service's: that event. Tells `ready` once when all are there.
    pub fn run(&mut self, ready: &mut dyn FnMut(&Self)) -> Event {
        let mut told = false;
        loop {
            let next = self.start_due();
            if !told && self.ready() {
                told = true;
                ready(self);
            }
            let wait = next.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(wait) {
                Ok(Event::Child) => self.collect(),
                Ok(Event::Said(n, line)) => self.said(n, &line),
                Ok(Event::Status) => self.show(),
                Ok(event) => return event,
                Err(RecvTimeoutError::Timeout) => {}
                // This holds a sender itself.
                Err(RecvTimeoutError::Disconnected) => unreachable!("a sender is kept"),
            }
        }
    }

    /// Starts what is due, in order; returns when to look again.
    fn start_due(&mut self) -> Instant {
        let now = Instant::now();
        let mut next = now + Duration::from_secs(3600);
        for n in 0..self.all.len() {
            let Some(one) = self.all.get_mut(n) else { break };
            if let State::Waiting(at) = one.state {
                if at <= now {
                    self.start(n);
                } else {
                    next = next.min(at);
                }
            }
            let Some(one) = self.all.get_mut(n) else { break };
            if one.state == State::Running {
                let up = match one.service.ready {
                    Ready::Started => true,
                    Ready::Socket(path) => UnixStream::connect(path).is_ok(),
                    Ready::Says(_) | Ready::Done => false,
                };
                if up {
                    one.state = State::Ready;
                } else if matches!(one.service.ready, Ready::Socket(_)) {
                    next = next.min(now + LOOK);
                }
            }
            // At the first start each waits for those before it; but not for ever for one that does not come up.
            let up = matches!(one.state, State::Ready | State::Done);
            if !up && now.saturating_duration_since(one.started) < PATIENCE {
                next = next.min(one.started + PATIENCE);
                if self.all.iter().skip(n + 1).all(|later| later.starts == 0) {
                    break;
                }
            }
        }
        next
    }

    fn start(&mut self, n: usize) {
        let Some(one) = self.all.get_mut(n) else { return };
        one.started = Instant::now();
        one.starts += 1;
        let mut words = one.service.command.iter();
        let mut command = Command::new(words.next().map_or("", String::as_str));
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .current_dir("/");
        // The kernel gives its first process none.
        command.env("PATH", crate::boot::PATH);
        match command.spawn() {
            Ok(mut child) => {
                one.pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                one.state = State::Running;
                let outputs: [Option<Box<dyn Read + Send>>; 2] = [
                    child.stdout.take().map(|o| Box::new(o) as Box<dyn Read + Send>),
                    child.stderr.take().map(|o| Box::new(o) as Box<dyn Read + Send>),
                ];
                for output in outputs.into_iter().flatten() {
                    listen(n, one.service.name, output, self.sender.clone());
                }
            }
            Err(error) => {
                println!("{}: cannot be started: {error}", one.service.name);
                one.state = State::Waiting(Instant::now() + one.backoff.next(Duration::ZERO));
            }
        }
    }

    fn said(&mut self, n: usize, line: &str) {
        let Some(one) = self.all.get_mut(n) else { return };
        println!("{}: {line}", one.service.name);
        if let Some(print) = line.strip_prefix("certificate SHA-256 ") {
            self.fingerprint = Some(print.trim().to_owned());
        }
        if let Ready::Says(word) = one.service.ready
            && one.state == State::Running
            && line.starts_with(word)
        {
            one.state = State::Ready;
        }
    }

    /// Takes note of children that have ended.
    fn collect(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let Some(one) = self.all.iter_mut().find(|s| s.pid == Some(pid)) else { continue };
            one.pid = None;
            if one.service.ready == Ready::Done && status.exit_status() == Some(0) {
                one.state = State::Done;
                continue;
            }
            let pause = one.backoff.next(one.started.elapsed());
            let how = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("status {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "unknown status".to_owned(),
            };
            println!("{} ended ({how}); started again in {:.1} s", one.service.name, pause.as_secs_f32());
            one.state = State::Waiting(Instant::now() + pause);
        }
    }

    fn show(&self) {
        for one in &self.all {
            let pid = one.pid.map_or_else(String::new, |p| format!(", process {}", p.as_raw_nonzero()));
            println!("{:12} {:?}{pid}, started {} times", one.service.name, one.state, one.starts);
        }
    }

    /// Ends services, the last one first: those for which `which` says so.
    pub fn stop(&mut self, which: &dyn Fn(&str) -> bool) {
        for one in self.all.iter_mut().rev().filter(|s| which(s.service.name)) {
            one.state = State::Done;
            let Some(pid) = one.pid.take() else { continue };
            let _ = kill_process(pid, Signal::TERM);
            let end = Instant::now() + Duration::from_secs(one.service.stop_seconds);
            while !ended(pid) {
                if Instant::now() >= end {
                    println!("{} does not end: killed", one.service.name);
                    let _ = kill_process(pid, Signal::KILL);
                    break;
                }
                thread::sleep(LOOK);
            }
        }
    }
}

/// Whether a child has ended; takes its status if so.
fn ended(pid: Pid) -> bool {
    !matches!(rustix::process::waitpid(Some(pid), WaitOptions::NOHANG), Ok(None))
}

/// Writes what a service says into its log, and hands it on.
fn listen(n: usize, name: &'static str, output: Box<dyn Read + Send>, events: Sender<Event>) {
    thread::spawn(move || {
        let mut log = Log::open(&Path::new(PLACE).join("log"), name);
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if let Ok(log) = &mut log {
                // A full disk is no reason to stop listening.
                let _ = log.line(&line);
            }
            if events.send(Event::Said(n, line)).is_err() {
                break;
            }
        }
    });
}
