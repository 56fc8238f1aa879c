//! From an upstream as people write it to checked settings.
//!
//! | written | means |
//! |---|---|
//! | `quad9`, `nextdns:ID` | a resolver of the catalogue, over DoH |
//! | `9.9.9.9`, `9.9.9.9:53`, `[2620:fe::fe]:53` | plain DNS over UDP |
//! | `9.9.9.9#dns.quad9.net`, `9.9.9.9@853#dns.quad9.net` | DoT to this address, with this name in the certificate |
//! | `udp://`, `tcp://`, `tls://`, `quic://` host | that transport |
//! | `https://`, `h3://` host, path | DoH over HTTP/2 or HTTP/3 |
//! | `sdns://` | a DNS stamp |
//!
//! A host is an address, a host the catalogue knows, or any other: its addresses are given beside
//! it, or looked up later, where a certificate proves who answers. Nothing is looked up here.

use std::net::{IpAddr, SocketAddr};

use data_encoding::BASE64;
use rustls::pki_types::{CertificateDer, ServerName};
use thiserror::Error;

use super::{
    catalogue,
    settings::{LookUp, Pin, UpstreamSettings},
    stamp::{self, Stamp, StampError},
};
use crate::{handler::Transport, wire::Name};

/// The path of a DoH endpoint when none is written; every public service has it or says its own.
const DEFAULT_PATH: &str = "/dns-query";
/// The part of URI templates that a POST does not use (RFC 8484, section 4.1).
const TEMPLATE_VARIABLE: &str = "{?dns}";

/// What may be said beside the URL.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The name in logs, metrics and routes; default: the catalogue name, or the URL up to its path.
    pub name: Option<String>,
    /// The name the certificate must be valid for; default: the host of the URL.
    pub server_name: Option<String>,
    /// Where to connect, instead of the host of the URL; the port stays the URL's.
    pub addresses: Vec<IpAddr>,
    /// Who is asked for the addresses of the host: upstreams as written, all with addresses.
    pub bootstrap: Vec<String>,
    /// Roots trusted for this upstream beside the public ones.
    pub ca: Vec<CertificateDer<'static>>,
    /// Pins as written: `sha256/` and 44 characters of base64.
    pub pins: Vec<String>,
    /// Share of the traffic under the strategy `weighted`; default: 1.
    pub weight: Option<u32>,
}

/// Why an upstream cannot be used as written. The operator is at fault; the text says what to
/// write instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// Nothing is written.
    #[error(
        "is empty; write an address, a url such as \"tls://9.9.9.9\", or a name such as \"quad9\""
    )]
    Empty,
    /// A scheme nobody here speaks.
    #[error("the scheme \"{scheme}://\" is unknown; write {instead}")]
    Scheme {
        /// As written.
        scheme: String,
        /// What to write.
        instead: &'static str,
    },
    /// No scheme, no address, and not in the catalogue.
    #[error("{name:?} is neither a url, nor an address, nor a known resolver; {}", match .suggestion {
        Some(close) => format!("did you mean {close:?}?"),
        None => "write it with its scheme, such as \"tls://dns.example\"".to_owned(),
    })]
    Unknown {
        /// As written.
        name: String,
        /// The closest name of the catalogue.
        suggestion: Option<&'static str>,
    },
    /// The service does not exist any more.
    #[error("{service} ended its public service {when}; use another, for example {instead:?}")]
    Ended {
        /// The service.
        service: &'static str,
        /// When.
        when: &'static str,
        /// What to write.
        instead: &'static str,
    },
    /// The host is neither an address nor a host name.
    #[error("{0:?} is neither an address nor a host name")]
    Host(String),
    /// An address of version 6 without its brackets.
    #[error("put the address in brackets: \"[{0}]\"")]
    Brackets(String),
    /// A host name beyond ASCII.
    #[error("write the host name {0:?} in its ASCII form (xn--)")]
    NotAscii(String),
    /// The port is no number from 1 to 65535.
    #[error("{0:?} is no port; ports are numbers from 1 to 65535")]
    Port(String),
    /// A user name in the URL.
    #[error("a user name in the url is not supported; remove everything before the @")]
    UserInfo,
    /// A path on a transport without paths.
    #[error(
        "\"{scheme}://\" takes no path; remove {path:?}, or write https:// if this is a DoH endpoint"
    )]
    Path {
        /// The scheme.
        scheme: &'static str,
        /// The path as written.
        path: String,
    },
    /// The path cannot be put in an HTTP request.
    #[error("the path {0:?} has characters that a url cannot have")]
    PathCharacters(String),
    /// A host name without a certificate that could prove who answers at its addresses.
    #[error(
        "the addresses of {0:?} are not known here, and plain DNS cannot show that those looked up are right; \
         add `addresses = [\"...\"]`, or write tls:// or https://"
    )]
    NoAddresses(String),
    /// Nothing is to be looked up.
    #[error("no host name is to be looked up: {0}; remove this key")]
    BootstrapUnused(&'static str),
    /// A server for look-ups cannot be used as written.
    #[error("{text:?}: {source}")]
    Bootstrap {
        /// As written.
        text: String,
        /// What is wrong with it.
        source: Box<UrlError>,
    },
    /// A server for look-ups is a host name itself.
    #[error(
        "to find {0:?}, somebody else would have to be asked first; write an address, such as \
         \"9.9.9.9\" or \"tls://1.1.1.1\""
    )]
    BootstrapHost(String),
    /// NextDNS answers by personal set-up only.
    #[error("write \"nextdns:\" and your configuration's id, such as \"nextdns:abc123\"")]
    NeedsId,
    /// Certificates are meaningless on a plain transport.
    #[error("there is no certificate on \"{scheme}://\"; remove this key or write tls://")]
    NotEncrypted {
        /// The key that makes no sense.
        key: &'static str,
        /// The scheme.
        scheme: &'static str,
    },
    /// `server_name` is no host name.
    #[error(
        "{0:?} is no name that a certificate can be valid for; write a host name or an address"
    )]
    ServerName(String),
    /// A pin is not written as one.
    #[error("{0:?} is no pin; write \"sha256/\" and the digest in base64, 44 characters")]
    Pin(String),
    /// The stamp cannot be used.
    #[error(transparent)]
    Stamp(#[from] StampError),
}

