//! Changes of this machine's network, as the kernel tells them (rtnetlink(7), RFC 3549).
//!
//! Only what a connection's fate hangs on counts: addresses that come and go, default routes,
//! links with addresses that lose or regain their carrier. The kernel tells much more, and repeats
//! itself: router advertisements renew lifetimes, containers come and go, neighbours are found.
//! [`Network`] remembers what it was told, so that a repetition is none; it does no I/O.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

#[cfg(any(target_os = "linux", target_os = "android"))]
pub use kernel::Changes;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub use nowhere::Changes;

/// Links, addresses and routes remembered, each: far more than a machine has that sits in a home
/// or an office. Of those beyond, changes are not seen.
const REMEMBERED_MAX: usize = 1024;
/// The most octets of what tells one default route from another.
const ROUTE_KEY_MAX_OCTETS: usize = 256;

/// Messages and attributes begin at multiples of this.
const ALIGNMENT_OCTETS: usize = 4;
/// The header of a message: length, type, flags, sequence number, port.
const HEADER_OCTETS: usize = 16;
/// The header of an attribute: length, type.
const ATTRIBUTE_HEADER_OCTETS: usize = 4;

/// Message types (linux/rtnetlink.h).
mod message {
    pub(super) const OVERRUN: u16 = 4;
    pub(super) const LINK_NEW: u16 = 16;
    pub(super) const LINK_GONE: u16 = 17;
    pub(super) const ADDRESS_NEW: u16 = 20;
    pub(super) const ADDRESS_GONE: u16 = 21;
    pub(super) const ROUTE_NEW: u16 = 24;
    pub(super) const ROUTE_GONE: u16 = 25;
}

const FAMILY_IPV4: u8 = 2;
const FAMILY_IPV6: u8 = 10;

/// `IFF_UP` and `IFF_RUNNING`: switched on, and able to carry packets.
const LINK_WORKS: u32 = 0x1 | 0x40;

/// `IFA_F_TENTATIVE` and `IFA_F_DADFAILED`: not usable as a source.
const ADDRESS_NOT_USABLE: u8 = 0x40 | 0x08;
/// Addresses of this scope or a narrower one reach no upstream beyond the link.
const SCOPE_LINK: u8 = 253;
const ADDRESS_PEER: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;

/// `RTN_UNICAST`.
const ROUTE_UNICAST: u8 = 1;
/// `RTM_F_CLONED`: an entry of a cache.
const ROUTE_CLONED: u32 = 0x200;
const ROUTE_LINK: u16 = 4;
/// What tells a route from another: link, gateway, metric, several next hops, gateway of another
/// family, table.
const ROUTE_KEY: [u16; 6] = [ROUTE_LINK, 5, 6, 9, 18, 15];
/// Routes to prefixes so short count as default routes: VPNs cover the default route with two
/// halves rather than replace it.
const DEFAULT_PREFIX_MAX_IPV4: u8 = 1;
/// As above; all of global unicast is `2000::/3`.
const DEFAULT_PREFIX_MAX_IPV6: u8 = 3;

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// This machine has another address.
    AddressNew,
    /// An address of this machine is gone.
    AddressGone,
    /// There is another default route.
    RouteNew,
    /// A default route is gone.
    RouteGone,
    /// A link with an address works again.
    LinkUp,
    /// A link with an address works no longer.
    LinkDown,
    /// The kernel had more to tell than we read.
    Overrun,
}

impl Change {
    /// What happened, for people.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::AddressNew => "a new address",
            Self::AddressGone => "an address is gone",
            Self::RouteNew => "a new default route",
            Self::RouteGone => "a default route is gone",
            Self::LinkUp => "a link is up",
            Self::LinkDown => "a link is down",
            Self::Overrun => "more changes than were read",
        }
    }
}

/// A default route: the link it leaves by, 0 when it names none or several, and what else tells it
/// from others.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Route {
    link: u32,
    key: Vec<u8>,
}

/// The network as it was told so far.
#[derive(Debug, Default)]
pub struct Network {
    /// Whether each link works.
    links: HashMap<u32, bool>,
    addresses: HashSet<(u32, IpAddr)>,
    routes: HashSet<Route>,
}

impl Network {
    /// Takes note of an address that is there already, and whether its link works.
    pub fn know(&mut self, link: u32, works: bool, address: IpAddr) {
        if self.links.len() < REMEMBERED_MAX && self.addresses.len() < REMEMBERED_MAX {
            self.links.insert(link, works);
            self.addresses.insert((link, address));
        }
    }

