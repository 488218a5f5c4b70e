//! The hypervisor's heap: size classes of powers of two over blocks of pages.
//!
//! A class cuts blocks ("slabs", aligned to their size) into equal objects; the slab's header sits at its start, so an
//! object finds its slab by masking its address. Slabs with free objects are linked; a full slab is on no list; an
//! empty one goes back to the [`PageSource`] at once, so that what a domain cost is free to the last page when it is gone.
//! Larger requests take whole pages.
#![allow(unsafe_code)] // an allocator deals in raw memory

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};
use radon_hw::lock::{SpinLock, rank};

/// Where the heap's pages come from.
pub trait PageSource {
    /// `2^order` contiguous pages, aligned to their size; any content.
    fn alloc(&self, order: u8) -> Option<NonNull<u8>>;
    /// Takes a block back; `false` when it cannot (the heap keeps it if it can).
    fn free(&self, block: NonNull<u8>, order: u8) -> bool;
}

const PAGE: usize = 4096;
const MIN_SHIFT: u32 = 4;
const CLASSES: usize = 8;
/// Largest object cut from slabs; anything larger takes pages.
const MAX_SMALL: usize = 1 << (MIN_SHIFT as usize + CLASSES - 1);

/// log2 of the pages in a slab of this class: at least eight objects in each, less the header.
const fn slab_order(class: usize) -> u8 {
    if class < 5 { 0 } else { 2 }
}

/// At the start of every slab.
#[repr(C)]
struct Slab {
    next: *mut Slab,
    prev: *mut Slab,
    /// Returned objects, linked through their first word.
    free: *mut Object,
    used: u16,
    /// Objects from this index on were never handed out.
    fresh: u16,
    capacity: u16,
}
const HEADER: usize = 32;
const _: () = assert!(size_of::<Slab>() <= HEADER);

#[repr(C)]
struct Object {
    next: *mut Object,
}

/// The slabs of one class that have a free object.
struct Class {
    partial: *mut Slab,
}

// SAFETY: the pointers lead to slabs that only the holder of the class's lock touches.
unsafe impl Send for Class {}

/// The heap over a page source.
pub struct Heap<S> {
    classes: [SpinLock<Class>; CLASSES],
    source: S,
}

impl<S: PageSource> Heap<S> {
    /// An empty heap.
    pub const fn new(source: S) -> Self {
        Self {
            classes: [const { SpinLock::new(rank::HEAP, Class { partial: null_mut() }) }; CLASSES],
            source,
        }
    }

    fn alloc_small(&self, class: usize) -> Option<NonNull<u8>> {
        let lock = self.classes.get(class)?;
        // SAFETY: a class's list holds live slabs of that class, and its lock is held.
        if let Some(object) = unsafe { lock.lock().take(class) } {
            return Some(object);
        }
        // The page source has a lock of its own: never ask it with ours held.
        let block = self.source.alloc(slab_order(class))?;
        let mut guard = lock.lock();
        // SAFETY: the block is fresh, ours alone, and as large and aligned as a slab of this class.
        unsafe {
            guard.add(block.cast(), class);
            guard.take(class)
        }
    }

    /// # Safety
    /// `object` came from `alloc_small(class)` and is not used any more.
    unsafe fn free_small(&self, object: NonNull<u8>, class: usize) {
        let Some(lock) = self.classes.get(class) else { return };
        let order = slab_order(class);
        // SAFETY: the caller vouches for the object, so its slab is live; its lock is held.
        let empty = unsafe { lock.lock().put(object, order) };
        if let Some(slab) = empty
            && !self.source.free(slab.cast(), order)
        {
            // SAFETY: `put` unlinked the slab, and the source did not take it: it is ours, as if fresh.
            unsafe { lock.lock().add(slab, class) };
        }
    }
}

const fn object_size(class: usize) -> usize {
    1 << (MIN_SHIFT as usize + class)
}

const fn first_offset(class: usize) -> usize {
    if object_size(class) < HEADER { HEADER } else { object_size(class) }
}

