//! One upstream: what all workers share about it, and one worker's connections to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    Exchanged, Probe, Settings, SetupError,
    addresses::Addresses,
    bootstrap::Finder,
    connection::Dial,
    error::{ExchangeError, Failure},
    health::Health,
    life::Life,
    message::Received,
    pool::Pool,
    settings::UpstreamSettings,
    tries::Tries,
    udp::Udp,
};
use crate::{clock::Gate, handler::Transport, wire::Question};

/// What all workers share about one upstream.
pub(super) struct Profile {
    pub(super) name: Arc<str>,
    pub(super) transport: Transport,
    settings: UpstreamSettings,
    pub(super) addresses: Addresses,
    dial: Dial,
    pub(super) life: Life,
    pub(super) health: Health,
}

impl Profile {
    /// Sets up the upstream, one of `all`; `clock` as for [`Dial::new`].
    pub(super) fn new(
        settings: &UpstreamSettings,
        all: &Settings,
        clock: Option<&Arc<Gate>>,
    ) -> Result<Self, SetupError> {
        let dial = Dial::new(settings, clock).map_err(|source| SetupError::Dial {
            upstream: settings.name.clone(),
            source,
        })?;
        let addresses = match &settings.look_up {
            Some(look_up) => {
                Addresses::Found(Arc::new(Finder::new(settings, look_up, all, clock)?))
            }
            None => settings.addresses.clone().into(),
        };
        Ok(Self {
            name: Arc::from(settings.name.as_str()),
            transport: settings.transport,
            settings: settings.clone(),
            addresses,
            dial,
            life: Life::default(),
            health: Health::new(&settings.name),
        })
    }

    /// How queries travel at present: over HTTP/3 where HTTP/2 is written down and HTTP/3 works.
    pub(super) fn transport_now(&self) -> Transport {
        if self.dial.is_upgraded() {
            Transport::Http3
        } else {
            self.transport
        }
    }

    /// Whether this is the profile of the upstream that `settings` describe, one of `all`. The weight
    /// is not of the upstream but of the choice.
    pub(super) fn is_of(&self, settings: &UpstreamSettings, all: &Settings) -> bool {
        let ours = UpstreamSettings {
            weight: settings.weight,
            ..self.settings.clone()
        };
        ours == *settings && self.addresses.are_found_by(all)
    }
}

/// One upstream with one worker's connections to it.
pub(super) struct Upstream {
    pub(super) profile: Arc<Profile>,
    way: Way,
    /// The outages that the connections have not outlived.
    outages: AtomicU64,
}

enum Way {
    Datagrams(Udp),
    Connections(Pool),
}

/// A response, and how long it took since the query was sent.
pub(super) type Timed = (Exchanged, Duration);

impl Upstream {
    pub(super) fn new(profile: Arc<Profile>, udp_sockets_max: usize) -> Self {
        let pool = |addresses| Pool::new(addresses, profile.dial.clone(), profile.life.clone());
        let way = if profile.transport == Transport::Udp {
            let addresses = profile.addresses.current().into_iter();
            let pools = addresses.map(|address| (address, pool(vec![address].into())));
            let life = profile.life.clone();
            Way::Datagrams(Udp::new(pools.collect(), life, udp_sockets_max))
        } else {
            Way::Connections(pool(profile.addresses.clone()))
        };
        let outages = AtomicU64::new(profile.health.outages());
        Self {
            profile,
            way,
            outages,
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.profile.name
    }

    pub(super) fn health(&self) -> &Health {
        &self.profile.health
    }

    /// Asks `question` and waits for the response, however long that takes.
    pub(super) async fn exchange(
        &self,
        question: &Question,
        tries: &Tries,
    ) -> Result<Timed, ExchangeError> {
        if let Some(failure) = self.profile.addresses.refuse(&question.name) {
            return Err(self.error(failure));
        }
        self.health().asked();
        self.leave_old_connections();
        let received = match &self.way {
            Way::Datagrams(udp) => udp.exchange(question, tries).await,
            Way::Connections(pool) => pool.exchange(question, tries).await,
        };
        match received {
            Ok(Received {
                octets,
                age_s,
                took,
                transport,
            }) => {
                let exchanged = Exchanged {
                    octets,
                    age_s,
                    upstream: Arc::clone(self.name()),
                    transport: transport.unwrap_or(self.profile.transport),
                };
                Ok((exchanged, took))
            }
            Err(failure) => Err(self.error(failure)),
        }
    }

    /// Takes connections out of use that are from before an outage: one that ended with a host that
    /// crashed is silent without having ended, over QUIC above all, and would cost each worker's
    /// first queries a suspicion when the upstream is back.
    fn leave_old_connections(&self) {
        let outages = self.health().outages();
        if self.outages.swap(outages, Ordering::Relaxed) != outages
            && let Way::Connections(pool) = &self.way
        {
            pool.lose_connections();
        }
    }

    /// Makes connections anew: the network is another one.
    pub(super) fn network_changed(&self) {
        match &self.way {
            Way::Datagrams(udp) => udp.network_changed(),
            Way::Connections(pool) => pool.network_changed(),
        }
    }

    /// Takes all connections out of use, as if each had been idle for long.
    #[cfg(test)]
    pub(super) fn lose_connections(&self) {
        if let Way::Connections(pool) = &self.way {
            pool.lose_connections();
        }
    }

    pub(super) fn error(&self, failure: Failure) -> ExchangeError {
        ExchangeError::new(Arc::clone(self.name()), failure)
    }

    pub(super) fn probe(&self, latency: Result<Duration, ExchangeError>) -> Probe {
        Probe {
            upstream: Arc::clone(self.name()),
            transport: self.profile.transport,
            latency,
        }
    }
}
