//! The connections to one upstream: reuse, joining a connect that is under way, reconnecting,
//! closing what is idle.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{
    SILENT_AFTER,
    addresses::Addresses,
    connection::{Connection, Dial, May},
    error::Failure,
    eyeballs::{ADDRESS_STAGGER, Winner},
    life::Life,
    message::Received,
    race::{self, Race},
    tries::Tries,
};
use crate::{clock, wire::Question};

/// The most connections to one upstream. One carries a thousand exchanges; more than four thousand
/// at once are refused.
const CONNECTIONS_MAX: usize = 4;
/// The most exchanges that wait for one connect.
const WAITING_MAX: usize = 4096;
/// An unused connection is closed after so long. Resolvers close after 10 to 60 s themselves.
const IDLE: Duration = Duration::from_secs(45);

/// How much longer a suspicion waits for packets that are here but not read yet.
const BENEFIT_OF_DOUBT: Duration = Duration::from_millis(20);

/// How many round trips a used connection may be silent before it is suspected.
const SUSPICIOUS_ROUND_TRIPS: u32 = 2;
/// The longest wait before a used connection is suspected, however slow its answers were, so that
/// a fresh one can still answer within a stub's patience. Twice the round trip over a satellite.
const SUSPICIOUS_MAX: Duration = Duration::from_millis(1500);

/// What all waiters of one connect are told.
type Outcome = Option<Result<Arc<Connection>, Failure>>;

/// How boldly to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    First,
    /// On the safe side, for a query that boldness may have cost an answer: no early data, and
    /// HTTP/2 where that is written down.
    Again,
}

/// The connections to one upstream.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    addresses: Addresses,
    dial: Dial,
    life: Life,
    state: Mutex<State>,
    /// The number of the next connection.
    next: AtomicU64,
    winner: Winner,
    /// Told when the network is another one.
    network: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    connections: Vec<Arc<Connection>>,
    /// The connect that is under way, if any.
    connecting: Option<watch::Receiver<Outcome>>,
    waiting: usize,
}

impl Pool {
    pub(super) fn new(addresses: Addresses, dial: Dial, life: Life) -> Self {
        Self(Arc::new(Shared {
            addresses,
            dial,
            life,
            state: Mutex::default(),
            next: AtomicU64::new(1),
            winner: Winner::default(),
            network: watch::channel(()).0,
        }))
    }

    /// Asks `question` over a kept connection, or a new one.
    ///
    /// A connection may have ended without our knowing. So a query whose connection ends is asked
    /// once more on a fresh one, and a query about which nothing is heard on a used connection is
    /// asked on a fresh one beside it: after sleep or a change of network the old connection would
    /// stay silent for minutes. That is a suspicion and no more: the old connection is taken out
    /// of use when the fresh one has answered and the old one still kept silent. A slow path would
    /// otherwise lose a good connection with each query.
    ///
    /// When the network changes while the query is under way, it is asked on a fresh connection at
    /// once; the old one may still answer.
    pub(super) async fn exchange(
        &self,
        question: &Question,
        tries: &Tries,
    ) -> Result<Received, Failure> {
        let (first, reused) = self.acquire(0, Attempt::First).await?;
        let heard = first.life.of_connection();
        let suspicious_after = suspicious_after(first.round_trip());
        let mut race = Race::new();
        let asked = Arc::clone(&first);
        race.start(async move {
            let outcome = asked.exchange(question).await;
            (Some(asked), outcome)
        });
        let mut may_repeat = true;
        // Whether the first connection's own silence made us ask again.
        let mut suspected = false;
        // The youngest that is known not to do.
        let mut lost = first.number;
        let mut watching = reused || first.is_early();
        let mut network = self.0.network.subscribe();
        let suspicion = async {
            sleep(suspicious_after).await;
            // When this process itself was held up, the timer is over before the packets that
            // came meanwhile are read. This lets them be read first.
            sleep(BENEFIT_OF_DOUBT).await;
        };
        tokio::pin!(suspicion);
        loop {
            let repeat: Option<Attempt> = tokio::select! {
                biased;
                Some((connection, outcome)) = race.next() => match outcome {
                    Ok(response) => {
                        let by_first = connection.is_some_and(|it| Arc::ptr_eq(&it, &first));
                        if !by_first && first.life.of_connection() == heard {
                            if suspected {
                                first.kept_silent();
                            }
                            self.0.retire(&first);
                        }
                        return Ok(response);
                    }
                    Err(failure) => {
                        // What has ended is not silent.
                        suspected = false;
                        let mut was_early = false;
                        let mut attempt = Attempt::First;
                        if let (true, Some(connection)) = (failure.is_of_connection(), connection) {
                            connection.lost();
                            self.0.retire(&connection);
                            was_early = connection.is_early();
                            if was_early || connection.is_upgraded() {
                                attempt = Attempt::Again;
                            }
                            lost = lost.max(connection.number);
                        }
                        let again = (may_repeat || was_early)
                            && failure.is_of_connection()
                            && tries.take_repeat();
                        if !again && race.is_empty() {
                            return Err(failure);
                        }
                        again.then_some(attempt)
                    }
                },
                () = &mut suspicion, if watching => {
                    watching = false;
                    let suspect = may_repeat && first.life.of_connection() == heard && tries.take_repeat();
                    if suspect {
                        self.0.make_room(&first);
                    }
                    suspected = suspect;
                    suspect.then_some(Attempt::Again)
                }
                Ok(()) = network.changed() => {
                    watching = false;
                    suspected = false;
                    tries.take_repeat().then_some(Attempt::First)
                }
            };
            if let Some(attempt) = repeat {
                may_repeat = false;
                let number = lost;
                race.start(async move {
                    match self.acquire(number, attempt).await {
                        Ok((fresh, _)) => {
                            let outcome = fresh.exchange(question).await;
                            (Some(fresh), outcome)
                        }
                        Err(failure) => (None, Err(failure)),
                    }
                });
            }
        }
    }

