//! The emulated server: QEMU's command line, and a watched run of it.

use crate::host_cpu::HostCpu;
use crate::{paths, shell};
use anyhow::{Context, Result, bail, ensure};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Which hypervisor is booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Hypervisor {
    /// Ours.
    Radon,
    /// Debian's Xen 4.17 with a PVH dom0: the control.
    Xen,
}

impl Hypervisor {
    /// Lower-case name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Radon => "radon",
            Self::Xen => "xen",
        }
    }
}

/// What is booted.
#[derive(Clone, Debug)]
pub enum Boot {
    /// Multiboot 1: hypervisor, its arguments, and modules with theirs.
    Multiboot { kernel: PathBuf, args: String, modules: Vec<(PathBuf, String)> },
    /// A CD-ROM; `uefi` starts it from OVMF, else from the BIOS.
    Iso { image: PathBuf, uefi: bool },
    /// A disk, which is written to; `uefi` starts it from OVMF, else from the BIOS.
    Disk { image: PathBuf, uefi: bool },
}

/// An emulated server.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The emulator program.
    pub qemu: PathBuf,
    /// Decides which quirks of the emulator must be avoided.
    pub hypervisor: Hypervisor,
    /// Physical CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// Wait for a debugger on TCP port 1234.
    pub debug: bool,
    /// Count instructions instead of time: slow, repeatable.
    pub icount: bool,
    /// All of its threads on one processor of the host, which QEMU needs where Linux runs (see [`HostCpu`]).
    pub one_host_cpu: bool,
    /// What is booted.
    pub boot: Boot,
    /// Further arguments for QEMU.
    pub extra: Vec<String>,
}

/// Nested SVM or VMX in hardware: the CPU's own flags decide (a `/dev/kvm` that opens proves nothing).
pub fn hardware_virtualisation() -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has_flag = flags
        .lines()
        .find(|l| l.starts_with("flags"))
        .is_some_and(|l| l.split_whitespace().any(|f| f == "svm" || f == "vmx"));
    let nested = ["kvm_amd", "kvm_intel"].iter().any(|module| {
        std::fs::read_to_string(format!("/sys/module/{module}/parameters/nested"))
            .is_ok_and(|v| matches!(v.trim(), "1" | "Y"))
    });
    has_flag && nested && File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

/// Major and minor number of an emulator's version.
pub fn version(program: &Path) -> Option<(u32, u32)> {
    parse_version(&shell::output(Command::new(program).arg("--version")).ok()?)
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let number = text.split_once("version ")?.1.split_whitespace().next()?;
    let mut parts = number.split('.').map_while(|p| p.parse().ok());
    Some((parts.next()?, parts.next()?))
}

/// Why stock Xen cannot run a PVH domain on this emulator, if it cannot: from 9.1 on its intercepts of control registers are wrong
/// (docs/decisions/0001-qemu-10.md). Radon does not use them.
pub fn no_stock_xen(program: &Path) -> Option<String> {
    const FIRST_WRONG: (u32, u32) = (9, 1);
    let (major, minor) = version(program).filter(|v| *v >= FIRST_WRONG && !hardware_virtualisation())?;
    Some(format!(
        "QEMU {major}.{minor} misreports reads of control registers, which stops stock Xen's PVH domains \
         (docs/decisions/0001-qemu-10.md): use one before 9.1 (--qemu PATH) for the control"
    ))
}

