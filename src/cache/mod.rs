//! Answers by key and time.
//!
//! A key is the lower-case question name in wire form, the type, the class, and the CD bit, as
//! [`crate::wire::Query::key`] makes it. An entry holds ready octets in both forms, for clients
//! with and without DO, so a hit copies and patches but encodes nothing. The cache is bounded by
//! octets and split into shards, each under a lock that is held for one look-up. An answer stays when
//! it has expired, until its place is needed: it may be given out in want of a fresh one.
//!
//! It knows keys, octets, expiry and `now`; not DNSSEC, not who asks; of DNS messages where the TTLs
//! of records stand, and more only where [`mod@file`] checks octets that come from a disk. Times are
//! seconds of monotonic uptime ([`crate::clock::Now::uptime_s`]), so that a step of the wall clock
//! makes nothing younger. RFC 2308 (negative answers), RFC 8767 (stale answers), RFC 9520 (failures).

mod entry;
pub mod file;
mod restore;
mod ring;
mod settings;
mod shard;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use entry::{Entry, Fill, Form, Stored};
pub use settings::Settings;

use crate::{entropy, wire::Name};
use shard::Shard;

/// A shard is not made smaller than this: the largest answer must fit.
const SHARD_OCTETS_MIN: usize = 256 * 1024;
/// Shards at most; enough that two workers rarely meet at one lock.
const SHARDS_MAX: usize = 64;

/// How replacing an answer failed.
#[derive(Clone, Copy, Debug)]
pub struct RefreshFailed {
    /// The old answer must not be given out beyond its time.
    pub is_final: bool,
    /// It says something about the name, not about the network.
    pub is_of_name: bool,
    /// For how long after their expiry answers are given out, seconds.
    pub serve_stale_s: u32,
}

/// Where a walk through the entries stands.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    shard: usize,
    slot: usize,
}

/// The cache all listeners and workers share.
#[derive(Debug)]
pub struct Cache {
    shards: Box<[Mutex<Shard>]>,
    hasher: ahash::RandomState,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let wanted = settings.size_octets / SHARD_OCTETS_MIN;
        let count = (1 << wanted.max(1).ilog2()).min(SHARDS_MAX);
        Self {
            shards: (0..count)
                .map(|_| Mutex::new(Shard::new(settings.size_octets / count)))
                .collect(),
            hasher: entropy::hasher(),
        }
    }

    /// Holds so many octets from now on; what no longer fits is evicted. The number of shards stays,
    /// so that one made much smaller does not keep the largest answers.
    pub fn resize(&self, size_octets: usize) {
        let each = size_octets / self.shards.len().max(1);
        for shard in &self.shards {
            lock(shard).resize(each, |key| self.hasher.hash_one(key));
        }
    }

    /// Passes the entry under `key` to `read` and returns what that makes of it; `None` when there
    /// is none. Entries that are no longer fresh are passed too. The shard is locked meanwhile.
    pub fn read<R>(&self, key: &[u8], read: impl FnOnce(Entry<'_>) -> R) -> Option<R> {
        let hash = self.hasher.hash_one(key);
        self.shard(hash).read(hash, key).map(read)
    }

    /// Stores an answer in place of any other under its key.
    pub fn insert(&self, stored: Stored) {
        let hash = self.hasher.hash_one(stored.entry().key());
        self.shard(hash)
            .insert(hash, stored, |key| self.hasher.hash_one(key));
    }

    /// Takes note that the answer under `key` could not be replaced. Returns whether there is an
    /// answer and it stays: a fresh one always does, one that is stale unless the failure is its
    /// end. Otherwise the failure takes its place, which is for the caller to store.
    pub fn refresh_failed(&self, key: &[u8], failed: &RefreshFailed, now_s: u32) -> bool {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash);
        let Some(stored) = shard.find_mut(hash, key) else {
            return false;
        };
        let entry = stored.entry();
        let is_fresh = entry.failure().is_none() && entry.is_fresh(now_s);
        if !is_fresh && (failed.is_final || !entry.is_stale(now_s, failed.serve_stale_s)) {
            return false;
        }
        let before = entry.refresh_failed().map_or(0, |(_, failures)| failures);
        let failures = if failed.is_of_name {
            before.saturating_add(1)
        } else {
            before
        };
        stored.mark_failed(now_s, failures);
        if failed.is_final {
            stored.denounce();
        }
        true
    }

    /// Takes the duty to replace the answer under `key` before its time is over; `false` when
    /// somebody has it, or there is no answer.
    pub fn claim(&self, key: &[u8]) -> bool {
        let hash = self.hasher.hash_one(key);
        self.shard(hash)
            .find_mut(hash, key)
            .is_some_and(Stored::claim)
    }

    /// Removes what is stored under the key.
    pub fn remove(&self, key: &[u8]) {
        let hash = self.hasher.hash_one(key);
        self.shard(hash).remove(hash, key);
    }

    /// Removes every answer to questions at and below `name`; the root means all. How many there
    /// were.
    pub fn remove_zone(&self, name: &Name) -> usize {
        let mut removed = 0_usize;
        for shard in &self.shards {
            let mut shard = lock(shard);
            let before = shard.len();
            shard.retain(
                |entry| !key_is_within(entry.key(), name),
                |key| self.hasher.hash_one(key),
            );
            removed = removed.saturating_add(before.saturating_sub(shard.len()));
        }
        removed
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Octets in use, overhead included.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).octets()).sum()
    }

    /// Passes every entry to `visit`, one shard locked at a time.
    pub fn for_each(&self, mut visit: impl FnMut(Entry<'_>)) {
        for shard in &self.shards {
            for entry in lock(shard).entries() {
                visit(entry);
            }
        }
    }

    /// Passes entries from `place` on to `visit` until that says no, one shard locked at a time and
    /// the rest of the shard left for the next call; whether there are more. An entry that is stored
    /// or moved between two calls may be passed twice or not at all.
    fn visit_from(&self, place: &mut Place, mut visit: impl FnMut(Entry<'_>) -> bool) -> bool {
        while let Some(shard) = self.shards.get(place.shard) {
            let shard = lock(shard);
            while let Some((at, entry)) = shard.entry_from(place.slot) {
                place.slot = at + 1;
                if !visit(entry) {
                    return true;
                }
            }
            *place = Place {
                shard: place.shard + 1,
                slot: 0,
            };
        }
        false
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The table of a shard uses the hash's top seven and lowest bits, its memory of names that
        // left the low forty; these lie between.
        let at = usize::try_from(hash >> 40).unwrap_or(0) & (self.shards.len() - 1);
        let shard = self.shards.get(at).or(self.shards.first());
        lock(shard.expect("there is at least one shard, as `new` makes them"))
    }
}

/// A panic while a shard was locked leaves it whole: every step on it is total.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the name at the front of a key is `zone` or below it.
fn key_is_within(key: &[u8], zone: &Name) -> bool {
    key.len()
        .checked_sub(5)
        .and_then(|name_len| Name::from_wire(key.get(..name_len)?).ok())
        .is_some_and(|name| name.is_within(zone))
}
