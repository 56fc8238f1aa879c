//! Which upstreams a question is put to.
//!
//! The [`super::strategy`] puts those that a route allows into an order; a
//! [`walk`](super::walk) goes along it. All that is known of them is shared by the workers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    time::{sleep_until, timeout},
};

use super::{
    Exchange, ExchangeError, Exchanged, LookedUp, Probe, Settings, Status,
    addresses::Addresses,
    connection::DialError,
    error::Failure,
    hedge::Budget,
    probing::{self, Measuring},
    profile::{Profile, Upstream},
    race::Race,
    routes::{Group, Routes},
    settings::Strategy,
    strategy::{self, Candidate, Standing},
    tries::Tries,
    udp,
    walk::{Chosen, Walk},
};
use crate::{
    clock::{self, Gate, SleepWatch},
    entropy,
    wire::{CLASS_IN, Name, Question, rtype},
};

/// One question of so many is also put to an upstream that is not the fastest, to see whether it
/// still is not. No client waits for that.
const MEASURE_ONE_IN: u32 = 64;
/// The same while an upstream has given fewer than [`SAMPLES_ENOUGH`] answers.
const MEASURE_EARLY_ONE_IN: u32 = 16;
/// With so many answers chance has little part in the mean of their times.
const SAMPLES_ENOUGH: u32 = 32;

/// A machine that starts, wakes or moves has addresses and routes again within so long, mostly. A
/// query that finds none in this time is not told at once.
const NETWORK_SETTLES: Duration = Duration::from_secs(5);
/// How long such a query waits in all, so that its answer comes within a stub's patience.
const NO_NETWORK_MAX: Duration = Duration::from_millis(1500);
/// How long until it is tried again when nobody tells that the network changed.
const NO_NETWORK_AGAIN: Duration = Duration::from_millis(300);

/// The upstreams of one worker.
#[derive(Clone)]
pub struct Upstreams(Arc<Set>);

/// An upstream that cannot be set up. The configuration is at fault.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Certificates or names make no usable set-up.
    #[error("upstream {upstream}: {source}")]
    Dial {
        /// The name of the upstream.
        upstream: String,
        /// What is wrong.
        source: DialError,
    },
    /// Its host name must be looked up, and every other upstream's too.
    #[error(
        "upstream {upstream}: nobody can be asked for the addresses of {host}; add \
         bootstrap = [\"9.9.9.9\"], or `addresses`"
    )]
    NobodyToAsk {
        /// The name of the upstream.
        upstream: String,
        /// The host name.
        host: Name,
    },
}

/// The upstreams with one worker's connections.
pub(super) struct Set {
    /// In the order of the configuration, as `shared.members`.
    upstreams: Vec<Arc<Upstream>>,
    shared: Arc<Shared>,
    udp_sockets_max: usize,
    sleep: SleepWatch,
    /// When the network became what it is; at first, when this was made.
    network: watch::Sender<Instant>,
}

/// What all workers share.
struct Shared {
    members: Vec<Member>,
    routes: Routes,
    strategy: Strategy,
    timeout: Duration,
    budget: Arc<Budget>,
    /// Decides which domains go to whom under [`Strategy::Spread`].
    hasher: ahash::RandomState,
    /// What they were made of, to make them anew.
    settings: Settings,
    clock: Option<Arc<Gate>>,
}

/// One upstream as the choice sees it.
struct Member {
    profile: Arc<Profile>,
    weight: u32,
    /// Who runs it.
    operator: u64,
}

