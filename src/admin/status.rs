//! What a running truename tells of itself. Fields are added, never renamed, as long as
//! [`super::VERSION`] stays.

use serde::{Deserialize, Serialize};

/// How it is going.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub program: String,
    /// The process.
    pub pid: u32,
    /// Seconds since it was started.
    pub uptime_s: u64,
    /// The configuration file; `None` for built-in defaults.
    pub config: Option<String>,
    /// The last time the configuration was read again; `None` before.
    pub last_reload: Option<Reload>,
    /// Where clients are served, by transport.
    pub listeners: Vec<Listener>,
    /// Who is asked, in the order of the configuration.
    pub upstreams: Vec<Upstream>,
    /// How answers are proved.
    pub dnssec: Dnssec,
    /// Whether the time is known.
    pub clock: Clock,
    /// What is remembered.
    pub cache: Cache,
    /// What was asked.
    pub queries: Queries,
}

/// The outcome of reading the configuration again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// How long ago, in seconds.
    pub ago_s: u64,
    /// Whether the file was good. One that is not changes nothing.
    pub succeeded: bool,
    /// What changed, or what is wrong.
    pub text: String,
}

/// The listeners of one transport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// `udp`, `tcp`, `dot`, `doh`, `doh3` or `doq`.
    pub transport: String,
    /// Their addresses.
    pub addresses: Vec<String>,
    /// Connections open now, at all addresses; `None` for UDP, which has none.
    pub connections: Option<u64>,
}

/// One upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// How it is reached.
    pub transport: String,
    /// `up`, `incomplete` (it leaves out what validation needs), `probing` or `down`.
    pub state: String,
    /// Smoothed round-trip time; `None` before the first answer.
    pub rtt_ms: Option<f64>,
    /// The share of exchanges that failed of late, 0 to 1.
    pub loss: f64,
    /// How often it was asked.
    pub exchanges: u64,
    /// How often that failed.
    pub failures: u64,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// How answers are proved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dnssec {
    /// Whether they are.
    pub validating: bool,
    /// The keys that chains of trust may start from, and those that did or may yet.
    pub anchors: Vec<Anchor>,
    /// What came of it.
    pub verdicts: Verdicts,
}

/// One trust anchor (RFC 5011).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Its zone.
    pub zone: String,
    /// Its tag.
    pub key_tag: u16,
    /// `pending`, `valid`, `missing`, `revoked` or `removed`.
    pub state: String,
    /// Whether a chain may start from it.
    pub trusted: bool,
}

/// Judged answers since the start, links of one chain of aliases each by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// Proved.
    pub secure: u64,
    /// Proved to be unsigned.
    pub insecure: u64,
    /// Forged, broken or expired: withheld.
    pub bogus: u64,
    /// Undecidable: withheld.
    pub indeterminate: u64,
}

/// Whether the time is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// `cold` (it cannot be right), `plausible` or `synced`.
    pub state: String,
    /// For how long it has been so, in seconds.
    pub for_s: u64,
    /// What it shows, as `2026-11-20T08:30:00Z`.
    pub shows: String,
}

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cache {
    /// Answers.
    pub answers: u64,
    /// Octets they take.
    pub octets: u64,
    /// Octets they may take.
    pub limit_octets: u64,
    /// Queries answered from it.
    pub hits: u64,
    /// Queries answered with what had expired, for want of a fresh answer.
    pub stale: u64,
    /// The share of queries that were hits, 0 to 1; `None` before the first query.
    pub hit_rate: Option<f64>,
}

/// What was asked since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queries {
    /// Over plain DNS on UDP.
    pub udp: u64,
    /// Over plain DNS on TCP.
    pub tcp: u64,
    /// Over DNS over TLS.
    pub dot: u64,
    /// Over DNS over HTTPS, HTTP/1.1 and HTTP/2.
    pub doh: u64,
    /// Over DNS over HTTPS, HTTP/3.
    pub doh3: u64,
    /// Over DNS over QUIC.
    pub doq: u64,
    /// Questions that upstreams failed to answer.
    pub failures: u64,
    /// Queries not answered because their client asks too often.
    pub too_often: u64,
}
