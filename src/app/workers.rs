//! The workers as the main thread sees them: it starts them, gives them listeners, notices when
//! one has ended or does not answer, and starts another in its place.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, warn};

use super::{
    Error, Parts,
    worker::{self, Alive, Share},
};
use crate::{
    clock,
    listener::{Bound, Order},
    upstream::Probe,
};

/// Orders that wait for a worker. Each reload gives one, and a worker whose loop turns takes it
/// at once.
const ORDERS_MAX: usize = 16;

/// How often a worker that has ended is replaced within [`RESTARTS_SPAN`]. A defect that one query
/// in a million meets costs that worker's clients a retry and nobody an outage; one that strikes
/// again at once is for the service manager, which starts the whole process afresh and slows down.
const RESTARTS_MAX: usize = 5;
/// See [`RESTARTS_MAX`].
const RESTARTS_SPAN: Duration = Duration::from_secs(60);

/// All workers.
pub(super) struct Workers {
    each: Vec<Worker>,
    parts: Parts,
    stop: watch::Sender<bool>,
    beat: watch::Sender<u64>,
    alive: mpsc::Sender<usize>,
    ended: mpsc::Receiver<usize>,
    restarts: Restarts,
}

/// One of them.
struct Worker {
    thread: JoinHandle<()>,
    orders: mpsc::Sender<Order>,
    answered: Arc<AtomicU64>,
}

impl Workers {
    /// Starts as many as `bound` has sockets for; the first asks the upstreams how they are.
    pub(super) fn start(
        count: usize,
        bound: &Bound,
        parts: Parts,
        probe: oneshot::Sender<Vec<Probe>>,
    ) -> io::Result<Self> {
        let (alive, ended) = mpsc::channel(count);
        let mut workers = Self {
            each: Vec::new(),
            parts,
            stop: watch::Sender::new(false),
            beat: watch::Sender::new(0),
            alive,
            ended,
            restarts: Restarts::default(),
        };
        let mut probe = Some(probe);
        for number in 0..count {
            let worker = workers.begin(number, bound, probe.take())?;
            workers.each.push(worker);
        }
        Ok(workers)
    }

    fn begin(
        &self,
        number: usize,
        bound: &Bound,
        probe: Option<oneshot::Sender<Vec<Probe>>>,
    ) -> io::Result<Worker> {
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        let answered = Arc::new(AtomicU64::new(*self.beat.borrow()));
        let thread = worker::start(Share {
            number,
            sockets: bound.share(number)?,
            orders: ordered,
            parts: self.parts.clone(),
            stop: self.stop.subscribe(),
            probe,
            beat: self.beat.subscribe(),
            answered: Arc::clone(&answered),
            alive: Alive {
                number,
                ended: self.alive.clone(),
            },
        })?;
        Ok(Worker {
            thread,
            orders,
            answered,
        })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.each.len()
    }

    /// Gives each worker its order, numbered from 0.
    pub(super) fn order(&self, orders: impl IntoIterator<Item = Order>) {
        for (number, (worker, order)) in self.each.iter().zip(orders).enumerate() {
            if worker.orders.try_send(order).is_err() {
                // One that has ended is started with all there is; one that hangs is the
                // watchdog's.
                error!(worker = number, "a worker takes no order");
            }
        }
    }

    /// The number of the next one that ends.
    pub(super) async fn ended(&mut self) -> usize {
        let ended = self.ended.recv().await;
        ended.expect("this holds a sender itself")
    }

    /// Starts another worker in the place of one that has ended without being told to.
    ///
    /// # Errors
    /// That happened too often of late, or the system does not let it be done.
    pub(super) fn replace(&mut self, number: usize, bound: &Bound) -> Result<(), Error> {
        error!(worker = number, "a worker ended by itself");
        if !self.restarts.allow(clock::instant()) {
            return Err(Error::Worker);
        }
        let new = self.begin(number, bound, None)?;
        warn!(worker = number, "started another worker in its place");
        if let Some(worker) = self.each.get_mut(number) {
            let old = std::mem::replace(worker, new);
            // It said so last of all; its message of panic is on standard error.
            let _ = old.thread.join();
        }
        Ok(())
    }

    /// Asks every worker to show that it is there.
    pub(super) fn beat(&self) {
        self.beat.send_modify(|beat| *beat = beat.wrapping_add(1));
    }

    /// The numbers of those that have not answered the last [`Self::beat`].
    pub(super) fn silent(&self) -> Vec<usize> {
        let beat = *self.beat.borrow();
        let each = self.each.iter().enumerate();
        each.filter(|(_, worker)| worker.answered.load(Ordering::Relaxed) != beat)
            .map(|(number, _)| number)
            .collect()
    }

    /// Tells all to finish what is in flight, and waits until they have.
    pub(super) async fn stop(&mut self) {
        let _ = self.stop.send(true);
        for _ in 0..self.each.len() {
            self.ended().await;
        }
    }

