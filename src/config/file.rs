//! The configuration file as written: which keys there are and what type each has. Every key is
//! optional; the defaults named here are applied in `check`.
//!
//! Each field says meaning, range, default and what a reload does with a change: *live* (swapped
//! under running queries), *rebuilt* (that part closes and opens again), or *restart* (reported,
//! not applied).

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use toml::de::DeTable;

use super::{
    problem::Collector,
    settings::{Level, LogFormat},
    table::{Table, Written, nearest},
    values,
};
use crate::{access::Network, anchors, upstream::Strategy, wire::Name};

/// A key that may be absent.
pub(super) type Key<T> = Option<Written<T>>;
/// A list that may be absent; an empty one is not the same.
pub(super) type List<T> = Option<Vec<Written<T>>>;

/// The file as written.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) listen: Listen,
    pub(super) tls: Tls,
    pub(super) access: Access,
    /// `[[upstream]]`, in order; none means `quad9`, then `cloudflare`. Rebuilt, each by itself.
    pub(super) upstreams: Vec<Written<Upstream>>,
    pub(super) forward: Forward,
    pub(super) cache: Cache,
    pub(super) routes: Vec<Written<Route>>,
    pub(super) dnssec: Dnssec,
    pub(super) names: Names,
    pub(super) admin: Admin,
    pub(super) state: State,
    pub(super) log: Log,
}

/// `[listen]`: where clients are served. An absent list means the unprivileged port of that
/// transport on loopback, an empty one switches the transport off. Rebuilt, each by itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Listen {
    /// UDP and TCP; default `127.0.0.1:5300` and `[::1]:5300`.
    pub(super) dns: List<SocketAddr>,
    /// DNS over TLS; default port 8853.
    pub(super) dot: List<SocketAddr>,
    /// DNS over QUIC; default port 8853.
    pub(super) doq: List<SocketAddr>,
    /// DNS over HTTPS, all versions; default port 8443.
    pub(super) doh: List<SocketAddr>,
    /// Path of the DoH endpoint; default `/dns-query`. Live.
    pub(super) doh_path: Key<String>,
}

/// `[tls]`: what the encrypted listeners show. Live.
#[derive(Clone, Debug, Default)]
pub(super) struct Tls {
    /// PEM file with the chain; needs `key`. Default: a local CA makes one.
    pub(super) certificate: Key<PathBuf>,
    /// PEM file with the private key; needs `certificate`.
    pub(super) key: Key<PathBuf>,
    /// Host names and addresses of the certificate that the local CA makes.
    pub(super) names: List<String>,
}

/// `[access]`: who may ask. Live.
#[derive(Clone, Debug, Default)]
pub(super) struct Access {
    /// `loopback`, `private`, `link-local`, `all`, addresses, networks; default the first three.
    pub(super) allow: List<Vec<Network>>,
    /// Queries per second and client prefix; default 0, which is any number.
    pub(super) rate_limit: Key<u64>,
}

/// One `[[upstream]]`.
#[derive(Clone, Debug, Default)]
pub(super) struct Upstream {
    /// URL, DNS stamp or name in the catalogue. The one key that must be there.
    pub(super) url: Key<String>,
    /// Name in logs and metrics; default from the URL.
    pub(super) name: Key<String>,
    /// Name its certificate must have; default from the URL.
    pub(super) server_name: Key<String>,
    /// Where it is, so that its host name needs no lookup.
    pub(super) addresses: List<IpAddr>,
    /// Who is asked for the addresses of its host name; default the other upstreams.
    pub(super) bootstrap: List<String>,
    /// PEM file with roots trusted for this upstream beside the public ones.
    pub(super) ca: Key<PathBuf>,
    /// `sha256/` and the base64 digest of a public key, one of which must match.
    pub(super) pin: List<String>,
    /// Share of the queries under the strategy `weighted`; default 1, 0 for a last resort.
    pub(super) weight: Key<u64>,
}

/// `[forward]`: how upstreams are used. Live.
#[derive(Clone, Debug, Default)]
pub(super) struct Forward {
    /// `fastest` (default), `ordered`, `weighted` or `spread`.
    pub(super) strategy: Key<Strategy>,
    /// How long a working upstream may take; 100 ms to 30 s, default 4 s.
    pub(super) timeout: Key<Duration>,
}

