//! The validator: whether an answer is what its zone's owner signed, from the trust anchors down
//! (RFC 4033, 4034, 4035, 5155, 6840; algorithms of RFC 3110, 5702, 6605, 8080 with the policy of
//! RFC 9904 to 9906; limits of RFC 9276; extended errors of RFC 8914; RFC 7646 negative anchors; RFC 8198; RFC 8509).
//!
//! Knows RRsets, keys, proofs and the time it is given; knows no sockets, no tasks, no cache of
//! answers and no configuration file. It never fetches: it says what it needs, and is given it.
//!
//! ```text
//!  response ──> Validation::new          foresee ──> questions to start early
//!                   │
//!                   v                 missing DS, DNSKEY
//!        ┌──────> step ───────────────────────────────> Need(questions)
//!        │          │                                        │ the driver fetches
//!      supply <─────┼────────────────────────────────────────┘
//!                   v
//!             Done(Judged)
//!               secure          data, AD
//!               insecure        data, no AD: a signed proof says nobody signs here
//!               indeterminate   SERVFAIL: a fetch failed; nothing is known
//!               bogus           SERVFAIL: it should be signed, and is not, or not rightly
//! ```
//!
//! Whatever is not proved secure or insecure is bogus or indeterminate; there is no way from a
//! missing record, a failed fetch or a spent budget to data. Each response is judged again from
//! the start at every step; what was verified is remembered, so each RRset is checked once.
//!
//! | file | concern |
//! |---|---|
//! | `machine` | the steps, and what comes out |
//! | `answer` | the links of one answer: aliases, wildcards, denial, what is kept |
//! | `trust` | whose signature counts for a set, whose proofs count for a name |
//! | `chain` | from the anchor to the zone of a name |
//! | `foresight` | what the chain will need, before the answer is here |
//! | `keys` | DNSKEY against DS; the cache of zones |
//! | `signature`, `canonical`, `crypto` | one RRset against its RRSIGs |
//! | `denial`, `nsec`, `nsec3` | proofs of absence |
//! | `aggressive` | denials from proofs already seen |
//! | `rrset`, `rdata` | records sorted into sets; readers |
//! | `trust_point` | the keys at an anchor, for whoever keeps the anchors |
//! | `window` | when the root's signatures hold, for whoever judges the clock |
//! | `limits` | what one answer may cost |
//! | `inspect` | a response looked at once more, for people; no verdict rests on it |
//! | `sentinel` | names that ask which root keys are trusted here |
//! | `settings`, `verdict` | what the operator decides; what is found, and why |

mod aggressive;
mod answer;
mod canonical;
mod chain;
mod crypto;
mod denial;
mod foresight;
mod inspect;
mod keys;
pub mod limits;
mod machine;
mod nsec;
mod nsec3;
mod rdata;
mod rrset;
mod sentinel;
mod settings;
mod signature;
mod trust;
mod trust_point;
mod verdict;
mod window;

#[cfg(test)]
mod tests;

pub use aggressive::{Denied, GAP_TTL_MAX_S, GAPS_MAX, GAPS_PER_ZONE_MAX, Gaps, Proven};
pub use foresight::{FORESEEN_MAX, foresee};
pub use inspect::{Inspected, InspectedKey, InspectedSet, InspectedSignature, Worth, inspect_key};
pub use keys::{
    ABSENCE_TTL_MAX_S, KeyCache, Learned, ZONE_TTL_MAX_S, ZONES_KNOWN_MAX, ZoneKeys, ZoneStatus,
};
pub use machine::{FetchFailed, Judged, Step, Validation};
pub use rdata::{Ds, key_tag};
pub use sentinel::sentinel_fails;
pub use settings::{AnchorSet, Settings};
pub use trust_point::{
    ProvedKeys, SeenKey, ds_fits_key, ds_of_key, ds_usable, key_usable, prove_keys,
};
pub use verdict::{Reason, Security, Verdict, Why};
pub use window::{Window, root_window};
