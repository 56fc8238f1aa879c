//! Networks that change: truename in a network namespace of its own, the lab in another, two links
//! between them. Takes root and `ip`; says so and does nothing otherwise.
//!
//! ```text
//!   house                     internet
//!   p1 10.77.1.2 ───────── 10.77.1.1 p1     lo 198.18.0.1, fd53::1: the lab
//!   p2 10.77.2.2 ───────── 10.77.2.1 p2        fd53::dead: nobody, silently
//! ```

use std::{
    fs::File,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};

use super::{is_full, ms, note};
use crate::{
    interop::tools::program,
    lab::{Answered, Ask, LabOptions, SERVER_NAME, Transport, http::PATH, message::NOERROR},
    process::{PATIENCE, PLAIN, RunningLab, Setup, Truename, uninterrupted},
};

/// Where the lab is.
const LAB_V4: &str = "198.18.0.1";
const LAB_V6: &str = "fd53::1";

/// An address that is configured and leads nowhere.
const NOWHERE_V6: &str = "fd53::dead";

/// How often a client asks anew while it waits.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// How long the link is down.
fn link_down() -> Duration {
    Duration::from_secs(if is_full() { 30 } else { 5 })
}

/// The two namespaces; removed when dropped.
struct World {
    house: String,
    internet: String,
}

/// Runs a command of `ip`.
fn ip(line: &str) {
    let ran = Command::new(program("ip", "iproute2"))
        .args(line.split_whitespace())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "ip {line}: {errors}");
}

impl World {
    /// None when this machine does not let us.
    fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            note("skipped: network namespaces are made by root only");
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |role: &str| format!("truename-{}-{number}-{role}", std::process::id());
        let world = Self {
            house: name("house"),
            internet: name("internet"),
        };
        let (house, internet) = (&world.house, &world.internet);
        let made = Command::new(program("ip", "iproute2"))
            .args(["netns", "add", house])
            .output()
            .unwrap();
        if !made.status.success() {
            let errors = String::from_utf8_lossy(&made.stderr).into_owned();
            note(&format!("skipped: no network namespaces here: {errors}"));
            return None;
        }
        ip(&format!("netns add {internet}"));
        for space in [house, internet] {
            ip(&format!("-n {space} link set lo up"));
        }
        for link in [1, 2] {
            ip(&format!(
                "-n {house} link add p{link} type veth peer name p{link} netns {internet}"
            ));
            for (space, host) in [(house, 2), (internet, 1)] {
                if space == internet {
                    ip(&format!(
                        "-n {space} addr add 10.77.{link}.{host}/24 dev p{link}"
                    ));
                    ip(&format!(
                        "-n {space} addr add fd77:{link}::{host}/64 dev p{link} nodad"
                    ));
                }
                ip(&format!("-n {space} link set p{link} up"));
            }
        }
        ip(&format!("-n {internet} addr add {LAB_V4}/32 dev lo"));
        ip(&format!("-n {internet} addr add {LAB_V6}/128 dev lo nodad"));
        ip(&format!(
            "-n {internet} -6 route add blackhole {NOWHERE_V6}"
        ));
        Some(world)
    }

    /// A change in the house, the words after `ip`.
    fn house(&self, line: &str) {
        ip(&format!("-n {} {line}", self.house));
    }

    fn internet(&self, line: &str) {
        ip(&format!("-n {} {line}", self.internet));
    }

    /// The house has an address on a link, and goes out by it.
    fn join(&self, link: u8, host: u8) {
        self.house(&format!("addr add 10.77.{link}.{host}/24 dev p{link}"));
        self.house(&format!(
            "route replace default via 10.77.{link}.1 dev p{link}"
        ));
    }

    /// The same over IPv6.
    fn join_v6(&self, link: u8) {
        self.house(&format!("addr add fd77:{link}::2/64 dev p{link} nodad"));
        self.house(&format!(
            "-6 route replace default via fd77:{link}::1 dev p{link}"
        ));
    }

    fn lab(&self) -> RunningLab {
        let addresses: [IpAddr; 2] = [LAB_V4.parse().unwrap(), LAB_V6.parse().unwrap()];
        let options = LabOptions {
            addresses: addresses.to_vec(),
            ..LabOptions::default()
        };
        let internet = self.internet.clone();
        RunningLab::start_with(options, move || enter(&internet))
    }

    /// truename in the house, asking the lab at these addresses.
    fn truename(&self, lab: &RunningLab, transport: Transport, addresses: &[&str]) -> Truename {
        let mut setup = Setup::new();
        setup.write("lab.ds", &lab.trust_anchor_ds());
        setup.write("ca.pem", lab.ca_pem());
        let port = lab.address(transport).port();
        let url = match transport {
            Transport::Https => format!("https://{SERVER_NAME}:{port}{PATH}"),
            Transport::Quic => format!("quic://{SERVER_NAME}:{port}"),
            _ => format!("tls://{SERVER_NAME}:{port}"),
        };
        let addresses = addresses.iter().map(|address| format!("\"{address}\""));
        let addresses = addresses.collect::<Vec<_>>().join(", ");
        setup.write(
            "truename.toml",
            &format!(
                "{PLAIN}[dnssec]\ntrust_anchors = [\"lab.ds\"]\n\
                 [[upstream]]\nname = \"lab\"\nurl = \"{url}\"\nca = \"ca.pem\"\n\
                 addresses = [{addresses}]\n"
            ),
        );
        let ip = program("ip", "iproute2").display().to_string();
        let words = [&ip, "netns", "exec", &self.house];
        setup.through = words.map(str::to_owned).to_vec();
        setup.start()
    }

    /// How long a client in the house waits from now for the first answer to a name nobody asked
    /// for before.
    fn first_answer(&self, server: SocketAddr) -> Duration {
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                enter(&self.house);
                first_answer(server)
            });
            waiting.join().unwrap()
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for space in [&self.house, &self.internet] {
            let _ = Command::new("ip").args(["netns", "del", space]).status();
        }
    }
}

