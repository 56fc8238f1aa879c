//! Runs one worker's listeners: accepting, admission, handshakes, and the end, once for all.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use nix::errno::Errno;
use quinn::EndpointConfig;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    Connections, ListenerSockets, Place, Settings, connections::Admission, doh::Endpoint, https,
    quic, records::Records, stream, turn::Source, udp,
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

/// How long connections go on as if nothing had happened once truename is told to stop: what their
/// clients asked before is on its way through the system and the layers above, and is answered.
const GRACE: Duration = Duration::from_millis(50);

/// How long a listener rests when the system has no descriptor or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections at most that are still taken of those that waited when the listener was told to
/// stop: what the kernel lets wait, see [`crate::net::sockets`].
const BACKLOG_MAX: usize = 4096;

/// The one-way streams of HTTP/3: control, the two of QPACK, and room for greasing ones that
/// clients open to keep servers tolerant (RFC 9114, sections 6.2 and 6.2.3).
const HTTP3_UNIDIRECTIONAL_MAX: u32 = 8;

/// What the listeners of all workers have in common.
pub struct Shared {
    /// The bounds of the protocols.
    pub settings: Settings,
    /// Who is connected.
    pub connections: Arc<Connections>,
    /// The path of the DoH endpoint.
    pub(super) doh_path: Arc<ArcSwap<String>>,
    pub(super) endpoint: EndpointConfig,
    encrypted: OnceLock<Encrypted>,
    refused_datagrams: AtomicUsize,
}

/// What the encrypted transports need, once there is a certificate.
pub(super) struct Encrypted {
    pub(super) tls: ServerTls,
    pub(super) doq: quinn::ServerConfig,
    pub(super) doh3: quinn::ServerConfig,
}

impl Shared {
    /// Prepares what `settings` asks for. Without `tls` encrypted listeners refuse everybody,
    /// until [`Self::install_tls`].
    #[must_use]
    pub fn new(settings: Settings, tls: Option<ServerTls>) -> Self {
        let shared = Self {
            connections: Connections::new(&settings),
            doh_path: Arc::new(ArcSwap::from_pointee(settings.doh_path.clone())),
            endpoint: endpoint_config(),
            encrypted: OnceLock::new(),
            refused_datagrams: AtomicUsize::new(0),
            settings,
        };
        if let Some(tls) = tls {
            shared.install_tls(tls);
        }
        shared
    }

    /// Certificate and TLS configurations, if there are any yet.
    #[must_use]
    pub fn tls(&self) -> Option<&ServerTls> {
        self.encrypted().map(|encrypted| &encrypted.tls)
    }

    /// Gives encrypted listeners what they show, before the first of them is opened. Another call
    /// changes nothing: a certificate is replaced by [`ServerTls::replace`].
    pub fn install_tls(&self, tls: ServerTls) {
        let limits = QuicLimits {
            streams_max: u32::try_from(self.settings.queries_per_connection_max)
                .unwrap_or(u32::MAX),
            unidirectional_max: 0,
            idle: self.settings.idle,
        };
        let http3_limits = QuicLimits {
            unidirectional_max: HTTP3_UNIDIRECTIONAL_MAX,
            ..limits
        };
        self.encrypted.get_or_init(|| Encrypted {
            doq: server_config(&tls.doq, limits),
            doh3: server_config(&tls.doh3, http3_limits),
            tls,
        });
    }

    /// Answers DoH at another path from the next request on.
    pub fn apply_doh_path(&self, path: &str) {
        self.doh_path.store(Arc::new(path.to_owned()));
    }

