//! Finding the addresses of an upstream that is known by its host name.
//!
//! The host's own `bootstrap` servers are asked, or those other upstreams that need no look-up
//! themselves. Their answers are not validated, since this room knows no DNSSEC, and need not be:
//! only encrypted upstreams have a host name here, and whoever answers at a false address cannot
//! show a certificate for the name. What a liar achieves is that the upstream cannot be reached.
//!
//! Addresses are looked up again before their TTL ends, and used beyond it while that fails: those
//! that worked are better than none. A failure is never kept as an answer: who asks next tries
//! again, after a pause that grows. Equal look-ups are one, whichever workers want them.

mod state;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};

use super::{
    Exchange as _, Settings, Strategy, Upstreams,
    error::Failure,
    race::Race,
    select::SetupError,
    settings::{LookUp, UpstreamSettings},
    udp,
};
use crate::{
    clock::{self, Gate, Now},
    entropy,
    wire::{CLASS_IN, Name, Question, Response, rcode, rtype},
};
use state::{JITTER_STEPS, LIFE_MAX_S, LIFE_MIN_S, State, Want};

/// How long one look-up may take: as long as a query of a client.
const ATTEMPT_MAX: Duration = Duration::from_secs(4);
/// How long a look-up is waited for when old addresses are there to fall back to.
const STALE_PATIENCE: Duration = Duration::from_millis(600);
/// How long the addresses of one family wait for those of the other. RFC 8305, section 3, waits for
/// 50 ms with each connection; here the outcome is kept.
const OTHER_FAMILY: Duration = Duration::from_millis(300);
/// What is added to the reason when a look-up failed and was asked of us meanwhile.
const LOOP: &str = "; the same question came to truename meanwhile, which is a loop if those who \
                    are asked for the addresses ask truename";
/// News of another network are the same news for so long.
const NETWORK_NEWS: Duration = Duration::from_secs(1);
/// The most addresses taken of each family. More would not be tried within a client's patience.
const ADDRESSES_MAX: usize = 8;
/// The most aliases followed in one response.
const ALIASES_MAX: usize = 8;

/// What everybody who waits for one look-up is told.
type Outcome = Option<Result<Vec<SocketAddr>, Failure>>;

/// Finds the addresses of one host name.
pub(super) struct Finder {
    upstream: Arc<str>,
    host: Name,
    port: u16,
    servers: Upstreams,
    /// Those of `servers` that are upstreams themselves.
    guides: Option<Vec<UpstreamSettings>>,
    state: Mutex<State>,
}

/// What a look-up of one upstream's host name showed.
#[derive(Clone, Debug)]
pub struct LookedUp {
    /// The name of the upstream.
    pub upstream: Arc<str>,
    /// The host name.
    pub host: Name,
    /// The names of those who were asked.
    pub servers: Vec<Arc<str>>,
    /// The addresses, or what went wrong.
    pub addresses: Result<Vec<SocketAddr>, Failure>,
}

impl Finder {
    /// Finds the addresses of `upstream`, one of `all`. Asks nobody yet. `clock` says whether the
    /// dates of certificates can be judged.
    ///
    /// # Errors
    /// When nobody can be asked, or one of those who can be cannot be set up.
    pub(super) fn new(
        upstream: &UpstreamSettings,
        look_up: &LookUp,
        all: &Settings,
        clock: Option<&Arc<Gate>>,
    ) -> Result<Self, SetupError> {
        let guides = look_up.servers.is_empty().then(|| all.guides());
        let servers = guides.as_ref().unwrap_or(&look_up.servers).clone();
        if servers.is_empty() {
            return Err(SetupError::NobodyToAsk {
                upstream: upstream.name.clone(),
                host: look_up.host.clone(),
            });
        }
        let servers = Settings {
            upstreams: servers,
            routes: Vec::new(),
            strategy: Strategy::Ordered,
            timeout: ATTEMPT_MAX,
        };
        let servers = Upstreams::set_up(&servers, clock.map(Arc::clone), udp::SOCKETS_MAX)?;
        Ok(Self {
            upstream: Arc::from(upstream.name.as_str()),
            host: look_up.host.clone(),
            port: look_up.port,
            servers,
            guides,
            state: Mutex::default(),
        })
    }

