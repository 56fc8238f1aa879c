//! Which upstreams a question is put to, and when.
//!
//! They are tried in the order of the configuration, those that failed of late last. An error
//! starts the next at once; silence starts it beside the one that is silent. A response whose
//! rcode says that the upstream could not or would not answer is kept, in case nobody has a
//! better one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep_until;

use super::{
    Exchange, ExchangeError, Exchanged, Probe, SILENT_AFTER, Settings,
    connection::{Dial, DialError},
    error::Failure,
    health::Health,
    life::Life,
    message::{self, Received},
    pool::Pool,
    race::Race,
    routes::Routes,
    settings::UpstreamSettings,
    tries::Tries,
    udp::{self, Udp},
};
use crate::{
    clock,
    handler::Transport,
    wire::{CLASS_IN, Name, Question, rcode, rtype},
};

/// When the upstreams that are asked kept silent for so long, the exchange ends: the client is told
/// within two seconds, since a stub gives up after five, while a live upstream may take the whole timeout.
///
/// Live is one from which a part of an answer came since the question was put to it, be it to
/// another question. A handshake is less: a host that completes it and then says nothing looks the
/// same whether it works on a hard name or is dead behind its front. It only gets
/// [`AFTER_HANDSHAKE`] from there on. So a name that takes a far side longer than this fails with
/// silence when nobody else asks that upstream anything; it is there when it is asked again.
const SILENCE_MAX: Duration = Duration::from_millis(1800);
/// How long one that was heard, but gave no answer to anybody, may go on before it is silent.
const AFTER_HANDSHAKE: Duration = Duration::from_millis(1200);
/// How often an exchange that takes long looks for signs of life.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The upstreams of one worker.
#[derive(Clone)]
#[allow(
    clippy::struct_field_names,
    reason = "upstreams are what this is made of"
)]
pub struct Upstreams {
    upstreams: Vec<Arc<Upstream>>,
    routes: Arc<Routes>,
    timeout: Duration,
    udp_sockets_max: usize,
    /// What they were made of, to make them anew.
    settings: Arc<Settings>,
}

/// An upstream that cannot be set up. The configuration is at fault.
#[derive(Debug, thiserror::Error)]
#[error("upstream {upstream}: {source}")]
pub struct SetupError {
    upstream: String,
    source: DialError,
}

/// What all workers share about one upstream.
struct Profile {
    name: Arc<str>,
    transport: Transport,
    addresses: Vec<std::net::SocketAddr>,
    dial: Dial,
    life: Life,
    health: Health,
}

/// One upstream with one worker's connections to it.
struct Upstream {
    profile: Arc<Profile>,
    way: Way,
}

enum Way {
    Datagrams(Udp),
    Connections(Pool),
}

