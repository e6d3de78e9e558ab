//! Counts that each thread keeps for itself, so that threads do not wait for one another.

use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::LocalKey,
};

/// Counts of one thread.
pub trait Part: Default + Send + Sync + 'static {
    /// Where a thread finds its own.
    fn own() -> &'static LocalKey<Own<Self>>;

    /// Adds those of another; no other thread adds to this.
    fn absorb(&self, other: &Self);
}

/// The counts of a thread, with the number of those that they are a part of.
#[derive(Debug)]
pub struct Own<T>(RefCell<Option<(u64, Arc<T>)>>);

impl<T> Own<T> {
    /// None yet.
    #[allow(clippy::new_without_default, reason = "for statics")]
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }
}

/// Counts in parts, one for each thread that counts.
#[derive(Debug)]
pub struct ByThread<T> {
    /// No others have the same number.
    number: u64,
    parts: Mutex<Parts<T>>,
}

#[derive(Debug, Default)]
struct Parts<T> {
    of_threads: Vec<Arc<T>>,
    /// Of threads that have ended.
    of_ended: Box<T>,
}

impl<T: Part> Default for ByThread<T> {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { number: NEXT.fetch_add(1, Ordering::Relaxed), parts: Mutex::default() }
    }
}

impl<T: Part> ByThread<T> {
    /// Calls a function with the counts of this thread, which no other thread adds to.
    pub fn with_own(&self, count: impl Fn(&T)) {
        let counted = T::own().try_with(|Own(own)| {
            let mut own = own.borrow_mut();
            let own = match &mut *own {
                Some((number, own)) if *number == self.number => own,
                other => &mut other.insert((self.number, self.new_part())).1,
            };
            count(own);
        });
        if counted.is_err() {
            // A thread that is about to end has none any more.
            count(&self.new_part());
        }
    }

    /// All counts together.
    pub fn total(&self) -> Box<T> {
        let total = Box::<T>::default();
        let parts = self.lock();
        total.absorb(&parts.of_ended);
        parts.of_threads.iter().for_each(|part| total.absorb(part));
        total
    }

    /// Counts for a thread.
    #[cold]
    fn new_part(&self) -> Arc<T> {
        let part = Arc::<T>::default();
        let mut parts = self.lock();
        let Parts { of_threads, of_ended } = &mut *parts;
        // Nobody adds to those that no thread has any more.
        for earlier in std::mem::replace(of_threads, vec![Arc::clone(&part)]) {
            match Arc::try_unwrap(earlier) {
                Ok(ended) => of_ended.absorb(&ended),
                Err(earlier) => of_threads.push(earlier),
            }
        }
        part
    }

    fn lock(&self) -> MutexGuard<'_, Parts<T>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::tally::add_alone;

    #[derive(Debug, Default)]
    struct Count(AtomicU64);

    impl Part for Count {
        fn own() -> &'static LocalKey<Own<Self>> {
            thread_local! {
                static OWN: Own<Count> = const { Own::new() };
            }
            &OWN
        }

        fn absorb(&self, other: &Self) {
            add_alone(&self.0, other.0.load(Ordering::Relaxed));
        }
    }

    fn add(counts: &ByThread<Count>, number: u64) {
        counts.with_own(|own| add_alone(&own.0, number));
    }

    fn total(counts: &ByThread<Count>) -> u64 {
        counts.total().0.into_inner()
    }

    fn parts(counts: &ByThread<Count>) -> usize {
        counts.lock().of_threads.len()
    }

    #[test]
    fn what_threads_count_is_added_up() {
        let counts = ByThread::<Count>::default();
        // Threads end, and others begin, while it is read.
        let count = || (0..200).for_each(|_| add(&counts, 3));
        let begin_one = || thread::scope(|scope| scope.spawn(count).join().unwrap());
        let begin_some = || (0..100).for_each(|_| begin_one());
        thread::scope(|scope| {
            let begun = [(); 4].map(|()| scope.spawn(begin_some));
            let mut before = 0;
            while !begun.iter().all(thread::ScopedJoinHandle::is_finished) {
                let now = total(&counts);
                assert!((before..=240_000).contains(&now), "{before} {now}");
                before = now;
            }
        });
        assert_eq!(total(&counts), 240_000);
        add(&counts, 1);
        assert_eq!((total(&counts), parts(&counts)), (240_001, 1));
    }

    #[test]
    fn threads_that_have_ended_leave_their_counts_and_no_more() {
        let counts = ByThread::<Count>::default();
        for number in 1..=20 {
            thread::scope(|scope| _ = scope.spawn(|| add(&counts, 1)).join());
            assert_eq!((total(&counts), parts(&counts)), (number, 1));
        }
        add(&counts, 1);
        assert_eq!((total(&counts), parts(&counts)), (21, 1));
    }

    #[test]
    fn a_thread_that_counts_for_several_counts_for_each() {
        let several = [(); 3].map(|()| ByThread::<Count>::default());
        for round in 1..=5 {
            several.iter().zip(1..).for_each(|(counts, number)| add(counts, number));
            for (counts, number) in several.iter().zip(1..) {
                assert_eq!((total(counts), parts(counts)), (round * number, 1));
            }
        }
    }

    /// What is counted when a thread has let go of its own, as destructors of others may.
    #[test]
    fn a_thread_that_is_about_to_end_counts_as_well() {
        struct AtEnd(Arc<ByThread<Count>>);
        impl Drop for AtEnd {
            fn drop(&mut self) {
                add(&self.0, 5);
            }
        }
        thread_local! {
            static AT_END: RefCell<Option<AtEnd>> = const { RefCell::new(None) };
        }
        let counts = Arc::<ByThread<Count>>::default();
        thread::scope(|scope| {
            let ended = scope.spawn(|| {
                AT_END.set(Some(AtEnd(Arc::clone(&counts))));
                add(&counts, 1);
            });
            ended.join().unwrap();
        });
        assert_eq!(total(&counts), 6);
    }
}
