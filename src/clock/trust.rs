//! Whether the wall clock can be trusted: the states, and what moves them. Knows no DNS, no files
//! and no sockets; readings and evidence come in, changes come out.
//!
//! ```text
//!            ┌── earlier than what has passed ──┐   ┌── the root's keys signed for now ──┐
//!            v                                  │   │                                    v
//!          cold <───────────────────────────── plausible                              synced
//!            ^                                  ^   ^                                    │
//!            ├── newest signatures of the root  │   └───────── it was set ───────────────┤
//!            │   ended long ago                 │                                        │
//!            └──────────────────────────────────┼────────────────────────────────────────┘
//!                                               └── it was set, and nothing speaks against it
//! ```
//!
//! # What a forger can do
//!
//! Cold opens a gap (names of time servers are answered without proof, certificates are taken
//! whatever their date), so nobody else may bring it about. That a time has passed is proved by
//! the build, by what was stored, and by the beginning of a signature of the root, which nobody can
//! forge. That the clock is ahead can only be concluded from signatures that ended, and old
//! signatures can be replayed: so they count only when they are at least as new as the newest ever
//! seen. A machine that saw the root's signatures yesterday cannot be shown any that end today.

use super::Now;

/// A clock that stands so much before what has passed is wrong, seconds. Less is a time zone
/// mistaken, or a time kept in a file until the next start: most signatures hold for longer.
pub const TOLERANCE_S: u64 = 86_400;

/// A change of the wall clock against uptime that counts as setting it, seconds. Signatures are
/// judged with a tolerance as large; smaller corrections are drift.
pub const STEP_S: u64 = 300;

/// How far the wall clock can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It cannot be right.
    Cold(Cause),
    /// Nothing speaks against it.
    Plausible,
    /// The root's signatures hold at the time it shows, and it was not set since.
    Synced,
}

/// Why the clock cannot be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It shows a time before this program was made.
    BeforeBuild,
    /// It shows a time before one that has passed: the last good time, or one the root signed at.
    Behind,
    /// The newest signatures of the root ended long before the time it shows.
    Ahead,
}

impl State {
    /// One word for people, logs and programs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Cold(_) => "cold",
            Self::Plausible => "plausible",
            Self::Synced => "synced",
        }
    }

    /// Whether the clock cannot be right.
    #[must_use]
    pub const fn is_cold(self) -> bool {
        matches!(self, Self::Cold(_))
    }
}

/// From when to when the root's newest signatures hold, in seconds since 1970; verified but for the
/// date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The latest beginning: it has passed.
    pub from_unix_s: u64,
    /// The earliest end. The root signs anew long before.
    pub until_unix_s: u64,
}

/// What became of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it was.
    pub before: State,
    /// What it is.
    pub after: State,
    /// By how much the clock was set, seconds; 0 when it was not.
    pub stepped_s: i64,
}

impl Change {
    /// Whether what was judged by the clock before may be wrong.
    #[must_use]
    pub const fn is_of_judgement(&self) -> bool {
        self.stepped_s != 0 || self.before.is_cold() != self.after.is_cold()
    }
}

/// The state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    floor_unix_s: u64,
    /// The latest time that has passed for sure, and the uptime at which that was known, seconds.
    passed_unix_s: u64,
    passed_at_uptime_s: u32,
    /// The wall clock minus uptime when it was last set, seconds.
    offset_s: i64,
    /// The root's newest signatures ended long before the time shown.
    is_ahead: bool,
    is_confirmed: bool,
    state: State,
    /// The uptime at which the state began, seconds.
    since_uptime_s: u32,
}

