//! Starting: readiness lines, receipt, flags, where the configuration is found, dead upstreams,
//! systemd.

use std::{
    collections::HashMap,
    net::{Ipv6Addr, UdpSocket},
    os::unix::net::UnixDatagram,
    process::Stdio,
    time::{Duration, Instant},
};

use super::*;
use crate::lab::message::{NOERROR, SERVFAIL};

/// The order in which listeners are told.
const LABELS: [&str; 6] = ["udp", "tcp", "dot", "doh", "doh3", "doq"];

/// Extended errors (RFC 8914): no reachable authority, network error.
const UNREACHABLE: [u16; 2] = [22, 23];

fn labels(lines: &[String]) -> Vec<&str> {
    let told = lines
        .iter()
        .map_while(|line| line.strip_prefix("listening "));
    told.filter_map(|rest| rest.split(' ').next()).collect()
}

#[test]
fn readiness_is_one_line_per_listener_then_the_receipt() {
    let lab = RunningLab::start();
    let setup = Setup::new();
    let upstream = lab.upstream(setup.path(), Transport::Tls);
    setup.write("truename.toml", &format!("{EVERYTHING}{upstream}"));
    let mut truename = setup.start();

    let lines = truename.out.all();
    assert_eq!(labels(&lines), LABELS);
    let receipt = &lines[LABELS.len()..];
    let [version, upstream, dnssec] = receipt else {
        panic!("{receipt:#?}");
    };
    let expected = format!(
        "truename {}, configuration truename.toml",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(*version, expected);
    let latency = upstream.strip_prefix("upstream lab (dot): ").unwrap();
    let latency = latency.strip_suffix(" ms").unwrap();
    latency.parse::<u32>().unwrap();
    assert_eq!(dnssec, "DNSSEC: validating, anchors 42422, clock ok");

    let ca = fs::read_to_string(truename.setup.path().join("state/certificates/ca.pem"));
    let ca = ca.unwrap();
    for transport in Transport::ALL {
        let asked = Ask::new("www.secure.com", "A");
        let server = truename.address(transport);
        let answered = block_on(asked.over(transport, server, &ca, "localhost")).unwrap();
        assert_eq!(answered.rdata("A"), [[192, 0, 2, 80]], "{transport:?}");
    }
    truename.stop();
    assert_eq!(truename.out.all(), lines, "standard output is for programs");
}

#[test]
fn flags_replace_upstreams_and_listeners_of_the_file() {
    let lab = RunningLab::start();
    let setup = Setup::with_config(
        "[dnssec]\nvalidate = false\n[[upstream]]\nurl = \"udp://127.0.0.1:1\"\nname = \"file\"\n",
    );
    let url = lab.url(Transport::Udp);
    let mut truename = setup
        .arguments(&["run", "--upstream", &url])
        .arguments(&["--listen", "127.0.0.1:0", "--listen", "dot://127.0.0.1:0"])
        .start();
    assert_eq!(labels(&truename.out.all()), ["udp", "tcp", "dot"]);
    assert_eq!(truename.out.count("upstream "), 1);
    assert_eq!(truename.out.count("upstream file"), 0);
    truename.out.wait_for("DNSSEC: not validating", 1);
    let answered = truename.ask("www.secure.com");
    assert_eq!(answered.rdata("A"), [[192, 0, 2, 80]]);
    truename.stop();
}

#[test]
fn the_file_is_flag_then_variable_then_directory_then_none() {
    let lab = RunningLab::start();
    let file = |name: &str| {
        let url = lab.url(Transport::Udp);
        format!("{PLAIN}[[upstream]]\nname = \"{name}\"\nurl = \"{url}\"\n")
    };
    let start = |with_variable: bool, arguments: &[&str]| {
        let setup = Setup::with_config(&file("directory"));
        let variable = setup.write("variable.toml", &file("variable"));
        setup.write("flag.toml", &file("flag"));
        let setup = if with_variable {
            setup.variable("TRUENAME_CONFIG", variable)
        } else {
            setup
        };
        let truename = setup.arguments(arguments).start();
        truename.out.wait_for("upstream ", 1)
    };
    assert!(start(false, &[]).starts_with("upstream directory "));
    assert!(start(true, &[]).starts_with("upstream variable "));
    assert!(start(true, &["--config", "flag.toml"]).starts_with("upstream flag "));

    let url = lab.url(Transport::Udp);
    let none = Setup::new().arguments(&["--listen", "127.0.0.1:0", "--upstream", &url]);
    let truename = none.start();
    truename.out.wait_for("built-in configuration", 1);
}

#[test]
fn routed_names_go_their_own_way_validated_or_not() {
    let lab = RunningLab::start();
    let office = RunningLab::start();
    let setup = Setup::new();
    let upstream = lab.upstream(setup.path(), Transport::Udp);
    let url = office.url(Transport::Udp);
    let route = |zone: &str, dnssec: &str| {
        format!(
            "[[route]]\nzones = [\"{zone}\"]\nupstreams = [\"office\"]\ndnssec = \"{dnssec}\"\n"
        )
    };
    let (on, off) = (route("insecure.com", "on"), route("expired.com", "off"));
    let office_upstream = format!("[[upstream]]\nname = \"office\"\nurl = \"{url}\"\n");
    setup.write(
        "truename.toml",
        &format!("{PLAIN}{upstream}{office_upstream}{on}{off}"),
    );
    let truename = setup.start();
    for (name, asked) in [
        ("www.secure.com", &lab),
        ("www.insecure.com", &office),
        // Bogus, but for the route's word.
        ("www.expired.com", &office),
    ] {
        assert_eq!(truename.ask(name).rcode, NOERROR, "{name}");
        assert!(!asked.record().queries_below(name).is_empty(), "{name}");
    }
    assert!(office.record().queries_below("secure.com").is_empty());
    let record = lab.record();
    assert!(record.queries_below("www.insecure.com").is_empty());
    assert!(record.queries_below("www.expired.com").is_empty());
}

#[test]
fn built_in_defaults_are_unprivileged_loopback_and_the_catalogue() {
    // Asked of `check`, since the default ports may be anybody's.
    let report = Setup::new().run(&["check", "--offline", "--json"]).json();
    let effective = report["effective"].as_str().unwrap();
    for expected in [
        "127.0.0.1:5300",
        "[::1]:8853",
        "127.0.0.1:8443",
        "quad9",
        "cloudflare",
    ] {
        assert!(effective.contains(expected), "{effective}");
    }
}

#[test]
fn ipv6_is_served_where_there_is_any() {
    if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return;
    }
    let lab = RunningLab::start();
    let url = lab.url(Transport::Udp);
    let mut truename = Setup::with_config("[dnssec]\nvalidate = false\n")
        .arguments(&["--listen", "[::1]:0", "--upstream", &url])
        .start();
    assert!(truename.address(Transport::Udp).is_ipv6());
    let answered = truename.ask("www.secure.com");
    assert_eq!(answered.rdata("A"), [[192, 0, 2, 80]]);
    let stream = connect(truename.address(Transport::Tcp));
    let answered = ask_on(stream, &Ask::new("www.secure.com", "AAAA")).unwrap();
    assert_eq!(answered.rdata("AAAA").len(), 1);
    truename.stop();
}

