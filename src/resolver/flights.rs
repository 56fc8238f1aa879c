//! One flight per question: equal questions wait for the first, whichever worker it came to.
//!
//! This is not only thrift. Asking the same question many times at once would give a forger as
//! many chances to guess one id (the birthday attack; RebirthDay, CVE-2025-5994).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::cache::Stored;

/// Shards, so that workers rarely meet at one lock.
const SHARDS: usize = 16;

/// What a flight brings back: an answer or a failure, ready to be sent.
pub(super) type Landed = Arc<Stored>;

/// Flights in one shard. A flight whose clients all left still ends with the resolver's deadline,
/// so the waiting room alone does not bound their number.
const FLIGHTS_PER_SHARD_MAX: usize = 1_000;
/// Queries that wait for one flight; places of clients that left are taken back first.
const PASSENGERS_MAX: usize = 4_096;

type Passengers = Vec<oneshot::Sender<Landed>>;
type Shard = HashMap<Box<[u8]>, Passengers>;

/// The questions being asked now.
#[derive(Debug)]
pub(super) struct Flights {
    shards: Box<[Mutex<Shard>]>,
    hasher: ahash::RandomState,
}

/// The duty to land a flight. When it is dropped without (a panic), those who wait learn that
/// their sender is gone.
#[derive(Debug)]
pub(super) struct Flight {
    flights: Arc<Flights>,
    key: Box<[u8]>,
}

/// A place in a flight: the duty to fly it, for the first; and where the result arrives.
type Joined = (Option<Flight>, oneshot::Receiver<Landed>);

impl Flights {
    pub(super) fn new(hasher: ahash::RandomState) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher,
        }
    }

    /// Joins the flight for `key`.
    ///
    /// # Errors
    /// The name of the bound that is reached.
    pub(super) fn join(self: &Arc<Self>, key: &[u8]) -> Result<Joined, &'static str> {
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

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        let at = usize::try_from(self.hasher.hash_one(key)).unwrap_or(usize::MAX) % SHARDS;
        let shard = self.shards.get(at).or(self.shards.first());
        shard
            .expect("there are SHARDS shards, as `new` makes them")
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// Hands the result to all who wait.
    pub(super) fn land(mut self, landed: &Landed) {
        for sender in self.disembark() {
            // One that no longer waits is a client that left.
            let _ = sender.send(Arc::clone(landed));
        }
    }

    /// Ends the flight, once: the key is taken, since another flight may go by it right after.
    fn disembark(&mut self) -> Passengers {
        let key = std::mem::take(&mut self.key);
        if key.is_empty() {
            return Passengers::new();
        }
        self.flights.shard(&key).remove(&key).unwrap_or_default()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.disembark();
    }
}
