//! What the listeners are told: where to listen and the bounds of their protocols.

use std::{net::SocketAddr, time::Duration};

/// Where truename listens, and what a connection may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Plain DNS, UDP and TCP on each address. Port 0 means one free port for both.
    pub dns: Vec<SocketAddr>,
    /// DNS over TLS.
    pub dot: Vec<SocketAddr>,
    /// DNS over QUIC.
    pub doq: Vec<SocketAddr>,
    /// DNS over HTTPS: HTTP/1.1 and HTTP/2 on TCP, HTTP/3 on UDP with the same port.
    pub doh: Vec<SocketAddr>,
    /// The path of the DoH endpoint, beginning with a slash.
    pub doh_path: String,
    /// A connection on which nothing happens for this long is closed.
    pub idle: Duration,
    /// A TLS or QUIC handshake that takes longer is abandoned.
    pub handshake: Duration,
    /// Connections held open at once, over all stream and QUIC listeners of the process.
    pub connections_max: usize,
    /// Connections held open at once by one client address (IPv6: by one /64).
    pub connections_per_client_max: usize,
    /// Queries of one connection being worked on at once; more are read when some are answered.
    pub queries_per_connection_max: usize,
    /// Queries that wait for an upstream at once on one datagram listener of one worker; over it
    /// they are refused. How many may wait in all, and for one client, is the handler's to say.
    pub datagram_pending_max: usize,
    /// How long clients may take over a query and a reply.
    pub patience: Patience,
}

/// How long clients may take. Each span begins once and is not begun again by an octet that comes
/// or leaves, so that nobody holds a connection by dripping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For the rest of a query, or of a request's content, once it has begun.
    pub query: Duration,
    /// For a reply to leave. The largest takes so long at 35 kbit/s.
    pub reply: Duration,
    /// For a stream of replies to move at all when the connection can hold no more of them.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            query: Duration::from_secs(5),
            reply: Duration::from_secs(15),
            stall: Duration::from_secs(5),
        }
    }
}

impl Default for Settings {
    /// The unprivileged ports on loopback and the bounds that README states.
    fn default() -> Self {
        let both = |port| {
            vec![
                SocketAddr::from(([127, 0, 0, 1], port)),
                SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port)),
            ]
        };
        Self {
            dns: both(5300),
            dot: both(8853),
            doq: both(8853),
            doh: both(8443),
            doh_path: "/dns-query".to_owned(),
            idle: Duration::from_secs(30),
            handshake: Duration::from_secs(5),
            connections_max: 4096,
            connections_per_client_max: 512,
            queries_per_connection_max: 100,
            datagram_pending_max: 4096,
            patience: Patience::default(),
        }
    }
}
