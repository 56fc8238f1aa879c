//! How many connections are open, whose they are, and which gives way when there is no room.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::sync::Notify;

use super::Settings;
use crate::{clock, handler::Transport};

/// All connections of all workers. When there is no room for another one, the connection that has
/// been idle longest makes room, of the same client if the client has too many; a newcomer is
/// refused only when everybody else is at work.
#[derive(Debug)]
pub struct Connections {
    total_max: AtomicUsize,
    per_client_max: usize,
    open: [AtomicUsize; Transport::ALL.len()],
    evicted: AtomicUsize,
    refused: AtomicUsize,
    since: Instant,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next_id: u64,
    entries: HashMap<u64, Arc<Entry>>,
    clients: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Entry {
    client: IpAddr,
    transport: Transport,
    busy: AtomicBool,
    /// When it last did something, in seconds since [`Connections::since`]: coarse, but the longest
    /// idle are minutes apart from the freshest, and ties go to the older id.
    active_s: AtomicU32,
    evict: Notify,
}

impl Connections {
    pub(super) fn new(settings: &Settings) -> Arc<Self> {
        Arc::new(Self {
            total_max: AtomicUsize::new(settings.connections_max),
            per_client_max: settings.connections_per_client_max,
            open: Default::default(),
            evicted: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            since: clock::instant(),
            table: Mutex::default(),
        })
    }

    /// Lets in so many from now on. Those that are open stay: who comes next takes the place of the
    /// one that has been idle longest.
    pub fn apply_max(&self, total_max: usize) {
        self.total_max.store(total_max, Ordering::Relaxed);
    }

    /// Connections open now over `transport`.
    #[must_use]
    pub fn open(&self, transport: Transport) -> usize {
        self.count(transport).load(Ordering::Relaxed)
    }

