//! Runs one worker's listeners: accepting, admission, handshakes, and the end, once for all.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nix::errno::Errno;
use quinn::EndpointConfig;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    Connections, Settings, WorkerSockets, connections::Admission, doh::Endpoint, https, quic,
    records::Records, stream, udp,
};
use crate::{
    handler::{Client, Handler, Transport},
    net::{
        server_quic::{QuicLimits, endpoint_config, server_config},
        server_tls::ServerTls,
    },
};

/// How long queries in flight may take to finish once truename is told to stop: longer than a query
/// waits for an upstream unless a longer time is configured, in which case the slowest are cut off;
/// shorter than the patience of service managers.
pub const DRAIN_MAX: Duration = Duration::from_secs(5);

/// How long a listener rests when the system has no descriptor or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The one-way streams of HTTP/3: control, the two of QPACK, and room for greasing ones that
/// clients open to keep servers tolerant (RFC 9114, sections 6.2 and 6.2.3).
const HTTP3_UNIDIRECTIONAL_MAX: u32 = 8;

/// What the listeners of all workers have in common.
pub struct Shared {
    /// The bounds of the protocols.
    pub settings: Settings,
    /// Certificate and TLS configurations; `None` when no encrypted transport is listened on.
    pub tls: Option<ServerTls>,
    /// Who is connected.
    pub connections: Arc<Connections>,
    pub(super) endpoint: EndpointConfig,
    pub(super) doq: Option<quinn::ServerConfig>,
    pub(super) doh3: Option<quinn::ServerConfig>,
    refused_datagrams: AtomicUsize,
}

impl Shared {
    /// Prepares what `settings` asks for. Without `tls` encrypted listeners refuse everybody; give
    /// none only when there are none.
    #[must_use]
    pub fn new(settings: Settings, tls: Option<ServerTls>) -> Self {
        let limits = QuicLimits {
            streams_max: u32::try_from(settings.queries_per_connection_max).unwrap_or(u32::MAX),
            unidirectional_max: 0,
            idle: settings.idle,
        };
        let http3_limits = QuicLimits {
            unidirectional_max: HTTP3_UNIDIRECTIONAL_MAX,
            ..limits
        };
        Self {
            connections: Connections::new(&settings),
            endpoint: endpoint_config(),
            doq: tls.as_ref().map(|tls| server_config(&tls.doq, limits)),
            doh3: tls
                .as_ref()
                .map(|tls| server_config(&tls.doh3, http3_limits)),
            refused_datagrams: AtomicUsize::new(0),
            settings,
            tls,
        }
    }

    /// Datagram queries refused because too many waited, since the start.
    #[must_use]
    pub fn refused_datagrams(&self) -> usize {
        self.refused_datagrams.load(Ordering::Relaxed)
    }

    pub(super) fn count_refused_datagram(&self) {
        self.refused_datagrams.fetch_add(1, Ordering::Relaxed);
    }
}

/// What every task of a worker needs.
pub(super) struct Service<H> {
    pub(super) handler: Arc<H>,
    pub(super) shared: Arc<Shared>,
}

impl<H> Clone for Service<H> {
    fn clone(&self) -> Self {
        Self {
            handler: Arc::clone(&self.handler),
            shared: Arc::clone(&self.shared),
        }
    }
}