impl Machine {
    /// QEMU's command line, on one processor of the host if one is given. The reasons for each CPU flag are in `docs/architecture.md`'s emulator notes.
    pub fn command(&self, host_cpu: Option<&HostCpu>) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        // The emulator must not outlive us, however we end.
        if let Some(setpriv) = shell::which("setpriv") {
            words.extend([setpriv.into(), "--pdeathsig".into(), "KILL".into()]);
        }
        if let Some(cpu) = host_cpu {
            words.extend(["taskset".into(), "-c".into(), cpu.number().to_string().into()]);
        }
        words.push(self.qemu.clone().into());
        let mut c = Command::new(words.remove(0));
        c.args(words);
        let stock = self.hypervisor == Hypervisor::Xen;
        if hardware_virtualisation() && !self.icount {
            c.args(["-accel", "kvm", "-cpu", "host", "-machine", "q35"]);
        } else {
            // RDTSCP is reported as RDTSC when intercepted, MWAIT faults, moving vCPUs lose extended state, and CMPXCHG16B
            // leaves rubbish in RFLAGS.
            let cpu = "EPYC,+svm,+npt,-rdtscp,-monitor,-xsave,-cx16";
            let threads = if self.icount { "single" } else { "multi" };
            c.args(["-accel", &format!("tcg,thread={threads}"), "-machine", "q35,kernel-irqchip=off"]);
            c.args(["-cpu", &if stock { format!("{cpu},-smap,-smep") } else { cpu.to_owned() }]);
        }
        if stock {
            // Stock Xen starts no PVH dom0 without an IOMMU.
            c.args(["-device", "amd-iommu"]);
        }
        if self.icount {
            c.args(["-icount", "shift=0,sleep=off"]);
        }
        c.args(["-smp", &self.cpus.to_string(), "-m", &format!("{}M", self.memory)]);
        c.args(["-display", "none", "-nodefaults", "-no-user-config", "-no-reboot"]);
        c.args(["-chardev", "stdio,id=com1,signal=off", "-serial", "chardev:com1"]);
        if self.debug {
            c.args(["-s", "-S"]);
        }
        match &self.boot {
            Boot::Multiboot { kernel, args, modules } => {
                c.arg("-kernel").arg(kernel).args(["-append", args]);
                let modules: Vec<_> = modules
                    .iter()
                    // A comma separates modules, so one inside an argument is doubled.
                    .map(|(p, a)| format!("{} {}", p.display(), a.replace(',', ",,")).trim_end().to_owned())
                    .collect();
                if !modules.is_empty() {
                    c.args(["-initrd", &modules.join(",")]);
                }
            }
            Boot::Iso { image, uefi } => {
                c.arg("-cdrom").arg(image).args(["-boot", "d"]);
                if *uefi {
                    c.args(["-bios", "/usr/share/ovmf/OVMF.fd"]);
                }
            }
            Boot::Disk { image, uefi } => {
                // Unsafe is for the emulator's host: what the machine has written is in the file when the emulator ends.
                let drive =
                    format!("if=none,id=disk,format=raw,discard=unmap,cache=unsafe,file={}", image.display());
                c.args(["-drive", &drive, "-device", "nvme,serial=radon,drive=disk,bootindex=0"]);
                if *uefi {
                    c.args(["-bios", "/usr/share/ovmf/OVMF.fd"]);
                }
            }
        }
        c.args(&self.extra);
        c
    }

    /// Starts the machine; its whole serial output also goes to `target/logs/<log>.log`.
    pub fn start(&self, log: &str, limit: Duration) -> Result<Run> {
        let start = || format!("cannot start {}", self.qemu.display());
        let exists = if self.qemu.components().count() > 1 {
            self.qemu.is_file()
        } else {
            shell::which(&self.qemu.to_string_lossy()).is_some()
        };
        ensure!(exists, "{}; cure: `cargo xtask setup`, or --qemu PATH", start());
        let emulated = !self.icount && !hardware_virtualisation();
        let host_cpu = if self.one_host_cpu && emulated { HostCpu::take() } else { None };
        let mut command = self.command(host_cpu.as_ref());
        let path = paths::logs().join(format!("{log}.log"));
        std::fs::create_dir_all(paths::logs())?;
        let mut file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        writeln!(file, "# {}", shell::show(&command))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file.try_clone()?)
            .spawn()
            .with_context(start)?;
        let mut serial = child.stdout.take().context("the emulator has no standard output")?;
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = serial.read(&mut buffer) {
                if send.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        let stdin = child.stdin.take();
        let now = Instant::now();
        let at_line_start = true;
        Ok(Run {
            at_line_start,
            child,
            _host_cpu: host_cpu,
            stdin,
            receive,
            file,
            path,
            started: now,
            limit,
            partial: Vec::new(),
            tail: VecDeque::new(),
        })
    }
}

/// A machine that runs. Dropping it ends it.
pub struct Run {
    child: Child,
    _host_cpu: Option<HostCpu>,
    stdin: Option<ChildStdin>,
    receive: Receiver<Vec<u8>>,
    file: File,
    at_line_start: bool,
    path: PathBuf,
    started: Instant,
    limit: Duration,
    partial: Vec<u8>,
    tail: VecDeque<String>,
}

