//! The threads that serve connections, each with a runtime of its own.
//!
//! A connection stays with the thread that accepted it. Its tasks wake each other several times a
//! packet: with one runtime over all threads, each of these could wake another thread, which costs
//! more than all else about a message. A DNS look-up begins on the thread of the task that asks first,
//! goes through the sockets of the thread that first asked that server, and is waited for on any.

use std::{
    convert::Infallible,
    io,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    runtime::{Builder, Handle},
    sync::{Notify, oneshot},
    time::timeout,
};

/// The most threads. All of them wake for each connection, of which one gets it; and as many can
/// serve tens of thousands of messages a second.
const MAX_WORKERS: usize = 8;

/// How many connections a thread may have more than another before it leaves new ones to the
/// others.
const MAX_LEAD: usize = 2;

/// Tries until it succeeds, again after each change; none is missed.
pub(crate) async fn until<T>(changed: &Notify, attempt: impl Fn() -> Option<T>) -> T {
    loop {
        let mut change = std::pin::pin!(changed.notified());
        change.as_mut().enable();
        if let Some(success) = attempt() {
            return success;
        }
        change.await;
    }
}

/// The threads. They end when this is dropped, with all that they serve; nobody waits for that.
#[derive(Debug)]
pub(crate) struct Workers {
    workers: Vec<Running>,
}

/// A thread that runs.
#[derive(Debug)]
struct Running {
    worker: Worker,
    /// Dropped to end it.
    _running: oneshot::Sender<()>,
    /// Ends with an error when the thread has ended.
    ended: oneshot::Receiver<Infallible>,
}

/// One of the threads.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    runtime: Handle,
    loads: Arc<Loads>,
    /// How many connections it has: one of `loads`.
    count: Arc<AtomicUsize>,
}

/// How many connections each thread has.
#[derive(Debug)]
struct Loads {
    counts: Vec<Arc<AtomicUsize>>,
    changed: Notify,
}

/// A connection of a thread.
#[derive(Debug)]
pub(crate) struct Load {
    worker: Worker,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.worker.change(|count| count.fetch_sub(1, Ordering::AcqRel));
    }
}

impl Workers {
    /// Starts as many threads as the process may use processors, within bounds.
    ///
    /// # Errors
    ///
    /// A thread or its runtime could not be started.
    pub(crate) fn start() -> io::Result<Self> {
        // Where the number cannot be found out, one will do.
        Self::start_some(
            thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_WORKERS),
        )
    }

    fn start_some(count: usize) -> io::Result<Self> {
        let loads = Arc::new(Loads {
            counts: (0..count).map(|_| Arc::default()).collect(),
            changed: Notify::new(),
        });
        let threads = loads.counts.iter().enumerate();
        let workers = threads
            .map(|(number, count)| start(number, Arc::clone(count), Arc::clone(&loads)))
            .collect::<io::Result<_>>()?;
        Ok(Self { workers })
    }

    /// The threads.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().map(|running| &running.worker)
    }

    /// Ends the threads, with all that they serve, and waits for that, but no longer than `limit`.
    pub(crate) async fn end(self, limit: Duration) {
        let ended: Vec<_> = self.workers.into_iter().map(|running| running.ended).collect();
        // They end by an error: nobody can send what they wait for.
        let _ = timeout(limit, join_all(ended)).await;
    }
}

fn start(number: usize, count: Arc<AtomicUsize>, loads: Arc<Loads>) -> io::Result<Running> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let worker = Worker { runtime: runtime.handle().clone(), loads, count };
    let (running, to_end) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        // An error, that the other end is gone, is the end as well.
        let _ = runtime.block_on(to_end);
        drop(runtime);
        drop(end);
    })?;
    Ok(Running { worker, _running: running, ended })
}

impl Worker {
    /// The runtime of the thread.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Waits until the thread has had a turn for something new: whether it had. A thread that has
    /// ended has none.
    pub(crate) async fn answers(&self) -> bool {
        self.runtime.spawn(async {}).await.is_ok()
    }

    /// Waits until another connection is this thread's to take: there is always one that need not
    /// wait.
    pub(crate) async fn turn(&self) {
        until(&self.loads.changed, || self.is_in_turn().then_some(())).await;
    }

