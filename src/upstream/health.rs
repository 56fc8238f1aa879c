//! What the last exchanges tell about an upstream: whether it is up, how fast and how reliable.
//!
//! Shared by all workers, so that what one learns all know, and a change is logged once. The
//! machines inside are pure; this file joins them, counts, and says what changed.

use std::{
    fmt::Display,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, futures::Notified};

use super::{
    SILENT_AFTER, breaker::Breaker, error::Failure, estimate::Estimate, strategy::Standing,
};
use crate::{
    entropy,
    wire::{Name, Question},
};

/// How long an upstream that leaves DNSSEC records out is tried after the others.
const INCOMPLETE_FOR: Duration = Duration::from_secs(600);
/// How many names must have gone unanswered, one after the other with no answer between, that
/// another upstream answered. One or two may be the fault of the zone's own servers.
const STRIKES_MAX: usize = 5;
/// The weight of one exchange in the share of those that failed.
const LOSS_GAIN: f32 = 1.0 / 16.0;
/// What an outage adds to the share of lost exchanges once it is over, instead of all that was lost
/// in it: while an upstream is away it is not asked, so those say nothing of what it costs to ask.
/// It makes an answer some 10 ms dearer, for a time; so only one that goes again and again loses its
/// place.
const OUTAGE_LOSS: f32 = 1.0 / 64.0;
/// How often an upstream is measured at first without paying for it from the budget of duplicates:
/// a few times more than are needed, in case some fail.
const FIRST_MEASUREMENTS_MAX: u8 = 8;
/// An answer is never late before this: a duplicate costs more than so small a wait.
const LATE_MIN: Duration = Duration::from_millis(50);
/// When an answer is late while too few came to know the upstream's habits.
const LATE_DEFAULT: Duration = Duration::from_millis(300);
/// An answer that has taken so long is late whatever the habits: a fresh start elsewhere can still
/// answer within a stub's patience.
const LATE_MAX: Duration = Duration::from_millis(1500);
/// The least time a probe of a suspected upstream has to be heard, for the sake of slow lines.
const SUSPICION_MIN: Duration = Duration::from_millis(250);
/// The time a probe of an upstream that is down has: a handshake over a slow line fits.
pub(super) const PROBE_PATIENCE: Duration = Duration::from_secs(2);
/// Without questions for so long there is nobody to probe for.
const WANTED_FOR: Duration = Duration::from_secs(60);
/// What is kept of an error's text, part of which the upstream may have written.
const ERROR_MAX_CHARS: usize = 200;

/// The health of one upstream.
#[derive(Debug)]
pub(super) struct Health {
    name: String,
    state: Mutex<State>,
    /// Whether a task probes it, on whichever worker.
    watched: AtomicBool,
    /// Whether it is asked something only to time the answer.
    measured: AtomicBool,
    /// How many of the first measurements were begun.
    first_measurements: AtomicU8,
    /// How often it went down.
    outages: AtomicU64,
    /// Tells exchanges that wait for it that it is down.
    down: Notify,
    /// Tells the task that probes it to look again.
    look: Notify,
}

#[derive(Debug)]
struct State {
    breaker: Breaker,
    estimate: Estimate,
    /// The share of exchanges that failed of late, 0 to 1.
    loss: f32,
    /// The same when the last good answer came.
    loss_when_well: f32,
    exchanges: u64,
    failures: u64,
    last_error: Option<String>,
    /// Set once it was caught leaving signatures out: until when it is tried after the others.
    incomplete: Option<Instant>,
    /// Different names it left unanswered and another upstream answered, since its last answer;
    /// fewer than [`STRIKES_MAX`].
    strikes: Vec<Name>,
    /// Set while it is down for not answering questions: then any response is no sign that it is
    /// back, and this is to be answered if there is something.
    failed_at: Option<Test>,
    /// When it was last among those to choose from.
    wanted_at: Option<Instant>,
}

/// What an upstream must answer that went down for not answering.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    /// What it failed at.
    Same(Question),
    /// What every resolver can answer.
    Easy,
}

/// What a choice among upstreams is made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) standing: Standing,
    /// What an answer takes, losses included; `None` before the first answer.
    pub(super) cost: Option<Duration>,
    pub(super) deviation: Duration,
    pub(super) samples: u32,
    /// When an answer was last timed.
    pub(super) timed_at: Option<Instant>,
    /// After which time an answer is later than nearly all before.
    pub(super) late_after: Duration,
    /// After which time without anything heard something is wrong.
    pub(super) silent_after: Duration,
    /// Whether a probe should be under way and is not.
    pub(super) needs_watch: bool,
}

/// A probe that is to be made.
#[derive(Clone, Debug)]
pub(super) struct DueProbe {
    pub(super) at: Instant,
    /// What is asked; `None` for what every resolver can answer.
    pub(super) question: Option<Question>,
    /// Whether it must be answered; otherwise any response shows that the upstream is back.
    pub(super) is_test: bool,
    /// How long it may take.
    pub(super) patience: Duration,
}

