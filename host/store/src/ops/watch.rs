//! WATCH, UNWATCH, RESET_WATCHES.

use super::{Answer, Call};
use crate::connection::ConnId;
use crate::errno::{Errno, Result};
use crate::path;
use crate::record::Record;
use crate::store::Store;
use crate::watch::Watch;
use crate::wire;
use std::sync::Arc;
use xen_abi::xs_wire::XENSTORE_REL_PATH_MAX;

impl Store {
    /// `<path>|<token>|[<depth>|]`.
    pub(super) fn watch(&mut self, call: &mut Call, payload: &[u8]) -> Result<Answer> {
        let strings = wire::strings(payload);
        let (raw, token, depth) = match strings[..] {
            [raw, token] => (raw, token, None),
            [raw, token, depth] => (raw, token, Some(parse_depth(depth)?)),
            _ => return Err(Errno::Inval),
        };
        let full = self.resolve(call, raw)?;
        let special = path::is_special(&full);
        if special {
            let deep = depth.is_some_and(|d| d > 1);
            if full.len() > XENSTORE_REL_PATH_MAX as usize || deep {
                return Err(Errno::Inval);
            }
        } else {
            path::check(&full, self.limits.path_max as usize)?;
        }
        let relative = !special && !raw.starts_with(b"/");
        let cut = if relative { call.base.len() } else { 0 };
        let (path, token): (Arc<str>, Arc<[u8]>) = ((*full).into(), token.into());
        let connection = self.connections.get(&call.conn).ok_or(Errno::Io)?;
        if connection.watches.contains(&(path.clone(), token.clone())) {
            return Err(Errno::Exist);
        }
        if !call.who.privileged {
            let set = self.accounts.get(&call.who.domid).map_or(0, |a| a.watches);
            if set >= self.limits.watches {
                return Err(Errno::TooBig);
            }
            if self.is_full(call.conn) {
                return Err(Errno::Nomem);
            }
        }
        let watch = Watch { conn: call.conn, path, token, depth, cut };
        let event = watch.event(&watch.path);
        if matches!(call.conn, ConnId::Domain(_)) {
            self.record(&Record::Watched {
                conn: call.conn,
                path: (&*watch.path).into(),
                token: (&*watch.token).into(),
                depth,
                cut: cut as u32,
            });
        }
        self.add_watch(watch);
        Ok(Answer::Watching(event))
    }

    /// Sets a watch up, unchecked.
    pub(crate) fn add_watch(&mut self, watch: Watch) {
        self.charge_watch(watch.conn, &watch.path, &watch.token, true);
        if let Some(connection) = self.connections.get_mut(&watch.conn) {
            connection.watches.insert((watch.path.clone(), watch.token.clone()));
        }
        self.watches.add(watch);
    }

    /// Takes a watch back, if it is there.
    pub(crate) fn remove_watch(&mut self, conn: ConnId, path: &str, token: &[u8]) -> Option<Watch> {
        let watch = self.watches.remove(conn, path, token)?;
        self.charge_watch(conn, path, token, false);
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.watches.remove(&(watch.path.clone(), watch.token.clone()));
        }
        Some(watch)
    }

    /// `<path>|<token>|`.
    pub(super) fn unwatch(&mut self, call: &mut Call, payload: &[u8]) -> Result<Answer> {
        let [path, token] = wire::strings(payload)[..] else { return Err(Errno::Inval) };
        let path = self.resolve(call, path)?;
        self.remove_watch(call.conn, &path, token).ok_or(Errno::Noent)?;
        if matches!(call.conn, ConnId::Domain(_)) {
            self.record(&Record::Unwatched { conn: call.conn, path: (&*path).into(), token: token.into() });
        }
        Ok(Answer::Done)
    }

    /// All watches and transactions of the caller go.
    pub(super) fn reset_watches(&mut self, call: &mut Call) -> Result<Answer> {
        call.tx = None;
        self.reset(call.conn);
        Ok(Answer::Done)
    }
}

fn parse_depth(text: &[u8]) -> Result<u32> {
    let text = std::str::from_utf8(text).map_err(|_| Errno::Inval)?;
    let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if good { text.parse().map_err(|_| Errno::Inval) } else { Err(Errno::Inval) }
}
