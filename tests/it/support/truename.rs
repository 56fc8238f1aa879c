//! truename as a library: one worker on a thread of its own, on free ports.

use std::{net::SocketAddr, path::Path, sync::Arc, thread, time::Duration};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot, watch},
};
use truename::{
    access::{self, Access},
    cache, certificates,
    clock::Now,
    dnssec, listener, names,
    net::server_tls::ServerTls,
    reply,
    resolver::{self, Resolver},
    upstream::{
        self, Overrides, Settings as UpstreamsSettings, Strategy, UpstreamSettings, Upstreams,
    },
};

use crate::lab::{Lab, Transport};

/// What a test may want otherwise.
#[derive(Clone)]
pub(crate) struct Options {
    /// How long an idle connection stays.
    pub(crate) idle: Duration,
    /// `forward.timeout`.
    pub(crate) timeout: Duration,
    /// The validator's settings; nothing is validated without.
    pub(crate) dnssec: Option<dnssec::Settings>,
    /// The names that are answered without upstreams.
    pub(crate) names: names::Settings,
    /// What time it is.
    pub(crate) now: fn() -> Now,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(30),
            timeout: Duration::from_secs(4),
            dnssec: None,
            names: names::Settings::default(),
            now: Now::read,
        }
    }
}

/// A running truename; it ends at once when dropped.
pub(crate) struct Truename {
    addresses: Vec<(Transport, SocketAddr)>,
    shared: Arc<resolver::Shared>,
    halt: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Truename {
    /// The CA that the certificate shown stands below.
    pub(crate) const CA: &str = include_str!("../../../certs/ca.pem");
    /// A name the certificate is valid for.
    pub(crate) const NAME: &str = "localhost";

    /// Starts truename with these upstreams, in this order.
    pub(crate) fn start(upstreams: &[(&Lab, Transport)], options: Options) -> Self {
        let upstreams = UpstreamsSettings {
            upstreams: upstreams
                .iter()
                .enumerate()
                .map(|(at, (lab, transport))| settings_of(at, lab, *transport))
                .collect(),
            routes: Vec::new(),
            strategy: Strategy::Ordered,
            timeout: options.timeout,
        };
        let upstreams = Upstreams::new(&upstreams).expect("the upstreams can be set up");
        let certs = Path::new(env!("CARGO_MANIFEST_DIR")).join("certs");
        let loaded = certificates::load(&certs.join("leaf.pem"), &certs.join("leaf.key"), 0)
            .expect("the repository's leaf can be read");
        let tls = ServerTls::new(loaded.key).expect("the leaf can be used");
        let any = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        let settings = listener::Settings {
            dns: any.clone(),
            dot: any.clone(),
            doq: any.clone(),
            doh: any,
            idle: options.idle,
            ..listener::Settings::default()
        };
        let bound = listener::bind(&settings, 1).expect("there are free ports");
        let addresses = bound.addresses();
        let sockets = bound.share(0).expect("there are descriptors");
        drop(bound);
        let shared = resolver::Shared::new(
            cache::Settings::default(),
            Access::new(access::Settings::default()),
            reply::Settings::new(options.idle),
            options.dnssec,
        );
        let shared = Arc::new(shared.with_clock(options.now));
        shared.apply_names(options.names);
        let listeners = Arc::new(listener::Shared::new(settings, Some(tls)));
        let ours = Arc::clone(&shared);
        let (halt, halted) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("the system gives a runtime");
            runtime.block_on(async move {
                let (_stop, stopped) = watch::channel(false);
                let (_, orders) = mpsc::channel(1);
                let resolver = Arc::new(Resolver::new(shared, Arc::new(upstreams.for_worker())));
                tokio::select! {
                    _ = halted => {}
                    ended = listener::serve(sockets, orders, resolver, listeners, stopped) => {
                        panic!("the listeners ended by themselves: {ended:?}");
                    }
                }
            });
        });
        Self {
            addresses,
            shared: ours,
            halt: Some(halt),
            thread: Some(thread),
        }
    }

    /// What its workers share: the cache among it.
    pub(crate) fn shared(&self) -> &resolver::Shared {
        &self.shared
    }

    /// Where it listens over `transport`.
    pub(crate) fn address(&self, transport: Transport) -> SocketAddr {
        let mut addresses = self.addresses.iter();
        let found = addresses.find(|(bound, _)| *bound == transport);
        found.expect("every transport is listened on").1
    }
}

impl Drop for Truename {
    fn drop(&mut self) {
        drop(self.halt.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            // A test that fails already must not abort the others by panicking twice.
            assert!(ended.is_ok() || thread::panicking(), "truename panicked");
        }
    }
}

fn settings_of(at: usize, lab: &Lab, transport: Transport) -> UpstreamSettings {
    let ca = CertificateDer::pem_slice_iter(lab.ca_pem().as_bytes());
    let overrides = Overrides {
        name: Some(format!("lab{at}")),
        ca: if transport.is_encrypted() {
            ca.map(|found| found.expect("PEM")).collect()
        } else {
            Vec::new()
        },
        ..Overrides::default()
    };
    upstream::parse(&lab.url(transport), overrides).expect("the lab's address is an upstream")
}
