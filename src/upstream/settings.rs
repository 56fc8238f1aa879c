//! What the upstream room is told: which resolvers there are, in which order, how to reach and
//! how to authenticate them.

use std::{net::SocketAddr, time::Duration};

use rustls::pki_types::{CertificateDer, ServerName};

use crate::{handler::Transport, wire::Name};

pub use crate::net::client_tls::Pin;

/// The upstream resolvers and how to choose among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The resolvers in the order of the configuration file. Never empty.
    pub upstreams: Vec<UpstreamSettings>,
    /// Which of them are asked for names of certain zones. Those that no route names are asked for
    /// all other names; when routes name all, all are.
    pub routes: Vec<Route>,
    /// How one is chosen for a query.
    pub strategy: Strategy,
    /// How long a query may take when an upstream is alive and works on it.
    pub timeout: Duration,
}

/// Zones and the upstreams that are asked for what is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The zones; of several routes the one with the longest matching zone counts.
    pub zones: Vec<Name>,
    /// The names of the upstreams, in the order in which they are tried.
    pub upstreams: Vec<String>,
}

/// How an upstream is chosen. Whatever the strategy, one that is known to be down is asked when
/// nobody else is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Strategy {
    /// The one that answers fastest.
    #[default]
    Fastest,
    /// The first of the configuration file.
    Ordered,
    /// One at random for each question, in proportion to the weights.
    Weighted,
    /// For each registrable domain always the same operator, so that none sees everything.
    Spread,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Fastest, Self::Ordered, Self::Weighted, Self::Spread];

    /// The name in the configuration.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Fastest => "fastest",
            Self::Ordered => "ordered",
            Self::Weighted => "weighted",
            Self::Spread => "spread",
        }
    }
}

impl Settings {
    /// The upstreams that may be asked for the addresses of the others: they need no look-up
    /// themselves, and are asked for all names, not only for those of a route.
    #[must_use]
    pub fn guides(&self) -> Vec<UpstreamSettings> {
        let is_routed = |upstream: &UpstreamSettings| {
            let mut routes = self.routes.iter();
            routes.any(|route| route.upstreams.contains(&upstream.name))
        };
        let all_routed = self.upstreams.iter().all(is_routed);
        let is_guide = |upstream: &&UpstreamSettings| {
            upstream.look_up.is_none() && (all_routed || !is_routed(upstream))
        };
        self.upstreams.iter().filter(is_guide).cloned().collect()
    }
}

/// One upstream resolver, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// The name in logs, metrics and routes; unique.
    pub name: String,
    /// How queries travel.
    pub transport: Transport,
    /// Where to connect, tried in order. Empty when it is to be found out by `look_up`.
    pub addresses: Vec<SocketAddr>,
    /// How to find out where to connect. Only encrypted upstreams have that.
    pub look_up: Option<LookUp>,
    /// The name the certificate must be valid for. `None` only on plain transports.
    pub server_name: Option<ServerName<'static>>,
    /// Host and, unless it is 443, port, as HTTP's `:authority` wants them; empty when not HTTP.
    pub authority: String,
    /// The path of the DoH endpoint; empty when not HTTP.
    pub path: String,
    /// Roots trusted for this upstream beside the public ones.
    pub ca: Vec<CertificateDer<'static>>,
    /// SHA-256 digests of subject public key infos, one of which the chain's leaf (or, for stamps,
    /// any certificate of the chain by its to-be-signed octets) must have; empty means no pins.
    pub pins: Vec<Pin>,
    /// Share of the traffic under [`Strategy::Weighted`]; 0 for one that is asked when the others
    /// fail.
    pub weight: u32,
}

/// A host name whose addresses are to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookUp {
    /// The host name.
    pub host: Name,
    /// The port at each of its addresses.
    pub port: u16,
    /// Who is asked, in this order, all with addresses; none means [`Settings::guides`].
    pub servers: Vec<UpstreamSettings>,
}
