//! Opens every socket before any worker runs.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use super::{Inherited, Place, Settings};
use crate::{
    handler::Transport,
    net::{
        port_owner::{Layer, PortOwner, port_owner},
        sockets,
    },
};

/// How often another free port is tried when the one that UDP got is taken for TCP.
const PAIR_TRIES: usize = 32;

/// Why an address cannot be listened on. The operator has to change something.
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
                owner: None,
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

    /// Adds who holds the port. Not in [`Self::new`]: it reads all sockets of the system, and the error
    /// may only mean that another port is tried.
    fn with_owner(mut self) -> Self {
        if let Self::Taken {
            transport,
            address,
            owner,
            ..
        } = &mut self
        {
            *owner = port_owner(layer(*transport), *address);
        }
        self
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

/// What one worker serves of one listener: sockets that no runtime knows yet.
#[derive(Debug)]
pub struct ListenerSockets {
    pub(super) place: Place,
    pub(super) datagrams: Vec<(Transport, UdpSocket)>,
    pub(super) streams: Vec<(Transport, TcpListener)>,
}

#[cfg(test)]
impl ListenerSockets {
    /// What is no socket at all, so that serving it fails.
    pub(crate) fn broken(place: Place) -> Self {
        let file = std::fs::File::open("/dev/null").expect("every machine has one");
        let socket = UdpSocket::from(std::os::fd::OwnedFd::from(file));
        Self {
            place,
            datagrams: vec![(Transport::Udp, socket)],
            streams: Vec::new(),
        }
    }
}

/// A listener that is open: the sockets of all workers. They are kept while workers serve copies,
/// so that a worker that is started anew finds what waits for it.
#[derive(Debug)]
pub struct Opened {
    place: Place,
    /// The address with the port that stands for 0.
    address: SocketAddr,
    datagrams: Option<(Transport, Vec<UdpSocket>)>,
    streams: Option<(Transport, Vec<TcpListener>)>,
    workers: usize,
}

impl Opened {
    /// The listener it is.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.place
    }

    /// What it speaks and where, with the port that stands for 0.
    pub fn addresses(&self) -> impl Iterator<Item = (Transport, SocketAddr)> {
        let datagram = self.datagrams.as_ref().map(|(transport, _)| *transport);
        let stream = self.streams.as_ref().map(|(transport, _)| *transport);
        let transports = datagram.into_iter().chain(stream);
        transports.map(|transport| (transport, self.address))
    }

    /// Copies of the sockets that this worker is to serve.
    ///
    /// # Errors
    /// The process may have no more files open.
    pub fn share(&self, worker: usize) -> io::Result<ListenerSockets> {
        let mut share = ListenerSockets {
            place: self.place,
            datagrams: Vec::new(),
            streams: Vec::new(),
        };
        if let Some((transport, sockets)) = &self.datagrams {
            for at in self.shares(worker, sockets.len(), *transport) {
                if let Some(socket) = sockets.get(at) {
                    share.datagrams.push((*transport, socket.try_clone()?));
                }
            }
        }
        if let Some((transport, listeners)) = &self.streams {
            for at in self.shares(worker, listeners.len(), *transport) {
                if let Some(listener) = listeners.get(at) {
                    share.streams.push((*transport, listener.try_clone()?));
                }
            }
        }
        Ok(share)
    }

    /// Which of `count` sockets a worker serves. Usually each has its own; when there are fewer,
    /// as when a service manager opened them, workers share one, but for QUIC, whose packets must
    /// all come to the worker that holds their connection.
    fn shares(&self, worker: usize, count: usize, transport: Transport) -> Vec<usize> {
        let own: Vec<usize> = (worker..count).step_by(self.workers).collect();
        let is_quic = matches!(transport, Transport::Http3 | Transport::Quic);
        if own.is_empty() && !is_quic {
            return worker.checked_rem(count).into_iter().collect();
        }
        own
    }
}

/// The listeners that are open.
#[derive(Debug)]
pub struct Bound {
    open: Vec<Opened>,
    workers: usize,
}

