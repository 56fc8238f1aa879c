//! Answers beyond their time (RFC 8767): when a client gets one, and when it is tried to replace it.
//!
//! ```text
//!  expired ──► upstreams known to be down, or the name failed just now? ──yes──► stale at once,
//!                 │ no                                                           a refresh behind
//!                 ▼
//!              flight ──answer──► fresh       ──bogus──► SERVFAIL, and the old answer is gone
//!                 └─failure, or CLIENT_WAIT is over──► stale; the flight goes on
//! ```
//!
//! Only an answer under the very question's key is given out so, never one made of stale parts: what
//! was proved about gaps, wildcards and keys ends with its time.

use std::time::Duration;

use crate::{
    cache::{Entry, RefreshFailed, Stored},
    clock::Now,
    handler::{Answer, Client},
    reply::{self, Failure},
    upstream::Exchange,
    wire::Query,
};

use super::{Asked, Resolver, Shared, fill};

/// How long a client waits for a fresh answer when there is a stale one: RFC 8767, section 5, says
/// 1.8 s, so that it comes before a stub gives up or asks again.
pub(super) const CLIENT_WAIT: Duration = Duration::from_millis(1800);
/// A name that failed by itself is answered at once for so long, seconds, without waiting for what
/// will most likely fail again. Twice [`RECHECK_MAX_S`]: one that is asked for all the time is
/// tried again before this ends, so that no client of it ever waits.
const FAILING_S: u32 = 60;
/// How soon replacing a stale answer is tried again at most, seconds; at first it is one second,
/// and every failure of the name's own doubles it. RFC 8767, section 5, has 30 s throughout; that
/// would keep stale what is back.
const RECHECK_MAX_S: u32 = 30;
/// How a query stands towards the cache.
pub(super) enum Known<R> {
    /// There is an answer; it was read, and it may be time to see to its replacement.
    Fresh(R, bool),
    /// There is one beyond its time.
    Stale(Past),
    /// There is none.
    Nothing,
}

/// What became of the last attempt to replace a stale answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Past {
    /// It failed just now; waiting is of no use.
    is_failing: bool,
    /// It is time to try again.
    is_due: bool,
}

impl Past {
    /// Reads it off an entry.
    pub(super) fn of(entry: &Entry<'_>, now_s: u32) -> Self {
        let Some((failed_s, failures)) = entry.refresh_failed() else {
            return Self {
                is_failing: false,
                is_due: true,
            };
        };
        let since_s = now_s.saturating_sub(failed_s);
        let is_due = since_s >= fill::doubled(failures.saturating_sub(1)).min(RECHECK_MAX_S);
        Self {
            // When it was not the name's own failure, whether upstreams are down tells more.
            is_failing: !is_due || (failures > 0 && since_s < FAILING_S),
            is_due,
        }
    }
}

impl Shared {
    /// Stores a failure, unless an answer from before is there that may stand in for it. `is_down`
    /// says that no upstream could have answered.
    pub(super) fn keep_failure(
        &self,
        stored: &Stored,
        failure: &Failure,
        is_down: bool,
        asked: &Asked,
        now_s: u32,
    ) {
        self.counters.failures.add();
        let failed = RefreshFailed {
            is_final: !failure.spares_old_answer(),
            is_of_name: fill::is_of_name(failure) || !is_down,
            serve_stale_s: self.cache_settings.load().serve_stale_s,
        };
        let key = stored.entry().key();
        if self.cache.refresh_failed(key, &failed, now_s) {
            self.counters.refresh_failures.add();
        } else {
            self.keep(stored, asked);
        }
    }
}

impl<U: Exchange> Resolver<U> {
    /// Answers with what has expired when there is no hope for a fresh answer now, and tries to
    /// replace it behind.
    pub(super) fn stale_at_once(
        &self,
        query: &Query<'_>,
        client: &Client,
        past: Past,
        now: &Now,
        out: &mut Vec<u8>,
    ) -> Option<Answer> {
        let is_down = self.upstreams.load().is_down(&query.question());
        if !past.is_failing && !is_down {
            return None;
        }
        let answer = self.answer_even_stale(query, client, now, out)?;
        if past.is_due {
            self.refresh_behind(query, is_down, *now);
        }
        Some(answer)
    }

