//! The lab: a small internet in one process.
//!
//! A signed root, top-level domains and zones of every kind (`zones`), answered as an honest
//! recursive resolver would (`answer`), behind an upstream that speaks UDP, TCP, DoT, DoH
//! (HTTP/1.1, HTTP/2 and HTTP/3) and DoQ on loopback, makes mistakes on demand (`faults`) and
//! remembers what it was asked (`record`).
//!
//! It shares no code with the resolver it tests: messages, names, signing and framing are its own
//! or other crates', so that one mistake cannot be made twice. Only the list of transports is the
//! resolver's.
//!
//! ```text
//! zones, expectations   what there is, what is to be made of it
//!   name, rdata, sign   the vocabulary
//!   zone, universe      built and linked
//! message, answer       a query in, an honest response out
//! faults, record        what goes wrong, what was seen
//!   attacks             lies that others have believed
//!   respond             the plan for one query
//! datagram stream http quic   carry the plans out; tls, testca: certificates
//! ask, ask_encrypted    a client for tests, over all transports
//! unbound               a resolver that others wrote, in front of the lab
//! ```

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test target uses a part of the lab"
)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "lab data is written by hand, and the lab may look at the clock: only tests run it"
)]

pub mod answer;
pub mod ask;
pub mod ask_encrypted;
pub mod attacks;
mod datagram;
pub mod expectations;
pub mod faults;
pub mod http;
pub mod message;
pub mod name;
mod quic;
pub mod rdata;
pub mod record;
mod respond;
pub mod sign;
mod stream;
pub mod testca;
mod tls;
pub mod unbound;
pub mod universe;
pub mod zone;
pub mod zones;

pub use ask::{Answered, Ask};
pub use faults::{FaultSet, Faults};
pub use record::Record;
pub use respond::forged_record;
pub use testca::{Leaf, SERVER_NAME, TestCa};
pub use truename::handler::Transport;
pub use universe::Universe;

use quinn::Endpoint;
use quinn::crypto::rustls::QuicServerConfig;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// Where a transport stands in tables.
fn index(transport: Transport) -> usize {
    match transport {
        Transport::Udp => 0,
        Transport::Tcp => 1,
        Transport::Tls => 2,
        Transport::Https => 3,
        Transport::Http3 => 4,
        Transport::Quic => 5,
    }
}

/// The ports; 0 is any free one. Transports that share a port number in the world share it here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ports {
    /// UDP and TCP.
    pub plain: u16,
    /// DoT and DoQ.
    pub tls: u16,
    /// DoH over TLS and over QUIC.
    pub https: u16,
}

/// How a lab is to be.
#[derive(Clone)]
pub struct LabOptions {
    /// The time that signatures are valid around.
    pub now: SystemTime,
    /// The ports.
    pub ports: Ports,
    /// Whether [::1] is served too, on the same ports.
    pub ipv6: bool,
    /// Whether QUIC takes queries in early data.
    pub early_data: bool,
    /// The certificate to show, with the CA to hand out for it; none for one made at start.
    pub certificate: Option<(Leaf, String)>,
    /// The zones, when several labs share them; none for new ones.
    pub universe: Option<Arc<Universe>>,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self {
            now: SystemTime::now(),
            ports: Ports::default(),
            ipv6: false,
            early_data: true,
            certificate: None,
            universe: None,
        }
    }
}

/// A running lab; it stops when dropped.
pub struct Lab {
    universe: Arc<Universe>,
    faults: Arc<Faults>,
    record: Arc<Record>,
    ports: Ports,
    ca: Arc<TestCa>,
    ca_pem: String,
    tasks: Vec<AbortHandle>,
}

impl Lab {
    /// Starts a lab on the current runtime.
    ///
    /// # Panics
    /// If the ports cannot be bound; see [`Lab::try_start`].
    pub async fn start(options: LabOptions) -> Self {
        let lab = Self::try_start(options).await;
        lab.expect("the lab's ports are free")
    }