impl Trust {
    /// The state at the start: `floor_unix_s` is the time of the build, `stored_unix_s` the last
    /// good time of the runs before; seconds since 1970.
    #[must_use]
    pub fn new(floor_unix_s: u64, stored_unix_s: Option<u64>, now: &Now) -> Self {
        let mut trust = Self {
            floor_unix_s,
            passed_unix_s: floor_unix_s.max(stored_unix_s.unwrap_or(0)),
            passed_at_uptime_s: now.uptime_s,
            offset_s: offset_s(now),
            is_ahead: false,
            is_confirmed: false,
            state: State::Plausible,
            since_uptime_s: now.uptime_s,
        };
        trust.state = trust.judge(now);
        trust
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The uptime at which the state began, seconds.
    #[must_use]
    pub const fn since_uptime_s(&self) -> u32 {
        self.since_uptime_s
    }

    /// The wall clock minus uptime when it was last set, seconds.
    #[must_use]
    pub const fn offset_s(&self) -> i64 {
        self.offset_s
    }

    /// The latest time that was proved to have passed, in seconds since 1970.
    #[must_use]
    pub const fn latest_unix_s(&self) -> u64 {
        self.passed_unix_s
    }

    /// The latest time that has passed for sure, in seconds since 1970, whatever the clock shows:
    /// uptime goes on from [`Self::latest_unix_s`].
    #[must_use]
    pub fn passed_unix_s(&self, now: &Now) -> u64 {
        let elapsed_s = now.uptime_s.saturating_sub(self.passed_at_uptime_s);
        self.passed_unix_s.saturating_add(u64::from(elapsed_s))
    }

    /// Takes a reading: notices that the clock was set.
    pub fn look(&mut self, now: &Now) -> Option<Change> {
        let stepped_s = offset_s(now).saturating_sub(self.offset_s);
        if !is_step(stepped_s) {
            return None;
        }
        self.offset_s = offset_s(now);
        // What was concluded about the old time says nothing about the new one.
        self.is_ahead = false;
        self.is_confirmed = false;
        self.settle(now, stepped_s)
    }

    /// Takes the root's signatures, fetched just now.
    pub fn root_signed(&mut self, signed: Signed, now: &Now) -> Option<Change> {
        // Neither older than what was seen, nor ended by what uptime alone knows to have passed.
        let is_newest = signed.from_unix_s >= self.passed_unix_s
            && signed.until_unix_s >= self.passed_unix_s(now);
        if signed.from_unix_s > self.passed_unix_s(now) {
            self.passed_unix_s = signed.from_unix_s;
            self.passed_at_uptime_s = now.uptime_s;
        }
        if now.unix_s <= signed.until_unix_s {
            self.is_ahead = false;
            self.is_confirmed = signed.from_unix_s <= now.unix_s;
        } else if is_newest && now.unix_s > signed.until_unix_s.saturating_add(TOLERANCE_S) {
            self.is_ahead = true;
            self.is_confirmed = false;
        }
        self.settle(now, 0)
    }

    fn settle(&mut self, now: &Now, stepped_s: i64) -> Option<Change> {
        let before = self.state;
        self.state = self.judge(now);
        if self.state != before {
            self.since_uptime_s = now.uptime_s;
        }
        let change = Change {
            before,
            after: self.state,
            stepped_s,
        };
        (stepped_s != 0 || before != self.state).then_some(change)
    }

    fn judge(&self, now: &Now) -> State {
        if now.unix_s < self.floor_unix_s {
            return State::Cold(Cause::BeforeBuild);
        }
        if now.unix_s.saturating_add(TOLERANCE_S) < self.passed_unix_s {
            return State::Cold(Cause::Behind);
        }
        if self.is_ahead {
            return State::Cold(Cause::Ahead);
        }
        if self.is_confirmed {
            return State::Synced;
        }
        State::Plausible
    }
}

/// The wall clock minus uptime, seconds: constant but for drift, until the clock is set.
pub(super) fn offset_s(now: &Now) -> i64 {
    i64::try_from(now.unix_s)
        .unwrap_or(i64::MAX)
        .saturating_sub(i64::from(now.uptime_s))
}

/// Whether a change of [`offset_s`] means that the clock was set.
pub(super) const fn is_step(changed_s: i64) -> bool {
    changed_s.unsigned_abs() > STEP_S
}