impl Shared {
    fn new(
        settings: &Settings,
        clock: Option<Arc<Gate>>,
        old: Option<&Self>,
    ) -> Result<Self, SetupError> {
        let hasher = old.map_or_else(entropy::hasher, |old| old.hasher.clone());
        let mut members = Vec::new();
        for upstream in &settings.upstreams {
            let kept = old.and_then(|old| {
                let mut members = old.members.iter();
                members.find(|member| member.profile.is_of(upstream, settings))
            });
            let profile = match kept {
                Some(member) => Arc::clone(&member.profile),
                None => Arc::new(Profile::new(upstream, settings, clock.as_ref())?),
            };
            members.push(Member {
                profile,
                weight: upstream.weight,
                operator: strategy::operator(upstream, &hasher),
            });
        }
        Ok(Self {
            members,
            routes: Routes::new(settings),
            strategy: settings.strategy,
            timeout: settings.timeout,
            budget: old.map_or_else(|| Arc::new(Budget::new()), |old| Arc::clone(&old.budget)),
            hasher,
            settings: settings.clone(),
            clock,
        })
    }
}

impl Set {
    fn new(shared: &Arc<Shared>, udp_sockets_max: usize, old: Option<&Self>) -> Arc<Self> {
        let kept = |profile| {
            let old = old.filter(|old| old.udp_sockets_max == udp_sockets_max)?;
            let mut upstreams = old.upstreams.iter();
            upstreams
                .find(|upstream| Arc::ptr_eq(&upstream.profile, profile))
                .map(Arc::clone)
        };
        let upstreams = shared.members.iter().map(|member| {
            kept(&member.profile).unwrap_or_else(|| {
                Arc::new(Upstream::new(Arc::clone(&member.profile), udp_sockets_max))
            })
        });
        Arc::new(Self {
            upstreams: upstreams.collect(),
            shared: Arc::clone(shared),
            udp_sockets_max,
            sleep: SleepWatch::new(clock::asleep(clock::instant())),
            network: watch::Sender::new(clock::instant()),
        })
    }

    pub(super) fn upstream(&self, place: usize) -> Option<&Upstream> {
        self.upstreams.get(place).map(Arc::as_ref)
    }

    pub(super) fn profile(&self, place: usize) -> Option<&Arc<Profile>> {
        self.shared.members.get(place).map(|member| &member.profile)
    }

    pub(super) fn budget(&self) -> &Budget {
        &self.shared.budget
    }

    /// Whether there are names for which nobody else is left than the upstream at `place`.
    pub(super) fn is_last(&self, place: usize) -> bool {
        let is_out = |other: &usize| {
            *other == place
                || self
                    .profile(*other)
                    .is_none_or(|profile| profile.health.is_down())
        };
        let mut groups = self.shared.routes.groups_with(place);
        groups.any(|group| group.places.iter().all(is_out))
    }

    /// What to ask the upstream at `place` to see whether it is there: what a server of private
    /// zones only surely knows is their SOA record.
    pub(super) fn probe_question(&self, place: usize) -> Question {
        self.shared
            .routes
            .zone_of(place)
            .map_or_else(probing::root_ns, |zone| Question {
                name: zone.clone(),
                qtype: rtype::SOA,
                qclass: CLASS_IN,
            })
    }

    /// Waits for a network when one is likely to be there soon, on behalf of a query that `began`
    /// then and found none; false when there is no use in that.
    async fn wait_for_network(&self, began: Instant, deadline: Instant) -> bool {
        let mut network = self.network.subscribe();
        let settled = *network.borrow_and_update() + NETWORK_SETTLES;
        let until = deadline.min(began + NO_NETWORK_MAX);
        let again = clock::instant() + NO_NETWORK_AGAIN;
        if again > settled.min(until) {
            return false;
        }
        // Whether it changed or not, the next try shows.
        drop(timeout(NO_NETWORK_AGAIN, network.changed()).await);
        true
    }

