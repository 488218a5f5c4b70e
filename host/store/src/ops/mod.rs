//! The operations of the protocol, one function each; here is how a request finds its own.

mod control;
mod domain;
mod node;
mod perms;
mod transaction;
mod watch;

use crate::connection::ConnId;
use crate::errno::{Errno, Result};
use crate::path;
use crate::perm::{Access, Identity};
use crate::store::{Host, Store};
use crate::transaction::{Seen, Transaction};
use crate::tree::{Node, Tree};
use crate::wire::{self, PAYLOAD_MAX, Request};
use std::borrow::Cow;
use std::sync::Arc;
use xen_abi::xs_wire::*;

/// A request in hand.
pub(crate) struct Call {
    pub conn: ConnId,
    pub who: Identity,
    pub base: Arc<str>,
    pub tx_id: u32,
    /// The transaction it belongs to, taken from the connection for the time being.
    pub tx: Option<Transaction>,
}

/// What an operation leaves to be sent.
pub(crate) enum Answer {
    /// `OK`.
    Done,
    /// This payload.
    Data(Vec<u8>),
    /// `OK`, and then the first event of a new watch.
    Watching(Vec<u8>),
    /// Nothing yet.
    Later,
}

impl Store {
    /// Carries out one request; replies and events go to outboxes. Returns what it cost, in units of a plain read.
    pub fn handle(&mut self, conn: ConnId, request: &Request<'_>, host: &mut dyn Host) -> u32 {
        self.cost = 1;
        let Request { kind, req_id, tx_id, .. } = *request;
        match self.call(conn, request, host) {
            Ok(Answer::Later) => {}
            Ok(Answer::Done) => self.answer(conn, kind, req_id, tx_id, b"OK\0"),
            Ok(Answer::Data(data)) if data.len() > PAYLOAD_MAX => self.refuse(conn, request, Errno::TooBig),
            Ok(Answer::Data(data)) => self.answer(conn, kind, req_id, tx_id, &data),
            Ok(Answer::Watching(event)) => {
                self.answer(conn, kind, req_id, tx_id, b"OK\0");
                self.event(conn, &event);
            }
            Err(errno) => self.refuse(conn, request, errno),
        }
        self.cost
    }

    fn refuse(&mut self, conn: ConnId, request: &Request<'_>, errno: Errno) {
        let payload = format!("{}\0", errno.name());
        self.answer(conn, XS_ERROR, request.req_id, request.tx_id, payload.as_bytes());
    }

    fn call(&mut self, conn: ConnId, request: &Request<'_>, host: &mut dyn Host) -> Result<Answer> {
        let (who, base) = self.caller(conn)?;
        let needs_privilege = matches!(
            request.kind,
            XS_CONTROL | XS_INTRODUCE | XS_RELEASE | XS_IS_DOMAIN_INTRODUCED | XS_RESUME | XS_SET_TARGET
        );
        if needs_privilege && !who.privileged {
            return Err(Errno::Acces);
        }
        let in_transaction = request.tx_id != 0 && !matches!(request.kind, XS_WATCH | XS_UNWATCH);
        let mut call = Call { conn, who, base, tx_id: request.tx_id, tx: None };
        if in_transaction {
            let connection = self.connections.get_mut(&conn).ok_or(Errno::Io)?;
            call.tx = Some(connection.transactions.remove(&request.tx_id).ok_or(Errno::Noent)?);
        }
        let result = self.dispatch(&mut call, request, host);
        if let Some(tx) = call.tx.take()
            && let Some(connection) = self.connections.get_mut(&conn)
        {
            connection.transactions.insert(call.tx_id, tx);
        }
        result
    }

    fn dispatch(&mut self, call: &mut Call, request: &Request<'_>, host: &mut dyn Host) -> Result<Answer> {
        let payload = request.payload;
        match request.kind {
            XS_CONTROL => self.control(call, payload, host),
            XS_DIRECTORY => self.directory(call, payload),
            XS_DIRECTORY_PART => self.directory_part(call, payload),
            XS_READ => self.read(call, payload),
            XS_GET_PERMS => self.get_perms(call, payload),
            XS_WATCH => self.watch(call, payload),
            XS_UNWATCH => self.unwatch(call, payload),
            XS_TRANSACTION_START => self.transaction_start(call),
            XS_TRANSACTION_END => self.transaction_end(call, payload, host),
            XS_INTRODUCE => self.introduce(payload, host),
            XS_RELEASE => self.release(payload, host),
            XS_GET_DOMAIN_PATH => self.get_domain_path(payload),
            XS_WRITE => self.write(call, payload),
            XS_MKDIR => self.mkdir(call, payload),
            XS_RM => self.rm(call, payload),
            XS_SET_PERMS => self.set_perms(call, payload, host),
            XS_IS_DOMAIN_INTRODUCED => self.is_domain_introduced(payload),
            XS_RESUME => self.resume(payload),
            XS_SET_TARGET => self.set_target(payload),
            XS_RESET_WATCHES => self.reset_watches(call),
            _ => Err(Errno::Nosys),
        }
    }

    /// The tree that a request sees.
    fn view<'a>(&'a self, call: &'a Call) -> &'a Tree {
        call.tx.as_ref().map_or(&self.tree, |tx| &tx.work)
    }

    /// Notes in the transaction, if there is one, that the client learns this of `path`.
    fn note(&self, call: &mut Call, path: &str, what: Seen) -> Result<()> {
        match &mut call.tx {
            Some(tx) => tx.note(path, what, &call.who, &self.limits),
            None => Ok(()),
        }
    }

    /// The node that the only argument names, for a client that needs these rights on it.
    fn named<'p>(&self, call: &Call, payload: &'p [u8]) -> Result<Cow<'p, str>> {
        self.resolve(call, wire::one(payload)?)
    }

    /// The full path that a client means.
    fn resolve<'p>(&self, call: &Call, raw: &'p [u8]) -> Result<Cow<'p, str>> {
        path::resolve(raw, &call.base)
    }

    /// The node at `path`, for a client that needs `rights` on it and learns `what`.
    ///
    /// That there is no such node, a client learns only if it has some of the rights on the nearest node above.
    fn node<'a>(&'a self, call: &'a mut Call, path: &str, rights: Access, what: Seen) -> Result<&'a Node> {
        path::check(path, self.limits.path_max as usize)?;
        let Some(node) = self.view(call).get(path) else {
            let (above, node) = self.view(call).nearest(path);
            let allowed = node.perms().access(&call.who).has_any(rights);
            self.note_missing(call, above, path)?;
            return Err(if allowed { Errno::Noent } else { Errno::Acces });
        };
        let allowed = node.perms().access(&call.who).has(rights);
        self.note(call, path, what)?;
        if !allowed {
            return Err(Errno::Acces);
        }
        self.view(call).get(path).ok_or(Errno::Noent)
    }

    /// Notes that `path` does not exist, `above` being the nearest node that does.
    fn note_missing(&self, call: &mut Call, above: &str, path: &str) -> Result<()> {
        if call.tx.is_none() {
            return Ok(());
        }
        self.note(call, above, Seen::NODE)?;
        let start = if above == "/" { 1 } else { above.len() + 1 };
        let rest = path.get(start..).unwrap_or_default();
        let first = rest.split('/').next().unwrap_or_default();
        self.note(call, &path::join(above, first), Seen::EXISTENCE)
    }
}
