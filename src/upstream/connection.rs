//! Making one connection to one address of an upstream, and asking over it whichever kind it is.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{
    error::Failure,
    https2::{Https2, Target},
    https3::{self, Https3},
    life::{Life, Listened},
    message::{PADDING_BLOCK_OCTETS, Received},
    quic::{self, Quic},
    settings::UpstreamSettings,
    stream::Stream,
};
use crate::{
    clock,
    handler::Transport,
    net::{
        client_quic::{self, QuicConnectError},
        client_tls::{self, TrustError, Versions},
    },
    wire::Question,
};

/// How long connection and handshake with one address may take. A handshake over a satellite with
/// one lost packet fits; what takes longer is of no use to a stub that gives up after five seconds.
const CONNECT_MAX: Duration = Duration::from_secs(4);
/// How long the kernel keeps sending into a connection from which no acknowledgement comes, before
/// it ends the connection: after sleep or a change of network the old ones end by themselves.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);
/// The most exchanges on one connection at a time.
pub(super) const OUTSTANDING_MAX: usize = 1000;

/// How to connect: everything that is the same for all connections to one upstream.
#[derive(Clone)]
pub(super) enum Dial {
    Tcp,
    Tls {
        connector: TlsConnector,
        name: ServerName<'static>,
    },
    Https {
        connector: TlsConnector,
        name: ServerName<'static>,
        target: Target,
    },
    Http3 {
        config: quinn::ClientConfig,
        name: ServerName<'static>,
        target: Target,
    },
    Quic {
        config: quinn::ClientConfig,
        name: ServerName<'static>,
    },
}

impl Dial {
    /// Sets up trust and protocols for an upstream. For UDP this is how its TCP fallback connects.
    /// `clock` says whether the dates of certificates can be judged.
    pub(super) fn new(
        settings: &UpstreamSettings,
        clock: Option<&Arc<clock::Gate>>,
    ) -> Result<Self, DialError> {
        let name = settings.server_name.clone().ok_or(DialError::NoName);
        let target = Target {
            authority: settings.authority.clone(),
            path: settings.path.clone(),
        };
        let tls = |alpn: &[&[u8]], versions| {
            client_tls::client_config(&settings.ca, &settings.pins, alpn, versions, clock)
                .map_err(DialError::Trust)
        };
        Ok(match settings.transport {
            Transport::Udp | Transport::Tcp => Self::Tcp,
            Transport::Tls => Self::Tls {
                connector: Arc::new(tls(&[b"dot"], Versions::Tls12And13)?).into(),
                name: name?,
            },
            Transport::Https => Self::Https {
                connector: Arc::new(tls(&[b"h2"], Versions::Tls12And13)?).into(),
                name: name?,
                target,
            },
            Transport::Http3 => Self::Http3 {
                config: client_quic::client_config(
                    tls(&[b"h3"], Versions::Tls13)?,
                    https3::UNI_STREAMS_MAX,
                )
                .map_err(DialError::Quic)?,
                name: name?,
                target,
            },
            Transport::Quic => Self::Quic {
                config: client_quic::client_config(
                    tls(&[b"doq"], Versions::Tls13)?,
                    quic::UNI_STREAMS_MAX,
                )
                .map_err(DialError::Quic)?,
                name: name?,
            },
        })
    }

    /// Connects to `address` and finishes every handshake. No octet of a query is sent before the
    /// certificate is verified, because there is no connection to send it on.
    pub(super) async fn connect(&self, address: SocketAddr, life: Life) -> Result<Kind, Failure> {
        timeout(CONNECT_MAX, self.connect_slowly(address, life))
            .await
            .unwrap_or(Err(Failure::ConnectTimeout { address }))
    }

    async fn connect_slowly(&self, address: SocketAddr, life: Life) -> Result<Kind, Failure> {
        let failed = |reason: String| Failure::Handshake { address, reason };
        match self {
            Self::Tcp => {
                let tcp = tcp(address).await?;
                life.mark();
                Ok(Kind::Stream(Stream::start(
                    Listened::new(tcp, life.clone()),
                    None,
                    life,
                )))
            }
            Self::Tls { connector, name } => {
                let tls = tls(address, connector, name, life.clone()).await?;
                Ok(Kind::Stream(Stream::start(
                    tls,
                    Some(PADDING_BLOCK_OCTETS),
                    life,
                )))
            }
            Self::Https {
                connector,
                name,
                target,
            } => {
                let tls = tls(address, connector, name, life.clone()).await?;
                if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
                    return Err(failed("the server does not speak HTTP/2".to_owned()));
                }
                Https2::start(tls, target.clone(), life)
                    .await
                    .map(Kind::Https2)
                    .map_err(failed)
            }
            Self::Http3 {
                config,
                name,
                target,
            } => {
                let connection = quic(address, name, config, &life).await?;
                Https3::start(connection, target.clone(), life)
                    .await
                    .map(Kind::Https3)
                    .map_err(failed)
            }
            Self::Quic { config, name } => {
                let connection = quic(address, name, config, &life).await?;
                Ok(Kind::Quic(Quic::start(connection, life)))
            }
        }
    }
}