impl Upstreams {
    /// Sets up all upstreams of `settings`. Connects to none of them.
    ///
    /// # Errors
    /// When the certificates or names of one make no usable set-up.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        Self::set_up(Arc::new(settings.clone()), None, udp::SOCKETS_MAX)
    }

    /// The same upstreams, set up again: no connection, no TLS session and no experience is kept.
    /// From now on `clock` says whether the dates of certificates can be judged; by themselves
    /// upstreams always judge them.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn under(&self, clock: &Arc<clock::Gate>) -> Result<Self, SetupError> {
        Self::set_up(
            Arc::clone(&self.settings),
            Some(clock),
            self.udp_sockets_max,
        )
    }

    fn set_up(
        settings: Arc<Settings>,
        clock: Option<&Arc<clock::Gate>>,
        udp_sockets_max: usize,
    ) -> Result<Self, SetupError> {
        let profiles = settings
            .upstreams
            .iter()
            .map(|upstream| Profile::new(upstream, clock).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            upstreams: upstreams(profiles, udp_sockets_max),
            routes: Arc::new(Routes::new(&settings)),
            timeout: settings.timeout,
            udp_sockets_max,
            settings,
        })
    }

    /// The same upstreams for another worker: connections of its own, everything else shared, so
    /// that a change of health is known to all and logged once.
    #[must_use]
    pub fn for_worker(&self) -> Self {
        self.with_udp_sockets_max(self.udp_sockets_max)
    }

    /// The same upstreams, with at most so many sockets towards each of those on plain UDP.
    #[must_use]
    pub fn with_udp_sockets_max(&self, udp_sockets_max: usize) -> Self {
        Self {
            upstreams: upstreams(self.profiles(), udp_sockets_max),
            udp_sockets_max,
            ..self.clone()
        }
    }

    fn profiles(&self) -> Vec<Arc<Profile>> {
        self.upstreams
            .iter()
            .map(|upstream| Arc::clone(&upstream.profile))
            .collect()
    }

    /// The names of the upstreams in the order of the configuration.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.upstreams.iter().map(|upstream| &upstream.profile.name)
    }

    /// Asks each upstream for the root's NS records and measures how long that takes, connection
    /// included. All are asked at once; the results stand in the order of the configuration.
    pub async fn probe(&self) -> Vec<Probe> {
        let question = Question {
            name: Name::root(),
            qtype: rtype::NS,
            qclass: CLASS_IN,
        };
        let deadline = clock::instant() + self.timeout;
        let mut race = Race::new();
        for (at, upstream) in self.upstreams.iter().enumerate() {
            let question = &question;
            race.start(async move {
                let began = clock::instant();
                let tries = Tries::new();
                let exchanged = tokio::select! {
                    exchanged = upstream.exchange(question, &tries) => exchanged,
                    () = sleep_until(deadline.into()) => Err(upstream.error(Failure::Timeout)),
                };
                let latency = exchanged.map(|_| clock::instant() - began);
                (at, upstream.probe(latency))
            });
        }
        let mut probes = Vec::new();
        while let Some(probe) = race.next().await {
            probes.push(probe);
        }
        probes.sort_by_key(|(at, _)| *at);
        probes.into_iter().map(|(_, probe)| probe).collect()
    }

    /// The upstreams for `question` in the order in which to try them now.
    fn order(&self, question: &Question, now: Instant, avoid: Option<&str>) -> Vec<&Upstream> {
        let (mut last, mut order): (Vec<_>, Vec<_>) = self
            .routes
            .of(question)
            .iter()
            .filter_map(|at| self.upstreams.get(*at))
            .map(Arc::as_ref)
            .partition(|upstream| {
                avoid == Some(&*upstream.profile.name) || upstream.profile.health.is_penalised(now)
            });
        order.append(&mut last);
        order
    }
}

impl Exchange for Upstreams {
    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn count(&self, question: &Question) -> usize {
        self.routes.of(question).len()
    }

    fn incomplete(&self, name: &str) {
        let named = |upstream: &&Arc<Upstream>| *upstream.profile.name == *name;
        if let Some(upstream) = self.upstreams.iter().find(named) {
            let health = &upstream.profile.health;
            health.incomplete(clock::instant());
        }
    }

    async fn exchange(
        &self,
        question: &Question,
        deadline: Instant,
        avoid: Option<&str>,
    ) -> Result<Exchanged, ExchangeError> {
        let began = clock::instant();
        let deadline = deadline.min(began + self.timeout);
        let tries = Tries::new();
        let mut walk = Walk::new(self.order(question, began, avoid), question, &tries);
        walk.start_next();
        let mut next_at = began + SILENT_AFTER;
        let mut look_at = began + SILENT_AFTER;
        loop {
            tokio::select! {
                biased;
                Some(outcome) = walk.race.next() => {
                    if let Some(response) = walk.take(outcome) {
                        return Ok(response);
                    }
                    if walk.start_next() {
                        next_at = clock::instant() + SILENT_AFTER;
                    } else if walk.race.is_empty() {
                        return walk.best();
                    }
                }
                () = sleep_until(next_at.into()), if walk.has_next() => {
                    // One that is heard from is not helped by a second that starts from nothing.
                    // A handshake is heard too, but says little of what comes after it.
                    if walk.is_quiet() {
                        walk.start_next();
                    }
                    next_at = clock::instant() + SILENT_AFTER;
                }
                () = sleep_until(look_at.into()) => {
                    let now = clock::instant();
                    if walk.is_over(now, began + SILENCE_MAX) {
                        walk.blame_all(now);
                        return walk.best();
                    }
                    look_at = now + LOOK_EVERY;
                }
                () = sleep_until(deadline.into()) => {
                    walk.blame_all(clock::instant());
                    return walk.best();
                }
            }
        }
    }
}

