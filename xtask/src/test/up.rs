//! The host image as its users have it: installed, started from BIOS and UEFI, driven by the commands of the operator's guide.

use super::Report;
use crate::qemu::Hypervisor;
use crate::scenario::Options;
use crate::up::host::{Host, Medium};
use crate::up::{self, DISK};
use crate::{host_image, paths, shell};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The guide.
const GUIDE: &str = "docs/operate.md";
/// How long a machine may run.
const LIMIT: Duration = Duration::from_secs(1500);
/// How long the guest may take to its log-in, in an emulated processor.
const LOGIN: Duration = Duration::from_secs(1200);

/// Runs the tests, as far as the filter wants them.
pub fn run(report: &mut Report, options: &Options) {
    let options = &Options { dom0_cpus: Some(1), memory: 3072, ..options.clone() };
    report.run("system-up", "reproducible", || host_image::reproducible(options));
    report.run("system-up", "guide", || guide(options));
    report.run("system-up", "uefi", || uefi(options));
}

/// A folder of the test's own, empty.
fn folder(name: &str) -> Result<PathBuf> {
    let folder = paths::target().join("up-test").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The installed disk, started from UEFI; the host is reached.
fn uefi(options: &Options) -> Result<()> {
    let (image, cli, folder) = (host_image::cached(options)?, up::cli()?, folder("uefi")?);
    let disk = folder.join("disk.img");
    up::new_disk(&image.disk, &disk)?;
    let mut host = Host::start(options, &Medium::Uefi(disk), &cli, &folder, "system-up-uefi", LIMIT)?;
    host.wait_ready()?;
    println!("  ready after {:.1} s of its first process", host.seconds);
    host.login()?;
    let record = host.radon_json(&["host", "show"])?;
    if record["enabled"] != true {
        bail!("the host says of itself: {record}");
    }
    host.type_line("poweroff")?;
    host.wait_end()?;
    fs::remove_dir_all(folder).context("the test's folder")
}

/// A box of the guide.
#[derive(Debug, PartialEq, Eq)]
enum Block {
    /// Run before there is a server.
    Install(String),
    /// Run by a shell.
    Shell(String),
    /// Typed at the server's console.
    Console(String),
}

/// All boxes with commands, in order.
fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let body: Vec<&str> = lines.by_ref().take_while(|l| *l != "```").collect();
        let body = body.join("\n");
        match kind {
            "sh install" => found.push(Block::Install(body)),
            "sh" => found.push(Block::Shell(body)),
            "console" => found.push(Block::Console(body)),
            _ => {}
        }
    }
    found
}

/// What the guide's commands find in their environment.
struct Shell<'a> {
    folder: &'a Path,
    disk: &'a Path,
    cli: &'a Path,
}

impl Shell<'_> {
    fn run(&self, commands: &str, host: Option<&Host>) -> Result<String> {
        let folders = [self.cli.parent().unwrap_or(self.cli).to_path_buf()].into_iter();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(folders.chain(std::env::split_paths(&path)))?;
        let mut bash = shell::command("timeout");
        bash.args(["1200", "bash", "-euo", "pipefail", "-c", commands]).env("PATH", path);
        bash.env("WORK", self.folder)
            .env("DISK", self.disk)
            .env("XDG_CONFIG_HOME", self.folder.join("config"));
        bash.current_dir(self.folder);
        if let Some(host) = host {
            bash.env("HOST", &host.address).env("FINGERPRINT", &host.fingerprint);
        } else {
            bash.current_dir(paths::root());
        }
        shell::output(&mut bash)
    }
}

/// Every command of the guide, in its order; between them the guest's log-in is seen, and nothing is lost in a reboot.
fn guide(options: &Options) -> Result<()> {
    let text = fs::read_to_string(paths::root().join(GUIDE))?;
    let blocks = blocks(&text);
    let (cli, folder) = (up::cli()?, folder("guide")?);
    let disk = folder.join("disk.img");
    File::create(&disk)?.set_len(DISK)?;
    // The guide's own command would make the same one.
    std::os::unix::fs::symlink(up::template(&cli)?, folder.join("debian-12.raw"))?;
    let shell = Shell { folder: &folder, disk: &disk, cli: &cli };
    let mut host: Option<Host> = None;
    for block in &blocks {
        println!("  {}", format!("{block:?}").chars().take(100).collect::<String>());
        if !matches!(block, Block::Install(_)) && host.is_none() {
            host = Some(start(options, &disk, &cli, &folder)?);
        }
        match (block, host.as_mut()) {
            // The guide installs our own hypervisor; the control is installed without its words.
            (Block::Install(_), _) if options.hypervisor == Hypervisor::Xen => {
                up::new_disk(&host_image::cached(options)?.disk, &disk)?;
            }
            (Block::Install(commands), _) => drop(shell.run(commands, None)?),
            (Block::Shell(commands), Some(host)) => {
                let said =
                    shell.run(commands, Some(host)).with_context(|| format!("{GUIDE}:\n{commands}"))?;
                said.lines().for_each(|line| println!("    {line}"));
                if commands.contains("vm start demo") {
                    host.wait_console("demo", "demo login:", LOGIN)?;
                    println!("  the VM asks for a log-in, under the name that cloud-init gave it");
                }
            }
            (Block::Console(words), Some(_)) => {
                let Some(mut server) = host.take() else { continue };
                server.type_line(words)?;
                server.wait_end()?;
                // The emulator ends where a server would start again.
            }
            (_, None) => bail!("there is no server"),
        }
    }
    drop(host);
    fs::remove_dir_all(folder).context("the test's folder")
}

fn start(options: &Options, disk: &Path, cli: &Path, folder: &Path) -> Result<Host> {
    let mut host = Host::start(options, &Medium::Bios(disk.to_owned()), cli, folder, "system-up", LIMIT)?;
    host.wait_ready()?;
    println!("  the host is ready after {:.1} s of its first process", host.seconds);
    fs::write(folder.join("password"), &host.password)?;
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_box_of_the_guide_is_a_command_or_what_a_screen_shows() {
        let text = fs::read_to_string(paths::root().join(GUIDE)).unwrap();
        let found = blocks(&text);
        assert!(found.len() >= 8, "{found:?}");
        let fences = text.lines().filter(|l| l.starts_with("```")).count();
        let shown = text
            .lines()
            .collect::<Vec<_>>()
            .windows(2)
            .filter(|w| w[0] == "```" && w[1].starts_with("radon: "))
            .count();
        assert_eq!(fences, 2 * (found.len() + shown));
    }

    #[test]
    fn boxes_are_found_in_order() {
        let text = "a\n```sh\nb\nc\n```\n```\nscreen\n```\n```console\nreboot\n```\n";
        assert_eq!(blocks(text), [Block::Shell("b\nc".into()), Block::Console("reboot".into())]);
    }
}
