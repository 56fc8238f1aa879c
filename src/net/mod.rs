//! The ceremony both sides share: sockets, TLS, QUIC.
//!
//! This room knows no query and no answer: it binds, configures and names things. Listeners and
//! upstreams build on it.

pub mod port_owner;
pub mod server_quic;
pub mod server_tls;
pub mod sockets;
