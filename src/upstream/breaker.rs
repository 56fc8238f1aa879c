//! The circuit breaker of one upstream. Sans I/O: time and chance are arguments.
//!
//! ```text
//!            late, nothing heard                 not heard either,
//!            ┌───────────────► suspected ─────── or a definite error ──┐
//!  closed ───┤                  (probed at once)                       ▼
//!     ▲      └──────────── a definite error ───────────────────────► open (probed with back-off)
//!     └──────────────────── a good answer ◄───────────────────────────┘
//! ```
//!
//! Clients are not sent to try whether an upstream is back: probes of our own do that.

use std::time::{Duration, Instant};

/// The time from the opening, or from a probe, to the next probe.
const PROBE_WAIT_MIN: Duration = Duration::from_secs(1);
/// The longest time between probes. They are made only while there are questions to put.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(10);
/// The wait grows to this part of the outage so far: an upstream that is back is found after a
/// fraction of the time for which it was away.
const PROBE_WAIT_PART: u32 = 4;

/// In such a time several probes have failed.
const LONG: Duration = Duration::from_secs(6);

/// Whether an upstream is asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Breaker(State);

#[derive(Clone, Debug, Default)]
enum State {
    /// As far as we know the upstream is up.
    #[default]
    Closed,
    /// An answer is late and nothing was heard, or the network is another one: others are asked
    /// until the probe tells.
    Suspected {
        /// Connections are likely to be made afresh, so the probe needs more time.
        afresh: bool,
    },
    /// The upstream is down since `opened`. The last evidence came at `seen`; the next probe is due
    /// `wait` later.
    Open {
        opened: Instant,
        seen: Instant,
        wait: Duration,
    },
}

impl Breaker {
    /// Whether the upstream is known to be down.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.0, State::Open { .. })
    }

    /// Whether a probe is to find out what the upstream is.
    pub(super) const fn is_suspected(&self) -> bool {
        matches!(self.0, State::Suspected { .. })
    }

    /// Whether a probe must not be expected to be as quick as answers usually are.
    pub(super) const fn begins_afresh(&self) -> bool {
        matches!(
            self.0,
            State::Open { .. } | State::Suspected { afresh: true }
        )
    }

    /// A good answer came; true when the upstream was known to be down.
    pub(super) fn succeeded(&mut self) -> bool {
        let was_open = self.is_open();
        self.0 = State::Closed;
        was_open
    }

    /// An answer is later than nearly all others and nothing was heard; true when that is news.
    pub(super) const fn late(&mut self) -> bool {
        let is_news = matches!(self.0, State::Closed);
        if is_news {
            self.0 = State::Suspected { afresh: false };
        }
        is_news
    }

    /// Evidence that the upstream is down; true when that is news. `chance` is any number, it
    /// spreads the probes of many machines.
    pub(super) fn failed(&mut self, now: Instant, chance: u32) -> bool {
        let is_news = !self.is_open();
        if is_news {
            self.0 = State::Open {
                opened: now,
                seen: now,
                wait: jittered(PROBE_WAIT_MIN, chance),
            };
        }
        is_news
    }

    /// A probe that `began` then failed: true when that is the news that the upstream is down.
    pub(super) fn probe_failed(&mut self, began: Instant, chance: u32) -> bool {
        match &mut self.0 {
            State::Closed => false,
            State::Suspected { .. } => self.failed(began, chance),
            State::Open { opened, seen, wait } => {
                *seen = began;
                let part = began.saturating_duration_since(*opened) / PROBE_WAIT_PART;
                *wait = jittered(part.clamp(PROBE_WAIT_MIN, PROBE_WAIT_MAX), chance);
                false
            }
        }
    }

    /// The network is another one: what is down is only suspected to be, and probed at once.
    pub(super) const fn retry(&mut self) {
        if matches!(self.0, State::Open { .. }) {
            self.0 = State::Suspected { afresh: true };
        }
    }

    /// Whether so many probes failed that there is no telling from them any more.
    pub(super) fn is_open_for_long(&self) -> bool {
        matches!(self.0, State::Open { opened, seen, .. }
            if seen.saturating_duration_since(opened) > LONG)
    }

    /// When a probe is due; `None` while the upstream is up. When there is `nobody_else` to ask,
    /// the wait does not grow: the first to come back is used at once.
    pub(super) fn probe_at(&self, now: Instant, nobody_else: bool) -> Option<Instant> {
        match self.0 {
            State::Closed => None,
            State::Suspected { .. } => Some(now),
            State::Open { seen, wait, .. } if nobody_else => Some(seen + wait.min(PROBE_WAIT_MIN)),
            State::Open { seen, wait, .. } => Some(seen + wait),
        }
    }
}

