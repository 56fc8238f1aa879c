//! What a listener is known by, so that one that is asked for again is left alone.

use std::{collections::HashMap, fmt, net::SocketAddr};

use super::Settings;
use crate::handler::Transport;

/// The protocols that listeners are asked for by. `Dns` and `Doh` open a datagram socket and a
/// stream socket with one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Plain DNS, UDP and TCP.
    Dns,
    /// DNS over TLS.
    Dot,
    /// DNS over HTTPS: HTTP/1.1 and HTTP/2 on TCP, HTTP/3 on UDP.
    Doh,
    /// DNS over QUIC.
    Doq,
}

impl Protocol {
    /// Every protocol, in the order of `[listen]`.
    pub const ALL: [Self; 4] = [Self::Dns, Self::Dot, Self::Doh, Self::Doq];

    /// The protocol with this label.
    #[must_use]
    pub fn named(label: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|protocol| protocol.label() == label)
    }

    /// What is spoken on datagrams, and what on streams.
    pub(super) const fn transports(self) -> (Option<Transport>, Option<Transport>) {
        match self {
            Self::Dns => (Some(Transport::Udp), Some(Transport::Tcp)),
            Self::Dot => (None, Some(Transport::Tls)),
            Self::Doh => (Some(Transport::Http3), Some(Transport::Https)),
            Self::Doq => (Some(Transport::Quic), None),
        }
    }

    /// The key under `[listen]`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Dot => "dot",
            Self::Doh => "doh",
            Self::Doq => "doq",
        }
    }
}

/// One listener as it was asked for: the same place is the same listener, before and after a
/// change of settings. Port 0 is compared as such, not as the port it became.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// What is spoken.
    pub protocol: Protocol,
    /// The address as configured.
    pub address: SocketAddr,
    /// Tells those apart that ask for any free port of one address, from 0; else 0.
    pub number: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol.label(), self.address)
    }
}

impl Settings {
    /// Whether anything is listened on that shows a certificate.
    #[must_use]
    pub const fn needs_certificate(&self) -> bool {
        !(self.dot.is_empty() && self.doh.is_empty() && self.doq.is_empty())
    }

    /// The listeners asked for, plain ones first. An address that is listed twice is one listener;
    /// port 0 twice is two.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for protocol in Protocol::ALL {
            let addresses = match protocol {
                Protocol::Dns => &self.dns,
                Protocol::Dot => &self.dot,
                Protocol::Doh => &self.doh,
                Protocol::Doq => &self.doq,
            };
            let mut seen: HashMap<SocketAddr, usize> = HashMap::new();
            for &address in addresses {
                let times = seen.entry(address).or_insert(0);
                if *times == 0 || address.port() == 0 {
                    places.push(Place {
                        protocol,
                        address,
                        number: *times,
                    });
                    *times += 1;
                }
            }
        }
        places
    }

    /// Where a protocol is listened on.
    pub(super) const fn addresses_mut(&mut self, protocol: Protocol) -> &mut Vec<SocketAddr> {
        match protocol {
            Protocol::Dns => &mut self.dns,
            Protocol::Dot => &mut self.dot,
            Protocol::Doh => &mut self.doh,
            Protocol::Doq => &mut self.doq,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_twice_is_one_place_and_any_port_twice_is_two() {
        let fixed: SocketAddr = "127.0.0.1:5300".parse().unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let settings = Settings {
            dns: vec![fixed, fixed, any, any],
            dot: vec![fixed],
            doh: Vec::new(),
            doq: Vec::new(),
            ..Settings::default()
        };
        let places: Vec<_> = settings
            .places()
            .iter()
            .map(|place| (place.to_string(), place.number))
            .collect();
        let expected = [
            ("dns 127.0.0.1:5300", 0),
            ("dns 127.0.0.1:0", 0),
            ("dns 127.0.0.1:0", 1),
            ("dot 127.0.0.1:5300", 0),
        ];
        assert_eq!(
            places,
            expected.map(|(text, number)| (text.to_owned(), number))
        );
    }
}
