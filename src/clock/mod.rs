//! Time, read in one place.
//!
//! One step has one [`Now`] (arrival, validation, reply): it is read at its beginning and handed
//! down, so that all of the step agrees on the time and the pure rooms are deterministic under test. Monotonic
//! time ends waits, uptime ages cache entries; wall time only judges signatures and certificates.
//!
//! A wall clock may be wrong: [`Trust`] says how far it can be trusted, [`Gate`] tells all of the
//! process.

mod gate;
mod trust;

pub use gate::{Gate, Status};
pub use trust::{Cause, Change, STEP_S, Signed, State, TOLERANCE_S, Trust};

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The release's day, 2026-11-20. Raise it with each release.
const RELEASED_UNIX_S: u64 = 1_795_132_800;

/// A moment in the past of every machine this version runs on, in seconds since 1970: the time of
/// the build as `SOURCE_DATE_EPOCH` gives it, which reproducible builds set, but not before the
/// release. A clock that shows less is wrong.
pub const FLOOR_UNIX_S: u64 = match option_env!("SOURCE_DATE_EPOCH") {
    Some(text) => later(RELEASED_UNIX_S, number(text)),
    None => RELEASED_UNIX_S,
};

const fn later(one: u64, other: u64) -> u64 {
    if one < other { other } else { one }
}

/// The decimal number a text is; 0 when it is none.
const fn number(text: &str) -> u64 {
    match u64::from_str_radix(text, 10) {
        Ok(number) => number,
        Err(_) => 0,
    }
}

/// One reading of all clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub instant: Instant,
    /// Wall time in seconds since 1970-01-01T00:00:00Z.
    pub unix_s: u64,
    /// Seconds since the machine booted, sleep included: how cache entries store their times, four
    /// octets each. The monotonic clock stands still while a laptop sleeps, and TTLs do not.
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

/// Seconds since the machine booted, sleep included.
fn uptime_s() -> u32 {
    u32::try_from(clock_gettime(ClockId::Boottime).tv_sec).unwrap_or(0)
}
