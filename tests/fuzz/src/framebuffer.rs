//! What a guest puts into the pages of its framebuffer and its keyboard, and what a viewer sends.

use radon_framebuffer::canvas::Canvas;
use radon_framebuffer::geometry::{Claim, Rect};
use radon_framebuffer::input;
use radon_framebuffer::page::{self, Event, Page, Width};
use radon_framebuffer::rfb::hello::Version;
use radon_framebuffer::rfb::message::{self, Message};
use radon_framebuffer::rfb::update::{self, Part, Taste};
use radon_framebuffer::rfb::zrle::Stream;
use radon_framebuffer::typist::Typist;
use radon_xen::page::SharedPages;
use std::rc::Rc;

/// A guest that writes words anywhere in its pages, behind a byte each that says where and what the program does then.
pub fn page(mut data: &[u8]) {
    let Ok(pages) = SharedPages::anonymous(1) else { return };
    let pages = Rc::new(pages);
    let (mut framebuffer, mut keyboard) = (Page::new(pages.clone()), input::Page::new(pages.clone()));
    let mut memory = 0;
    while let [choice, a, b, c, d, rest @ ..] = data {
        data = rest;
        // Mostly the words at the beginning.
        let at = if choice & 0x80 == 0 { choice & 15 } else { *choice };
        pages.store(usize::from(at) * 4, u32::from_le_bytes([*a, *b, *c, *d]));
        match choice >> 4 & 7 {
            0 | 1 => {
                let events = framebuffer.events().unwrap_or_default();
                assert!(events.len() <= page::RING as usize);
                for event in events {
                    match event {
                        Event::Update { x, y, width, height } => {
                            let part = page::damage(x, y, width, height, (800, 600));
                            assert!(part.x + part.width <= 800 && part.y + part.height <= 600);
                        }
                        Event::Resize(claim) => whole(Claim { memory, ..claim }),
                    }
                }
            }
            2 => {
                let claim = framebuffer.claim();
                memory = claim.memory;
                whole(claim);
                for width in [Width::Bits32, Width::Bits64] {
                    assert!(framebuffer.directory(width, memory).len() <= 32);
                    assert!(page::frames(&pages, width, memory).len() <= 1024);
                }
            }
            3 => {
                keyboard.put(input::Event::Position { x: 1, y: 2, z: 3 });
                assert!(keyboard.room() <= input::RING);
            }
            4 => {
                framebuffer = Page::new(pages.clone());
                keyboard = input::Page::new(pages.clone());
            }
            _ => {}
        }
    }
}

/// A picture that is accepted lies within its memory.
fn whole(claim: Claim) {
    if let Ok(geometry) = claim.check() {
        assert!(geometry.place(geometry.width() - 1, geometry.height() - 1) + 4 <= claim.memory as usize);
    }
}

/// A viewer's bytes: each message is taken for what it is, its keys typed, its picture encoded.
pub fn viewer(data: &[u8]) {
    let Some((version, mut rest)) = data.split_first_chunk() else { return };
    let _ = Version::parse(*version);
    let (mut taste, mut typist, mut stream) = (Taste::default(), Typist::default(), Stream::default());
    let canvas = Canvas::new(130, 70);
    while let Ok(Some((message, used))) = message::parse(rest) {
        assert!(used > 0);
        rest = rest.get(used..).unwrap_or_default();
        taste.hear(&message);
        assert!(typist.hear(&message).len() <= 8);
        if let Message::Request { x, y, width, height, .. } = message {
            let part = Rect::clipped(x.into(), y.into(), width.into(), height.into(), (4096, 4096));
            let parts = canvas.newer(0, part);
            let parts: Vec<Part> =
                parts.into_iter().map(|rect| Part::Pixels(rect, canvas.copy(rect))).collect();
            assert!(update::encode(&taste, &parts, &mut stream).len() >= 4);
        }
    }
    typist.let_go();
    assert!(typist.let_go().is_empty());
}
