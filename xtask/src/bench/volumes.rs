//! `cargo xtask bench volumes`: what snapshots, clones and deletions take, of volumes of any size; images in and out, beside
//! `qemu-img convert`.
//!
//! On an XFS in a file, mounted through a loop device. Both programs leave their result on the disk (`qemu-img` is told to). They take
//! turns, and the best of several turns counts. Processor time, the kernel's for the program included, is the steadier measure.

use crate::test::volumes::machine;
use crate::xfs::Xfs;
use crate::{paths, setup, shell};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const TURNS: u32 = 3;
/// Operations in one turn.
const REPEAT: u32 = 20;
/// The image that is copied: bytes, and how many of them are data.
const IMAGE: u64 = 2 << 30;
const DATA: u64 = 1 << 30;

/// Measures and prints the tables.
pub fn run() -> Result<()> {
    setup::run()?;
    instructions()?;
    let bench = Bench { program: build()?, xfs: Xfs::new(paths::target().join("bench-volumes"), 16 << 30)? };
    bench.sizes()?;
    bench.images()
}

/// Instructions of the same operations, in an emulated machine that counts them.
fn instructions() -> Result<()> {
    let modules = ["virtio_pci", "virtio_blk", "crc32c_generic", "xfs"];
    let text = machine("instructions", &["-smp", "1", "-icount", "shift=0,sleep=off"], &modules)?;
    println!(
        "\nmillions of instructions, the kernel's for the process included; `nothing` is `radon-volume --version`:"
    );
    println!("{:<16} {:>8} {:<9} {:>8}", "volume", "extents", "operation", "M");
    for line in text.lines().filter_map(|l| l.split_once("volumes: instructions ")) {
        let words: Vec<&str> = line.1.split_whitespace().collect();
        let [volume, extents, operation, count] = words[..] else { bail!("what is {line:?}?") };
        println!("{volume:<16} {extents:>8} {operation:<9} {count:>8}");
    }
    Ok(())
}

/// Builds `radon-volume` as it is shipped.
fn build() -> Result<PathBuf> {
    let args = ["build", "--quiet", "--profile", "host", "-p", "radon-volume"];
    shell::loud(Command::new(env!("CARGO")).current_dir(paths::root()).args(args))?;
    let path = paths::target().join("host/radon-volume");
    if !path.exists() {
        bail!("cargo built no program at {}", path.display());
    }
    Ok(path)
}

/// Seconds on the clock, and of processors.
#[derive(Clone, Copy, Debug)]
struct Figure {
    real: f64,
    cpu: f64,
}

impl Figure {
    const NONE: Self = Self { real: f64::INFINITY, cpu: f64::INFINITY };

    fn best(self, other: Self) -> Self {
        Self { real: self.real.min(other.real), cpu: self.cpu.min(other.cpu) }
    }
}

