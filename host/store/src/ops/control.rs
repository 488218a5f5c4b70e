//! CONTROL: what `xenstore-control` asks for. The daemon's own commands come from [`Host::control`].

use super::{Answer, Call};
use crate::connection::ConnId;
use crate::errno::{Errno, Result};
use crate::perm::DomId;
use crate::record::Record;
use crate::store::{Control, Host, Store};
use crate::wire;

/// Commands and their arguments, as `help` shows them.
const HELP: &[(&str, &str)] = &[
    ("check", ""),
    ("log", "on|off"),
    ("live-update", "[-c <cmdline>] [-F] [-t <timeout>] <file>"),
    ("logfile", "<file>"),
    ("memreport", "[<file>]"),
    ("print", "<string>"),
    ("quota", "[set <name> <val>|<domid>]"),
    ("quota-soft", "[set <name> <val>]"),
    ("help", ""),
];

impl Store {
    /// `<command>|<argument>|*`.
    pub(super) fn control(&mut self, call: &mut Call, payload: &[u8], host: &mut dyn Host) -> Result<Answer> {
        let strings = wire::strings(payload);
        let text = |data: String| Ok(Answer::Data(data.into_bytes().into_iter().chain([0]).collect()));
        match strings[..] {
            [b"check"] => match self.check() {
                Ok(()) => Ok(Answer::Done),
                Err(what) => {
                    log::error!("check: {what}");
                    Err(Errno::Io)
                }
            },
            [b"help"] => text(HELP.iter().map(|(name, what)| format!("{name}\t{what}\n")).collect()),
            [b"memreport", ..] => {
                let report = self.report();
                match host.control(call.conn, &[strings.as_slice(), &[report.as_bytes()]].concat()) {
                    Some(answer) => reply(answer?),
                    None => Err(Errno::Nosys),
                }
            }
            [b"quota"] => text(self.limits.table(false)),
            [b"quota-soft"] => text(self.limits.table(true)),
            [b"quota", b"set", name, value] => self.set_limit(name, false, value),
            [b"quota-soft", b"set", name, value] => self.set_limit(name, true, value),
            [b"quota", domid] => {
                let domid = DomId(u16::try_from(wire::number(domid)).map_err(|_| Errno::Inval)?);
                text(self.usage(domid).ok_or(Errno::Noent)?)
            }
            _ => match host.control(call.conn, &strings) {
                Some(answer) => reply(answer?),
                None => Err(Errno::Inval),
            },
        }
    }

    fn set_limit(&mut self, name: &[u8], soft: bool, value: &[u8]) -> Result<Answer> {
        let name = std::str::from_utf8(name).map_err(|_| Errno::Inval)?;
        let value = u32::try_from(wire::number(value)).map_err(|_| Errno::Inval)?;
        self.limits.set(name, soft, value)?;
        self.record(&Record::Limit { name: name.into(), soft, value });
        Ok(Answer::Done)
    }

    /// What `quota <domid>` shows.
    fn usage(&self, domid: DomId) -> Option<String> {
        let account = self.accounts.get(&domid)?;
        let connection = self.connections.get(&ConnId::Domain(domid));
        let lines = [
            ("nodes", account.nodes as usize),
            ("watches", account.watches as usize),
            ("transactions", connection.map_or(0, |c| c.transactions.len())),
            ("outstanding", connection.map_or(0, |c| c.out.replies())),
            ("memory", self.memory(domid)),
        ];
        let lines: String = lines.iter().map(|(name, value)| format!("{name:<16}: {value:8}\n")).collect();
        Some(format!("Domain {domid}:\n{lines}"))
    }

    /// What `memreport` writes: every domain's account, and totals.
    fn report(&self) -> String {
        let domains: String = self.accounts.keys().filter_map(|id| self.usage(*id)).collect();
        let nodes: u64 = self.accounts.values().map(|a| u64::from(a.nodes)).sum();
        let sockets = self.connections.keys().filter(|c| matches!(c, ConnId::Socket(_))).count();
        format!("{domains}Total:\nnodes           : {nodes:8}\nsockets         : {sockets:8}\n")
    }
}

fn reply(answer: Control) -> Result<Answer> {
    Ok(match answer {
        Control::Reply(data) => Answer::Data(data),
        Control::Later => Answer::Later,
    })
}