impl UrlError {
    /// The key of the upstream's table that must be corrected.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::ServerName(_) => "server_name",
            Self::Pin(_) => "pin",
            Self::NoAddresses(_) => "addresses",
            Self::BootstrapUnused(_) | Self::Bootstrap { .. } | Self::BootstrapHost(_) => {
                "bootstrap"
            }
            Self::NotEncrypted { key, .. } => key,
            _ => "url",
        }
    }
}

/// Turns one upstream as written, and what is said beside it, into settings.
///
/// # Errors
/// When something is written wrongly, or the host's addresses are not known; see [`UrlError`].
pub fn parse(url: &str, overrides: Overrides) -> Result<UpstreamSettings, UrlError> {
    Endpoint::read(url.trim())?.with(overrides)
}

/// What the URL alone says.
#[derive(Debug)]
struct Endpoint {
    name: String,
    transport: Transport,
    host: Host,
    /// Where to connect where it is not the host.
    addresses: Vec<IpAddr>,
    port: u16,
    /// The port in HTTP's `:authority`.
    authority_port: u16,
    path: String,
    pins: Vec<Pin>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    Name(String),
}

impl Endpoint {
    fn read(url: &str) -> Result<Self, UrlError> {
        if url.is_empty() {
            return Err(UrlError::Empty);
        }
        match url.split_once("://") {
            Some((scheme, rest)) => {
                let scheme = scheme.to_ascii_lowercase();
                if scheme == stamp::SCHEME {
                    return Self::from_stamp(&Stamp::parse(rest)?);
                }
                Self::from_url(transport(&scheme)?, rest)
            }
            None => Self::without_scheme(url),
        }
    }

    fn from_url(transport: Transport, rest: &str) -> Result<Self, UrlError> {
        // `#192.0.2.1`, as some write the addresses of a DoH host.
        let (rest, addresses) = match rest.split_once('#') {
            Some((rest, fragment)) => (rest, addresses(fragment)?),
            None => (rest, Vec::new()),
        };
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let (host, port) = host_and_port(authority)?;
        let scheme = scheme(transport);
        let port = port.unwrap_or(default_port(transport));
        let path = if is_http(transport) {
            https_path(path, &host)?
        } else if path.is_empty() || path == "/" {
            String::new()
        } else {
            return Err(UrlError::Path {
                scheme,
                path: path.to_owned(),
            });
        };
        // The path may hold a personal id and is no part of the name, which is logged.
        let name = format!("{scheme}://{}", authority.to_ascii_lowercase());
        Ok(Self {
            name,
            transport,
            host,
            addresses,
            port,
            authority_port: port,
            path,
            pins: Vec::new(),
        })
    }