impl Bound {
    /// No listener yet, for so many workers (at least one).
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            open: Vec::new(),
            workers: workers.max(1),
        }
    }

    /// Where truename listens, with the ports that stand for 0, in the order in which transports
    /// are listed to people.
    #[must_use]
    pub fn addresses(&self) -> Vec<(Transport, SocketAddr)> {
        addresses(&self.open)
    }

    /// Copies of the sockets that one worker is to serve, numbered from 0.
    ///
    /// # Errors
    /// The process may have no more files open.
    pub fn share(&self, worker: usize) -> io::Result<Vec<ListenerSockets>> {
        let shares = self.open.iter().map(|opened| opened.share(worker));
        shares.collect()
    }

    /// Opens listeners beside those that are open, of which those at `leaving` are soon to be
    /// closed: what they hold may be taken over. Sockets that were handed to the process come
    /// before new ones. Either all open or nothing stays open; they do not belong to `self` before
    /// [`Self::add`].
    pub fn open(
        &self,
        places: &[Place],
        leaving: &[Place],
        inherited: &Inherited,
    ) -> Result<Vec<Opened>, BindError> {
        let mut opening = Opening {
            bound: self,
            leaving,
            inherited,
            opened: Vec::new(),
        };
        for &place in places {
            let opened = opening.open(place)?;
            opening.opened.push(opened);
        }
        Ok(opening.opened)
    }

    /// Takes listeners in that were opened.
    pub fn add(&mut self, opened: Vec<Opened>) {
        self.open.extend(opened);
        let order = |opened: &Opened| opened.place;
        self.open.sort_by_key(order);
    }

    /// Lets go of the sockets of listeners; the workers have copies that they close.
    pub fn remove(&mut self, places: &[Place]) {
        self.open.retain(|opened| !places.contains(&opened.place));
    }
}

/// The addresses of listeners in the order in which transports are listed to people.
#[must_use]
pub fn addresses(opened: &[Opened]) -> Vec<(Transport, SocketAddr)> {
    let mut addresses: Vec<_> = opened.iter().flat_map(Opened::addresses).collect();
    addresses.sort_by_key(|(transport, _)| *transport);
    addresses
}

/// Opens every socket that `settings` asks for, a set for each of `workers` (at least one).
/// Either all is open or nothing stays open.
pub fn bind(settings: &Settings, workers: usize) -> Result<Bound, BindError> {
    let mut bound = Bound::new(workers);
    let opened = bound.open(&settings.places(), &[], &Inherited::default())?;
    bound.add(opened);
    Ok(bound)
}

/// Listeners that are being opened.
struct Opening<'a> {
    bound: &'a Bound,
    leaving: &'a [Place],
    inherited: &'a Inherited,
    opened: Vec<Opened>,
}

impl Opening<'_> {
    fn open(&self, place: Place) -> Result<Opened, BindError> {
        let (datagram, stream) = place.protocol.transports();
        // When any port will do, a port that is free for one and taken for the other is given
        // back and another tried.
        let is_pair = datagram.is_some() && stream.is_some();
        let mut tries = if is_pair && place.address.port() == 0 {
            PAIR_TRIES
        } else {
            1
        };
        loop {
            tries -= 1;
            match self.open_once(place, datagram, stream) {
                Err(BindError::Taken { .. } | BindError::Twice { .. }) if tries > 0 => {}
                result => return result.map_err(BindError::with_owner),
            }
        }
    }

    fn open_once(
        &self,
        place: Place,
        datagram: Option<Transport>,
        stream: Option<Transport>,
    ) -> Result<Opened, BindError> {
        let mut address = place.address;
        let datagrams = match datagram {
            Some(transport) => Some((transport, self.datagrams(transport, &mut address)?)),
            None => None,
        };
        let streams = match stream {
            Some(transport) => Some((transport, self.streams(transport, &mut address)?)),
            None => None,
        };
        Ok(Opened {
            place,
            address,
            datagrams,
            streams,
            workers: self.bound.workers,
        })
    }

    /// Sockets for `address`, whose port becomes the one that was found.
    fn datagrams(
        &self,
        transport: Transport,
        address: &mut SocketAddr,
    ) -> Result<Vec<UdpSocket>, BindError> {
        let open = |at, exclusive| {
            let inherited = self.inherited.datagrams(transport, at)?;
            if !inherited.is_empty() {
                return Ok(inherited);
            }
            sockets::bind_udp(at, self.bound.workers, exclusive)
        };
        let exclusive = !self.overlaps(transport, *address)?;
        let wrong = |error| BindError::new(transport, *address, error);
        let sockets = open(*address, exclusive).map_err(wrong)?;
        let port = port_of(sockets.first().map(UdpSocket::local_addr)).map_err(wrong)?;
        address.set_port(port);
        Ok(sockets)
    }

    /// As [`Self::datagrams`], for streams.
    fn streams(
        &self,
        transport: Transport,
        address: &mut SocketAddr,
    ) -> Result<Vec<TcpListener>, BindError> {
        let open = |at, exclusive| {
            let inherited = self.inherited.streams(transport, at)?;
            if !inherited.is_empty() {
                return Ok(inherited);
            }
            sockets::bind_tcp(at, self.bound.workers, exclusive)
        };
        let exclusive = !self.overlaps(transport, *address)?;
        let wrong = |error| BindError::new(transport, *address, error);
        let listeners = open(*address, exclusive).map_err(wrong)?;
        let port = port_of(listeners.first().map(TcpListener::local_addr)).map_err(wrong)?;
        address.set_port(port);
        Ok(listeners)
    }

    /// Refuses an address that another protocol has, and says whether our own earlier sockets may
    /// overlap with it: `0.0.0.0` and `127.0.0.1` with one port are a fine pair.
    fn overlaps(&self, transport: Transport, address: SocketAddr) -> Result<bool, BindError> {
        let mut overlaps = false;
        for opened in self.bound.open.iter().chain(&self.opened) {
            let leaves = self.leaving.contains(&opened.place);
            for (other, bound) in opened.addresses() {
                let is_same_port = layer(other) == layer(transport)
                    && address.port() != 0
                    && bound.port() == address.port()
                    && bound.is_ipv4() == address.is_ipv4();
                if !is_same_port {
                    continue;
                }
                overlaps = true;
                if !leaves && other != transport && bound.ip() == address.ip() {
                    return Err(BindError::Twice {
                        address,
                        first: other,
                        second: transport,
                    });
                }
            }
        }
        Ok(overlaps)
    }
}

