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
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

use super::{
    error::Failure,
    https2::{Https2, Target},
    https3::{self, Https3},
    life::{Life, Listened},
    message::{PADDING_BLOCK_OCTETS, Received},
    quic::{self, Quic},
    race::Race,
    settings::UpstreamSettings,
    stream::Stream,
    upgrade::Upgrade,
};
use crate::{
    clock,
    handler::Transport,
    net::{
        client_quic::{self, QuicConnectError},
        client_tls::{self, TrustError, Versions},
        sessions::Sessions,
    },
    wire::Question,
};

/// How long connection and handshake with one address may take. A handshake over a satellite with
/// one lost packet fits; what takes longer is of no use to a stub that gives up after five seconds.
const CONNECT_MAX: Duration = Duration::from_secs(4);
/// How long the kernel keeps sending into a connection from which no acknowledgement comes, before
/// it ends the connection: after sleep or a change of network the old ones end by themselves.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);
/// How long HTTP/3 is tried alone where HTTP/2 would do. It needs one round trip where HTTP/2 needs
/// two, so with a packet lost at most it wins from far away too.
const HTTP3_HEAD_START: Duration = Duration::from_millis(100);
/// The error code with which a connection ends whose early data was refused: no error, neither in
/// DoQ (RFC 9250, section 4.3) nor, as an unknown code, in HTTP/3 (RFC 9114, section 9).
const EARLY_DATA_REFUSED: quinn::VarInt = quinn::VarInt::from_u32(0);
/// The most exchanges on one connection at a time.
pub(super) const OUTSTANDING_MAX: usize = 1000;

/// How to connect: everything that is the same for all connections to one upstream.
#[derive(Clone)]
pub(super) enum Dial {
    Tcp,
    Tls {
        connector: TlsConnector,
        name: ServerName<'static>,
        sessions: Arc<Sessions>,
    },
    Https {
        connector: TlsConnector,
        name: ServerName<'static>,
        target: Target,
        sessions: Arc<Sessions>,
        /// The way over HTTP/3, and whether to take it.
        http3: Box<Dial>,
        upgrade: Arc<Upgrade>,
    },
    Http3 {
        config: quinn::ClientConfig,
        name: ServerName<'static>,
        target: Target,
        sessions: Arc<Sessions>,
    },
    Quic {
        config: quinn::ClientConfig,
        name: ServerName<'static>,
        sessions: Arc<Sessions>,
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
        let tls = |alpn: &[&[u8]], versions, sessions: &Arc<Sessions>| {
            let (ca, pins) = (&settings.ca, &settings.pins);
            client_tls::client_config(ca, pins, alpn, versions, clock, sessions)
                .map_err(DialError::Trust)
        };
        let quic = |alpn: &[&[u8]], uni_streams_max, sessions: &Arc<Sessions>| {
            let tls = tls(alpn, Versions::Tls13, sessions)?;
            client_quic::client_config(tls, uni_streams_max, sessions).map_err(DialError::Quic)
        };
        let sessions = Sessions::new();
        let http3 = |name, target, sessions: Arc<Sessions>| {
            Ok(Self::Http3 {
                config: quic(&[b"h3"], https3::UNI_STREAMS_MAX, &sessions)?,
                name,
                target,
                sessions,
            })
        };
        Ok(match settings.transport {
            Transport::Udp | Transport::Tcp => Self::Tcp,
            Transport::Tls => Self::Tls {
                connector: Arc::new(tls(&[b"dot"], Versions::Tls12And13, &sessions)?).into(),
                name: name?,
                sessions,
            },
            Transport::Https => {
                let name = name?;
                Self::Https {
                    connector: Arc::new(tls(&[b"h2"], Versions::Tls12And13, &sessions)?).into(),
                    name: name.clone(),
                    target: target.clone(),
                    sessions,
                    http3: Box::new(http3(name, target, Sessions::new())?),
                    upgrade: Arc::default(),
                }
            }
            Transport::Http3 => http3(name?, target, sessions)?,
            Transport::Quic => Self::Quic {
                config: quic(&[b"doq"], quic::UNI_STREAMS_MAX, &sessions)?,
                name: name?,
                sessions,
            },
        })
    }

    /// Connects to `address` and finishes every handshake, those for early data excepted. No octet
    /// of a query is sent before the certificate is verified: there is no connection to send it on,
    /// and early data is for the holder of a session's keys, whose certificate was verified when
    /// the session began.
    pub(super) async fn connect(
        &self,
        address: SocketAddr,
        life: Life,
        may: May,
    ) -> Result<Made, Failure> {
        timeout(CONNECT_MAX, self.connect_either(address, life, may))
            .await
            .unwrap_or(Err(Failure::ConnectTimeout { address }))
    }

