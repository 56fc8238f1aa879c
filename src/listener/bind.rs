//! Opens every socket before any worker runs.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use super::Settings;
use crate::{
    handler::Transport,
    net::{
        port_owner::{Layer, PortOwner, port_owner},
        sockets,
    },
};

/// How often another free port is tried when the one that UDP got is taken for TCP.
const PAIR_TRIES: usize = 32;

/// Why an address cannot be listened on. The operator has to change something, except where a
/// default address is merely absent ([`BindError::is_absent_address`]).
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program holds the port.
    #[error(
        "cannot listen on {} {address}: {source}{}; {}",
        transport.label(), held_by(owner.as_ref()), taken_advice(owner.as_ref(), *address)
    )]
    Taken {
        /// What was to listen.
        transport: Transport,
        /// Where.
        address: SocketAddr,
        /// Who holds the port, when the system tells.
        owner: Option<PortOwner>,
        /// The system's error.
        source: io::Error,
    },
    /// The process may not use this port.
    #[error(
        "cannot listen on {} {address}: {source}; ports below 1024 take a capability: run as a \
         service with AmbientCapabilities=CAP_NET_BIND_SERVICE, or `setcap \
         cap_net_bind_service=+ep` the program, or choose a port from 1024 up", transport.label()
    )]
    Denied {
        /// What was to listen.
        transport: Transport,
        /// Where.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// This machine has no such address, or not even its family.
    #[error(
        "cannot listen on {} {address}: {source}; `ip address` shows the addresses this machine \
         has, 0.0.0.0 and [::] stand for all of them", transport.label()
    )]
    Absent {
        /// What was to listen.
        transport: Transport,
        /// Where.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The settings give one port to two protocols.
    #[error(
        "cannot listen on {} {address}: {} listens there already; give one of them another port",
        second.label(), first.label()
    )]
    Twice {
        /// The address both want.
        address: SocketAddr,
        /// Who was first.
        first: Transport,
        /// Who came second.
        second: Transport,
    },
    /// Anything else the system says.
    #[error("cannot listen on {} {address}: {source}", transport.label())]
    System {
        /// What was to listen.
        transport: Transport,
        /// Where.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
}

impl BindError {
    fn new(transport: Transport, address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::Taken {
                transport,
                address,
                owner: port_owner(layer(transport), address),
                source,
            },
            io::ErrorKind::PermissionDenied => Self::Denied {
                transport,
                address,
                source,
            },
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported => Self::Absent {
                transport,
                address,
                source,
            },
            _ if source.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32) => {
                Self::Absent {
                    transport,
                    address,
                    source,
                }
            }
            _ => Self::System {
                transport,
                address,
                source,
            },
        }
    }

    /// Whether the machine simply lacks this address: no reason not to start when the address was
    /// only a default, such as `::1` on a machine without IPv6.
    #[must_use]
    pub const fn is_absent_address(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }
}

fn held_by(owner: Option<&PortOwner>) -> String {
    owner.map_or_else(String::new, |owner| format!(", held by {owner}"))
}

fn taken_advice(owner: Option<&PortOwner>, address: SocketAddr) -> String {
    let name = match owner {
        Some(PortOwner::Program { name, .. }) => name.as_str(),
        Some(PortOwner::User(user)) => user.as_str(),
        None => "",
    };
    if name.starts_with("systemd-resolve") {
        return "set DNSStubListener=no in /etc/systemd/resolved.conf and restart \
                systemd-resolved, or listen on one address such as 127.0.0.1 instead of all"
            .to_owned();
    }
    if name.starts_with("truename") {
        return "another truename runs already".to_owned();
    }
    format!(
        "stop that program or choose another port than {} under [listen]",
        address.port()
    )
}

const fn layer(transport: Transport) -> Layer {
    match transport {
        Transport::Tcp | Transport::Tls | Transport::Https => Layer::Tcp,
        Transport::Udp | Transport::Http3 | Transport::Quic => Layer::Udp,
    }
}

/// One worker's sockets: one for each address of each protocol, not yet known to any runtime.
#[derive(Debug, Default)]
pub struct WorkerSockets {
    pub(super) udp: Vec<UdpSocket>,
    pub(super) tcp: Vec<TcpListener>,
    pub(super) dot: Vec<TcpListener>,
    pub(super) doh: Vec<TcpListener>,
    pub(super) doh3: Vec<UdpSocket>,
    pub(super) doq: Vec<UdpSocket>,
}

impl WorkerSockets {
    fn datagram(&mut self, transport: Transport) -> &mut Vec<UdpSocket> {
        match transport {
            Transport::Http3 => &mut self.doh3,
            Transport::Quic => &mut self.doq,
            _ => &mut self.udp,
        }
    }

    fn stream(&mut self, transport: Transport) -> &mut Vec<TcpListener> {
        match transport {
            Transport::Tls => &mut self.dot,
            Transport::Https => &mut self.doh,
            _ => &mut self.tcp,
        }
    }
}

