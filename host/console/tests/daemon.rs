//! The daemon, with guests that behave and guests that do not.

mod guests;

use guests::{Fake, IN_CONS, IN_PROD, OUT_CONS, OUT_PROD, Served, found, until};
use radon_console::pace::{ALLOWANCE, PERIOD};
use std::fs::File;
use std::io::{Read, Write};
use std::time::Instant;

#[test]
fn history_then_live_for_each_of_several_viewers_and_typing_from_all() {
    let (folder, machine) = (tempfile::tempdir().unwrap(), Fake::new());
    let guest = machine.guest(1);
    guest.say("booted\n");
    let served = Served::start(folder.path(), &machine, &[found(1, 7)]);
    let mut one = served.attach(7);
    one.sees("booted\n");
    let mut two = served.attach(7);
    two.sees("booted\n");
    guest.say("login: ");
    one.sees("login: ");
    two.sees("login: ");
    assert_eq!(one.text(), "booted\nlogin: ");
    assert_eq!(two.text(), one.text());
    let mut typed = Vec::new();
    for (view, text) in [(&mut one, "ro"), (&mut two, "ot\n")] {
        view.stream.write_all(text.as_bytes()).unwrap();
        let before = typed.len();
        until("what was typed", || {
            typed.extend(guest.read());
            typed.len() == before + text.len()
        });
    }
    assert_eq!(typed, b"root\n");
    assert_eq!(served.ask("history guest1"), "booted\nlogin: ");
    assert_eq!(served.ask("list"), "07070707-0707-0707-0707-070707070707 1 guest1\n");
    let log = folder.path().join("guest-guest1.log");
    assert_eq!(std::fs::read(log).unwrap(), b"booted\nlogin: ");
}

#[test]
fn a_killed_daemon_loses_and_doubles_nothing() {
    let (folder, machine) = (tempfile::tempdir().unwrap(), Fake::new());
    let guest = machine.guest(1);
    let mut wanted = String::new();
    for round in 0..20 {
        let served = Served::start(folder.path(), &machine, &[found(1, 7)]);
        let text = format!("round {round}\n").repeat(400);
        guest.say(&text);
        wanted.push_str(&text);
        drop(served);
        // Nobody is there: it stays in the ring.
        let text = format!("between {round}\n");
        wanted.push_str(text.get(..guest.write(text.as_bytes())).unwrap());
    }
    let served = Served::start(folder.path(), &machine, &[found(1, 7)]);
    guest.say("end\n");
    wanted.push_str("end\n");
    let mut view = served.attach(7);
    view.sees("end\n");
    assert!(view.text().len() > 60_000 && wanted.ends_with(&view.text()));
}

#[test]
fn a_domain_of_the_same_number_after_a_restart_of_the_host_is_another_one() {
    let (folder, machine) = (tempfile::tempdir().unwrap(), Fake::new());
    let guest = machine.guest(1);
    let served = Served::start(folder.path(), &machine, &[found(1, 7)]);
    guest.say("before\n");
    served.attach(7).sees("before\n");
    drop(served);
    let guest = machine.guest(1);
    guest.say("afterwards\n");
    let served = Served::in_boot(2, folder.path(), &machine, &[found(1, 7)]);
    let mut view = served.attach(7);
    view.sees("wards\n");
    assert_eq!(view.text(), "before\nafterwards\n");
}

#[test]
fn a_restarted_vm_keeps_its_history_and_its_viewers() {
    let (folder, machine) = (tempfile::tempdir().unwrap(), Fake::new());
    let first = machine.guest(1);
    let served = Served::start(folder.path(), &machine, &[found(1, 7)]);
    let mut view = served.attach(7);
    first.say("first life\n");
    view.sees("first life\n");
    // Its last words are in the ring when it goes.
    first.page.write(1024 + 11, b"dead\n");
    first.page.store(OUT_PROD, 16);
    served.consoles(&[]);
    view.sees("dead\n");
    assert_eq!(served.ask("history 07070707-0707-0707-0707-070707070707"), "first life\ndead\n");
    let second = machine.guest(2);
    served.consoles(&[found(2, 7)]);
    second.say("second life\n");
    view.sees("second life\n");
    view.stream.write_all(b"x").unwrap();
    until("typing into the second life", || second.read() == b"x");
    assert_eq!(view.text(), "first life\ndead\nsecond life\n");
    assert!(served.request("forget 07070707-0707-0707-0707-070707070707").is_err());
    served.consoles(&[]);
    until("the end of the second life", || served.ask("list").is_empty());
    served.ask("forget 07070707-0707-0707-0707-070707070707");
    assert_eq!(served.ask("history 07070707-0707-0707-0707-070707070707"), "");
}

