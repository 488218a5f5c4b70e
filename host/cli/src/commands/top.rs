//! `radon top`: what the host and its VMs are using. The host gives counters; two looks make rates.

use crate::client::Client;
use crate::{Done, Failed};
use radon_linux::terminal::Raw;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::tcgetwinsize;
use serde::{Deserialize, Serialize};
use std::io::{self, IsTerminal, Read, Write};
use std::time::Duration;

/// The longest answer, in bytes: thousands of VMs.
const MOST: u64 = 4 << 20;

/// One look.
#[derive(Clone, Debug, Deserialize)]
struct Look {
    time_ns: u64,
    host: Host,
    vms: Vec<Counters>,
}

#[derive(Clone, Debug, Deserialize)]
struct Host {
    name: String,
    cpus: u64,
    memory: u64,
    memory_free: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Counters {
    domid: u32,
    name: String,
    uuid: String,
    vcpus: u32,
    cpu_ns: u64,
    memory: u64,
    read: u64,
    written: u64,
    sent: u64,
    received: u64,
}

/// What a VM does; bytes a second, CPU in percent of one processor.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Rates {
    name: String,
    uuid: String,
    domid: u32,
    vcpus: u32,
    cpu_percent: f64,
    memory: u64,
    read: f64,
    written: f64,
    sent: f64,
    received: f64,
}

/// What is the first column to be ordered by.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    Cpu,
    Memory,
    Disk,
    Network,
}

impl Order {
    fn of_key(key: u8) -> Option<Self> {
        match key {
            b'c' => Some(Self::Cpu),
            b'm' => Some(Self::Memory),
            b'd' => Some(Self::Disk),
            b'n' => Some(Self::Network),
            _ => None,
        }
    }

    fn weight(self, vm: &Rates) -> f64 {
        match self {
            Self::Cpu => vm.cpu_percent,
            Self::Memory => vm.memory as f64,
            Self::Disk => vm.read + vm.written,
            Self::Network => vm.sent + vm.received,
        }
    }
}

/// Shows it until `q`, or once.
pub fn run(client: &Client, json: bool, interval: u64, once: bool) -> Done {
    let interval = Duration::from_secs(interval);
    let mut before = look(client)?;
    if once || json || !io::stdout().is_terminal() {
        std::thread::sleep(interval);
        let now = look(client)?;
        let vms = rates(&before, &now, Order::Cpu);
        if json {
            let host = serde_json::json!({
                "name": now.host.name, "cpus": now.host.cpus, "cpu_percent": vms.iter().map(|v| v.cpu_percent).sum::<f64>(),
                "memory": now.host.memory, "memory_free": now.host.memory_free,
            });
            println!("{}", serde_json::to_string_pretty(&serde_json::json!({"host": host, "vms": vms}))?);
        } else {
            table(&now.host, &vms, usize::MAX, usize::MAX).iter().for_each(|line| println!("{line}"));
        }
        return Ok(());
    }
    let _terminal = Raw::make()?;
    let mut screen = Screen::open()?;
    let mut order = Order::Cpu;
    let mut now = before.clone();
    loop {
        let (columns, rows) = screen.size();
        screen.draw(&table(&now.host, &rates(&before, &now, order), columns, rows))?;
        match key(interval)? {
            Some(b'q' | 0x03 | 0x1b) => return Ok(()),
            Some(key) => order = Order::of_key(key).unwrap_or(order),
            None => before = std::mem::replace(&mut now, look(client)?),
        }
    }
}