    /// Whether the same would be asked among the upstreams of `all`.
    pub(super) fn is_guided_by(&self, all: &Settings) -> bool {
        self.guides
            .as_ref()
            .is_none_or(|guides| *guides == all.guides())
    }

    /// The network is another one. Every worker says so; once is enough.
    pub(super) fn network_changed(&self) {
        let now = clock::instant();
        let mut state = self.lock();
        if state
            .network_since
            .is_none_or(|since| now >= since + NETWORK_NEWS)
        {
            state.network_since = Some(now);
            state.end_pause();
            drop(state);
            self.servers.network_changed();
        }
    }

    /// The addresses that were found last.
    pub(super) fn current(&self) -> Vec<SocketAddr> {
        self.lock().known().to_vec()
    }

    /// The addresses to connect to now.
    pub(super) async fn resolve(self: &Arc<Self>) -> Result<Vec<SocketAddr>, Failure> {
        let now = Now::read();
        let (known, mut outcome) = {
            let mut state = self.lock();
            let known = state.known().to_vec();
            match state.want(&now) {
                Want::Nothing => (known, None),
                Want::Refresh => {
                    self.begin(&mut state);
                    (known, None)
                }
                Want::Answer => {
                    let outcome = self.begin(&mut state);
                    (known, Some(outcome))
                }
            }
        };
        let Some(outcome) = &mut outcome else {
            if known.is_empty() {
                let last = self.lock().failure.clone();
                return Err(last.unwrap_or_else(|| self.failed("it was not found yet")));
            }
            return Ok(known);
        };
        if known.is_empty() {
            return self.outcome(outcome).await;
        }
        match timeout(STALE_PATIENCE, self.outcome(outcome)).await {
            Ok(Ok(fresh)) => Ok(fresh),
            Ok(Err(_)) | Err(_) => Ok(known),
        }
    }

    /// Nobody answers at the addresses that were given.
    pub(super) fn doubt(&self) {
        self.lock().doubt(&Now::read());
    }

    /// The failure of a question for the host itself, put to the upstream that is being looked up:
    /// waiting for its own end it would only take time. Perhaps the look-up came back to us.
    pub(super) fn refuse(&self, name: &Name) -> Option<Failure> {
        if *name != self.host {
            return None;
        }
        let mut state = self.lock();
        if state.running.is_none() || !state.known().is_empty() {
            return None;
        }
        state.came_back = true;
        Some(self.failed("it is being looked up"))
    }

    /// Looks the host up now, whatever is known, and says what came of it.
    pub(super) async fn look_up(self: &Arc<Self>) -> LookedUp {
        let mut outcome = self.begin(&mut self.lock());
        LookedUp {
            upstream: Arc::clone(&self.upstream),
            host: self.host.clone(),
            servers: self.servers.names().map(Arc::clone).collect(),
            addresses: self.outcome(&mut outcome).await,
        }
    }

