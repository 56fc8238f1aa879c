//! Time, read in one place.
//!
//! One query has one [`Now`]: it is read when the query arrives and handed down, so that every
//! step of one walk agrees on the time and the pure rooms are deterministic under test. Monotonic
//! time ages cache entries and ends waits; wall time only judges signatures and certificates.

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub instant: Instant,
    /// Wall time in seconds since 1970-01-01T00:00:00Z.
    pub unix_s: u64,
}

impl Now {
    /// Reads both clocks.
    #[must_use]
    pub fn read() -> Self {
        Self {
            instant: instant(),
            unix_s: unix_s(),
        }
    }

    /// Whole seconds of monotonic time since the process first asked, which is how cache entries
    /// store their times: four octets each, good for 136 years of uptime.
    #[must_use]
    pub fn uptime_s(&self) -> u32 {
        let start = start();
        let seconds = self.instant.saturating_duration_since(start).as_secs();
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }

    /// The same reading, `by` later on both clocks.
    #[must_use]
    pub fn plus(&self, by: Duration) -> Self {
        Self {
            instant: self.instant + by,
            unix_s: self.unix_s.saturating_add(by.as_secs()),
        }
    }
}

/// Reads the monotonic clock.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the one place that reads it")]
pub fn instant() -> Instant {
    Instant::now()
}

/// Reads the wall clock, in seconds since 1970. A clock before 1970 reads as 0.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the one place that reads it")]
pub fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The origin of [`Now::uptime_s`]: an hour before the first reading, so that an entry can be
/// older than the process when a test or a stored cache says so.
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(|| {
        let now = instant();
        now.checked_sub(Duration::from_hours(1)).unwrap_or(now)
    })
}
