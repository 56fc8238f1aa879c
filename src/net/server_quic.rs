//! QUIC as listeners speak it: quinn's configurations, cut to the size of DNS.
//!
//! Every number here bounds what one unknown client can make us hold. A DNS query is small and a
//! client has one connection, so the bounds are far below what web servers need.

use std::{sync::Arc, time::Duration};

use quinn::{
    EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::QuicServerConfig,
};

use crate::entropy;

/// What one stream may send before we have read it, octets: a query and its framing.
const STREAM_WINDOW_OCTETS: u32 = 16 * 1024;

/// What all streams of a connection may send before we have read it, octets.
const CONNECTION_WINDOW_OCTETS: u32 = 128 * 1024;

/// What we hold for a connection that does not acknowledge, octets: at least one reply of 65535.
const SEND_WINDOW_OCTETS: u64 = 128 * 1024;

/// Handshake octets held out of order; a client's flight is a few thousand.
const CRYPTO_BUFFER_OCTETS: usize = 16 * 1024;

/// Connection attempts that wait to be looked at by a worker; over it they are refused.
const INCOMING_MAX: usize = 256;

/// Octets of early packets held for one such attempt, and for all of them.
const INCOMING_BUFFER_OCTETS: u64 = 16 * 1024;
const INCOMING_BUFFERS_OCTETS: u64 = 1024 * 1024;

/// What a round trip is taken to be until one has been measured. What a handshake begins with is
/// then sent again after 0.3 s, and after 0.9 s. RFC 9002, section 6.2.2, suggests 333 ms, which
/// makes these 1 s and 3 s, but people wait for DNS, and clients ask elsewhere sooner than that.
/// A client farther away gets a datagram or two for nothing, and an address that has not yet shown
/// that somebody is there never more than three times what came from it (RFC 9000, section 8.1).
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// How much one QUIC connection may do.
#[derive(Clone, Copy, Debug)]
pub struct QuicLimits {
    /// Queries at once.
    pub streams_max: u32,
    /// One-way streams the client may open: none for DoQ (RFC 9250, section 4.2).
    pub unidirectional_max: u32,
    /// Silence after which the connection is forgotten.
    pub idle: Duration,
}

/// The configuration of one listener's endpoints, to be shared by all workers: address tokens made
/// by one are good at the others.
#[must_use]
pub fn server_config(tls: &Arc<QuicServerConfig>, limits: QuicLimits) -> ServerConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(limits.unidirectional_max))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_OCTETS))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_OCTETS))
        .send_window(SEND_WINDOW_OCTETS)
        .crypto_buffer_size(CRYPTO_BUFFER_OCTETS)
        .initial_rtt(INITIAL_RTT)
        .datagram_receive_buffer_size(None)
        // Replies rarely fill a packet: looking for a larger one costs more than it saves.
        .mtu_discovery_config(None)
        .max_idle_timeout(IdleTimeout::try_from(limits.idle).ok());
    let mut config = ServerConfig::with_crypto(Arc::clone(tls) as Arc<_>);
    config
        .transport_config(Arc::new(transport))
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BUFFER_OCTETS)
        .incoming_buffer_size_total(INCOMING_BUFFERS_OCTETS);
    config
}

/// The part of an endpoint's configuration that does not depend on the protocol. One value serves
/// all workers: a client whose packets move to another worker's socket, because its address
/// changed, is told so by a reset that it can recognise, and connects again at once.
#[must_use]
pub fn endpoint_config() -> EndpointConfig {
    let mut secret = [0; 64];
    entropy::fill(&mut secret);
    EndpointConfig::new(Arc::new(ring::hmac::Key::new(
        ring::hmac::HMAC_SHA256,
        &secret,
    )))
}
