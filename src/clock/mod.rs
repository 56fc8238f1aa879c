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

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

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

/// How long the machine has slept by `now`, since this was first asked for: by how much the clock
/// that counts sleep went ahead of the one that does not. Constant while the machine is awake.
#[must_use]
pub fn asleep(now: Instant) -> Duration {
    static FIRST: LazyLock<(Instant, Duration)> = LazyLock::new(|| (instant(), since_boot()));
    let (first, first_since_boot) = *FIRST;
    // A pause between two readings looks like sleep; see [`SLEEP_MIN`].
    let awake = now.saturating_duration_since(first);
    since_boot()
        .saturating_sub(first_since_boot)
        .saturating_sub(awake)
}

/// Time since the machine booted, sleep included.
fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// Shorter sleeps are none: connections outlive them, and two clocks are never read at once.
const SLEEP_MIN: Duration = Duration::from_secs(2);

/// Notices that the machine has slept.
#[derive(Debug)]
pub struct SleepWatch {
    /// [`asleep`] in ms as of the last sleep noticed.
    asleep_ms: AtomicU64,
}

impl SleepWatch {
    /// Watches from a time at which the machine has been [`asleep`] for so long.
    #[must_use]
    pub fn new(asleep: Duration) -> Self {
        Self {
            asleep_ms: AtomicU64::new(ms(asleep)),
        }
    }

    /// How long the machine has slept since the last sleep noticed, given how long it has been
    /// [`asleep`] by now. Each sleep is told once.
    pub fn slept(&self, asleep: Duration) -> Option<Duration> {
        let now_ms = ms(asleep);
        let before_ms = self.asleep_ms.load(Ordering::Relaxed);
        let slept = Duration::from_millis(now_ms.saturating_sub(before_ms));
        let told = slept >= SLEEP_MIN
            && self
                .asleep_ms
                .compare_exchange(before_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        told.then_some(slept)
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_told_once_and_small_differences_are_none() {
        let at = Duration::from_millis;
        let watch = SleepWatch::new(at(5_000));
        for asleep_ms in [5_000, 5_001, 4_000, 6_999] {
            assert_eq!(watch.slept(at(asleep_ms)), None, "{asleep_ms}");
        }
        assert_eq!(watch.slept(at(65_000)), Some(at(60_000)));
        assert_eq!(watch.slept(at(65_001)), None);
        assert_eq!(watch.slept(at(67_000)), Some(at(2_000)));
        assert_eq!(watch.slept(at(67_000)), None);
    }
}
