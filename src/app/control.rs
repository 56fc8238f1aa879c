//! What the control socket is told: the state of all parts, and the commands.

use std::{collections::HashMap, process, sync::Weak, time::Instant};

use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use super::{Command, Parts, cache_file::Saver};
use crate::{
    admin::{self, Bound, Flushed, Outcome, Reloaded, SocketError},
    anchors::time_text,
    clock,
    config::Settings,
    handler::Transport,
    wire::Name,
};

/// The outcome of the last reload, whoever wanted it.
#[derive(Clone, Debug)]
pub(in crate::app) struct LastReload {
    /// When it was done.
    pub(in crate::app) at: Instant,
    /// What changed, or what was wrong.
    pub(in crate::app) outcome: Result<String, String>,
}

/// Opens the control socket that the settings name. Another truename that answers there is an error:
/// the two would write one state. All else is said, and truename runs without.
pub(super) fn bind(settings: &Settings) -> Result<Option<Bound>, SocketError> {
    let Some(path) = &settings.admin_socket else {
        return Ok(None);
    };
    match admin::bind(path) {
        Ok(bound) => Ok(Some(bound)),
        Err(error @ SocketError::Alive { .. }) => Err(error),
        Err(error) => {
            warn!("{error}. `truename status`, `flush` and `reload` cannot reach this truename");
            Ok(None)
        }
    }
}

/// What the answers are made of.
#[derive(Clone)]
pub(super) struct Control {
    /// Everything that goes on.
    pub(super) parts: Parts,
    /// When truename was started.
    pub(super) started: Instant,
    /// The trust anchors as they stand.
    pub(super) anchors: watch::Receiver<Vec<admin::Anchor>>,
    /// Writes the cache's file, if there is one.
    pub(super) saver: Weak<Saver>,
}

/// Answers on the socket for as long as truename runs.
pub(super) async fn serve(bound: Bound, control: Control) {
    let answer = move |command| {
        let control = control.clone();
        async move { control.answer(command).await }
    };
    if let Err(error) = admin::serve(bound, answer).await {
        warn!(%error, "the control socket cannot be used");
    }
}

impl Control {
    async fn answer(&self, command: admin::Command) -> Outcome {
        match command {
            admin::Command::Status => Outcome::Status(Box::new(self.status())),
            admin::Command::Flush { name } => self.flush(name.as_deref()),
            admin::Command::Reload => self.reload().await,
        }
    }

    fn flush(&self, text: Option<&str>) -> Outcome {
        let name = match text.map(Name::parse) {
            None => Name::root(),
            Some(Ok(name)) => name,
            Some(Err(error)) => {
                return Outcome::Error(format!("that is not a domain name: {error}"));
            }
        };
        let answers = u64::try_from(self.parts.resolver.flush(&name)).unwrap_or(u64::MAX);
        // What was flushed must not come back after a crash.
        if let Some(saver) = self.saver.upgrade() {
            saver.save_soon();
        }
        // No name: people flush what they looked at.
        info!(answers, "answers were flushed by command");
        Outcome::Flushed(Flushed {
            name: name.to_string(),
            answers,
        })
    }

    async fn reload(&self) -> Outcome {
        let stopping = || Outcome::Error("truename is stopping".to_owned());
        let (answer, answered) = oneshot::channel();
        if self
            .parts
            .commands
            .send(Command::Reload(answer))
            .await
            .is_err()
        {
            return stopping();
        }
        match answered.await {
            Ok(Ok(changes)) => Outcome::Reloaded(Reloaded { changes }),
            Ok(Err(why)) => Outcome::Error(format!("{why}\nthe configuration stays as it was")),
            Err(_) => stopping(),
        }
    }

    fn status(&self) -> admin::Status {
        let parts = &self.parts;
        let now = clock::instant();
        let since = |moment: Instant| now.saturating_duration_since(moment).as_secs();
        let settings = parts.settings.borrow();
        let last_reload = parts.last_reload.borrow();
        admin::Status {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::id(),
            uptime_s: since(self.started),
            config: settings
                .source
                .as_ref()
                .map(|path| path.display().to_string()),
            last_reload: last_reload.as_ref().map(|last| {
                let (Ok(text) | Err(text)) = &last.outcome;
                admin::Reload {
                    ago_s: since(last.at),
                    succeeded: last.outcome.is_ok(),
                    text: text.clone(),
                }
            }),
            listeners: self.listeners(),
            upstreams: self.upstreams(),
            dnssec: self.dnssec(&settings),
            clock: self.clock(),
            cache: self.cache(&settings),
            queries: self.queries(),
        }
    }