    /// Takes note of the messages in `octets`, as the kernel sent them together; the last change
    /// among them, if any counts. What is not understood changes nothing.
    pub fn apply(&mut self, octets: &[u8]) -> Option<Change> {
        let mut change = None;
        let mut rest = octets;
        while let Some((kind, body, after)) = next_message(rest) {
            change = self.apply_message(kind, body).or(change);
            rest = after;
        }
        change
    }

    fn apply_message(&mut self, kind: u16, body: &[u8]) -> Option<Change> {
        match kind {
            message::OVERRUN => Some(Change::Overrun),
            message::LINK_NEW | message::LINK_GONE => self.link(kind == message::LINK_NEW, body),
            message::ADDRESS_NEW | message::ADDRESS_GONE => {
                self.address(kind == message::ADDRESS_NEW, body)
            }
            message::ROUTE_NEW | message::ROUTE_GONE => {
                self.route(kind == message::ROUTE_NEW, body)
            }
            _ => None,
        }
    }

    /// An `ifinfomsg`: family, padding, type (4 octets), index, flags, mask of changes.
    fn link(&mut self, is_there: bool, body: &[u8]) -> Option<Change> {
        let index = u32_at(body, 4)?;
        let works = is_there && u32_at(body, 8)? & LINK_WORKS == LINK_WORKS;
        let before = if is_there {
            if self.links.len() >= REMEMBERED_MAX && !self.links.contains_key(&index) {
                return None;
            }
            self.links.insert(index, works)
        } else {
            self.links.remove(&index)
        };
        let has_address = self.addresses.iter().any(|(link, _)| *link == index);
        if !works {
            // IPv4 routes go with their link, and the kernel does not say so.
            self.routes.retain(|route| route.link != index);
        }
        if !is_there {
            self.addresses.retain(|(link, _)| *link != index);
        }
        match before {
            Some(before) if before != works && has_address => Some(if works {
                Change::LinkUp
            } else {
                Change::LinkDown
            }),
            _ => None,
        }
    }

    /// An `ifaddrmsg`: family, prefix length, flags, scope, index.
    fn address(&mut self, is_there: bool, body: &[u8]) -> Option<Change> {
        let (header, attributes) = body.split_at_checked(8)?;
        let &[family, _, flags, scope, ..] = header else {
            return None;
        };
        let link = u32_at(header, 4)?;
        let mut peer = None;
        let mut local = None;
        for (kind, value) in Attributes(attributes) {
            match kind {
                ADDRESS_PEER => peer = address(family, value),
                ADDRESS_LOCAL => local = address(family, value),
                _ => {}
            }
        }
        // On a point-to-point link only the local address is ours; IPv6 gives just the other.
        let known = (link, local.or(peer)?);
        if !is_there {
            return self.addresses.remove(&known).then_some(Change::AddressGone);
        }
        let counts = scope < SCOPE_LINK
            && flags & ADDRESS_NOT_USABLE == 0
            && self.addresses.len() < REMEMBERED_MAX;
        (counts && self.addresses.insert(known)).then_some(Change::AddressNew)
    }

    /// An `rtmsg`: family, lengths of destination and source, TOS, table, protocol, scope, type,
    /// flags.
    fn route(&mut self, is_there: bool, body: &[u8]) -> Option<Change> {
        let (header, attributes) = body.split_at_checked(12)?;
        let &[family, prefix, _, _, table, _, _, kind, ..] = header else {
            return None;
        };
        let prefix_max = match family {
            FAMILY_IPV4 => DEFAULT_PREFIX_MAX_IPV4,
            FAMILY_IPV6 => DEFAULT_PREFIX_MAX_IPV6,
            _ => return None,
        };
        let cloned = u32_at(header, 8)? & ROUTE_CLONED != 0;
        if prefix > prefix_max || kind != ROUTE_UNICAST || cloned {
            return None;
        }
        let mut route = Route {
            link: 0,
            key: vec![family, prefix, table],
        };
        for (kind, value) in Attributes(attributes) {
            if ROUTE_KEY.contains(&kind) {
                route.key.extend_from_slice(&kind.to_ne_bytes());
                route.key.extend_from_slice(value);
            }
            if kind == ROUTE_LINK {
                route.link = u32_at(value, 0)?;
            }
        }
        if route.key.len() > ROUTE_KEY_MAX_OCTETS {
            return None;
        }
        if !is_there {
            // One that was there before we looked is not known, and gone all the same.
            self.routes.remove(&route);
            return Some(Change::RouteGone);
        }
        let counts = self.routes.len() < REMEMBERED_MAX && self.routes.insert(route);
        counts.then_some(Change::RouteNew)
    }
}