    /// Starts a lab on the current runtime, or says why its ports cannot be bound.
    pub async fn try_start(options: LabOptions) -> io::Result<Self> {
        let universe = options
            .universe
            .unwrap_or_else(|| Arc::new(Universe::new(options.now)));
        let faults = Arc::new(Faults::default());
        let record = Arc::new(Record::default());
        let service = Arc::new(respond::Service {
            universe: universe.clone(),
            faults: faults.clone(),
            record: record.clone(),
        });
        let ca = Arc::new(TestCa::new());
        let (leaf, ca_pem) = options
            .certificate
            .unwrap_or_else(|| (ca.leaf_of(faults::Identity::Right), ca.pem()));
        let certificates = Arc::new(tls::Certificates::new(faults.clone(), ca.clone(), &leaf));
        let config = |transport: Transport| {
            tls::server_config(transport, certificates.clone(), &record, options.early_data)
        };

        let mut ports = options.ports;
        let plain = bind(&mut ports.plain, options.ipv6).await?;
        let tls = bind(&mut ports.tls, options.ipv6).await?;
        let https = bind(&mut ports.https, options.ipv6).await?;
        let mut tasks = Vec::new();
        for (tcp, udp) in plain {
            let serving = stream::accept(tcp, service.clone(), Transport::Tcp, stream::serve_tcp);
            tasks.push(tokio::spawn(serving).abort_handle());
            tasks.push(tokio::spawn(datagram::serve(udp, service.clone())).abort_handle());
        }
        let acceptor = TlsAcceptor::from(Arc::new(config(Transport::Tls)));
        let quic = quic_config(config(Transport::Quic));
        for (tcp, udp) in tls {
            let acceptor = acceptor.clone();
            let serving = stream::accept(
                tcp,
                service.clone(),
                Transport::Tls,
                move |stream, service, arrival| {
                    stream::serve_tls(acceptor.clone(), stream, service, arrival)
                },
            );
            tasks.push(tokio::spawn(serving).abort_handle());
            let endpoint = endpoint(udp, quic.clone())?;
            let serving = quic::accept(endpoint, service.clone(), Transport::Quic);
            tasks.push(tokio::spawn(serving).abort_handle());
        }
        let acceptor = TlsAcceptor::from(Arc::new(config(Transport::Https)));
        let quic = quic_config(config(Transport::Http3));
        for (tcp, udp) in https {
            let acceptor = acceptor.clone();
            let serving = stream::accept(
                tcp,
                service.clone(),
                Transport::Https,
                move |stream, service, arrival| {
                    http::serve(acceptor.clone(), stream, service, arrival)
                },
            );
            tasks.push(tokio::spawn(serving).abort_handle());
            let endpoint = endpoint(udp, quic.clone())?;
            let serving = quic::accept(endpoint, service.clone(), Transport::Http3);
            tasks.push(tokio::spawn(serving).abort_handle());
        }
        Ok(Self {
            universe,
            faults,
            record,
            ports,
            ca,
            ca_pem,
            tasks,
        })
    }

    /// Where a transport listens, IPv4.
    pub fn address(&self, transport: Transport) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port(transport))
    }

    /// Where a transport listens, IPv6, when the options asked for it.
    pub fn address_v6(&self, transport: Transport) -> SocketAddr {
        SocketAddr::new(Ipv6Addr::LOCALHOST.into(), self.port(transport))
    }

    fn port(&self, transport: Transport) -> u16 {
        match transport {
            Transport::Udp | Transport::Tcp => self.ports.plain,
            Transport::Tls | Transport::Quic => self.ports.tls,
            Transport::Https | Transport::Http3 => self.ports.https,
        }
    }

    /// A transport as an upstream's URL.
    pub fn url(&self, transport: Transport) -> String {
        let address = self.address(transport);
        match transport {
            Transport::Udp => format!("udp://{address}"),
            Transport::Tcp => format!("tcp://{address}"),
            Transport::Tls => format!("tls://{address}"),
            Transport::Https => format!("https://{address}{}", http::PATH),
            Transport::Http3 => format!("h3://{address}{}", http::PATH),
            Transport::Quic => format!("quic://{address}"),
        }
    }

    /// A name in the certificate; the loopback addresses are in it too.
    #[allow(clippy::unused_self, reason = "callers ask the lab, not the module")]
    pub fn server_name(&self) -> &'static str {
        SERVER_NAME
    }

    /// The CA that signed the right certificate.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The authority made for this lab, which signs the wrong certificates.
    pub fn ca(&self) -> &TestCa {
        &self.ca
    }

    /// The root's DS, as a line of a trust anchor file.
    pub fn trust_anchor_ds(&self) -> String {
        self.universe.trust_anchor_ds()
    }

    /// What goes wrong.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What was seen.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The zones with their keys.
    pub fn universe(&self) -> &Arc<Universe> {
        &self.universe
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// How often a free port is tried to be free for both protocols.
const BIND_TRIES: usize = 50;

/// Binds TCP and UDP to one port on each address; port 0 is replaced by the one found.
async fn bind(port: &mut u16, ipv6: bool) -> io::Result<Vec<(TcpListener, UdpSocket)>> {
    let mut tries = if *port == 0 { BIND_TRIES } else { 1 };
    loop {
        tries -= 1;
        match bind_once(*port, ipv6).await {
            Ok((found, sockets)) => {
                *port = found;
                return Ok(sockets);
            }
            Err(error) if tries == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

async fn bind_once(mut port: u16, ipv6: bool) -> io::Result<(u16, Vec<(TcpListener, UdpSocket)>)> {
    let mut addresses: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into()];
    if ipv6 {
        addresses.push(Ipv6Addr::LOCALHOST.into());
    }
    let mut sockets = Vec::new();
    for address in addresses {
        let tcp = TcpListener::bind((address, port)).await?;
        port = tcp.local_addr()?.port();
        sockets.push((tcp, UdpSocket::bind((address, port)).await?));
    }
    Ok((port, sockets))
}

fn quic_config(tls: rustls::ServerConfig) -> quinn::ServerConfig {
    let tls = QuicServerConfig::try_from(tls).expect("ring has the initial cipher suite");
    quinn::ServerConfig::with_crypto(Arc::new(tls))
}

fn endpoint(socket: UdpSocket, config: quinn::ServerConfig) -> io::Result<Endpoint> {
    Endpoint::new(
        quinn::EndpointConfig::default(),
        Some(config),
        socket.into_std()?,
        Arc::new(quinn::TokioRuntime),
    )
}