impl Class {
    /// # Safety
    /// `slab` is unused memory of a slab's size and alignment, and on no list.
    unsafe fn add(&mut self, slab: NonNull<Slab>, class: usize) {
        let bytes = PAGE << slab_order(class);
        let capacity = ((bytes - first_offset(class)) / object_size(class)) as u16;
        let new = Slab { next: null_mut(), prev: null_mut(), free: null_mut(), used: 0, fresh: 0, capacity };
        // SAFETY: promised by the caller.
        unsafe {
            slab.write(new);
            self.link(slab.as_ptr());
        }
    }

    /// # Safety
    /// The list holds live slabs of `class`.
    unsafe fn take(&mut self, class: usize) -> Option<NonNull<u8>> {
        // SAFETY: the slab is live; a free-list entry is an unused object; an index below capacity lies in the slab.
        unsafe {
            let slab = self.partial.as_mut()?;
            let object = if slab.free.is_null() {
                let at = first_offset(class) + usize::from(slab.fresh) * object_size(class);
                slab.fresh += 1;
                self.partial.cast::<u8>().add(at)
            } else {
                let object = slab.free;
                slab.free = (*object).next;
                object.cast()
            };
            slab.used += 1;
            if slab.used == slab.capacity {
                self.unlink(self.partial);
            }
            NonNull::new(object)
        }
    }

    /// Gives an object back; returns its slab, unlinked, when that is empty.
    ///
    /// # Safety
    /// `object` is a used object of a live slab of this class, whose size is `order` pages.
    unsafe fn put(&mut self, object: NonNull<u8>, order: u8) -> Option<NonNull<Slab>> {
        // SAFETY: slabs are aligned to their size, so masking finds the header; the object is unused from here on.
        unsafe {
            let base = object.as_ptr().map_addr(|a| a & !((PAGE << order) - 1)).cast::<Slab>();
            let slab = &mut *base;
            let object = object.as_ptr().cast::<Object>();
            (*object).next = slab.free;
            slab.free = object;
            if slab.used == slab.capacity {
                self.link(base);
            }
            slab.used -= 1;
            if slab.used > 0 {
                return None;
            }
            self.unlink(base);
            NonNull::new(base)
        }
    }

    /// # Safety
    /// `slab` is live and on no list.
    unsafe fn link(&mut self, slab: *mut Slab) {
        // SAFETY: promised by the caller; the head is live.
        unsafe {
            (*slab).prev = null_mut();
            (*slab).next = self.partial;
            if let Some(head) = self.partial.as_mut() {
                head.prev = slab;
            }
        }
        self.partial = slab;
    }

    /// # Safety
    /// `slab` is live and on this list.
    unsafe fn unlink(&mut self, slab: *mut Slab) {
        // SAFETY: promised by the caller; neighbours on the list are live.
        unsafe {
            let (prev, next) = ((*slab).prev, (*slab).next);
            match prev.as_mut() {
                Some(prev) => prev.next = next,
                None => self.partial = next,
            }
            if let Some(next) = next.as_mut() {
                next.prev = prev;
            }
            ((*slab).prev, (*slab).next) = (null_mut(), null_mut());
        }
    }
}

/// Where a request is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Small(usize),
    Pages(u8),
    TooLarge,
}

fn place(layout: Layout) -> Place {
    let size = layout.size().max(layout.align());
    if size <= MAX_SMALL {
        let shift = size.next_power_of_two().trailing_zeros().max(MIN_SHIFT);
        return Place::Small((shift - MIN_SHIFT) as usize);
    }
    match size.div_ceil(PAGE).checked_next_power_of_two() {
        Some(pages) => Place::Pages(pages.trailing_zeros() as u8),
        None => Place::TooLarge,
    }
}

