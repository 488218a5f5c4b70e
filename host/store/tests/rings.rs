//! Domains' rings, on a machine that is made of plain memory: requests and replies of any size, resets, floods, broken
//! rings, deaths; and a daemon that is killed at any moment and started again.

mod machine;

use machine::{Fake, Guest};
use radon_store::daemon::server::Server;
use radon_store::perm::DomId;
use radon_store::{ConnId, Store, wire};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use xen_abi::xs_wire::*;

const GUEST: DomId = DomId(5);

fn server(fake: &Fake) -> Server<Fake> {
    Server::new(Store::default(), Some(fake.clone())).unwrap()
}

/// Turns until nothing is left to do.
fn settle(server: &mut Server<Fake>, fake: &Fake) {
    loop {
        fake.deliver(server);
        server.turn(Some(Duration::ZERO)).unwrap();
        if !server.is_busy() && !fake.has_events() {
            return;
        }
    }
}

/// A process that asks over a socket pair.
fn tool(server: &mut Server<Fake>) -> machine::Tool {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    server.add_client(theirs.into(), None, Vec::new()).unwrap();
    machine::Tool::new(ours)
}

fn introduce(server: &mut Server<Fake>, fake: &Fake, domid: DomId) -> Guest {
    let guest = fake.create(domid);
    let mut tool = tool(server);
    tool.ask(XS_INTRODUCE, 0, format!("{domid}\x001\x009\0").as_bytes());
    settle(server, fake);
    assert_eq!(tool.reply().payload, b"OK\0");
    tool.ask(XS_WRITE, 0, format!("/local/domain/{domid}\0").as_bytes());
    tool.ask(XS_SET_PERMS, 0, format!("/local/domain/{domid}\0n{domid}\0").as_bytes());
    settle(server, fake);
    assert_eq!(tool.reply().payload, b"OK\0");
    assert_eq!(tool.reply().payload, b"OK\0");
    guest
}

/// One request over the ring, whatever its size, and all messages up to its reply.
fn exchange(
    server: &mut Server<Fake>,
    fake: &Fake,
    guest: &mut Guest,
    kind: u32,
    payload: &[u8],
) -> machine::Message {
    let mut bytes = wire::message(kind, 42, 0, payload);
    for _ in 0..100 {
        let put = guest.put(&bytes);
        bytes.drain(..put);
        fake.event(guest.domid);
        settle(server, fake);
        guest.take();
        fake.event(guest.domid);
        settle(server, fake);
        while let Some(message) = guest.message() {
            if message.kind != XS_WATCH_EVENT {
                return message;
            }
        }
    }
    panic!("no reply");
}

#[test]
fn a_guest_reads_and_writes_below_its_own_node() {
    let fake = Fake::default();
    let mut server = server(&fake);
    let mut guest = introduce(&mut server, &fake, GUEST);
    let reply = exchange(&mut server, &fake, &mut guest, XS_WRITE, b"data/x\0value");
    assert_eq!(reply.payload, b"OK\0");
    let reply = exchange(&mut server, &fake, &mut guest, XS_READ, b"/local/domain/5/data/x\0");
    assert_eq!((reply.kind, &reply.payload[..]), (XS_READ, &b"value"[..]));
    let reply = exchange(&mut server, &fake, &mut guest, XS_WRITE, b"/tool/x\0value");
    assert_eq!((reply.kind, &reply.payload[..]), (XS_ERROR, &b"EACCES\0"[..]));
}

#[test]
fn messages_larger_than_the_ring_pass_in_pieces() {
    let fake = Fake::default();
    let mut server = server(&fake);
    let mut guest = introduce(&mut server, &fake, GUEST);
    for size in [900, 1007, 1008, 1009, 1024, 1500, 1900] {
        let value = vec![b'x'; size];
        let reply = exchange(&mut server, &fake, &mut guest, XS_WRITE, &[b"data\0", &value[..]].concat());
        assert_eq!(reply.payload, b"OK\0", "{size}");
        let reply = exchange(&mut server, &fake, &mut guest, XS_READ, b"data\0");
        assert_eq!(reply.payload, value, "{size}");
    }
}

