//! The seam between listeners and the resolver.
//!
//! A listener reads one query's octets, knows the [`Client`], and calls a [`Handler`] in two
//! steps: [`Handler::try_answer`] never waits and allocates nothing when the cache answers;
//! [`Handler::finish`] may wait for upstreams. Both are total: a failure is a reply too, so no
//! listener knows an rcode. This room knows no implementer and no caller.

use std::net::{IpAddr, SocketAddr};

use crate::clock::Now;

/// The ways in which queries arrive and leave, listed once for code, logs and metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Plain DNS over UDP (RFC 1035).
    Udp,
    /// Plain DNS over TCP (RFC 7766).
    Tcp,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over HTTPS, HTTP/1.1 or HTTP/2 (RFC 8484).
    Https,
    /// DNS over HTTPS on HTTP/3 (RFC 8484, RFC 9114).
    Http3,
    /// DNS over dedicated QUIC connections (RFC 9250).
    Quic,
}

impl Transport {
    /// Every transport, in the order in which they are listed to people.
    pub const ALL: [Self; 6] = [
        Self::Udp,
        Self::Tcp,
        Self::Tls,
        Self::Https,
        Self::Http3,
        Self::Quic,
    ];

    /// The name in configuration, readiness lines, logs and metric labels.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "dot",
            Self::Https => "doh",
            Self::Http3 => "doh3",
            Self::Quic => "doq",
        }
    }

    /// Whether nobody on the way can read the messages, so that padding makes sense (RFC 8467).
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        !matches!(self, Self::Udp | Self::Tcp)
    }
}

/// Who asks, and how the query came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address and port the query came from.
    pub address: SocketAddr,
    /// The transport it came over.
    pub transport: Transport,
}

/// What a listener may want to know about an answer without reading its octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Answer {
    /// The smallest TTL among the answer's records, seconds: `max-age` in HTTP (RFC 8484, section
    /// 5.1). 0 for answers that must not be kept.
    pub ttl_s: u32,
}

/// The outcome of the first, synchronous step.
#[derive(Debug)]
pub enum Attempt<P> {
    /// The reply's octets were appended to `out`.
    Answered(Answer),
    /// There is no reply: the octets are no query (too short, or themselves a response). Datagram
    /// listeners stay silent, DoH says 400, stream listeners close.
    Malformed,
    /// There is no reply because the client may not ask, or asks too often. Datagram listeners
    /// stay silent, DoH says 429, stream listeners close.
    Refused,
    /// The reply takes an upstream: pass this to [`Handler::finish`].
    Pending(P),
}

/// Answers queries. Implemented by the resolver, and by canned handlers in listener tests.
pub trait Handler: Send + Sync + 'static {
    /// What the second step needs to know from the first; it owns all it holds.
    type Pending: Send + 'static;

    /// Whether anybody at this address may ask at all. A connection from elsewhere costs no
    /// handshake and takes nobody's place. Asked for each connection, not for each query.
    fn admits(&self, address: IpAddr) -> bool;

    /// Reads the clocks, once for the queries that a UDP or stream listener takes in one turn:
    /// reading them for each would cost as much as the look into the cache.
    fn now(&self) -> Now;

    /// Answers from memory, or says what else is needed. Never waits; does not allocate when it
    /// answers from the cache and `out` has room.
    ///
    /// `now` is [`Self::now`] as of this turn. `query` is one DNS message without framing. The reply, complete and within the client's
    /// size limits, is *appended* to `out`, so that a listener can put a length in front or
    /// collect several replies in one buffer. Nothing is appended unless `Answered` is returned.
    fn try_answer(
        &self,
        now: &Now,
        query: &[u8],
        client: &Client,
        out: &mut Vec<u8>,
    ) -> Attempt<Self::Pending>;

    /// Waits for the answer and appends it to `out`. Always appends a reply, at the latest when
    /// the resolver's own deadline ends. Dropping the future withdraws interest.
    fn finish(
        &self,
        pending: Self::Pending,
        out: &mut Vec<u8>,
    ) -> impl Future<Output = Answer> + Send;

    /// Appends the reply that says that too much is going on to wait for this answer. Never waits.
    fn decline(&self, pending: Self::Pending, out: &mut Vec<u8>) -> Answer;
}

/// The most octets of reply one datagram carries, whatever the client offers: it fits an IPv6
/// path of 1280 octets, so that no answer is ever fragmented (attack: forged second fragments).
pub const UDP_REPLY_MAX_OCTETS: usize = 1232;