    pub(super) fn encrypted(&self) -> Option<&Encrypted> {
        self.encrypted.get()
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

/// A change to a worker's listeners while they run.
#[derive(Debug, Default)]
pub struct Order {
    /// Listeners that take nothing more; what they have in flight is finished.
    pub close: Vec<Place>,
    /// Listeners to be served from now on.
    pub open: Vec<ListenerSockets>,
}

/// Runs the listeners of one worker, in the worker's own runtime, until `stop` becomes true (or
/// its sender is gone). Then nothing more is accepted, queries in flight get at most
/// [`DRAIN_MAX`] to finish, and connections are closed the way their protocol asks for. Meanwhile
/// `orders` are followed; nobody need give any.
///
/// # Errors
/// The system does not let a socket be registered with the runtime, or fails a listener for good.
pub async fn serve<H: Handler>(
    sockets: Vec<ListenerSockets>,
    mut orders: mpsc::Receiver<Order>,
    handler: Arc<H>,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut listeners = Listeners {
        service: Service { handler, shared },
        open: HashMap::new(),
        running: JoinSet::new(),
    };
    for sockets in sockets {
        listeners.open(sockets);
    }
    let mut stopping = std::pin::pin!(stopped(stop));
    let mut is_ordered = true;
    loop {
        tokio::select! {
            biased;
            () = &mut stopping => break,
            order = orders.recv(), if is_ordered => match order {
                Some(order) => listeners.obey(order),
                None => is_ordered = false,
            },
            Some(ended) = listeners.running.join_next() => outcome(ended)?,
        }
    }
    // Senders that are gone mean the same as a word.
    listeners.open.clear();
    while let Some(ended) = listeners.running.join_next().await {
        outcome(ended)?;
    }
    Ok(())
}

/// The listeners of one worker.
struct Listeners<H> {
    service: Service<H>,
    /// Each is stopped by itself.
    open: HashMap<Place, watch::Sender<bool>>,
    running: JoinSet<io::Result<()>>,
}

impl<H: Handler> Listeners<H> {
    fn open(&mut self, sockets: ListenerSockets) {
        let ListenerSockets {
            place,
            datagrams,
            streams,
        } = sockets;
        let (sender, stop) = watch::channel(false);
        // One that had this place before is told to stop by the end of its sender.
        self.open.insert(place, sender);
        for (transport, socket) in datagrams {
            let (service, stop) = (self.service.clone(), stop.clone());
            match transport {
                Transport::Http3 | Transport::Quic => {
                    let listening = quic::listen(socket, transport, service, stop);
                    self.running.spawn(listening);
                }
                _ => {
                    self.running.spawn(udp::listen(socket, service, stop));
                }
            }
        }
        for (transport, listener) in streams {
            let listening = accept(listener, transport, self.service.clone(), stop.clone());
            self.running.spawn(listening);
        }
    }

    fn obey(&mut self, order: Order) {
        for place in order.close {
            self.open.remove(&place);
        }
        for sockets in order.open {
            self.open(sockets);
        }
    }
}

fn outcome(ended: Result<io::Result<()>, JoinError>) -> io::Result<()> {
    match ended {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error)),
    }
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
    let path = Arc::clone(&service.shared.doh_path);
    let endpoint = Arc::new(Endpoint::new(path, Some(port)));
    let (leave, leaving) = watch::channel(false);
    let welcome = |address: SocketAddr| {
        // Hung up on before it costs a handshake or an idle client's place.
        if !service.handler.admits(address.ip()) {
            return None;
        }
        let admission = service.shared.connections.admit(address, transport)?;
        Some(Connection {
            client: Client { address, transport },
            service: service.clone(),
            endpoint: Arc::clone(&endpoint),
            admission,
            stop: leaving.clone(),
        })
    };
    let mut tasks = JoinSet::new();
    let mut stopping = std::pin::pin!(stopped(stop));
    loop {
        tokio::select! {
            biased;
            () = &mut stopping => break,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => note_end(ended),
            accepted = listener.accept() => match accepted {
                Ok((tcp, address)) => {
                    if let Some(connection) = welcome(address) {
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
    // Those whom the system let in already are not turned away.
    let listener = listener.into_std()?;
    for _ in 0..BACKLOG_MAX {
        let Ok((tcp, address)) = listener.accept() else {
            break;
        };
        if tcp.set_nonblocking(true).is_ok()
            && let Ok(tcp) = TcpStream::from_std(tcp)
            && let Some(connection) = welcome(address)
        {
            tasks.spawn(connection.run(tcp));
        }
    }
    drop(listener);
    drain(tasks, leave).await;
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
            biased;
            () = self.speak(tcp) => {}
            () = self.admission.evicted() => {
                tracing::debug!(transport = self.client.transport.label(), "closed to make room for another connection");
            }
        }
    }

    async fn speak(&self, tcp: TcpStream) {
        match (self.client.transport, self.service.shared.tls()) {
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
        IO: Source,
    {
        let stop = self.stop.clone();
        stream::converse(io, self.client, &self.service, &self.admission, stop).await;
    }
}

/// Ends when `stop` becomes true, or nobody can make it so any more.
pub(super) async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Lets connections end: after [`GRACE`] they are told to `leave`. At most [`DRAIN_MAX`] later the
/// rest is cut off.
pub(super) async fn drain(mut tasks: JoinSet<()>, leave: watch::Sender<bool>) {
    if !tasks.is_empty() {
        sleep(GRACE).await;
    }
    leave.send_replace(true);
    let ending = async {
        while let Some(ended) = tasks.join_next().await {
            note_end(ended);
        }
    };
    if timeout(DRAIN_MAX, ending).await.is_err() {
        note_cut_off(tasks.len());
    }
}

/// Says that so many tasks are cut off, [`DRAIN_MAX`] after they were to end.
pub(super) fn note_cut_off(left: usize) {
    tracing::warn!(left, "cut off what did not finish in time");
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