/// Puts this thread, and what it will start, into a network namespace.
fn enter(namespace: &str) {
    let file = File::open(Path::new("/run/netns").join(namespace)).unwrap();
    setns(file, CloneFlags::CLONE_NEWNET).unwrap();
}

fn first_answer(server: SocketAddr) -> Duration {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(ASK_EVERY)).unwrap();
    let start = Instant::now();
    let mut buffer = vec![0; 4096];
    let mut refused = Vec::new();
    while start.elapsed() < PATIENCE {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let query = Ask::new(&format!("first{number}.wild.secure.com"), "A");
        socket.send(&query.encode()).unwrap();
        let asked = Instant::now();
        while asked.elapsed() < ASK_EVERY {
            match uninterrupted(|| socket.recv(&mut buffer)) {
                Ok(length) => {
                    let answered = Answered::parse(&buffer[..length]).unwrap();
                    if answered.rcode == NOERROR {
                        return start.elapsed();
                    }
                    refused.push(answered.extended_errors());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    panic!("no answer within {PATIENCE:?}: {:?}", refused.last());
}

/// What happens to the network; gives the time to the first answer after it.
type Scenario = fn(&World, Transport) -> Duration;

const SCENARIOS: [(&str, Scenario); 8] = [
    ("the default route changes", route_changes),
    ("the address changes", address_changes),
    ("the link was down and returns", link_returns),
    (
        "the far end of the link was down and returns",
        carrier_returns,
    ),
    ("IPv6 only", v6_only),
    ("IPv6 broken", v6_broken),
    ("IPv4 broken", v4_broken),
    ("no network at the start, then one", network_comes),
];

const BOTH: [&str; 2] = [LAB_V6, LAB_V4];

fn started(world: &World, transport: Transport) -> (RunningLab, Truename) {
    let lab = world.lab();
    world.join(1, 2);
    let truename = world.truename(&lab, transport, &BOTH);
    world.first_answer(truename.address(Transport::Udp));
    (lab, truename)
}

fn route_changes(world: &World, transport: Transport) -> Duration {
    let (_lab, truename) = started(world, transport);
    // The old way stays up and swallows everything.
    world.internet("route add blackhole 10.77.1.2/32");
    world.join(2, 2);
    world.first_answer(truename.address(Transport::Udp))
}

fn address_changes(world: &World, transport: Transport) -> Duration {
    let (_lab, truename) = started(world, transport);
    world.house("addr flush dev p1");
    world.join(1, 3);
    world.first_answer(truename.address(Transport::Udp))
}

fn link_returns(world: &World, transport: Transport) -> Duration {
    let (_lab, truename) = started(world, transport);
    world.house("link set p1 down");
    sleep(link_down());
    world.house("link set p1 up");
    world.house("route replace default via 10.77.1.1 dev p1");
    world.first_answer(truename.address(Transport::Udp))
}

fn carrier_returns(world: &World, transport: Transport) -> Duration {
    let (_lab, truename) = started(world, transport);
    world.internet("link set p1 down");
    sleep(link_down());
    world.internet("link set p1 up");
    world.internet("addr replace fd77:1::1/64 dev p1 nodad");
    world.first_answer(truename.address(Transport::Udp))
}

fn v6_only(world: &World, transport: Transport) -> Duration {
    let lab = world.lab();
    world.join_v6(1);
    let truename = world.truename(&lab, transport, &[LAB_V4, LAB_V6]);
    world.first_answer(truename.address(Transport::Udp))
}

fn v6_broken(world: &World, transport: Transport) -> Duration {
    let lab = world.lab();
    world.join(1, 2);
    world.join_v6(1);
    let truename = world.truename(&lab, transport, &[NOWHERE_V6, LAB_V4]);
    world.first_answer(truename.address(Transport::Udp))
}

fn v4_broken(world: &World, transport: Transport) -> Duration {
    let lab = world.lab();
    world.join(1, 2);
    world.join_v6(1);
    world.internet("route add blackhole 10.77.1.2/32");
    let truename = world.truename(&lab, transport, &[LAB_V4, LAB_V6]);
    world.first_answer(truename.address(Transport::Udp))
}

fn network_comes(world: &World, transport: Transport) -> Duration {
    let lab = world.lab();
    let truename = world.truename(&lab, transport, &BOTH);
    let server = truename.address(Transport::Udp);
    // Somebody asks in vain meanwhile.
    thread::scope(|scope| {
        scope.spawn(|| {
            enter(&world.house);
            let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
            for number in 0..20 {
                let query = Ask::new(&format!("vain{number}.wild.secure.com"), "A");
                socket.send_to(&query.encode(), server).unwrap();
                sleep(Duration::from_millis(100));
            }
        });
    });
    world.join(1, 2);
    world.first_answer(server)
}

#[test]
#[ignore = "needs root; .ci/run has it"]
fn an_answer_comes_soon_after_the_network_changed() {
    note("| change | DoT ms | DoH ms | DoQ ms |\n|---|---|---|---|");
    for (what, scenario) in SCENARIOS {
        let mut row = format!("| {what} |");
        for transport in [Transport::Tls, Transport::Https, Transport::Quic] {
            let Some(world) = World::new() else {
                return;
            };
            row.push_str(&format!(" {} |", ms(scenario(&world, transport))));
        }
        note(&row);
    }
}
