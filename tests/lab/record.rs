//! What the lab's upstream saw: every query, and counts of connections. Tests read it to say how
//! many exchanges a client's query cost and what left the resolver under test.

use super::Transport;
use super::message::Query;
use super::rdata::rtype;
use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The most queries kept; older ones are forgotten, so that a lab can run under load for days.
pub const QUERIES_KEPT_MAX: usize = 100_000;

/// How long [`Record::wait_for`] waits before it gives up: a test that hangs tells less.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// One query as received.
#[derive(Clone, Debug)]
pub struct Received {
    /// When.
    pub at: Instant,
    /// Over which transport.
    pub transport: Transport,
    /// From where.
    pub peer: SocketAddr,
    /// Which connection of the lab's it came on; 0 for UDP.
    pub connection: u64,
    /// Whether it came in TLS early data (QUIC only).
    pub early_data: bool,
    /// The message's octets, without framing.
    pub octets: Vec<u8>,
    /// The message as far as it could be read; none for what is no query.
    pub query: Option<Query>,
}

impl Received {
    /// The query name in lower case; empty when it could not be read.
    pub fn qname(&self) -> String {
        let query = self.query.as_ref();
        query.map_or_else(String::new, |query| query.qname.to_string())
    }

    /// The query type; 0 when it could not be read.
    pub fn qtype(&self) -> u16 {
        self.query.as_ref().map_or(0, |query| query.qtype)
    }

    /// Whether it only asks if we are there.
    fn is_probe(&self) -> bool {
        self.query.is_some() && self.qname() == "." && self.qtype() == rtype::NS
    }

    /// The message id.
    pub fn id(&self) -> u16 {
        self.query.as_ref().map_or(0, |query| query.id)
    }

    /// Whether there is an EDNS option of this code.
    pub fn has_option(&self, code: u16) -> bool {
        let query = self.query.as_ref();
        query.is_some_and(|query| query.option(code).is_some())
    }
}

/// Counts of one transport.
#[derive(Default)]
struct Counts {
    queries: AtomicU64,
    connections: AtomicU64,
    resumptions: AtomicU64,
    replies: AtomicU64,
}

/// The record of one lab.
#[derive(Default)]
pub struct Record {
    queries: Mutex<VecDeque<Received>>,
    counts: [Counts; 6],
    next_connection: AtomicU64,
}

impl Record {
    /// The queries kept, oldest first, but for those that a busy machine brings: a datagram sent
    /// again, and `. NS`, by which truename sees whether an upstream that was slow is well.
    pub fn queries(&self) -> Vec<Received> {
        let mut datagrams = HashSet::new();
        let queries = self.lock();
        let asked = queries.iter().filter(|one| !one.is_probe());
        let once = asked.filter(|one| {
            one.transport != Transport::Udp || datagrams.insert((one.peer, &one.octets[..]))
        });
        once.cloned().collect()
    }

    /// The queries for a name and below, oldest first.
    pub fn queries_below(&self, name: &str) -> Vec<Received> {
        let name = super::name::Name::parse(name);
        let mut found = self.queries();
        found.retain(|received| {
            let query = received.query.as_ref();
            query.is_some_and(|query| query.qname.is_at_or_below(&name))
        });
        found
    }

    /// How many queries are kept, all that came counted.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing came.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Forgets the queries, not the counts.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// How many queries came over a transport since the start.
    pub fn query_count(&self, transport: Transport) -> u64 {
        self.of(transport).queries.load(Ordering::Relaxed)
    }

    /// How many replies were handed to a transport since the start, forged ones not counted.
    pub fn reply_count(&self, transport: Transport) -> u64 {
        self.of(transport).replies.load(Ordering::Relaxed)
    }

    /// How many connections a transport accepted since the start, refused ones not counted.
    pub fn connection_count(&self, transport: Transport) -> u64 {
        self.of(transport).connections.load(Ordering::Relaxed)
    }

    /// How many TLS sessions a transport resumed since the start.
    pub fn resumption_count(&self, transport: Transport) -> u64 {
        self.of(transport).resumptions.load(Ordering::Relaxed)
    }

    /// Waits until so many queries are kept.
    ///
    /// # Panics
    /// After ten seconds.
    pub async fn wait_for(&self, queries: usize) {
        let start = Instant::now();
        while self.len() < queries {
            assert!(
                start.elapsed() < WAIT_MAX,
                "the lab waited for {queries} queries and saw {}",
                self.len()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(super) fn add(&self, received: Received) {
        let counts = self.of(received.transport);
        counts.queries.fetch_add(1, Ordering::Relaxed);
        let mut queries = self.lock();
        if queries.len() >= QUERIES_KEPT_MAX {
            queries.pop_front();
        }
        queries.push_back(received);
    }

    pub(super) fn add_reply(&self, transport: Transport) {
        self.of(transport).replies.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection and gives its number.
    pub(super) fn add_connection(&self, transport: Transport) -> u64 {
        let counts = self.of(transport);
        counts.connections.fetch_add(1, Ordering::Relaxed);
        self.next_connection.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn add_resumption(&self, transport: Transport) {
        let counts = self.of(transport);
        counts.resumptions.fetch_add(1, Ordering::Relaxed);
    }

    fn of(&self, transport: Transport) -> &Counts {
        &self.counts[super::index(transport)]
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Received>> {
        self.queries.lock().expect("nobody panics with the record")
    }
}