/// Numbers for people.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) standing: Standing,
    pub(super) rtt: Option<Duration>,
    pub(super) tail: Option<Duration>,
    pub(super) loss: f32,
    pub(super) exchanges: u64,
    pub(super) failures: u64,
    pub(super) last_error: Option<String>,
}

impl Health {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: Mutex::new(State {
                breaker: Breaker::default(),
                estimate: Estimate::new(),
                loss: 0.0,
                loss_when_well: 0.0,
                exchanges: 0,
                failures: 0,
                last_error: None,
                incomplete: None,
                strikes: Vec::new(),
                failed_at: None,
                wanted_at: None,
            }),
            watched: AtomicBool::new(false),
            measured: AtomicBool::new(false),
            first_measurements: AtomicU8::new(0),
            outages: AtomicU64::new(0),
            down: Notify::new(),
            look: Notify::new(),
        }
    }

    /// What to choose by now. Takes note that there is somebody who asks.
    pub(super) fn facts(&self, now: Instant) -> Facts {
        let mut state = self.lock();
        state.wanted_at = Some(now);
        let standing = state.standing(now);
        let needs_probe = state.breaker.probe_at(now, false).is_some();
        let late_after = state.late_after();
        Facts {
            standing,
            cost: state
                .estimate
                .smoothed()
                .map(|time| time + SILENT_AFTER.mul_f32(state.loss)),
            deviation: state.estimate.deviation(),
            samples: state.estimate.samples(),
            timed_at: state.estimate.last_at(),
            late_after,
            silent_after: (late_after * 2).clamp(SILENT_AFTER, LATE_MAX),
            needs_watch: needs_probe && !self.watched.load(Ordering::Relaxed),
        }
    }

    /// Whether it is down and probes keep looking after it, so that this is no old news.
    pub(super) fn is_down(&self) -> bool {
        self.watched.load(Ordering::Relaxed) && self.lock().breaker.is_open()
    }

    /// Somebody would ask it, were it up.
    pub(super) fn wanted(&self, now: Instant) {
        self.lock().wanted_at = Some(now);
    }

    /// How often it went down so far.
    pub(super) fn outages(&self) -> u64 {
        self.outages.load(Ordering::Relaxed)
    }

    /// A question is put to it.
    pub(super) fn asked(&self) {
        let mut state = self.lock();
        state.exchanges = state.exchanges.wrapping_add(1);
    }

    /// An exchange gave a good answer; it took so long since it was sent.
    pub(super) fn answered(&self, now: Instant, took: Duration) {
        let mut state = self.lock();
        state.estimate.answered(now, took);
        state.strikes.clear();
        state.failed_at = None;
        if !state.breaker.is_open() {
            state.lose(0.0);
            state.loss_when_well = state.loss;
        }
        self.up(state);
    }

    /// An answer came whose rcode says that the upstream could not or would not; it lives. That is
    /// no better than before when it went down for such answers.
    pub(super) fn refused(&self) {
        let state = self.lock();
        if state.failed_at.is_none() {
            self.up(state);
        }
    }

    /// Nobody waited for its answer any more, after so long.
    pub(super) fn cut_short(&self, waited: Duration) {
        self.lock().estimate.cut_short(waited);
    }

    /// An answer is later than nearly all and nothing was heard since the question was put.
    pub(super) fn late(&self) {
        if self.lock().breaker.late() {
            self.look.notify_waiters();
        }
    }

    /// An exchange failed.
    pub(super) fn failed(&self, now: Instant, failure: &Failure) {
        let mut state = self.lock();
        state.note(failure);
        if failure.is_of_upstream() {
            state.failed_at = None;
            if state.breaker.failed(now, chance()) {
                self.opened(state, failure);
            }
        }
    }

    /// A probe had a good answer. One that was no test shows nothing when it went down for not
    /// answering.
    pub(super) fn passed(&self, was_test: bool) {
        let mut state = self.lock();
        if was_test || state.failed_at.is_none() {
            state.failed_at = None;
            self.up(state);
        }
    }

    /// Another upstream answered the question that this one failed at, be it by an rcode, by
    /// nonsense, or by taking longer. Several names in a row are evidence. Whoever `would_not`
    /// answer the name may have a policy, such as a list of names it blocks: it is no test.
    pub(super) fn bettered(&self, now: Instant, question: &Question, would_not: bool) {
        let mut state = self.lock();
        state.lose(1.0);
        if !state.strikes.contains(&question.name) {
            state.strikes.push(question.name.clone());
        }
        if state.strikes.len() < STRIKES_MAX {
            return;
        }
        state.strikes.clear();
        if state.breaker.failed(now, chance()) {
            state.failed_at = Some(if would_not {
                Test::Easy
            } else {
                Test::Same(question.clone())
            });
            self.opened(state, &"it leaves questions unanswered that others answer");
        }
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

    /// A probe that `began` then had no good answer.
    pub(super) fn probe_failed(&self, began: Instant, failure: &Failure) {
        let mut state = self.lock();
        state.note(failure);
        if state.breaker.is_open_for_long() && state.failed_at.is_some() {
            // Perhaps it is only this name that it cannot answer.
            state.failed_at = Some(Test::Easy);
        }
        if state.breaker.probe_failed(began, chance()) {
            self.opened(state, failure);
        }
    }

    /// When the next probe is due, what it must answer, if not just anything, and how long it may
    /// take. `None` when none is needed: the upstream is up, or nobody asks.
    pub(super) fn probe(&self, now: Instant, nobody_else: bool) -> Option<DueProbe> {
        let state = self.lock();
        let wanted = state
            .wanted_at
            .is_some_and(|at| now.saturating_duration_since(at) < WANTED_FOR);
        let at = state.breaker.probe_at(now, nobody_else)?;
        let patience = if state.breaker.begins_afresh() {
            PROBE_PATIENCE
        } else {
            (state.late_after() * 2).clamp(SUSPICION_MIN, LATE_MAX)
        };
        wanted.then(|| DueProbe {
            at,
            question: match &state.failed_at {
                Some(Test::Same(question)) => Some(question.clone()),
                Some(Test::Easy) | None => None,
            },
            is_test: state.failed_at.is_some(),
            patience,
        })
    }

    /// Gives it another chance at once: the network is another one.
    pub(super) fn retry(&self) {
        self.lock().breaker.retry();
        self.look.notify_waiters();
    }

    /// Makes the task that probes it look again.
    pub(super) fn look_again(&self) {
        self.look.notify_waiters();
    }

    /// Waits until [`Health::look_again`].
    pub(super) fn looked_for(&self) -> Notified<'_> {
        self.look.notified()
    }

    /// Waits until it is known to be down.
    pub(super) fn goes_down(&self) -> Notified<'_> {
        self.down.notified()
    }

    /// Takes the duty to probe it; false when another task has it.
    pub(super) fn begin_watch(&self) -> bool {
        !self.watched.swap(true, Ordering::Relaxed)
    }

    /// Gives the duty to probe it back.
    pub(super) fn end_watch(&self) {
        self.watched.store(false, Ordering::Relaxed);
    }

    /// Begins a measurement; false when one is under way.
    pub(super) fn begin_measuring(&self) -> bool {
        !self.measured.swap(true, Ordering::Relaxed)
    }

    /// Begins one of the first measurements; false when one is under way, or they are over.
    pub(super) fn begin_first_measuring(&self) -> bool {
        let began = self.begin_measuring();
        let take = |begun: u8| (begun < FIRST_MEASUREMENTS_MAX).then_some(begun + 1);
        let first = &self.first_measurements;
        let is_first = began
            && first
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                .is_ok();
        if began && !is_first {
            self.end_measuring();
        }
        is_first
    }

    /// Ends a measurement.
    pub(super) fn end_measuring(&self) {
        self.measured.store(false, Ordering::Relaxed);
    }

    pub(super) fn report(&self, now: Instant) -> Report {
        let state = self.lock();
        Report {
            standing: state.standing(now),
            rtt: state.estimate.smoothed(),
            tail: state.estimate.tail(),
            loss: state.loss,
            exchanges: state.exchanges,
            failures: state.failures,
            last_error: state.last_error.clone(),
        }
    }

    fn up(&self, mut state: MutexGuard<'_, State>) {
        let was_down = state.breaker.succeeded();
        if was_down {
            state.loss = (state.loss_when_well + OUTAGE_LOSS).min(1.0);
            state.loss_when_well = state.loss;
        }
        drop(state);
        if was_down {
            tracing::info!(upstream = self.name, "upstream is up again");
        }
    }

    fn opened(&self, state: MutexGuard<'_, State>, reason: &dyn Display) {
        drop(state);
        self.outages.fetch_add(1, Ordering::Relaxed);
        self.down.notify_waiters();
        self.look.notify_waiters();
        tracing::warn!(upstream = self.name, %reason, "upstream is down");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn standing(&self, now: Instant) -> Standing {
        if self.breaker.is_open() {
            Standing::Down
        } else if self.breaker.is_suspected() {
            Standing::Suspected
        } else if self.incomplete.is_some_and(|until| now < until) {
            Standing::Incomplete
        } else {
            Standing::Good
        }
    }

    fn late_after(&self) -> Duration {
        self.estimate
            .tail()
            .map_or(LATE_DEFAULT, |tail| tail.clamp(LATE_MIN, LATE_MAX))
    }

    fn lose(&mut self, lost: f32) {
        self.loss += LOSS_GAIN * (lost - self.loss);
    }

    fn note(&mut self, failure: &Failure) {
        self.failures = self.failures.wrapping_add(1);
        self.last_error = Some(failure.to_string().chars().take(ERROR_MAX_CHARS).collect());
        if failure.is_of_upstream() {
            self.lose(1.0);
        }
    }
}

fn chance() -> u32 {
    entropy::below(u32::MAX)
}

#[cfg(test)]
mod tests;