    fn is_in_turn(&self) -> bool {
        let own = self.count.load(Ordering::Acquire);
        let least = self
            .loads
            .counts
            .iter()
            .map(|count| count.load(Ordering::Acquire))
            .fold(own, usize::min);
        own <= least.saturating_add(MAX_LEAD)
    }

    /// Counts a connection of this thread, as long as what it gives lasts.
    pub(crate) fn load(&self) -> Load {
        self.change(|count| count.fetch_add(1, Ordering::AcqRel));
        Load { worker: self.clone() }
    }

    fn change(&self, change: impl FnOnce(&AtomicUsize) -> usize) {
        change(&self.count);
        self.loads.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_thread_that_is_blocked_does_not_answer() {
        let workers = Workers::start_some(2).unwrap();
        let [first, second] = workers.iter().cloned().collect::<Vec<_>>().try_into().unwrap();
        assert!(first.answers().await && second.answers().await);
        let (release, released) = mpsc::channel::<()>();
        let (begin, begun) = oneshot::channel();
        first.runtime().spawn(async move {
            begin.send(()).unwrap();
            let _ = released.recv();
        });
        begun.await.unwrap();
        let mut answer = std::pin::pin!(first.answers());
        assert!(futures_util::poll!(&mut answer).is_pending());
        assert!(second.answers().await);
        assert!(futures_util::poll!(&mut answer).is_pending());
        release.send(()).unwrap();
        assert!(answer.await);
        workers.end(Duration::from_secs(60)).await;
        assert!(!first.answers().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_with_many_more_waits() {
        let workers = Workers::start_some(3).unwrap();
        let [first, second, third] =
            workers.iter().cloned().collect::<Vec<_>>().try_into().unwrap();
        let mut loads: Vec<Load> = (0..=MAX_LEAD).map(|_| first.load()).collect();
        assert!(!first.is_in_turn() && second.is_in_turn() && third.is_in_turn());
        let one = second.load();
        assert!(timeout(Duration::from_secs(1), first.turn()).await.is_err());
        // Both ways: the others get some, or its own end.
        let another = third.load();
        first.turn().await;
        drop(one);
        assert!(!first.is_in_turn());
        let (_, ()) = tokio::join!(first.turn(), async {
            tokio::task::yield_now().await;
            loads.pop();
        });
        assert!(workers.iter().any(Worker::is_in_turn));
        drop((loads, another));
        assert!(workers.iter().all(Worker::is_in_turn));
    }

    #[test]
    fn each_is_a_thread_of_its_own() {
        let workers = Workers::start_some(3).unwrap();
        let (sender, receiver) = mpsc::channel();
        for worker in workers.iter() {
            for _ in 0..2 {
                let sender = sender.clone();
                worker.runtime().spawn(async move { sender.send(thread::current().id()).unwrap() });
            }
        }
        let ids: std::collections::HashSet<_> = receiver.iter().take(6).collect();
        assert_eq!(ids.len(), 3);
    }

    #[test]
    fn connections_end_with_the_workers() {
        let workers = Workers::start_some(2).unwrap();
        let (sender, receiver) = mpsc::channel::<()>();
        for worker in workers.iter() {
            let sender = sender.clone();
            worker.runtime().spawn(async move {
                std::future::pending::<()>().await;
                drop(sender);
            });
        }
        drop((workers, sender));
        assert!(receiver.recv().is_err());
    }

    #[tokio::test]
    async fn the_end_of_connections_is_waited_for() {
        struct Notifier(mpsc::Sender<()>);
        impl Drop for Notifier {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
            }
        }
        let workers = Workers::start_some(2).unwrap();
        let (sender, receiver) = mpsc::channel();
        let (begun, mut has_begun) = tokio::sync::mpsc::unbounded_channel();
        for worker in workers.iter() {
            let (notifier, begun) = (Notifier(sender.clone()), begun.clone());
            worker.runtime().spawn(async move {
                let _notifier = notifier;
                begun.send(()).unwrap();
                std::future::pending::<()>().await;
            });
            has_begun.recv().await.unwrap();
        }
        workers.end(Duration::from_secs(60)).await;
        assert_eq!(receiver.try_iter().count(), 2);
    }

    #[test]
    fn as_many_as_processors() {
        let count = thread::available_parallelism().unwrap().get();
        assert_eq!(Workers::start().unwrap().iter().count(), count.min(MAX_WORKERS));
    }
}