/// One question on its way through the upstreams.
struct Walk<'a> {
    rest: std::vec::IntoIter<&'a Upstream>,
    question: &'a Question,
    tries: &'a Tries,
    race: Race<'a, (&'a Upstream, Result<Exchanged, ExchangeError>)>,
    /// Those that were asked and have not ended.
    asked: Vec<Asked<'a>>,
    /// What was heard from all of them together at the last look.
    heard_before: u64,
    /// The last response with an rcode that others may better.
    fallback: Option<Exchanged>,
    error: Option<ExchangeError>,
}

impl<'a> Walk<'a> {
    fn new(order: Vec<&'a Upstream>, question: &'a Question, tries: &'a Tries) -> Self {
        Self {
            rest: order.into_iter(),
            question,
            tries,
            race: Race::new(),
            asked: Vec::new(),
            heard_before: 0,
            fallback: None,
            error: None,
        }
    }

    fn has_next(&self) -> bool {
        !self.rest.as_slice().is_empty()
    }

    /// Puts the question to the next upstream, if there is one and the budget allows.
    fn start_next(&mut self) -> bool {
        if !self.has_next() || !self.tries.take() {
            return false;
        }
        let Some(upstream) = self.rest.next() else {
            return false;
        };
        let (question, tries) = (self.question, self.tries);
        self.asked.push(Asked::new(upstream, clock::instant()));
        self.race
            .start(async move { (upstream, upstream.exchange(question, tries).await) });
        true
    }

