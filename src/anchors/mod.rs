//! Trust anchors over time: which keys a chain of trust may start from, as the zones themselves
//! roll them (RFC 5011), and who may ask about it (RFC 8509).
//!
//! Knows records, states, the text of files and the time it is given; knows no timers, no tasks,
//! no upstreams and no configuration file. Whoever holds a [`Keeper`] asks for a zone's DNSKEY set
//! when [`Keeper::next_query_s`] says so, hands the response to [`Keeper::observe`], writes the
//! state by [`store`], gives [`Keeper::anchors`] to the validator and logs the changes.
//!
//! ```text
//!            new key in a            there for 30 days,
//!            proved set              and still there
//!   (start) ───────────> pending ───────────────────> valid <───────┐
//!      ^                    │                        │    │    back │
//!      └────── gone ────────┘                   gone │    └────> missing
//!                           │                        │             │
//!                           │ revokes itself         v             │
//!                           └──────────────────> revoked <─────────┘
//!                                                    │ gone for 30 days
//!                                                    v
//!  valid and missing keys are trusted             removed
//! ```
//!
//! When a change takes a key away, whoever validates also forgets what it derived from the zone's
//! keys so far ([`crate::dnssec::KeyCache::forget`]).
//!
//! What an operator wrote down, or else what is built in, seeds the keeper with valid keys; see
//! [`Keeper::seed`] for what happens when that changes later.
//!
//! RFCs: 5011 (states and timers), 9718 (IANA's XML), 4034 (DS and DNSKEY).

mod change;
mod keeper;
mod key;
mod point;
mod read;
mod state_file;
pub mod store;
mod times;
mod xml;

use std::path::Path;

pub use change::{Change, Event};
pub use keeper::{Keeper, NotObserved, TRUST_POINTS_MAX};
pub use key::{Key, RecordError};
pub use point::{
    ADD_HOLD_DOWN_S, KEYS_PER_TRUST_POINT_MAX, REMOVE_HOLD_DOWN_S, SEED_DIGEST_OCTETS, Source,
    State, TrackedKey, TrustPoint,
};
pub use read::{ANCHORS_PER_FILE_MAX, FILE_OCTETS_MAX, ReadError, Seed, parse, read};
pub use state_file::{StateError, StateFault};
pub use times::{from_text as time_from_text, to_text as time_text};
pub use xml::XmlError;

/// The name of the state file in the state directory.
pub const STATE_FILE: &str = "trust-anchors.state";

/// The root's anchors that are compiled in.
///
/// # Panics
/// Never: a test reads the file that is compiled in.
#[must_use]
pub fn built_in() -> Vec<Seed> {
    parse(
        Path::new("trust-anchors/root.ds"),
        include_str!("../../trust-anchors/root.ds"),
    )
    .expect("a test reads the same file")
}

#[cfg(test)]
mod tests;
