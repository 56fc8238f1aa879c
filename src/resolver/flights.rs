//! One flight per question: equal questions wait for the first, whichever worker it came to.
//!
//! This is not only thrift. Asking the same question many times at once would give a forger as
//! many chances to guess one id (the birthday attack; RebirthDay, CVE-2025-5994).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::entropy;

/// Shards, so that workers rarely meet at one lock.
const SHARDS: usize = 16;

/// Flights in one shard. A flight whose clients all left still ends with the resolver's deadline,
/// so the waiting room alone does not bound their number.
const FLIGHTS_PER_SHARD_MAX: usize = 1_000;
/// Queries that wait for one flight; places of clients that left are taken back first.
const PASSENGERS_MAX: usize = 4_096;

type Passengers<T> = Vec<oneshot::Sender<T>>;
type Shard<T> = HashMap<Box<[u8]>, Passengers<T>>;

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
    key: Box<[u8]>,
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
        let mut shard = self.shard(key);
        if let Some(passengers) = shard.get_mut(key) {
            if passengers.len() >= PASSENGERS_MAX {
                passengers.retain(|passenger| !passenger.is_closed());
            }
            if passengers.len() >= PASSENGERS_MAX {
                return Err("too many queries are waiting for this name");
            }
            passengers.push(sender);
            return Ok((None, receiver));
        }
        if shard.len() >= FLIGHTS_PER_SHARD_MAX {
            return Err("too many questions are being asked of upstreams");
        }
        shard.insert(Box::from(key), vec![sender]);
        let flight = Flight {
            flights: Arc::clone(self),
            key: Box::from(key),
        };
        Ok((Some(flight), receiver))
    }

    /// Begins a flight for `key` that nobody waits for; `None` when there is one, or no room.
    pub(super) fn begin(self: &Arc<Self>, key: &[u8]) -> Option<Flight<T>> {
        let mut shard = self.shard(key);
        if shard.contains_key(key) || shard.len() >= FLIGHTS_PER_SHARD_MAX {
            return None;
        }
        shard.insert(Box::from(key), Passengers::new());
        Some(Flight {
            flights: Arc::clone(self),
            key: Box::from(key),
        })
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard<T>> {
        let at = usize::try_from(self.hasher.hash_one(key)).unwrap_or(usize::MAX) % SHARDS;
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
        for sender in self.disembark() {
            // One that no longer waits is a client that left.
            let _ = sender.send(landed.clone());
        }
    }
}

impl<T> Flight<T> {
    /// Ends the flight, once: the key is taken, since another flight may go by it right after.
    fn disembark(&mut self) -> Passengers<T> {
        let key = std::mem::take(&mut self.key);
        if key.is_empty() {
            return Passengers::new();
        }
        self.flights.shard(&key).remove(&key).unwrap_or_default()
    }
}

impl<T> Drop for Flight<T> {
    fn drop(&mut self) {
        self.disembark();
    }
}
