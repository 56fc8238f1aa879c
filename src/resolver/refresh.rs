//! Asking again behind the clients' backs: for what has expired and was given out all the same, and
//! ahead of time for what is in use: answers, and the keys of zones.
//!
//! Ahead of time is a favour, and bounded so that it never becomes a load: it is paid from what
//! clients ask ([`Budget`]), once in an answer's life, and not at all while upstreams are down or
//! have enough to do.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tracing::debug;

use crate::{
    cache::Entry,
    clock::Now,
    dnssec,
    upstream::Exchange,
    wire::{Query, Question},
};

use super::{Resolver, Shared, driver::Driver, validate};

/// Refreshes behind stale answers at once. They are no more than clients would have caused.
const BEHIND_MAX: usize = 1_000;
/// The same while upstreams are down: enough to notice the first answer, too few to be a load.
const BEHIND_MAX_DOWN: usize = 4;

/// Hits of an answer that make it worth asking for ahead of time: so many queries are saved a wait
/// by the one that is spent.
const HITS_MIN: u8 = 3;
/// What lives shorter, in seconds, is not asked for ahead of time. An upstream answers from a cache
/// as well, often with just the time that was left here: without this bound the last seconds of
/// every answer would be asked for again and again.
const TTL_MIN_S: u32 = 10;
/// The end of an answer's life is the last tenth, and not less than this, in seconds.
const END_MIN_S: u32 = 5;
/// Queries of clients that pay for one question ahead of time: five in a hundred.
const QUERIES_PER_PREFETCH: u64 = 20;
/// Questions ahead of time that may be saved up: a page's worth of names that end together.
const SAVED_MAX: u64 = 50;
/// With so many queries waiting for them, upstreams have enough to do.
const WAITING_MAX: usize = 200;

/// What bounds refreshes, shared by all workers.
#[derive(Debug, Default)]
pub(super) struct Refreshing {
    behind: Arc<AtomicUsize>,
    budget: Budget,
}

/// A place among the refreshes under way behind stale answers.
#[derive(Debug)]
pub(super) struct Behind(Arc<AtomicUsize>);

