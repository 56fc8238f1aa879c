//! One query's way: the order of steps between a listener and the upstreams.
//!
//! The first step, [`Resolver::try_answer`](crate::handler::Handler::try_answer), is the hot path,
//! written straight through. What it cannot answer from memory takes a flight: one exchange with
//! upstreams per question, whoever and however many ask it. Every result, failures included,
//! becomes a packed entry, and the reply is made of that: a miss is a fill followed by a hit.
//!
//! Knows floors 0 and 1 and [`crate::upstream::Exchange`]; no listener, no socket, no file.

mod broken;
mod clock;
mod counters;
mod driver;
pub mod explain;
mod fetch;
mod fill;
mod flights;
mod local;
mod refresh;
mod scrub;
mod stale;
#[cfg(test)]
mod tests;
mod validate;

use std::{
    net::IpAddr,
    pin::pin,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::time::timeout;

use crate::{
    access::{Access, Admission, Place, Waiting},
    cache::{self, Cache, Stored},
    clock::Now,
    dnssec::{self, Gaps, KeyCache},
    handler::{Answer, Attempt, Client, Handler},
    names,
    reply::{self, Failure},
    upstream::Exchange,
    wire::{Name, Query, rtype},
};
use broken::Broken;
use clock::Gated;
pub use clock::Wrong;
pub use counters::{Counters, PerTransport};
use driver::Driver;
use fetch::Outcome;
use flights::{Flight, Flights, Flown, Joined};
use refresh::{Behind, Refreshing};
use stale::{CLIENT_WAIT, Known, Past};

/// What the workers of one process share.
#[derive(Debug)]
pub struct Shared {
    /// The cache.
    pub cache: Arc<Cache>,
    /// The door; swapped when the configuration is read again.
    pub access: ArcSwap<Access>,
    /// Counters.
    pub counters: Counters,
    reply: reply::Settings,
    cache_settings: ArcSwap<cache::Settings>,
    waiting: Arc<Waiting>,
    flights: Arc<Flights<Landed>>,
    /// Exchanges under way.
    fetches: Arc<Flights<Outcome>>,
    /// What the validator knows about zones.
    keys: RwLock<KeyCache>,
    /// What it proved not to exist.
    gaps: RwLock<Gaps>,
    /// Where it failed just now.
    broken: Broken,
    /// What bounds asking again behind the clients' backs.
    refreshing: Refreshing,
    /// The validator's settings; `None` when validation is switched off.
    dnssec: ArcSwapOption<dnssec::Settings>,
    /// The names that are answered here.
    names: ArcSwap<names::Settings>,
    /// How often answers were forgotten. Held to store an answer, and alone to forget some or to
    /// change how they are judged.
    forgotten: RwLock<u64>,
    /// Whether answers can be judged by the clock.
    gated: Option<Gated>,
    /// Reads the clocks.
    now: fn() -> Now,
}

impl Shared {
    /// An empty cache behind a door. Without `dnssec` nothing is validated, and no answer carries
    /// AD.
    #[must_use]
    pub fn new(
        cache: cache::Settings,
        access: Access,
        reply: reply::Settings,
        dnssec: Option<dnssec::Settings>,
    ) -> Self {
        Self {
            cache: Arc::new(Cache::new(&cache)),
            access: ArcSwap::from_pointee(access),
            counters: Counters::default(),
            reply,
            cache_settings: ArcSwap::from_pointee(cache),
            waiting: Arc::default(),
            flights: Arc::new(Flights::new()),
            fetches: Arc::new(Flights::new()),
            keys: RwLock::default(),
            gaps: RwLock::default(),
            broken: Broken::default(),
            refreshing: Refreshing::default(),
            dnssec: ArcSwapOption::from_pointee(dnssec),
            names: ArcSwap::default(),
            forgotten: RwLock::default(),
            gated: None,
            now: Now::read,
        }
    }

    /// Takes every time from `now` instead of the machine's clocks: for tests that move time by
    /// hand.
    #[must_use]
    pub fn with_clock(self, now: fn() -> Now) -> Self {
        Self { now, ..self }
    }

    /// The time by the clocks of this process.
    fn now(&self) -> Now {
        (self.now)()
    }

    /// Validates with these settings from now on, or not at all. What was judged by others is
    /// forgotten.
    pub fn apply_dnssec(&self, settings: Option<dnssec::Settings>) {
        let mut forgotten = self
            .forgotten
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        self.dnssec.store(settings.map(Arc::new));
        self.forget(&mut forgotten, &Name::root());
    }

    /// The settings by which all answers in the cache were judged; `None` when none is.
    pub fn dnssec_settings(&self) -> Option<Arc<dnssec::Settings>> {
        self.dnssec.load_full()
    }

    /// Whether these are the settings that answers are judged by now.
    fn is_in_force(&self, settings: Option<&Arc<dnssec::Settings>>) -> bool {
        match (&*self.dnssec.load(), settings) {
            (Some(current), Some(settings)) => Arc::ptr_eq(current, settings),
            (None, None) => true,
            _ => false,
        }
    }

    /// How often answers were forgotten until now.
    pub fn forgotten(&self) -> u64 {
        *self
            .forgotten
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Held to keep what was found out: `None` when answers are judged by other settings by now than
    /// when it was asked for, or some were forgotten since, for it may be one of those. Nothing
    /// changes while it is held.
    fn unforgotten(
        &self,
        forgotten: u64,
        settings: Option<&Arc<dnssec::Settings>>,
    ) -> Option<RwLockReadGuard<'_, u64>> {
        let now = self
            .forgotten
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        (*now == forgotten && self.is_in_force(settings)).then_some(now)
    }

    /// Stores an answer, if it may be kept.
    fn keep(&self, stored: &Stored, asked: &Asked) {
        if let Some(_held) = self.unforgotten(asked.forgotten, asked.settings.as_ref()) {
            self.cache.insert(stored.clone());
        }
    }

    /// Forgets the answers at and below `name`, and what is known of the zones there; the root
    /// means all. How many answers. What is on its way reaches those who wait and is not kept.
    pub fn flush(&self, name: &Name) -> usize {
        let mut forgotten = self
            .forgotten
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        self.forget(&mut forgotten, name)
    }

    fn forget(&self, forgotten: &mut u64, name: &Name) -> usize {
        *forgotten = forgotten.wrapping_add(1);
        let keys = self.keys.write();
        keys.unwrap_or_else(PoisonError::into_inner).forget(name);
        let gaps = self.gaps.write();
        gaps.unwrap_or_else(PoisonError::into_inner).forget(name);
        self.broken.clear();
        self.cache.remove_zone(name)
    }

    /// Answers these names here from now on. What upstreams said of them is forgotten.
    pub fn apply_names(&self, settings: names::Settings) {
        if **self.names.load() != settings {
            self.names.store(Arc::new(settings));
            self.flush(&Name::root());
        }
    }

    /// The bounds for the times answers are kept.
    pub fn cache_settings(&self) -> cache::Settings {
        **self.cache_settings.load()
    }

    /// Takes another size of the cache, and new bounds for the times answers are kept.
    pub fn apply_cache_settings(&self, settings: cache::Settings) {
        self.cache.resize(settings.size_octets);
        self.cache_settings.store(Arc::new(settings));
    }
}

/// What a flight brings back to all who wait for it.
#[derive(Clone, Debug)]
struct Landed {
    stored: Arc<Stored>,
    /// When it was found. Replies are aged by it, which saves each a look at the clocks.
    at: Now,
}

/// How things stood when a question was asked.
struct Asked {
    /// The settings that answers are judged by.
    settings: Option<Arc<dnssec::Settings>>,
    /// How often answers had been forgotten.
    forgotten: u64,
}

impl Asked {
    fn now(shared: &Shared) -> Self {
        Self {
            forgotten: shared.forgotten(),
            settings: shared.dnssec.load_full(),
        }
    }
}

/// Answers the queries of one worker.
#[derive(Debug)]
pub struct Resolver<U> {
    shared: Arc<Shared>,
    upstreams: ArcSwap<U>,
}

/// A query that waits for upstreams.
#[derive(Debug)]
pub struct Pending {
    octets: Box<[u8]>,
    client: Client,
    now: Now,
    place: Place,
    /// Whether there is a stale answer for the case that no fresh one comes.
    has_stale: bool,
}

impl<U: Exchange> Resolver<U> {
    /// A resolver that asks `upstreams`.
    pub fn new(shared: Arc<Shared>, upstreams: Arc<U>) -> Self {
        Self {
            shared,
            upstreams: ArcSwap::new(upstreams),
        }
    }

    /// Asks these upstreams from now on; questions on their way stay where they are.
    pub fn apply_upstreams(&self, upstreams: Arc<U>) {
        self.upstreams.store(upstreams);
    }

    /// Says what is wrong to the client at once.
    fn refuse(
        &self,
        query: &Query<'_>,
        client: &Client,
        failure: &Failure,
        now: &Now,
        out: &mut Vec<u8>,
    ) -> Attempt<Pending> {
        Attempt::Answered(reply::failure(
            &self.shared.reply,
            query,
            client,
            failure,
            now,
            out,
        ))
    }

    /// Flies for everybody who asks the question of `query`.
    fn fly(
        &self,
        flight: Flight<Landed>,
        query: &Query<'_>,
        behind: Option<Behind>,
        now: Now,
    ) -> impl Future<Output = Option<Landed>> + Send + use<U> {
        let shared = Arc::clone(&self.shared);
        let mut asked = Asked::now(&shared);
        let upstreams = self.upstreams.load_full();
        // A client that sets CD gets what upstream said, under a cache key of its own.
        let dnssec = if query.checking_disabled() {
            None
        } else {
            asked.settings.clone()
        };
        let deadline = now.instant + upstreams.timeout();
        let judges = !query.checking_disabled();
        let question = query.question();
        let key = flight.key();
        async move {
            let _behind = behind;
            let mut driver = Driver::new(&shared, upstreams, dnssec, deadline, asked.forgotten);
            let mut found = driver.resolve(&question).await;
            // What was judged by settings that hold no longer is judged again, once.
            if judges && !shared.is_in_force(driver.dnssec.as_ref()) {
                asked = Asked::now(&shared);
                driver.dnssec.clone_from(&asked.settings);
                driver.fetcher.forgotten = asked.forgotten;
                found = driver.resolve(&question).await;
            }
            let now = shared.now();
            let now_s = now.uptime_s;
            let settings = **shared.cache_settings.load();
            let packed = found.and_then(|found| {
                fill::pack(&settings, &key, &question, found, now_s).ok_or_else(|| {
                    Failure::Upstream("the answer is larger than a message".to_owned())
                })
            });
            let stored = match packed {
                Ok(stored) => {
                    if stored.entry().ttl_s() > 0 {
                        shared.keep(&stored, &asked);
                    } else {
                        // What is not to be kept must not leave older data behind.
                        shared.cache.remove(&key);
                    }
                    Some(stored)
                }
                Err(failure) => {
                    let stored = fill::pack_failure(&shared.cache, &key, &failure, now_s);
                    if let Some(stored) = &stored {
                        let is_down = driver.fetcher.upstreams.is_down(&question);
                        shared.keep_failure(stored, &failure, is_down, &asked, now_s);
                    }
                    stored
                }
            };
            // Nothing to land is impossible but for a key beyond all bounds; those who wait learn
            // it by the flight's end.
            let landed = Landed {
                stored: Arc::new(stored?),
                at: now,
            };
            flight.land(&landed);
            Some(landed)
        }
    }

    /// Flies while no client waits.
    fn take_off(
        &self,
        flight: Flight<Landed>,
        query: &Query<'_>,
        behind: Option<Behind>,
        now: Now,
    ) {
        tokio::spawn(self.fly(flight, query, behind, now));
    }

    /// What the cache has for `query`; a fresh entry is handed to `read`.
    fn recall<R>(
        &self,
        query: &Query<'_>,
        now: &Now,
        read: impl FnOnce(&cache::Entry<'_>) -> R,
    ) -> Known<R> {
        let shared = &*self.shared;
        let known = shared.cache.read(query.key(), |entry| {
            if entry.is_fresh(now.uptime_s) {
                let is_ending = refresh::is_ending(&entry, now.uptime_s);
                return Known::Fresh(read(&entry), is_ending);
            }
            let serve_stale_s = shared.cache_settings.load().serve_stale_s;
            if entry.is_stale(now.uptime_s, serve_stale_s) {
                return Known::Stale(Past::of(&entry, now.uptime_s));
            }
            Known::Nothing
        });
        known.unwrap_or(Known::Nothing)
    }

    async fn wait(&self, query: &Query<'_>, now: Now) -> Result<Landed, Failure> {
        let joined = self.shared.flights.join(query.key());
        let flight = match joined.map_err(Failure::Overloaded)? {
            Joined::Pilot(flight) => flight,
            Joined::Passenger(landed) => return landed.await.map_err(|_| Failure::Internal),
        };
        // Another worker's flight may have landed since the cache was looked at.
        let known = self
            .shared
            .cache
            .read(query.key(), |entry| {
                entry.is_fresh(now.uptime_s).then(|| entry.to_stored())
            })
            .flatten();
        if let Some(stored) = known {
            let stored = Arc::new(stored);
            let landed = Landed { stored, at: now };
            flight.land(&landed);
            return Ok(landed);
        }
        let course = self.fly(flight, query, None, now);
        Flown::new(course).await.ok_or(Failure::Internal)
    }
}

impl<U: Exchange> Handler for Resolver<U> {
    type Pending = Pending;

    fn admits(&self, address: IpAddr) -> bool {
        self.shared.access.load().allows(address)
    }

    fn now(&self) -> Now {
        let now = self.shared.now();
        self.shared.look_at_clock(&now);
        now
    }

    fn try_answer(
        &self,
        now: &Now,
        octets: &[u8],
        client: &Client,
        out: &mut Vec<u8>,
    ) -> Attempt<Pending> {
        let shared = &*self.shared;
        shared.counters.queries.add(client.transport);
        let admission = shared.access.load().admit(client.address.ip(), now.instant);
        if admission == Admission::TooOften {
            shared.counters.too_often.add();
            return Attempt::Refused;
        }
        let query = match Query::peek(octets) {
            Ok(query) => query,
            Err(fault) if reply::fault(octets, fault, out) => {
                return Attempt::Answered(Answer::default());
            }
            Err(_) => return Attempt::Malformed,
        };
        if admission == Admission::NotAllowed {
            return self.refuse(&query, client, &Failure::NotAllowed, now, out);
        }
        // Signatures by themselves are no answer that could be judged (RFC 8482, section 7).
        if matches!(query.qtype(), rtype::ANY | rtype::RRSIG | rtype::SIG) {
            return Attempt::Answered(local::any(&shared.reply, &query, client, now, out));
        }
        let known = self.recall(&query, now, |entry| {
            reply::answer(&shared.reply, &query, client, entry, now, out)
        });
        if let Known::Fresh(answer, is_ending) = known {
            shared.counters.hits.add();
            if is_ending {
                self.prefetch(&query, *now);
            }
            return Attempt::Answered(answer);
        }
        if let Some(found) = shared.names.load().answer(&query.question()) {
            let answer = local::special(&shared.reply, &query, client, &found, now, out);
            return Attempt::Answered(answer);
        }
        let has_stale = match known {
            Known::Stale(past) => match self.stale_at_once(&query, client, past, now, out) {
                Some(answer) => return Attempt::Answered(answer),
                None => true,
            },
            Known::Fresh(..) | Known::Nothing => false,
        };
        match shared.waiting.enter(client.address.ip()) {
            Ok(place) => Attempt::Pending(Pending {
                octets: Box::from(octets),
                client: *client,
                now: *now,
                place,
                has_stale,
            }),
            Err(bound) => match self.answer_even_stale(&query, client, now, out) {
                Some(answer) => Attempt::Answered(answer),
                None => self.refuse(&query, client, &Failure::Overloaded(bound), now, out),
            },
        }
    }

    async fn finish(&self, pending: Pending, out: &mut Vec<u8>) -> Answer {
        let Pending {
            octets,
            client,
            now,
            place,
            has_stale,
        } = pending;
        // It was read once already, so this cannot fail; if it did, no reply is the right one.
        let Ok(query) = Query::peek(&octets) else {
            return Answer::default();
        };
        let mut wait = pin!(self.wait(&query, now));
        let in_time = if has_stale {
            timeout(CLIENT_WAIT, wait.as_mut()).await.ok()
        } else {
            Some(wait.as_mut().await)
        };
        let failed = match &in_time {
            Some(Ok(landed)) => landed.stored.entry().failure().is_some(),
            Some(Err(_)) | None => true,
        };
        if failed
            && let Some(answer) = self.answer_even_stale(&query, &client, &self.shared.now(), out)
        {
            return answer;
        }
        let landed = match in_time {
            Some(landed) => landed,
            // The stale answer is gone meanwhile.
            None => wait.await,
        };
        drop(place);
        let reply = &self.shared.reply;
        match landed {
            Ok(Landed { stored, at }) => {
                reply::answer(reply, &query, &client, &stored.entry(), &at, out)
            }
            Err(failure) => {
                let now = self.shared.now();
                reply::failure(reply, &query, &client, &failure, &now, out)
            }
        }
    }

    fn decline(&self, pending: Pending, out: &mut Vec<u8>) -> Answer {
        let Pending { octets, client, .. } = pending;
        let Ok(query) = Query::peek(&octets) else {
            return Answer::default();
        };
        let now = self.shared.now();
        if let Some(answer) = self.answer_even_stale(&query, &client, &now, out) {
            return answer;
        }
        let failure = Failure::Overloaded("too many queries are waiting for upstreams");
        reply::failure(&self.shared.reply, &query, &client, &failure, &now, out)
    }
}
