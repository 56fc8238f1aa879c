//! One flight per question: equal questions wait for the first, whichever worker it came to.
//!
//! This is not only thrift. Asking the same question many times at once would give a forger as
//! many chances to guess one id (the birthday attack; RebirthDay, CVE-2025-5994).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use tokio::sync::oneshot;

use crate::entropy;

/// Shards, so that workers rarely meet at one lock.
const SHARDS: u64 = 16;

/// Flights in one shard. A flight whose clients all left still ends with the resolver's deadline,
/// so the waiting room alone does not bound their number.
const FLIGHTS_PER_SHARD_MAX: usize = 1_000;
/// Queries that wait for one flight beside the first; places of clients that left are taken back
/// before one is refused.
const PASSENGERS_MAX: usize = 4_096;

type Shard<T> = HashTable<Entry<T>>;

/// A question that is being asked.
#[derive(Debug)]
struct Entry<T> {
    key: Arc<[u8]>,
    passengers: Passengers<T>,
}

/// Those who wait for one flight. Nearly always that is one.
#[derive(Debug)]
struct Passengers<T> {
    first: Option<oneshot::Sender<T>>,
    others: Vec<oneshot::Sender<T>>,
}

impl<T> Passengers<T> {
    const fn new(first: Option<oneshot::Sender<T>>) -> Self {
        Self {
            first,
            others: Vec::new(),
        }
    }

    /// Takes another on board; false when there is no place, even where others left.
    fn board(&mut self, sender: oneshot::Sender<T>) -> bool {
        if self.others.len() >= PASSENGERS_MAX {
            self.others.retain(|passenger| !passenger.is_closed());
        }
        let has_place = self.others.len() < PASSENGERS_MAX;
        if has_place {
            self.others.push(sender);
        }
        has_place
    }
}

/// The questions being asked now; each flight brings back a `T`.
#[derive(Debug)]
pub(super) struct Flights<T> {
    shards: Box<[Mutex<Shard<T>>]>,
    hasher: ahash::RandomState,
}

/// The duty to land a flight. When it is dropped without (a panic), those who wait learn that
/// their sender is gone.
#[derive(Debug)]
pub(super) struct Flight<T> {
    flights: Arc<Flights<T>>,
    hash: u64,
    /// `None` once it has ended.
    key: Option<Arc<[u8]>>,
}

/// A place in a flight: the duty to fly it, for the first; and where the result arrives.
type Joined<T> = (Option<Flight<T>>, oneshot::Receiver<T>);

impl<T> Flights<T> {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: entropy::hasher(),
        }
    }

    /// Joins the flight for `key`.
    ///
    /// # Errors
    /// The name of the bound that is reached.
    pub(super) fn join(self: &Arc<Self>, key: &[u8]) -> Result<Joined<T>, &'static str> {
        let (sender, receiver) = oneshot::channel();
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash);
        if let Some(entry) = shard.find_mut(hash, |entry| *entry.key == *key) {
            return if entry.passengers.board(sender) {
                Ok((None, receiver))
            } else {
                Err("too many queries are waiting for this name")
            };
        }
        if shard.len() >= FLIGHTS_PER_SHARD_MAX {
            return Err("too many questions are being asked of upstreams");
        }
        Ok((
            Some(self.enter(&mut shard, hash, key, Some(sender))),
            receiver,
        ))
    }

    /// Begins a flight for `key` that nobody waits for; `None` when there is one, or no room.
    pub(super) fn begin(self: &Arc<Self>, key: &[u8]) -> Option<Flight<T>> {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash);
        let is_known = shard.find(hash, |entry| *entry.key == *key).is_some();
        if is_known || shard.len() >= FLIGHTS_PER_SHARD_MAX {
            return None;
        }
        Some(self.enter(&mut shard, hash, key, None))
    }

    fn enter(
        self: &Arc<Self>,
        shard: &mut Shard<T>,
        hash: u64,
        key: &[u8],
        first: Option<oneshot::Sender<T>>,
    ) -> Flight<T> {
        let key: Arc<[u8]> = Arc::from(key);
        let entry = Entry {
            key: Arc::clone(&key),
            passengers: Passengers::new(first),
        };
        shard.insert_unique(hash, entry, |entry| self.hasher.hash_one(&*entry.key));
        Flight {
            flights: Arc::clone(self),
            hash,
            key: Some(key),
        }
    }

    /// The shard of a key with this hash. The table within goes by the lowest and the highest bits.
    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard<T>> {
        let at = usize::try_from((hash >> 32) % SHARDS).unwrap_or(0);
        let shard = self.shards.get(at).or(self.shards.first());
        shard
            .expect("there are SHARDS shards, as `new` makes them")
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Flight<T> {
    /// Hands the result to all who wait.
    pub(super) fn land(mut self, landed: &T) {
        let Some(passengers) = self.disembark() else {
            return;
        };
        for sender in passengers.first.into_iter().chain(passengers.others) {
            // One that no longer waits is a client that left.
            let _ = sender.send(landed.clone());
        }
    }
}

impl<T> Flight<T> {
    /// Ends the flight, once: the key is taken, since another flight may go by it right after.
    fn disembark(&mut self) -> Option<Passengers<T>> {
        let key = self.key.take()?;
        let mut shard = self.flights.shard(self.hash);
        let entry = shard.find_entry(self.hash, |entry| entry.key == key).ok()?;
        Some(entry.remove().0.passengers)
    }
}

impl<T> Drop for Flight<T> {
    fn drop(&mut self) {
        self.disembark();
    }
}
