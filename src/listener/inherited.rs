//! Sockets that a service manager opened and handed to the process (`sd_listen_fds(3)`), so that
//! it needs no right to open them itself and nobody is turned away while it starts.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use super::{Place, Protocol, Settings};
use crate::{handler::Transport, net::sockets};

/// The sockets that were handed over. They are kept for as long as the process lives: the service
/// manager holds them too, so a listener that is closed and wanted again could not be bound.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<Socket>,
}

#[derive(Debug)]
struct Socket {
    /// What it was called, if that is a protocol.
    protocol: Option<Protocol>,
    address: SocketAddr,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Datagram(UdpSocket),
    Stream(TcpListener),
}

impl Inherited {
    /// Takes a datagram socket. `name` is what the service manager calls it
    /// (`FileDescriptorName=`): `dns`, `doh` or `doq` says what is spoken; anything else leaves
    /// that to the address.
    ///
    /// # Errors
    /// The system refuses a change to the socket.
    pub fn add_datagram(&mut self, name: &str, socket: UdpSocket) -> io::Result<()> {
        let address = socket.local_addr()?;
        sockets::adopt_udp(&socket)?;
        self.sockets.push(Socket {
            protocol: Protocol::named(name),
            address,
            kind: Kind::Datagram(socket),
        });
        Ok(())
    }

    /// Takes a listening stream socket, as [`Self::add_datagram`] does; `dns`, `dot` and `doh` are
    /// spoken on streams.
    ///
    /// # Errors
    /// It does not listen, or the system refuses a change to it.
    pub fn add_stream(&mut self, name: &str, listener: TcpListener) -> io::Result<()> {
        let address = listener.local_addr()?;
        sockets::adopt_tcp(&listener)?;
        self.sockets.push(Socket {
            protocol: Protocol::named(name),
            address,
            kind: Kind::Stream(listener),
        });
        Ok(())
    }

    /// Sockets that are called by their protocol say where it is listened on, in place of what is
    /// configured.
    pub fn override_addresses(&self, settings: &mut Settings) {
        for protocol in Protocol::ALL {
            let mut addresses: Vec<SocketAddr> = Vec::new();
            for socket in &self.sockets {
                if socket.protocol == Some(protocol) && !addresses.contains(&socket.address) {
                    addresses.push(socket.address);
                }
            }
            if !addresses.is_empty() {
                *settings.addresses_mut(protocol) = addresses;
            }
        }
    }

    /// The sockets that no listener at `places` wants, as text for people.
    #[must_use]
    pub fn unwanted(&self, places: &[Place]) -> Vec<String> {
        let wants = |place: &Place, socket: &Socket| {
            let (datagram, stream) = place.protocol.transports();
            let transport = match socket.kind {
                Kind::Datagram(_) => datagram,
                Kind::Stream(_) => stream,
            };
            transport.is_some_and(|transport| socket.fits(transport, place.address))
        };
        let is_wanted = |socket: &Socket| places.iter().any(|place| wants(place, socket));
        let unwanted = self.sockets.iter().filter(|socket| !is_wanted(socket));
        unwanted
            .map(|socket| {
                let kind = match socket.kind {
                    Kind::Datagram(_) => "UDP",
                    Kind::Stream(_) => "TCP",
                };
                format!("{kind} {}", socket.address)
            })
            .collect()
    }

    /// Copies of the datagram sockets for a listener; none when it has to open its own.
    pub(super) fn datagrams(
        &self,
        transport: Transport,
        address: SocketAddr,
    ) -> io::Result<Vec<UdpSocket>> {
        let fitting = self.sockets.iter();
        let fitting = fitting.filter(|socket| socket.fits(transport, address));
        fitting
            .filter_map(|socket| match &socket.kind {
                Kind::Datagram(socket) => Some(socket.try_clone()),
                Kind::Stream(_) => None,
            })
            .collect()
    }

    /// As [`Self::datagrams`], for streams.
    pub(super) fn streams(
        &self,
        transport: Transport,
        address: SocketAddr,
    ) -> io::Result<Vec<TcpListener>> {
        let fitting = self.sockets.iter();
        let fitting = fitting.filter(|socket| socket.fits(transport, address));
        fitting
            .filter_map(|socket| match &socket.kind {
                Kind::Stream(listener) => Some(listener.try_clone()),
                Kind::Datagram(_) => None,
            })
            .collect()
    }
}

impl Socket {
    fn fits(&self, transport: Transport, address: SocketAddr) -> bool {
        let is_meant = self.protocol.is_none_or(|protocol| {
            let (datagram, stream) = protocol.transports();
            datagram == Some(transport) || stream == Some(transport)
        });
        is_meant && self.address == address
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::{BindError, Bound};

    const ANY: &str = "127.0.0.1:0";

    fn nothing() -> Settings {
        Settings {
            dns: Vec::new(),
            dot: Vec::new(),
            doh: Vec::new(),
            doq: Vec::new(),
            ..Settings::default()
        }
    }

    #[test]
    fn a_socket_is_found_by_its_address_and_kind() {
        let mut inherited = Inherited::default();
        let listener = TcpListener::bind(ANY).unwrap();
        let address = listener.local_addr().unwrap();
        inherited.add_stream("truename.socket", listener).unwrap();
        let settings = Settings {
            dot: vec![address],
            ..nothing()
        };
        let bound = Bound::new(2);
        let places = settings.places();
        // The port is taken, and known to be ours.
        assert!(matches!(
            bound.open(&places, &[], &Inherited::default()),
            Err(BindError::Taken { .. })
        ));
        let opened = bound.open(&places, &[], &inherited).unwrap();
        for worker in 0..2 {
            let share = opened[0].share(worker).unwrap();
            assert_eq!(share.streams[0].1.local_addr().unwrap(), address);
        }
        assert!(inherited.unwanted(&places).is_empty());
        assert_eq!(inherited.unwanted(&[]), [format!("TCP {address}")]);
    }

    #[test]
    fn a_socket_with_a_protocols_name_says_where_that_is_spoken() {
        let mut inherited = Inherited::default();
        let socket = UdpSocket::bind(ANY).unwrap();
        let address = socket.local_addr().unwrap();
        inherited.add_datagram("doq", socket).unwrap();
        let mut settings = Settings {
            doq: vec!["192.0.2.1:853".parse().unwrap()],
            // The same address for another protocol on datagrams is not meant.
            dns: vec!["192.0.2.1:53".parse().unwrap()],
            ..nothing()
        };
        inherited.override_addresses(&mut settings);
        assert_eq!(settings.doq, [address]);
        assert_eq!(settings.dns, nothing_but("192.0.2.1:53"));
        assert!(inherited.unwanted(&settings.places()).is_empty());
        let wrong = Settings {
            doh: vec![address],
            ..nothing()
        };
        assert_eq!(
            inherited.unwanted(&wrong.places()),
            [format!("UDP {address}")]
        );
    }

    fn nothing_but(address: &str) -> Vec<SocketAddr> {
        vec![address.parse().unwrap()]
    }

    #[test]
    fn a_connection_is_no_listener() {
        let listener = TcpListener::bind(ANY).unwrap();
        let address = listener.local_addr().unwrap();
        let connection = std::net::TcpStream::connect(address).unwrap();
        let disguised = TcpListener::from(std::os::fd::OwnedFd::from(connection));
        assert!(Inherited::default().add_stream("dot", disguised).is_err());
    }
}
