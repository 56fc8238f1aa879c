//! The state of the clock as all of the process sees it: cheap to look at, changed in one place.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};

use super::{
    Now,
    trust::{self, Change, Signed, State, Trust},
};

/// Shared by those who judge by the clock, and the one who watches it.
#[derive(Debug)]
pub struct Gate {
    trust: Mutex<Trust>,
    /// Copies of the machine's state, for those who may not wait.
    offset_s: AtomicI64,
    is_cold: AtomicBool,
    passed_unix_s: AtomicU64,
    /// Dates of certificates are tolerated whatever the state is.
    is_lenient: bool,
    /// Something looked as if the clock were wrong.
    is_doubted: AtomicBool,
}

/// A machine may lie on a shelf for so long, seconds; a clock beyond that is believed only when it
/// is confirmed.
const DARING_S: u64 = 2 * 365 * 86_400;

/// The clock's state for people and programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: State,
    /// For how many seconds it has been so.
    pub for_s: u32,
    /// What the clock shows, in seconds since 1970.
    pub shows_unix_s: u64,
    /// The latest time that has passed for sure, in seconds since 1970.
    pub passed_unix_s: u64,
}

impl Gate {
    /// A gate in the state that `trust` is in.
    #[must_use]
    pub fn new(trust: Trust) -> Self {
        Self::with(trust, false)
    }

    /// A gate for finding out the time: a connection made under it tolerates the date of a
    /// certificate that may be good at or after `passed_unix_s`. What comes over it must prove
    /// itself.
    #[must_use]
    pub fn lenient(passed_unix_s: u64, now: &Now) -> Self {
        Self::with(Trust::new(passed_unix_s, None, now), true)
    }

    fn with(trust: Trust, is_lenient: bool) -> Self {
        let gate = Self {
            offset_s: AtomicI64::default(),
            is_cold: AtomicBool::default(),
            passed_unix_s: AtomicU64::default(),
            is_lenient,
            is_doubted: AtomicBool::default(),
            trust: Mutex::new(trust),
        };
        gate.publish(&gate.lock(), None);
        gate
    }

    /// Whether the clock cannot be right.
    #[must_use]
    pub fn is_cold(&self) -> bool {
        self.is_cold.load(Ordering::Acquire)
    }

    /// Whether a certificate's date is to be tolerated; if so, it must be good at some time from
    /// the one returned on, in seconds since 1970.
    #[must_use]
    pub fn tolerates_dates_from(&self) -> Option<u64> {
        (self.is_lenient || self.is_cold()).then(|| self.passed_unix_s.load(Ordering::Acquire))
    }

    /// Says that something looked as if the clock were wrong.
    pub fn doubt(&self) {
        self.is_doubted.store(true, Ordering::Relaxed);
    }

    /// Whether the clock is doubted.
    #[must_use]
    pub fn is_doubted(&self) -> bool {
        self.is_doubted.load(Ordering::Relaxed)
    }

    /// Whether the clock was doubted since this was asked last.
    #[must_use]
    pub fn take_doubt(&self) -> bool {
        self.is_doubted.swap(false, Ordering::Relaxed)
    }

    /// Compares a reading with the one before: two loads unless the clock was set. A change is
    /// returned to one caller, who sees to what follows.
    #[must_use]
    pub fn look(&self, now: &Now) -> Option<Change> {
        let offset_s = self.offset_s.load(Ordering::Relaxed);
        if !trust::is_step(trust::offset_s(now).saturating_sub(offset_s)) {
            return None;
        }
        let mut trust = self.lock();
        let change = trust.look(now);
        self.publish(&trust, change);
        change
    }

    /// Takes the root's signatures, fetched just now. A change is to be seen to by the caller.
    #[must_use]
    pub fn root_signed(&self, signed: Signed, now: &Now) -> Option<Change> {
        let mut trust = self.lock();
        let change = trust.root_signed(signed, now);
        self.publish(&trust, change);
        change
    }

    /// The clock's state.
    #[must_use]
    pub fn status(&self, now: &Now) -> Status {
        let trust = self.lock();
        Status {
            state: trust.state(),
            for_s: now.uptime_s.saturating_sub(trust.since_uptime_s()),
            shows_unix_s: now.unix_s,
            passed_unix_s: trust.passed_unix_s(now),
        }
    }

    /// Whether the clock shows a time far from any that is known, and nobody confirmed it: what is
    /// lost by believing it should be kept.
    #[must_use]
    pub fn is_daring(&self, now: &Now) -> bool {
        let status = self.status(now);
        status.state != State::Synced && now.unix_s > status.passed_unix_s.saturating_add(DARING_S)
    }

    fn publish(&self, trust: &Trust, change: Option<Change>) {
        self.offset_s.store(trust.offset_s(), Ordering::Relaxed);
        self.passed_unix_s
            .store(trust.latest_unix_s(), Ordering::Release);
        self.is_cold
            .store(trust.state().is_cold(), Ordering::Release);
        if change.is_some_and(|change| change.stepped_s != 0) {
            // The new time is yet to be proved.
            self.doubt();
        }
    }

    /// A panic while it was locked leaves it whole: every step of the machine is total.
    fn lock(&self) -> MutexGuard<'_, Trust> {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
