//! TRANSACTION_START, TRANSACTION_END.

use super::{Answer, Call};
use crate::connection::ConnId;
use crate::errno::{Errno, Result};
use crate::record::Record;
use crate::store::{Host, Store};
use crate::transaction::Transaction;
use crate::wire;

impl Store {
    /// -> the transaction's number.
    pub(super) fn transaction_start(&mut self, call: &mut Call) -> Result<Answer> {
        if call.tx.is_some() {
            return Err(Errno::Busy);
        }
        let limit = self.limits.transactions as usize;
        let full = self.is_full(call.conn);
        let transaction = Transaction::new(&self.tree, self.changes);
        let connection = self.connections.get_mut(&call.conn).ok_or(Errno::Io)?;
        if !call.who.privileged && (connection.transactions.len() >= limit || full) {
            return Err(Errno::Nospc);
        }
        let mut id = connection.next_transaction;
        while id == 0 || connection.transactions.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        connection.next_transaction = id.wrapping_add(1);
        connection.transactions.insert(id, transaction);
        if matches!(call.conn, ConnId::Domain(_)) {
            self.record(&Record::Began { conn: call.conn, id });
        }
        Ok(Answer::Data(format!("{id}\0").into_bytes()))
    }

    /// `T|` commits, `F|` does not.
    pub(super) fn transaction_end(
        &mut self,
        call: &mut Call,
        payload: &[u8],
        host: &mut dyn Host,
    ) -> Result<Answer> {
        let commit = match wire::one(payload)? {
            b"T" => true,
            b"F" => false,
            _ => return Err(Errno::Inval),
        };
        let tx = call.tx.take().ok_or(Errno::Noent)?;
        if matches!(call.conn, ConnId::Domain(_)) {
            self.record(&Record::Ended { conn: call.conn, id: call.tx_id });
        }
        if commit {
            self.commit(call, &tx, host)?;
        }
        Ok(Answer::Done)
    }

    fn commit(&mut self, call: &Call, tx: &Transaction, host: &mut dyn Host) -> Result<()> {
        if tx.failed {
            return Err(Errno::Nomem);
        }
        if tx.stale {
            return Err(Errno::Again);
        }
        if tx.begun != self.changes
            && let Some(writer) = tx.conflict(&self.tree)
        {
            if writer != call.who.domid {
                self.blame(writer);
            }
            return Err(Errno::Again);
        }
        let owned = self.accounts.get(&call.who.domid).map_or(0, |a| i64::from(a.nodes));
        if tx.created && !call.who.privileged && owned + tx.nodes > i64::from(self.limits.nodes) {
            return Err(Errno::Nospc);
        }
        let changes = tx.changes();
        // A domain that died meanwhile owns nothing any more: the client has to look again.
        for (path, _) in &changes {
            if let Some(node) = tx.work.get(path)
                && !self.knows(node.perms().owner(), host)
            {
                return Err(Errno::Again);
            }
        }
        let writer = call.who.domid;
        for (path, change) in changes {
            self.cost += 1;
            if change.cleared
                && let Some(subtree) = self.detach(path, writer)
            {
                self.fire_removed(path, &subtree);
            }
            let Some(node) = tx.work.get(path) else { continue };
            let perms = node.perms().retain(|domid| self.knows(domid, host));
            let value = node.value().clone();
            let old = self.tree.get(path).map(|n| n.perms().clone());
            match old {
                Some(_) => self.update(path, value, perms, writer),
                None => self.insert(path, value, perms, writer),
            }
            if change.told {
                self.fire(path, old.as_ref());
            }
        }
        Ok(())
    }
}
