//! What the configuration takes from the surroundings: the user, the environment, and which file
//! is there.

use std::{
    env,
    net::{IpAddr, Ipv6Addr, UdpSocket},
    path::{Path, PathBuf},
};

use nix::{
    ifaddrs::{InterfaceAddress, getifaddrs},
    unistd::{AccessFlags, Uid, access},
};

/// Where the file is looked for when none is named, in order.
pub const PLACES: [&str; 2] = ["truename.toml", "/etc/truename/truename.toml"];

/// Where state lives when the system runs us.
const SYSTEM_STATE: &str = "/var/lib/truename";

/// What a configuration depends on beside its own text. Read once, so that the checks themselves
/// are pure.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// Whether we run as root.
    pub is_root: bool,
    /// Whether `/var/lib/truename` is there and ours to write.
    pub system_state_writable: bool,
    /// `TRUENAME_CONFIG`: the file to use when no flag names one.
    pub config: Option<PathBuf>,
    /// `STATE_DIRECTORY`, which systemd sets for a unit that has `StateDirectory=`.
    pub state_directory: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// Where relative paths start; `None` leaves them relative.
    pub working_directory: Option<PathBuf>,
    /// Whether the machine has no IPv6 at all, so that the default listeners must do without.
    pub lacks_ipv6: bool,
    /// The addresses of this machine's interfaces, as far as they can be told.
    pub addresses: Vec<IpAddr>,
}

impl Surroundings {
    /// Looks around.
    pub fn read() -> Self {
        let variable = |name| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        Self {
            is_root: Uid::effective().is_root(),
            system_state_writable: access(SYSTEM_STATE, AccessFlags::W_OK | AccessFlags::X_OK)
                .is_ok(),
            config: variable("TRUENAME_CONFIG"),
            state_directory: variable("STATE_DIRECTORY"),
            xdg_state_home: variable("XDG_STATE_HOME"),
            home: variable("HOME"),
            working_directory: env::current_dir().ok(),
            lacks_ipv6: UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err(),
            addresses: own_addresses(),
        }
    }

    /// The state directory when the file names none: systemd's, else the system's if we may write
    /// it, else the user's (XDG Base Directory Specification).
    pub fn default_state_directory(&self) -> PathBuf {
        if let Some(listed) = &self.state_directory {
            // A unit may have several, parted by colons; the first is ours.
            let text = listed.to_string_lossy();
            let first = text.split(':').next().unwrap_or_default();
            return PathBuf::from(first);
        }
        if self.is_root || self.system_state_writable {
            return PathBuf::from(SYSTEM_STATE);
        }
        // Relative paths in XDG variables are to be ignored.
        let xdg = self
            .xdg_state_home
            .as_ref()
            .filter(|path| path.is_absolute());
        match (xdg, &self.home) {
            (Some(xdg), _) => xdg.join("truename"),
            (None, Some(home)) => home.join(".local/state/truename"),
            (None, None) => PathBuf::from(SYSTEM_STATE),
        }
    }

    /// What relative paths in the file `source` are relative to: its own directory.
    pub fn base(&self, source: Option<&Path>) -> PathBuf {
        let directory = source.and_then(Path::parent).unwrap_or(Path::new(""));
        match &self.working_directory {
            Some(working) => working.join(directory),
            None => directory.to_owned(),
        }
    }

    /// The file to read: the flag's, the environment's, the first of [`PLACES`] that `exists`, or
    /// `None` for the built-in defaults.
    pub fn find_file(
        &self,
        flag: Option<&Path>,
        exists: impl Fn(&Path) -> bool,
    ) -> Option<PathBuf> {
        flag.map(Path::to_owned)
            .or_else(|| self.config.clone())
            .or_else(|| PLACES.iter().map(PathBuf::from).find(|path| exists(path)))
    }
}

fn own_addresses() -> Vec<IpAddr> {
    let interfaces = getifaddrs().into_iter().flatten();
    let address = |interface: InterfaceAddress| {
        let address = interface.address?;
        let ipv4 = address.as_sockaddr_in().map(|it| it.ip().into());
        ipv4.or_else(|| address.as_sockaddr_in6().map(|it| it.ip().into()))
    };
    interfaces.filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Surroundings {
        Surroundings {
            home: Some("/home/ann".into()),
            ..Surroundings::default()
        }
    }

    #[test]
    fn state_directory_follows_who_runs_us() {
        let of = |surroundings: Surroundings| surroundings.default_state_directory();
        assert_eq!(of(user()), Path::new("/home/ann/.local/state/truename"));
        let xdg = Surroundings {
            xdg_state_home: Some("/state".into()),
            ..user()
        };
        assert_eq!(of(xdg.clone()), Path::new("/state/truename"));
        let relative = Surroundings {
            xdg_state_home: Some("state".into()),
            ..user()
        };
        assert_eq!(of(relative), Path::new("/home/ann/.local/state/truename"));
        let root = Surroundings {
            is_root: true,
            ..xdg.clone()
        };
        assert_eq!(of(root.clone()), Path::new("/var/lib/truename"));
        let service = Surroundings {
            system_state_writable: true,
            ..xdg
        };
        assert_eq!(of(service), Path::new("/var/lib/truename"));
        let systemd = Surroundings {
            state_directory: Some("/run/one:/run/two".into()),
            ..root
        };
        assert_eq!(of(systemd), Path::new("/run/one"));
    }

    #[test]
    fn the_named_file_wins_over_the_found_one() {
        let both = |_: &Path| true;
        let neither = |_: &Path| false;
        let named = Surroundings {
            config: Some("/etc/mine.toml".into()),
            ..user()
        };
        let flag = Path::new("flag.toml");
        assert_eq!(named.find_file(Some(flag), both), Some("flag.toml".into()));
        assert_eq!(
            named.find_file(None, neither),
            Some("/etc/mine.toml".into())
        );
        assert_eq!(user().find_file(None, both), Some("truename.toml".into()));
        let system = |path: &Path| path.is_absolute();
        assert_eq!(
            user().find_file(None, system),
            Some("/etc/truename/truename.toml".into())
        );
        assert_eq!(user().find_file(None, neither), None);
    }
}
