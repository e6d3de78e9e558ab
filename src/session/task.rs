//! Work that goes on while a session waits for the MTA.

use std::{
    fmt,
    pin::Pin,
    sync::{Mutex, PoisonError},
};

use futures_util::FutureExt as _;
use tokio::task::{JoinError, JoinHandle};

use crate::internal_error::InternalError;

/// Work under way. Dropping it ends it.
#[derive(Debug)]
pub(super) enum Task<T> {
    /// It goes on beside the session.
    UnderWay(Handle<T>),
    /// It goes on while it is waited for.
    Held(Held<T>),
    /// It is done, as look-ups that the cache answers are as soon as they are begun.
    Done(T),
    /// Its outcome was taken, or there is none.
    Over,
}

impl<T: Send + 'static> Task<T> {
    /// Starts work.
    pub(super) fn start(work: impl Future<Output = T> + Send + 'static) -> Self {
        let mut work = Box::pin(work);
        match work.as_mut().now_or_never() {
            Some(outcome) => Self::Done(outcome),
            None => Self::UnderWay(Handle(tokio::spawn(work))),
        }
    }

    /// Holds work for the time when it is waited for.
    pub(super) fn hold(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self::Held(Held(Mutex::new(Box::pin(work))))
    }

    /// Waits until the work is done, and keeps its outcome; nothing is lost where the waiting is
    /// given up. A panic in the work goes on here, where the adapter takes it for a failure of the
    /// message.
    ///
    /// # Errors
    ///
    /// The outcome was taken before, the work panicked before, or the runtime is about to end.
    pub(super) async fn wait(&mut self) -> Result<(), InternalError> {
        let outcome = match self {
            Self::UnderWay(handle) => (&mut handle.0).await,
            Self::Held(work) => {
                Ok(work.0.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().await)
            }
            Self::Done(_) => return Ok(()),
            Self::Over => return Err(taken()),
        };
        *self = Self::Over;
        *self = Self::Done(outcome.map_err(interrupted)?);
        Ok(())
    }

    /// Waits for the outcome, and takes it.
    ///
    /// # Errors
    ///
    /// As those of [`Self::wait`].
    pub(super) async fn join(&mut self) -> Result<T, InternalError> {
        self.wait().await?;
        self.take().ok_or_else(taken)
    }

    /// Whether there is no outcome to wait for: it was taken, or the work panicked.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }

    /// Takes the outcome, if the work is done by now; a failure of it is not an outcome.
    pub(super) fn take(&mut self) -> Option<T> {
        if let Self::UnderWay(handle) = self {
            let handle = &mut handle.0;
            let joined = handle.is_finished().then(|| handle.now_or_never()).flatten()?;
            *self = joined.map_or(Self::Over, Self::Done);
        }
        if !matches!(self, Self::Done(_)) {
            return None;
        }
        match std::mem::replace(self, Self::Over) {
            Self::Done(outcome) => Some(outcome),
            Self::UnderWay(_) | Self::Held(_) | Self::Over => None,
        }
    }
}

#[cfg(test)]
impl<T: Send + 'static> Task<T> {
    /// Work that panics when it has been waited for.
    pub(super) fn panicking() -> Self {
        Self::start(async {
            tokio::task::yield_now().await;
            panic!("provoked")
        })
    }
}

fn taken() -> InternalError {
    InternalError::new("the outcome of work beside the session was taken before")
}

fn interrupted(error: JoinError) -> InternalError {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => InternalError::new("work beside the session did not come to an end"),
    }
}

/// A task of the runtime, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Handle<T>(JoinHandle<T>);

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Work that is done only while it is waited for. The mutex is never locked: it makes a session
/// that holds such work `Sync`.
pub(super) struct Held<T>(Mutex<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T> fmt::Debug for Held<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}