impl Run {
    /// Next serial line without its line end; `None` when the machine has powered off. Exceeding the limit is an error.
    pub fn line(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(end) = self.partial.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.partial.drain(..=end).collect();
                return Ok(Some(self.remember(&line)));
            }
            match self.bytes()? {
                Some(bytes) => self.partial.extend(bytes),
                None if self.partial.is_empty() => return Ok(None),
                None => {
                    let rest = std::mem::take(&mut self.partial);
                    return Ok(Some(self.remember(&rest)));
                }
            }
        }
    }

    /// Next serial line, or `None` when none is complete after `pause`; the machine's end is an error.
    pub fn line_or_pause(&mut self, pause: Duration) -> Result<Option<String>> {
        let end = Instant::now() + pause;
        loop {
            if let Some(at) = self.partial.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.partial.drain(..=at).collect();
                return Ok(Some(self.remember(&line)));
            }
            if self.started.elapsed() > self.limit {
                bail!("time limit of {} s reached; {}", self.limit.as_secs(), self.last_words());
            }
            match self.receive.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => {
                    self.record(&bytes)?;
                    self.partial.extend(bytes);
                }
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => bail!("the machine stopped; {}", self.last_words()),
            }
        }
    }

    /// Next bytes as they come (after those that [`Run::line`] holds back); `None` at power-off.
    pub fn bytes(&mut self) -> Result<Option<Vec<u8>>> {
        let left = self.limit.saturating_sub(self.started.elapsed());
        match self.receive.recv_timeout(left) {
            Ok(bytes) => {
                self.record(&bytes)?;
                Ok(Some(bytes))
            }
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                writeln!(self.file, "\n# ended by xtask: time limit of {} s", self.limit.as_secs())?;
                bail!("time limit of {} s reached; {}", self.limit.as_secs(), self.last_words())
            }
        }
    }

    /// Bytes received but not yet returned by [`Run::line`].
    pub fn take_partial(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.partial)
    }

    /// Keyboard of the serial line. Can be taken once.
    pub fn keyboard(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Sets an earlier end, counted from when the machine was switched on.
    pub fn shorten(&mut self, end: Duration) {
        self.limit = self.limit.min(end);
    }

    /// Lifts the time limit, for a person at the console.
    pub fn no_limit(&mut self) {
        self.limit = Duration::from_secs(u64::from(u32::MAX));
    }

    /// Time since the machine was switched on.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// File with the serial output.
    pub fn log(&self) -> &Path {
        &self.path
    }

    /// The last serial lines and where the whole log is: the end of every error message.
    pub fn last_words(&self) -> String {
        let mut tail: Vec<_> = self.tail.iter().map(|l| format!("    {l}")).collect();
        if tail.is_empty() {
            // Nothing came from the machine: what the emulator itself said, behind its command line.
            let log = std::fs::read_to_string(&self.path).unwrap_or_default();
            let said =
                log.lines().filter(|l| !l.starts_with('#') && !l.contains("warning: TCG doesn't support"));
            tail = said.map(|l| format!("    {l}")).collect();
            tail.drain(..tail.len().saturating_sub(8));
        }
        format!("the serial log ({}) ends:\n{}", self.path.display(), tail.join("\n"))
    }

    /// Writes to the log, with the time at the start of each line.
    fn record(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            if std::mem::replace(&mut self.at_line_start, part.ends_with(b"\n")) {
                write!(self.file, "{:8.2} ", self.started.elapsed().as_secs_f64())?;
            }
            self.file.write_all(part)?;
        }
        Ok(())
    }

    fn remember(&mut self, line: &[u8]) -> String {
        let line = String::from_utf8_lossy(line).trim_end().to_owned();
        if !line.is_empty() {
            self.tail.push_back(line.clone());
            if self.tail.len() > 8 {
                self.tail.pop_front();
            }
        }
        line
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Already gone is as good as ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(hypervisor: Hypervisor) -> Machine {
        let modules =
            vec![("vmlinuz".into(), "console=hvc0 a=1,2".to_owned()), ("initrd".into(), String::new())];
        Machine {
            qemu: "qemu-system-x86_64".into(),
            hypervisor,
            cpus: 2,
            memory: 2048,
            debug: false,
            icount: true,
            one_host_cpu: false,
            boot: Boot::Multiboot { kernel: "image".into(), args: "loglvl=all".into(), modules },
            extra: vec![],
        }
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(
            parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright"),
            Some((7, 2))
        );
        assert_eq!(parse_version("QEMU emulator version 10.0.2 (Debian)"), Some((10, 0)));
        assert_eq!(parse_version("QEMU emulator version 9.1.50"), Some((9, 1)));
        assert_eq!(parse_version("something else"), None);
    }

    #[test]
    fn commas_in_module_arguments_are_doubled() {
        let shown = shell::show(&machine(Hypervisor::Radon).command(None));
        assert!(shown.contains("-initrd vmlinuz console=hvc0 a=1,,2,initrd"), "{shown}");
    }

    #[test]
    fn all_threads_are_on_one_processor_when_asked() {
        let cpu = HostCpu::take().unwrap();
        let shown = shell::show(&machine(Hypervisor::Radon).command(Some(&cpu)));
        assert!(shown.contains(&format!("taskset -c {} qemu-system-x86_64 ", cpu.number())), "{shown}");
    }

    #[test]
    fn only_stock_xen_gets_an_iommu() {
        assert!(shell::show(&machine(Hypervisor::Xen).command(None)).contains("amd-iommu"));
        assert!(!shell::show(&machine(Hypervisor::Radon).command(None)).contains("amd-iommu"));
    }
}
