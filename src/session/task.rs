//! Work that goes on while a session waits for the MTA.

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;

/// Work under way. Dropping it ends it.
#[derive(Debug)]
pub(super) enum Task<T> {
    /// It was done as soon as it was begun, as are look-ups that the cache answers.
    Done(Option<T>),
    /// It goes on beside the session.
    UnderWay(JoinHandle<T>),
}

impl<T: Send + 'static> Task<T> {
    /// Starts work.
    pub(super) fn start(work: impl Future<Output = T> + Send + 'static) -> Self {
        let mut work = Box::pin(work);
        match work.as_mut().now_or_never() {
            Some(outcome) => Self::Done(Some(outcome)),
            None => Self::UnderWay(tokio::spawn(work)),
        }
    }

    /// What came of it; `None` where it did not survive.
    pub(super) async fn join(&mut self) -> Option<T> {
        match self {
            Self::Done(outcome) => outcome.take(),
            Self::UnderWay(handle) => handle.await.ok(),
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Self::UnderWay(handle) = self {
            handle.abort();
        }
    }
}