    /// Another network may let through what the last one did not, and nobody is to know us again
    /// there by our sessions.
    pub(super) fn network_changed(&self) {
        match self {
            Self::Tcp => {}
            Self::Https {
                sessions,
                http3,
                upgrade,
                ..
            } => {
                sessions.forget();
                http3.network_changed();
                upgrade.network_changed();
            }
            Self::Tls { sessions, .. }
            | Self::Http3 { sessions, .. }
            | Self::Quic { sessions, .. } => sessions.forget(),
        }
    }

    /// Whether answers come over HTTP/3 where HTTP/2 is written down.
    pub(super) fn is_upgraded(&self) -> bool {
        matches!(self, Self::Https { upgrade, .. } if upgrade.is_proven())
    }

    /// Over HTTP/3 instead of HTTP/2 where that is offered and works. HTTP/3 has a head start;
    /// when it comes too late, it is left alone for a while.
    async fn connect_either(
        &self,
        address: SocketAddr,
        life: Life,
        may: May,
    ) -> Result<Made, Failure> {
        let offer = match self {
            Self::Https { http3, upgrade, .. } if may.upgrade => upgrade
                .port(clock::instant())
                .map(|port| (http3, upgrade, port)),
            _ => None,
        };
        let Some((http3, upgrade, port)) = offer else {
            return self.connect_slowly(address, life, may.early_data).await;
        };
        let mut race = Race::new();
        let there = SocketAddr::new(address.ip(), port);
        let early_data = may.early_data && upgrade.is_proven();
        let heard = life.clone();
        race.start(async move {
            let made = http3.connect_slowly(there, heard, early_data).await;
            (true, made)
        });
        let mut life = Some(life);
        let mut error = None;
        loop {
            tokio::select! {
                biased;
                Some((over_http3, outcome)) = race.next() => match outcome {
                    Ok(made) if over_http3 => {
                        return Ok(Made { upgrade: Some(Arc::clone(upgrade)), ..made });
                    }
                    Ok(made) => {
                        upgrade.failed(clock::instant());
                        return Ok(made);
                    }
                    // What failed says nothing about HTTP/3 as long as HTTP/2 has not worked.
                    Err(failure) if over_http3 => {
                        tracing::debug!(%failure, "no connection over HTTP/3");
                        error = error.or(Some(failure));
                    }
                    Err(failure) => error = Some(failure),
                },
                () = sleep(HTTP3_HEAD_START), if life.is_some() => {}
                else => {
                    let nothing = || Failure::ConnectTimeout { address };
                    return Err(error.unwrap_or_else(nothing));
                }
            }
            if let Some(life) = life.take() {
                race.start(async move {
                    let made = self.connect_slowly(address, life, may.early_data).await;
                    (false, made)
                });
            }
        }
    }

    async fn connect_slowly(
        &self,
        address: SocketAddr,
        life: Life,
        early_data: bool,
    ) -> Result<Made, Failure> {
        let failed = |reason: String| Failure::Handshake { address, reason };
        let mut early = false;
        let kind = match self {
            Self::Tcp => {
                let tcp = tcp(address).await?;
                life.mark();
                let tcp = Listened::new(tcp, life.clone());
                Kind::Stream(Stream::start(tcp, None, life))
            }
            Self::Tls {
                connector, name, ..
            } => {
                // Without early data: no document says how DoT may use it, as TLS wants (RFC 8446,
                // appendix E.5). DoQ and HTTP have theirs.
                let tls = tls(address, connector, name, life.clone(), false).await?;
                Kind::Stream(Stream::start(tls, Some(PADDING_BLOCK_OCTETS), life))
            }
            Self::Https {
                connector,
                name,
                target,
                upgrade,
                ..
            } => {
                let tls = tls(address, connector, name, life.clone(), early_data).await?;
                let session = tls.get_ref().1;
                early = session.is_handshaking();
                // A session is resumed only for the protocol it was made for, which was this.
                if !early && session.alpn_protocol() != Some(b"h2") {
                    return Err(failed("the server does not speak HTTP/2".to_owned()));
                }
                let https2 = Https2::start(tls, target.clone(), life, Arc::clone(upgrade));
                Kind::Https2(https2.await.map_err(failed)?)
            }
            Self::Http3 {
                config,
                name,
                target,
                ..
            } => {
                let connection;
                (connection, early) = quic(address, name, config, &life, early_data).await?;
                let https3 = Https3::start(connection, target.clone(), life);
                Kind::Https3(https3.await.map_err(failed)?)
            }
            Self::Quic { config, name, .. } => {
                let connection;
                (connection, early) = quic(address, name, config, &life, early_data).await?;
                Kind::Quic(Quic::start(connection, life))
            }
        };
        Ok(Made {
            kind,
            early,
            upgrade: None,
        })
    }
}

