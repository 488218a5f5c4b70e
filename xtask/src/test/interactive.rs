//! `cargo xtask run` as a person uses it, on a terminal: the guest's console, Ctrl-] back to dom0, `poweroff`.

use super::Report;
use crate::scenario::Options;
use crate::{paths, shell};
use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Runs it.
pub fn run(report: &mut Report, options: &Options) {
    report.run("system-interactive", "no-emulator-has-a-cause", || {
        headless_fails(&["--qemu", "/nonexistent/qemu"], &["cannot start /nonexistent/qemu", "--qemu PATH"])
    });
    report.run("system-interactive", "dead-machine-has-a-cause", || {
        let image = paths::target().join("no-hypervisor");
        std::fs::write(&image, "not an image")?;
        let qemu = options.qemu.to_string_lossy();
        let args = ["--qemu", &qemu, "--image", &image.to_string_lossy()];
        headless_fails(&args, &["the machine stopped before dom0 powered it off", "serial log", "    qemu"])
    });
    report.run("system-interactive", "console-and-back", || session(options));
}

/// `run --headless` with these arguments ends with an error that says `causes`.
fn headless_fails(args: &[&str], causes: &[&str]) -> Result<()> {
    let output = Command::new(std::env::current_exe()?).args(["run", "--headless"]).args(args).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "it ended with success");
    for cause in causes {
        ensure!(said.contains(cause), "it does not say \"{cause}\": {said}");
    }
    Ok(())
}

/// A program on a terminal of its own.
struct Terminal {
    child: Child,
    output: Receiver<Vec<u8>>,
    /// All that it has shown so far; what was waited for is taken off.
    seen: String,
    end: Instant,
}

impl Terminal {
    /// `script` makes the terminal.
    fn start(command: &Command, limit: Duration) -> Result<Self> {
        let mut child = Command::new("script")
            .args(["-qefc", &shell::show(command), "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start `script` (package bsdutils)")?;
        let mut stdout = child.stdout.take().context("no output")?;
        let (send, output) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stdout.read(&mut buffer) {
                if send.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, output, seen: String::new(), end: Instant::now() + limit })
    }

    fn keys(&mut self, text: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("no keyboard")?;
        stdin.write_all(text.as_bytes())?;
        Ok(stdin.flush()?)
    }

    /// Takes output in for a while; false when the program has ended.
    fn listen(&mut self, pause: Duration) -> Result<bool> {
        ensure!(Instant::now() < self.end, "time is up; the terminal ends: {}", self.tail());
        match self.output.recv_timeout(pause) {
            Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
        }
        Ok(true)
    }

    /// Waits until `text` has been shown; what stood before it is returned.
    fn wait(&mut self, text: &str) -> Result<String> {
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return Ok(std::mem::replace(&mut self.seen, rest));
            }
            if !self.listen(Duration::from_secs(1))? {
                bail!("ended without \"{text}\"; the terminal ends: {}", self.tail());
            }
        }
    }

    /// Types a line, again every few seconds (what is typed while nobody listens may be lost), until `answer` is shown.
    fn ask(&mut self, line: &str, answer: &str) -> Result<()> {
        loop {
            self.keys(line)?;
            let until = Instant::now() + Duration::from_secs(10);
            while Instant::now() < until {
                if let Some(at) = self.seen.find(answer) {
                    self.seen.drain(..at + answer.len());
                    return Ok(());
                }
                if !self.listen(Duration::from_millis(500))? {
                    bail!("ended without \"{answer}\"; the terminal ends: {}", self.tail());
                }
            }
        }
    }

    fn tail(&self) -> String {
        let tail: Vec<char> = self.seen.chars().rev().take(500).collect();
        format!("{:?}", tail.into_iter().rev().collect::<String>())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Its end hangs the terminal up, which ends what runs there.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn session(options: &Options) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.current_dir(paths::root()).arg("run").arg("--qemu").arg(&options.qemu);
    command.args(["--cpus", "2", "--memory", "2560", "--guest-cpus", "2"]);
    let limit = Duration::from_secs(options.limit.max(300));
    let mut terminal = Terminal::start(&command, limit)?;
    // Progress at each stage.
    for stage in ["hypervisor", "dom0-kernel", "dom0-userspace", "xenstored", "toolstack", "guest-create"] {
        terminal.wait(&format!(" s  {stage}"))?;
    }
    terminal.wait("the guest's console follows")?;
    // The answers are not in what was typed, so an echo is not taken for one.
    terminal.ask("echo guest-$((6 * 7)) on $(nproc)\r", "guest-42 on 2")?;
    terminal.keys("\x1d")?;
    terminal.wait("This is dom0.")?;
    terminal.ask("echo dom0-$((6 * 7)); xl list\r", "dom0-42")?;
    terminal.wait("demo")?;
    terminal.ask("xl vcpu-list demo | wc -l | sed s/^/lines-/\r", "lines-3")?;
    // Back on the guest's console and out of it again.
    terminal.keys("xl console demo\r")?;
    terminal.ask("echo again-$((6 * 7))\r", "again-42")?;
    terminal.keys("\x1d")?;
    // xenconsole knows the key only when nothing was typed with it.
    terminal.wait("dom0:/#")?;
    terminal.ask("echo back-$((6 * 7))\r", "back-42")?;
    terminal.keys("poweroff\r")?;
    while terminal.listen(Duration::from_secs(1))? {}
    let status = terminal.child.wait()?;
    ensure!(status.success(), "the command ended with {status}");
    Ok(())
}
