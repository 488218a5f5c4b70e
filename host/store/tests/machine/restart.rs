//! A daemon that is killed at any access to a ring, again and again, while a guest and the tools go on.

use super::{Fake, Guest};
use radon_store::Store;
use radon_store::daemon::journal::Journal;
use radon_store::daemon::server::Server;
use radon_store::daemon::{takeover, update};
use radon_store::perm::DomId;
use radon_store::wire;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;
use xen_abi::xs_wire::*;

const GUEST: DomId = DomId(5);

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

fn start(fake: &Fake, journal: &Path) -> Server<Fake> {
    fake.close_ports();
    let records = Journal::read(journal).unwrap().unwrap();
    let restored = update::restore(&records).unwrap();
    let mut server = Server::new(restored.store, Some(fake.clone())).unwrap();
    takeover::reconnect(&mut server, restored.streams, &BTreeMap::new());
    let state = server.state(&[]);
    server.keep(Journal::create(journal, &state).unwrap());
    server
}

/// Turns until all is quiet; whenever the daemon is killed, another one takes its place.
fn settle(server: &mut Option<Server<Fake>>, fake: &Fake, journal: &Path, dice: &mut Dice) -> u32 {
    let mut kills = 0;
    loop {
        let turned = catch_unwind(AssertUnwindSafe(|| {
            let mut running = server.take().unwrap_or_else(|| start(fake, journal));
            loop {
                fake.deliver(&mut running);
                running.turn(Some(Duration::ZERO)).unwrap();
                if !running.is_busy() && !fake.has_events() {
                    return running;
                }
            }
        }));
        match turned {
            Ok(running) => {
                *server = Some(running);
                return kills;
            }
            Err(_) => {
                kills += 1;
                fake.kill_after(if kills < 3 { 1 + dice.below(40) as u32 } else { 0 });
            }
        }
    }
}

/// What the guest asks next, and what it must be told.
fn next_request(n: u32, value: &mut Vec<u8>, dice: &mut Dice) -> (Vec<u8>, Vec<u8>) {
    match dice.below(3) {
        0 => {
            *value = vec![b'a' + (n % 26) as u8; dice.below(1800) as usize];
            (wire::message(XS_WRITE, n, 0, &[b"data\0", &value[..]].concat()), b"OK\0".to_vec())
        }
        1 => (wire::message(XS_READ, n, 0, b"data\0"), value.clone()),
        // Not idempotent: the second one of the same token would be refused.
        _ => (wire::message(XS_WATCH, n, 0, format!("data\0t{n}\0").as_bytes()), b"OK\0".to_vec()),
    }
}

fn one(seed: u64) -> u32 {
    let dice = &mut Dice(seed);
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let fake = Fake::default();
    let mut guest: Guest = fake.create(GUEST);
    let mut first = Server::new(Store::default(), Some(fake.clone())).unwrap();
    let state = first.state(&[]);
    first.keep(Journal::create(&journal, &state).unwrap());
    first.domains.connect(GUEST, 1, 9).unwrap();
    first.store.adopt(GUEST, 1, 9);
    let tools = first.store.connect_socket(1000);
    for (kind, payload) in
        [(XS_WRITE, &b"/local/domain/5/data\0"[..]), (XS_SET_PERMS, &b"/local/domain/5/data\0n5\0"[..])]
    {
        let request = wire::Request { kind, req_id: 0, tx_id: 0, payload };
        first.store.handle(tools, &request, &mut NoHost);
    }
    let mut server = Some(first);
    let mut kills = settle(&mut server, &fake, &journal, dice);
    let (mut waiting, mut queue, mut value) = (VecDeque::new(), VecDeque::new(), Vec::new());
    let mut events = 0;
    for n in 1..60 {
        let (request, reply) = next_request(n, &mut value, dice);
        queue.extend(request);
        waiting.push_back((n, reply));
        // Up to two requests under way, put in pieces of any size.
        let mut rounds = 0;
        while !queue.is_empty() || waiting.len() > dice.below(2) as usize {
            rounds += 1;
            assert!(
                rounds < 5000,
                "seed {seed}, request {n}: no reply; {guest:?} {:?}",
                server.as_mut().map(|s| s.domains.streams())
            );
            let piece: Vec<u8> = queue.iter().copied().take(1 + dice.below(1500) as usize).collect();
            let put = guest.put(&piece);
            queue.drain(..put);
            if dice.below(2) == 0 {
                fake.kill_after(1 + dice.below(60) as u32);
            }
            fake.event(GUEST);
            kills += settle(&mut server, &fake, &journal, dice);
            fake.kill_after(0);
            guest.take();
            fake.event(GUEST);
            kills += settle(&mut server, &fake, &journal, dice);
            while let Some(message) = guest.message() {
                if message.kind == XS_WATCH_EVENT {
                    events += 1;
                    continue;
                }
                let (id, reply) = waiting.pop_front().expect("no reply without a request");
                assert_eq!((message.req_id, &message.payload), (id, &reply), "seed {seed}");
            }
        }
    }
    assert!(events > 0, "seed {seed}");
    assert_eq!(server.unwrap().store.check(), Ok(()));
    kills
}

struct NoHost;

impl radon_store::Host for NoHost {
    fn exists(&mut self, _: DomId) -> bool {
        true
    }
    fn connect(&mut self, _: DomId, _: u64, _: u32) -> Result<(), radon_store::Errno> {
        unreachable!()
    }
    fn disconnect(&mut self, _: DomId) {}
    fn control(
        &mut self,
        _: radon_store::ConnId,
        _: &[&[u8]],
    ) -> Option<Result<radon_store::Control, radon_store::Errno>> {
        None
    }
}

/// Every request is answered once, in order, and what was answered is never forgotten.
pub fn run() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let killed = info.payload().downcast_ref::<&str>().is_some_and(|text| *text == "killed");
        if !killed {
            tell(info);
        }
    }));
    let kills = (0..20).map(one).sum::<u32>();
    assert!(kills > 100, "only {kills} kills");
}