/// `wait`, up to a quarter shorter or longer.
fn jittered(wait: Duration, chance: u32) -> Duration {
    wait.mul_f64(0.75 + 0.5 * f64::from(chance) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const HALF: u32 = u32::MAX / 2;
    const SECOND: Duration = Duration::from_secs(1);

    fn wait_s(breaker: &Breaker, now: Instant) -> f64 {
        (breaker.probe_at(now, false).unwrap() - now).as_secs_f64()
    }

    #[test]
    fn probes_of_what_is_down_come_less_often_the_longer_it_is_down() {
        let mut now = clock::instant();
        let mut breaker = Breaker::default();
        assert_eq!(breaker.probe_at(now, false), None);
        assert!(breaker.failed(now, HALF));
        let opened = now;
        for _ in 0..40 {
            let down_s = (now - opened).as_secs_f64();
            let expected_s = (down_s / 4.0).clamp(1.0, 10.0);
            // More failures in the same outage put nothing off.
            assert!(!breaker.failed(now, HALF));
            let wait_s = wait_s(&breaker, now);
            assert!((wait_s - expected_s).abs() < 0.01 * expected_s, "{wait_s}");
            assert!(breaker.probe_at(now, true).unwrap() <= now + SECOND);
            now = breaker.probe_at(now, false).unwrap();
            assert!(!breaker.probe_failed(now, HALF));
            assert_eq!(breaker.is_open_for_long(), now - opened > LONG);
        }
        assert!(now - opened > SECOND * 100);
        assert!(breaker.succeeded());
        assert!(!breaker.is_open());
        assert!(!breaker.succeeded());
    }

    #[test]
    fn chance_spreads_the_probes() {
        let now = clock::instant();
        let first = |chance| {
            let mut breaker = Breaker::default();
            breaker.failed(now, chance);
            wait_s(&breaker, now)
        };
        assert!(first(0) < 0.76 && first(u32::MAX) > 1.24);
    }

    #[test]
    fn suspicion_is_probed_at_once_and_ends_either_way() {
        let now = clock::instant();
        let mut breaker = Breaker::default();
        assert!(breaker.late());
        assert!(!breaker.late(), "it is no news any more");
        assert!(breaker.is_suspected() && !breaker.is_open() && !breaker.begins_afresh());
        assert_eq!(breaker.probe_at(now, false), Some(now));
        assert!(!breaker.succeeded());
        assert_eq!(breaker.probe_at(now, false), None);
        breaker.late();
        assert!(breaker.probe_failed(now, HALF));
        assert!(breaker.is_open());
        assert!(!breaker.late(), "what is down is not late");
        assert!(breaker.is_open());
    }

    #[test]
    fn another_network_gives_everybody_another_chance() {
        let now = clock::instant();
        let mut breaker = Breaker::default();
        breaker.retry();
        assert_eq!(breaker.probe_at(now, false), None);
        breaker.failed(now, HALF);
        assert!(breaker.begins_afresh());
        breaker.retry();
        assert!(!breaker.is_open() && breaker.begins_afresh());
        assert_eq!(breaker.probe_at(now, false), Some(now));
    }
}
