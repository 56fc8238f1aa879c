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
//! signatures can be replayed: so they count only when they had not ended at a time that has passed
//! for sure. A machine that saw the root's signatures this week, which hold for about two, cannot
//! be shown any of which that is true, unless its clock is ahead.

use super::Now;

/// A clock that stands so much before what has passed is wrong, seconds. Less is a time zone
/// mistaken, or a time kept in a file until the next start: most signatures hold for longer.
pub const TOLERANCE_S: u64 = 86_400;

/// Signatures that ended so long ago show that the clock is ahead, seconds. What is known to have
/// passed lags behind by how old the root's signatures are when they are seen: those of its SOA a
/// day or less, and as long again in an upstream's cache.
const AHEAD_S: u64 = 2 * TOLERANCE_S;

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
        let is_replayed = signed.until_unix_s < self.passed_unix_s(now);
        if signed.from_unix_s > self.passed_unix_s(now) {
            self.passed_unix_s = signed.from_unix_s;
            self.passed_at_uptime_s = now.uptime_s;
        }
        if now.unix_s <= signed.until_unix_s {
            self.is_ahead = false;
            self.is_confirmed = signed.from_unix_s <= now.unix_s;
        } else if !is_replayed && now.unix_s > signed.until_unix_s.saturating_add(AHEAD_S) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: u64 = 1_800_000_000;
    const DAY: u64 = 86_400;
    const YEAR: u64 = 365 * DAY;

    fn at(unix_s: u64, uptime_s: u32) -> Now {
        Now {
            unix_s,
            uptime_s,
            ..Now::read()
        }
    }

    /// What the root says at `truth`: signed a day ago, for two weeks.
    fn root(truth: u64) -> Signed {
        Signed {
            from_unix_s: truth - DAY,
            until_unix_s: truth + 13 * DAY,
        }
    }

    fn cold(cause: Cause) -> State {
        State::Cold(cause)
    }

    #[test]
    fn a_start_is_judged_by_the_build_and_by_the_last_good_time() {
        let stored = FLOOR + YEAR;
        for (unix_s, stored, state) in [
            (0, None, cold(Cause::BeforeBuild)),
            (FLOOR - 1, None, cold(Cause::BeforeBuild)),
            (FLOOR, None, State::Plausible),
            (FLOOR + 20 * YEAR, None, State::Plausible),
            (0, Some(stored), cold(Cause::BeforeBuild)),
            (FLOOR, Some(stored), cold(Cause::Behind)),
            (stored - DAY - 1, Some(stored), cold(Cause::Behind)),
            (stored - DAY, Some(stored), State::Plausible),
            (stored + 10 * YEAR, Some(stored), State::Plausible),
            (FLOOR, Some(5), State::Plausible),
        ] {
            let trust = Trust::new(FLOOR, stored, &at(unix_s, 9));
            assert_eq!(trust.state(), state, "{unix_s} {stored:?}");
        }
    }

    #[test]
    fn the_roots_signatures_tell_where_the_clock_stands() {
        let truth = FLOOR + YEAR;
        for (shows, state) in [
            (truth, State::Synced),
            (truth - DAY, State::Synced),
            (truth + 13 * DAY, State::Synced),
            // Not proved, and within what a time zone and a short absence explain.
            (truth - 2 * DAY, State::Plausible),
            (truth + 15 * DAY, State::Plausible),
            (truth - 2 * DAY - 1, cold(Cause::Behind)),
            (FLOOR, cold(Cause::Behind)),
            (truth + 15 * DAY + 1, cold(Cause::Ahead)),
            (truth + 10 * YEAR, cold(Cause::Ahead)),
        ] {
            let now = at(shows, 100);
            let mut trust = Trust::new(FLOOR, None, &now);
            let change = trust.root_signed(root(truth), &now);
            assert_eq!(trust.state(), state, "{shows}");
            assert_eq!(change.is_some(), state != State::Plausible);
            assert_eq!(trust.latest_unix_s(), truth - DAY);
            // The same again says the same again.
            assert_eq!(trust.root_signed(root(truth), &now), None);
        }
    }

    #[test]
    fn setting_the_clock_is_noticed_once_and_ends_the_cold() {
        for (shows, known) in [
            (0, None),
            (FLOOR, Some(FLOOR + YEAR)),
            (FLOOR + 11 * YEAR, None),
        ] {
            let truth = FLOOR + YEAR + DAY;
            let mut trust = Trust::new(FLOOR, known, &at(shows, 10));
            trust.root_signed(root(truth), &at(shows + 5, 15));
            assert!(trust.state().is_cold());
            let change = trust.look(&at(truth, 20)).unwrap();
            assert!(change.before.is_cold() && change.is_of_judgement());
            assert_eq!(change.after, State::Plausible);
            assert_eq!(trust.since_uptime_s(), 20);
            assert_eq!(trust.look(&at(truth + 1, 21)), None);
            trust.root_signed(root(truth), &at(truth + 2, 22)).unwrap();
            assert_eq!(trust.state(), State::Synced);
        }
    }

    #[test]
    fn drift_is_no_step_and_every_step_doubts_what_was_judged() {
        let truth = FLOOR + YEAR;
        let start = at(truth, 1_000);
        let mut trust = Trust::new(FLOOR, None, &start);
        trust.root_signed(root(truth), &start);
        for drift in [-300, -1, 0, 300_i64] {
            let unix_s = truth.checked_add_signed(50 + drift).unwrap();
            assert_eq!(trust.look(&at(unix_s, 1_050)), None, "{drift}");
        }
        for step in [-7 * 86_400, -301, 301_i64, 7 * 86_400] {
            let mut trust = trust.clone();
            let unix_s = truth.checked_add_signed(50 + step).unwrap();
            let change = trust.look(&at(unix_s, 1_050)).unwrap();
            assert!(change.is_of_judgement());
            assert_eq!(change.stepped_s, step);
            assert_ne!(change.after, State::Synced);
        }
    }

    #[test]
    fn sleep_is_no_step() {
        // Uptime counts it.
        let mut trust = Trust::new(FLOOR, None, &at(FLOOR + YEAR, 1_000));
        assert_eq!(trust.look(&at(FLOOR + YEAR + DAY, 1_000 + 86_400)), None);
    }

    #[test]
    fn old_signatures_replayed_do_not_make_it_cold() {
        let truth = FLOOR + YEAR;
        let now = at(truth, 100);
        let old = root(truth - 60 * DAY);
        // It saw newer ones, or stored so.
        for known in [None, Some(truth - 3 * DAY)] {
            let mut trust = Trust::new(FLOOR, known, &now);
            if known.is_none() {
                trust.root_signed(root(truth), &now);
            }
            let before = trust.state();
            assert_eq!(trust.root_signed(old, &now), None);
            assert_eq!(trust.state(), before);
        }
        // The newest ones it saw, held up for longer than they last.
        let mut trust = Trust::new(FLOOR, None, &now);
        trust.root_signed(root(truth), &now);
        let later = at(truth + 30 * DAY, 100 + 30 * 86_400);
        assert_eq!(trust.root_signed(root(truth), &later), None);
        assert_eq!(trust.state(), State::Synced);
    }

    #[test]
    fn a_clock_held_to_be_ahead_wrongly_is_right_again_with_newer_signatures() {
        let truth = FLOOR + YEAR;
        let now = at(truth, 100);
        let mut trust = Trust::new(FLOOR, None, &now);
        trust.root_signed(root(truth - 60 * DAY), &now);
        assert_eq!(trust.state(), cold(Cause::Ahead));
        let change = trust.root_signed(root(truth), &now).unwrap();
        assert_eq!(change.after, State::Synced);
    }

    #[test]
    fn what_has_passed_goes_on_with_uptime_and_never_back() {
        let truth = FLOOR + YEAR;
        let mut trust = Trust::new(FLOOR, Some(truth), &at(0, 100));
        assert_eq!(trust.passed_unix_s(&at(0, 160)), truth + 60);
        trust.root_signed(root(truth - DAY), &at(0, 200));
        assert_eq!(trust.passed_unix_s(&at(0, 260)), truth + 160);
        trust.root_signed(root(truth + 2 * DAY), &at(0, 300));
        assert_eq!(trust.passed_unix_s(&at(0, 300)), truth + DAY);
    }

    #[test]
    fn hostile_times_overflow_nothing() {
        for unix_s in [0, 1, u64::MAX] {
            for stored in [None, Some(0), Some(u64::MAX)] {
                let mut trust = Trust::new(FLOOR, stored, &at(unix_s, u32::MAX));
                for (from_unix_s, until_unix_s) in [(0, 0), (u64::MAX, u64::MAX), (0, u64::MAX)] {
                    let signed = Signed {
                        from_unix_s,
                        until_unix_s,
                    };
                    trust.root_signed(signed, &at(u64::MAX, 0));
                    trust.look(&at(0, u32::MAX));
                    trust.look(&at(u64::MAX, 0));
                    let _ = trust.passed_unix_s(&at(0, u32::MAX));
                }
            }
        }
    }
}
