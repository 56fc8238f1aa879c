//! One question on its way through the upstreams.
//!
//! An error starts the next at once. A late answer starts it beside the one that is late, when the
//! budget allows. So does silence, without asking the budget: where nothing is heard no load is
//! doubled. The first good answer ends the walk. A response whose rcode says that the upstream
//! could not or would not answer is kept, in case nobody has a better one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep_until;

use super::{
    ExchangeError, Exchanged, SILENT_AFTER,
    error::{Class, Failure},
    health::Facts,
    message, probing,
    profile::{Timed, Upstream},
    race::Race,
    select::Set,
    strategy::Standing,
    tries::Tries,
};
use crate::{
    clock,
    wire::{Question, rcode},
};

/// When the upstreams that are asked kept silent for so long, the exchange ends: the client is told
/// within two seconds, since a stub gives up after five, while a live upstream may take the whole timeout.
///
/// Live is one from which a part of an answer came since the question was put to it, be it to
/// another question or to the probe that a late answer causes. A handshake is less: a host that
/// completes it and then says nothing is dead behind its front. It only gets [`AFTER_HANDSHAKE`]
/// from there on.
const SILENCE_MAX: Duration = Duration::from_millis(1800);
/// The same when all were known to be down before: time for a handshake with one that is back.
const SILENCE_MAX_DOWN: Duration = Duration::from_millis(1000);
/// How long one that was heard, but gave no answer to anybody, may go on before it is silent.
const AFTER_HANDSHAKE: Duration = Duration::from_millis(1200);
/// How often an exchange whose answer is late looks for signs of life.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// An upstream that may be asked, and what was known of it when the walk began.
pub(super) struct Chosen<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) place: usize,
    pub(super) facts: Facts,
}

