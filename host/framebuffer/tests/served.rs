//! Guests' devices and viewers, with guests that behave and guests that do not.

mod guests;

use guests::{Guest, View, until};
use radon_framebuffer::screen::Screen;
use std::io::Write;
use std::sync::Arc;

#[test]
fn several_viewers_see_what_the_guest_draws() {
    let (guest, screen) = (Guest::new(200, 100), Arc::new(Screen::default()));
    guest.draw([10, 10, 5, 5], 0xff12_3456, false);
    let _served = guest.connect(&screen, true);
    let mut views: Vec<View> =
        [b"RFB 003.003\n", b"RFB 003.007\n", b"RFB 003.008\n"].map(|v| View::of_version(&screen, v)).into();
    for view in &mut views {
        view.sees(10, 10, 0x12_3456);
        assert_eq!((view.size, view.pixel(14, 14), view.pixel(15, 14)), ((200, 100), 0x12_3456, 0));
    }
    guest.draw([190, 90, 10, 10], 0x00ff_0000, true);
    for view in &mut views {
        view.sees(199, 99, 0xff_0000);
        assert_eq!((view.pixel(190, 90), view.pixel(189, 99)), (0xff_0000, 0));
    }
    // What it does not tell of is not looked for, and a part that is wrong does no harm.
    guest.draw([0, 0, 1, 1], 0x77, false);
    guest.say([2, u32::MAX, 0x8000_0000, 0x7fff_ffff, 0x7fff_ffff, 0]);
    guest.draw([100, 50, 1, 1], 0x88, true);
    views[0].sees(100, 50, 0x88);
}

#[test]
fn a_guest_that_does_not_tell_of_changes_is_compared() {
    let (guest, screen) = (Guest::new(640, 480), Arc::new(Screen::default()));
    let _served = guest.connect(&screen, false);
    let mut view = View::new(&screen);
    view.update();
    for n in 1..4 {
        guest.draw([600, 470, 1, 1], n, false);
        view.sees(600, 470, n);
    }
}

#[test]
fn a_viewer_that_takes_nothing_holds_nobody_up() {
    let (guest, screen) = (Guest::new(800, 600), Arc::new(Screen::default()));
    let _served = guest.connect(&screen, true);
    let mut slow = View::new(&screen);
    for _ in 0..50 {
        slow.ask(false);
    }
    let mut quick = View::new(&screen);
    for n in 1..20 {
        guest.draw([0, 0, 800, 600], n, true);
        quick.sees(799, 599, n);
    }
    // It missed what was in between, and sees the end.
    slow.sees(799, 599, 19);
    assert!(slow.updates < 10, "{}", slow.updates);
}

#[test]
fn keys_and_pointer_arrive_and_are_let_go_with_the_viewer() {
    let (guest, screen) = (Guest::new(800, 600), Arc::new(Screen::default()));
    let _served = guest.connect(&screen, true);
    let mut view = View::new(&screen);
    // Until it has been heard, so that it sees the same size.
    view.update();
    let mut typed = Vec::new();
    let mut sees = |wanted: &[[u32; 2]]| {
        until("keys", || {
            typed.extend(guest.typed());
            typed.len() >= wanted.len()
        });
        assert_eq!(std::mem::take(&mut typed), wanted);
    };
    view.key(true, 'A'.into());
    sees(&[[0x103, 42], [0x103, 30], [3, 42]]);
    view.stream.write_all(&[5, 1, 0, 100, 0, 50]).unwrap();
    sees(&[[4, 100], [0x103, 0x110]]);
    drop(view);
    sees(&[[3, 30], [3, 0x110]]);
}

#[test]
fn more_keys_than_the_ring_holds_arrive_in_order() {
    let (guest, screen) = (Guest::new(80, 60), Arc::new(Screen::default()));
    let _served = guest.connect(&screen, true);
    let mut view = View::new(&screen);
    let text = "the quick brown fox jumps over the lazy dog and goes on for more than a ring";
    for c in text.chars() {
        view.key(true, c.into());
        view.key(false, c.into());
    }
    let mut typed = Vec::new();
    until("all keys", || {
        typed.extend(guest.typed());
        typed.len() == text.len() * 2
    });
    let wanted: Vec<[u32; 2]> = text
        .chars()
        .map(|c| radon_framebuffer::keysym::key(c.into()).unwrap().code)
        .flat_map(|code| [[0x103, code], [3, code]])
        .collect();
    assert_eq!(typed, wanted);
}