/// The type and body of the first message, and what comes after it.
fn next_message(octets: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32_at(octets, 0)?).ok()?;
    let kind = u16_at(octets, 4)?;
    let body = octets.get(HEADER_OCTETS..length)?;
    let next = length.checked_next_multiple_of(ALIGNMENT_OCTETS)?;
    Some((kind, body, octets.get(next..).unwrap_or_default()))
}

/// The attributes of a message up to the first that is cut: type and value.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)?;
        let value = self.0.get(ATTRIBUTE_HEADER_OCTETS..length)?;
        let next = length.checked_next_multiple_of(ALIGNMENT_OCTETS)?;
        self.0 = self.0.get(next..).unwrap_or_default();
        Some((kind, value))
    }
}

fn address(family: u8, octets: &[u8]) -> Option<IpAddr> {
    match family {
        FAMILY_IPV4 => <[u8; 4]>::try_from(octets)
            .ok()
            .map(|octets| Ipv4Addr::from(octets).into()),
        FAMILY_IPV6 => <[u8; 16]>::try_from(octets)
            .ok()
            .map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

/// Netlink speaks in the machine's own byte order.
fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    let octets = octets.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*octets))
}

fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    let octets = octets.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*octets))
}

/// The kernel that tells.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod kernel {
    use std::os::fd::{AsRawFd, OwnedFd};

    use nix::{
        errno::Errno,
        ifaddrs::getifaddrs,
        net::if_::{InterfaceFlags, if_nametoindex},
        sys::socket::{
            AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrStorage, bind,
            recvfrom, socket,
        },
    };
    use tokio::io::{Interest, unix::AsyncFd};

    use super::{Change, IpAddr, Network, io};
    use crate::net::sockets;

    /// The kernel sends at most so many octets at once.
    const RECEIVE_OCTETS: usize = 32 * 1024;
    /// Links, and for IPv4 and IPv6 each addresses and routes (`RTMGRP_*`).
    const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

    /// The changes of the network from now on.
    #[derive(Debug)]
    pub struct Changes {
        socket: AsyncFd<OwnedFd>,
        network: Network,
        buffer: Vec<u8>,
    }

    impl Changes {
        /// Asks the kernel to tell.
        ///
        /// # Errors
        /// When it does not: a sandbox may forbid it.
        pub fn open() -> io::Result<Self> {
            let socket = socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
                SockProtocol::NetlinkRoute,
            )?;
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
            // After the socket, so that no change falls between.
            let network = present()?;
            let socket = sockets::watched(socket, Interest::READABLE)?;
            Ok(Self {
                socket,
                network,
                buffer: vec![0; RECEIVE_OCTETS],
            })
        }

        /// Waits for the next change that counts. Dropping the future loses no change.
        ///
        /// # Errors
        /// When the kernel tells no more.
        pub async fn next(&mut self) -> io::Result<Change> {
            loop {
                let mut ready = self.socket.readable().await?;
                let buffer = &mut self.buffer;
                let Ok(received) = ready.try_io(|socket| {
                    recvfrom::<NetlinkAddr>(socket.as_raw_fd(), buffer).map_err(Into::into)
                }) else {
                    continue;
                };
                match received {
                    // Only the kernel has port 0.
                    Ok((octets, sender)) if sender.is_some_and(|it| it.pid() == 0) => {
                        let octets = self.buffer.get(..octets).unwrap_or_default();
                        if let Some(change) = self.network.apply(octets) {
                            return Ok(change);
                        }
                    }
                    Ok(_) => {}
                    Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                        Some(Errno::ENOBUFS) => return Ok(Change::Overrun),
                        Some(Errno::EINTR) => {}
                        _ => return Err(error),
                    },
                }
            }
        }
    }

    /// The addresses that are there, so that a repetition of them is none.
    fn present() -> io::Result<Network> {
        let mut network = Network::default();
        for interface in getifaddrs()? {
            let address = interface.address.as_ref().and_then(ip);
            let Some(address) = address.filter(reaches_beyond_its_link) else {
                continue;
            };
            // A link that vanished in between is no loss.
            let Ok(link) = if_nametoindex(interface.interface_name.as_str()) else {
                continue;
            };
            let works = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
            network.know(link, interface.flags.contains(works), address);
        }
        Ok(network)
    }

    fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
        let ipv4 = address.as_sockaddr_in().map(|it| it.ip().into());
        ipv4.or_else(|| address.as_sockaddr_in6().map(|it| it.ip().into()))
    }

    fn reaches_beyond_its_link(address: &IpAddr) -> bool {
        match address {
            IpAddr::V4(ipv4) => !ipv4.is_loopback() && !ipv4.is_link_local(),
            IpAddr::V6(ipv6) => !ipv6.is_loopback() && !ipv6.is_unicast_link_local(),
        }
    }
}