pub(super) struct Walk<'a> {
    set: &'a Arc<Set>,
    rest: std::vec::IntoIter<Chosen<'a>>,
    question: &'a Question,
    tries: &'a Tries,
    race: Race<'a, (&'a Upstream, Result<Timed, ExchangeError>)>,
    /// Ends when one that has not answered at the first look is found to be down.
    downs: Race<'a, ()>,
    /// Those that were asked and have not ended.
    asked: Vec<Asked<'a>>,
    /// Those that answered, but not the question.
    refused: Vec<Refused<'a>>,
    /// All were known to be down when the walk began.
    is_hopeless: bool,
    /// The last response with an rcode that others may better.
    fallback: Option<Exchanged>,
    error: Option<ExchangeError>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        set: &'a Arc<Set>,
        order: Vec<Chosen<'a>>,
        question: &'a Question,
        tries: &'a Tries,
    ) -> Self {
        let is_down = |chosen: &Chosen<'_>| chosen.facts.standing == Standing::Down;
        Self {
            set,
            is_hopeless: order.iter().all(is_down),
            rest: order.into_iter(),
            question,
            tries,
            race: Race::new(),
            downs: Race::new(),
            asked: Vec::new(),
            refused: Vec::new(),
            fallback: None,
            error: None,
        }
    }

    /// Walks until there is an answer, nobody is left, or it is `deadline`.
    pub(super) async fn run(
        mut self,
        began: Instant,
        deadline: Instant,
    ) -> Result<Exchanged, ExchangeError> {
        self.start_next(began);
        if self.is_hopeless && self.may_hedge() {
            // The second may be back before the first.
            self.start_next(began);
        }
        let patience = if self.is_hopeless {
            SILENCE_MAX_DOWN
        } else {
            SILENCE_MAX
        };
        let mut look_at = self.next_look(began);
        loop {
            // One timer for both: most exchanges end before either.
            let is_last = deadline <= look_at;
            let wake_at = look_at.min(deadline);
            tokio::select! {
                biased;
                Some(outcome) = self.race.next() => {
                    if let Some(response) = self.take(outcome) {
                        return Ok(response);
                    }
                    let now = clock::instant();
                    if self.is_worth_the_next() {
                        self.start_next(now);
                    }
                    if self.race.is_empty() {
                        return self.best();
                    }
                    look_at = self.next_look(now);
                }
                Some(()) = self.downs.next() => {
                    let now = clock::instant();
                    if self.moves_on(now) {
                        return self.best();
                    }
                    look_at = self.next_look(now);
                }
                () = sleep_until(wake_at.into()) => {
                    let now = clock::instant();
                    if !is_last && self.look(now) && self.moves_on(now) {
                        return self.best();
                    }
                    if is_last || self.is_over(now, began + patience) {
                        self.blame_all(now);
                        return self.best();
                    }
                    look_at = self.next_look(now);
                }
            }
        }
    }

    fn next(&self) -> Option<&Chosen<'a>> {
        self.rest.as_slice().first()
    }

    /// Whether the next may better what there is. One that is known to be down is tried when there
    /// is nothing, and not waited for when a live one has said that it has no answer.
    fn is_worth_the_next(&self) -> bool {
        let is_down = |next: &Chosen<'_>| next.facts.standing == Standing::Down;
        self.refused.is_empty() || !self.next().is_some_and(is_down)
    }

    /// Puts the question to the next upstream, if there is one and the tries allow. Where nobody
    /// has said anything yet, one that is well is asked even then: those before it failed in a way
    /// that takes them out of use, so no name makes this happen twice.
    fn start_next(&mut self, now: Instant) -> bool {
        let is_free = || self.refused.is_empty() && self.is_next_well(now);
        if self.next().is_none() || !self.tries.take() && !is_free() {
            return false;
        }
        let Some(chosen) = self.rest.next() else {
            return false;
        };
        let (upstream, question, tries) = (chosen.upstream, self.question, self.tries);
        self.asked.push(Asked::new(&chosen, now));
        self.race
            .start(async move { (upstream, upstream.exchange(question, tries).await) });
        true
    }

    /// Whether a duplicate to the next upstream may be sent. Takes it from the budget.
    fn may_hedge(&self) -> bool {
        self.next().is_some() && self.tries.are_left() && self.set.budget().take()
    }

    /// Where all that are asked are down by now: asks the next if that is well; if not, whether a
    /// response that was held back is to be given out.
    fn moves_on(&mut self, now: Instant) -> bool {
        if !self.waits_in_vain(now) {
            return false;
        }
        if self.is_next_well(now) {
            self.start_next(now);
            return false;
        }
        !self.refused.is_empty()
    }

    /// Whether all that are asked are down by now.
    fn waits_in_vain(&self, now: Instant) -> bool {
        let mut asked = self.asked.iter();
        asked.all(|asked| asked.upstream.health().facts(now).standing == Standing::Down)
    }

    /// Whether there is a next and nothing is held against it by now.
    fn is_next_well(&self, now: Instant) -> bool {
        let standing = |next: &Chosen<'_>| next.upstream.health().facts(now).standing;
        self.next()
            .is_some_and(|next| standing(next) < Standing::Suspected)
    }

    /// When something may be to be done next.
    fn next_look(&self, now: Instant) -> Instant {
        let late = self.asked.iter().filter(|asked| !asked.is_late);
        late.map(|asked| asked.at + asked.facts.late_after)
            .fold(now + LOOK_EVERY, Instant::min)
            .max(now)
    }

    /// Sees who is late or silent, and starts the next beside them; whether one went down of which
    /// that was not noticed.
    fn look(&mut self, now: Instant) -> bool {
        let mut went_down = false;
        for asked in &mut self.asked {
            if !asked.is_watched {
                // Not before, since nearly all answers are there by now.
                asked.is_watched = true;
                let health = asked.upstream.health();
                self.downs.start(health.goes_down());
                went_down |= asked.facts.standing != Standing::Down
                    && health.facts(now).standing == Standing::Down;
            }
            asked.look(now);
            if !asked.is_late && asked.has_waited(now, asked.facts.late_after) {
                asked.is_late = true;
                if !asked.has_answered_others() {
                    asked.upstream.health().late();
                    probing::watch(self.set, asked.place);
                }
            }
        }
        let Some(next) = self.next() else {
            return went_down;
        };
        let all_late = self.asked.iter().all(|asked| asked.is_late);
        // One that is heard from is not helped by a second that starts from nothing.
        let all_quiet = self.asked.iter().all(|asked| asked.is_quiet(now));
        let is_well = next.facts.standing != Standing::Down;
        // Silence has a budget too, or a client would wait for one after the other.
        if all_quiet && self.tries.are_left() || all_late && is_well && self.may_hedge() {
            self.start_next(now);
        }
        went_down
    }

    /// Notes an outcome; gives back the response if it is one to answer with.
    fn take(
        &mut self,
        (upstream, outcome): (&'a Upstream, Result<Timed, ExchangeError>),
    ) -> Option<Exchanged> {
        let now = clock::instant();
        self.asked
            .retain(|asked| !std::ptr::eq(asked.upstream, upstream));
        match outcome {
            Ok((exchanged, took)) if !message::is_refusal(&exchanged.octets) => {
                upstream.health().answered(now, took);
                self.compare(now);
                return Some(exchanged);
            }
            Ok((exchanged, _)) => {
                upstream.health().refused();
                self.refused.push(Refused {
                    upstream,
                    would_not: message::rcode(&exchanged.octets) != rcode::SERVFAIL,
                });
                self.fallback = Some(exchanged);
            }
            Err(error) => {
                upstream.health().failed(now, error.failure());
                tracing::debug!(%error, "exchange failed");
                if error.class() == Class::Answerless {
                    self.refused.push(Refused {
                        upstream,
                        would_not: false,
                    });
                }
                self.note(error);
            }
        }
        None
    }

    /// Holds a good answer against those that had none.
    fn compare(&self, now: Instant) {
        for refused in &self.refused {
            let health = refused.upstream.health();
            health.bettered(now, self.question, refused.would_not);
        }
        for asked in &self.asked {
            let health = asked.upstream.health();
            if asked.was_heard() && asked.has_waited(now, asked.facts.late_after) {
                health.cut_short(now.saturating_duration_since(asked.at));
            }
            if asked.has_waited(now, asked.facts.silent_after) {
                if asked.was_heard() {
                    health.bettered(now, self.question, false);
                } else {
                    health.failed(now, &Failure::Silent);
                }
            }
        }
    }

    /// Whether all that are still asked are silent, at `patience_ends` at the earliest. Those that
    /// have ended do not count: nothing more comes from them.
    fn is_over(&self, now: Instant, patience_ends: Instant) -> bool {
        let is_silent =
            |asked: &Asked<'_>| asked.has_waited(now, SILENT_AFTER) && asked.is_silent(now);
        now >= patience_ends && self.asked.iter().all(is_silent)
    }

    /// Holds the end of the exchange against those that have not answered.
    fn blame_all(&mut self, now: Instant) {
        for mut asked in std::mem::take(&mut self.asked) {
            asked.look(now);
            let failure = if asked.is_silent(now) {
                Failure::Silent
            } else {
                Failure::Timeout
            };
            if asked.has_waited(now, asked.facts.silent_after) {
                asked.upstream.health().failed(now, &failure);
            }
            self.note(asked.upstream.error(failure));
        }
    }

    /// Keeps the error that says most about the name, the last of those that say the same.
    fn note(&mut self, error: ExchangeError) {
        let says = |error: &ExchangeError| (error.class(), !error.is_for_want_of_network());
        if self
            .error
            .as_ref()
            .is_none_or(|kept| says(kept) <= says(&error))
        {
            self.error = Some(error);
        }
    }

    fn best(self) -> Result<Exchanged, ExchangeError> {
        match (self.fallback, self.error) {
            (Some(exchanged), _) => Ok(exchanged),
            (None, Some(error)) => Err(error),
            // Settings are never without an upstream, so at least one was asked.
            (None, None) => Err(ExchangeError::new(Arc::from("none"), Failure::Busy)),
        }
    }
}

