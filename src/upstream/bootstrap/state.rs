//! What is known of one host name over time, sans I/O: when it is to be looked up, and what is used
//! meanwhile.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::Outcome;
use crate::{clock::Now, upstream::error::Failure};

/// Addresses are used for a minute at least: names of balanced services have TTLs of seconds, and
/// connections outlive them anyway.
pub(super) const LIFE_MIN_S: u32 = 60;
/// Addresses are looked up again after a day at the latest, whatever their TTL says.
pub(super) const LIFE_MAX_S: u32 = 86_400;
/// When so many percent of its life are over, whoever wants an address has it looked up again
/// behind.
const REFRESH_AT_PERCENT: u32 = 80;
/// The pause after a look-up that failed; each that follows doubles it ...
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// ... up to this, which is the longest that an upstream is missed after the network came back.
const PAUSE_MAX: Duration = Duration::from_secs(16);

/// What is known of one host, and when it is to be looked up.
#[derive(Default)]
pub(super) struct State {
    known: Option<Known>,
    /// The look-up that is under way.
    pub(super) running: Option<watch::Receiver<Outcome>>,
    /// Whether a client asked for the host meanwhile.
    pub(super) came_back: bool,
    /// Look-ups that failed since the last that did not.
    failures: u32,
    /// The last failure, and when the pause after it ends.
    pub(super) failure: Option<Failure>,
    pause_until: Option<Instant>,
    /// When the network was seen to be another one.
    pub(super) network_since: Option<Instant>,
}

struct Known {
    addresses: Vec<SocketAddr>,
    found_at_s: u32,
    life_s: u32,
}

/// What one who wants addresses has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// Use what is known; when nothing is, fail as the last look-up did.
    Nothing,
    /// Have the host looked up, and use what is known meanwhile.
    Refresh,
    /// Wait for a look-up.
    Answer,
}

/// In how many steps chance lengthens a pause.
pub(super) const JITTER_STEPS: u32 = 1_000;

impl State {
    pub(super) fn known(&self) -> &[SocketAddr] {
        self.known.as_ref().map_or(&[], |known| &known.addresses)
    }

    pub(super) fn want(&self, now: &Now) -> Want {
        let age_percent = self.known.as_ref().map(|known| {
            let age_s = u64::from(now.uptime_s.saturating_sub(known.found_at_s));
            age_s * 100 / u64::from(known.life_s.max(1))
        });
        let is_pausing = self.pause_until.is_some_and(|until| now.instant < until);
        match age_percent {
            Some(percent) if percent < u64::from(REFRESH_AT_PERCENT) => Want::Nothing,
            _ if is_pausing && self.running.is_none() => Want::Nothing,
            Some(percent) if percent < 100 => Want::Refresh,
            _ => Want::Answer,
        }
    }

    /// Notes what was found; whether that is news.
    pub(super) fn found(&mut self, addresses: &[SocketAddr], ttl_s: u32, now: &Now) -> bool {
        let same = |known: &Known| {
            known.addresses.len() == addresses.len()
                && addresses
                    .iter()
                    .all(|address| known.addresses.contains(address))
        };
        let changed = !self.known.as_ref().is_some_and(same);
        self.known = Some(Known {
            addresses: addresses.to_vec(),
            found_at_s: now.uptime_s,
            life_s: ttl_s.clamp(LIFE_MIN_S, LIFE_MAX_S),
        });
        self.end_pause();
        self.failure = None;
        changed
    }

    /// Nobody answers at what is known. It may have moved, so it is not used for longer than it must
    /// be before it is looked up again.
    pub(super) fn doubt(&mut self, now: &Now) {
        if let Some(known) = &mut self.known {
            let age_s = now.uptime_s.saturating_sub(known.found_at_s);
            known.life_s = known.life_s.min(age_s.max(LIFE_MIN_S));
        }
    }

    /// The next who asks may have the host looked up.
    pub(super) fn end_pause(&mut self) {
        self.failures = 0;
        self.pause_until = None;
    }

