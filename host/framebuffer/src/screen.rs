//! A VM's screen: what its guest and its viewers share. It outlives the guest for as long as somebody looks.

use crate::canvas::Canvas;
use crate::picture::Nudge;
use crate::typist::Input;
use radon_linux::mailbox::Post;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What a screen shows before a guest has said how large it is: Linux's own default.
const DEFAULT: (u16, u16) = (800, 600);

/// A screen.
#[derive(Debug)]
pub struct Screen {
    view: Mutex<View>,
    changed: Condvar,
    viewers: AtomicUsize,
}

#[derive(Debug)]
struct View {
    canvas: Canvas,
    picture: Option<Post<Nudge>>,
    keyboard: Option<Post<Vec<Input>>>,
}

impl Default for Screen {
    fn default() -> Self {
        let canvas = Canvas::new(DEFAULT.0, DEFAULT.1);
        let view = View { canvas, picture: None, keyboard: None };
        Self { view: Mutex::new(view), changed: Condvar::new(), viewers: AtomicUsize::new(0) }
    }
}

impl Screen {
    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Width and height.
    pub fn size(&self) -> (u16, u16) {
        self.view().canvas.size()
    }

    /// Whether anybody looks.
    pub fn is_watched(&self) -> bool {
        self.viewers.load(Ordering::SeqCst) > 0
    }

    /// Somebody looks, for as long as the result lives.
    pub fn watch(&self) -> Watching<'_> {
        self.viewers.fetch_add(1, Ordering::SeqCst);
        if let Some(picture) = &self.view().picture {
            picture.send(Nudge::Look);
        }
        Watching(self)
    }

    /// Changes the picture; viewers are told if `change` says that something is new.
    pub fn draw(&self, change: impl FnOnce(&mut Canvas) -> bool) {
        if change(&mut self.view().canvas) {
            self.changed.notify_all();
        }
    }

    /// Waits until there is something in the picture that is wanted. It is asked for again after each change and each [`Screen::wake`].
    pub fn wait<T>(&self, mut wanted: impl FnMut(&Canvas) -> Option<T>) -> T {
        let mut view = self.view();
        loop {
            if let Some(found) = wanted(&view.canvas) {
                return found;
            }
            view = self.changed.wait(view).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Who waits looks again.
    pub fn wake(&self) {
        // Under the lock: whoever is about to wait does so before, or sees what has changed.
        let _view = self.view();
        self.changed.notify_all();
    }

    /// Somebody types.
    pub fn put(&self, inputs: Vec<Input>) {
        if inputs.is_empty() {
            return;
        }
        // A guest without a keyboard hears nothing.
        if let Some(keyboard) = &self.view().keyboard {
            keyboard.send(inputs);
        }
    }

    /// The guest's framebuffer, or none.
    pub fn set_picture(&self, picture: Option<Post<Nudge>>) {
        self.view().picture = picture;
    }

    /// The guest's keyboard, or none.
    pub fn set_keyboard(&self, keyboard: Option<Post<Vec<Input>>>) {
        self.view().keyboard = keyboard;
    }
}

/// Somebody who looks.
#[derive(Debug)]
pub struct Watching<'a>(&'a Screen);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Ordering::SeqCst);
    }
}
