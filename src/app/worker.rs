//! One worker: a thread with a runtime, sockets, a resolver and upstream connections of its own.
//!
//! Workers share the cache, the flights and nothing that a query must wait for; a query is read,
//! answered and written on one thread.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot, watch},
};
use tracing::error;

use super::{Parts, network::Seen};
use crate::{
    listener::{self, ListenerSockets, Order},
    resolver::{self, Resolver},
    upstream::{Probe, Upstreams},
    wire::Name,
};

/// What a worker is given.
pub(super) struct Share {
    /// Its number, from 0.
    pub(super) number: usize,
    /// Its sockets to begin with.
    pub(super) sockets: Vec<ListenerSockets>,
    /// What is to be changed about them later.
    pub(super) orders: mpsc::Receiver<Order>,
    /// What all workers have in common. Each makes connections to upstreams of its own.
    pub(super) parts: Parts,
    /// Turns true when it is time to stop.
    pub(super) stop: watch::Receiver<bool>,
    /// Asks the upstreams once and says how that went, if wanted.
    pub(super) probe: Option<oneshot::Sender<Vec<Probe>>>,
    /// Numbers to be repeated in `answered`, to show that the worker's loop turns.
    pub(super) beat: watch::Receiver<u64>,
    /// The last number of `beat` that was seen.
    pub(super) answered: Arc<AtomicU64>,
    /// Says when the worker has ended, however it did.
    pub(super) alive: Alive,
}

/// Sends a worker's number when it is dropped, by the end of the worker or by its panic.
pub(super) struct Alive {
    pub(super) number: usize,
    pub(super) ended: mpsc::Sender<usize>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        // There is room for one message of each worker; nobody listens when the process ends.
        let _ = self.ended.try_send(self.number);
    }
}

/// Starts a worker's thread.
pub(super) fn start(share: Share) -> io::Result<thread::JoinHandle<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new()
        .name(format!("worker-{}", share.number))
        .spawn(move || runtime.block_on(work(share)))
}

async fn work(share: Share) {
    let Share {
        number,
        sockets,
        orders,
        mut parts,
        stop,
        probe,
        beat,
        answered,
        alive,
    } = share;
    tokio::spawn(answer(beat, answered));
    let built = Arc::new(parts.upstreams.borrow_and_update().for_worker());
    if let Some(probe) = probe {
        let upstreams = Arc::clone(&built);
        tokio::spawn(async move {
            // Nobody may want to know any more when the process ends at once.
            let _ = probe.send(upstreams.probe().await);
        });
    }
    let resolver = Arc::new(Resolver::new(
        Arc::clone(&parts.resolver),
        Arc::clone(&built),
    ));
    let following = follow(
        parts.upstreams,
        parts.network,
        built,
        Arc::clone(&resolver),
        Arc::clone(&parts.resolver),
    );
    tokio::spawn(following);
    let served = listener::serve(sockets, orders, resolver, parts.listeners, stop).await;
    if let Err(error) = served {
        error!(worker = number, %error, "a listener failed");
    }
    drop(alive);
}

/// Shows that the worker's loop turns.
async fn answer(mut beat: watch::Receiver<u64>, answered: Arc<AtomicU64>) {
    loop {
        answered.store(*beat.borrow_and_update(), Ordering::Relaxed);
        if beat.changed().await.is_err() {
            return;
        }
    }
}

/// Gives the resolver new upstreams whenever they change, and tells those it has of the network.
/// Answers for which the new ones do not stand are forgotten.
async fn follow(
    mut upstreams: watch::Receiver<Arc<Upstreams>>,
    mut network: watch::Receiver<Seen>,
    mut current: Arc<Upstreams>,
    resolver: Arc<Resolver<Upstreams>>,
    shared: Arc<resolver::Shared>,
) {
    let mut before = *network.borrow_and_update();
    loop {
        tokio::select! {
            changed = upstreams.changed() => {
                if changed.is_err() {
                    return;
                }
                let new = upstreams.borrow_and_update().for_worker_from(&current);
                let old = std::mem::replace(&mut current, Arc::new(new));
                resolver.apply_upstreams(Arc::clone(&current));
                if !current.stand_for(&old) {
                    // By each worker: until now this one asked the old ones.
                    shared.flush(&Name::root());
                }
            }
            Ok(()) = network.changed() => {
                let seen = *network.borrow_and_update();
                seen.tell(before, &current);
                before = seen;
            }
        }
    }
}