fn port_of(first: Option<io::Result<SocketAddr>>) -> io::Result<u16> {
    first.map_or(Ok(0), |address| address.map(|address| address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::Protocol;

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
        for worker in 0..2 {
            let share = bound.share(worker).unwrap();
            let datagrams = share.iter().flat_map(|sockets| &sockets.datagrams);
            assert_eq!(datagrams.count(), 3);
            let streams = share.iter().flat_map(|sockets| &sockets.streams);
            assert_eq!(streams.count(), 3);
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

    fn place(protocol: Protocol, address: SocketAddr) -> Place {
        let number = 0;
        Place {
            protocol,
            address,
            number,
        }
    }

    fn opened(protocol: Protocol, address: SocketAddr) -> Opened {
        Opened {
            place: place(protocol, address),
            address,
            datagrams: None,
            streams: Some((Transport::Tls, Vec::new())),
            workers: 1,
        }
    }

    #[test]
    fn a_free_port_whose_other_half_is_ours_already_is_tried_again() {
        let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut bound = Bound::new(1);
        // Half of what the system may give.
        for port in (1024..u16::MAX).filter(|port| port / 2 % 2 == 0) {
            let taken = SocketAddr::new(address.ip(), port);
            bound.open.push(opened(Protocol::Dot, taken));
        }
        let wanted = [place(Protocol::Dns, address)];
        for _ in 0..20 {
            bound.open(&wanted, &[], &Inherited::default()).unwrap();
        }
    }

    #[test]
    fn a_port_passes_from_one_protocol_to_another_only_when_the_first_leaves() {
        let settings = Settings {
            dot: any_port(),
            ..nothing()
        };
        let mut bound = bind(&settings, 2).unwrap();
        let dot = bound.open[0].place;
        let address = bound.addresses()[0].1;
        let doh = [place(Protocol::Doh, address)];
        let none = Inherited::default();
        let refused = bound.open(&doh, &[], &none);
        assert!(matches!(refused, Err(BindError::Twice { .. })));
        let opened = bound.open(&doh, &[dot], &none).unwrap();
        bound.remove(&[dot]);
        bound.add(opened);
        let transports: Vec<_> = bound.addresses();
        assert_eq!(
            transports,
            [(Transport::Https, address), (Transport::Http3, address)]
        );
    }

    #[test]
    fn workers_share_a_socket_when_there_is_one_for_all_but_never_quic() {
        let opened = |workers| Opened {
            workers,
            ..opened(Protocol::Dns, "127.0.0.1:53".parse().unwrap())
        };
        let shares = |workers: usize, count, transport| -> Vec<Vec<usize>> {
            let opened = opened(workers);
            let shares = (0..workers).map(|worker| opened.shares(worker, count, transport));
            shares.collect()
        };
        assert_eq!(shares(2, 2, Transport::Udp), [[0], [1]]);
        assert_eq!(shares(3, 1, Transport::Udp), [[0], [0], [0]]);
        assert_eq!(shares(3, 1, Transport::Quic), [vec![0], vec![], vec![]]);
        // None is left without a reader.
        assert_eq!(shares(2, 3, Transport::Tcp), [vec![0, 2], vec![1]]);
    }

    #[test]
    fn an_address_of_another_machine_is_absent() {
        let settings = Settings {
            dot: vec!["192.0.2.1:0".parse().unwrap()],
            ..nothing()
        };
        let error = bind(&settings, 1).unwrap_err();
        assert!(matches!(error, BindError::Absent { .. }), "{error}");
    }
}