    fn without_scheme(text: &str) -> Result<Self, UrlError> {
        if let Some((address, name)) = text.split_once('#') {
            return Self::address_and_name(address, name);
        }
        if let Some((service, id)) = text.split_once(':')
            && service.eq_ignore_ascii_case("nextdns")
        {
            let fits = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-';
            if id.is_empty() || !id.bytes().all(fits) {
                return Err(UrlError::NeedsId);
            }
            let rest = format!("{}/{id}", catalogue::NEXTDNS_HOST);
            return Self::from_url(Transport::Https, &rest).map(|endpoint| Self {
                name: "nextdns".to_owned(),
                ..endpoint
            });
        }
        if text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok() {
            let (host, port) = match text.parse::<IpAddr>() {
                Ok(address) => (Host::Address(address), None),
                Err(_) => host_and_port(text)?,
            };
            return Ok(Self::plain(text.to_owned(), host, port));
        }
        if let Some(entry) = catalogue::by_name(text) {
            if entry.https_host == catalogue::NEXTDNS_HOST {
                return Err(UrlError::NeedsId);
            }
            let rest = format!("{}{}", entry.https_host, entry.https_path);
            return Self::from_url(Transport::Https, &rest).map(|endpoint| Self {
                name: entry.name.to_owned(),
                ..endpoint
            });
        }
        still_there(text)?;
        Err(UrlError::Unknown {
            name: text.to_owned(),
            suggestion: catalogue::suggestion(text),
        })
    }

    /// `IP#name`, `IP:port#name` and, as unbound writes it, `IP@port#name`.
    fn address_and_name(address: &str, name: &str) -> Result<Self, UrlError> {
        let bad = || UrlError::Host(address.to_owned());
        let (host, port) = match address.split_once('@') {
            Some((address, port)) => (
                Host::Address(address.parse().map_err(|_| bad())?),
                Some(port_number(port)?),
            ),
            None => match address.parse() {
                Ok(address) => (Host::Address(address), None),
                Err(_) => host_and_port(address)?,
            },
        };
        let Host::Address(ip) = host else {
            return Err(bad());
        };
        let (Host::Name(host), None) = host_and_port(name)? else {
            return Err(UrlError::ServerName(name.to_owned()));
        };
        let port = port.unwrap_or(default_port(Transport::Tls));
        Ok(Self {
            name: format!("tls://{host}"),
            transport: Transport::Tls,
            host: Host::Name(host),
            addresses: vec![ip],
            port,
            authority_port: port,
            path: String::new(),
            pins: Vec::new(),
        })
    }

    fn plain(name: String, host: Host, port: Option<u16>) -> Self {
        let port = port.unwrap_or(default_port(Transport::Udp));
        Self {
            name,
            transport: Transport::Udp,
            host,
            addresses: Vec::new(),
            port,
            authority_port: port,
            path: String::new(),
            pins: Vec::new(),
        }
    }

    fn from_stamp(stamp: &Stamp) -> Result<Self, UrlError> {
        let (address, port) = match stamp.address.strip_prefix(':') {
            Some(port) => (None, Some(port_number(port)?)),
            None if stamp.address.is_empty() => (None, None),
            None => match host_and_port(&stamp.address)? {
                (Host::Address(address), port) => (Some(address), port),
                (Host::Name(name), _) => return Err(UrlError::Host(name)),
            },
        };
        let transport = stamp.transport;
        let (host, host_port) = match address {
            // Plain stamps have no host, and others need none when they have an address: the
            // certificate must then be valid for the address.
            Some(address) if stamp.host.is_empty() => (Host::Address(address), None),
            None if stamp.host.is_empty() => return Err(UrlError::Host(String::new())),
            _ => host_and_port(&stamp.host)?,
        };
        let authority_port = host_port.or(port).unwrap_or(default_port(transport));
        Ok(Self {
            name: format!("{}:{}", stamp::SCHEME, host.text()),
            transport,
            host,
            addresses: address.into_iter().collect(),
            port: port.unwrap_or(authority_port),
            authority_port,
            path: if is_http(transport) {
                check_path(&stamp.path)?
            } else {
                String::new()
            },
            pins: stamp
                .digests
                .iter()
                .copied()
                .map(Pin::TbsCertificate)
                .collect(),
        })
    }

