//! What is different between two settings, and what that takes: pure, so that a reload can be
//! judged before it is done.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    config::Settings,
    listener::{self, Place},
};

/// One difference. Each is applied while truename runs, but for [`Change::Restart`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A listener that was not there: its sockets are opened and given to the workers.
    Opens(Place),
    /// A listener that is asked for no longer: it takes nothing more, its connections finish what
    /// is in flight.
    Closes(Place),
    /// DoH is found at another path from the next request on.
    DohPath,
    /// Other files, or other names on our own certificate.
    Certificate,
    /// The door is made anew; connections stay.
    Access,
    /// Upstreams, routes or the strategy. Upstreams that did not change keep their connections.
    Upstreams,
    /// The cache holds more or less; what no longer fits goes.
    CacheSize,
    /// How long answers are kept, from the next one on.
    CacheTimes,
    /// Which names are answered here; what was learned about them elsewhere is forgotten.
    Names,
    /// How answers are validated: what was judged otherwise is forgotten.
    Dnssec,
    /// What is logged.
    Log,
    /// What can only be had by a new start; the old value holds until then.
    Restart(&'static str),
}

impl Change {
    /// The listener it opens, if it does.
    pub(super) const fn opens(&self) -> Option<Place> {
        match self {
            Self::Opens(place) => Some(*place),
            _ => None,
        }
    }

    /// The listener it closes, if it does.
    pub(super) const fn closes(&self) -> Option<Place> {
        match self {
            Self::Closes(place) => Some(*place),
            _ => None,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opens(place) => write!(f, "listener {place} added"),
            Self::Closes(place) => write!(f, "listener {place} removed"),
            Self::DohPath => f.write_str("listen.doh_path"),
            Self::Certificate => f.write_str("[tls]"),
            Self::Access => f.write_str("[access]"),
            Self::Upstreams => f.write_str("[[upstream]], [[route]] or [forward]"),
            Self::CacheSize => f.write_str("cache.size"),
            Self::CacheTimes => f.write_str("[cache]"),
            Self::Names => f.write_str("[names]"),
            Self::Dnssec => f.write_str("[dnssec]"),
            Self::Log => f.write_str("[log]"),
            Self::Restart(key) => write!(f, "{key} (when truename is started again)"),
        }
    }
}

/// The differences in the order in which they are said. Takes every field apart, so that one that
/// is added must be given its place here.
pub(super) fn changes(old: &Settings, new: &Settings) -> Vec<Change> {
    let Settings {
        // Where the settings come from changes nothing by itself.
        source: _,
        listen,
        tls,
        access,
        upstream,
        // Their meaning is in `upstream`; the rest is for people.
        upstream_entries: _,
        cache,
        cache_file,
        admin_socket,
        names: answered,
        dnssec,
        state_directory,
        log,
    } = new;
    let mut changes = listener_changes(&old.listen, listen);
    let names = |settings: &Settings| settings.certificate_names();
    let mut add = |differs: bool, change| {
        if differs {
            changes.push(change);
        }
    };
    add(
        *tls != old.tls || (tls.files.is_none() && names(old) != names(new)),
        Change::Certificate,
    );
    add(*access != old.access, Change::Access);
    add(*upstream != old.upstream, Change::Upstreams);
    add(
        cache.size_octets != old.cache.size_octets,
        Change::CacheSize,
    );
    let mut cache_before = old.cache;
    cache_before.size_octets = cache.size_octets;
    add(*cache != cache_before, Change::CacheTimes);
    add(*answered != old.names, Change::Names);
    add(*dnssec != old.dnssec, Change::Dnssec);
    add(*log != old.log, Change::Log);
    // Both move with the state directory, which is said by itself.
    let moved = |old_path: &Option<PathBuf>, new_path: &Option<PathBuf>| {
        let within = |path: &Option<PathBuf>, directory: &Path| {
            let path = path.as_deref()?;
            Some(path.strip_prefix(directory).unwrap_or(path).to_owned())
        };
        within(old_path, &old.state_directory) != within(new_path, state_directory)
    };
    add(
        moved(&old.cache_file, cache_file),
        Change::Restart("cache.file"),
    );
    add(
        moved(&old.admin_socket, admin_socket),
        Change::Restart("admin.socket"),
    );
    add(
        *state_directory != old.state_directory,
        Change::Restart("state.directory"),
    );
    changes
}

fn listener_changes(old: &listener::Settings, new: &listener::Settings) -> Vec<Change> {
    let (before, after) = (old.places(), new.places());
    let gone = before.iter().filter(|place| !after.contains(place));
    let come = after.iter().filter(|place| !before.contains(place));
    let mut changes: Vec<Change> = gone
        .map(|&place| Change::Closes(place))
        .chain(come.map(|&place| Change::Opens(place)))
        .collect();
    if new.doh_path != old.doh_path {
        changes.push(Change::DohPath);
    }
    changes
}

