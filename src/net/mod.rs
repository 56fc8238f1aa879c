//! The ceremony both sides share: sockets, TLS, QUIC, the length framing of streams, the mapping of
//! DNS to HTTP (RFC 7766, 7858, 8484, 9250); and word from the kernel when the network changes.
//!
//! Knows no query and no answer: it binds, configures and names things. Listeners and upstreams
//! build on it.

pub mod client_quic;
pub mod client_tls;
pub mod doh;
pub mod framing;
pub mod http3;
pub mod netlink;
pub mod port_owner;
pub mod server_quic;
pub mod server_tls;
pub mod sessions;
pub mod sockets;