#[test]
fn the_terminal_is_one_that_xenconsole_can_use() {
    let (folder, machine) = (tempfile::tempdir().unwrap(), Fake::new());
    let guest = machine.guest(1);
    let served = Served::start(folder.path(), &machine, &[found(1, 7)]);
    let terminal = served.terminal();
    assert_eq!(terminal.of, found(1, 7));
    let mut tty = File::options().read(true).write(true).open(&terminal.path).unwrap();
    guest.say("login:\n\x1b[1m");
    let mut bytes = [0; 11];
    tty.read_exact(&mut bytes).unwrap();
    // No line discipline has changed anything, and nothing typed is echoed but by the guest.
    assert_eq!(&bytes, b"login:\n\x1b[1m");
    tty.write_all(b"a\x03\r").unwrap();
    let mut typed = Vec::new();
    until("what was typed", || {
        typed.extend(guest.read());
        typed.len() == 3
    });
    assert_eq!(typed, b"a\x03\r");
}

#[test]
fn a_guest_that_spews_and_a_viewer_that_sleeps_hinder_only_themselves() {
    let (folder, machine) = (tempfile::tempdir().unwrap(), Fake::new());
    let (loud, quiet) = (machine.guest(1), machine.guest(2));
    let served = Served::start(folder.path(), &machine, &[found(1, 7), found(2, 8)]);
    let (mut sleeper, mut other) = (served.attach(7), served.attach(8));
    let started = Instant::now();
    let line = "spew ".repeat(400);
    let mut total = 0;
    for n in 0..10 {
        let end = Instant::now() + 2 * PERIOD;
        while Instant::now() < end {
            total += loud.write(line.as_bytes());
        }
        // The other one is heard meanwhile.
        quiet.say(&format!("{n}\n"));
        other.sees(&format!("{n}\n"));
    }
    let periods = (started.elapsed().as_millis() / PERIOD.as_millis()) as usize + 2;
    assert!(total <= periods * ALLOWANCE as usize * 2048, "{total} bytes in {periods} periods");
    assert!(total > 300_000, "only {total} bytes");
    loud.say("the end");
    sleeper.sees("the end");
    assert!(sleeper.text().contains("bytes are left out]"));
}

#[test]
fn nonsense_in_a_ring_silences_only_that_guest() {
    let (folder, machine) = (tempfile::tempdir().unwrap(), Fake::new());
    let (bad, good) = (machine.guest(1), machine.guest(2));
    let served = Served::start(folder.path(), &machine, &[found(1, 7), found(2, 8)]);
    let (mut view, mut other) = (served.attach(7), served.attach(8));
    for n in 0..200u32 {
        let word = n.wrapping_mul(0x9e37_79b9);
        for (at, index) in [OUT_CONS, OUT_PROD, IN_CONS, IN_PROD].into_iter().enumerate() {
            bad.page.store(index, word.rotate_left(at as u32 * (n % 9)));
        }
        bad.raise();
        view.stream.set_nonblocking(true).unwrap();
        let _ = view.stream.write(&[b'x'; 100]);
        good.say(&format!("{n}\n"));
        other.sees(&format!("{n}\n"));
    }
    view.stream.set_nonblocking(false).unwrap();
    for index in [OUT_CONS, OUT_PROD, IN_CONS, IN_PROD] {
        bad.page.store(index, 0);
    }
    bad.say("sane again\n");
    view.sees("sane again\n");
}

#[test]
fn clients_that_make_no_sense_are_told_so_or_dropped() {
    let (folder, machine) = (tempfile::tempdir().unwrap(), Fake::new());
    let served = Served::start(folder.path(), &machine, &[]);
    for (line, why) in
        [("nonsense", "not one of"), ("attach nobody", "no VM"), (&"x".repeat(5000), "too long")]
    {
        let error = served.request(line).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    // Gone before it has asked, or with half a request.
    for text in ["", "atta"] {
        let mut stream = std::os::unix::net::UnixStream::connect(folder.path().join("socket")).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
    }
    assert_eq!(served.ask("list"), "");
}