/// `[cache]`. File: restart. The rest live: the size at once, times for what is stored from then on.
#[derive(Clone, Debug, Default)]
pub(super) struct Cache {
    /// Memory of all entries, octets; 64 KiB to 64 GiB, default 32 MiB.
    pub(super) size: Key<u64>,
    /// Shortest time a positive answer is kept; whole seconds, default 0.
    pub(super) min_ttl: Key<Duration>,
    /// Longest time anything is kept; whole seconds, default 1 day.
    pub(super) max_ttl: Key<Duration>,
    /// Longest time a negative answer is kept; whole seconds, default 1 hour.
    pub(super) max_negative_ttl: Key<Duration>,
    /// How long after its expiry an answer may stand in for one that cannot be had; whole seconds,
    /// at most 7 days, default 1 day, 0 switches it off.
    pub(super) serve_stale: Key<Duration>,
    /// File in which answers outlive the process, seen from the state directory; default none, since
    /// it tells which names were asked for. Restart.
    pub(super) file: Key<PathBuf>,
    /// Whether answers in use are asked for again shortly before they expire; default true.
    pub(super) prefetch: Key<bool>,
}

/// One `[[route]]`. Live.
#[derive(Clone, Debug, Default)]
pub(super) struct Route {
    /// The zones whose names go another way.
    pub(super) zones: List<Name>,
    /// The names of the upstreams that are asked for them.
    pub(super) upstreams: List<String>,
    /// Whether the zones are validated, `on` (default) or `off`. On, a private zone is insecure
    /// where the public tree proves that it does not have its name.
    pub(super) dnssec: Key<bool>,
}

/// `[dnssec]`: how answers are validated. Live; answers judged otherwise are forgotten.
#[derive(Clone, Debug, Default)]
pub(super) struct Dnssec {
    /// Whether answers are validated; default true.
    pub(super) validate: Key<bool>,
    /// Files with DS or DNSKEY lines, or IANA's XML; default the root anchors built in.
    pub(super) trust_anchors: List<PathBuf>,
    /// Names at and below which nothing is validated, each until a day (RFC 7646).
    pub(super) negative_trust_anchors: List<(Name, u64)>,
    /// Names that set a clock, with those below; beside the built-in ones. Default none.
    pub(super) clock_names: List<Name>,
    /// Whether RSASHA1 and SHA-1 digests are supported; default false.
    pub(super) sha1: Key<bool>,
    /// Tolerance for signature times; whole seconds, at most 1 hour, default 5 minutes.
    pub(super) skew: Key<Duration>,
}

/// `[names]`: names answered here. Live.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// Whether special-use names (RFC 6761 and its kin) are not forwarded; default true.
    pub(super) special_use: Key<bool>,
}

/// `[admin]`. Restart.
#[derive(Clone, Debug, Default)]
pub(super) struct Admin {
    /// The control socket, seen from the state directory; empty for none, default `truename.sock`.
    pub(super) socket: Key<PathBuf>,
}

/// `[state]`. Restart.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Directory for the local CA and all else that outlives the process; default from the
    /// surroundings.
    pub(super) directory: Key<PathBuf>,
}

/// `[log]`. Live.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    /// `error`, `warn`, `info` (default), `debug` or `trace`.
    pub(super) level: Key<Level>,
    /// `text` (default) or `json`.
    pub(super) format: Key<LogFormat>,
}

