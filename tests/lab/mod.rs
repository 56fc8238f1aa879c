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
//!   host                the host's own end: gone without a word, or with resets
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
mod host;
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
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
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
    /// These addresses are served instead of the loopback ones, on the same ports each.
    pub addresses: Vec<IpAddr>,
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
            addresses: Vec::new(),
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
    addresses: Vec<IpAddr>,
    ports: Ports,
    early_data: bool,
    ca: Arc<TestCa>,
    ca_pem: String,
    certificates: Arc<tls::Certificates>,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// The sockets of a transport's port, a pair for each address.
type Sockets = Vec<(TcpListener, UdpSocket)>;

/// All the sockets of a lab.
struct Bound {
    plain: Sockets,
    tls: Sockets,
    https: Sockets,
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
        let ca = Arc::new(TestCa::new());
        let (leaf, ca_pem) = options
            .certificate
            .unwrap_or_else(|| (ca.leaf_of(faults::Identity::Right), ca.pem()));
        let certificates = Arc::new(tls::Certificates::new(faults.clone(), ca.clone(), &leaf));
        let mut addresses = options.addresses;
        if addresses.is_empty() {
            addresses.push(Ipv4Addr::LOCALHOST.into());
            if options.ipv6 {
                addresses.push(Ipv6Addr::LOCALHOST.into());
            }
        }
        let mut lab = Self {
            universe,
            faults,
            record,
            addresses,
            ports: options.ports,
            early_data: options.early_data,
            ca,
            ca_pem,
            certificates,
            tasks: Mutex::default(),
        };
        let mut ports = lab.ports;
        let bound = lab.bind(&mut ports).await?;
        lab.ports = ports;
        lab.serve(bound)?;
        Ok(lab)
    }

    /// Binds every port; those that are 0 are replaced by the ones found.
    async fn bind(&self, ports: &mut Ports) -> io::Result<Bound> {
        Ok(Bound {
            plain: bind(&mut ports.plain, &self.addresses).await?,
            tls: bind(&mut ports.tls, &self.addresses).await?,
            https: bind(&mut ports.https, &self.addresses).await?,
        })
    }

    /// Serves on the current runtime until [`Lab::close`]. TLS sessions begin anew.
    fn serve(&self, bound: Bound) -> io::Result<()> {
        let service = Arc::new(respond::Service {
            universe: self.universe.clone(),
            faults: self.faults.clone(),
            record: self.record.clone(),
        });
        let certificates = &self.certificates;
        let config = |transport: Transport| {
            let certificates = certificates.clone();
            tls::server_config(transport, certificates, &self.record, self.early_data)
        };
        let mut tasks = Vec::new();
        for (tcp, udp) in bound.plain {
            let serving = stream::accept(tcp, service.clone(), Transport::Tcp, stream::serve_tcp);
            tasks.push(tokio::spawn(serving).abort_handle());
            tasks.push(tokio::spawn(datagram::serve(udp, service.clone())).abort_handle());
        }
        let acceptor = TlsAcceptor::from(Arc::new(config(Transport::Tls)));
        let quic = quic_config(config(Transport::Quic));
        for (tcp, udp) in bound.tls {
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
            let endpoint = self.endpoint(udp, quic.clone())?;
            let serving = quic::accept(endpoint, service.clone(), Transport::Quic);
            tasks.push(tokio::spawn(serving).abort_handle());
        }
        let acceptor = TlsAcceptor::from(Arc::new(config(Transport::Https)));
        let quic = quic_config(config(Transport::Http3));
        for (tcp, udp) in bound.https {
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
            let endpoint = self.endpoint(udp, quic.clone())?;
            let serving = quic::accept(endpoint, service.clone(), Transport::Http3);
            tasks.push(tokio::spawn(serving).abort_handle());
        }
        self.tasks.lock().expect("not poisoned").extend(tasks);
        Ok(())
    }

    fn endpoint(&self, socket: UdpSocket, config: quinn::ServerConfig) -> io::Result<Endpoint> {
        let socket = host::Socket::new(socket.into_std()?, self.faults.clone())?;
        Endpoint::new_with_abstract_socket(
            quinn::EndpointConfig::default(),
            Some(config),
            Arc::new(socket),
            Arc::new(quinn::TokioRuntime),
        )
    }

    /// Ends every listener and connection, as when the program ends: connections are closed, or
    /// reset where [`Faults::crash`] says so. The ports stay the lab's for [`Lab::reopen`].
    pub fn close(&self) {
        for task in self.tasks.lock().expect("not poisoned").drain(..) {
            task.abort();
        }
    }

    /// Listens again on the same ports after [`Lab::close`], on the current runtime.
    ///
    /// # Errors
    /// If somebody else has taken a port.
    pub async fn reopen(&self) -> io::Result<()> {
        let mut tries = REOPEN_TRIES;
        loop {
            // A closed socket is free when its task has been dropped; QUIC waits for its peers.
            match self.bind(&mut self.ports.clone()).await {
                Ok(bound) => return self.serve(bound),
                Err(error) if tries == 0 => return Err(error),
                Err(_) => {
                    tries -= 1;
                    tokio::time::sleep(REOPEN_PAUSE).await;
                }
            }
        }
    }

    /// Where a transport listens: the first address, IPv4 loopback unless the options say else.
    pub fn address(&self, transport: Transport) -> SocketAddr {
        let first = self.addresses.first().copied();
        let first = first.unwrap_or(Ipv4Addr::LOCALHOST.into());
        SocketAddr::new(first, self.port(transport))
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
        self.close();
    }
}

/// How often a port that was given up is tried to be had again, and how long between: QUIC holds
/// its socket until its peers have been told.
const REOPEN_TRIES: u32 = 300;
const REOPEN_PAUSE: Duration = Duration::from_millis(10);

/// How often a free port is tried to be free for both protocols.
const BIND_TRIES: usize = 50;

/// Binds TCP and UDP to one port on each address; port 0 is replaced by the one found.
async fn bind(port: &mut u16, addresses: &[IpAddr]) -> io::Result<Sockets> {
    let mut tries = if *port == 0 { BIND_TRIES } else { 1 };
    loop {
        tries -= 1;
        match bind_once(*port, addresses).await {
            Ok((found, sockets)) => {
                *port = found;
                return Ok(sockets);
            }
            Err(error) if tries == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

async fn bind_once(mut port: u16, addresses: &[IpAddr]) -> io::Result<(u16, Sockets)> {
    let mut sockets = Vec::new();
    for &address in addresses {
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