    /// The upstreams for `question` in the order in which to try them now. Those that are not well
    /// are looked after from here on.
    fn order(
        self: &Arc<Self>,
        question: &Question,
        now: Instant,
        avoid: Option<&str>,
    ) -> Vec<Chosen<'_>> {
        let group = self.shared.routes.of(question);
        let mut candidates = self.candidates(group, now);
        for candidate in &candidates {
            if candidate.facts.needs_watch {
                probing::watch(self, candidate.place);
            }
        }
        let strategy = self.shared.strategy;
        strategy::sort(
            strategy,
            &mut candidates,
            &group.favourite,
            || strategy::domain_hash(&question.name, &self.shared.hasher),
            entropy::u64,
        );
        if strategy == Strategy::Fastest {
            self.measure(question, &candidates);
        }
        // Only now: the favourite stays the favourite. Who is alone for a zone is asked even so.
        let name = |it: &Candidate| self.profile(it.place).map(|profile| &*profile.name);
        let is_other = |it: &Candidate| avoid.is_none() || name(it) != avoid;
        if candidates.iter().any(is_other) {
            candidates.retain(is_other);
        }
        let chosen = |candidate: Candidate| {
            Some(Chosen {
                upstream: self.upstream(candidate.place)?,
                place: candidate.place,
                facts: candidate.facts,
            })
        };
        candidates.into_iter().filter_map(chosen).collect()
    }

    fn candidates(&self, group: &Group, now: Instant) -> Vec<Candidate> {
        let candidate = |place: &usize| {
            let member = self.shared.members.get(*place)?;
            Some(Candidate {
                place: *place,
                facts: member.profile.health.facts(now),
                weight: member.weight,
                operator: member.operator,
            })
        };
        group.places.iter().filter_map(candidate).collect()
    }

    /// Sees how fast those are that are not the first of `order`: all at once, a few times, at the
    /// start, so that the same questions tell them apart; later now and then the one that was not
    /// heard of for longest.
    fn measure(&self, question: &Question, order: &[Candidate]) {
        let others = order.iter().skip(1);
        let good = others.filter(|it| it.facts.standing == Standing::Good);
        let mut oldest: Option<&Candidate> = None;
        for it in good {
            if it.facts.samples < strategy::SAMPLES_MIN
                && let Some(upstream) = self.upstreams.get(it.place)
                && let Some(measuring) = Measuring::begin_first(upstream)
            {
                probing::measure(upstream, question, measuring);
            }
            if oldest.is_none_or(|oldest| it.facts.timed_at < oldest.facts.timed_at) {
                oldest = Some(it);
            }
        }
        let Some(oldest) = oldest else { return };
        let one_in = if oldest.facts.samples < SAMPLES_ENOUGH {
            MEASURE_EARLY_ONE_IN
        } else {
            MEASURE_ONE_IN
        };
        if entropy::below(one_in) == 0
            && let Some(upstream) = self.upstreams.get(oldest.place)
            && let Some(measuring) = Measuring::begin(upstream)
            && self.budget().take()
        {
            probing::measure(upstream, question, measuring);
        }
    }
}

