//! Polls that are left out where they could only be in vain.

use std::task::{Context, Poll, Waker};

use tokio::task::coop::has_budget_remaining;

/// Whom a future has woken when it is ready: a future keeps the waker that it was polled with, so
/// that a task that nobody has woken need not ask it again.
#[derive(Debug, Default)]
pub(super) struct Armed {
    waker: Option<Waker>,
}

impl Armed {
    /// Polls a future, unless it is not ready for sure: it was pending before for the same task, and
    /// nothing says that it `may_be_ready`, such as that the task was woken.
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        may_be_ready: bool,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let is_armed = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_armed && !may_be_ready {
            return Poll::Pending;
        }
        let polled = poll(cx);
        // One of tokio that is pending for what the task has done already keeps no waker.
        if polled.is_ready() || !has_budget_remaining() {
            self.waker = None;
        } else if !is_armed {
            self.waker = Some(cx.waker().clone());
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::Arc, task::Wake, time::Duration};

    use futures_util::poll;
    use tokio::{task::coop::consume_budget, time::sleep};

    use super::*;

    struct Task(#[allow(dead_code, reason = "tasks without content are not told apart")] u8);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn a_future_is_asked_once_by_each_task() {
        let [one, other] = [1, 2].map(|number| Waker::from(Arc::new(Task(number))));
        let mut armed = Armed::default();
        for (waker, may_be_ready, is_ready, is_asked) in [
            (&one, false, false, true),
            (&one, false, false, false),
            (&one, true, false, true),
            (&one, false, false, false),
            (&other, false, false, true),
            (&other, false, false, false),
            (&one, false, false, true),
            (&one, true, true, true),
            // It is another one, or begins anew.
            (&one, false, false, true),
            (&one, false, false, false),
        ] {
            let mut asked = false;
            let polled = armed.poll(&mut Context::from_waker(waker), may_be_ready, |cx| {
                assert!(cx.waker().will_wake(waker));
                asked = true;
                if is_ready { Poll::Ready(()) } else { Poll::Pending }
            });
            assert_eq!((asked, polled.is_ready()), (is_asked, is_ready));
        }
    }

    /// A task that has done much is told to wait by futures that did not look, and did not keep its
    /// waker.
    #[tokio::test(start_paused = true)]
    async fn a_task_that_has_no_budget_is_not_armed() {
        for has_budget in [true, false] {
            tokio::task::yield_now().await;
            let mut timer = std::pin::pin!(sleep(Duration::from_secs(1)));
            let mut armed = Armed::default();
            while !has_budget && has_budget_remaining() {
                assert!(poll!(std::pin::pin!(consume_budget())).is_ready());
            }
            let polled =
                poll_fn(|cx| Poll::Ready(armed.poll(cx, false, |cx| timer.as_mut().poll(cx))));
            assert!(polled.await.is_pending());
            assert_eq!(armed.waker.is_some(), has_budget);
        }
    }
}