    /// Notes a failure. The pause is up to half as long again, by `chance` of [`JITTER_STEPS`], so
    /// that hosts which failed together are not asked for together.
    pub(super) fn failed(&mut self, failure: Failure, now: &Now, chance: u32) {
        let pause = 2_u32
            .checked_pow(self.failures)
            .map_or(PAUSE_MAX, |factor| PAUSE_MIN.saturating_mul(factor))
            .min(PAUSE_MAX);
        let jitter = pause.saturating_mul(chance) / (2 * JITTER_STEPS);
        self.failures = self.failures.saturating_add(1);
        self.failure = Some(failure);
        self.pause_until = Some(now.instant + pause + jitter);
    }
}

#[cfg(test)]
impl State {
    /// Makes what is known as old as can be, and ends pauses.
    pub(super) fn expire(&mut self) {
        self.end_pause();
        if let Some(known) = &mut self.known {
            known.found_at_s = 0;
            known.life_s = 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn failure() -> Failure {
        Failure::LookUp {
            host: "dns.example.".to_owned(),
            reason: Arc::from("test"),
        }
    }

    fn after(now: &Now, seconds: u64) -> Now {
        now.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn addresses_are_refreshed_before_they_end_and_waited_for_afterwards() {
        let now = Now::read();
        let mut state = State::default();
        assert_eq!(state.want(&now), Want::Answer);
        assert!(state.found(&addresses(&["192.0.2.1:853"]), 100, &now));
        for (age_s, want) in [
            (0, Want::Nothing),
            (79, Want::Nothing),
            (80, Want::Refresh),
            (99, Want::Refresh),
            (100, Want::Answer),
            (100_000, Want::Answer),
        ] {
            assert_eq!(state.want(&after(&now, age_s)), want, "{age_s}");
        }
        let later = after(&now, 90);
        assert!(!state.found(&addresses(&["192.0.2.1:853"]), 100, &later));
        assert_eq!(state.want(&after(&now, 120)), Want::Nothing);
        assert!(state.found(&addresses(&["192.0.2.2:853"]), 100, &later));
        assert_eq!(state.known(), addresses(&["192.0.2.2:853"]));
    }

    #[test]
    fn lives_are_bounded() {
        let now = Now::read();
        let mut state = State::default();
        state.found(&addresses(&["192.0.2.1:853"]), 0, &now);
        assert_eq!(state.want(&after(&now, 47)), Want::Nothing);
        assert_eq!(state.want(&after(&now, 48)), Want::Refresh);
        state.found(&addresses(&["192.0.2.1:853"]), u32::MAX, &now);
        assert_eq!(state.want(&after(&now, 86_400)), Want::Answer);
    }

    #[test]
    fn addresses_where_nobody_answers_are_soon_looked_up_again() {
        let now = Now::read();
        let mut state = State::default();
        state.found(&addresses(&["192.0.2.1:853"]), 86_400, &now);
        state.doubt(&after(&now, 5));
        assert_eq!(state.want(&after(&now, 5)), Want::Nothing);
        assert_eq!(state.want(&after(&now, 60)), Want::Answer);
        state.found(&addresses(&["192.0.2.1:853"]), 86_400, &now);
        state.doubt(&after(&now, 3_600));
        assert_eq!(state.want(&after(&now, 3_600)), Want::Answer);
        assert_eq!(state.known(), addresses(&["192.0.2.1:853"]));
    }

    #[test]
    fn old_addresses_outlive_failures_and_pauses_grow_without_end_of_tries() {
        let now = Now::read();
        let mut state = State::default();
        state.found(&addresses(&["192.0.2.1:853"]), 60, &now);
        let mut at = after(&now, 100);
        for pause_s in [1, 2, 4, 8, 16, 16, 16] {
            assert_eq!(state.want(&at), Want::Answer);
            state.failed(failure(), &at, 0);
            assert_eq!(state.want(&at), Want::Nothing);
            assert_eq!(state.known(), addresses(&["192.0.2.1:853"]));
            at = after(&at, pause_s);
        }
        for _ in 0..100 {
            state.failed(failure(), &at, JITTER_STEPS - 1);
        }
        assert_eq!(state.want(&after(&at, 23)), Want::Nothing);
        assert_eq!(state.want(&after(&at, 24)), Want::Answer);
        state.found(&addresses(&["192.0.2.1:853"]), 60, &at);
        assert!(state.failure.is_none() && state.pause_until.is_none());
    }
}
