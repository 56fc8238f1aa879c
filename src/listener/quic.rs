//! QUIC listeners (RFC 9000): who gets in, and for how long. What is spoken inside is in
//! [`doq`] and [`https3`].

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use quinn::{Connection, Endpoint, Incoming, TokioRuntime, VarInt};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{
    doh, doq, https3,
    serve::{Service, drain, note_end, stopped},
};
use crate::handler::{Client, Handler, Transport};

/// Handshakes under way on one worker from which on a newcomer must first show, by a Retry round
/// trip, that it can receive at the address it claims. Below it nobody pays for that proof.
pub(super) const UNPROVEN_MAX: usize = 64;

/// Handshakes under way on one worker over which newcomers are refused.
const HANDSHAKES_MAX: usize = 512;

/// How long the goodbyes may take.
const CLOSE: Duration = Duration::from_secs(1);

/// The bounds of the time between a connection's last answer and its end when truename stops.
const LINGER_MIN: Duration = Duration::from_millis(20);
/// See [`LINGER_MIN`].
const LINGER_MAX: Duration = Duration::from_millis(500);

/// Runs one socket until told to stop, then lets connections finish.
pub(super) async fn listen<H: Handler>(
    socket: std::net::UdpSocket,
    transport: Transport,
    service: Service<H>,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    // An endpoint takes the system longer to make than all the rest: queries that wait at the other
    // listeners come first.
    tokio::task::yield_now().await;
    let config = service.shared.encrypted().map(|encrypted| match transport {
        Transport::Quic => encrypted.doq.clone(),
        _ => encrypted.doh3.clone(),
    });
    let endpoint = Endpoint::new(
        service.shared.endpoint.clone(),
        config,
        socket,
        Arc::new(TokioRuntime),
    )?;
    let doh = Arc::new(doh::Endpoint::new(
        Arc::clone(&service.shared.doh_path),
        None,
    ));
    let handshakes = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    let (leave, leaving) = watch::channel(false);
    let mut stopping = std::pin::pin!(stopped(stop));
    loop {
        tokio::select! {
            biased;
            () = &mut stopping => break,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => note_end(ended),
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { break };
                let address = incoming.remote_address().ip();
                if !service.handler.admits(address) {
                    incoming.refuse();
                    continue;
                }
                let Some(incoming) = let_in(incoming, &handshakes) else { continue };
                let newcomer = Newcomer {
                    client: Client { address: incoming.remote_address(), transport },
                    handshake: Handshake::begin(&handshakes),
                    incoming,
                };
                let (service, stop) = (service.clone(), leaving.clone());
                if transport == Transport::Quic {
                    tasks.spawn(doq::converse(newcomer, service, stop));
                } else {
                    tasks.spawn(https3::converse(newcomer, service, Arc::clone(&doh), stop));
                }
            }
        }
    }
    endpoint.set_server_config(None);
    drain(tasks, leave).await;
    endpoint.close(VarInt::from_u32(0), b"");
    let _ = timeout(CLOSE, endpoint.wait_idle()).await;
    Ok(())
}

/// Lets what was written last leave, and leave again should it be lost: closing a connection
/// discards what has not left.
pub(super) async fn linger(connection: &Connection) {
    let wait = (3 * connection.rtt()).clamp(LINGER_MIN, LINGER_MAX);
    let _ = timeout(wait, connection.closed()).await;
}

/// Decides by the number of handshakes under way.
fn let_in(incoming: Incoming, handshakes: &AtomicUsize) -> Option<Incoming> {
    let under_way = handshakes.load(Ordering::Relaxed);
    if under_way >= HANDSHAKES_MAX {
        incoming.refuse();
        return None;
    }
    if under_way >= UNPROVEN_MAX && !incoming.remote_address_validated() {
        // Cannot fail: an address that has not been validated may always be asked to retry.
        let _ = incoming.retry();
        return None;
    }
    Some(incoming)
}

/// A connection whose handshake has begun.
pub(super) struct Newcomer {
    pub(super) client: Client,
    pub(super) incoming: Incoming,
    pub(super) handshake: Handshake,
}

/// Counts one handshake until it is dropped.
pub(super) struct Handshake(Arc<AtomicUsize>);

impl Handshake {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
