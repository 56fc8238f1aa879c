//! What the resolver counts.

use crate::{handler::Transport, metrics::Counter};

/// The resolver's counters, shared by all workers.
#[derive(Debug, Default)]
pub struct Counters {
    /// Queries received by transport, malformed ones included.
    pub queries: PerTransport,
    /// Queries answered from the cache.
    pub hits: Counter,
    /// Queries answered with what had expired, for want of a fresh answer.
    pub stale: Counter,
    /// Refreshes begun behind such an answer.
    pub refreshes: Counter,
    /// Questions asked ahead of time: answers in use that would have expired soon.
    pub prefetches: Counter,
    /// Flights that brought nothing to replace an old answer with.
    pub refresh_failures: Counter,
    /// Questions asked of upstreams, retries not counted.
    pub exchanges: Counter,
    /// Judged answers by verdict, links of one chain of aliases each by itself.
    pub secure: Counter,
    /// See `secure`.
    pub insecure: Counter,
    /// See `secure`.
    pub bogus: Counter,
    /// See `secure`.
    pub indeterminate: Counter,
    /// Bogus ones because validating took more work than is allowed.
    pub over_budget: Counter,
    /// Flights that ended without an answer.
    pub failures: Counter,
    /// Queries not answered because their client asks too often.
    pub too_often: Counter,
}

/// One number for each transport.
#[derive(Debug, Default)]
pub struct PerTransport([Counter; Transport::ALL.len()]);

impl PerTransport {
    /// Adds one for `transport`.
    pub fn add(&self, transport: Transport) {
        if let Some(counter) = self.0.get(transport as usize) {
            counter.add();
        }
    }

    /// The number for all transports.
    pub fn total(&self) -> u64 {
        self.0.iter().map(Counter::value).fold(0, u64::wrapping_add)
    }

    /// The number for `transport`.
    pub fn value(&self, transport: Transport) -> u64 {
        self.0.get(transport as usize).map_or(0, Counter::value)
    }
}