impl Upstreams {
    /// Sets up all upstreams of `settings`. Connects to none of them.
    ///
    /// # Errors
    /// When the certificates or names of one make no usable set-up.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        Self::set_up(settings, None, udp::SOCKETS_MAX)
    }

    /// As [`Self::new`], and `clock` says whether the dates of certificates can be judged; by
    /// themselves upstreams always judge them.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn new_under(settings: &Settings, clock: &Arc<Gate>) -> Result<Self, SetupError> {
        Self::set_up(settings, Some(Arc::clone(clock)), udp::SOCKETS_MAX)
    }

    /// The same upstreams, set up again: no connection, no TLS session and no experience is kept.
    /// `clock` as for [`Self::new_under`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn under(&self, clock: &Arc<Gate>) -> Result<Self, SetupError> {
        let clock = Some(Arc::clone(clock));
        Self::set_up(&self.0.shared.settings, clock, self.0.udp_sockets_max)
    }

    /// Upstreams that know nothing yet; `clock` as for [`Upstreams::new_under`].
    pub(super) fn set_up(
        settings: &Settings,
        clock: Option<Arc<Gate>>,
        udp_sockets_max: usize,
    ) -> Result<Self, SetupError> {
        let shared = Arc::new(Shared::new(settings, clock, None)?);
        Ok(Self(Set::new(&shared, udp_sockets_max, None)))
    }

    /// The upstreams of new settings. What is known of those that did not change stays known, and
    /// so do their connections where a worker goes on by [`Upstreams::for_worker_from`].
    ///
    /// # Errors
    /// When the certificates or names of one make no usable set-up.
    pub fn renewed(&self, settings: &Settings) -> Result<Self, SetupError> {
        let old = &self.0.shared;
        let shared = Arc::new(Shared::new(settings, old.clock.clone(), Some(old))?);
        let max = self.0.udp_sockets_max;
        Ok(Self(Set::new(&shared, max, Some(&self.0))))
    }

    /// The same upstreams for another worker: connections of its own, everything else shared, so
    /// that a change of health is known to all and logged once.
    #[must_use]
    pub fn for_worker(&self) -> Self {
        Self(Set::new(&self.0.shared, self.0.udp_sockets_max, None))
    }

    /// These upstreams for the worker that has `old` ones: connections to those that did not change
    /// are kept, with the exchanges under way on them.
    #[must_use]
    pub fn for_worker_from(&self, old: &Self) -> Self {
        let max = self.0.udp_sockets_max;
        Self(Set::new(&self.0.shared, max, Some(&old.0)))
    }

    /// Whether answers of the `old` upstreams may still stand: those were not set up anew as a whole,
    /// and the same are asked for each zone that has a route, or had one. All others are taken to
    /// answer from one public DNS.
    #[must_use]
    pub fn stand_for(&self, old: &Self) -> bool {
        let (new, old) = (&*self.0.shared, &*old.0.shared);
        // Experience is carried along, but for a set-up as a whole; see `under`.
        if !Arc::ptr_eq(&new.budget, &old.budget) {
            return false;
        }
        let asked = |shared: &Shared, zone: &Name| -> Vec<Arc<Profile>> {
            let group = shared.routes.of(&Question {
                name: zone.clone(),
                qtype: rtype::SOA,
                qclass: CLASS_IN,
            });
            let members = group.places.iter();
            let members = members.filter_map(|place| shared.members.get(*place));
            members.map(|member| Arc::clone(&member.profile)).collect()
        };
        let routes = new.settings.routes.iter().chain(&old.settings.routes);
        routes.flat_map(|route| &route.zones).all(|zone| {
            let (now, then) = (asked(new, zone), asked(old, zone));
            let is_asked = |one: &Arc<Profile>| now.iter().any(|other| Arc::ptr_eq(one, other));
            now.len() == then.len() && then.iter().all(is_asked)
        })
    }

    /// The same upstreams, with at most so many sockets towards each of those on plain UDP.
    #[must_use]
    pub fn with_udp_sockets_max(&self, udp_sockets_max: usize) -> Self {
        Self(Set::new(&self.0.shared, udp_sockets_max, Some(&self.0)))
    }

    /// The names of the upstreams in the order of the configuration.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        let members = self.0.shared.members.iter();
        members.map(|member| &member.profile.name)
    }

    /// How each upstream does, in the order of the configuration.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        let now = clock::instant();
        let members = self.0.shared.members.iter();
        members.map(|member| member.profile.status(now)).collect()
    }

    /// Gives those that are down another chance at once: the network is another one.
    pub fn retry_now(&self) {
        for member in &self.0.shared.members {
            member.profile.health.retry();
        }
    }

    /// Asks each upstream for the root's NS records and measures how long that takes, connection
    /// included. All are asked at once; the results stand in the order of the configuration.
    pub async fn probe(&self) -> Vec<Probe> {
        let question = probing::root_ns();
        let deadline = clock::instant() + self.timeout();
        let mut race = Race::new();
        for (at, upstream) in self.0.upstreams.iter().enumerate() {
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

    /// Where each upstream is.
    #[cfg(test)]
    pub(super) fn addresses(&self) -> impl Iterator<Item = &Addresses> {
        let members = self.0.shared.members.iter();
        members.map(|member| &member.profile.addresses)
    }

    /// Looks up the hosts of the upstreams that are known by name, all at once, in the order of the
    /// configuration.
    pub async fn look_up(&self) -> Vec<LookedUp> {
        let mut race = Race::new();
        for (at, member) in self.0.shared.members.iter().enumerate() {
            if let Addresses::Found(finder) = &member.profile.addresses {
                race.start(async move { (at, finder.look_up().await) });
            }
        }
        let mut looked_up = Vec::new();
        while let Some(one) = race.next().await {
            looked_up.push(one);
        }
        looked_up.sort_by_key(|(at, _)| *at);
        looked_up.into_iter().map(|(_, one)| one).collect()
    }

    /// Takes note that this machine's network is another one: connections are made anew, queries
    /// under way are asked again at once, and what was learned of the old network is forgotten.
    pub fn network_changed(&self) {
        for upstream in &self.0.upstreams {
            upstream.network_changed();
        }
        self.retry_now();
        self.0.network.send_replace(clock::instant());
    }

    /// Takes all connections out of use, as if each had been idle for long.
    #[cfg(test)]
    pub(super) fn lose_connections(&self) {
        for upstream in &self.0.upstreams {
            upstream.lose_connections();
        }
    }

    /// Lets so much time have passed since the network changed.
    #[cfg(test)]
    pub(super) fn network_is_old(&self) {
        let then = clock::instant().checked_sub(NETWORK_SETTLES).unwrap();
        self.0.network.send_replace(then);
    }

    /// Treats a sleep of this machine as a change of its network. Each exchange looks by itself,
    /// so that the first one after a sleep does not wait for somebody to notice.
    pub fn look_for_sleep(&self, now: Instant) {
        if self.0.sleep.slept(clock::asleep(now)).is_some() {
            self.network_changed();
        }
    }
}

impl Exchange for Upstreams {
    fn timeout(&self) -> Duration {
        self.0.shared.timeout
    }

    fn count(&self, question: &Question) -> usize {
        self.0.shared.routes.of(question).places.len()
    }

    fn incomplete(&self, name: &str) {
        let mut members = self.0.shared.members.iter();
        if let Some(member) = members.find(|member| *member.profile.name == *name) {
            member.profile.health.incomplete(clock::instant());
        }
    }

    fn is_down(&self, question: &Question) -> bool {
        let places = &self.0.shared.routes.of(question).places;
        let profiles = || places.iter().filter_map(|place| self.0.profile(*place));
        let is_down = profiles().all(|profile| profile.health.is_down());
        if is_down {
            // Whoever learns this will not ask, so the probes must know that they are wanted.
            let now = clock::instant();
            profiles().for_each(|profile| profile.health.wanted(now));
        }
        is_down
    }

    async fn exchange(
        &self,
        question: &Question,
        deadline: Instant,
        avoid: Option<&str>,
    ) -> Result<Exchanged, ExchangeError> {
        let began = clock::instant();
        self.look_for_sleep(began);
        let deadline = deadline.min(began + self.timeout());
        self.0.budget().earn();
        let mut now = began;
        loop {
            let tries = Tries::new();
            let order = self.0.order(question, now, avoid);
            let walk = Walk::new(&self.0, order, question, &tries);
            match walk.run(now, deadline).await {
                Err(error)
                    if error.is_for_want_of_network()
                        && self.0.wait_for_network(began, deadline).await =>
                {
                    now = clock::instant();
                }
                outcome => return outcome,
            }
        }
    }
}

impl Drop for Set {
    /// Tasks that wait to probe for this set end now, so that those of the next can begin.
    fn drop(&mut self) {
        for member in &self.shared.members {
            member.profile.health.look_again();
        }
    }
}
