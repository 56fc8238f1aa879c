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

use crate::{
    listener::{self, WorkerSockets},
    resolver::{self, Resolver},
    upstream::{self, Probe, Upstreams},
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
    /// The upstreams, and what replaces them later.
    pub(super) upstreams: watch::Receiver<Arc<upstream::Settings>>,
    /// Turns true when it is time to stop.
    pub(super) stop: watch::Receiver<bool>,
    /// Asks the upstreams once and says how that went, if wanted.
    pub(super) probe: Option<oneshot::Sender<Vec<Probe>>>,
    /// Closed when the worker has ended, however it did.
    pub(super) alive: mpsc::Sender<()>,
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
        stop,
        probe,
        alive,
    } = share;
    let settings = Arc::clone(&upstreams.borrow_and_update());
    let built = match Upstreams::new(&settings) {
        Ok(built) => Arc::new(built),
        Err(error) => {
            error!(%error, "upstreams cannot be used");
            return;
        }
    };
    if let Some(probe) = probe {
        let upstreams = Arc::clone(&built);
        tokio::spawn(async move {
            // Nobody may want to know any more when the process ends at once.
            let _ = probe.send(upstreams.probe().await);
        });
    }
    let resolver = Arc::new(Resolver::new(resolver, built, settings.timeout));
    let following = tokio::spawn(follow(upstreams, Arc::clone(&resolver)));
    listener::serve(sockets, resolver, listeners, stop).await;
    following.abort();
    drop(alive);
}

/// Gives the resolver new upstreams whenever the settings change.
async fn follow(
    mut settings: watch::Receiver<Arc<upstream::Settings>>,
    resolver: Arc<Resolver<Upstreams>>,
) {
    while settings.changed().await.is_ok() {
        let new = Arc::clone(&settings.borrow_and_update());
        match Upstreams::new(&new) {
            Ok(built) => resolver.apply_upstreams(Arc::new(built), new.timeout),
            Err(error) => error!(%error, "the new upstreams cannot be used; the old ones stay"),
        }
    }
}
