//! Questions of our own: whether an upstream is back, how fast another one would be.
//!
//! They run on the worker that found them needed, over its connections, one of a kind for each
//! upstream and process. They end with the upstreams they belong to.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{sleep_until, timeout};

use super::{
    error::Failure,
    health::{DueProbe, PROBE_PATIENCE},
    message,
    profile::{Profile, Upstream},
    select::Set,
    tries::Tries,
};
use crate::{
    clock,
    wire::{CLASS_IN, Name, Question, rtype},
};

/// How long a measurement may take.
const MEASURE_MAX: Duration = Duration::from_millis(1500);

/// The question that every resolver answers without looking anything up.
pub(super) fn root_ns() -> Question {
    Question {
        name: Name::root(),
        qtype: rtype::NS,
        qclass: CLASS_IN,
    }
}

/// The duty to probe an upstream.
struct Watch(Arc<Profile>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.health.end_watch();
    }
}

/// Probes the upstream at this place until it is up, or nobody asks any more. Does nothing when
/// that is done already.
pub(super) fn watch(set: &Arc<Set>, place: usize) {
    let Some(profile) = set.profile(place) else {
        return;
    };
    if profile.health.begin_watch() {
        let watch = Watch(Arc::clone(profile));
        tokio::spawn(keep_probing(Arc::downgrade(set), place, watch));
    }
}

async fn keep_probing(set: Weak<Set>, place: usize, watch: Watch) {
    let health = &watch.0.health;
    loop {
        // Before the look, so that nothing is missed between.
        let looked_for = health.looked_for();
        let Some(strong) = set.upgrade() else { return };
        let nobody_else = strong.is_last(place);
        let Some(due) = health.probe(clock::instant(), nobody_else) else {
            return;
        };
        if due.at > clock::instant() {
            drop(strong);
            tokio::select! {
                () = looked_for => {}
                () = sleep_until(due.at.into()) => {}
            }
        } else if let Some(upstream) = strong.upstream(place) {
            probe(upstream, &due, &strong.probe_question(place)).await;
        }
    }
}

/// Asks once, and tells the upstream's health how that went.
async fn probe(upstream: &Upstream, due: &DueProbe, usual: &Question) {
    let health = upstream.health();
    let question = due.question.as_ref().unwrap_or(usual);
    let life = &upstream.profile.life;
    let (heard_before, answers_before) = (life.of_upstream(), life.answers());
    let began = clock::instant();
    let tries = Tries::new();
    let exchange = upstream.exchange(question, &tries);
    tokio::pin!(exchange);
    let mut outcome = timeout(due.patience, &mut exchange).await;
    if outcome.is_err() && life.of_upstream() != heard_before {
        // A handshake goes on: it gets the time that one takes over a slow line.
        let rest = PROBE_PATIENCE.saturating_sub(due.patience);
        outcome = timeout(rest, exchange).await;
    }
    match outcome {
        // Its time is not counted: a name from the cache says little about other names.
        Ok(Ok((exchanged, _))) if message::is_refusal(&exchanged.octets) => {
            if due.is_test {
                health.probe_failed(began, &Failure::Timeout);
            } else {
                health.refused();
            }
        }
        Ok(Ok(_)) => health.passed(due.is_test),
        Ok(Err(error)) => health.probe_failed(began, error.failure()),
        // Another answer came meanwhile: it lives, and this one is only late.
        Err(_) if !due.is_test && life.answers() != answers_before => health.passed(false),
        Err(_) => health.probe_failed(began, &Failure::Silent),
    }
}

/// Puts `question` to an upstream only to see how long it takes.
pub(super) fn measure(upstream: &Arc<Upstream>, question: &Question, measuring: Measuring) {
    let (upstream, question) = (Arc::clone(upstream), question.clone());
    tokio::spawn(async move {
        let health = &measuring.0.health;
        let tries = Tries::new();
        let answers_before = upstream.profile.life.answers();
        let outcome = timeout(MEASURE_MAX, upstream.exchange(&question, &tries)).await;
        let now = clock::instant();
        match outcome {
            Ok(Ok((exchanged, took))) if !message::is_refusal(&exchanged.octets) => {
                health.answered(now, took);
            }
            Ok(Ok(_)) => health.refused(),
            Ok(Err(error)) => health.failed(now, error.failure()),
            Err(_) if upstream.profile.life.answers() == answers_before => health.late(),
            Err(_) => health.cut_short(MEASURE_MAX),
        }
    });
}

/// The one measurement of an upstream that is under way.
pub(super) struct Measuring(Arc<Profile>);

impl Measuring {
    /// Begins one; `None` when one is under way.
    pub(super) fn begin(upstream: &Upstream) -> Option<Self> {
        let begun = upstream.health().begin_measuring();
        begun.then(|| Self(Arc::clone(&upstream.profile)))
    }

    /// Begins one of the first; `None` when one is under way, or they are over.
    pub(super) fn begin_first(upstream: &Upstream) -> Option<Self> {
        let begun = upstream.health().begin_first_measuring();
        begun.then(|| Self(Arc::clone(&upstream.profile)))
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        self.0.health.end_measuring();
    }
}