    fn with(self, overrides: Overrides) -> Result<UpstreamSettings, UrlError> {
        let transport = self.transport;
        if !transport.is_encrypted() {
            let refused = [
                ("server_name", overrides.server_name.is_some()),
                ("ca", !overrides.ca.is_empty()),
                ("pin", !overrides.pins.is_empty()),
            ];
            if let Some((key, _)) = refused.iter().find(|(_, given)| *given) {
                let scheme = scheme(transport);
                return Err(UrlError::NotEncrypted { key, scheme });
            }
        }
        if overrides.addresses.is_empty()
            && let Host::Name(name) = &self.host
        {
            still_there(name)?;
        }
        let place = self.place(overrides.addresses, &overrides.bootstrap)?;
        let server_name = match overrides.server_name {
            Some(name) => Some(server_name(&name)?),
            None if transport.is_encrypted() => Some(self.host.server_name()?),
            None => None,
        };
        let mut pins = self.pins;
        for text in &overrides.pins {
            pins.push(pin(text)?);
        }
        let authority = match (is_http(transport), self.authority_port) {
            (false, _) => String::new(),
            (true, 443) => self.host.bracketed(),
            (true, port) => format!("{}:{port}", self.host.bracketed()),
        };
        Ok(UpstreamSettings {
            name: overrides.name.unwrap_or(self.name),
            transport,
            addresses: place
                .addresses
                .into_iter()
                .map(|address| SocketAddr::new(address, self.port))
                .collect(),
            look_up: place.look_up,
            server_name,
            authority,
            path: self.path,
            ca: overrides.ca,
            pins,
            weight: overrides.weight.unwrap_or(1),
        })
    }
}

/// Where to connect, or how to find that out.
struct Location {
    addresses: Vec<IpAddr>,
    look_up: Option<LookUp>,
}

impl From<Vec<IpAddr>> for Location {
    fn from(addresses: Vec<IpAddr>) -> Self {
        Self {
            addresses,
            look_up: None,
        }
    }
}

impl Endpoint {
    /// Where to connect, given what is written beside the URL. Addresses that are written win;
    /// servers to ask win over what the catalogue knows.
    fn place(&self, given: Vec<IpAddr>, bootstrap: &[String]) -> Result<Location, UrlError> {
        let unused = |why| match bootstrap {
            [] => Ok(()),
            _ => Err(UrlError::BootstrapUnused(why)),
        };
        if !given.is_empty() {
            unused("`addresses` are given")?;
            return Ok(given.into());
        }
        if !self.addresses.is_empty() {
            unused("the url has addresses")?;
            return Ok(self.addresses.clone().into());
        }
        let name = match &self.host {
            Host::Address(address) => {
                unused("the host of the url is an address")?;
                return Ok(vec![*address].into());
            }
            Host::Name(name) => name,
        };
        match self.host.addresses() {
            Ok(addresses) if bootstrap.is_empty() => Ok(addresses.into()),
            _ if !self.transport.is_encrypted() => Err(UrlError::NoAddresses(name.clone())),
            _ => Ok(Location {
                addresses: Vec::new(),
                look_up: Some(LookUp {
                    host: Name::parse(name).map_err(|_| UrlError::Host(name.clone()))?,
                    port: self.port,
                    servers: bootstrap
                        .iter()
                        .map(|text| server(text))
                        .collect::<Result<_, _>>()?,
                }),
            }),
        }
    }
}

/// A server that is asked for addresses.
fn server(text: &str) -> Result<UpstreamSettings, UrlError> {
    let settings = parse(text, Overrides::default()).map_err(|source| match source {
        UrlError::NoAddresses(_) => UrlError::BootstrapHost(text.to_owned()),
        source => UrlError::Bootstrap {
            text: text.to_owned(),
            source: Box::new(source),
        },
    })?;
    if settings.look_up.is_some() {
        return Err(UrlError::BootstrapHost(text.to_owned()));
    }
    Ok(settings)
}

impl Host {
    fn text(&self) -> String {
        match self {
            Self::Address(address) => address.to_string(),
            Self::Name(name) => name.clone(),
        }
    }

    /// As in a URL.
    fn bracketed(&self) -> String {
        match self {
            Self::Address(IpAddr::V6(address)) => format!("[{address}]"),
            other => other.text(),
        }
    }

    fn addresses(&self) -> Result<Vec<IpAddr>, UrlError> {
        match self {
            Self::Address(address) => Ok(vec![*address]),
            Self::Name(name) => {
                let personal = name
                    .strip_suffix(catalogue::NEXTDNS_HOST)
                    .filter(|rest| rest.ends_with('.'))
                    .map(|_| catalogue::NEXTDNS_HOST);
                catalogue::by_host(personal.unwrap_or(name))
                    .map(|entry| entry.addresses().collect())
                    .ok_or_else(|| UrlError::NoAddresses(name.clone()))
            }
        }
    }

    fn server_name(&self) -> Result<ServerName<'static>, UrlError> {
        match self {
            Self::Address(address) => Ok(ServerName::IpAddress((*address).into())),
            Self::Name(name) => server_name(name),
        }
    }
}

