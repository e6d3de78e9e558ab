//! The client's name, verified beside its first message.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{context::Context, record::Timings, task::Task};
use crate::{auth::iprev, internal_error::InternalError};

/// How far the verification of the client's name is.
#[derive(Debug)]
pub(super) enum Iprev {
    NotBegun,
    UnderWay(Task<(iprev::Outcome, Duration)>),
    Done(iprev::Outcome),
}

impl Iprev {
    /// Begins the verification of a client that is known, if it is wanted, once in a session; again
    /// if it panicked.
    pub(super) fn begin(&mut self, context: &Context) {
        let is_due = match self {
            Self::NotBegun => true,
            Self::UnderWay(task) => task.is_over(),
            Self::Done(_) => false,
        };
        if context.config().verify_iprev
            && is_due
            && let Some(client) = context.known_client()
        {
            let (dns, limit) = (context.dns.clone(), context.timeout());
            *self = Self::UnderWay(Task::start(async move {
                let begin = Instant::now();
                let outcome = timeout(limit, iprev::verify(&dns, client)).await;
                let outcome = outcome.unwrap_or_else(|_| iprev::Outcome::out_of_time(client));
                (outcome, begin.elapsed())
            }));
        }
    }

    /// Waits for the outcome; `None` where the name is not verified.
    ///
    /// # Errors
    ///
    /// As those of [`Task::join`].
    pub(super) async fn join(
        &mut self,
        timings: &mut Timings,
    ) -> Result<Option<iprev::Outcome>, InternalError> {
        if let Self::UnderWay(task) = self {
            let (outcome, took) = task.join().await?;
            timings.iprev = Some(took);
            *self = Self::Done(outcome);
        }
        Ok(match self {
            Self::Done(outcome) => Some(outcome.clone()),
            Self::NotBegun | Self::UnderWay(_) => None,
        })
    }
}
