//! Ceremony that both sides share: TLS, QUIC, the length framing of streams, the mapping of DNS
//! to HTTP (RFC 7766, 7858, 8484, 9250).
//!
//! Knows nothing of resolving, caching, or who asks whom.

pub mod client_quic;
pub mod client_tls;
pub mod doh;
pub mod framing;