/// Takes the file's tables apart; what is wrong goes to `problems`, and its key stays absent.
pub(super) fn read(root: &DeTable<'_>, problems: &mut Collector<'_>) -> File {
    let mut root = Table::root(root, problems);
    let file = File {
        listen: root.table("listen", |listen| Listen {
            dns: listen.texts("dns", "127.0.0.1:53", |text| {
                values::socket_address(text, 53)
            }),
            dot: listen.texts("dot", "127.0.0.1:853", |text| {
                values::socket_address(text, 853)
            }),
            doq: listen.texts("doq", "127.0.0.1:853", |text| {
                values::socket_address(text, 853)
            }),
            doh: listen.texts("doh", "127.0.0.1:443", |text| {
                values::socket_address(text, 443)
            }),
            doh_path: listen.text("doh_path", "/dns-query", doh_path),
        }),
        tls: root.table("tls", |tls| Tls {
            certificate: tls.text("certificate", "fullchain.pem", path),
            key: tls.text("key", "key.pem", path),
            names: tls.texts("names", "router.lan", tls_name),
        }),
        access: root.table("access", |access| Access {
            allow: access.texts("allow", "private", networks),
            rate_limit: access.count("rate_limit", u64::from(u32::MAX)),
        }),
        upstreams: root.tables("upstream", |upstream| Upstream {
            url: upstream.text("url", "quad9", filled),
            name: upstream.text("name", "office", filled),
            server_name: upstream.text("server_name", "dns.example", filled),
            addresses: upstream.texts("addresses", "192.0.2.1", address),
            bootstrap: upstream.texts("bootstrap", "9.9.9.9", filled),
            ca: upstream.text("ca", "ca.pem", path),
            pin: upstream.texts("pin", "sha256/…", filled),
            weight: upstream.count("weight", u64::from(u32::MAX)),
        }),
        forward: root.table("forward", |forward| Forward {
            strategy: forward.text("strategy", "fastest", |text| {
                named(text, &Strategy::ALL.map(|it| (it.label(), it)))
            }),
            timeout: forward.text("timeout", "4s", values::duration),
        }),
        cache: root.table("cache", |cache| Cache {
            size: cache.size("size", values::size),
            min_ttl: cache.text("min_ttl", "0s", whole_seconds),
            max_ttl: cache.text("max_ttl", "1d", whole_seconds),
            max_negative_ttl: cache.text("max_negative_ttl", "1h", whole_seconds),
            serve_stale: cache.text("serve_stale", "1d", whole_seconds),
            file: cache.text("file", "cache.bin", path),
            prefetch: cache.flag("prefetch"),
        }),
        routes: root.tables("route", |route| Route {
            zones: route.texts("zones", "corp.example", zone),
            upstreams: route.texts("upstreams", "office", filled),
            dnssec: route.text("dnssec", "off", |text| {
                named(text, &[("on", true), ("off", false)])
            }),
        }),
        dnssec: root.table("dnssec", |dnssec| Dnssec {
            validate: dnssec.flag("validate"),
            trust_anchors: dnssec.texts("trust_anchors", "root.key", path),
            negative_trust_anchors: dnssec.texts(
                "negative_trust_anchors",
                "broken.example until 2027-01-31",
                negative_trust_anchor,
            ),
            clock_names: dnssec.texts("clock_names", "ntp.example", clock_name),
            sha1: dnssec.flag("sha1"),
            skew: dnssec.text("skew", "5m", whole_seconds),
        }),
        names: root.table("names", |names| {
            names.texts("hosts", "/etc/hosts", path);
            names.flag("rebinding_protection");
            names.texts("rebinding_allow", "plex.direct", filled);
            Names {
                special_use: names.flag("special_use"),
            }
        }),
        admin: root.table("admin", |admin| {
            admin.texts("http", "127.0.0.1:8053", |text| {
                values::socket_address(text, 8053)
            });
            Admin {
                // Empty is a value: no socket.
                socket: admin.text("socket", "truename.sock", |text| Ok(PathBuf::from(text))),
            }
        }),
        state: root.table("state", |state| State {
            directory: state.text("directory", "/var/lib/truename", path),
        }),
        log: root.table("log", |log| {
            log.text("queries", "off", |text| {
                one_of(text, &["off", "sampled", "all"])
            });
            Log {
                level: log.text("level", "info", |text| named(text, &Level::ALL)),
                format: log.text("format", "text", |text| named(text, &LogFormat::ALL)),
            }
        }),
    };
    read_unbuilt(&mut root);
    root.finish();
    file
}

/// The tables of which nothing is built yet: their keys are known and their types checked, so that
/// a spelling mistake is told apart from a missing feature. What they ask for, `unbuilt` refuses.
fn read_unbuilt(root: &mut Table<'_, '_, '_>) {
    root.tables("record", |record| {
        record.text("name", "nas.lan", filled);
        record.text("type", "A", filled);
        record.text("data", "192.168.1.5", filled);
        record.text("ttl", "5m", values::duration);
    });
}

fn filled(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("is empty; write a value or remove the key".to_owned());
    }
    Ok(text.to_owned())
}

fn path(text: &str) -> Result<PathBuf, String> {
    filled(text).map(PathBuf::from)
}

