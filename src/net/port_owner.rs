//! Which program holds a port: what the system says in `/proc`, as far as this user may read it.

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

/// The two families of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Datagram ports.
    Udp,
    /// Stream ports that are listened on.
    Tcp,
}

/// Who holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortOwner {
    /// A program whose open files we may see.
    Program {
        /// Its name as the kernel keeps it: at most 15 octets.
        name: String,
        /// Its process id.
        pid: u32,
    },
    /// A program of a user whose open files we may not see.
    User(String),
}

impl fmt::Display for PortOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program { name, pid } => write!(f, "{name} (pid {pid})"),
            Self::User(user) => write!(f, "a program of user {user}"),
        }
    }
}

/// Finds who stands in the way of binding `address`. `None` when the system does not tell.
#[must_use]
pub fn port_owner(layer: Layer, address: SocketAddr) -> Option<PortOwner> {
    let tables = match layer {
        Layer::Udp => ["/proc/net/udp", "/proc/net/udp6"],
        Layer::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
    };
    let holders: Vec<Holder> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|text| holders(&text, layer, address))
        .collect();
    let program = holders.iter().find_map(|holder| program(holder.inode));
    program.or_else(|| {
        holders
            .first()
            .map(|holder| PortOwner::User(user(holder.uid)))
    })
}

/// A socket that clashes with the one we want.
#[derive(Debug, PartialEq, Eq)]
struct Holder {
    uid: u32,
    inode: u64,
}

/// Reads one of the tables and keeps the sockets that clash with `wanted`: same port, and same
/// address or either of them any address.
fn holders(table: &str, layer: Layer, wanted: SocketAddr) -> Vec<Holder> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let local = socket_address(fields.next()?)?;
            let state = fields.nth(1)?;
            let uid = fields.nth(3)?.parse().ok()?;
            let inode = fields.nth(1)?.parse().ok()?;
            let listens = layer == Layer::Udp || state == "0A";
            let (ours, theirs) = (wanted.ip(), local.ip().to_canonical());
            let clashes = ours == theirs || ours.is_unspecified() || theirs.is_unspecified();
            (local.port() == wanted.port() && listens && clashes).then_some(Holder { uid, inode })
        })
        .collect()
}

/// Reads `0100007F:0035`: the address in 32-bit words of host order, the port in hexadecimal.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Vec<[u8; 4]> = (0..address.len() / 8)
        .filter_map(|at| address.get(at * 8..at * 8 + 8))
        .filter_map(|word| u32::from_str_radix(word, 16).ok())
        .map(u32::to_ne_bytes)
        .collect();
    let ip = match words.as_slice() {
        [word] => IpAddr::V4(Ipv4Addr::from(*word)),
        [_, _, _, _] => {
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Finds the process that has the socket open.
fn program(inode: u64) -> Option<PortOwner> {
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?;
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        if has_open(&process.path(), &link) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let name = name.trim_end().to_owned();
            return Some(PortOwner::Program { name, pid });
        }
    }
    None
}

fn has_open(process: &Path, link: &str) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    files
        .flatten()
        .any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == link))
}

/// The user's name, else the number.
fn user(uid: u32) -> String {
    match nix::unistd::User::from_uid(uid.into()) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 1077: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 20551 2 0000000000000000 0
 1078: 0100007F:14B4 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 20552 2 0000000000000000 0
 1079: garbage
";

    #[test]
    fn only_clashing_sockets_are_kept() {
        let find = |address: &str| holders(TABLE, Layer::Udp, address.parse().unwrap());
        let stub = Holder {
            uid: 101,
            inode: 20551,
        };
        assert_eq!(find("127.0.0.53:53"), [stub]);
        assert_eq!(find("0.0.0.0:53").len(), 1);
        assert_eq!(find("127.0.0.1:53"), []);
        assert_eq!(find("127.0.0.1:5300").len(), 1);
        assert_eq!(
            holders(TABLE, Layer::Tcp, "0.0.0.0:53".parse().unwrap()),
            []
        );
    }

    #[test]
    fn ipv6_addresses_are_read_word_by_word() {
        assert_eq!(
            socket_address("00000000000000000000000001000000:0035"),
            Some("[::1]:53".parse().unwrap())
        );
        assert_eq!(socket_address("0000:0035"), None);
        assert_eq!(socket_address("zzzzzzzz:0035"), None);
    }

    #[test]
    fn our_own_sockets_are_found() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("[::1]:0").unwrap();
        for (layer, address) in [
            (Layer::Udp, udp.local_addr().unwrap()),
            (Layer::Tcp, tcp.local_addr().unwrap()),
        ] {
            match port_owner(layer, address) {
                Some(PortOwner::Program { pid, .. }) => assert_eq!(pid, std::process::id()),
                other => panic!("{layer:?}: {other:?}"),
            }
        }
    }
}