/// Runs all listeners of one worker, in the worker's own runtime, until `stop` becomes true (or
/// its sender is gone). Then nothing more is accepted, queries in flight get at most
/// [`DRAIN_MAX`] to finish, and connections are closed the way their protocol asks for.
///
/// # Errors
/// The system does not let a socket be registered with the runtime, or fails a listener for good.
pub async fn serve<H: Handler>(
    sockets: WorkerSockets,
    handler: Arc<H>,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let service = Service { handler, shared };
    let mut listeners = JoinSet::new();
    for socket in sockets.udp {
        listeners.spawn(udp::listen(socket, service.clone(), stop.clone()));
    }
    let streams = [
        (Transport::Tcp, sockets.tcp),
        (Transport::Tls, sockets.dot),
        (Transport::Https, sockets.doh),
    ];
    for (transport, group) in streams {
        for listener in group {
            let listening = accept(listener, transport, service.clone(), stop.clone());
            listeners.spawn(listening);
        }
    }
    let quic = [
        (Transport::Http3, sockets.doh3),
        (Transport::Quic, sockets.doq),
    ];
    for (transport, group) in quic {
        for socket in group {
            let listening = quic::listen(socket, transport, service.clone(), stop.clone());
            listeners.spawn(listening);
        }
    }
    while let Some(ended) = listeners.join_next().await {
        match ended {
            Ok(result) => result?,
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    Ok(())
}

/// Accepts connections of one listener until told to stop, then waits for those that are open.
async fn accept<H: Handler>(
    listener: std::net::TcpListener,
    transport: Transport,
    service: Service<H>,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let port = listener.local_addr()?.port();
    let endpoint = Arc::new(Endpoint::new(&service.shared.settings.doh_path, Some(port)));
    let mut tasks = JoinSet::new();
    let mut stopping = std::pin::pin!(stopped(stop.clone()));
    loop {
        tokio::select! {
            biased;
            () = &mut stopping => break,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => note_end(ended),
            accepted = listener.accept() => match accepted {
                // Hung up on before it costs a handshake or an idle client's place.
                Ok((_, stranger)) if !service.handler.admits(stranger.ip()) => {}
                Ok((tcp, address)) => {
                    let client = Client { address, transport };
                    let connections = &service.shared.connections;
                    if let Some(admission) = connections.admit(address, transport) {
                        let connection = Connection {
                            client,
                            service: service.clone(),
                            endpoint: Arc::clone(&endpoint),
                            admission,
                            stop: stop.clone(),
                        };
                        tasks.spawn(connection.run(tcp));
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::debug!(%error, transport = transport.label(), "cannot accept");
                    if is_out_of_descriptors(&error) {
                        service.shared.connections.free_descriptor();
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    drain(tasks).await;
    Ok(())
}

/// Errors of accept that concern a connection which was gone before we saw it.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Whether the process or the system has no file descriptor left.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

/// One accepted TCP connection.
struct Connection<H> {
    client: Client,
    service: Service<H>,
    endpoint: Arc<Endpoint>,
    admission: Admission,
    stop: watch::Receiver<bool>,
}

impl<H: Handler> Connection<H> {
    async fn run(self, tcp: TcpStream) {
        // Answers are written whole, so waiting for more to put beside them only delays them.
        let _ = tcp.set_nodelay(true);
        tokio::select! {
            () = self.speak(tcp) => {}
            () = self.admission.evicted() => {
                tracing::debug!(transport = self.client.transport.label(), "closed to make room for another connection");
            }
        }
    }

    async fn speak(&self, tcp: TcpStream) {
        match (self.client.transport, &self.service.shared.tls) {
            (Transport::Tls, Some(tls)) => self.speak_tls(tcp, &tls.dot).await,
            (Transport::Https, Some(tls)) => self.speak_tls(tcp, &tls.doh).await,
            (Transport::Tls | Transport::Https, None) => {}
            _ => self.converse(tcp).await,
        }
    }

    /// What is large is boxed, so that a plain connection does not carry the state of an encrypted
    /// one, nor an idle one that of its handshake.
    async fn speak_tls(&self, tcp: TcpStream, config: &Arc<ServerConfig>) {
        let Some(tls) = Box::pin(self.shake_hands(tcp, config)).await else {
            return;
        };
        if self.client.transport == Transport::Tls {
            return self.converse(tls).await;
        }
        let session = https::Session {
            client: self.client,
            service: &self.service,
            endpoint: &self.endpoint,
            admission: &self.admission,
        };
        let stop = self.stop.clone();
        if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
            Box::pin(session.http2(Records::new(tls), stop)).await;
        } else {
            Box::pin(session.http1(tls, stop)).await;
        }
    }

    async fn shake_hands(
        &self,
        tcp: TcpStream,
        config: &Arc<ServerConfig>,
    ) -> Option<Box<TlsStream<TcpStream>>> {
        let accepting = TlsAcceptor::from(Arc::clone(config)).accept(tcp);
        let handshake = timeout(self.service.shared.settings.handshake, accepting);
        Some(Box::new(handshake.await.ok()?.ok()?))
    }

    async fn converse<IO>(&self, io: IO)
    where
        IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let stop = self.stop.clone();
        stream::converse(io, self.client, &self.service, &self.admission, stop).await;
    }
}

/// Ends when `stop` becomes true, or nobody can make it so any more.
pub(super) async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits for tasks, at most [`DRAIN_MAX`]; the rest is cut off.
pub(super) async fn drain(mut tasks: JoinSet<()>) {
    let waiting = async {
        while let Some(ended) = tasks.join_next().await {
            note_end(ended);
        }
    };
    if timeout(DRAIN_MAX, waiting).await.is_err() {
        tracing::warn!(left = tasks.len(), "cut off what did not finish in time");
    }
}

/// Looks at how a task ended. A panic is our fault: it has taken one connection or query with it,
/// and nothing else.
pub(super) fn note_end<T>(ended: Result<T, JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a task panicked; its client got no answer");
    }
}