impl Behind {
    /// Takes a place, if one is left.
    fn begin(count: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let more = |taken| (taken < max).then_some(taken + 1);
        count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
            .map(|_| Self(Arc::clone(count)))
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What may be asked ahead of time: every query of a client saves up a little.
#[derive(Debug)]
struct Budget(Mutex<Savings>);

#[derive(Debug)]
struct Savings {
    /// In queries; [`QUERIES_PER_PREFETCH`] buy one question.
    saved: u64,
    /// Queries of clients that were counted.
    counted: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self(Mutex::new(Savings {
            saved: SAVED_MAX * QUERIES_PER_PREFETCH,
            counted: 0,
        }))
    }
}

impl Budget {
    /// Pays for one question when `queries` have come from clients in all; whether there was enough.
    fn spend(&self, queries: u64) -> bool {
        let mut savings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = queries.saturating_sub(savings.counted);
        savings.counted = queries;
        savings.saved = savings
            .saved
            .saturating_add(earned)
            .min(SAVED_MAX * QUERIES_PER_PREFETCH);
        match savings.saved.checked_sub(QUERIES_PER_PREFETCH) {
            Some(left) => {
                savings.saved = left;
                true
            }
            None => false,
        }
    }
}

/// Whether what is known for `ttl_s`, and was learnt `age_s` ago, will soon be forgotten.
fn is_near_end(ttl_s: u32, age_s: u32) -> bool {
    let end_s = (ttl_s / 10).max(END_MIN_S);
    ttl_s >= TTL_MIN_S && age_s >= ttl_s.saturating_sub(end_s)
}

/// Whether an answer is in use and will expire soon, and nobody has seen to it yet.
pub(super) fn is_ending(entry: &Entry<'_>, now_s: u32) -> bool {
    entry.hits() >= HITS_MIN
        && !entry.is_claimed()
        && entry.failure().is_none()
        && is_near_end(entry.ttl_s(), entry.age_s(now_s))
}

/// Learns what is known of a zone that `question` needed anew, ahead of time, so that the next
/// answers need not wait for its keys. `now` is the time of asking.
pub(super) fn look_after_zones<U: Exchange>(
    driver: &Driver<U>,
    question: &Question,
    settings: &Arc<dnssec::Settings>,
    now: &Now,
) {
    let shared = &driver.shared;
    let keys = shared.keys.read().unwrap_or_else(PoisonError::into_inner);
    let ending = keys.ending(&question.name, now, is_near_end);
    drop(keys);
    let Some(zone) = ending else {
        return;
    };
    let mut keys = shared.keys.write().unwrap_or_else(PoisonError::into_inner);
    let is_ours = keys.claim(&zone);
    drop(keys);
    let upstreams = &driver.fetcher.upstreams;
    if !is_ours || !shared.affords(&**upstreams, question) {
        return;
    }
    shared.counters.prefetches.add();
    let deadline = shared.now().instant + upstreams.timeout();
    let settings = Arc::clone(settings);
    let judge = Some(Arc::clone(&settings));
    let forgotten = shared.forgotten();
    let driver = Driver::new(shared, Arc::clone(upstreams), judge, deadline, forgotten);
    tokio::spawn(async move {
        let renewed = validate::renew(&driver, &zone, &settings).await;
        debug!(%zone, ?renewed, "keys asked for ahead of time");
    });
}

impl Shared {
    /// Whether `question` may be asked ahead of time now; pays for it.
    fn affords(&self, upstreams: &impl Exchange, question: &Question) -> bool {
        self.cache_settings.load().prefetch
            && !upstreams.is_down(question)
            && self.waiting.count() < WAITING_MAX
            && self.refreshing.budget.spend(self.counters.queries.total())
    }
}

impl<U: Exchange> Resolver<U> {
    /// Tries to replace what was given out beyond its time.
    pub(super) fn refresh_behind(&self, query: &Query<'_>, is_down: bool, now: Now) {
        let max = if is_down { BEHIND_MAX_DOWN } else { BEHIND_MAX };
        let shared = &self.shared;
        let Some(behind) = Behind::begin(&shared.refreshing.behind, max) else {
            return;
        };
        if let Some(flight) = shared.flights.begin(query.key()) {
            shared.counters.refreshes.add();
            self.take_off(flight, query, Some(behind), now);
        }
    }

    /// Asks ahead of time for an answer that [`is_ending`], once in its life.
    #[cold]
    pub(super) fn prefetch(&self, query: &Query<'_>, now: Now) {
        let shared = &self.shared;
        if !shared.cache.claim(query.key()) {
            return;
        }
        if !shared.affords(&**self.upstreams.load(), &query.question()) {
            return;
        }
        if let Some(flight) = shared.flights.begin(query.key()) {
            shared.counters.prefetches.add();
            self.take_off(flight, query, None, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_queries_pay_for_a_question_and_savings_are_bounded() {
        let budget = Budget::default();
        let spent = |queries| (0..1000).take_while(|_| budget.spend(queries)).count();
        assert_eq!(spent(0), 50);
        assert_eq!(spent(19), 0);
        assert_eq!(spent(20), 1);
        assert_eq!(spent(420), 20);
        // A quiet day is no reason for a storm.
        assert_eq!(spent(1_000_000), 50);
    }

    #[test]
    fn the_end_is_the_last_tenth_and_a_few_seconds_at_least() {
        let begins = |ttl_s| (0..ttl_s).find(|age_s| is_near_end(ttl_s, *age_s));
        assert_eq!(begins(86_400), Some(77_760));
        assert_eq!(begins(300), Some(270));
        assert_eq!(begins(30), Some(25));
        assert_eq!(begins(10), Some(5));
        assert_eq!(begins(9), None);
    }
}
