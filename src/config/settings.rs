//! What a checked configuration says.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use super::problem::Place;
use crate::{access, cache, dnssec, listener, names, upstream, wire::Name};

/// The checked configuration: each room's settings, and what the app itself needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file it was read from; `None` for the built-in defaults.
    pub source: Option<PathBuf>,
    /// Where clients are served.
    pub listen: listener::Settings,
    /// What the encrypted listeners show.
    pub tls: TlsSettings,
    /// Who may ask.
    pub access: access::Settings,
    /// Who is asked.
    pub upstream: upstream::Settings,
    /// The upstreams as they were written, one for each of `upstream.upstreams`.
    pub upstream_entries: Vec<UpstreamEntry>,
    /// What is kept, and how long.
    pub cache: cache::Settings,
    /// The file in which answers outlive the process; `None` for no such file.
    pub cache_file: Option<PathBuf>,
    /// How answers are validated.
    pub dnssec: DnssecSettings,
    /// Which names are answered without upstreams.
    pub names: names::Settings,
    /// The directory for what outlives the process. It need not exist yet.
    pub state_directory: PathBuf,
    /// The control socket; `None` for no such socket.
    pub admin_socket: Option<PathBuf>,
    /// What is logged.
    pub log: LogSettings,
}

/// What the encrypted listeners show.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TlsSettings {
    /// The configured chain and key; `None` means that the local CA makes them.
    pub files: Option<CertificateFiles>,
    /// Host names (lower case) and addresses that the local CA's certificate shall have; empty
    /// when none are configured, see [`Settings::certificate_names`].
    pub names: Vec<String>,
}

/// A configured chain and its key. Not opened here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM file with the chain, leaf first.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// One upstream as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamEntry {
    /// URL, DNS stamp or name in the catalogue.
    pub url: String,
    /// The name it was given, if it was.
    pub name: Option<String>,
    /// The certificate name it was given, if it was.
    pub server_name: Option<String>,
    /// The addresses it was given.
    pub addresses: Vec<IpAddr>,
    /// Who is asked for the addresses of its host name, as written.
    pub bootstrap: Vec<String>,
    /// The PEM file with its own roots.
    pub ca: Option<NamedFile>,
    /// Its pins, as written.
    pub pins: Vec<String>,
    /// The weight it was given, if it was.
    pub weight: Option<u32>,
}

/// A file that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// The file.
    pub path: PathBuf,
    /// Where it is named.
    pub place: Place,
}

/// How answers are validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnssecSettings {
    /// Whether they are.
    pub validate: bool,
    /// Files with trust anchors; empty means the root's, built in.
    pub trust_anchors: Vec<PathBuf>,
    /// Names at and below which nothing is validated, and until when, in seconds since 1970.
    pub negative_trust_anchors: Vec<(Name, u64)>,
    /// Zones with a route of their own, which may stand beside the public tree.
    pub private_zones: Vec<Name>,
    /// Zones whose route says `dnssec = "off"`.
    pub unvalidated_zones: Vec<Name>,
    /// Names that set a clock, beside the well-known ones.
    pub clock_names: Vec<Name>,
    /// Whether what rests on SHA-1 counts as signed.
    pub sha1: bool,
    /// Tolerance for signature times.
    pub skew: Duration,
}

impl Default for DnssecSettings {
    fn default() -> Self {
        Self {
            validate: true,
            trust_anchors: Vec::new(),
            negative_trust_anchors: Vec::new(),
            private_zones: Vec::new(),
            unvalidated_zones: Vec::new(),
            clock_names: Vec::new(),
            sha1: false,
            skew: Duration::from_secs(dnssec::limits::SKEW_DEFAULT_S.into()),
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LogSettings {
    /// The least severe events that are logged.
    pub level: Level,
    /// One line of text or of JSON for each event.
    pub format: LogFormat,
}

/// How severe an event must be to be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Level {
    /// What stops a part from working.
    Error,
    /// What a person should look into.
    Warn,
    /// Changes of state.
    #[default]
    Info,
    /// Also single queries, by name.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// Every level by its name in the file.
    pub const ALL: [(&'static str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    /// The name in the file.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// A JSON object for programs.
    Json,
}

impl LogFormat {
    /// Every format by its name in the file.
    pub const ALL: [(&'static str, Self); 2] = [("text", Self::Text), ("json", Self::Json)];

    /// The name in the file.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl Settings {
    /// What the local CA's certificate is for: the configured names, else this machine as seen
    /// from itself and the addresses the encrypted listeners have.
    pub fn certificate_names(&self) -> Vec<String> {
        if !self.tls.names.is_empty() {
            return self.tls.names.clone();
        }
        let mut names = vec!["localhost".to_owned()];
        let loopback = [
            IpAddr::from([127, 0, 0, 1]),
            IpAddr::from([0_u16, 0, 0, 0, 0, 0, 0, 1]),
        ];
        let listen = [&self.listen.dot, &self.listen.doq, &self.listen.doh];
        let served = listen.into_iter().flatten().map(std::net::SocketAddr::ip);
        for address in loopback.into_iter().chain(served) {
            let name = address.to_string();
            if !address.is_unspecified() && !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The directory of the local CA and its leaf, within the state directory.
    pub fn certificate_directory(&self) -> PathBuf {
        self.state_directory.join("certificates")
    }
}
