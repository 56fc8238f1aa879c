//! What the integration tests stand on: a lab, truename in front of it in the same process, and
//! clients for everything truename listens on. No port is fixed, nothing leaves loopback.

mod client;
mod http;
mod truename;

pub(crate) use client::{Client, Outcome, Stream, connect_quic, quic_endpoint, read_message};
pub(crate) use http::{HttpClient, HttpReply, Version, post, request};
pub(crate) use truename::{Options, Truename};

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime},
};

use tokio::task::JoinSet;

use crate::lab::{Answered, Ask, Lab, LabOptions, Transport, Universe};

/// How long anything may take before a test calls it stuck. It bounds a failing test; no passing
/// one depends on it.
pub(crate) const STUCK: Duration = Duration::from_secs(20);

/// The transports on which nobody on the way can read along.
pub(crate) const ENCRYPTED: [Transport; 4] = [
    Transport::Tls,
    Transport::Https,
    Transport::Http3,
    Transport::Quic,
];

/// The transports with connections.
pub(crate) const CONNECTED: [Transport; 5] = [
    Transport::Tcp,
    Transport::Tls,
    Transport::Https,
    Transport::Http3,
    Transport::Quic,
];

/// A lab and truename in front of it.
pub(crate) struct World {
    pub(crate) truename: Truename,
    pub(crate) lab: Lab,
}

impl World {
    /// Starts both; truename asks the lab over `upstream`.
    pub(crate) async fn start(upstream: Transport) -> Self {
        Self::with(upstream, Options::default()).await
    }

    /// The same with other options.
    pub(crate) async fn with(upstream: Transport, options: Options) -> Self {
        let lab = start_lab().await;
        let truename = Truename::start(&[(&lab, upstream)], options);
        Self { truename, lab }
    }

    /// Asks once, on a connection of its own.
    pub(crate) async fn ask(&self, listener: Transport, ask: &Ask) -> Answered {
        let mut client = Client::connect(&self.truename, listener).await;
        client.ask(ask).await
    }
}

/// A lab; all of them share the zones, whose signing takes a while.
pub(crate) async fn start_lab() -> Lab {
    static UNIVERSE: OnceLock<Arc<Universe>> = OnceLock::new();
    let universe = UNIVERSE.get_or_init(|| Arc::new(Universe::new(SystemTime::now())));
    let options = LabOptions {
        universe: Some(Arc::clone(universe)),
        ..LabOptions::default()
    };
    Box::pin(Lab::start(options)).await
}

/// Waits for what must come.
///
/// # Panics
/// When it has not come after [`STUCK`].
pub(crate) async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(STUCK, work).await;
    done.unwrap_or_else(|_| panic!("{what}: nothing after {STUCK:?}"))
}

/// Cases that mostly wait, run side by side; a case says in its own messages which it is.
#[derive(Default)]
pub(crate) struct Cases(JoinSet<()>);

/// How many cases run at once; fewer on a machine that is busy.
const CASES_AT_ONCE: usize = 8;

/// Whether a short sleep ends late: one more case would make upstreams look slow.
async fn is_busy() -> bool {
    const SLEEP: Duration = Duration::from_millis(2);
    const LATE_MAX: Duration = Duration::from_millis(10);
    let start = Instant::now();
    tokio::time::sleep(SLEEP).await;
    start.elapsed() > SLEEP + LATE_MAX
}

impl Cases {
    /// Runs a case, once there is room for it.
    pub(crate) async fn add(&mut self, case: impl Future<Output = ()> + Send + 'static) {
        while self.0.len() >= CASES_AT_ONCE || (!self.0.is_empty() && is_busy().await) {
            self.next().await;
        }
        self.0.spawn(case);
    }

    /// Waits for the rest.
    pub(crate) async fn all_hold(mut self) {
        while !self.0.is_empty() {
            self.next().await;
        }
    }

    async fn next(&mut self) {
        if let Some(Err(failed)) = self.0.join_next().await {
            std::panic::resume_unwind(failed.into_panic());
        }
    }
}
