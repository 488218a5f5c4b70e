//! Messages from one thread to another that waits for descriptors.

use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug)]
struct Shared<T> {
    letters: Mutex<Vec<T>>,
    bell: OwnedFd,
}

/// Where messages are put in.
#[derive(Debug)]
pub struct Post<T>(Arc<Shared<T>>);

/// Where they come out; readable when there are some.
#[derive(Debug)]
pub struct Mailbox<T>(Arc<Shared<T>>);

/// Both ends of a new one.
pub fn mailbox<T>() -> io::Result<(Post<T>, Mailbox<T>)> {
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let shared = Arc::new(Shared { letters: Mutex::new(Vec::new()), bell });
    Ok((Post(shared.clone()), Mailbox(shared)))
}

impl<T> Clone for Post<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Post<T> {
    /// Puts one in.
    pub fn send(&self, letter: T) {
        self.0.letters.lock().unwrap_or_else(PoisonError::into_inner).push(letter);
        // Full means that the bell rings already.
        let _ = rustix::io::write(&self.0.bell, &1u64.to_ne_bytes());
    }
}

impl<T> Mailbox<T> {
    /// Takes all out.
    pub fn take(&self) -> Vec<T> {
        let _ = rustix::io::read(&self.0.bell, &mut [0; 8]);
        std::mem::take(&mut *self.0.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.bell.as_fd()
    }
}
