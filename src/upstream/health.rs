//! Whether an upstream is up, as far as the last exchanges tell.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::error::Failure;

/// How long an upstream that just failed is tried last.
const PENALTY_MIN: Duration = Duration::from_secs(2);
/// The longest an upstream is tried last; each failure after a penalty doubles it.
const PENALTY_MAX: Duration = Duration::from_secs(60);

/// The health of one upstream, shared by all workers, so that a change is logged once.
#[derive(Debug)]
pub(super) struct Health {
    name: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Set while the upstream is down: until when it is tried last, and how long that was.
    down: Option<(Instant, Duration)>,
}

impl Health {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: Mutex::default(),
        }
    }

    /// Whether the upstream is to be tried after the others.
    pub(super) fn is_penalised(&self, now: Instant) -> bool {
        self.lock().down.is_some_and(|(until, _)| now < until)
    }

    /// An exchange succeeded.
    pub(super) fn succeeded(&self) {
        if self.lock().down.take().is_some() {
            tracing::info!(upstream = self.name, "upstream is up again");
        }
    }

    /// An exchange failed. Failures within a penalty change nothing: they are of the same outage.
    pub(super) fn failed(&self, now: Instant, failure: &Failure) {
        if !failure.is_of_upstream() {
            return;
        }
        let mut state = self.lock();
        match state.down {
            None => {
                state.down = Some((now + PENALTY_MIN, PENALTY_MIN));
                drop(state);
                tracing::warn!(upstream = self.name, reason = %failure, "upstream is down");
            }
            Some((until, penalty)) if now >= until => {
                let penalty = (penalty * 2).min(PENALTY_MAX);
                state.down = Some((now + penalty, penalty));
            }
            Some(_) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn penalties_double_up_to_a_minute_and_end_with_a_success() {
        let health = Health::new("test");
        let mut now = clock::instant();
        assert!(!health.is_penalised(now));
        for expected_s in [2, 4, 8, 16, 32, 60, 60] {
            health.failed(now, &Failure::Silent);
            // More failures in the same outage do not lengthen it.
            health.failed(now, &Failure::Silent);
            let expected = Duration::from_secs(expected_s);
            assert!(health.is_penalised(now + expected.mul_f64(0.999)));
            assert!(!health.is_penalised(now + expected));
            now += expected;
        }
        health.succeeded();
        health.failed(now, &Failure::Silent);
        assert!(!health.is_penalised(now + Duration::from_secs(2)));
    }

    #[test]
    fn our_own_full_queue_is_not_held_against_the_upstream() {
        let health = Health::new("test");
        health.failed(clock::instant(), &Failure::Busy);
        assert!(!health.is_penalised(clock::instant()));
    }
}
