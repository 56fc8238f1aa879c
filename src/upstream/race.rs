//! A few futures of one kind, polled together, the first that ends handed out first.
//!
//! Nothing is spawned: dropping the race withdraws all of them. There are never more than a
//! handful, so polling all of them on each wake-up is cheaper than tracking who woke.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use tokio::time::sleep;

pub(super) struct Race<'a, T> {
    /// Nearly always the only one, so no list is made for it.
    first: Option<Runner<'a, T>>,
    others: Vec<Runner<'a, T>>,
}

type Runner<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl<'a, T> Race<'a, T> {
    pub(super) const fn new() -> Self {
        Self {
            first: None,
            others: Vec::new(),
        }
    }

    /// Adds a runner; it is polled when [`Race::next`] is.
    pub(super) fn start(&mut self, runner: impl Future<Output = T> + Send + 'a) {
        if self.is_empty() {
            self.first = Some(Box::pin(runner));
        } else {
            self.others.push(Box::pin(runner));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.others.is_empty()
    }

    /// Waits for the next runner that ends; `None` at once when none is running. Dropping the
    /// returned future loses nothing.
    pub(super) async fn next(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        poll_fn(|context| {
            if let Some(runner) = &mut self.first
                && let Poll::Ready(output) = runner.as_mut().poll(context)
            {
                self.first = None;
                return Poll::Ready(Some(output));
            }
            for (at, runner) in self.others.iter_mut().enumerate() {
                if let Poll::Ready(output) = runner.as_mut().poll(context) {
                    drop(self.others.swap_remove(at));
                    return Poll::Ready(Some(output));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Tries `candidates` in order: the next starts when the one before failed, or has taken
/// `stagger` without a result (RFC 8305, section 5). The first success wins and ends the others;
/// when all fail the error of the first is given back, because it is the one people configured
/// first. `None` when there are no candidates.
pub(super) async fn staggered<'a, C, T, E, R>(
    candidates: impl IntoIterator<Item = C>,
    stagger: Duration,
    runner: impl Fn(C) -> R,
) -> Option<Result<T, E>>
where
    R: Future<Output = Result<T, E>> + Send + 'a,
{
    let mut candidates = candidates.into_iter();
    let mut race = Race::new();
    let mut first_error = None;
    race.start(runner(candidates.next()?));
    let mut more = true;
    loop {
        let start_next = tokio::select! {
            Some(outcome) = race.next() => match outcome {
                Ok(value) => return Some(Ok(value)),
                Err(error) => {
                    first_error.get_or_insert(error);
                    true
                }
            },
            () = sleep(stagger), if more => true,
            else => return first_error.map(Err),
        };
        if start_next && more {
            match candidates.next() {
                Some(candidate) => race.start(runner(candidate)),
                None => more = false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::Mutex};

    use super::*;

    #[tokio::test]
    async fn a_failure_starts_the_next_at_once() {
        let started = Mutex::new(Vec::new());
        let outcome = staggered([1, 2, 3], Duration::from_secs(3600), |candidate| {
            started.lock().unwrap().push(candidate);
            async move {
                if candidate == 3 {
                    Ok(candidate)
                } else {
                    Err(candidate)
                }
            }
        })
        .await;
        assert_eq!(outcome, Some(Ok(3)));
        assert_eq!(*started.lock().unwrap(), [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_silent_candidate_does_not_hold_up_the_next() {
        let outcome = staggered([1, 2], Duration::from_millis(1), |candidate| async move {
            if candidate == 1 {
                pending::<()>().await;
            }
            Ok::<_, ()>(candidate)
        })
        .await;
        assert_eq!(outcome, Some(Ok(2)));
    }

    #[tokio::test]
    async fn when_all_fail_the_first_error_is_told() {
        let outcome = staggered([7, 8], Duration::from_secs(3600), |candidate| async move {
            Err::<(), _>(candidate)
        })
        .await;
        assert_eq!(outcome, Some(Err(7)));
    }
}
