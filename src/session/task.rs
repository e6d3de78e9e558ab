//! Work that goes on while a session waits for the MTA.

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;

use crate::internal_error::InternalError;

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

    /// What came of it, once; a panic in it goes on here, where the adapter takes it for a failure
    /// of the message.
    ///
    /// # Errors
    ///
    /// It was asked for before, or the runtime is about to end.
    pub(super) async fn join(&mut self) -> Result<T, InternalError> {
        match self {
            Self::Done(outcome) => outcome
                .take()
                .ok_or_else(|| InternalError::new("work beside the session was joined twice")),
            Self::UnderWay(handle) => handle.await.map_err(|error| match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => InternalError::new("work beside the session did not come to an end"),
            }),
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