    fn listeners(&self) -> Vec<admin::Listener> {
        let listening = self.parts.listening.borrow();
        let mut addresses: HashMap<Transport, Vec<String>> = HashMap::new();
        for (transport, address) in listening.iter() {
            let list = addresses.entry(*transport).or_default();
            list.push(address.to_string());
        }
        let connections = &self.parts.listeners.connections;
        let with_addresses = Transport::ALL
            .iter()
            .filter_map(|transport| Some((*transport, addresses.remove(transport)?)));
        with_addresses
            .map(|(transport, addresses)| admin::Listener {
                transport: transport.label().to_owned(),
                addresses,
                connections: (transport != Transport::Udp).then(|| {
                    let open = connections.open(transport);
                    u64::try_from(open).unwrap_or(u64::MAX)
                }),
            })
            .collect()
    }

    fn upstreams(&self) -> Vec<admin::Upstream> {
        let upstreams = self.parts.upstreams.borrow();
        let all = upstreams.status().into_iter();
        all.map(|upstream| admin::Upstream {
            name: upstream.name.to_string(),
            transport: upstream.transport.label().to_owned(),
            state: upstream.state.label().to_owned(),
            rtt_ms: upstream.rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0),
            loss: f64::from(upstream.loss),
            exchanges: upstream.exchanges,
            failures: upstream.failures,
            last_error: upstream.last_error,
        })
        .collect()
    }

    fn dnssec(&self, settings: &Settings) -> admin::Dnssec {
        let counters = &self.parts.resolver.counters;
        admin::Dnssec {
            validating: settings.dnssec.validate,
            anchors: self.anchors.borrow().clone(),
            verdicts: admin::Verdicts {
                secure: counters.secure.value(),
                insecure: counters.insecure.value(),
                bogus: counters.bogus.value(),
                indeterminate: counters.indeterminate.value(),
            },
        }
    }

    fn clock(&self) -> admin::Clock {
        let now = clock::Now::read();
        let status = self.parts.resolver.clock_status(&now);
        admin::Clock {
            state: status
                .map_or(clock::State::Plausible, |status| status.state)
                .label()
                .to_owned(),
            for_s: status.map_or(0, |status| status.for_s.into()),
            shows: time_text(now.unix_s),
        }
    }

    fn cache(&self, settings: &Settings) -> admin::Cache {
        let resolver = &self.parts.resolver;
        let queries: u64 = Transport::ALL
            .iter()
            .map(|transport| resolver.counters.queries.value(*transport))
            .sum();
        let hits = resolver.counters.hits.value();
        admin::Cache {
            answers: u64::try_from(resolver.cache.len()).unwrap_or(u64::MAX),
            octets: u64::try_from(resolver.cache.octets()).unwrap_or(u64::MAX),
            limit_octets: u64::try_from(settings.cache.size_octets).unwrap_or(u64::MAX),
            hits,
            stale: resolver.counters.stale.value(),
            hit_rate: share(hits, queries),
        }
    }

    fn queries(&self) -> admin::Queries {
        let counters = &self.parts.resolver.counters;
        let of = |transport| counters.queries.value(transport);
        admin::Queries {
            udp: of(Transport::Udp),
            tcp: of(Transport::Tcp),
            dot: of(Transport::Tls),
            doh: of(Transport::Https),
            doh3: of(Transport::Http3),
            doq: of(Transport::Quic),
            failures: counters.failures.value(),
            too_often: counters.too_often.value(),
        }
    }
}

/// `None` of nothing.
fn share(part: u64, whole: u64) -> Option<f64> {
    // Counts beyond 2^53 lose their last digits, which nobody reads.
    #[allow(clippy::cast_precision_loss, reason = "a share is for people")]
    (whole > 0).then(|| part as f64 / whole as f64)
}