/// The new settings with the old values of what only a new start changes, so that everybody goes
/// on seeing what is in force.
pub(super) fn in_force(old: &Settings, new: Settings) -> Settings {
    Settings {
        cache_file: old.cache_file.clone(),
        admin_socket: old.admin_socket.clone(),
        state_directory: old.state_directory.clone(),
        ..new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Options, Surroundings};

    fn settings(text: &str) -> Settings {
        let surroundings = Surroundings::default();
        let options = Options::default();
        let source = Some(Path::new("/etc/truename.toml"));
        config::parse(text, source, &surroundings, &options).unwrap()
    }

    fn told(old: &str, new: &str) -> Vec<String> {
        let changes = changes(&settings(old), &settings(new));
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_same_settings_differ_in_nothing() {
        let text = "[listen]\ndns = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n[cache]\nsize = \"2MiB\"\n";
        assert!(told(text, text).is_empty());
        // Another spelling, another order of tables, a default written down.
        let spelled = "[cache]\nsize = \"2048KiB\"\nmin_ttl = \"0s\"\n\
                       [listen]\ndns = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n";
        assert!(told(text, spelled).is_empty());
    }

    #[test]
    fn each_table_makes_its_own_change() {
        for (text, change) in [
            ("[listen]\ndoh_path = \"/dns\"\n", "listen.doh_path"),
            ("[tls]\nnames = [\"router.lan\"]\n", "[tls]"),
            ("[access]\nrate_limit = 5\n", "[access]"),
            (
                "[[upstream]]\nurl = \"udp://192.0.2.1\"\n",
                "[[upstream]], [[route]] or [forward]",
            ),
            (
                "[forward]\ntimeout = \"3s\"\n",
                "[[upstream]], [[route]] or [forward]",
            ),
            ("[cache]\nsize = \"1MiB\"\n", "cache.size"),
            ("[cache]\nmax_ttl = \"1h\"\n", "[cache]"),
            ("[names]\nspecial_use = false\n", "[names]"),
            ("[dnssec]\nsha1 = true\n", "[dnssec]"),
            ("[dnssec]\ntrust_anchors = [\"a.ds\"]\n", "[dnssec]"),
            ("[log]\nlevel = \"debug\"\n", "[log]"),
            (
                "[admin]\nsocket = \"\"\n",
                "admin.socket (when truename is started again)",
            ),
            (
                "[cache]\nfile = \"/tmp/cache.bin\"\n",
                "cache.file (when truename is started again)",
            ),
            (
                "[state]\ndirectory = \"/tmp/elsewhere\"\n",
                "state.directory (when truename is started again)",
            ),
        ] {
            assert_eq!(told("", text), [change], "{text}");
            assert_eq!(told(text, ""), [change], "{text}, taken away");
        }
    }

    #[test]
    fn listeners_are_matched_by_protocol_and_configured_address() {
        let old = "[listen]\ndns = [\"127.0.0.1:0\", \"127.0.0.1:53\"]\ndot = [\"127.0.0.1:853\"]\n\
                   doh = []\ndoq = []\n[tls]\nnames = [\"a.lan\"]\n";
        let new = "[listen]\ndns = [\"127.0.0.1:53\", \"127.0.0.1:0\", \"127.0.0.1:0\"]\ndot = []\n\
                   doh = []\ndoq = [\"127.0.0.1:853\"]\n[tls]\nnames = [\"a.lan\"]\n";
        assert_eq!(
            told(old, new),
            [
                "listener dot 127.0.0.1:853 removed",
                "listener dns 127.0.0.1:0 added",
                "listener doq 127.0.0.1:853 added",
            ]
        );
    }

    #[test]
    fn an_address_listened_on_gives_our_own_certificate_another_name() {
        let listen = |address: &str| format!("[listen]\ndot = [\"{address}:853\"]\n");
        let told = told(&listen("127.0.0.1"), &listen("192.0.2.1"));
        assert!(told.contains(&"[tls]".to_owned()), "{told:?}");
    }

    #[test]
    fn what_takes_a_new_start_stays_in_force() {
        let old = settings("[state]\ndirectory = \"/tmp/a\"\n");
        let new = settings("[state]\ndirectory = \"/tmp/b\"\n[cache]\nsize = \"1MiB\"\n");
        let merged = in_force(&old, new);
        assert_eq!(merged.state_directory, old.state_directory);
        assert_eq!(changes(&old, &merged), [Change::CacheSize]);
    }
}