    async fn outcome(
        &self,
        outcome: &mut watch::Receiver<Outcome>,
    ) -> Result<Vec<SocketAddr>, Failure> {
        match outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(result)) => result.clone(),
            // The runtime that carried it is gone; the next who asks begins anew.
            Ok(None) | Err(_) => Err(self.failed("the look-up was withdrawn")),
        }
    }

    /// Joins the look-up that is under way, or begins one, in a task of its own: it goes on for the
    /// others when the query that wanted it is withdrawn.
    fn begin(self: &Arc<Self>, state: &mut State) -> watch::Receiver<Outcome> {
        if let Some(outcome) = &state.running {
            return outcome.clone();
        }
        let (tell, outcome) = watch::channel(None);
        state.running = Some(outcome.clone());
        state.came_back = false;
        let running = Running(Arc::clone(self));
        tokio::spawn(async move {
            let found = running.0.ask_both().await;
            let result = running.0.take(found);
            drop(running);
            tell.send_replace(Some(result));
        });
        outcome
    }

    /// Takes note of what a look-up brought.
    fn take(&self, found: Result<Found, String>) -> Result<Vec<SocketAddr>, Failure> {
        let now = Now::read();
        let mut state = self.lock();
        match found {
            Ok(found) => {
                let addresses: Vec<SocketAddr> = found
                    .addresses
                    .into_iter()
                    .map(|address| SocketAddr::new(address, self.port))
                    .collect();
                let changed = state.found(&addresses, found.life_s, &now);
                drop(state);
                if changed {
                    tracing::info!(
                        upstream = &*self.upstream,
                        host = %self.host,
                        ?addresses,
                        "found the addresses of an upstream"
                    );
                }
                Ok(addresses)
            }
            Err(mut reason) => {
                if std::mem::take(&mut state.came_back) {
                    reason.push_str(LOOP);
                }
                let failure = self.failed(&reason);
                state.failed(failure.clone(), &now, entropy::below(JITTER_STEPS));
                Err(failure)
            }
        }
    }

    fn failed(&self, reason: &str) -> Failure {
        Failure::LookUp {
            host: self.host.to_string(),
            reason: Arc::from(reason),
        }
    }

    /// Asks for the addresses of both families.
    async fn ask_both(&self) -> Result<Found, String> {
        let deadline = clock::instant() + ATTEMPT_MAX;
        let mut race = Race::new();
        for qtype in [rtype::AAAA, rtype::A] {
            race.start(self.ask(qtype, deadline));
        }
        let mut found = Found {
            addresses: Vec::new(),
            life_s: LIFE_MAX_S,
        };
        let mut error = None;
        loop {
            let next = if found.addresses.is_empty() {
                race.next().await
            } else {
                match timeout(OTHER_FAMILY, race.next()).await {
                    Ok(next) => next,
                    Err(_) => Some(Err("no answer in time".to_owned())),
                }
            };
            match next {
                Some(Ok(family)) => found.join(family),
                Some(Err(reason)) => {
                    error = Some(reason);
                    // The family that is missing is asked for again soon.
                    found.life_s = LIFE_MIN_S;
                    if !found.addresses.is_empty() {
                        return Ok(found);
                    }
                }
                None if !found.addresses.is_empty() => return Ok(found),
                None => return Err(error.unwrap_or_else(|| "it has no address".to_owned())),
            }
        }
    }

    async fn ask(&self, qtype: u16, deadline: Instant) -> Result<Found, String> {
        let question = Question {
            name: self.host.clone(),
            qtype,
            qclass: CLASS_IN,
        };
        let exchanged = self.servers.exchange(&question, deadline, None).await;
        let exchanged = exchanged.map_err(|error| error.to_string())?;
        let upstream = &exchanged.upstream;
        let response = Response::parse(&exchanged.octets)
            .map_err(|error| format!("{upstream} sent a broken message: {error}"))?;
        match response.rcode {
            rcode::NOERROR => Ok(Found::read(&question, &response, exchanged.age_s)),
            rcode::NXDOMAIN => Err(format!("{upstream} says that there is no such name")),
            other => Err(format!("{upstream} answered with rcode {other}")),
        }
    }

    /// Makes what was found as old as can be, and ends pauses.
    #[cfg(test)]
    pub(super) fn expire(&self) {
        self.lock().expire();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A look-up that is under way. However its task ends, the next who asks may begin another.
struct Running(Arc<Finder>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().running = None;
    }
}

/// Addresses as an answer gave them.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    addresses: Vec<IpAddr>,
    life_s: u32,
}

