//! What the access room is told.

use std::{fmt, net::IpAddr};

/// Who may ask, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The networks whose members may ask.
    pub allow: Vec<Network>,
    /// Queries per second that one client prefix (IPv4 /24, IPv6 /56) may send; 0 means any number.
    pub rate_limit_per_s: u32,
}

impl Default for Settings {
    /// Loopback, private and link-local addresses, as often as they like.
    fn default() -> Self {
        let mut allow = Vec::new();
        for word in ["loopback", "private", "link-local"] {
            allow.extend(Network::parse(word).unwrap_or_default());
        }
        Self {
            allow,
            rate_limit_per_s: 0,
        }
    }
}

/// An address prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Network {
    /// Reads `loopback`, `private`, `link-local`, `all`, an address, or an address with a prefix
    /// length (`192.0.2.0/24`). `None` when it is none of these.
    #[must_use]
    pub fn parse(text: &str) -> Option<Vec<Self>> {
        let listed = match text {
            "loopback" => vec!["127.0.0.0/8", "::1/128"],
            "private" => vec![
                "10.0.0.0/8",
                "172.16.0.0/12",
                "192.168.0.0/16",
                "100.64.0.0/10",
                "fc00::/7",
            ],
            "link-local" => vec!["169.254.0.0/16", "fe80::/10"],
            "all" => vec!["0.0.0.0/0", "::/0"],
            other => vec![other],
        };
        listed.into_iter().map(Self::parse_one).collect()
    }

    fn parse_one(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (
                address.parse::<IpAddr>().ok()?,
                Some(bits.parse::<u8>().ok()?),
            ),
            None => (text.parse::<IpAddr>().ok()?, None),
        };
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = bits.unwrap_or(width);
        (prefix_bits <= width).then_some(Self {
            address,
            prefix_bits,
        })
    }

    /// Whether `address` has this prefix. An IPv4 address in IPv6 clothing counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let shift = 32 - u32::from(self.prefix_bits);
                u32::from(ours).checked_shr(shift) == u32::from(theirs).checked_shr(shift)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let shift = 128 - u32::from(self.prefix_bits);
                u128::from(ours).checked_shr(shift) == u128::from(theirs).checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    /// Address and prefix length, `192.0.2.0/24`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}
