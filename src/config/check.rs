//! From the file as written to checked settings: defaults, ranges, and what must hold between
//! keys.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Options, Surroundings,
    file::{self, File, Key, List},
    problem::{Collector, Place},
    routes::{self, Route},
    settings::{
        CertificateFiles, DnssecSettings, LogSettings, NamedFile, Settings, TlsSettings,
        UpstreamEntry,
    },
    table::Written,
    upstreams::{self, Draft, Listening, Places},
    values,
};
use crate::{access, cache, listener, names, upstream};

/// The upstreams when none are configured: both validate, filter no names but (quad9) malware,
/// and have IPv4 and IPv6 addresses in the catalogue.
pub const DEFAULT_UPSTREAMS: [&str; 2] = ["quad9", "cloudflare"];

/// The control socket's name in the state directory.
const ADMIN_SOCKET: &str = "truename.sock";

/// The most upstreams: each keeps connections and statistics.
const UPSTREAMS_MAX: usize = 64;

/// Above this an expired answer misleads more than none: names change hands. RFC 8767, section 5,
/// proposes one to three days.
const SERVE_STALE_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Below this a cache holds a few hundred answers and evicts what was just asked for.
const CACHE_OCTETS_MIN: u64 = 64 * 1024;

/// Above this a size is a slip of the keyboard.
const CACHE_OCTETS_MAX: u64 = 64 * 1024 * 1024 * 1024;

/// Below this even a near upstream cannot answer what it has to look up.
const TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// Above this every client has long gone (stub resolvers give up after 5 s).
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// More tolerance for signature times than this would keep expired data alive.
const SKEW_MAX: Duration = Duration::from_secs(3600);

/// How long an upstream may take when nothing is configured: just less than a stub waits.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(4);

/// Applies defaults and flags to `file`. What is wrong goes to `problems`; the settings are only
/// of use when there are none.
pub(super) fn check(
    file: File,
    source: Option<&Path>,
    surroundings: &Surroundings,
    options: &Options,
    problems: &mut Collector<'_>,
) -> Settings {
    let base = surroundings.base(source);
    let StatePlaces {
        directory: state_directory,
        cache_file,
        admin_socket,
    } = state_places(&file, &base, surroundings);
    let written = listening(&file.listen, problems);
    let listen = if options.listen.is_empty() {
        listen(file.listen, surroundings, problems)
    } else {
        listen_flags(file.listen.doh_path, &options.listen, problems)
    };
    let entries = if options.upstreams.is_empty() {
        entries(file.upstreams, &base, problems)
    } else {
        let flag = |url: &String| draft(url, Place::Flag("--upstream"));
        options.upstreams.iter().map(flag).collect()
    };
    let checked = upstreams::all(entries, problems);
    let listening = listeners(&listen, written, !options.listen.is_empty());
    if !options.serves_nobody {
        checked.check_loops(&listening, &surroundings.addresses, problems);
    }
    let routes = routes::all(file.routes, &checked.settings, problems);
    let upstream = upstream::Settings {
        upstreams: checked.settings.clone(),
        routes: routes.iter().map(|route| route.way.clone()).collect(),
        strategy: file
            .forward
            .strategy
            .map(|strategy| strategy.value)
            .unwrap_or_default(),
        timeout: timeout(file.forward.timeout, problems),
    };
    checked.check_look_ups(&upstream, problems);
    Settings {
        source: source.map(Path::to_owned),
        listen,
        tls: tls(file.tls, &base, problems),
        access: access(file.access),
        upstream,
        upstream_entries: checked.entries,
        cache: cache(file.cache, problems),
        cache_file,
        dnssec: dnssec(file.dnssec, &routes, &base, problems),
        names: names(&file.names, &routes),
        state_directory,
        admin_socket,
        log: LogSettings {
            level: file.log.level.map(|level| level.value).unwrap_or_default(),
            format: file
                .log
                .format
                .map(|format| format.value)
                .unwrap_or_default(),
        },
    }
}

/// What lies in the state directory unless its path is absolute.
pub(super) struct StatePlaces {
    directory: PathBuf,
    cache_file: Option<PathBuf>,
    pub(super) admin_socket: Option<PathBuf>,
}

/// Where the file, however wrong the rest of it is, wants its state.
pub(super) fn state_places(file: &File, base: &Path, surroundings: &Surroundings) -> StatePlaces {
    let directory = match &file.state.directory {
        Some(directory) => base.join(&directory.value),
        None => surroundings.default_state_directory(),
    };
    let cache_file = file.cache.file.as_ref();
    let socket = match &file.admin.socket {
        Some(socket) => &socket.value,
        None => Path::new(ADMIN_SOCKET),
    };
    StatePlaces {
        cache_file: cache_file.map(|file| directory.join(&file.value)),
        admin_socket: (!socket.as_os_str().is_empty()).then(|| directory.join(socket)),
        directory,
    }
}