/// An upstream that answered, but not the question.
struct Refused<'a> {
    upstream: &'a Upstream,
    /// It says that it will not, rather than that it cannot.
    would_not: bool,
}

/// An upstream that was asked and has not ended.
struct Asked<'a> {
    upstream: &'a Upstream,
    place: usize,
    facts: Facts,
    at: Instant,
    /// It was found late.
    is_late: bool,
    /// Its going down is waited for.
    is_watched: bool,
    /// What was heard from it before.
    heard_before: u64,
    /// What was heard of answers from it before.
    answers_before: u64,
    /// What had been heard at the last look that found something new, and when that was.
    last_heard: (u64, Instant),
}

impl<'a> Asked<'a> {
    fn new(chosen: &Chosen<'a>, now: Instant) -> Self {
        let life = &chosen.upstream.profile.life;
        Self {
            upstream: chosen.upstream,
            place: chosen.place,
            facts: chosen.facts,
            at: now,
            is_late: false,
            is_watched: false,
            heard_before: life.of_upstream(),
            answers_before: life.answers(),
            last_heard: (life.of_upstream(), now),
        }
    }

    /// Takes note of what was heard meanwhile.
    fn look(&mut self, now: Instant) {
        let heard = self.upstream.profile.life.of_upstream();
        if self.last_heard.0 != heard {
            self.last_heard = (heard, now);
        }
    }

    fn was_heard(&self) -> bool {
        self.upstream.profile.life.of_upstream() != self.heard_before
    }

    fn has_answered_others(&self) -> bool {
        self.upstream.profile.life.answers() != self.answers_before
    }

    fn has_waited(&self, now: Instant, time: Duration) -> bool {
        now.saturating_duration_since(self.at) >= time
    }

    /// Whether nothing was heard for longer than nearly every live upstream is silent.
    fn is_quiet(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_heard.1) >= self.facts.silent_after
    }

    /// Whether nothing was heard since it was asked, or no answer and nothing else for long. Of one
    /// that was down before only an answer counts.
    fn is_silent(&self, now: Instant) -> bool {
        let quiet = now.saturating_duration_since(self.last_heard.1);
        let is_known = self.facts.standing == Standing::Down;
        !self.was_heard() || !self.has_answered_others() && (is_known || quiet >= AFTER_HANDSHAKE)
    }
}
