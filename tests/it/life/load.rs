//! The load: queries that are sent when their time has come, whatever became of those before, and
//! whose latency counts from that time, so that a program that stalls cannot hide it.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::lab::{Answered, Ask, message::NOERROR};

/// How many sockets a load asks from, so that every worker of the program has some.
const SOCKETS: usize = 8;

/// How long a stub resolver waits for an answer.
const STUB_PATIENCE: Duration = Duration::from_secs(5);

/// How often a receiver looks whether all is over.
const LOOK: Duration = Duration::from_millis(100);

/// Zones with a wildcard: signed with NSEC, with NSEC3, with another algorithm, and not at all.
const ZONES: [&str; 4] = ["secure.com", "nsec3.com", "ed25519.com", "insecure.com"];

/// Names that are asked for again and again.
const POPULAR_NAMES: usize = 40;

/// Of so many queries one is for a popular name; all others are for names never asked before.
const FRESH_TO_POPULAR: usize = 4;

/// The address of every name of the load.
const ADDRESS: [u8; 4] = [192, 0, 2, 42];

/// The name that a query of the load asks for.
fn name_of(number: usize) -> String {
    if number.is_multiple_of(FRESH_TO_POPULAR) {
        let popular = (number / FRESH_TO_POPULAR) % POPULAR_NAMES;
        format!("popular{popular}.wild.secure.com")
    } else {
        let zone = ZONES[number % ZONES.len()];
        format!("fresh{number}.wild.{zone}")
    }
}

/// Whether a name is one that a load asks for once.
pub(super) fn is_fresh(name: &str) -> bool {
    name.starts_with("fresh")
}

/// What became of one query.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) number: usize,
    /// When it was to be sent.
    pub(super) at: Instant,
    /// From then to its answer; none when none came.
    pub(super) latency: Option<Duration>,
    /// What is wrong with the answer; none when it is right.
    pub(super) wrong: Option<String>,
}

impl Outcome {
    /// Whether the client got what it asked for, in time.
    pub(super) fn is_good(&self) -> bool {
        self.wrong.is_none() && self.latency.is_some_and(|latency| latency < STUB_PATIENCE)
    }
}

/// A load that runs.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<()>,
    receivers: Vec<JoinHandle<Vec<Outcome>>>,
}

type InFlight = Arc<Mutex<HashMap<u16, (usize, Instant)>>>;

impl Load {
    /// Starts to ask a server over UDP, so many times a second.
    pub(super) fn start(server: SocketAddr, per_second: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let over = Arc::new(AtomicBool::new(false));
        let mut sockets = Vec::new();
        let mut receivers = Vec::new();
        for _ in 0..SOCKETS {
            let socket = UdpSocket::bind((server.ip(), 0)).unwrap();
            socket.connect(server).unwrap();
            socket.set_read_timeout(Some(LOOK)).unwrap();
            let in_flight = InFlight::default();
            let receiving = socket.try_clone().unwrap();
            let (pending, over) = (Arc::clone(&in_flight), Arc::clone(&over));
            receivers.push(thread::spawn(move || receive(&receiving, &pending, &over)));
            sockets.push((socket, in_flight));
        }
        let stopped = Arc::clone(&stop);
        let sender = thread::spawn(move || {
            send(&sockets, per_second, &stopped);
            over.store(true, Ordering::Relaxed);
        });
        Self {
            stop,
            sender,
            receivers,
        }
    }

    /// Ends it, when all answers are there or cannot be hoped for: what became of each query, in
    /// order.
    pub(super) fn finish(self) -> Vec<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().unwrap();
        let outcomes = self.receivers.into_iter();
        let mut outcomes: Vec<_> = outcomes
            .flat_map(|receiver| receiver.join().unwrap())
            .collect();
        outcomes.sort_by_key(|outcome| outcome.number);
        outcomes
    }
}

fn send(sockets: &[(UdpSocket, InFlight)], per_second: u32, stop: &AtomicBool) {
    let start = Instant::now();
    for turn in 0u32.. {
        let at = start + Duration::from_secs(1) * turn / per_second;
        thread::sleep(at.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let number = usize::try_from(turn).expect("as many as queries");
        let (socket, in_flight) = &sockets[number % SOCKETS];
        let id = u16::try_from(number / SOCKETS % 65536).expect("a remainder");
        in_flight.lock().unwrap().insert(id, (number, at));
        let query = Ask::new(&name_of(number), "A").id(id).encode();
        // An error is that of an earlier query (ICMP); this one is lost as on any network.
        let _ = socket.send(&query).or_else(|_| socket.send(&query));
    }
}

fn receive(socket: &UdpSocket, in_flight: &InFlight, over: &AtomicBool) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut buffer = vec![0; 65535];
    let mut over_since = None;
    loop {
        let received = socket.recv(&mut buffer);
        let now = Instant::now();
        match received {
            Ok(length) => {
                let Some(answered) = Answered::parse(&buffer[..length]) else {
                    continue;
                };
                let Some((number, at)) = in_flight.lock().unwrap().remove(&answered.id) else {
                    continue;
                };
                outcomes.push(Outcome {
                    number,
                    at,
                    latency: Some(now.saturating_duration_since(at)),
                    wrong: what_is_wrong(&answered),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // ICMP of a program that is not there: the query is lost.
            Err(_) => {}
        }
        if over.load(Ordering::Relaxed) {
            let since = *over_since.get_or_insert(now);
            let none_left = in_flight.lock().unwrap().is_empty();
            if none_left || now - since > STUB_PATIENCE {
                break;
            }
        }
    }
    let left = in_flight.lock().unwrap();
    outcomes.extend(left.values().map(|&(number, at)| Outcome {
        number,
        at,
        latency: None,
        wrong: Some("no answer".to_owned()),
    }));
    outcomes
}

fn what_is_wrong(answered: &Answered) -> Option<String> {
    if answered.rcode != NOERROR {
        let errors = answered.extended_errors();
        return Some(format!("rcode {} {errors:?}", answered.rcode));
    }
    let addresses = answered.rdata("A");
    (addresses != [ADDRESS]).then(|| format!("WRONG ANSWER: {addresses:?}"))
}

/// The latencies of some queries.
pub(super) struct Spread {
    sorted: Vec<Duration>,
}

impl Spread {
    pub(super) fn of<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Self {
        let mut sorted: Vec<_> = outcomes.filter_map(|outcome| outcome.latency).collect();
        sorted.sort();
        Self { sorted }
    }

    /// The latency that so many of a hundred queries do not exceed.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let at = (self.sorted.len() * percent / 100).min(self.sorted.len().saturating_sub(1));
        self.sorted.get(at).copied().unwrap_or_default()
    }

    pub(super) fn max(&self) -> Duration {
        self.sorted.last().copied().unwrap_or_default()
    }
}