/// Linux writes a request's head and body one after the other, and sends no event for the body if the head is not fetched.
/// Whatever the daemon is just doing when the body comes, it sees it.
#[test]
fn a_request_that_comes_in_two_parts_is_seen_whenever_the_second_comes() {
    for moment in 1.. {
        let fake = Fake::default();
        let mut server = server(&fake);
        let guest = Arc::new(Mutex::new(introduce(&mut server, &fake, GUEST)));
        let request = wire::message(XS_WRITE, 1, 0, b"data\0value");
        for cut in [5, 16, 20] {
            let (head, body) = (request[..cut].to_vec(), request[cut..].to_vec());
            let second = {
                let (guest, fake) = (guest.clone(), fake.clone());
                move || {
                    if guest.lock().unwrap().put_as_linux(&body) {
                        fake.event(GUEST);
                    }
                }
            };
            fake.meanwhile(moment, second);
            assert!(guest.lock().unwrap().put_as_linux(&head), "an empty ring needs an event");
            fake.event(GUEST);
            settle(&mut server, &fake);
            let last = fake.act_now();
            settle(&mut server, &fake);
            let mut guest = guest.lock().unwrap();
            guest.take();
            let reply = guest.message().unwrap_or_else(|| panic!("cut at {cut}, moment {moment}: not seen"));
            assert_eq!(reply.payload, b"OK\0");
            if last && cut == 20 {
                assert!(moment > 5, "hardly an access to the page");
                return;
            }
        }
    }
}

/// The same the other way round: a long reply goes on whenever the guest has made room, though it seldom says so.
#[test]
fn a_long_reply_goes_on_whenever_there_is_room() {
    for moment in 1.. {
        let fake = Fake::default();
        let mut server = server(&fake);
        let mut guest = introduce(&mut server, &fake, GUEST);
        let value = vec![b'x'; 1900];
        exchange(&mut server, &fake, &mut guest, XS_WRITE, &[b"data\0", &value[..]].concat());
        assert!(guest.put_as_linux(&wire::message(XS_READ, 1, 0, b"data\0")));
        let guest = Arc::new(Mutex::new(guest));
        let listen = {
            let (guest, fake) = (guest.clone(), fake.clone());
            move || {
                if guest.lock().unwrap().take_as_linux() {
                    fake.event(GUEST);
                }
            }
        };
        fake.meanwhile(moment, listen.clone());
        fake.event(GUEST);
        settle(&mut server, &fake);
        let last = fake.act_now();
        let mut reply = None;
        for _ in 0..4 {
            listen();
            settle(&mut server, &fake);
            reply = reply.or_else(|| guest.lock().unwrap().message());
        }
        assert_eq!(reply.unwrap_or_else(|| panic!("moment {moment}: no reply")).payload, value);
        if last {
            assert!(moment > 5, "hardly an access to the page");
            return;
        }
    }
}

#[test]
fn a_reset_forgets_what_was_set_up() {
    let fake = Fake::default();
    let mut server = server(&fake);
    let mut guest = introduce(&mut server, &fake, GUEST);
    assert_eq!(guest.features() & 3, 3);
    exchange(&mut server, &fake, &mut guest, XS_WATCH, b"data\0token\0");
    guest.put(b"half a request");
    guest.ask_for_reset();
    fake.event(GUEST);
    settle(&mut server, &fake);
    assert!(guest.is_reset());
    assert_eq!(server.store.account(GUEST).unwrap().watches, 0);
    let reply = exchange(&mut server, &fake, &mut guest, XS_WRITE, b"data\0v");
    assert_eq!(reply.payload, b"OK\0");
    assert!(guest.message().is_none());
}

#[test]
fn a_ring_out_of_order_is_left_alone_and_says_so() {
    for (index, error) in [("prod", XENSTORE_ERROR_RINGIDX), ("length", XENSTORE_ERROR_PROTO)] {
        let fake = Fake::default();
        let mut server = server(&fake);
        let mut guest = introduce(&mut server, &fake, GUEST);
        exchange(&mut server, &fake, &mut guest, XS_WATCH, b"data\0token\0");
        match index {
            "prod" => guest.move_prod(5000),
            _ => drop(guest.put(&[[2, 0, 0, 0], [0; 4], [0; 4], 4097u32.to_le_bytes()].concat())),
        }
        fake.event(GUEST);
        settle(&mut server, &fake);
        assert_eq!(guest.error(), error);
        assert_eq!(server.store.account(GUEST).unwrap().watches, 0);
        // It may start over.
        guest.ask_for_reset();
        fake.event(GUEST);
        settle(&mut server, &fake);
        assert_eq!(guest.error(), 0);
        let reply = exchange(&mut server, &fake, &mut guest, XS_WRITE, b"data\0v");
        assert_eq!(reply.payload, b"OK\0");
    }
}