/// Everything is open; nothing is read yet.
#[derive(Debug)]
pub struct Bound {
    addresses: Vec<(Transport, SocketAddr)>,
    workers: Vec<WorkerSockets>,
}

impl Bound {
    /// Where truename listens, with the ports that stand for 0, in the order in which transports
    /// are listed to people.
    #[must_use]
    pub fn addresses(&self) -> Vec<(Transport, SocketAddr)> {
        let mut addresses = self.addresses.clone();
        addresses.sort_by_key(|(transport, _)| *transport);
        addresses
    }

    /// The sockets, one set for each worker.
    #[must_use]
    pub fn into_workers(self) -> Vec<WorkerSockets> {
        self.workers
    }

    fn add_datagram(&mut self, transport: Transport, sockets: Vec<UdpSocket>) {
        for (worker, socket) in self.workers.iter_mut().zip(sockets) {
            worker.datagram(transport).push(socket);
        }
    }

    fn add_stream(&mut self, transport: Transport, listeners: Vec<TcpListener>) {
        for (worker, listener) in self.workers.iter_mut().zip(listeners) {
            worker.stream(transport).push(listener);
        }
    }

    /// Refuses an address that another protocol has, and says whether our own earlier sockets may
    /// overlap with it: `0.0.0.0` and `127.0.0.1` with one port are a fine pair.
    fn overlaps(&self, transport: Transport, address: SocketAddr) -> Result<bool, BindError> {
        let same_port = self.addresses.iter().filter(|(other, bound)| {
            layer(*other) == layer(transport)
                && address.port() != 0
                && bound.port() == address.port()
                && bound.is_ipv4() == address.is_ipv4()
        });
        let mut overlaps = false;
        for (other, bound) in same_port {
            overlaps = true;
            if *other != transport && bound.ip() == address.ip() {
                return Err(BindError::Twice {
                    address,
                    first: *other,
                    second: transport,
                });
            }
        }
        Ok(overlaps)
    }
}

/// Opens every socket that `settings` asks for, a set for each of `workers` (at least one).
/// Either all is open or nothing stays open.
pub fn bind(settings: &Settings, workers: usize) -> Result<Bound, BindError> {
    let workers = workers.max(1);
    let mut bound = Bound {
        addresses: Vec::new(),
        workers: (0..workers).map(|_| WorkerSockets::default()).collect(),
    };
    for &address in &unique(&settings.dns) {
        bind_pair(&mut bound, Transport::Udp, Transport::Tcp, address)?;
    }
    for &address in &unique(&settings.dot) {
        bind_stream(&mut bound, Transport::Tls, address)?;
    }
    for &address in &unique(&settings.doh) {
        bind_pair(&mut bound, Transport::Http3, Transport::Https, address)?;
    }
    for &address in &unique(&settings.doq) {
        bind_datagram(&mut bound, Transport::Quic, address)?;
    }
    Ok(bound)
}

/// An address that is listed twice is one address; port 0 twice is two ports.
fn unique(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut kept: Vec<SocketAddr> = Vec::new();
    for &address in addresses {
        if address.port() == 0 || !kept.contains(&address) {
            kept.push(address);
        }
    }
    kept
}

