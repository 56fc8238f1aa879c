//! From upstreams as written to the upstream room's settings, and what must hold among them.

use std::net::{IpAddr, SocketAddr};

use super::{
    problem::{Collector, Place},
    settings::UpstreamEntry,
    table::Written,
};
use crate::{
    handler::Transport,
    upstream::{self, Overrides, UpstreamSettings, UrlError},
};

/// An upstream as written, still to be checked.
pub(super) struct Draft {
    pub(super) entry: UpstreamEntry,
    pub(super) places: Places,
}

/// Where the keys of one upstream stand.
pub(super) struct Places {
    url: Place,
    others: Vec<(&'static str, Place)>,
}

impl Places {
    pub(super) fn new(url: Place) -> Self {
        Self {
            url,
            others: Vec::new(),
        }
    }

    /// Remembers where `key` stands, if it does.
    pub(super) fn note<T>(
        &mut self,
        key: &'static str,
        written: Option<&Written<T>>,
        problems: &Collector<'_>,
    ) {
        let place = written.map(|written| problems.place(written.span.start));
        self.others.extend(place.map(|place| (key, place)));
    }

    fn has(&self, key: &str) -> bool {
        self.others.iter().any(|(other, _)| *other == key)
    }

    /// Where to point to for a problem with `key`: itself, or the URL when it is not there.
    fn of(&self, key: &str) -> Place {
        self.others
            .iter()
            .find(|(other, _)| *other == key)
            .map_or(&self.url, |(_, place)| place)
            .clone()
    }
}

/// The upstreams without a problem: settings, the entries they came from, and where those stand.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) settings: Vec<UpstreamSettings>,
    pub(super) entries: Vec<UpstreamEntry>,
    places: Vec<Places>,
}

/// Checks every upstream by itself.
pub(super) fn all(drafts: Vec<Draft>, problems: &mut Collector<'_>) -> Checked {
    let mut checked = Checked::default();
    for Draft { entry, places } in drafts {
        let settings = match one(&entry) {
            Ok(settings) => settings,
            Err(error) => {
                let key = error.key();
                let path = format!("upstream.{key}");
                problems.add_at(places.of(key), &path, error.to_string());
                continue;
            }
        };
        if checked
            .settings
            .iter()
            .any(|other| other.name == settings.name)
        {
            let message = match places.url {
                Place::Flag(_) => format!("{:?} is given twice; remove one", entry.url),
                _ => format!(
                    "another upstream is already called {:?}; give this one a `name` of its own",
                    settings.name
                ),
            };
            problems.add_at(places.of("name"), "upstream.name", message);
            continue;
        }
        checked.settings.push(settings);
        checked.entries.push(entry);
        checked.places.push(places);
    }
    checked
}

/// One address that truename listens on.
pub(super) struct Listening {
    /// The key it stands in.
    pub(super) key: &'static str,
    pub(super) address: SocketAddr,
    /// Where that is.
    pub(super) place: Place,
}

impl Checked {
    /// Checks that nobody is asked who asks truename: an upstream, or a server for look-ups, that is
    /// truename itself. `own` are the addresses of this machine.
    pub(super) fn check_loops(
        &self,
        listening: &[Listening],
        own: &[IpAddr],
        problems: &mut Collector<'_>,
    ) {
        for (upstream, places) in self.settings.iter().zip(&self.places) {
            let servers = upstream.look_up.iter().flat_map(|it| &it.servers);
            let all = std::iter::once((upstream, false)).chain(servers.map(|it| (it, true)));
            for (server, is_bootstrap) in all {
                let ours = server.addresses.iter().find_map(|address| {
                    let mut listening = listening.iter();
                    let found = listening.find(|it| it.serves(server.transport, *address, own))?;
                    Some((address, found))
                });
                let Some((address, listener)) = ours else {
                    continue;
                };
                let key = if is_bootstrap {
                    "bootstrap"
                } else if places.has("addresses") {
                    "addresses"
                } else {
                    "url"
                };
                let line = match &listener.place {
                    Place::File { line, .. } => format!(", line {line}"),
                    Place::Flag(flag) => format!(", {flag}"),
                    Place::Default => String::new(),
                };
                let message = format!(
                    "{address} is truename itself (`{}`{line}), which would ask itself for ever; \
                     name another resolver",
                    listener.key
                );
                problems.add_at(places.of(key), &format!("upstream.{key}"), message);
            }
        }
    }

    /// Checks that somebody can be asked for the addresses of every host name.
    pub(super) fn check_look_ups(
        &self,
        settings: &upstream::Settings,
        problems: &mut Collector<'_>,
    ) {
        let nobody = settings.guides().is_empty();
        for (upstream, places) in self.settings.iter().zip(&self.places) {
            if let Some(look_up) = &upstream.look_up
                && look_up.servers.is_empty()
                && nobody
            {
                let message = format!(
                    "the addresses of {} must be looked up, and no upstream can be asked that \
                     needs no look-up itself; add bootstrap = [\"9.9.9.9\"], or `addresses`",
                    look_up.host
                );
                problems.add_at(places.of("url"), "upstream.url", message);
            }
        }
    }
}

impl Listening {
    /// Whether who asks `address` over `transport` asks this listener.
    fn serves(&self, transport: Transport, address: SocketAddr, own: &[IpAddr]) -> bool {
        let spoken = match self.key {
            "listen.dns" => matches!(transport, Transport::Udp | Transport::Tcp),
            "listen.dot" => transport == Transport::Tls,
            "listen.doq" => transport == Transport::Quic,
            _ => matches!(transport, Transport::Https | Transport::Http3),
        };
        let (ours, theirs) = (self.address.ip(), address.ip());
        let reaches = if ours.is_unspecified() {
            let is_here = theirs.is_loopback() || theirs.is_unspecified() || own.contains(&theirs);
            ours.is_ipv4() == theirs.is_ipv4() && is_here
        } else {
            ours == theirs || theirs.is_unspecified() && ours.is_loopback()
        };
        spoken && reaches && self.address.port() == address.port()
    }
}

fn one(entry: &UpstreamEntry) -> Result<UpstreamSettings, UrlError> {
    let settings = upstream::parse(
        &entry.url,
        Overrides {
            name: entry.name.clone(),
            server_name: entry.server_name.clone(),
            addresses: entry.addresses.clone(),
            bootstrap: entry.bootstrap.clone(),
            ca: Vec::new(), // read later, see `Settings::read_files`
            pins: entry.pins.clone(),
            weight: entry.weight,
        },
    )?;
    if entry.ca.is_some() && !settings.transport.is_encrypted() {
        return Err(UrlError::NotEncrypted {
            key: "ca",
            scheme: settings.transport.label(),
        });
    }
    Ok(settings)
}