    /// Waits for the threads of workers that have stopped.
    ///
    /// # Errors
    /// One panicked.
    pub(super) fn join(self) -> Result<(), Error> {
        for worker in self.each {
            worker.thread.join().map_err(|_| Error::Worker)?;
        }
        Ok(())
    }
}

/// How often workers were replaced of late.
#[derive(Debug, Default)]
struct Restarts(VecDeque<Instant>);

impl Restarts {
    /// Whether one more is not too many.
    fn allow(&mut self, now: Instant) -> bool {
        self.0
            .retain(|&then| now.duration_since(then) < RESTARTS_SPAN);
        if self.0.len() >= RESTARTS_MAX {
            return false;
        }
        self.0.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, path::Path, thread};

    use super::*;
    use crate::{
        access::{self, Access},
        app::network::Seen,
        cache,
        config::{self, Options, Surroundings},
        listener::{self, Place},
        reply, resolver,
        upstream::Upstreams,
    };

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Two workers for one address of plain DNS; nobody is asked anything.
    fn workers() -> (Workers, Bound) {
        let text = "[listen]\ndns = [\"127.0.0.1:0\"]\ndot = []\ndoh = []\ndoq = []\n\
                    [[upstream]]\nurl = \"udp://127.0.0.1:1\"\n";
        let (surroundings, options) = (Surroundings::default(), Options::default());
        let settings = config::parse(text, None::<&Path>, &surroundings, &options).unwrap();
        let bound = listener::bind(&settings.listen, 2).unwrap();
        let resolver = resolver::Shared::new(
            cache::Settings::default(),
            Access::new(access::Settings::default()),
            reply::Settings::new(settings.listen.idle),
            None,
        );
        let listeners = listener::Shared::new(settings.listen.clone(), None);
        let upstreams = Upstreams::new(&settings.upstream).unwrap();
        let (commands, _) = mpsc::channel(1);
        let parts = Parts {
            resolver: Arc::new(resolver),
            listeners: Arc::new(listeners),
            settings: watch::channel(Arc::new(settings)).1,
            upstreams: watch::channel(Arc::new(upstreams)).1,
            listening: watch::channel(Vec::new()).1,
            network: watch::channel(Seen::default()).1,
            last_reload: watch::channel(None).1,
            commands,
        };
        let (probe, _) = oneshot::channel();
        let workers = Workers::start(2, &bound, parts, probe).unwrap();
        (workers, bound)
    }

    async fn within<T>(ends: impl Future<Output = T>) -> T {
        tokio::time::timeout(PATIENCE, ends).await.unwrap()
    }

    fn wait_for_answers(workers: &Workers, silent: &[usize]) {
        workers.beat();
        let start = clock::instant();
        while workers.silent() != silent {
            assert!(start.elapsed() < PATIENCE, "{:?}", workers.silent());
            thread::yield_now();
        }
    }

    #[tokio::test]
    async fn whoever_hangs_does_not_answer_and_the_others_do() {
        let (mut workers, _bound) = workers();
        wait_for_answers(&workers, &[]);
        // A worker whose loop does not turn.
        let (orders, _ordered) = mpsc::channel(1);
        workers.each.push(Worker {
            thread: thread::spawn(|| {}),
            orders,
            answered: Arc::default(),
        });
        wait_for_answers(&workers, &[2]);
        wait_for_answers(&workers, &[2]);
        workers.each.pop();
        within(workers.stop()).await;
        workers.join().unwrap();
    }

    #[tokio::test]
    async fn a_worker_that_ended_is_replaced_and_serves_the_same_sockets() {
        let (mut workers, bound) = workers();
        let nowhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let broken = Order {
            close: Vec::new(),
            open: vec![listener::ListenerSockets::broken(Place {
                protocol: listener::Protocol::Dns,
                address: nowhere,
                number: 0,
            })],
        };
        workers.order([broken, Order::default()]);
        assert_eq!(within(workers.ended()).await, 0);
        workers.replace(0, &bound).unwrap();
        wait_for_answers(&workers, &[]);
        // Asked often enough that the kernel gives each of the two some of it.
        let server = bound.addresses()[0].1;
        for _ in 0..50 {
            let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            // Of class CH: answered without anybody else.
            let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            query.extend(b"\x07version\x06server\0\0\x10\0\x03");
            client.connect(server).unwrap();
            client.send(&query).unwrap();
            let mut reply = [0; 512];
            let length = client.recv(&mut reply).unwrap();
            assert!(length >= 12 && reply[..2] == [0, 7]);
        }
        within(workers.stop()).await;
        workers.join().unwrap();
    }

    #[test]
    fn a_few_ends_are_mended_and_a_series_is_not() {
        let mut restarts = Restarts::default();
        let start = clock::instant();
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..5 {
            assert!(restarts.allow(at(second)), "{second}");
        }
        assert!(!restarts.allow(at(30)));
        // The first two are forgotten.
        assert!(restarts.allow(at(61)));
        assert!(restarts.allow(at(61)));
        assert!(!restarts.allow(at(61)));
        assert!(restarts.allow(at(200)));
    }
}