/// Binds UDP and TCP with one port. When any port will do, a port that is free for one and taken
/// for the other is given back and another tried.
fn bind_pair(
    bound: &mut Bound,
    datagram: Transport,
    stream: Transport,
    address: SocketAddr,
) -> Result<(), BindError> {
    let mut tries = if address.port() == 0 { PAIR_TRIES } else { 1 };
    loop {
        tries -= 1;
        let (udp, port) = open_datagram(bound, datagram, address)?;
        match open_stream(bound, stream, SocketAddr::new(address.ip(), port)) {
            Ok((tcp, _)) => {
                let address = with_port(address, port);
                bound.add_datagram(datagram, udp);
                bound.add_stream(stream, tcp);
                bound.addresses.push((datagram, address));
                bound.addresses.push((stream, address));
                return Ok(());
            }
            Err(BindError::Taken { .. } | BindError::Twice { .. }) if tries > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

fn bind_stream(
    bound: &mut Bound,
    transport: Transport,
    address: SocketAddr,
) -> Result<(), BindError> {
    let (listeners, port) = open_stream(bound, transport, address)?;
    bound.add_stream(transport, listeners);
    bound.addresses.push((transport, with_port(address, port)));
    Ok(())
}

fn bind_datagram(
    bound: &mut Bound,
    transport: Transport,
    address: SocketAddr,
) -> Result<(), BindError> {
    let (sockets, port) = open_datagram(bound, transport, address)?;
    bound.add_datagram(transport, sockets);
    bound.addresses.push((transport, with_port(address, port)));
    Ok(())
}

fn open_datagram(
    bound: &Bound,
    transport: Transport,
    address: SocketAddr,
) -> Result<(Vec<UdpSocket>, u16), BindError> {
    let exclusive = !bound.overlaps(transport, address)?;
    sockets::bind_udp(address, bound.workers.len(), exclusive)
        .and_then(|sockets| {
            let port = port_of(sockets.first().map(UdpSocket::local_addr))?;
            Ok((sockets, port))
        })
        .map_err(|error| BindError::new(transport, address, error))
}

fn open_stream(
    bound: &Bound,
    transport: Transport,
    address: SocketAddr,
) -> Result<(Vec<TcpListener>, u16), BindError> {
    let exclusive = !bound.overlaps(transport, address)?;
    sockets::bind_tcp(address, bound.workers.len(), exclusive)
        .and_then(|listeners| {
            let port = port_of(listeners.first().map(TcpListener::local_addr))?;
            Ok((listeners, port))
        })
        .map_err(|error| BindError::new(transport, address, error))
}

fn port_of(first: Option<io::Result<SocketAddr>>) -> io::Result<u16> {
    first.map_or(Ok(0), |address| address.map(|address| address.port()))
}

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

impl fmt::Display for Bound {
    /// The readiness lines, one for each listener.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (transport, address) in self.addresses() {
            writeln!(f, "listening {} {address}", transport.label())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Settings {
        Settings {
            dns: Vec::new(),
            dot: Vec::new(),
            doh: Vec::new(),
            doq: Vec::new(),
            ..Settings::default()
        }
    }

    fn any_port() -> Vec<SocketAddr> {
        vec!["127.0.0.1:0".parse().unwrap()]
    }

    #[test]
    fn port_zero_gives_pairs_the_same_port_and_lines_in_order() {
        let settings = Settings {
            dns: any_port(),
            dot: any_port(),
            doh: any_port(),
            doq: any_port(),
            ..nothing()
        };
        let bound = bind(&settings, 2).unwrap();
        let addresses = bound.addresses();
        let order: Vec<_> = addresses.iter().map(|(transport, _)| *transport).collect();
        assert_eq!(order, Transport::ALL);
        let port = |wanted| {
            let found = addresses.iter().find(|(transport, _)| *transport == wanted);
            found.unwrap().1.port()
        };
        assert_eq!(port(Transport::Udp), port(Transport::Tcp));
        assert_eq!(port(Transport::Https), port(Transport::Http3));
        assert_ne!(port(Transport::Udp), 0);
        assert!(bound.to_string().starts_with("listening udp 127.0.0.1:"));
        let workers = bound.into_workers();
        assert_eq!(workers.len(), 2);
        for worker in workers {
            assert_eq!(worker.udp.len() + worker.tcp.len() + worker.dot.len(), 3);
            assert_eq!(worker.doh.len() + worker.doh3.len() + worker.doq.len(), 3);
        }
    }

    #[test]
    fn a_taken_port_names_its_holder_and_what_to_do() {
        let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        let settings = Settings {
            dns: vec![address],
            ..nothing()
        };
        let error = bind(&settings, 1).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, BindError::Taken { .. }), "{message}");
        assert!(
            message.starts_with(&format!("cannot listen on udp {address}: ")),
            "{message}"
        );
        let held = format!("(pid {})", std::process::id());
        assert!(message.contains(&held), "{message}");
    }

    #[test]
    fn a_second_instance_is_refused_although_ports_are_shared_by_workers() {
        let first = bind(
            &Settings {
                dns: any_port(),
                ..nothing()
            },
            2,
        )
        .unwrap();
        let second = Settings {
            dns: vec![first.addresses()[0].1],
            ..nothing()
        };
        assert!(matches!(bind(&second, 2), Err(BindError::Taken { .. })));
    }

    #[test]
    fn dot_and_doh_cannot_share_a_port_but_dot_and_doq_can() {
        let probe = bind(
            &Settings {
                dot: any_port(),
                ..nothing()
            },
            1,
        )
        .unwrap();
        let address = probe.addresses()[0].1;
        drop(probe);
        let clash = Settings {
            dot: vec![address],
            doh: vec![address],
            ..nothing()
        };
        assert!(matches!(bind(&clash, 1), Err(BindError::Twice { .. })));
        let fine = Settings {
            dot: vec![address],
            doq: vec![address],
            ..nothing()
        };
        assert_eq!(bind(&fine, 1).unwrap().addresses().len(), 2);
    }

    #[test]
    fn a_free_port_whose_other_half_is_ours_already_is_tried_again() {
        let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut bound = Bound {
            addresses: Vec::new(),
            workers: vec![WorkerSockets::default()],
        };
        // Half of what the system may give.
        for port in (1024..u16::MAX).filter(|port| port / 2 % 2 == 0) {
            let taken = with_port(address, port);
            bound.addresses.push((Transport::Tls, taken));
        }
        for _ in 0..20 {
            bind_pair(&mut bound, Transport::Udp, Transport::Tcp, address).unwrap();
        }
    }

    #[test]
    fn an_address_of_another_machine_is_absent() {
        let settings = Settings {
            dot: vec!["192.0.2.1:0".parse().unwrap()],
            ..nothing()
        };
        let error = bind(&settings, 1).unwrap_err();
        assert!(error.is_absent_address(), "{error}");
    }
}
