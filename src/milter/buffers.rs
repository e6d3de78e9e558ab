//! Buffers that the connections of a thread lend one another.
//!
//! A connection needs its buffers only while there is something in them, and most connections are
//! idle most of the time. So a thread has one spare buffer of a kind, where each connection would
//! have to get memory for each packet, or to keep it.

use std::cell::Cell;

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

/// Gives a buffer memory that is spare, where it has none.
pub(super) fn equip(kind: Kind, buffer: &mut Vec<u8>) {
    if buffer.capacity() == 0 {
        *buffer = spare(kind, Cell::take);
    }
}

/// Lets go of a buffer and what is in it.
pub(super) fn give_back(kind: Kind, mut buffer: Vec<u8>) {
    if (1..=MAX_SPARE).contains(&buffer.capacity()) {
        buffer.clear();
        spare(kind, |spare| spare.set(buffer));
    }
}

fn spare<T>(kind: Kind, f: impl FnOnce(&Cell<Vec<u8>>) -> T) -> T {
    match kind {
        Kind::Input => INPUT.with(f),
        Kind::Output => OUTPUT.with(f),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_empty_and_small() {
        for kind in [Kind::Input, Kind::Output] {
            for (size, is_kept) in [(100, true), (MAX_SPARE, true), (MAX_SPARE + 1, false)] {
                // None is spare.
                let mut buffer = Vec::new();
                equip(kind, &mut buffer);
                assert_eq!(buffer.capacity(), 0);
                let mut buffer = Vec::with_capacity(size);
                buffer.extend_from_slice(b"secret");
                give_back(kind, buffer);
                let mut next = Vec::new();
                equip(kind, &mut next);
                assert_eq!(
                    (next.is_empty(), next.capacity()),
                    (true, if is_kept { size } else { 0 })
                );
            }
            // One that is in use stays as it is, and one without memory is not taken back.
            give_back(kind, Vec::with_capacity(10));
            let mut buffer = b"x".to_vec();
            equip(kind, &mut buffer);
            assert_eq!(buffer, b"x");
            give_back(kind, Vec::new());
            let mut spare = Vec::new();
            equip(kind, &mut spare);
            assert_eq!(spare.capacity(), 10);
        }
    }
}