#[test]
fn a_dead_domain_leaves_nothing_and_is_announced() {
    let fake = Fake::default();
    let mut server = server(&fake);
    let mut guest = introduce(&mut server, &fake, GUEST);
    exchange(&mut server, &fake, &mut guest, XS_WRITE, b"data\0v");
    let mut tool = tool(&mut server);
    tool.ask(XS_WATCH, 0, b"@releaseDomain\0all\0");
    tool.ask(XS_WATCH, 0, b"@releaseDomain\0which\x001\0");
    tool.ask(XS_WATCH, 0, b"@releaseDomain/5\0five\0");
    tool.ask(XS_WATCH, 0, b"/local/domain/5/data\0node\0");
    settle(&mut server, &fake);
    tool.drain();
    fake.shut_down(GUEST);
    settle(&mut server, &fake);
    let expected = ["@releaseDomain all", "@releaseDomain/5 which", "@releaseDomain/5 five"];
    assert_eq!(tool.events(), expected);
    // Once only, until somebody resumes it.
    fake.virq();
    settle(&mut server, &fake);
    assert_eq!(tool.events(), Vec::<String>::new());
    tool.ask(XS_RESUME, 0, b"5\0");
    settle(&mut server, &fake);
    assert_eq!(tool.reply().payload, b"OK\0");
    fake.virq();
    settle(&mut server, &fake);
    assert_eq!(tool.events(), expected);
    fake.destroy(GUEST);
    settle(&mut server, &fake);
    let mut events = tool.events();
    events.sort();
    assert_eq!(events[..1], ["/local/domain/5/data node"]);
    assert_eq!(events.len(), 4);
    assert!(server.store.tree().get("/local/domain/5").is_none());
    assert!(server.store.account(GUEST).is_none());
    assert!(server.store.connection(ConnId::Domain(GUEST)).is_none());
    assert_eq!(server.store.check(), Ok(()));
    assert_eq!(fake.mapped(), 0);
}

/// A guest that never stops asking gets its share of each turn; another one's request is answered in the same turn.
#[test]
fn a_flood_delays_nobody_else() {
    let fake = Fake::default();
    let mut server = server(&fake);
    let mut flood = introduce(&mut server, &fake, GUEST);
    let mut quiet = introduce(&mut server, &fake, DomId(6));
    let request = wire::message(XS_READ, 1, 0, b"x\0");
    for _ in 0..200 {
        while flood.put_whole(&request) {}
        flood.take();
        fake.event(GUEST);
        quiet.put(&wire::message(XS_WRITE, 2, 0, b"data\0v"));
        fake.event(DomId(6));
        fake.deliver(&mut server);
        server.turn(Some(Duration::ZERO)).unwrap();
        quiet.take();
        assert_eq!(quiet.message().expect("an answer in the same turn").payload, b"OK\0");
    }
}

/// A guest that does not fetch its replies is not served beyond its limit, and keeps no memory of ours busy.
#[test]
fn who_does_not_listen_is_not_heard() {
    let fake = Fake::default();
    let mut server = server(&fake);
    let mut guest = introduce(&mut server, &fake, GUEST);
    let value = vec![b'x'; 1900];
    exchange(&mut server, &fake, &mut guest, XS_WRITE, &[b"data\0", &value[..]].concat());
    let request = wire::message(XS_READ, 1, 0, b"data\0");
    for _ in 0..500 {
        guest.put_whole(&request);
        fake.event(GUEST);
        settle(&mut server, &fake);
    }
    let waiting = server.store.connection(ConnId::Domain(GUEST)).unwrap().out.replies();
    assert!((19..=20).contains(&waiting), "{waiting}");
    // Once it listens, everything it asked for comes.
    let mut replies = 0;
    for _ in 0..200 {
        guest.take();
        fake.event(GUEST);
        settle(&mut server, &fake);
        while let Some(message) = guest.message() {
            assert_eq!(message.payload, value);
            replies += 1;
        }
    }
    assert!(replies >= 20, "{replies}");
}

/// Conflicts that a guest causes cost it credit: the tools' transaction gets through.
#[test]
fn a_guest_cannot_keep_a_transaction_from_committing() {
    let fake = Fake::default();
    let mut server = server(&fake);
    let mut guest = introduce(&mut server, &fake, GUEST);
    let mut tool = tool(&mut server);
    let mut failed = 0;
    loop {
        tool.ask(XS_TRANSACTION_START, 0, b"\0");
        settle(&mut server, &fake);
        let reply = tool.reply().payload;
        let id = std::str::from_utf8(&reply).unwrap().trim_end_matches('\0').parse().unwrap();
        tool.ask(XS_WRITE, id, b"/local/domain/5/data\0tools");
        settle(&mut server, &fake);
        assert_eq!(tool.reply().payload, b"OK\0");
        // The guest writes the same node just then, every time.
        guest.put_whole(&wire::message(XS_WRITE, 1, 0, b"data\0guest"));
        guest.take();
        fake.event(GUEST);
        settle(&mut server, &fake);
        tool.ask(XS_TRANSACTION_END, id, b"T\0");
        settle(&mut server, &fake);
        match &tool.reply().payload[..] {
            b"OK\0" => break,
            other => assert_eq!(other, b"EAGAIN\0"),
        }
        failed += 1;
        assert!(failed < 100, "the guest wins for ever");
    }
    assert!(failed >= 10, "{failed}");
}

#[test]
fn a_restarted_daemon_goes_on_with_every_byte() {
    machine::restart::run();
}