/// The addresses of the file's listeners with their places.
fn listening(written: &file::Listen, problems: &Collector<'_>) -> Vec<Listening> {
    let lists = [
        ("listen.dns", &written.dns),
        ("listen.dot", &written.dot),
        ("listen.doq", &written.doq),
        ("listen.doh", &written.doh),
    ];
    let of_list = |(key, list)| {
        let list: &List<SocketAddr> = list;
        let one = move |address: &Written<SocketAddr>| Listening {
            key,
            address: address.value,
            place: problems.place(address.span.start),
        };
        list.iter().flatten().map(one).collect::<Vec<_>>()
    };
    lists.into_iter().flat_map(of_list).collect()
}

/// All addresses that are listened on, each with the place where it is `written`, if it is. Those
/// with port 0 are left out: nobody knows yet what they will be.
fn listeners(
    settings: &listener::Settings,
    mut written: Vec<Listening>,
    by_flags: bool,
) -> Vec<Listening> {
    if by_flags {
        written.clear();
    }
    let mut all = written;
    for (key, list) in [
        ("listen.dns", &settings.dns),
        ("listen.dot", &settings.dot),
        ("listen.doq", &settings.doq),
        ("listen.doh", &settings.doh),
    ] {
        for address in list {
            let is_known = |it: &Listening| it.key == key && it.address == *address;
            if !all.iter().any(is_known) {
                all.push(Listening {
                    key,
                    address: *address,
                    place: if by_flags {
                        Place::Flag("--listen")
                    } else {
                        Place::Default
                    },
                });
            }
        }
    }
    all.retain(|it| it.address.port() != 0);
    all
}

fn listen(
    written: file::Listen,
    surroundings: &Surroundings,
    problems: &mut Collector<'_>,
) -> listener::Settings {
    let mut default = listener::Settings::default();
    if surroundings.lacks_ipv6 {
        for list in [
            &mut default.dns,
            &mut default.dot,
            &mut default.doq,
            &mut default.doh,
        ] {
            list.retain(SocketAddr::is_ipv4);
        }
    }
    check_conflicts(&written, problems);
    let plain = |list: List<SocketAddr>| -> Option<Vec<SocketAddr>> {
        Some(list?.into_iter().map(|address| address.value).collect())
    };
    let lists = [&written.dns, &written.dot, &written.doq, &written.doh];
    if lists
        .iter()
        .all(|list| list.as_ref().is_some_and(Vec::is_empty))
    {
        let message = "every list is empty, so nobody could ask; remove one to have its default";
        problems.add(&(0..0), "listen", message);
    }
    listener::Settings {
        dns: plain(written.dns).unwrap_or(default.dns),
        dot: plain(written.dot).unwrap_or(default.dot),
        doq: plain(written.doq).unwrap_or(default.doq),
        doh: plain(written.doh).unwrap_or(default.doh),
        doh_path: written.doh_path.map_or(default.doh_path, |path| path.value),
        ..listener::Settings::default()
    }
}

/// Two listeners cannot have the same address and port of the same protocol; said here, at the
/// line, and not by the kernel about its own socket.
fn check_conflicts(written: &file::Listen, problems: &mut Collector<'_>) {
    let mut taken: HashMap<(&str, SocketAddr), &str> = HashMap::new();
    for (key, list, protocols) in [
        ("listen.dns", &written.dns, ["UDP", "TCP"].as_slice()),
        ("listen.dot", &written.dot, &["TCP"]),
        ("listen.doq", &written.doq, &["UDP"]),
        ("listen.doh", &written.doh, &["TCP", "UDP"]),
    ] {
        for address in list.iter().flatten() {
            if address.value.port() == 0 {
                continue; // any free port each time
            }
            for protocol in protocols {
                if let Some(other) = taken.insert((protocol, address.value), key) {
                    let message = format!(
                        "{} is already in `{other}`, and both use {protocol}; choose another \
                         port for one",
                        address.value
                    );
                    problems.add_first(&address.span, key, message);
                }
            }
        }
    }
}