fn transport(scheme: &str) -> Result<Transport, UrlError> {
    let instead = match scheme {
        "udp" => return Ok(Transport::Udp),
        "tcp" => return Ok(Transport::Tcp),
        "tls" => return Ok(Transport::Tls),
        "https" => return Ok(Transport::Https),
        "h3" => return Ok(Transport::Http3),
        "quic" => return Ok(Transport::Quic),
        "dns" => "udp://",
        "dot" | "tcp-tls" => "tls://",
        "doh" | "h2" | "http" => "https://; plain HTTP is not offered",
        "http3" | "doh3" | "https3" => "h3://",
        "doq" => "quic://",
        _ => "one of udp://, tcp://, tls://, https://, h3://, quic://, sdns://",
    };
    Err(UrlError::Scheme {
        scheme: scheme.to_owned(),
        instead,
    })
}

const fn scheme(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        Transport::Https => "https",
        Transport::Http3 => "h3",
        Transport::Quic => "quic",
    }
}

const fn default_port(transport: Transport) -> u16 {
    match transport {
        Transport::Udp | Transport::Tcp => 53,
        Transport::Tls | Transport::Quic => 853,
        Transport::Https | Transport::Http3 => 443,
    }
}

const fn is_http(transport: Transport) -> bool {
    matches!(transport, Transport::Https | Transport::Http3)
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`.
fn host_and_port(text: &str) -> Result<(Host, Option<u16>), UrlError> {
    if let Some(rest) = text.strip_prefix('[') {
        let bad = || UrlError::Host(text.to_owned());
        let (address, after) = rest.split_once(']').ok_or_else(bad)?;
        let address = IpAddr::V6(address.parse().map_err(|_| bad())?);
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port_number(port)?),
            None if after.is_empty() => None,
            None => return Err(bad()),
        };
        return Ok((Host::Address(address), port));
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Err(UrlError::Brackets(text.to_owned()));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port_number(port)?)),
        None => (text, None),
    };
    Ok((host_name(host)?, port))
}

fn host_name(text: &str) -> Result<Host, UrlError> {
    if let Ok(address) = text.parse() {
        return Ok(Host::Address(address));
    }
    if !text.is_ascii() {
        return Err(UrlError::NotAscii(text.to_owned()));
    }
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    // A last label of digits makes it an address that is mistyped (WHATWG URL, section 3.5).
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = !last.is_empty() && last.bytes().all(|octet| octet.is_ascii_digit());
    match ServerName::try_from(name.as_str()) {
        Ok(ServerName::DnsName(_)) if !numeric => Ok(Host::Name(name)),
        _ => Err(UrlError::Host(text.to_owned())),
    }
}

fn port_number(text: &str) -> Result<u16, UrlError> {
    let digits = text.bytes().all(|octet| octet.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(UrlError::Port(text.to_owned())),
    }
}

fn addresses(fragment: &str) -> Result<Vec<IpAddr>, UrlError> {
    fragment
        .split(',')
        .map(|text| {
            let bare = text.trim().trim_start_matches('[').trim_end_matches(']');
            bare.parse().map_err(|_| UrlError::Host(text.to_owned()))
        })
        .collect()
}

fn https_path(path: &str, host: &Host) -> Result<String, UrlError> {
    let path = path.strip_suffix(TEMPLATE_VARIABLE).unwrap_or(path);
    if path.is_empty() {
        let known = match host {
            Host::Name(name) => catalogue::by_host(name).map(|entry| entry.https_path),
            Host::Address(_) => None,
        };
        return Ok(known.unwrap_or(DEFAULT_PATH).to_owned());
    }
    check_path(path)
}

fn check_path(path: &str) -> Result<String, UrlError> {
    let path = path.strip_suffix(TEMPLATE_VARIABLE).unwrap_or(path);
    if path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok() {
        Ok(path.to_owned())
    } else {
        Err(UrlError::PathCharacters(path.to_owned()))
    }
}

fn still_there(name: &str) -> Result<(), UrlError> {
    match catalogue::ended(name) {
        None => Ok(()),
        Some(ended) => Err(UrlError::Ended {
            service: ended.name,
            when: ended.when,
            instead: ended.instead,
        }),
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, UrlError> {
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    ServerName::try_from(name).map_err(|_| UrlError::ServerName(text.to_owned()))
}

fn pin(text: &str) -> Result<Pin, UrlError> {
    text.strip_prefix("sha256/")
        .and_then(|digest| BASE64.decode(digest.as_bytes()).ok())
        .and_then(|digest| digest.try_into().ok())
        .map(Pin::Spki)
        .ok_or_else(|| UrlError::Pin(text.to_owned()))
}

#[cfg(test)]
#[path = "url_tests.rs"]
mod tests;
