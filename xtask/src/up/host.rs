//! A server that runs our host image: switched on, reached by its serial line and by XenAPI.

use crate::qemu::{Boot, Run};
use crate::scenario::Options;
use crate::shell;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::time::{Duration, Instant};

/// The disk that it boots, and who starts it.
#[derive(Clone, Debug)]
pub enum Medium {
    /// GRUB for the BIOS.
    Bios(PathBuf),
    /// GRUB for UEFI.
    Uefi(PathBuf),
}

/// How long it may take to be ready, on a busy machine.
const READY: Duration = Duration::from_secs(400);
/// How long one command may take.
const COMMAND: Duration = Duration::from_secs(900);
/// How often a VM's console is looked at.
const LOOK: Duration = Duration::from_secs(3);

/// The server.
pub struct Host {
    run: Run,
    keyboard: ChildStdin,
    cli: PathBuf,
    folder: PathBuf,
    /// Where XenAPI is, from this machine.
    pub address: String,
    /// Of its certificate.
    pub fingerprint: String,
    /// Of user root.
    pub password: String,
    /// From its first process' start until it was ready.
    pub seconds: f64,
}

impl Host {
    /// Switches it on.
    pub fn start(
        options: &Options,
        medium: &Medium,
        cli: &Path,
        folder: &Path,
        log: &str,
        limit: Duration,
    ) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let (image, uefi) = match medium {
            Medium::Bios(disk) => (disk, false),
            Medium::Uefi(disk) => (disk, true),
        };
        let mut machine = options.machine(Boot::Disk { image: image.clone(), uefi });
        machine.extra.extend(
            ["-netdev", &format!("user,id=net,hostfwd=tcp:{address}-:443"), "-device", "e1000e,netdev=net"]
                .map(str::to_owned),
        );
        let mut run = machine.start(&format!("{log}-{}", options.hypervisor.name()), limit)?;
        let keyboard = run.keyboard().context("the serial line has no keyboard")?;
        let (cli, folder) = (cli.to_owned(), folder.to_owned());
        let none = String::new;
        Ok(Self { run, keyboard, cli, folder, address, fingerprint: none(), password: none(), seconds: 0.0 })
    }

    /// Its serial line's file.
    pub fn log(&self) -> &Path {
        self.run.log()
    }

    /// Waits until it says that it is ready, and how it is reached.
    pub fn wait_ready(&mut self) -> Result<()> {
        let end = Instant::now() + READY;
        while Instant::now() < end {
            let Some(line) = self.run.line_or_pause(Duration::from_millis(200))? else { continue };
            let after = |key: &str| line.split_once(key).map(|(_, rest)| rest.trim().to_owned());
            if let Some(print) = after("radon: certificate ") {
                self.fingerprint = print;
            }
            if let Some(password) = after("radon: user root, first password ") {
                self.password = password;
            }
            if let Some(rest) = after("radon: ready after ") {
                self.seconds = rest.split(' ').next().and_then(|s| s.parse().ok()).unwrap_or(0.0);
                return Ok(());
            }
            if line.contains("Kernel panic")
                || line.contains("RADON PANIC")
                || line.contains("NOTHING WILL BE KEPT")
            {
                bail!("{line}; {}", self.run.last_words());
            }
        }
        bail!("the host is not ready after {} s; {}", READY.as_secs(), self.run.last_words())
    }

    /// Where `radon` keeps the log-in of this server.
    pub fn config(&self) -> PathBuf {
        self.folder.join("config")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.cli);
        command.env("XDG_CONFIG_HOME", self.config());
        for name in ["RADON_HOST", "RADON_FINGERPRINT", "RADON_USER", "RADON_PASSWORD_FILE"] {
            command.env_remove(name);
        }
        command
    }

    /// `radon login`: commands after it are this server's.
    pub fn login(&mut self) -> Result<()> {
        let password = self.folder.join("password");
        shell::write(&password, self.password.as_bytes())?;
        fs::create_dir_all(self.config())?;
        let mut login = self.command();
        login.args(["login", "--host", &self.address, "--fingerprint", &self.fingerprint, "--password-file"]);
        shell::quiet(login.arg(&password))
    }

    /// A command of `radon`; what it said.
    pub fn radon(&mut self, arguments: &[&str]) -> Result<String> {
        let mut command = shell::command("timeout");
        command.arg(COMMAND.as_secs().to_string()).arg(&self.cli).args(arguments);
        command.env("XDG_CONFIG_HOME", self.config());
        shell::output(&mut command)
    }

    /// Types a line at the server's console.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        writeln!(self.keyboard, "{line}").context("the server's keyboard")?;
        Ok(self.keyboard.flush()?)
    }

    /// Waits until a text stands on a VM's console, or once stood there: its whole history is looked at.
    pub fn wait_console(&mut self, vm: &str, text: &str, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let said = shell::output(self.command().args(["console", "--history", vm]))?;
            if said.contains(text) {
                return Ok(());
            }
            if Instant::now() >= end {
                let last: Vec<&str> = said.lines().rev().take(3).collect();
                bail!(
                    "the console of {vm} shows no `{text}` after {} s; it ends (last line first): {last:?}",
                    limit.as_secs()
                );
            }
            let until = Instant::now() + LOOK;
            while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            {
                self.run.line_or_pause(left)?;
            }
        }
    }

    /// A command of `radon`, answered in JSON.
    pub fn radon_json(&mut self, arguments: &[&str]) -> Result<serde_json::Value> {
        let text = shell::output(self.command().arg("--json").args(arguments))?;
        serde_json::from_str(&text)
            .with_context(|| format!("`radon --json {}` says {text}", arguments.join(" ")))
    }

    /// Waits until the server has ended.
    pub fn wait_end(mut self) -> Result<()> {
        while self.run.line()?.is_some() {}
        Ok(())
    }

    /// Shows its serial line until it ends.
    pub fn follow(mut self) -> Result<()> {
        self.run.no_limit();
        println!("The server runs until Ctrl-C.");
        while self.run.line()?.is_some() {}
        Ok(())
    }
}