/// The listeners of `--listen`, which replace all of the file's: `IP:PORT` for plain DNS, or
/// `dot://`, `doq://`, `doh://` before it.
fn listen_flags(
    doh_path: Key<String>,
    flags: &[String],
    problems: &mut Collector<'_>,
) -> listener::Settings {
    let default = listener::Settings::default();
    let mut settings = listener::Settings {
        dns: Vec::new(),
        dot: Vec::new(),
        doq: Vec::new(),
        doh: Vec::new(),
        doh_path: doh_path.map_or(default.doh_path, |path| path.value),
        ..listener::Settings::default()
    };
    for flag in flags {
        let (scheme, address) = flag.split_once("://").unwrap_or(("dns", flag));
        let (list, port) = match scheme {
            "dns" => (&mut settings.dns, 53),
            "dot" => (&mut settings.dot, 853),
            "doq" => (&mut settings.doq, 853),
            "doh" => (&mut settings.doh, 443),
            other => {
                let message = format!(
                    "\"{other}://\" is no listener; write IP:PORT for plain DNS, or dot://IP:PORT, \
                     doh://IP:PORT, doq://IP:PORT"
                );
                problems.add_at(Place::Flag("--listen"), "", message);
                continue;
            }
        };
        match values::socket_address(address, port) {
            Ok(address) => list.push(address),
            Err(message) => problems.add_at(Place::Flag("--listen"), "", message),
        }
    }
    settings
}

fn tls(written: file::Tls, base: &Path, problems: &mut Collector<'_>) -> TlsSettings {
    let files = match (written.certificate, written.key) {
        (Some(certificate), Some(key)) => Some(CertificateFiles {
            certificate: base.join(certificate.value),
            key: base.join(key.value),
        }),
        (Some(certificate), None) => {
            let message = "has no `tls.key` beside it; name the file with its private key";
            problems.add(&certificate.span, "tls.certificate", message);
            None
        }
        (None, Some(key)) => {
            let message = "has no `tls.certificate` beside it; name the file with its chain";
            problems.add(&key.span, "tls.key", message);
            None
        }
        (None, None) => None,
    };
    let names = written.names.into_iter().flatten();
    TlsSettings {
        files,
        names: names.map(|name| name.value).collect(),
    }
}

fn access(written: file::Access) -> access::Settings {
    let default = access::Settings::default();
    access::Settings {
        allow: written.allow.map_or(default.allow, |allow| {
            allow.into_iter().flat_map(|word| word.value).collect()
        }),
        rate_limit_per_s: written
            .rate_limit
            .and_then(|limit| u32::try_from(limit.value).ok())
            .unwrap_or(default.rate_limit_per_s),
    }
}

fn dnssec(
    written: file::Dnssec,
    routes: &[Route],
    base: &Path,
    problems: &mut Collector<'_>,
) -> DnssecSettings {
    let default = DnssecSettings::default();
    let skew = written.skew.map_or(default.skew, |skew| {
        if skew.value > SKEW_MAX {
            let message = format!("must be at most {}", values::duration_text(SKEW_MAX));
            problems.add(&skew.span, "dnssec.skew", message);
        }
        skew.value
    });
    let files = written.trust_anchors.into_iter().flatten();
    DnssecSettings {
        validate: written.validate.map_or(default.validate, |flag| flag.value),
        trust_anchors: files.map(|file| base.join(file.value)).collect(),
        negative_trust_anchors: values_of(written.negative_trust_anchors),
        private_zones: routes::zones(routes, true),
        unvalidated_zones: routes::zones(routes, false),
        clock_names: values_of(written.clock_names),
        sha1: written.sha1.map_or(default.sha1, |flag| flag.value),
        skew,
    }
}

fn names(written: &file::Names, routes: &[Route]) -> names::Settings {
    let default = names::Settings::default();
    let special_use = written.special_use.as_ref();
    let mut routed = routes::zones(routes, true);
    routed.extend(routes::zones(routes, false));
    names::Settings {
        special_use: special_use.map_or(default.special_use, |flag| flag.value),
        routed,
    }
}