    /// Connections closed to make room, since the start.
    #[must_use]
    pub fn evicted(&self) -> usize {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Connections not admitted because there was no room, since the start.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Lets a connection in, perhaps at the cost of an idle one. `None`: there is no room.
    pub(super) fn admit(
        self: &Arc<Self>,
        client: SocketAddr,
        transport: Transport,
    ) -> Option<Admission> {
        let client = client_prefix(client.ip());
        let mut table = self.table();
        let of_client = table.clients.get(&client).copied().unwrap_or(0);
        let full = if of_client >= self.per_client_max {
            Some(Some(client))
        } else if table.entries.len() >= self.total_max.load(Ordering::Relaxed) {
            Some(None)
        } else {
            None
        };
        if let Some(whose) = full {
            let theirs = |entry: &Entry| whose.is_none_or(|client| entry.client == client);
            if !self.evict(&mut table, theirs) {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        }
        let entry = Arc::new(Entry {
            client,
            transport,
            busy: AtomicBool::new(false),
            active_s: AtomicU32::new(self.age_s(clock::instant())),
            evict: Notify::new(),
        });
        let id = table.next_id;
        table.next_id = id.wrapping_add(1);
        table.entries.insert(id, Arc::clone(&entry));
        *table.clients.entry(client).or_insert(0) += 1;
        self.count(transport).fetch_add(1, Ordering::Relaxed);
        Some(Admission {
            connections: Arc::clone(self),
            id,
            entry,
        })
    }

    /// Closes the connection that has been idle longest among those with a file descriptor of their
    /// own, because the process has none left. Whether there was one.
    pub(super) fn free_descriptor(&self) -> bool {
        let has_own = |entry: &Entry| {
            matches!(
                entry.transport,
                Transport::Tcp | Transport::Tls | Transport::Https
            )
        };
        self.evict(&mut self.table(), has_own)
    }

    fn evict(&self, table: &mut Table, among: impl Fn(&Entry) -> bool) -> bool {
        let evicted = table.longest_idle(among).and_then(|id| table.remove(id));
        if let Some(entry) = &evicted {
            self.count(entry.transport).fetch_sub(1, Ordering::Relaxed);
            self.evicted.fetch_add(1, Ordering::Relaxed);
            entry.evict.notify_one();
        }
        evicted.is_some()
    }

    fn age_s(&self, now: Instant) -> u32 {
        let age = now.saturating_duration_since(self.since);
        u32::try_from(age.as_secs()).unwrap_or(u32::MAX)
    }

    fn count(&self, transport: Transport) -> &AtomicUsize {
        self.open
            .get(transport as usize)
            .expect("there is a counter for each transport")
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Every change is complete before anything can panic, so a poisoned table is sound.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Looks at every entry: only when there is no room, and then it is some microseconds beside
    /// the handshake that the newcomer costs.
    fn longest_idle(&self, among: impl Fn(&Entry) -> bool) -> Option<u64> {
        self.entries
            .iter()
            .filter(|(_, entry)| among(entry))
            .filter(|(_, entry)| !entry.busy.load(Ordering::Relaxed))
            .min_by_key(|(id, entry)| (entry.active_s.load(Ordering::Relaxed), **id))
            .map(|(id, _)| *id)
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Entry>> {
        let entry = self.entries.remove(&id)?;
        if let Some(count) = self.clients.get_mut(&entry.client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.clients.remove(&entry.client);
            }
        }
        Some(entry)
    }
}

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Admission {
    connections: Arc<Connections>,
    id: u64,
    entry: Arc<Entry>,
}

impl Admission {
    /// Says that the connection did something just now, and whether it still waits for answers.
    /// Returns the time.
    pub(super) fn note(&self, busy: bool) -> Instant {
        let now = clock::instant();
        let age_s = self.connections.age_s(now);
        self.entry.busy.store(busy, Ordering::Relaxed);
        self.entry.active_s.store(age_s, Ordering::Relaxed);
        now
    }

    /// Ends when the connection has to make room for another.
    pub(super) async fn evicted(&self) {
        self.entry.evict.notified().await;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let removed = self.connections.table().remove(self.id);
        if let Some(entry) = removed {
            self.connections
                .count(entry.transport)
                .fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Who counts as one client: an IPv4 address, or the /64 that one IPv6 subscriber controls.
pub(super) fn client_prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(total_max: usize, per_client_max: usize) -> Arc<Connections> {
        Connections::new(&Settings {
            connections_max: total_max,
            connections_per_client_max: per_client_max,
            ..Settings::default()
        })
    }

    fn from(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 4000)
    }

    fn is_evicted(admission: &Admission) -> bool {
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        let evicted = std::pin::pin!(admission.evicted());
        evicted.poll(&mut context).is_ready()
    }

    #[test]
    fn the_longest_idle_makes_room() {
        let connections = connections(2, 2);
        let first = connections
            .admit(from("192.0.2.1"), Transport::Tcp)
            .unwrap();
        let second = connections
            .admit(from("192.0.2.2"), Transport::Tls)
            .unwrap();
        first.note(true);
        let third = connections.admit(from("192.0.2.3"), Transport::Tcp);
        assert!(third.is_some());
        assert!(is_evicted(&second) && !is_evicted(&first));
        assert_eq!(connections.open(Transport::Tls), 0);
        assert_eq!(connections.open(Transport::Tcp), 2);
        drop(second);
        assert_eq!(connections.open(Transport::Tls), 0);
        drop((first, third));
        assert_eq!(connections.open(Transport::Tcp), 0);
    }

    #[test]
    fn nobody_at_work_is_evicted() {
        let connections = connections(1, 1);
        let first = connections
            .admit(from("192.0.2.1"), Transport::Tcp)
            .unwrap();
        first.note(true);
        assert!(
            connections
                .admit(from("192.0.2.2"), Transport::Tcp)
                .is_none()
        );
        assert_eq!(connections.refused(), 1);
    }

    #[test]
    fn a_descriptor_comes_from_the_longest_idle_that_has_one() {
        let connections = connections(10, 10);
        let quic = connections
            .admit(from("192.0.2.1"), Transport::Quic)
            .unwrap();
        let busy = connections
            .admit(from("192.0.2.2"), Transport::Tcp)
            .unwrap();
        busy.note(true);
        let idle = connections
            .admit(from("192.0.2.3"), Transport::Https)
            .unwrap();
        assert!(connections.free_descriptor());
        assert!(is_evicted(&idle) && !is_evicted(&quic) && !is_evicted(&busy));
        assert!(!connections.free_descriptor());
    }

    #[test]
    fn one_ipv6_network_is_one_client_and_evicts_only_its_own() {
        let connections = connections(10, 1);
        let other = connections
            .admit(from("192.0.2.1"), Transport::Quic)
            .unwrap();
        let first = connections
            .admit(from("2001:db8::1"), Transport::Quic)
            .unwrap();
        let second = connections.admit(from("2001:db8::2"), Transport::Quic);
        assert!(second.is_some());
        assert!(is_evicted(&first) && !is_evicted(&other));
        let elsewhere = connections.admit(from("2001:db8:0:1::1"), Transport::Quic);
        assert!(elsewhere.is_some());
        assert_eq!(connections.open(Transport::Quic), 3);
    }
}