/// What a connect may try.
#[derive(Clone, Copy, Debug)]
pub(super) struct May {
    /// Sending queries before the handshake's end, where a session can be resumed.
    pub(super) early_data: bool,
    /// HTTP/3 where HTTP/2 is written down.
    pub(super) upgrade: bool,
}

/// A connection that was made.
pub(super) struct Made {
    kind: Kind,
    /// Whether it was handed out before its handshake had ended.
    early: bool,
    /// Set when it goes over HTTP/3 instead of HTTP/2.
    upgrade: Option<Arc<Upgrade>>,
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
    early_data: bool,
) -> Result<tokio_rustls::client::TlsStream<Listened<TcpStream>>, Failure> {
    let tcp = tcp(address).await?;
    connector
        .clone()
        .early_data(early_data)
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
    early_data: bool,
) -> Result<(quinn::Connection, bool), Failure> {
    let connected = client_quic::connect(address, name, config, early_data).await;
    let (connection, early) = connected.map_err(|error| match error {
        QuicConnectError::Socket(source) => Failure::Connect {
            address,
            source: Arc::new(source),
        },
        other => Failure::Handshake {
            address,
            reason: other.to_string(),
        },
    })?;
    let Some(accepted) = early else {
        life.mark();
        return Ok((connection, false));
    };
    let (handle, life) = (connection.clone(), life.clone());
    tokio::spawn(async move {
        let accepted = accepted.await;
        if handle.close_reason().is_none() {
            life.mark();
        }
        if !accepted {
            // Stream numbers begin anew when early data is refused, and quinn then takes the end of
            // an old stream for that of a new one, which is never woken again. So the connection
            // ends, and with it what was asked on it; the pool asks again on another.
            handle.close(EARLY_DATA_REFUSED, b"early data refused");
        }
    });
    Ok((connection, true))
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
    made: Made,
    outstanding: AtomicUsize,
    /// Exchanges begun since the connection was made.
    begun: AtomicUsize,
    /// The shortest time an answer took, in ms; [`NO_ANSWER_YET`] before the first.
    fastest_ms: AtomicU64,
}

/// Longer than any answer takes.
const NO_ANSWER_YET: u64 = u64::MAX;

impl Connection {
    pub(super) const fn new(number: u64, life: Life, made: Made) -> Self {
        Self {
            number,
            life,
            made,
            outstanding: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            fastest_ms: AtomicU64::new(NO_ANSWER_YET),
        }
    }

    /// Whether the connection is there as far as we know.
    pub(super) fn is_open(&self) -> bool {
        match &self.made.kind {
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

    /// Whether it was handed out before anything was heard from the far side, so that neither a
    /// loss nor silence is surprising.
    pub(super) const fn is_early(&self) -> bool {
        self.made.early
    }

    /// Whether it goes over HTTP/3 where HTTP/2 is written down.
    pub(super) const fn is_upgraded(&self) -> bool {
        self.made.upgrade.is_some()
    }

    /// Takes note that it was lost.
    pub(super) fn lost(&self) {
        if let Some(upgrade) = &self.made.upgrade {
            if self.made.early {
                upgrade.doubt();
            } else if self.round_trip().is_none() {
                upgrade.failed(clock::instant());
            }
        }
    }

    /// Takes note that it kept silent where a fresh one answered.
    pub(super) fn kept_silent(&self) {
        if let Some(upgrade) = &self.made.upgrade {
            upgrade.failed(clock::instant());
        }
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
        if let Some(upgrade) = &self.made.upgrade {
            upgrade.works();
        }
        Ok(received)
    }

    async fn ask(&self, question: &Question) -> Result<Received, Failure> {
        match &self.made.kind {
            Kind::Stream(stream) => stream.exchange(question).await.map(Received::fresh),
            Kind::Https2(https2) => https2.exchange(question).await,
            // Boxed, since it is by far the largest and would make room for itself in all of them.
            Kind::Https3(https3) => Box::pin(https3.exchange(question)).await,
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
