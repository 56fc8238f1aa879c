//! Clients: plain DNS over UDP and TCP, DNS over TLS, HTTPS and QUIC.
//!
//! A listener knows its protocol's ceremony: how messages are framed, what a broken peer may cost,
//! when a connection ends. It knows no rcode, no cache and no upstream: every message goes to a
//! [`Handler`](crate::handler::Handler), hits are answered in the same turn of the event loop, and
//! what leaves in one turn leaves together.
//!
//! [`Bound`] holds every socket, one per worker and address, opened before anything runs or handed
//! over by a service manager; [`serve()`] runs one worker's share, opens and closes listeners as
//! it is ordered to, until it is told to stop, and then lets queries in flight finish.
//!
//! RFC 1035 section 4.2, RFC 7766 (TCP), RFC 7858 (TLS), RFC 8484 (HTTPS), RFC 9250 (QUIC).

use crate::wire::HEADER_OCTETS;

mod bind;
mod connections;
mod doh;
mod doq;
mod https;
mod https2;
mod https3;
mod inherited;
mod place;
mod quic;
mod records;
mod serve;
mod settings;
mod stream;
mod turn;
mod udp;

#[cfg(test)]
mod tests;

pub use bind::{BindError, Bound, ListenerSockets, Opened, addresses, bind};
pub use connections::Connections;
pub use doh::{Rejection, Request, body_query, doh_request};
pub use inherited::Inherited;
pub use place::{Place, Protocol};
pub use serve::{DRAIN_MAX, Order, Shared, serve};
pub use settings::{Patience, Settings};

/// The longest query taken from any transport, octets. A query is a question and a few options;
/// 4096 octets hold the longest name with the fullest padding and cookies many times over, while
/// the limit keeps what one unknown client can make us hold small.
pub const QUERY_MAX_OCTETS: usize = 4096;