    /// Takes all connections out of use and tells the queries under way: they belong to a network
    /// that is no more, or have slept. What was learned of that network is forgotten.
    pub(super) fn network_changed(&self) {
        self.0.winner.forget();
        self.0.addresses.network_changed();
        self.0.dial.network_changed();
        self.lose_connections();
        self.0.network.send_replace(());
    }

    /// Takes all connections out of use.
    pub(super) fn lose_connections(&self) {
        let old = std::mem::take(&mut self.0.lock().connections);
        // Their ends may wake others; not under the lock.
        drop(old);
    }

    /// A connection younger than `number` with room for one more exchange, and whether it was kept
    /// from earlier.
    async fn acquire(
        &self,
        number: u64,
        attempt: Attempt,
    ) -> Result<(Arc<Connection>, bool), Failure> {
        let mut withdrawn = false;
        loop {
            let mut outcome = {
                let mut state = self.0.lock();
                state.connections.retain(|connection| connection.is_open());
                let usable = state
                    .connections
                    .iter()
                    .find(|connection| connection.number > number && connection.has_room());
                if let Some(connection) = usable {
                    return Ok((Arc::clone(connection), true));
                }
                if state.waiting >= WAITING_MAX {
                    return Err(Failure::Busy);
                }
                let outcome = match &state.connecting {
                    Some(outcome) => outcome.clone(),
                    None if state.connections.len() >= CONNECTIONS_MAX => {
                        return Err(Failure::Busy);
                    }
                    None => {
                        let outcome = self.connect(attempt);
                        state.connecting = Some(outcome.clone());
                        outcome
                    }
                };
                state.waiting += 1;
                outcome
            };
            let _waiting = Waiting(&self.0);
            let done = outcome.wait_for(Option::is_some).await;
            match done.as_deref() {
                Ok(Some(Ok(connection))) if connection.number > number && connection.has_room() => {
                    return Ok((Arc::clone(connection), false));
                }
                // Others were quicker; look again.
                Ok(Some(Ok(_)) | None) => {}
                Ok(Some(Err(failure))) => return Err(failure.clone()),
                // The task ended without a word. Once more; a second time it would again.
                Err(_) if !withdrawn => withdrawn = true,
                Err(_) => return Err(Failure::Lost("the connect was withdrawn".to_owned())),
            }
        }
    }

    /// Connects in a task of its own, so that a query that is withdrawn does not take with it what
    /// others wait for.
    fn connect(&self, attempt: Attempt) -> watch::Receiver<Outcome> {
        let (tell, outcome) = watch::channel(None);
        let shared = Arc::clone(&self.0);
        let connecting = Connecting(Arc::clone(&self.0));
        tokio::spawn(async move {
            let result = shared.connect_here(attempt).await;
            if let Ok(connection) = &result {
                // The youngest first: it is the one on the present network.
                let connection = Arc::clone(connection);
                shared.lock().connections.insert(0, connection);
            }
            drop(connecting);
            let made = result.as_ref().ok().map(Arc::clone);
            tell.send_replace(Some(result));
            drop(tell);
            let pool = Arc::downgrade(&shared);
            drop(shared);
            if let Some(connection) = made {
                let watched = Arc::downgrade(&connection);
                drop(connection);
                close_when_idle(pool, watched).await;
            }
        });
        outcome
    }
}

