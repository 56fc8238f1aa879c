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
    time::{Duration, SystemTime},
};

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
    Lab::start(options).await
}

/// Waits for what must come.
///
/// # Panics
/// When it has not come after [`STUCK`].
pub(crate) async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(STUCK, work).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: nothing after {STUCK:?}"),
    }
}

/// Waits until `holds`.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    in_time(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
