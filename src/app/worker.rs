//! One worker: a thread with a runtime, sockets, a resolver and upstream connections of its own.
//!
//! Workers share the cache, the flights and nothing that a query must wait for; a query is read,
//! answered and written on one thread.

use std::{io, sync::Arc, thread};

use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot, watch},
};
use tracing::error;

use super::network::Seen;
use crate::{
    listener::{self, WorkerSockets},
    resolver::{self, Resolver},
    upstream::{Probe, Upstreams},
};

/// What a worker is given.
pub(super) struct Share {
    /// Its number, from 0.
    pub(super) number: usize,
    /// Its sockets.
    pub(super) sockets: WorkerSockets,
    /// The listeners' part that all workers have in common.
    pub(super) listeners: Arc<listener::Shared>,
    /// The resolver's part that all workers have in common.
    pub(super) resolver: Arc<resolver::Shared>,
    /// The upstreams, and what replaces them later; each worker makes connections of its own.
    pub(super) upstreams: watch::Receiver<Arc<Upstreams>>,
    /// What happens to the network.
    pub(super) network: watch::Receiver<Seen>,
    /// Turns true when it is time to stop.
    pub(super) stop: watch::Receiver<bool>,
    /// Asks the upstreams once and says how that went, if wanted.
    pub(super) probe: Option<oneshot::Sender<Vec<Probe>>>,
    /// Says when the worker has ended, however it did.
    pub(super) alive: Alive,
}

/// Sends a message when it is dropped, by the end of a worker or by its panic.
pub(super) struct Alive(pub(super) mpsc::Sender<()>);

impl Drop for Alive {
    fn drop(&mut self) {
        // There is room for one message of each worker; nobody listens when the process ends.
        let _ = self.0.try_send(());
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
        number: _,
        sockets,
        listeners,
        resolver,
        mut upstreams,
        network,
        stop,
        probe,
        alive,
    } = share;
    let built = Arc::new(upstreams.borrow_and_update().for_worker());
    if let Some(probe) = probe {
        let upstreams = Arc::clone(&built);
        tokio::spawn(async move {
            // Nobody may want to know any more when the process ends at once.
            let _ = probe.send(upstreams.probe().await);
        });
    }
    let resolver = Arc::new(Resolver::new(resolver, Arc::clone(&built)));
    let following = follow(upstreams, network, built, Arc::clone(&resolver));
    let following = tokio::spawn(following);
    if let Err(error) = listener::serve(sockets, resolver, listeners, stop).await {
        error!(%error, "a listener failed");
    }
    following.abort();
    drop(alive);
}

/// Gives the resolver new upstreams whenever they change, and tells those it has of the network.
async fn follow(
    mut upstreams: watch::Receiver<Arc<Upstreams>>,
    mut network: watch::Receiver<Seen>,
    mut current: Arc<Upstreams>,
    resolver: Arc<Resolver<Upstreams>>,
) {
    let mut before = *network.borrow_and_update();
    loop {
        tokio::select! {
            changed = upstreams.changed() => {
                if changed.is_err() {
                    return;
                }
                current = Arc::new(upstreams.borrow_and_update().for_worker());
                resolver.apply_upstreams(Arc::clone(&current));
            }
            Ok(()) = network.changed() => {
                let seen = *network.borrow_and_update();
                seen.tell(before, &current);
                before = seen;
            }
        }
    }
}
