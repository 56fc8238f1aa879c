//! Time, read in one place.
//!
//! One step has one [`Now`] (arrival, validation, reply): it is read at its beginning and handed
//! down, so that all of the step agrees on the time and the pure rooms are deterministic under test. Monotonic
//! time ends waits, uptime ages cache entries; wall time only judges signatures and certificates.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// What [`Now::uptime_s`] is at boot: not 0, so that answers stored before this boot, which come
/// from a file, have a time too. 34 years before, and a hundred after.
pub const UPTIME_AT_BOOT_S: u32 = 1 << 30;

/// One reading of all clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub instant: Instant,
    /// Wall time in seconds since 1970-01-01T00:00:00Z.
    pub unix_s: u64,
    /// Seconds since the machine booted, sleep included, and [`UPTIME_AT_BOOT_S`]: how cache entries
    /// store their times, four octets each. The monotonic clock stands still while a laptop sleeps,
    /// and TTLs do not.
    pub uptime_s: u32,
}

impl Now {
    /// Reads the clocks.
    #[must_use]
    pub fn read() -> Self {
        Self {
            instant: instant(),
            unix_s: unix_s(),
            uptime_s: uptime_s(),
        }
    }

    /// The same reading, `by` later on all clocks.
    #[must_use]
    pub fn plus(&self, by: Duration) -> Self {
        Self {
            instant: self.instant + by,
            unix_s: self.unix_s.saturating_add(by.as_secs()),
            uptime_s: u32::try_from(by.as_secs())
                .map_or(u32::MAX, |by_s| self.uptime_s.saturating_add(by_s)),
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

/// See [`Now::uptime_s`].
fn uptime_s() -> u32 {
    let since_boot = clock_gettime(ClockId::Boottime).tv_sec;
    UPTIME_AT_BOOT_S.saturating_add(u32::try_from(since_boot).unwrap_or(0))
}