fn whole_seconds(text: &str) -> Result<Duration, String> {
    let duration = values::duration(text)?;
    if duration.subsec_millis() != 0 {
        return Err(format!(
            "{text:?} is not a whole number of seconds; write it as \"{}s\"",
            duration.as_secs().saturating_add(1)
        ));
    }
    if duration.as_secs() > u64::from(i32::MAX.unsigned_abs()) {
        return Err(format!(
            "{text:?} is longer than a TTL can be (RFC 2181, section 8); write \"1d\""
        ));
    }
    Ok(duration)
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| {
        if let Ok(with_port) = text.parse::<SocketAddr>() {
            let address = with_port.ip();
            return format!("{text:?} has a port, which belongs into `url`; write \"{address}\"");
        }
        format!("{text:?} is not an IP address; write it like \"192.0.2.1\" or \"2001:db8::1\"")
    })
}

fn networks(text: &str) -> Result<Vec<Network>, String> {
    Network::parse(text).ok_or_else(|| {
        let words = ["loopback", "private", "link-local", "all"];
        match nearest(text, &words) {
            Some(word) => format!("{text:?} is not a network; did you mean \"{word}\"?"),
            None => format!(
                "{text:?} is not a network; write \"loopback\", \"private\", \"link-local\", \
                 \"all\", or a prefix such as \"192.168.1.0/24\""
            ),
        }
    })
}

/// The path of the DoH endpoint, without the `{?dns}` that URI templates have (RFC 8484).
fn doh_path(text: &str) -> Result<String, String> {
    let plain = text.split(['{', '?', '#']).next().unwrap_or("");
    let printable = plain.bytes().all(|octet| octet.is_ascii_graphic());
    if plain == text && printable && text.starts_with('/') {
        return Ok(text.to_owned());
    }
    let instead = if printable && !plain.is_empty() {
        format!("/{}", plain.trim_start_matches('/'))
    } else {
        "/dns-query".to_owned()
    };
    Err(format!("{text:?} is not a path; write it as \"{instead}\""))
}

fn zone(text: &str) -> Result<Name, String> {
    Name::parse(text).map_err(|error| format!("{text:?} is not a zone: {error}"))
}

/// A name that sets a clock; a single label would open a whole part of the tree.
fn clock_name(text: &str) -> Result<Name, String> {
    let name = Name::parse(text).map_err(|error| format!("{text:?} is not a name: {error}"))?;
    if name.label_count() < 2 {
        return Err(format!(
            "{text:?} is too wide: names below it are answered unvalidated while the clock is \
             wrong; write the time server's whole name, such as \"ntp.example\""
        ));
    }
    Ok(name)
}

/// `NAME until DATE`: a name and the seconds since 1970 at which it is validated again.
fn negative_trust_anchor(text: &str) -> Result<(Name, u64), String> {
    let wanted =
        |what: &str| format!("{text:?} {what}; write it like \"broken.example until 2027-01-31\"");
    let (name, date) = text
        .split_once(" until ")
        .ok_or_else(|| wanted("does not say until when it holds"))?;
    let name =
        Name::parse(name.trim()).map_err(|error| wanted(&format!("has no name: {error}")))?;
    let date = date.trim();
    let moment = if date.len() == 10 {
        format!("{date}T00:00:00Z")
    } else {
        date.to_owned()
    };
    let until = anchors::time_from_text(&moment).ok_or_else(|| wanted("has no date"))?;
    Ok((name, until))
}

/// A host name or an address, as a certificate names them.
fn tls_name(text: &str) -> Result<String, String> {
    let host = text.strip_suffix('.').unwrap_or(text);
    match rustls::pki_types::ServerName::try_from(host) {
        Ok(_) => Ok(host.to_ascii_lowercase()),
        Err(_) => Err(format!(
            "{text:?} is neither a host name nor an IP address; write it like \"router.lan\" or \
             \"192.168.1.1\", without port or wildcard"
        )),
    }
}

fn one_of(text: &str, known: &[&'static str]) -> Result<(), String> {
    if known.contains(&text) {
        Ok(())
    } else {
        Err(not_one_of(text, known))
    }
}

fn named<T: Copy>(text: &str, known: &[(&'static str, T)]) -> Result<T, String> {
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    known
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| not_one_of(text, &names))
}

fn not_one_of(text: &str, known: &[&str]) -> String {
    let quoted: Vec<String> = known.iter().map(|name| format!("\"{name}\"")).collect();
    format!(
        "{text:?} is not known here; write one of {}",
        quoted.join(", ")
    )
}