    /// Notes an outcome; gives back the response if it is one to answer with.
    fn take(
        &mut self,
        (upstream, outcome): (&'a Upstream, Result<Exchanged, ExchangeError>),
    ) -> Option<Exchanged> {
        let now = clock::instant();
        self.asked
            .retain(|asked| !std::ptr::eq(asked.upstream, upstream));
        match outcome {
            Ok(exchanged) => {
                upstream.profile.health.succeeded();
                if !is_refusal(&exchanged.octets) {
                    // Whoever was passed over because it kept silent is known to be slow now.
                    for asked in &self.asked {
                        if asked.was_given_time(now) && !asked.was_heard() {
                            asked.upstream.profile.health.failed(now, &Failure::Silent);
                        }
                    }
                    return Some(exchanged);
                }
                self.fallback = Some(exchanged);
            }
            Err(error) => {
                upstream.profile.health.failed(now, error.failure());
                tracing::debug!(%error, "exchange failed");
                self.note(error);
            }
        }
        None
    }

    /// Whether nothing was heard from anybody since the last look, or since they were asked.
    fn is_quiet(&mut self) -> bool {
        let heard = self
            .asked
            .iter()
            .map(Asked::heard)
            .fold(0, u64::wrapping_add);
        std::mem::replace(&mut self.heard_before, heard) == heard
    }

    /// Whether all that are still asked are silent, at `patience_ends` at the earliest. Those that
    /// have ended do not count: nothing more comes from them.
    fn is_over(&mut self, now: Instant, patience_ends: Instant) -> bool {
        let mut all_silent = true;
        for asked in &mut self.asked {
            asked.look(now);
            all_silent &= asked.was_given_time(now) && asked.is_silent(now);
        }
        all_silent && now >= patience_ends
    }

    /// Holds the end of the exchange against those that have not answered.
    fn blame_all(&mut self, now: Instant) {
        for mut asked in std::mem::take(&mut self.asked) {
            asked.look(now);
            let health = &asked.upstream.profile.health;
            match (asked.was_given_time(now), asked.was_heard()) {
                (false, _) => {}
                (true, false) => health.failed(now, &Failure::Silent),
                (true, true) => health.timed_out(now, &self.question.name),
            }
            let failure = if asked.is_silent(now) {
                Failure::Silent
            } else {
                Failure::Timeout
            };
            self.note(asked.upstream.error(failure));
        }
    }

    /// Keeps the error that says most about the name, the last of those that say the same.
    fn note(&mut self, error: ExchangeError) {
        if self
            .error
            .as_ref()
            .is_none_or(|kept| kept.class() <= error.class())
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

/// An upstream that was asked and has not ended.
struct Asked<'a> {
    upstream: &'a Upstream,
    at: Instant,
    /// What was heard from it before.
    heard_before: u64,
    /// What was heard of answers from it before.
    answers_before: u64,
    /// What had been heard at the last look that found something new, and when that was.
    last_heard: (u64, Instant),
}

impl<'a> Asked<'a> {
    fn new(upstream: &'a Upstream, now: Instant) -> Self {
        let life = &upstream.profile.life;
        Self {
            upstream,
            at: now,
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

    /// How much was heard since it was asked.
    fn heard(&self) -> u64 {
        let life = &self.upstream.profile.life;
        life.of_upstream().wrapping_sub(self.heard_before)
    }

    fn was_heard(&self) -> bool {
        self.heard() != 0
    }

    /// Whether it has had the time in which nearly every live one is heard.
    fn was_given_time(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) >= SILENT_AFTER
    }

    /// Whether nothing was heard since it was asked, or no answer and nothing else for long.
    fn is_silent(&self, now: Instant) -> bool {
        let quiet = now.saturating_duration_since(self.last_heard.1);
        !self.was_heard()
            || self.upstream.profile.life.answers() == self.answers_before
                && quiet >= AFTER_HANDSHAKE
    }
}

/// Whether the rcode says that this upstream could not or would not answer, which another may.
fn is_refusal(response: &[u8]) -> bool {
    matches!(
        message::rcode(response),
        rcode::FORMERR | rcode::SERVFAIL | rcode::NOTIMP | rcode::REFUSED
    )
}

/// Upstreams of one worker, with connections of their own.
fn upstreams(profiles: Vec<Arc<Profile>>, udp_sockets_max: usize) -> Vec<Arc<Upstream>> {
    let profiles = profiles.into_iter();
    profiles
        .map(|profile| Arc::new(Upstream::new(profile, udp_sockets_max)))
        .collect()
}

impl Profile {
    fn new(
        settings: &UpstreamSettings,
        clock: Option<&Arc<clock::Gate>>,
    ) -> Result<Self, SetupError> {
        let dial = Dial::new(settings, clock).map_err(|source| SetupError {
            upstream: settings.name.clone(),
            source,
        })?;
        Ok(Self {
            name: Arc::from(settings.name.as_str()),
            transport: settings.transport,
            addresses: settings.addresses.clone(),
            dial,
            life: Life::default(),
            health: Health::new(&settings.name),
        })
    }
}

impl Upstream {
    fn new(profile: Arc<Profile>, udp_sockets_max: usize) -> Self {
        let pool = |addresses| Pool::new(addresses, profile.dial.clone(), profile.life.clone());
        let way = if profile.transport == Transport::Udp {
            let addresses = profile.addresses.iter();
            let pools = addresses.map(|address| (*address, pool(vec![*address])));
            let life = profile.life.clone();
            Way::Datagrams(Udp::new(pools.collect(), life, udp_sockets_max))
        } else {
            Way::Connections(pool(profile.addresses.clone()))
        };
        Self { profile, way }
    }

    async fn exchange(
        &self,
        question: &Question,
        tries: &Tries,
    ) -> Result<Exchanged, ExchangeError> {
        let received = match &self.way {
            Way::Datagrams(udp) => udp.exchange(question, tries).await,
            Way::Connections(pool) => pool.exchange(question, tries).await,
        };
        match received {
            Ok(Received { octets, age_s }) => Ok(Exchanged {
                octets,
                age_s,
                upstream: Arc::clone(&self.profile.name),
                transport: self.profile.transport,
            }),
            Err(failure) => Err(self.error(failure)),
        }
    }

    fn error(&self, failure: Failure) -> ExchangeError {
        ExchangeError::new(Arc::clone(&self.profile.name), failure)
    }

    fn probe(&self, latency: Result<Duration, ExchangeError>) -> Probe {
        Probe {
            upstream: Arc::clone(&self.profile.name),
            transport: self.profile.transport,
            latency,
        }
    }
}