fn entries(
    written: Vec<Written<file::Upstream>>,
    base: &Path,
    problems: &mut Collector<'_>,
) -> Vec<Draft> {
    if written.is_empty() {
        let default = |name: &&str| draft(name, Place::Default);
        return DEFAULT_UPSTREAMS.iter().map(default).collect();
    }
    if let Some(over) = written.get(UPSTREAMS_MAX) {
        let message = format!("at most {UPSTREAMS_MAX} upstreams are taken; remove some");
        problems.add(&over.span, "upstream", message);
    }
    let mut entries = Vec::new();
    for upstream in written.into_iter().take(UPSTREAMS_MAX) {
        let span = upstream.span;
        let upstream = upstream.value;
        let Some(url) = upstream.url else {
            let message = "has no `url`; write one, such as url = \"quad9\"";
            problems.add_first(&span, "upstream", message);
            continue;
        };
        let mut places = Places::new(problems.place(url.span.start));
        places.note("name", upstream.name.as_ref(), problems);
        places.note("server_name", upstream.server_name.as_ref(), problems);
        places.note("ca", upstream.ca.as_ref(), problems);
        places.note(
            "addresses",
            upstream.addresses.as_deref().and_then(<[_]>::first),
            problems,
        );
        places.note(
            "bootstrap",
            upstream.bootstrap.as_deref().and_then(<[_]>::first),
            problems,
        );
        places.note(
            "pin",
            upstream.pin.as_deref().and_then(<[_]>::first),
            problems,
        );
        entries.push(Draft {
            entry: UpstreamEntry {
                url: url.value,
                name: upstream.name.map(|name| name.value),
                server_name: upstream.server_name.map(|name| name.value),
                addresses: values_of(upstream.addresses),
                bootstrap: values_of(upstream.bootstrap),
                ca: upstream.ca.map(|path| NamedFile {
                    path: base.join(path.value),
                    place: problems.place(path.span.start),
                }),
                pins: values_of(upstream.pin),
                weight: upstream
                    .weight
                    .and_then(|weight| u32::try_from(weight.value).ok()),
            },
            places,
        });
    }
    entries
}

fn draft(url: &str, place: Place) -> Draft {
    Draft {
        entry: UpstreamEntry {
            url: url.to_owned(),
            name: None,
            server_name: None,
            addresses: Vec::new(),
            bootstrap: Vec::new(),
            ca: None,
            pins: Vec::new(),
            weight: None,
        },
        places: Places::new(place),
    }
}

fn values_of<T>(list: List<T>) -> Vec<T> {
    list.into_iter()
        .flatten()
        .map(|element| element.value)
        .collect()
}

fn timeout(written: Key<Duration>, problems: &mut Collector<'_>) -> Duration {
    let Some(written) = written else {
        return TIMEOUT_DEFAULT;
    };
    if !(TIMEOUT_MIN..=TIMEOUT_MAX).contains(&written.value) {
        let message = format!(
            "must be from {} to {}",
            values::duration_text(TIMEOUT_MIN),
            values::duration_text(TIMEOUT_MAX)
        );
        problems.add(&written.span, "forward.timeout", message);
    }
    written.value
}

fn cache(written: file::Cache, problems: &mut Collector<'_>) -> cache::Settings {
    let default = cache::Settings::default();
    let size_octets = written.size.map_or(default.size_octets, |size| {
        if !(CACHE_OCTETS_MIN..=CACHE_OCTETS_MAX).contains(&size.value) {
            let message = format!(
                "must be from {} to {}; the default is {}",
                values::size_text(CACHE_OCTETS_MIN),
                values::size_text(CACHE_OCTETS_MAX),
                values::size_text(default.size_octets as u64)
            );
            problems.add(&size.span, "cache.size", message);
        }
        usize::try_from(size.value).unwrap_or(usize::MAX)
    });
    // `whole_seconds` let nothing through that does not fit.
    let seconds = |ttl: &Key<Duration>, default: u32| {
        ttl.as_ref().map_or(default, |ttl| {
            u32::try_from(ttl.value.as_secs()).unwrap_or(u32::MAX)
        })
    };
    let settings = cache::Settings {
        size_octets,
        ttl_min_s: seconds(&written.min_ttl, default.ttl_min_s),
        ttl_max_s: seconds(&written.max_ttl, default.ttl_max_s),
        negative_ttl_max_s: seconds(&written.max_negative_ttl, default.negative_ttl_max_s),
        serve_stale_s: seconds(&written.serve_stale, default.serve_stale_s),
        prefetch: written.prefetch.map_or(default.prefetch, |key| key.value),
    };
    if let Some(time) = written.serve_stale
        && time.value > SERVE_STALE_MAX
    {
        let message = format!(
            "must be at most {}; write \"0s\" to switch it off",
            values::duration_text(SERVE_STALE_MAX)
        );
        problems.add(&time.span, "cache.serve_stale", message);
    }
    if settings.ttl_min_s > settings.ttl_max_s {
        let message = format!(
            "is longer than `cache.max_ttl` ({}); write a shorter one",
            values::duration_text(Duration::from_secs(settings.ttl_max_s.into()))
        );
        let span = written.min_ttl.or(written.max_ttl).map(|ttl| ttl.span);
        problems.add(&span.unwrap_or_default(), "cache.min_ttl", message);
    }
    settings
}