impl Found {
    /// The addresses at the end of the chain of aliases that the response gives.
    fn read(question: &Question, response: &Response, age_s: u32) -> Self {
        let mut owner = &question.name;
        let mut target;
        let mut life_s = LIFE_MAX_S;
        let mut addresses = Vec::new();
        for _ in 0..=ALIASES_MAX {
            let at_owner = response
                .answer
                .iter()
                .filter(|record| record.class == CLASS_IN && record.owner == *owner);
            let mut alias = None;
            for record in at_owner {
                let address = address(record.rtype, &record.rdata);
                if record.rtype == question.qtype
                    && let Some(address) = address
                    && addresses.len() < ADDRESSES_MAX
                {
                    addresses.push(address);
                } else if record.rtype == rtype::CNAME {
                    alias = Name::from_wire(&record.rdata).ok();
                } else {
                    continue;
                }
                life_s = life_s.min(record.ttl_s.saturating_sub(age_s));
            }
            match alias {
                Some(name) if addresses.is_empty() => target = name,
                _ => break,
            }
            owner = &target;
        }
        Self { addresses, life_s }
    }

    /// Adds the other family.
    fn join(&mut self, other: Self) {
        if !other.addresses.is_empty() {
            self.life_s = self.life_s.min(other.life_s);
            self.addresses.extend(other.addresses);
        }
    }
}

/// The address in a record's data.
fn address(rtype: u16, rdata: &[u8]) -> Option<IpAddr> {
    match rtype {
        rtype::A => {
            let octets: [u8; 4] = rdata.try_into().ok()?;
            Some(Ipv4Addr::from(octets).into())
        }
        rtype::AAAA => {
            let octets: [u8; 16] = rdata.try_into().ok()?;
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Record;

    fn record(owner: &str, rtype: u16, ttl_s: u32, rdata: &[u8]) -> Record {
        Record {
            owner: Name::parse(owner).unwrap(),
            rtype,
            class: CLASS_IN,
            ttl_s,
            rdata: Box::from(rdata),
        }
    }

    fn found(answer: Vec<Record>) -> Found {
        let question = Question {
            name: Name::parse("dns.example").unwrap(),
            qtype: rtype::A,
            qclass: CLASS_IN,
        };
        let response = Response {
            rcode: rcode::NOERROR,
            truncated: false,
            question: question.clone(),
            answer,
            authority: Vec::new(),
            extended_errors: Vec::new(),
        };
        Found::read(&question, &response, 10)
    }

    #[test]
    fn only_addresses_of_the_host_count_aliases_followed() {
        let alias = |owner: &str, target: &str| {
            let target = Name::parse(target).unwrap();
            record(owner, rtype::CNAME, 70, target.as_wire())
        };
        let host = found(vec![
            record("other.example", rtype::A, 1, &[192, 0, 2, 9]),
            record("dns.example", rtype::A, 300, &[192, 0, 2, 1]),
            record("dns.example", rtype::AAAA, 1, &[0; 16]),
            record("dns.example", rtype::A, 310, &[192, 0, 2, 2]),
        ]);
        let both = vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        assert_eq!((host.addresses, host.life_s), (both, 290));
        let aliased = found(vec![
            alias("dns.example", "a.example.net"),
            alias("a.example.net", "b.example.net"),
            record("b.example.net", rtype::A, 300, &[192, 0, 2, 1]),
        ]);
        assert_eq!(aliased.addresses, [IpAddr::from([192, 0, 2, 1])]);
        assert_eq!(aliased.life_s, 60);
        let circle = found(vec![
            alias("dns.example", "a.example"),
            alias("a.example", "dns.example"),
        ]);
        assert!(circle.addresses.is_empty());
        let many = (0..100).map(|last| record("dns.example", rtype::A, 300, &[192, 0, 2, last]));
        assert_eq!(found(many.collect()).addresses.len(), ADDRESSES_MAX);
    }
}