    /// Answers from the cache if that has any answer, stale ones included.
    pub(super) fn answer_even_stale(
        &self,
        query: &Query<'_>,
        client: &Client,
        now: &Now,
        out: &mut Vec<u8>,
    ) -> Option<Answer> {
        let shared = &*self.shared;
        let serve_stale_s = shared.cache_settings.load().serve_stale_s;
        let reply = &shared.reply;
        shared
            .cache
            .read(query.key(), |entry| {
                if entry.is_stale(now.uptime_s, serve_stale_s) {
                    shared.counters.stale.add();
                    return Some(reply::stale(reply, query, client, &entry, now, out));
                }
                let is_answer = entry.failure().is_none() && entry.is_fresh(now.uptime_s);
                is_answer.then(|| reply::answer(reply, query, client, &entry, now, out))
            })
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cache::{Cache, Fill, Settings},
        wire::Records,
    };

    const KEY: &[u8] = b"key";

    /// An answer stored at 1000 s for 60 s, and whether it is kept after a failure.
    fn cache() -> Cache {
        let cache = Cache::new(&Settings::default());
        let records = Records::default();
        let fill = Fill {
            rcode: 0,
            ttl_s: 60,
            secure: true,
            signed_s: 600,
            ends: false,
            failure: None,
            extended_error: None,
            with_dnssec: &records,
            plain: &records,
        };
        cache.insert(Stored::pack(KEY, &fill, 1000).unwrap());
        cache
    }

    fn failed(is_final: bool, is_of_name: bool) -> RefreshFailed {
        RefreshFailed {
            is_final,
            is_of_name,
            serve_stale_s: 86_400,
        }
    }

    fn past(cache: &Cache, now_s: u32) -> Past {
        cache
            .read(KEY, |entry| Past::of(&entry, now_s))
            .unwrap_or_else(|| panic!("there is an entry"))
    }

    #[test]
    fn a_name_that_failed_is_tried_again_later_each_time_and_nobody_waits_meanwhile() {
        let cache = cache();
        let first = past(&cache, 1060);
        assert!(!first.is_failing && first.is_due);
        let mut now_s = 1060;
        let mut holds = Vec::new();
        for _ in 0..7 {
            assert!(cache.refresh_failed(KEY, &failed(false, true), now_s));
            let since = now_s;
            while !past(&cache, now_s).is_due {
                assert!(past(&cache, now_s).is_failing);
                now_s += 1;
            }
            assert!(past(&cache, now_s).is_failing);
            holds.push(now_s - since);
        }
        assert_eq!(holds, [1, 2, 4, 8, 16, 30, 30]);
        assert!(!past(&cache, now_s + FAILING_S).is_failing);
    }

    #[test]
    fn an_outage_of_the_network_is_not_held_against_the_name() {
        let cache = cache();
        for now_s in 1060..1200 {
            assert!(cache.refresh_failed(KEY, &failed(false, false), now_s));
        }
        assert!(past(&cache, 1199).is_failing);
        assert!(!past(&cache, 1200).is_failing);
    }

    #[test]
    fn a_final_failure_ends_a_stale_answer_at_once_and_a_fresh_one_with_its_time() {
        let cache = cache();
        assert!(cache.refresh_failed(KEY, &failed(true, true), 1050));
        cache.read(KEY, |entry| {
            assert!(entry.is_fresh(1059) && !entry.is_stale(1060, 86_400));
        });
        assert!(!cache.refresh_failed(KEY, &failed(false, true), 1060));
        let other = self::cache();
        assert!(!other.refresh_failed(KEY, &failed(true, true), 1060));
    }

    #[test]
    fn a_stale_answer_ends_with_serve_stale_and_is_signed_until_its_signatures_end() {
        let cache = cache();
        cache.read(KEY, |entry| {
            assert!(!entry.is_stale(1059, 100) && entry.is_stale(1060, 100));
            assert!(entry.is_stale(1159, 100) && !entry.is_stale(1160, 100));
            assert!(!entry.is_stale(1060, 0));
            assert!(entry.is_signed_for(30, 1570) && !entry.is_signed_for(30, 1571));
        });
        assert!(!cache.refresh_failed(KEY, &failed(false, true), 1060 + 86_400));
    }
}