/// Asks for so many names at once and returns what came for each, and how long the slowest took.
fn ask_many(server: SocketAddr, count: u16) -> (HashMap<u16, Answered>, Duration) {
    let socket = connect_udp(server);
    let start = Instant::now();
    for id in 0..count {
        let ask = Ask::new(&format!("n{id}.dead.com"), "A").id(id);
        socket.send(&ask.encode()).unwrap();
    }
    let mut answers = HashMap::new();
    while answers.len() < usize::from(count) {
        let answered = receive(&socket).unwrap();
        answers.insert(answered.id, answered);
    }
    (answers, start.elapsed())
}

#[test]
fn dead_upstreams_are_told_to_clients_in_time_and_to_the_log_once() {
    // One that keeps silent, one that nobody listens for.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (_socket, closed_address) = refused();
    let config = format!(
        "{PLAIN}[[upstream]]\nname = \"silent\"\nurl = \"udp://{}\"\n\
         [[upstream]]\nname = \"closed\"\nurl = \"tls://{closed_address}\"\n",
        silent.local_addr().unwrap()
    );
    let mut truename = Setup::with_config(&config).start_unheard();
    // It serves before it knows anything of its upstreams.
    truename.out.wait_for("listening tcp", 1);
    let (answers, elapsed) = ask_many(truename.address(Transport::Udp), 200);
    for answered in answers.values() {
        assert_eq!(answered.rcode, SERVFAIL);
        let errors = answered.extended_errors();
        let told = errors.iter().any(|(code, _)| UNREACHABLE.contains(code));
        assert!(told, "{errors:?}");
    }
    // A stub resolver gives up after five seconds.
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    truename.out.wait_for("DNSSEC: ", 1);
    for name in ["silent", "closed"] {
        let upstream = format!("upstream {name} ");
        assert!(truename.out.wait_for(&upstream, 1).contains("no answer"));
    }
    truename.stop();
    let log = truename.log.all();
    let down: Vec<_> = log
        .iter()
        .filter(|line| line.contains("upstream is down"))
        .collect();
    assert_eq!(down.len(), 2, "{log:#?}");
    // Beside these: that it stops, and the certificate of nothing.
    assert!(log.len() <= 4, "{log:#?}");
    assert!(
        log.iter().all(|line| !line.contains("dead.com")),
        "{log:#?}"
    );
}