/// Why an upstream cannot be set up. The configuration is at fault.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// An encrypted transport without a name to verify.
    #[error("there is no name to verify the certificate against; set `server_name`")]
    NoName,
    /// The roots cannot be used.
    #[error(transparent)]
    Trust(TrustError),
    /// The TLS set-up cannot be used for QUIC.
    #[error(transparent)]
    Quic(QuicConnectError),
}

async fn tcp(address: SocketAddr) -> Result<TcpStream, Failure> {
    let connect_failed = |source| Failure::Connect {
        address,
        source: Arc::new(source),
    };
    let stream = TcpStream::connect(address).await.map_err(connect_failed)?;
    stream.set_nodelay(true).map_err(connect_failed)?;
    // A kernel without the option only notices dead connections later.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    drop(SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX)));
    Ok(stream)
}

async fn tls(
    address: SocketAddr,
    connector: &TlsConnector,
    name: &ServerName<'static>,
    life: Life,
) -> Result<tokio_rustls::client::TlsStream<Listened<TcpStream>>, Failure> {
    let tcp = tcp(address).await?;
    connector
        .connect(name.clone(), Listened::new(tcp, life))
        .await
        .map_err(|error| Failure::Handshake {
            address,
            reason: client_tls::explain_io(&error),
        })
}

async fn quic(
    address: SocketAddr,
    name: &ServerName<'static>,
    config: &quinn::ClientConfig,
    life: &Life,
) -> Result<quinn::Connection, Failure> {
    let connection =
        client_quic::connect(address, name, config)
            .await
            .map_err(|error| match error {
                QuicConnectError::Socket(source) => Failure::Connect {
                    address,
                    source: Arc::new(source),
                },
                other => Failure::Handshake {
                    address,
                    reason: other.to_string(),
                },
            })?;
    life.mark();
    Ok(connection)
}

/// The kinds of connections; the set is closed.
#[derive(Clone)]
pub(super) enum Kind {
    Stream(Stream),
    Https2(Https2),
    Https3(Https3),
    Quic(Quic),
}

/// A connection in a pool.
pub(super) struct Connection {
    /// Larger for younger connections of the same pool.
    pub(super) number: u64,
    /// What was heard on it.
    pub(super) life: Life,
    kind: Kind,
    outstanding: AtomicUsize,
    /// Exchanges begun since the connection was made.
    begun: AtomicUsize,
    /// The shortest time an answer took, in ms; [`NO_ANSWER_YET`] before the first.
    fastest_ms: AtomicU64,
}

/// Longer than any answer takes.
const NO_ANSWER_YET: u64 = u64::MAX;

impl Connection {
    pub(super) const fn new(number: u64, life: Life, kind: Kind) -> Self {
        Self {
            number,
            life,
            kind,
            outstanding: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            fastest_ms: AtomicU64::new(NO_ANSWER_YET),
        }
    }

    /// Whether the connection is there as far as we know.
    pub(super) fn is_open(&self) -> bool {
        match &self.kind {
            Kind::Stream(stream) => stream.is_open(),
            Kind::Https2(https2) => https2.is_open(),
            Kind::Https3(https3) => https3.is_open(),
            Kind::Quic(quic) => quic.is_open(),
        }
    }

    /// Whether it takes another exchange.
    pub(super) fn has_room(&self) -> bool {
        self.outstanding() < OUTSTANDING_MAX
    }

    /// How many exchanges are under way.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// How many exchanges were begun on it.
    pub(super) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// The round trip, as far as answers have shown it: the fastest so far is the one that took
    /// the upstream least time to find. `None` before the first answer.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        match self.fastest_ms.load(Ordering::Relaxed) {
            NO_ANSWER_YET => None,
            ms => Some(Duration::from_millis(ms)),
        }
    }

    /// Asks `question` and waits for its response.
    pub(super) async fn exchange(&self, question: &Question) -> Result<Received, Failure> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        let _leave = Leave(&self.outstanding);
        let began = clock::instant();
        let mut received = self.ask(question).await?;
        received.took = clock::instant() - began;
        let ms = u64::try_from(received.took.as_millis());
        self.fastest_ms
            .fetch_min(ms.unwrap_or(NO_ANSWER_YET), Ordering::Relaxed);
        Ok(received)
    }

    async fn ask(&self, question: &Question) -> Result<Received, Failure> {
        match &self.kind {
            Kind::Stream(stream) => stream.exchange(question).await.map(Received::fresh),
            Kind::Https2(https2) => https2.exchange(question).await,
            Kind::Https3(https3) => https3.exchange(question).await,
            Kind::Quic(quic) => quic.exchange(question).await.map(Received::fresh),
        }
    }
}

/// Counts an exchange out however it ends, dropped futures included.
struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
