//! Buffers that the connections of a thread lend one another.
//!
//! A connection needs its buffers only while there is something in them, and most connections are
//! idle most of the time. So a thread has one spare buffer of a kind, where each connection would
//! have to get memory for each packet, or to keep it.

use std::{
    cell::Cell,
    ops::{Deref, DerefMut},
};

/// The most octets that a spare buffer has room for.
const MAX_SPARE: usize = 8 * 1024;

thread_local! {
    static INPUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static OUTPUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What a buffer is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Octets of the MTA.
    Input,
    /// Packets for the MTA.
    Output,
}

/// A buffer, which begins without memory.
#[derive(Debug)]
pub(super) struct Buffer {
    kind: Kind,
    octets: Vec<u8>,
}

impl Buffer {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, octets: Vec::new() }
    }

    /// Gives the buffer memory that is spare, where it has none.
    pub(super) fn equip(&mut self) {
        if self.octets.capacity() == 0 {
            self.octets = self.kind.with_spare(Cell::take);
        }
    }

    /// Lets go of the memory where nothing is in it. One that is too large for others is kept as long as
    /// there is a message under way.
    pub(super) fn rest(&mut self, is_busy: bool) {
        if self.octets.is_empty() && (!is_busy || self.octets.capacity() <= MAX_SPARE) {
            self.give_back();
        }
    }

    /// Lets go of the memory and of what is in it.
    pub(super) fn give_back(&mut self) {
        let mut octets = std::mem::take(&mut self.octets);
        if (1..=MAX_SPARE).contains(&octets.capacity()) {
            octets.clear();
            self.kind.with_spare(|spare| spare.set(octets));
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.octets
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.octets
    }
}

impl Kind {
    /// What is done with the spare buffer; with none, where the thread is about to end.
    fn with_spare<T>(self, f: impl FnOnce(&Cell<Vec<u8>>) -> T) -> T
    where
        T: Default,
    {
        let spare = match self {
            Self::Input => &INPUT,
            Self::Output => &OUTPUT,
        };
        spare.try_with(f).unwrap_or_default()
    }
}

/// The octets that the spare buffer of this thread has room for.
#[cfg(test)]
pub(super) fn spare(kind: Kind) -> usize {
    kind.with_spare(|spare| {
        let octets = spare.take();
        let capacity = octets.capacity();
        spare.set(octets);
        capacity
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_empty_and_small() {
        for kind in [Kind::Input, Kind::Output] {
            for (size, is_kept) in [(100, true), (MAX_SPARE, true), (MAX_SPARE + 1, false)] {
                // None is spare.
                let mut buffer = Buffer::new(kind);
                buffer.equip();
                assert_eq!(buffer.capacity(), 0);
                buffer.reserve_exact(size);
                buffer.extend_from_slice(b"secret");
                // What is in it is still needed.
                buffer.rest(false);
                assert_eq!(buffer.as_slice(), b"secret");
                drop(buffer);
                assert_eq!(spare(kind), if is_kept { size } else { 0 });
                let mut next = Buffer::new(kind);
                next.equip();
                assert!(next.is_empty() && spare(kind) == 0);
                // It is lost, so that the next one finds none.
                next.octets = Vec::new();
            }
            // One that is in use stays as it is, and one without memory is not taken back.
            drop(Buffer { kind, octets: Vec::with_capacity(10) });
            let mut buffer = Buffer { kind, octets: b"x".to_vec() };
            buffer.equip();
            assert_eq!((buffer.as_slice(), spare(kind)), (b"x".as_slice(), 10));
            drop(Buffer::new(kind));
            assert_eq!(spare(kind), 10);
            buffer.give_back();
            assert_eq!((buffer.capacity(), spare(kind)), (0, 1));
        }
    }

    #[test]
    fn empty_buffers_rest() {
        // A large one is kept for what is left of a message.
        for (size, is_busy, rests) in [
            (MAX_SPARE, true, true),
            (MAX_SPARE, false, true),
            (MAX_SPARE + 1, true, false),
            (MAX_SPARE + 1, false, true),
        ] {
            let mut buffer = Buffer { kind: Kind::Input, octets: Vec::with_capacity(size) };
            buffer.rest(is_busy);
            assert_eq!(buffer.capacity() == 0, rests, "{size} {is_busy}");
        }
    }
}
