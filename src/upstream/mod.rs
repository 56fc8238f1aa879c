//! The upstream resolvers: how they are written down, reached, authenticated, and chosen.
//!
//! A question goes in, a response that belongs to it comes out, or an error that says which
//! upstream failed at which stage. What is sent is made from the question alone. This room keeps
//! connections, notices dead ones, retries within a small budget, and never falls back to a less
//! secure way. It knows nothing of clients, caching or validation.
//!
//! - `url`, `stamp`, `catalogue`: from text to [`UpstreamSettings`].
//! - `addresses`: where an upstream is; `bootstrap`: finding that out for a host name.
//! - `routes`: which upstreams a name may be asked of.
//! - `select`: the upstreams together; `strategy`: in which order they are tried; `walk`: when the
//!   next one is asked; `hedge`: how often that may be before the first has failed.
//! - `health`: what is known of one, made of `breaker` (whether it is up) and `estimate` (how fast
//!   it is); `probing`: the questions of our own that find out; `status`: the same for people.
//! - `profile`: one upstream, what workers share of it and what each has of its own.
//! - `pool`: the connections to one upstream; `connection`: making and using one.
//! - `udp`, `stream`, `https2`, `https3`, `quic`: one file per way of travelling; `sockets`: those
//!   that plain UDP keeps.
//! - `message`: the query's octets, and whether a response belongs to it.
//! - `life`: what counts as a sign of life; `tries`: the budget of one question; `race`: a few
//!   futures polled together.
//! - `eyeballs`: in which order addresses are tried; `upgrade`: when HTTP/3 is tried for HTTP/2.
//!
//! RFCs: 1035, 5452, 6891, 7766, 7830, 7838, 7858, 8310, 8305, 8467, 8484, 9250.

mod addresses;
mod bootstrap;
mod breaker;
pub mod catalogue;
mod connection;
mod error;
mod estimate;
mod eyeballs;
mod health;
mod hedge;
mod https2;
mod https3;
mod life;
mod message;
mod pool;
mod probing;
mod profile;
mod quic;
mod race;
mod routes;
mod select;
mod settings;
mod sockets;
mod stamp;
mod status;
mod strategy;
mod stream;
mod tries;
mod udp;
mod upgrade;
mod url;
mod walk;

pub use bootstrap::LookedUp;
pub use connection::DialError;
pub use error::{Class, ExchangeError, Failure, Stage};
pub use select::{SetupError, Upstreams};
pub use settings::{LookUp, Pin, Route, Settings, Strategy, UpstreamSettings};
pub use stamp::StampError;
pub use status::{State, Status};
pub use udp::SOCKETS_MAX as UDP_SOCKETS_MAX;
pub use url::{Overrides, UrlError, parse};

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{handler::Transport, wire::Question};

/// When nothing is heard for so long, something else is started beside: a fresh connection, the
/// next address, the next upstream. Nearly all answers of a live resolver are there by then.
const SILENT_AFTER: Duration = Duration::from_millis(600);

/// Asks an upstream one question. Implemented by the upstreams of one worker, and by a scripted
/// one in tests.
pub trait Exchange: Send + Sync + 'static {
    /// Sends the question with RD, CD and DO set and waits for the response that belongs to it.
    ///
    /// What is sent is made from the question alone, so nothing of the client can leak. The
    /// upstream called `avoid` is not asked where there are others, however long they take: its answer
    /// is known.
    fn exchange(
        &self,
        question: &Question,
        deadline: Instant,
        avoid: Option<&str>,
    ) -> impl Future<Output = Result<Exchanged, ExchangeError>> + Send;

    /// How long a client's question may take when upstreams are alive and work on it.
    fn timeout(&self) -> Duration;

    /// How many upstreams there are for `question`.
    fn count(&self, question: &Question) -> usize;

    /// Whether every upstream for `question` is known to be down, so that asking would most likely
    /// only cost time. Cheap; asks nobody.
    fn is_down(&self, question: &Question) -> bool;

    /// Takes note that the upstream called so leaves signatures or proofs out, which another one
    /// gives.
    fn incomplete(&self, upstream: &str);
}

/// A response as it came, which matched the query's id, question and source.
#[derive(Clone, Debug)]
pub struct Exchanged {
    /// The whole DNS message, wire form; its id is of no meaning any more.
    pub octets: Vec<u8>,
    /// How long an HTTP cache on the way has kept the response, in seconds: its TTLs are that much
    /// too long (RFC 8484, section 5.1). 0 on other transports.
    pub age_s: u32,
    /// The name of the upstream that gave it.
    pub upstream: Arc<str>,
    /// The transport it came over.
    pub transport: Transport,
}

/// What a trial question to one upstream showed.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The name of the upstream.
    pub upstream: Arc<str>,
    /// How it is reached.
    pub transport: Transport,
    /// From the question to the answer, connection included; or what went wrong.
    pub latency: Result<Duration, ExchangeError>,
}

#[cfg(test)]
mod tests;
