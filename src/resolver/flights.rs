//! One flight per question: equal questions wait for the first, whichever worker it came to.
//!
//! This is not only thrift. Asking the same question many times at once would give a forger as
//! many chances to guess one id (the birthday attack; RebirthDay, CVE-2025-5994).

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use hashbrown::HashTable;
use tokio::{runtime::Handle, sync::oneshot};

use crate::entropy;

/// Shards, so that workers rarely meet at one lock.
const SHARDS: u64 = 16;

/// Flights in one shard. A flight whose clients all left still ends with the resolver's deadline,
/// so the waiting room alone does not bound their number.
const FLIGHTS_PER_SHARD_MAX: usize = 1_000;
/// Queries that wait for one flight; places of clients that left are taken back
/// before one is refused.
const PASSENGERS_MAX: usize = 4_096;

type Shard<T> = HashTable<Entry<T>>;

/// A question that is being asked.
#[derive(Debug)]
struct Entry<T> {
    key: Arc<[u8]>,
    passengers: Passengers<T>,
}

/// Those who wait for one flight beside the one who flies it. Nearly always that is nobody.
#[derive(Debug)]
struct Passengers<T>(Vec<oneshot::Sender<T>>);

impl<T> Passengers<T> {
    /// Takes another on board; `None` when there is no place, even where others left.
    fn board(&mut self) -> Option<oneshot::Receiver<T>> {
        if self.0.len() >= PASSENGERS_MAX {
            self.0.retain(|passenger| !passenger.is_closed());
        }
        if self.0.len() >= PASSENGERS_MAX {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        self.0.push(sender);
        Some(receiver)
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

/// A place in a flight.
pub(super) enum Joined<T> {
    /// The first has the duty to fly it.
    Pilot(Flight<T>),
    /// To the others the result comes.
    Passenger(oneshot::Receiver<T>),
}

/// A flight that its pilot polls: a task of its own would cost an allocation and a turn. It ends
/// with nothing when it panics, so that its pilot has something to say to the client.
///
/// Where the pilot's client leaves before the end, the flight becomes a task: it goes on for the
/// others, and for the cache.
pub(super) struct Flown<T: Send + 'static>(Option<Course<T>>);

type Course<T> = Pin<Box<dyn Future<Output = Option<T>> + Send>>;

impl<T: Send> Flown<T> {
    pub(super) fn new(course: impl Future<Output = Option<T>> + Send + 'static) -> Self {
        Self(Some(Box::pin(course)))
    }
}

impl<T: Send> Future for Flown<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(mut course) = self.0.take() else {
            return Poll::Ready(None);
        };
        // A panic is reported by the hook; the course is dropped, and with it the flight.
        match catch_unwind(AssertUnwindSafe(|| course.as_mut().poll(context))) {
            Ok(Poll::Pending) => {
                self.0 = Some(course);
                Poll::Pending
            }
            Ok(landed) => landed,
            Err(_) => Poll::Ready(None),
        }
    }
}

impl<T: Send> Drop for Flown<T> {
    fn drop(&mut self) {
        // Without a runtime everything ends, and those who wait learn it.
        if let Some(course) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(course);
        }
    }
}

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
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash);
        if let Some(entry) = shard.find_mut(hash, |entry| *entry.key == *key) {
            let boarded = entry.passengers.board();
            return boarded
                .map(Joined::Passenger)
                .ok_or("too many queries are waiting for this name");
        }
        if shard.len() >= FLIGHTS_PER_SHARD_MAX {
            return Err("too many questions are being asked of upstreams");
        }
        Ok(Joined::Pilot(self.enter(&mut shard, hash, key)))
    }

    /// Begins a flight for `key` that nobody waits for; `None` when there is one, or no room.
    pub(super) fn begin(self: &Arc<Self>, key: &[u8]) -> Option<Flight<T>> {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash);
        let is_known = shard.find(hash, |entry| *entry.key == *key).is_some();
        if is_known || shard.len() >= FLIGHTS_PER_SHARD_MAX {
            return None;
        }
        Some(self.enter(&mut shard, hash, key))
    }

    fn enter(self: &Arc<Self>, shard: &mut Shard<T>, hash: u64, key: &[u8]) -> Flight<T> {
        let key: Arc<[u8]> = Arc::from(key);
        let entry = Entry {
            key: Arc::clone(&key),
            passengers: Passengers(Vec::new()),
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

impl<T> Flight<T> {
    /// The name of the flight.
    pub(super) fn key(&self) -> Arc<[u8]> {
        // Landing takes the key and ends the flight.
        self.key.as_ref().map_or_else(|| Arc::from([]), Arc::clone)
    }
}

impl<T: Clone> Flight<T> {
    /// Hands the result to all who wait.
    pub(super) fn land(mut self, landed: &T) {
        let Some(passengers) = self.disembark() else {
            return;
        };
        for sender in passengers.0 {
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
