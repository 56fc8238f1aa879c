//! The client's half of QUIC: endpoint, transport limits, handshake (RFC 9000, RFC 9001).

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use quinn::{
    ClientConfig, ConnectError, Connection, ConnectionError, Endpoint, IdleTimeout,
    TransportConfig, VarInt, ZeroRttAccepted, crypto::rustls::QuicClientConfig,
};
use rustls::pki_types::ServerName;
use thiserror::Error;

use super::sessions::Sessions;

/// The most octets in flight on one stream towards us: the longest DNS message with its length or
/// the HTTP/3 frames around it. An upstream that sends more waits for flow control.
const STREAM_WINDOW_OCTETS: u32 = 2 + 65_535;
/// The most octets in flight on one connection towards us; it bounds reassembly memory.
const CONNECTION_WINDOW_OCTETS: u32 = 1 << 20;
/// How long a connection without any packet lives. Long enough to bridge pauses in browsing,
/// short enough that a dead path is noticed.
const IDLE_MS: u32 = 30_000;

/// Why a QUIC connection could not be made.
#[derive(Debug, Error)]
pub enum QuicConnectError {
    /// No socket could be opened. This machine is at fault.
    #[error("no socket: {0}")]
    Socket(#[from] io::Error),
    /// The address or the name cannot be connected to at all. The configuration is at fault.
    #[error("cannot connect: {0}")]
    Setup(#[from] ConnectError),
    /// The handshake failed; the text says why in plain words. The far side is at fault.
    #[error("{0}")]
    Handshake(String),
}

/// Turns a TLS configuration (TLS 1.3, ALPN set) into one for QUIC connections on which the far
/// side may open `uni_streams_max` unidirectional streams, and no bidirectional ones. Tokens are kept
/// with the `sessions` of that configuration.
///
/// # Errors
/// When the TLS configuration has no cipher suite that QUIC can use.
pub fn client_config(
    tls: rustls::ClientConfig,
    uni_streams_max: u32,
    sessions: &Arc<Sessions>,
) -> Result<ClientConfig, QuicConnectError> {
    let crypto = QuicClientConfig::try_from(tls)
        .map_err(|error| QuicConnectError::Handshake(error.to_string()))?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(uni_streams_max))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_OCTETS))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_OCTETS))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        .datagram_receive_buffer_size(None);
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    config.token_store(Arc::<Sessions>::clone(sessions));
    Ok(config)
}

/// How long a connection without any packet lives.
#[must_use]
pub const fn idle() -> Duration {
    Duration::from_millis(IDLE_MS as u64)
}

/// Connects to `address` from a fresh socket, so that every connection has a port of its own, and
/// finishes the handshake; with `early_data` and a session to resume, the handshake is still under
/// way, and what is sent meanwhile goes as 0-RTT (RFC 9001, section 4.6). The second value then
/// comes true when it was taken, false when it was refused or the connection failed.
///
/// Early data is encrypted for whoever holds the keys of the session, whose certificate was
/// verified when it began. It can be replayed, so it must be nothing but queries.
///
/// # Errors
/// When there is no socket, or the handshake fails.
pub async fn connect(
    address: SocketAddr,
    server_name: &ServerName<'static>,
    config: &ClientConfig,
    early_data: bool,
) -> Result<(Connection, Option<ZeroRttAccepted>), QuicConnectError> {
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = Endpoint::client(local)?;
    let mut connecting = endpoint.connect_with(config.clone(), address, &server_name.to_str())?;
    if early_data {
        match connecting.into_0rtt() {
            Ok((connection, accepted)) => return Ok((connection, Some(accepted))),
            Err(without) => connecting = without,
        }
    }
    let connected = connecting.await;
    connected
        .map(|connection| (connection, None))
        .map_err(|error| QuicConnectError::Handshake(explain(&error)))
}

/// Says in plain words why a connection failed or ended.
#[must_use]
pub fn explain(error: &ConnectionError) -> String {
    match error {
        // For a certificate the reason is rustls' own text, which names both names or both dates.
        ConnectionError::TransportError(inner) if !inner.reason.is_empty() => inner.reason.clone(),
        ConnectionError::TimedOut => "no packet came back".to_owned(),
        other => other.to_string(),
    }
}