/// A system whose kernel speaks no netlink.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod nowhere {
    use super::{Change, io};

    /// The changes of the network, of which nothing tells here.
    #[derive(Debug)]
    pub struct Changes(std::convert::Infallible);

    impl Changes {
        /// There is nobody to ask.
        ///
        /// # Errors
        /// Always.
        pub fn open() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// Never called: there is no such value.
        ///
        /// # Errors
        /// Never.
        pub async fn next(&mut self) -> io::Result<Change> {
            match self.0 {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One message with its header; `attributes` are type and value.
    fn message(kind: u16, body: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = vec![0; HEADER_OCTETS];
        out.extend_from_slice(body);
        for (kind, value) in attributes {
            let length = u16::try_from(ATTRIBUTE_HEADER_OCTETS + value.len()).unwrap();
            out.extend_from_slice(&length.to_ne_bytes());
            out.extend_from_slice(&kind.to_ne_bytes());
            out.extend_from_slice(value);
            out.resize(out.len().next_multiple_of(ALIGNMENT_OCTETS), 0);
        }
        let length = u32::try_from(out.len()).unwrap();
        out[..4].copy_from_slice(&length.to_ne_bytes());
        out[4..6].copy_from_slice(&kind.to_ne_bytes());
        out
    }

    fn address_message(kind: u16, link: u32, flags: u8, scope: u8, octets: &[u8]) -> Vec<u8> {
        let family = if octets.len() == 4 {
            FAMILY_IPV4
        } else {
            FAMILY_IPV6
        };
        let mut body = vec![family, 24, flags, scope];
        body.extend_from_slice(&link.to_ne_bytes());
        // Lifetimes differ each time.
        let lifetimes = [flags.wrapping_add(scope); 16];
        message(kind, &body, &[(ADDRESS_PEER, octets), (6, &lifetimes)])
    }

    fn route_message(kind: u16, prefix: u8, link: u32, gateway: [u8; 4]) -> Vec<u8> {
        let body = [
            FAMILY_IPV4,
            prefix,
            0,
            0,
            254,
            3,
            0,
            ROUTE_UNICAST,
            0,
            0,
            0,
            0,
        ];
        message(
            kind,
            &body,
            &[(ROUTE_LINK, &link.to_ne_bytes()), (5, &gateway)],
        )
    }

    fn link_message(kind: u16, link: u32, flags: u32) -> Vec<u8> {
        let mut body = vec![0, 0, 1, 0];
        body.extend_from_slice(&link.to_ne_bytes());
        body.extend_from_slice(&flags.to_ne_bytes());
        body.extend_from_slice(&[0xff; 4]);
        message(kind, &body, &[])
    }

    const HOME: [u8; 4] = [192, 0, 2, 5];

    #[test]
    fn addresses_count_when_they_come_and_when_they_go() {
        let mut network = Network::default();
        let come = address_message(message::ADDRESS_NEW, 2, 0, 0, &HOME);
        assert_eq!(network.apply(&come), Some(Change::AddressNew));
        let renewed = address_message(message::ADDRESS_NEW, 2, 0x80, 0, &HOME);
        assert_eq!(network.apply(&renewed), None);
        let gone = address_message(message::ADDRESS_GONE, 2, 0, 0, &HOME);
        assert_eq!(network.apply(&gone), Some(Change::AddressGone));
        assert_eq!(network.apply(&gone), None);
        assert_eq!(network.apply(&come), Some(Change::AddressNew));
    }

    #[test]
    fn an_address_known_from_the_start_is_not_new() {
        let mut network = Network::default();
        network.know(2, true, HOME.into());
        let renewed = address_message(message::ADDRESS_NEW, 2, 0x80, 0, &HOME);
        assert_eq!(network.apply(&renewed), None);
        let gone = address_message(message::ADDRESS_GONE, 2, 0, 0, &HOME);
        assert_eq!(network.apply(&gone), Some(Change::AddressGone));
    }

    #[test]
    fn link_local_and_tentative_addresses_do_not_count() {
        let mut network = Network::default();
        let mut ipv6 = [0; 16];
        ipv6[..2].copy_from_slice(&[0x20, 0x01]);
        for (flags, scope) in [(0, SCOPE_LINK), (0, 254), (0x40, 0), (0x08, 0)] {
            let come = address_message(message::ADDRESS_NEW, 2, flags, scope, &ipv6);
            assert_eq!(network.apply(&come), None, "{flags:#x} {scope}");
        }
        let usable = address_message(message::ADDRESS_NEW, 2, 0x80, 0, &ipv6);
        assert_eq!(network.apply(&usable), Some(Change::AddressNew));
    }

    #[test]
    fn only_default_routes_count() {
        let mut network = Network::default();
        let gateway = [192, 0, 2, 1];
        let to_somewhere = route_message(message::ROUTE_NEW, 24, 2, gateway);
        assert_eq!(network.apply(&to_somewhere), None);
        let default = route_message(message::ROUTE_NEW, 0, 2, gateway);
        assert_eq!(network.apply(&default), Some(Change::RouteNew));
        assert_eq!(network.apply(&default), None);
        let other = route_message(message::ROUTE_NEW, 0, 2, [192, 0, 2, 254]);
        assert_eq!(network.apply(&other), Some(Change::RouteNew));
        let half = route_message(message::ROUTE_NEW, 1, 7, gateway);
        assert_eq!(network.apply(&half), Some(Change::RouteNew));
        let gone = route_message(message::ROUTE_GONE, 0, 2, gateway);
        assert_eq!(network.apply(&gone), Some(Change::RouteGone));
        assert_eq!(network.apply(&default), Some(Change::RouteNew));
        let mut local = default;
        local[HEADER_OCTETS + 7] = 2;
        assert_eq!(network.apply(&local), None);
    }

    #[test]
    fn a_link_counts_when_it_has_an_address_and_its_carrier_changes() {
        let mut network = Network::default();
        let up = link_message(message::LINK_NEW, 2, LINK_WORKS | 0x1000);
        let down = link_message(message::LINK_NEW, 2, 0x1);
        for octets in [&up, &down, &up] {
            assert_eq!(network.apply(octets), None);
        }
        let come = address_message(message::ADDRESS_NEW, 2, 0, 0, &HOME);
        let default = route_message(message::ROUTE_NEW, 0, 2, [192, 0, 2, 1]);
        network.apply(&come);
        network.apply(&default);
        assert_eq!(network.apply(&up), None);
        assert_eq!(network.apply(&down), Some(Change::LinkDown));
        assert_eq!(network.apply(&down), None);
        assert_eq!(network.apply(&up), Some(Change::LinkUp));
        // Its routes went with it, untold.
        assert_eq!(network.apply(&default), Some(Change::RouteNew));
        let gone = link_message(message::LINK_GONE, 2, 0);
        assert_eq!(network.apply(&gone), Some(Change::LinkDown));
        assert!(network.links.is_empty() && network.addresses.is_empty());
    }

    #[test]
    fn several_messages_come_together() {
        let mut network = Network::default();
        let mut octets = route_message(message::ROUTE_NEW, 24, 2, [0; 4]);
        octets.extend(route_message(message::ROUTE_NEW, 0, 2, [192, 0, 2, 1]));
        octets.extend(link_message(message::LINK_NEW, 2, LINK_WORKS));
        assert_eq!(network.apply(&octets), Some(Change::RouteNew));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut network = Network::default();
        for number in 0..2 * u32::try_from(REMEMBERED_MAX).unwrap() {
            let octets = number.to_be_bytes();
            network.apply(&address_message(message::ADDRESS_NEW, 2, 0, 0, &octets));
            network.apply(&route_message(message::ROUTE_NEW, 0, 2, octets));
            network.apply(&link_message(message::LINK_NEW, number, LINK_WORKS));
        }
        assert_eq!(network.addresses.len(), REMEMBERED_MAX);
        assert_eq!(network.routes.len(), REMEMBERED_MAX);
        assert_eq!(network.links.len(), REMEMBERED_MAX);
    }

    #[test]
    fn cut_and_lying_messages_change_nothing_and_panic_never() {
        let whole = [
            address_message(message::ADDRESS_NEW, 2, 0, 0, &HOME),
            route_message(message::ROUTE_NEW, 0, 2, HOME),
            link_message(message::LINK_NEW, 2, LINK_WORKS),
        ];
        for message in whole {
            for end in 0..message.len() {
                assert_eq!(Network::default().apply(&message[..end]), None, "{end}");
            }
            for at in 0..message.len() {
                for value in [0, 1, 3, 15, 0x7f, 0xff] {
                    let mut damaged = message.clone();
                    damaged[at] = value;
                    let mut network = Network::default();
                    network.apply(&damaged);
                    network.apply(&[damaged.clone(), damaged].concat());
                }
            }
        }
        for noise in 0..=u8::MAX {
            assert_eq!(Network::default().apply(&[noise; 100]), None);
        }
    }
}