#[test]
fn an_upstream_that_comes_back_is_used_and_logged_once() {
    let lab = RunningLab::start();
    lab.faults().everywhere(|set| set.black_hole = true);
    // Over UDP, where no handshake shows that the silent one lives.
    let setup = Setup::new();
    let upstream = lab.upstream(setup.path(), Transport::Udp);
    setup.write("truename.toml", &format!("{PLAIN}{upstream}"));
    let mut truename = setup.start();
    assert_eq!(truename.ask("mail.secure.com").rcode, SERVFAIL);
    truename.log.wait_for("upstream is down", 1);
    lab.faults().reset();
    let answered = truename.ask("www.secure.com");
    assert_eq!(answered.rcode, NOERROR);
    assert_eq!(truename.ask("www.secure.com").rcode, NOERROR);
    assert_eq!(truename.ask("pool.secure.com").rcode, NOERROR);
    truename.log.wait_for("upstream is up again", 1);
    truename.stop();
    assert_eq!(truename.log.count("upstream is down"), 1);
    assert_eq!(truename.log.count("upstream is up again"), 1);
}

#[test]
fn systemd_is_told_of_every_change_of_state() {
    let lab = RunningLab::start();
    let setup = before(&lab);
    let path = setup.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // What is said for people is another matter.
    let told = || loop {
        let mut buffer = [0; 4096];
        let length = uninterrupted(|| socket.recv(&mut buffer)).unwrap();
        let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
        if !text.starts_with("STATUS=") {
            return text;
        }
    };
    let mut truename = setup.variable("NOTIFY_SOCKET", path).start();
    assert_eq!(told(), "READY=1\n");
    truename.signal("HUP");
    // systemd wants the time with it (sd_notify(3), RELOADING=1).
    let reloading = told();
    let time = reloading
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .unwrap_or_else(|| panic!("{reloading:?}"));
    time.trim_end().parse::<u64>().unwrap();
    assert_eq!(told(), "READY=1\n");
    truename.stop();
    assert_eq!(told(), "STOPPING=1\n");
}

#[test]
fn the_watchdog_is_fed_while_all_workers_answer() {
    let lab = RunningLab::start();
    let setup = before(&lab);
    let path = setup.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut truename = setup
        .variable("NOTIFY_SOCKET", path)
        // Long enough for a busy machine to give each worker a turn.
        .variable("WATCHDOG_USEC", "800000")
        .start();
    let mut fed = 0;
    while fed < 4 {
        let mut buffer = [0; 4096];
        let length = uninterrupted(|| socket.recv(&mut buffer)).unwrap();
        fed += usize::from(&buffer[..length] == b"WATCHDOG=1\n");
    }
    truename.stop();
    assert_eq!(truename.log.count("do not answer"), 0);
}

