//! Whether an upstream is up, as far as the last exchanges tell.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::error::Failure;
use crate::wire::Name;

/// How long an upstream that just failed is tried last.
const PENALTY_MIN: Duration = Duration::from_secs(2);
/// The longest an upstream is tried last; each failure after a penalty doubles it.
const PENALTY_MAX: Duration = Duration::from_secs(60);

/// How long an upstream that leaves DNSSEC records out is tried last.
const INCOMPLETE_FOR: Duration = Duration::from_secs(600);

/// How many names must have timed out, one after the other with no answer between, before a live
/// upstream counts as down. One or two may be slow by themselves, with all who ask below them.
const TIMEOUTS_MAX: usize = 3;

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
    /// Set once the upstream was caught leaving signatures out: until when it is tried last.
    incomplete: Option<Instant>,
    /// Different names that timed out since the last answer, fewer than [`TIMEOUTS_MAX`].
    timed_out: Vec<Name>,
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
        let state = self.lock();
        let down = state.down.is_some_and(|(until, _)| now < until);
        down || state.incomplete.is_some_and(|until| now < until)
    }

    /// Whether it failed and has not answered since.
    pub(super) fn is_down(&self) -> bool {
        self.lock().down.is_some()
    }

    /// An answer lacked signatures or proofs that another upstream gave.
    pub(super) fn incomplete(&self, now: Instant) {
        let before = self.lock().incomplete.replace(now + INCOMPLETE_FOR);
        if before.is_none_or(|until| until <= now) {
            tracing::warn!(
                upstream = self.name,
                "upstream leaves DNSSEC records out; the others are asked first"
            );
        }
    }

    /// An exchange succeeded.
    pub(super) fn succeeded(&self) {
        let mut state = self.lock();
        state.timed_out.clear();
        let was_down = state.down.take().is_some();
        drop(state);
        if was_down {
            tracing::info!(upstream = self.name, "upstream is up again");
        }
    }

    /// An exchange failed. Failures within a penalty change nothing: they are of the same outage.
    pub(super) fn failed(&self, now: Instant, failure: &Failure) {
        if failure.is_of_upstream() {
            self.penalise(now, failure);
        }
    }

    /// A question for `name` had no answer in time, though the upstream was heard from. That is of
    /// the upstream only when it happens with several names in a row.
    pub(super) fn timed_out(&self, now: Instant, name: &Name) {
        let mut state = self.lock();
        if !state.timed_out.contains(name) {
            state.timed_out.push(name.clone());
        }
        if state.timed_out.len() >= TIMEOUTS_MAX {
            state.timed_out.clear();
            drop(state);
            self.penalise(now, &Failure::Timeout);
        }
    }

    fn penalise(&self, now: Instant, failure: &Failure) {
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
    use std::{io, net::Ipv4Addr, sync::Arc};

    use nix::errno::Errno;

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
    fn what_we_lack_ourselves_is_not_held_against_the_upstream() {
        let now = clock::instant();
        let health = Health::new("test");
        health.failed(now, &Failure::Busy);
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS] {
            let source = Arc::new(io::Error::from_raw_os_error(errno as i32));
            health.failed(now, &Failure::Send(Arc::clone(&source)));
            let address = (Ipv4Addr::LOCALHOST, 53).into();
            health.failed(now, &Failure::Connect { address, source });
        }
        assert!(!health.is_penalised(now));
        let refused = Arc::new(io::ErrorKind::ConnectionRefused.into());
        health.failed(now, &Failure::Send(refused));
        assert!(health.is_penalised(now));
    }

    #[test]
    fn slow_names_take_an_upstream_down_only_when_there_are_several_in_a_row() {
        let now = clock::instant();
        let health = Health::new("test");
        let [a, b, c] = ["a.example", "b.example", "c.example"].map(|it| Name::parse(it).unwrap());
        for _ in 0..10 {
            health.timed_out(now, &a);
            health.timed_out(now, &b);
        }
        health.failed(now, &Failure::Timeout);
        health.succeeded();
        health.timed_out(now, &c);
        assert!(!health.is_penalised(now));
        health.timed_out(now, &a);
        health.timed_out(now, &b);
        assert!(health.is_penalised(now));
    }
}