/// How long a used connection may be silent before it is suspected, given its round trip.
fn suspicious_after(round_trip: Option<Duration>) -> Duration {
    round_trip
        .map_or(SILENT_AFTER, |it| it.saturating_mul(SUSPICIOUS_ROUND_TRIPS))
        .clamp(SILENT_AFTER, SUSPICIOUS_MAX)
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; were it so, the state would still be consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection out of use; exchanges on it go on until they end.
    fn retire(&self, connection: &Arc<Connection>) {
        self.lock()
            .connections
            .retain(|kept| !Arc::ptr_eq(kept, connection));
    }

    /// Retires a suspect when a fresh connection would have no place beside it.
    fn make_room(&self, suspect: &Arc<Connection>) {
        let full = self.lock().connections.len() >= CONNECTIONS_MAX;
        if full {
            self.retire(suspect);
        }
    }

    /// Connects on the present network: when that changes meanwhile, what was begun is of no use.
    async fn connect_here(&self, attempt: Attempt) -> Result<Arc<Connection>, Failure> {
        let mut network = self.network.subscribe();
        loop {
            tokio::select! {
                biased;
                Ok(()) = network.changed() => {}
                result = self.connect(attempt) => return result,
            }
        }
    }

    async fn connect(&self, attempt: Attempt) -> Result<Arc<Connection>, Failure> {
        let addresses = self.addresses.resolve().await?;
        let order = self.winner.order(&addresses);
        let outcome = race::staggered(order, ADDRESS_STAGGER, |address| async move {
            let life = self.life.connection();
            let may = May {
                // Nothing is heard before the handshake's end, so the address must be a good one.
                early_data: attempt == Attempt::First && self.winner.is(address),
                upgrade: attempt == Attempt::First,
            };
            let made = self.dial.connect(address, life.clone(), may).await?;
            Ok((address, life, made))
        })
        .await;
        let outcome =
            outcome.unwrap_or_else(|| Err(Failure::Lost("there is no address".to_owned())));
        if outcome.is_err() {
            self.addresses.doubt();
        }
        let (address, life, made) = outcome?;
        self.winner.set(address);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Connection::new(number, life, made)))
    }
}

/// A connect that is under way. However its task ends, panics and a runtime that goes away
/// included, the next query may connect again.
struct Connecting(Arc<Shared>);

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.lock().connecting = None;
    }
}

/// Counts an exchange that waits for a connect.
struct Waiting<'a>(&'a Shared);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.waiting = state.waiting.saturating_sub(1);
    }
}

/// Retires the connection once it was not used for [`IDLE`]. Wakes at most once in that time.
async fn close_when_idle(pool: Weak<Shared>, connection: Weak<Connection>) {
    let mut begun = None;
    loop {
        sleep_until(Instant::from_std(clock::instant() + IDLE)).await;
        let (Some(pool), Some(connection)) = (pool.upgrade(), connection.upgrade()) else {
            return;
        };
        let now = connection.begun();
        if begun == Some(now) && connection.outstanding() == 0 || !connection.is_open() {
            pool.retire(&connection);
            return;
        }
        begun = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        net::TcpListener,
        runtime::{Builder, Runtime},
    };

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn suspicion_grows_with_the_round_trip_within_bounds() {
        let after = |ms| suspicious_after(Some(Duration::from_millis(ms)));
        assert_eq!(suspicious_after(None), SILENT_AFTER);
        assert_eq!(after(20), SILENT_AFTER);
        assert_eq!(after(650), Duration::from_millis(1300));
        assert_eq!(after(4000), SUSPICIOUS_MAX);
    }

    #[test]
    fn a_connect_whose_task_is_gone_does_not_block_the_next() {
        let second = runtime();
        let listener = second.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let pool = Pool::new(vec![address].into(), Dial::Tcp, Life::default());
        let first = runtime();
        first.block_on(async {
            let outcome = pool.connect(Attempt::First);
            pool.0.lock().connecting = Some(outcome);
        });
        // Takes the task with it before it had a turn.
        drop(first);
        let acquired = second.block_on(pool.acquire(0, Attempt::First));
        assert!(acquired.is_ok());
        assert!(pool.0.lock().connecting.is_none());
    }
}