struct Bench {
    program: PathBuf,
    xfs: Xfs,
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.xfs.dir().join(name)
    }

    /// Runs a script with `v` as the program; its time.
    fn time(&self, script: &str) -> Result<Figure> {
        let program = self.program.display();
        let script = format!(
            "set -e; v() {{ {program} \"$@\" >/dev/null; }}\nTIMEFORMAT='%R %U %S'\ntime {{ {script}\n}}"
        );
        let mut bash = Command::new("bash");
        bash.args(["-c", &script]).current_dir(self.xfs.dir());
        bash.env("RADON_REPOSITORY", self.path("sr"));
        let out = bash.output().context("cannot start bash")?;
        let text = String::from_utf8_lossy(&out.stderr);
        if !out.status.success() {
            bail!("`{script}` failed:\n{text}");
        }
        let last = text.lines().last().unwrap_or_default();
        let numbers: Vec<f64> = last.split(' ').filter_map(|n| n.parse().ok()).collect();
        match numbers[..] {
            [real, user, system] => Ok(Figure { real, cpu: user + system }),
            _ => bail!("no times in {text}"),
        }
    }

    /// A volume with data in so many pieces of 4 KiB, spread over it.
    fn volume(&self, name: &str, size: u64, pieces: u64) -> Result<()> {
        self.time(&format!("v create {name} {size}"))?;
        let mut show = Command::new(&self.program);
        show.args(["--json", "show", name]).env("RADON_REPOSITORY", self.path("sr"));
        let shown: serde_json::Value = serde_json::from_str(&shell::output(&mut show)?)?;
        let id = shown["id"].as_str().context("a volume without a number")?;
        let file = File::options().write(true).open(self.path("sr/volumes").join(format!("{id}.raw")))?;
        for piece in 0..pieces {
            file.write_all_at(&[1; 4096], size / pieces * piece)?;
        }
        Ok(file.sync_all()?)
    }

    /// Time per operation, of volumes that differ in size and in the number of their extents.
    fn sizes(&self) -> Result<()> {
        self.time("v init")?;
        let volumes =
            [("1 GiB", "a", 1 << 30, 64), ("64 TiB", "b", 64 << 40, 64), ("64 TiB", "c", 64 << 40, 10_000)];
        for (_, name, size, pieces) in volumes {
            self.volume(name, size, pieces)?;
        }
        println!(
            "each a command of its own, the start of the process and what is synchronised to the disk included:"
        );
        println!("{:<8} {:>8} {:<9} {:>9} {:>8}", "volume", "extents", "operation", "ms", "CPU ms");
        let each = |work: &str| format!("for n in $(seq {REPEAT}); do {work}; done");
        let mut best = [[Figure::NONE; 3]; 3];
        for _ in 0..TURNS {
            for ((_, name, ..), best) in volumes.iter().zip(&mut best) {
                let works = [
                    each(&format!("v snapshot {name} s$n")),
                    each(&format!("v clone {name} c$n")),
                    each("v delete s$n"),
                ];
                for (work, best) in works.iter().zip(best) {
                    *best = best.best(self.time(work)?);
                }
                self.time(&each("v delete c$n"))?;
            }
        }
        for ((size, _, _, pieces), best) in volumes.iter().zip(best) {
            for (operation, figure) in ["snapshot", "clone", "delete"].iter().zip(best) {
                let [real, cpu] = [figure.real, figure.cpu].map(|s| s * 1000.0 / f64::from(REPEAT));
                println!("{size:<8} {pieces:>8} {operation:<9} {real:>9.1} {cpu:>8.1}");
            }
        }
        Ok(())
    }

    /// Import and export of one disk in each format, against `qemu-img convert`.
    fn images(&self) -> Result<()> {
        self.fill(&self.path("disk.raw"))?;
        self.time("v import disk disk.raw")?;
        println!(
            "\na disk of {} GiB, {} GiB of them data, which are in memory at the start:",
            IMAGE >> 30,
            DATA >> 30
        );
        println!(
            "{:<7} {:<7} {:>10} {:>10} {:>9} {:>9} {:>7}",
            "work", "format", "Radon MB/s", "qemu MB/s", "Radon CPU", "qemu CPU", "ratio"
        );
        for (format, qemu, options) in [
            ("raw", "raw", ""),
            ("vhd", "vpc", "-o force_size=on"),
            ("qcow2", "qcow2", ""),
            ("qcow2", "qcow2", "-c"),
        ] {
            let shown = if options == "-c" { "packed" } else { format };
            self.time(&format!(
                "qemu-img convert -f raw -O {qemu} {options} disk.raw image; cat image >/dev/null"
            ))?;
            let import = [
                format!("v import new image --format {format}"),
                format!("qemu-img convert -t writeback -f {qemu} -O raw image out"),
            ];
            self.compare("import", shown, &import, "v delete new; rm out")?;
            if options != "-c" {
                let export = [
                    format!("v export disk out --format {format}"),
                    format!("qemu-img convert -t writeback -f raw -O {qemu} {options} disk.raw out2"),
                ];
                self.compare("export", shown, &export, "rm out out2")?;
            }
            fs::remove_file(self.path("image"))?;
        }
        Ok(())
    }

    fn compare(&self, work: &str, format: &str, scripts: &[String; 2], after: &str) -> Result<()> {
        let mut best = [Figure::NONE; 2];
        for _ in 0..TURNS {
            for (script, best) in scripts.iter().zip(&mut best) {
                shell::quiet(shell::command("sync").arg("-f").arg(self.xfs.dir()))?;
                *best = best.best(self.time(script)?);
            }
            self.time(after)?;
        }
        let [ours, theirs] = best;
        let rate = |figure: Figure| DATA as f64 / 1e6 / figure.real;
        println!(
            "{work:<7} {format:<7} {:>10.0} {:>10.0} {:>8.2}s {:>8.2}s {:>7.2}",
            rate(ours),
            rate(theirs),
            ours.cpu,
            theirs.cpu,
            ours.cpu / theirs.cpu
        );
        Ok(())
    }

    /// Words that no compressor makes nothing of, nor keeps as they are; every other MiB is a hole.
    fn fill(&self, path: &Path) -> Result<()> {
        let file = File::create(path)?;
        file.set_len(IMAGE)?;
        let mut state = 1u64;
        let mut piece = vec![0u8; 1 << 20];
        for at in (0..IMAGE).step_by((IMAGE / DATA) as usize * piece.len()) {
            for word in piece.chunks_exact_mut(8) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                word.copy_from_slice(&(state >> 33).to_le_bytes());
            }
            file.write_all_at(&piece, at)?;
        }
        Ok(file.sync_all()?)
    }
}
