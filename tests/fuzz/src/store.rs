//! The store's wire protocol: any bytes as requests of a guest and of a tool in turn; and as a journal.

use radon_store::perm::DomId;
use radon_store::quota::Limits;
use radon_store::record::Record;
use radon_store::state::Restored;
use radon_store::{ConnId, Control, Errno, Host, Store, wire};

struct Everyone;

impl Host for Everyone {
    fn exists(&mut self, domid: DomId) -> bool {
        domid.0 < 10
    }
    fn connect(&mut self, domid: DomId, _: u64, _: u32) -> Result<(), Errno> {
        if domid.0 < 10 { Ok(()) } else { Err(Errno::Noent) }
    }
    fn disconnect(&mut self, _: DomId) {}
    fn control(&mut self, _: ConnId, _: &[&[u8]]) -> Option<Result<Control, Errno>> {
        None
    }
}

/// The first byte of each request says who sends it; the rest is a message as it lies in a ring.
pub fn run(data: &[u8]) {
    let mut store = Store::new(Limits { nodes: 20, watches: 5, ..Limits::default() });
    let tool = store.connect_socket(1);
    store.furnish();
    let mut rest = data;
    while let Some((who, bytes)) = rest.split_first() {
        let Ok(Some((request, used))) = wire::split(bytes) else { break };
        let conn = if who & 1 == 0 { tool } else { ConnId::Domain(DomId(u16::from(who >> 1) % 10)) };
        store.handle(conn, &request, &mut Everyone);
        for conn in store.take_ready() {
            if let Some(connection) = store.connection_mut(conn) {
                let waiting = connection.out.len();
                connection.out.advance(waiting);
            }
        }
        rest = &bytes[used..];
    }
    assert_eq!(store.check(), Ok(()));
    let mut state = Vec::new();
    store.save(&Default::default(), &[], &mut state);
    let mut again = Restored::default();
    for record in Record::read_all(&state).expect("our own records") {
        again.apply(record);
    }
    assert_eq!(again.store.check(), Ok(()));
    assert_eq!(again.store.tree().root().children().len(), store.tree().root().children().len());
}

/// Any bytes as records.
pub fn records(data: &[u8]) {
    if let Ok(records) = Record::read_all(data) {
        let mut restored = Restored::default();
        records.into_iter().for_each(|record| restored.apply(record));
        let _ = restored.store.check();
    }
}