// SAFETY: objects are disjoint, as large and aligned as asked for (a class's objects are aligned to their size), and stay until
// they are given back; nothing here unwinds.
unsafe impl<S: PageSource> GlobalAlloc for Heap<S> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let object = match place(layout) {
            Place::Small(class) => self.alloc_small(class),
            Place::Pages(order) => self.source.alloc(order),
            Place::TooLarge => None,
        };
        object.map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        let Some(object) = NonNull::new(ptr) else { return };
        match place(layout) {
            // SAFETY: `alloc` served this layout from the same class.
            Place::Small(class) => unsafe { self.free_small(object, class) },
            Place::Pages(order) => {
                self.source.free(object, order);
            }
            Place::TooLarge => {}
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller vouches that the rounded-up new size does not overflow isize.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        if place(new) == place(layout) {
            return ptr;
        }
        // SAFETY: a fresh object of the new size; the old one is valid for its size and then given back.
        unsafe {
            let to = self.alloc(new);
            if !to.is_null() {
                core::ptr::copy_nonoverlapping(ptr, to, layout.size().min(new_size));
                self.dealloc(ptr, layout);
            }
            to
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    /// Pages from the host's allocator; keeps count, and refuses to take blocks back on demand.
    #[derive(Default)]
    struct HostPages {
        live: RefCell<BTreeMap<usize, u8>>,
        refuse: std::cell::Cell<bool>,
    }
    fn block_layout(order: u8) -> Layout {
        Layout::from_size_align(PAGE << order, PAGE << order).unwrap()
    }
    impl PageSource for &HostPages {
        fn alloc(&self, order: u8) -> Option<NonNull<u8>> {
            // SAFETY: the layout is not empty.
            let block = NonNull::new(unsafe { std::alloc::alloc(block_layout(order)) })?;
            self.live.borrow_mut().insert(block.as_ptr() as usize, order);
            Some(block)
        }
        fn free(&self, block: NonNull<u8>, order: u8) -> bool {
            if self.refuse.get() {
                return false;
            }
            assert_eq!(self.live.borrow_mut().remove(&(block.as_ptr() as usize)), Some(order));
            // SAFETY: allocated above with the same layout.
            unsafe { std::alloc::dealloc(block.as_ptr(), block_layout(order)) };
            true
        }
    }

    #[test]
    fn places() {
        let at = |size, align| place(Layout::from_size_align(size, align).unwrap());
        assert_eq!(at(1, 1), Place::Small(0));
        assert_eq!(at(17, 1), Place::Small(1));
        assert_eq!(at(8, 64), Place::Small(2));
        assert_eq!(at(2048, 8), Place::Small(7));
        assert_eq!(at(2049, 8), Place::Pages(0));
        assert_eq!(at(8, 8192), Place::Pages(1));
        assert_eq!(at(12289, 8), Place::Pages(2));
    }

    proptest::proptest! {
        #[test]
        fn objects_are_disjoint_and_keep_their_content(
            steps in proptest::collection::vec((0u8..4, 1usize..6000, 0u32..8, proptest::prelude::any::<u16>()), 1..300),
            refuse: bool,
        ) {
            let pages = HostPages::default();
            pages.refuse.set(refuse);
            let heap = Heap::new(&pages);
            // (address, layout, fill byte)
            let mut live: Vec<(*mut u8, Layout, u8)> = Vec::new();
            let check = |p: *mut u8, n: usize, fill: u8| {
                // SAFETY: a live object of at least `n` bytes.
                assert!(unsafe { std::slice::from_raw_parts(p, n) }.iter().all(|&b| b == fill));
            };
            for (i, (what, size, align, pick)) in steps.into_iter().enumerate() {
                let fill = i as u8;
                // SAFETY: layouts are non-empty and each object is used within its layout until given back.
                unsafe {
                    if what < 2 || live.is_empty() {
                        let layout = Layout::from_size_align(size, 1 << align).unwrap();
                        let p = heap.alloc(layout);
                        assert!(!p.is_null() && p.addr() % layout.align() == 0);
                        p.write_bytes(fill, size);
                        live.push((p, layout, fill));
                        continue;
                    }
                    let slot = usize::from(pick) % live.len();
                    let (p, layout, old) = live.swap_remove(slot);
                    check(p, layout.size(), old);
                    if what == 2 {
                        heap.dealloc(p, layout);
                    } else {
                        let q = heap.realloc(p, layout, size);
                        check(q, size.min(layout.size()), old);
                        q.write_bytes(fill, size);
                        live.push((q, Layout::from_size_align(size, layout.align()).unwrap(), fill));
                    }
                }
            }
            pages.refuse.set(false);
            for (p, layout, fill) in live {
                check(p, layout.size(), fill);
                // SAFETY: given back once.
                unsafe { heap.dealloc(p, layout) };
            }
            if !refuse {
                proptest::prop_assert!(pages.live.borrow().is_empty());
            }
        }
    }
}