#[test]
fn a_guest_resizes_goes_and_comes_back() {
    let screen = Arc::new(Screen::default());
    let first = Guest::new(640, 480);
    let served = first.connect(&screen, true);
    let mut view = View::new(&screen);
    first.draw([5, 5, 1, 1], 0x11, true);
    view.sees(5, 5, 0x11);
    first.say([3, 320, 200, 640 * 4, 32, 0]);
    first.draw([319, 199, 1, 1], 0x22, true);
    view.sees(319, 199, 0x22);
    assert_eq!(view.size, (320, 200));
    // A size that does not fit is none.
    first.say([3, 4000, 4000, 16000, 32, 0]);
    first.draw([318, 198, 1, 1], 0x33, true);
    view.sees(318, 198, 0x33);
    assert_eq!(view.size, (320, 200));
    drop(served);
    let second = Guest::new(100, 100);
    second.draw([99, 99, 1, 1], 0x44, false);
    let _served = second.connect(&screen, true);
    view.sees(99, 99, 0x44);
    assert_eq!((view.size, view.pixel(5, 5)), ((100, 100), 0));
    view.key(true, 'b'.into());
    until("a key in the second life", || second.typed() == [[0x103, 48]]);
}

#[test]
fn a_successor_goes_on() {
    let (guest, screen) = (Guest::new(100, 100), Arc::new(Screen::default()));
    for round in 1..20 {
        let served = guest.connect(&screen, true);
        guest.draw([1, 1, 1, 1], round, true);
        let mut view = View::new(&screen);
        view.sees(1, 1, round);
        view.key(true, 'a'.into());
        until("a key", || guest.typed() == [[0x103, 30]]);
        drop(served);
        drop(view);
        // It lets its key go when it leaves, which is not to be heard in the next round.
        until("nobody looks", || !screen.is_watched());
        // Told to nobody.
        guest.draw([2, 2, 1, 1], round, true);
    }
}

#[test]
fn nonsense_of_a_guest_is_its_own_affair() {
    let screen = Arc::new(Screen::default());
    let (liar, good) = (Guest::new(100, 100), Guest::new(100, 100));
    let served = liar.connect(&screen, true);
    let mut view = View::new(&screen);
    view.update();
    let mut seed = 1u32;
    for _ in 0..2000 {
        seed = seed.wrapping_mul(1_103_515_245).wrapping_add(12345);
        liar.page().store((seed >> 8) as usize % 1024 * 4, seed.rotate_left(7));
        liar.raise(0);
    }
    drop(served);
    // The page says what is not so: not served, with a reason.
    for (at, word) in [(16, 0), (20, u32::MAX), (24, 4), (28, 100), (32, 8)] {
        let other = Guest::new(100, 100);
        other.page().store(at, word);
        assert!(radon_framebuffer::picture::connect(&other, &guests::front(true), &screen).is_err(), "{at}");
    }
    // One small picture in more memory than it was given: dom0 would map it.
    let greedy = Guest::new(100, 100);
    greedy.page().store(28, (2 << 20) + 1);
    let refused = radon_framebuffer::picture::connect(&greedy, &guests::front(true), &screen);
    assert!(refused.is_err_and(|why| why.contains("given")));
    let _served = good.connect(&screen, true);
    good.draw([50, 50, 1, 1], 0x99, true);
    view.sees(50, 50, 0x99);
}

#[test]
fn nonsense_of_a_viewer_ends_it_and_nobody_else() {
    let (guest, screen) = (Guest::new(100, 100), Arc::new(Screen::default()));
    let _served = guest.connect(&screen, true);
    let mut good = View::new(&screen);
    for nonsense in [&[9][..], &[0, 0, 0, 0, 24, 24], &[6, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], &[255, 7]] {
        let mut bad = View::new(&screen);
        bad.update();
        let mut bytes = nonsense.to_vec();
        bytes.resize(64, 0);
        let _ = bad.stream.write_all(&bytes);
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut bad.stream, &mut rest).unwrap_or_default();
    }
    guest.draw([50, 50, 1, 1], 0x99, true);
    good.sees(50, 50, 0x99);
}