fn look(client: &Client) -> Result<Look, Failed> {
    let path = format!("/usage?session_id={}", client.reference());
    let mut text = String::new();
    client.server().request("GET", &path, 0, &mut io::empty())?.take(MOST).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// Rates of those that were there both times.
fn rates(before: &Look, now: &Look, order: Order) -> Vec<Rates> {
    let seconds = now.time_ns.saturating_sub(before.time_ns) as f64 / 1e9;
    let rate =
        |now: u64, before: u64| if seconds > 0.0 { now.saturating_sub(before) as f64 / seconds } else { 0.0 };
    let mut all: Vec<Rates> = Vec::new();
    for vm in &now.vms {
        // A restarted VM has another domain, whose counters begin anew.
        let old = before.vms.iter().find(|old| old.domid == vm.domid && old.uuid == vm.uuid).unwrap_or(vm);
        all.push(Rates {
            name: vm.name.clone(),
            uuid: vm.uuid.clone(),
            domid: vm.domid,
            vcpus: vm.vcpus,
            cpu_percent: rate(vm.cpu_ns, old.cpu_ns) / 1e7,
            memory: vm.memory,
            read: rate(vm.read, old.read),
            written: rate(vm.written, old.written),
            sent: rate(vm.sent, old.sent),
            received: rate(vm.received, old.received),
        });
    }
    all.sort_by(|a, b| order.weight(b).total_cmp(&order.weight(a)).then(a.domid.cmp(&b.domid)));
    all
}

/// Lines of text, no longer and no more than there is room for.
fn table(host: &Host, vms: &[Rates], columns: usize, rows: usize) -> Vec<String> {
    let used = vms.iter().map(|vm| vm.cpu_percent).sum::<f64>();
    let mut lines = vec![
        format!(
            "{}: {} CPUs, {used:.1} % of one in use; {} of memory, {} free",
            host.name,
            host.cpus,
            scaled(host.memory as f64),
            scaled(host.memory_free as f64)
        ),
        String::new(),
        format!(
            "{:<24} {:>5} {:>5} {:>8} {:>9} {:>11} {:>11} {:>11} {:>11}",
            "NAME", "DOM", "VCPUS", "CPU %", "MEMORY", "READ/s", "WRITTEN/s", "SENT/s", "RECEIVED/s"
        ),
    ];
    for vm in vms {
        let name: String = vm.name.chars().take(24).collect();
        lines.push(format!(
            "{name:<24} {:>5} {:>5} {:>8.1} {:>9} {:>11} {:>11} {:>11} {:>11}",
            vm.domid,
            vm.vcpus,
            vm.cpu_percent,
            scaled(vm.memory as f64),
            scaled(vm.read),
            scaled(vm.written),
            scaled(vm.sent),
            scaled(vm.received)
        ));
    }
    lines.truncate(rows);
    // Names are other users': no control characters.
    lines
        .iter()
        .map(|line| line.chars().take(columns).collect::<String>().replace(char::is_control, "?"))
        .collect()
}

/// Bytes as people write them, short.
fn scaled(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["B", "K", "M", "G"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{value:.0}{unit}") } else { format!("{value:.1}{unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1}T")
}

/// A key, or `None` after the interval.
fn key(interval: Duration) -> Result<Option<u8>, Failed> {
    let input = io::stdin();
    let timeout = Timespec { tv_sec: interval.as_secs() as i64, tv_nsec: interval.subsec_nanos().into() };
    match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&timeout)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
        result => result?,
    };
    let mut byte = [0];
    match rustix::io::read(&input, &mut byte)? {
        0 => Ok(Some(b'q')),
        _ => Ok(Some(byte[0])),
    }
}

/// The terminal's second screen; the first one comes back when this goes.
struct Screen;

impl Screen {
    fn open() -> Result<Self, Failed> {
        io::stdout().write_all(b"\x1b[?1049h\x1b[?25l")?;
        Ok(Self)
    }

    /// Columns and rows; of a terminal that does not tell (0), the usual ones.
    fn size(&self) -> (usize, usize) {
        let size = tcgetwinsize(io::stdout()).ok();
        let known = |number: u16, usual: usize| if number == 0 { usual } else { usize::from(number) };
        size.map_or((80, 24), |size| (known(size.ws_col, 80), known(size.ws_row, 24)))
    }

    fn draw(&mut self, lines: &[String]) -> Done {
        let text = lines.join("\x1b[K\r\n");
        let mut out = io::stdout().lock();
        write!(out, "\x1b[H{text}\x1b[K\x1b[J")?;
        Ok(out.flush()?)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = io::stdout().write_all(b"\x1b[?25h\x1b[?1049l");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(time_ns: u64, vms: &[(u32, u64, u64)]) -> Look {
        let vms = vms.iter().map(|(domid, cpu_ns, read)| Counters {
            domid: *domid,
            name: format!("vm{domid}\x1b"),
            uuid: "u".into(),
            vcpus: 2,
            cpu_ns: *cpu_ns,
            memory: 256 << 20,
            read: *read,
            written: 0,
            sent: 0,
            received: 0,
        });
        let host = Host { name: "h".into(), cpus: 4, memory: 8 << 30, memory_free: 1 << 30 };
        Look { time_ns, host, vms: vms.collect() }
    }

    #[test]
    fn two_looks_make_rates() {
        let before = look(1_000_000_000, &[(1, 0, 5000), (2, 900, 0)]);
        let now = look(3_000_000_000, &[(1, 1_000_000_000, 5000), (2, 3_000_000_900, 4096), (3, 77, 77)]);
        let all = rates(&before, &now, Order::Cpu);
        let shown: Vec<_> = all.iter().map(|vm| (vm.domid, vm.cpu_percent, vm.read)).collect();
        assert_eq!(shown, [(2, 150.0, 2048.0), (1, 50.0, 0.0), (3, 0.0, 0.0)]);
        assert_eq!(rates(&before, &now, Order::Disk)[0].domid, 2);
        assert!(rates(&now, &now, Order::Memory).iter().all(|vm| vm.cpu_percent == 0.0));
        let lines = table(&now.host, &all, 60, 5);
        assert_eq!(lines.len(), 5);
        assert!(
            lines[0].starts_with("h: 4 CPUs, 200.0 % of one") && lines[3].starts_with("vm2?"),
            "{lines:?}"
        );
        assert!(lines.iter().all(|line| line.chars().count() <= 60 && !line.contains('\x1b')));
    }

    #[test]
    fn bytes_are_short() {
        assert_eq!(
            [scaled(0.0), scaled(1023.0), scaled(1536.0), scaled(3.5e13)],
            ["0B", "1023B", "1.5K", "31.8T"]
        );
    }
}
