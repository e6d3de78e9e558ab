//! The threads that serve connections, each with a runtime of its own.
//!
//! A connection stays with its thread. Its tasks wake each other several times a packet: with one runtime over all threads, each of
//! these could wake another thread, which costs more than all else about a message. DNS look-ups are made by the thread of whoever asks
//! first, and waited for by any.

use std::{
    io,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// The threads. They end when this is dropped, with all that they serve; nobody waits for that.
#[derive(Debug)]
pub(crate) struct Workers {
    workers: Vec<Worker>,
    /// The worker that is looked at first, so that those with an equal load take turns.
    next: AtomicUsize,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// Connections that it serves.
    load: Arc<AtomicUsize>,
    /// Dropped to end it.
    _running: oneshot::Sender<()>,
}

/// One of the connections that a worker serves.
struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Starts as many threads as the process may use processors.
    ///
    /// # Errors
    ///
    /// A thread or its runtime could not be started.
    pub(crate) fn start() -> io::Result<Self> {
        // Where the number cannot be found out, one will do.
        let count = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let workers = (0..count).map(Worker::start).collect::<io::Result<_>>()?;
        Ok(Self { workers, next: AtomicUsize::new(0) })
    }

    /// Serves a connection on the thread that has the fewest.
    pub(crate) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.workers.len().max(1);
        let in_turn = self.workers.iter().cycle().skip(first).take(self.workers.len());
        let Some(worker) = in_turn.min_by_key(|worker| worker.load.load(Ordering::Relaxed)) else { return };
        worker.load.fetch_add(1, Ordering::Relaxed);
        let load = Load(Arc::clone(&worker.load));
        worker.runtime.spawn(async move {
            connection.await;
            drop(load);
        });
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel();
        thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            // An error is the end as well.
            let _ = runtime.block_on(ended);
        })?;
        Ok(Self { runtime: handle, load: Arc::default(), _running: running })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::mpsc, thread::ThreadId};

    use tokio::sync::Notify;

    use super::*;

    fn workers(count: usize) -> Workers {
        Workers { workers: (0..count).map(|number| Worker::start(number).unwrap()).collect(), next: AtomicUsize::new(0) }
    }

    /// Spawns something that lasts until it is told to end; on which thread it runs.
    fn spawn(workers: &Workers, end: &Arc<Notify>) -> ThreadId {
        let (sender, receiver) = mpsc::channel();
        let end = Arc::clone(end);
        workers.spawn(async move {
            let ended = end.notified();
            sender.send(thread::current().id()).unwrap();
            ended.await;
        });
        receiver.recv().unwrap()
    }

    #[test]
    fn connections_are_shared_out() {
        let (workers, end) = (workers(3), Arc::new(Notify::new()));
        let mut counts = HashMap::new();
        for _ in 0..9 {
            *counts.entry(spawn(&workers, &end)).or_insert(0) += 1;
        }
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [3, 3, 3]);
    }

    #[test]
    fn whoever_has_the_fewest_gets_the_next() {
        let (workers, stays) = (workers(2), Arc::new(Notify::new()));
        let first = spawn(&workers, &stays);
        for _ in 0..10 {
            // One after the other, each on the other thread: the first has one that stays.
            let (done, ended) = mpsc::channel();
            workers.spawn(async move { done.send(thread::current().id()).unwrap() });
            assert_ne!(ended.recv().unwrap(), first);
            while workers.workers.iter().map(|worker| worker.load.load(Ordering::Relaxed)).sum::<usize>() > 1 {
                thread::yield_now();
            }
        }
    }

    #[test]
    fn a_panic_ends_one_connection_alone() {
        let workers = workers(1);
        workers.spawn(async { panic!("provoked") });
        let end = Arc::new(Notify::new());
        spawn(&workers, &end);
        assert_eq!(workers.workers[0].load.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_is_served_ends_with_the_workers() {
        let workers = workers(2);
        let (sender, receiver) = mpsc::channel::<()>();
        workers.spawn(async move {
            std::future::pending::<()>().await;
            drop(sender);
        });
        drop(workers);
        assert!(receiver.recv().is_err());
    }

    #[test]
    fn as_many_as_processors() {
        assert_eq!(Workers::start().unwrap().workers.len(), thread::available_parallelism().unwrap().get());
    }
}