/// Starts truename as a service manager does that has opened sockets for it: at the addresses
/// given, datagram or stream, by names.
fn activated(setup: Setup, sockets: &[(&str, &str)]) -> (Truename, Vec<SocketAddr>) {
    const MANAGER: &str = "\
import os, socket, sys
def open_all():
    # Those of one name have one port.
    opened, ports = [], {}
    for kind, name in zip(sys.argv[2].split(','), sys.argv[3].split(':')):
        kind = socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM
        opened.append(socket.socket(socket.AF_INET, kind))
        opened[-1].bind(('127.0.0.1', ports.get(name, 0)))
        ports[name] = opened[-1].getsockname()[1]
        if kind == socket.SOCK_STREAM:
            opened[-1].listen(8)
    return opened
opened = None
while not opened:
    try:
        opened = open_all()
    except OSError:
        pass
for one in opened:
    print('opened 127.0.0.1:%d' % one.getsockname()[1], flush=True)
kept = [os.dup(one.fileno()) for one in opened]
high = [os.dup2(one, 100 + at) for at, one in enumerate(kept)]
for at, one in enumerate(high):
    os.dup2(one, 3 + at)
    os.set_inheritable(3 + at, True)
os.environ['LISTEN_FDS'] = str(len(kept))
os.environ['LISTEN_PID'] = str(os.getpid())
os.environ['LISTEN_FDNAMES'] = sys.argv[3]
os.execv(sys.argv[1], ['truename'])
";
    let kinds: Vec<&str> = sockets.iter().map(|(kind, _)| *kind).collect();
    let names: Vec<&str> = sockets.iter().map(|(_, name)| *name).collect();
    let program = setup.command();
    let mut command = Command::new("python3");
    command
        .arg("-c")
        .arg(MANAGER)
        .arg(program.get_program())
        .arg(kinds.join(","))
        .arg(names.join(":"))
        .current_dir(setup.path())
        .env("STATE_DIRECTORY", setup.path().join("state"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let truename = Truename {
        out: Lines::read(child.stdout.take().unwrap()),
        log: Lines::read(child.stderr.take().unwrap()),
        child,
        setup,
    };
    let opened = (1..=sockets.len()).map(|count| {
        let line = truename.out.wait_for("opened ", count);
        line.strip_prefix("opened ").unwrap().parse().unwrap()
    });
    let opened = opened.collect();
    (truename, opened)
}

#[test]
fn sockets_of_a_service_manager_are_served_by_all_workers_and_survive_a_reload() {
    let lab = RunningLab::start();
    let setup = Setup::new();
    let upstream = lab.upstream(setup.path(), Transport::Tls);
    // The addresses configured are another machine's: nothing is opened here.
    let config = format!(
        "[listen]\ndns = []\ndot = [\"192.0.2.1:853\"]\ndoq = [\"192.0.2.1:853\"]\ndoh = []\n{upstream}"
    );
    setup.write("truename.toml", &config);
    let sockets = [("udp", "doq"), ("tcp", "dot"), ("udp", "stray.socket")];
    let (mut truename, opened) = activated(setup, &sockets);
    truename.out.wait_for("DNSSEC: ", 1);
    assert_eq!(truename.address(Transport::Quic), opened[0]);
    assert_eq!(truename.address(Transport::Tls), opened[1]);
    let line = truename.log.wait_for("no listener wants", 1);
    assert!(line.contains(&opened[2].to_string()), "{line}");
    let ca = truename.setup.run(&["cert", "export"]).succeeded();
    let answers = |truename: &Truename| {
        for transport in [Transport::Tls, Transport::Quic] {
            for name in ["www.secure.com", "mail.secure.com", "pool.secure.com"] {
                let asked = Ask::new(name, "A");
                let server = truename.address(transport);
                let answered = block_on(asked.over(transport, server, &ca, "localhost"));
                assert_eq!(answered.unwrap().rcode, NOERROR);
            }
        }
    };
    answers(&truename);
    truename.reload("was read again");
    answers(&truename);
    truename.stop();
}

#[test]
fn both_sockets_of_plain_dns_may_be_a_service_managers() {
    let lab = RunningLab::start();
    let (mut truename, opened) = activated(before(&lab), &[("udp", "dns"), ("tcp", "dns")]);
    truename.out.wait_for("DNSSEC: ", 1);
    assert_eq!(truename.address(Transport::Udp), opened[0]);
    assert_eq!(truename.address(Transport::Tcp), opened[1]);
    assert_eq!(truename.ask("www.secure.com").rcode, NOERROR);
    let stream = connect(truename.address(Transport::Tcp));
    assert!(ask_on(stream, &Ask::new("www.secure.com", "A")).is_some());
    truename.stop();
}

#[test]
fn whoever_started_it_may_stop_reading() {
    let lab = RunningLab::start();
    let setup = before(&lab);
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut command = setup.command();
    command.stdout(writer).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let log = Lines::read(child.stderr.take().unwrap());
    let mut truename = Truename {
        child,
        out: Lines::default(),
        log,
        setup,
    };
    // The probe of the upstream, whose outcome cannot be told any more.
    wait_until("the probe", || !lab.record().is_empty());
    truename.signal("HUP");
    truename.log.wait_for("read again", 1);
    truename.stop();
}

#[test]
fn a_log_that_nobody_reads_stops_no_answer() {
    let setup = Setup::with_config(&format!(
        "{PLAIN}[log]\nlevel = \"debug\"\n[[upstream]]\nurl = \"udp://127.0.0.1:1\"\n"
    ));
    let mut command = setup.command();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A pipe holds 64 KiB; each failure writes a line of some hundred octets.
    let _unread = child.stderr.take().unwrap();
    let out = Lines::read(child.stdout.take().unwrap());
    let truename = Truename {
        child,
        out,
        log: Lines::default(),
        setup,
    };
    truename.out.wait_for("listening tcp", 1);
    for _ in 0..10 {
        let (answers, _) = ask_many(truename.address(Transport::Udp), 200);
        assert_eq!(answers.len(), 200);
    }
}
