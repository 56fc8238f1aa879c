//! SIGHUP: what changes, what stays, and that nobody notices.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::*;
use crate::lab::message::{NOERROR, SERVFAIL};

const READ_AGAIN: &str = "the configuration was read again";
const STAYS: &str = "the configuration stays as it was";

/// The lab's name over another transport, so that it is another upstream.
fn config(lab: &RunningLab, setup: &Setup, transport: Transport, access: &str) -> String {
    let upstream = lab.upstream(setup.path(), transport);
    format!("{PLAIN}[access]\nallow = [{access}]\n{upstream}")
}

/// Stops the clients, also when the test fails between: their scope waits for them.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn changes_under_load_lose_no_query() {
    const CLIENTS: usize = 4;
    const RELOADS: usize = 12;
    let lab = RunningLab::start();
    let truename = before(&lab).start();
    let server = truename.address(Transport::Udp);
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let lost = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (stop, asked) = (&stop, &asked);
                scope.spawn(move || {
                    let socket = connect_udp(server);
                    let mut lost = Vec::new();
                    let mut number = 0;
                    while !stop.load(Ordering::Relaxed) {
                        number += 1;
                        let name = format!("c{client}-{number}.wild.secure.com");
                        let query = Ask::new(&name, "A").encode();
                        socket.send(&query).unwrap();
                        let answered = receive(&socket)
                            .map(|answered| (answered.rcode, answered.extended_errors()));
                        if !matches!(answered, Ok((NOERROR, _))) {
                            lost.push((name, answered.map_err(|error| error.to_string())));
                        }
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                    lost
                })
            })
            .collect();
        let stopping = StopAtEnd(&stop);
        for round in 0..RELOADS {
            let transport = [Transport::Udp, Transport::Tls, Transport::Tcp][round % 3];
            let access = ["\"all\"", "\"loopback\""][round % 2];
            let text = config(&lab, &truename.setup, transport, access);
            truename.setup.write("truename.toml", &text);
            truename.reload(READ_AGAIN);
            let before = asked.load(Ordering::Relaxed);
            wait_until("queries between reloads", || {
                asked.load(Ordering::Relaxed) >= before + 10
            });
        }
        drop(stopping);
        let lost = clients.into_iter().map(|client| client.join().unwrap());
        lost.flatten().collect::<Vec<_>>()
    });
    assert!(lost.is_empty(), "{lost:#?}");
    for transport in [Transport::Udp, Transport::Tls, Transport::Tcp] {
        assert!(lab.record().query_count(transport) > 0, "{transport:?}");
    }
}

#[test]
fn new_rules_of_access_hold_at_once() {
    let lab = RunningLab::start();
    let truename = before(&lab).start();
    let answered = |truename: &Truename| {
        let stream = connect(truename.address(Transport::Tcp));
        let answered = ask_on(stream, &Ask::new("www.secure.com", "A"));
        answered.is_some_and(|answered| answered.rcode == NOERROR)
    };
    assert!(answered(&truename));
    let text = config(&lab, &truename.setup, Transport::Tls, "\"192.0.2.0/24\"");
    truename.setup.write("truename.toml", &text);
    truename.reload(READ_AGAIN);
    assert!(!answered(&truename));
    let text = config(&lab, &truename.setup, Transport::Tls, "\"loopback\"");
    truename.setup.write("truename.toml", &text);
    truename.reload(READ_AGAIN);
    assert!(answered(&truename));
}

/// The names of `insecure.com` are asked of the lab `office`.
fn with_route(lab: &RunningLab, office: &RunningLab, setup: &Setup, more: &str) -> String {
    let upstream = lab.upstream(setup.path(), Transport::Udp);
    let url = office.url(Transport::Udp);
    format!(
        "{PLAIN}{more}{upstream}[[upstream]]\nname = \"office\"\nurl = \"{url}\"\n\
         [[route]]\nzones = [\"insecure.com\"]\nupstreams = [\"office\"]\ndnssec = \"on\"\n"
    )
}

#[test]
fn what_one_server_of_a_route_said_is_not_given_for_another() {
    let (lab, old, new) = (
        RunningLab::start(),
        RunningLab::start(),
        RunningLab::start(),
    );
    let setup = Setup::new();
    let text = with_route(&lab, &old, &setup, "");
    setup.write("truename.toml", &text);
    let truename = setup.start();
    let (routed, other) = ("www.insecure.com", "www.secure.com");
    assert_eq!(truename.ask(routed).rcode, NOERROR);
    assert_eq!(truename.ask(other).rcode, NOERROR);
    let text = with_route(&lab, &new, &truename.setup, "");
    truename.setup.write("truename.toml", &text);
    truename.reload(READ_AGAIN);
    // Each worker forgets when it has heard of it.
    wait_until("the new server to be asked", || {
        assert_eq!(truename.ask(routed).rcode, NOERROR);
        !new.record().queries_below(routed).is_empty()
    });
}

#[test]
fn the_file_of_the_cache_is_not_used_by_other_routes() {
    let (lab, old, new) = (
        RunningLab::start(),
        RunningLab::start(),
        RunningLab::start(),
    );
    let setup = Setup::new();
    let file = "[cache]\nfile = \"cache.bin\"\n";
    let text = with_route(&lab, &old, &setup, file);
    setup.write("truename.toml", &text);
    let mut truename = setup.start();
    let routed = "www.insecure.com";
    assert_eq!(truename.ask(routed).rcode, NOERROR);
    truename.stop();
    let text = with_route(&lab, &new, &truename.setup, file);
    truename.setup.write("truename.toml", &text);
    let truename = truename.restart();
    assert_eq!(truename.ask(routed).rcode, NOERROR);
    assert!(!new.record().queries_below(routed).is_empty());
}

#[test]
fn the_cache_and_open_connections_survive() {
    let lab = RunningLab::start();
    let truename = before(&lab).start();
    let mut stream = connect(truename.address(Transport::Tcp));
    let ask = Ask::new("www.secure.com", "A");
    assert!(ask_on(&mut stream, &ask).is_some());
    let asked = lab.address_queries("www.secure.com");
    let text = config(&lab, &truename.setup, Transport::Udp, "\"all\"");
    truename.setup.write("truename.toml", &text);
    truename.reload(READ_AGAIN);
    assert_eq!(ask_on(&mut stream, &ask).unwrap().rcode, NOERROR);
    let asked_again = lab.address_queries("www.secure.com");
    assert_eq!(asked_again, asked);
}

#[test]
fn a_broken_file_changes_nothing_and_says_why() {
    let lab = RunningLab::start();
    let mut truename = before(&lab).start();
    let good = fs::read_to_string(truename.setup.path().join("truename.toml")).unwrap();
    for (broken, part) in [
        (format!("{good}[cahe]\nsize = \"1MiB\"\n"), "cahe"),
        (format!("{good}[cache"), "is not TOML"),
        (good.replace("lab-ca.pem", "gone.pem"), "gone.pem"),
        (
            format!("{good}[tls]\ncertificate = \"no.pem\"\n"),
            "tls.certificate",
        ),
    ] {
        truename.setup.write("truename.toml", &broken);
        let line = truename.reload(STAYS);
        assert!(line.contains(part), "{line}");
        assert!(line.contains("truename.toml:"), "{line}");
        assert_eq!(truename.ask("www.secure.com").rcode, NOERROR);
    }
    fs::remove_file(truename.setup.path().join("truename.toml")).unwrap();
    assert_eq!(truename.log.count(READ_AGAIN), 0);

    truename.setup.write("truename.toml", &good);
    truename.reload(READ_AGAIN);
    assert_eq!(truename.ask("mail.secure.com").rcode, NOERROR);
    truename.stop();
}

#[test]
fn what_takes_a_new_start_is_said_to() {
    let lab = RunningLab::start();
    let truename = before(&lab).start();
    let good = fs::read_to_string(truename.setup.path().join("truename.toml")).unwrap();
    let text = format!("{good}[state]\ndirectory = \"elsewhere\"\n");
    truename.setup.write("truename.toml", &text);
    truename.reload(READ_AGAIN);
    let line = truename.log.wait_for("state.directory changed", 1);
    assert!(line.contains("started again"), "{line}");
    assert!(!truename.setup.path().join("elsewhere").exists());
    assert_eq!(truename.ask("www.secure.com").rcode, NOERROR);
}

/// Rewrites a part of the configuration and has it read.
fn change(truename: &Truename, from: &str, to: &str, outcome: &str) -> String {
    let file = truename.setup.path().join("truename.toml");
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{text}");
    truename
        .setup
        .write("truename.toml", &text.replace(from, to));
    truename.reload(outcome)
}

#[test]
fn listeners_come_and_go_while_others_and_their_connections_stay() {
    let lab = RunningLab::start();
    let truename = before(&lab).start();
    let first = truename.address(Transport::Tcp);
    let mut old = connect(first);
    let ask = Ask::new("www.secure.com", "A");
    assert!(ask_on(&mut old, &ask).is_some());

    let one = "dns = [\"127.0.0.1:0\"]";
    let two = "dns = [\"127.0.0.1:0\", \"127.0.0.1:0\"]";
    let line = change(&truename, one, two, READ_AGAIN);
    assert!(line.contains("listener dns 127.0.0.1:0 added"), "{line}");
    let line = truename.out.wait_for("listening tcp ", 2);
    let second: SocketAddr = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert_ne!(second, first);
    let mut new = connect(second);
    assert!(ask_on(&mut new, &ask).is_some());
    assert_eq!(super::ask(second, &ask).rcode, NOERROR);
    assert!(ask_on(&mut old, &ask).is_some());
    change(&truename, "dot = []", "dot = [\"127.0.0.1:0\"]", READ_AGAIN);
    let dot = truename.address(Transport::Tls);
    let ca = truename.setup.run(&["cert", "export"]).succeeded();
    let answered = block_on(ask.over(Transport::Tls, dot, &ca, "localhost"));
    assert_eq!(answered.unwrap().rcode, NOERROR);

    // What is on its way through a listener that goes is answered first.
    lab.faults()
        .everywhere(|set| set.latency = Duration::from_millis(700));
    let slow = Ask::new("slow.wild.secure.com", "A");
    new.write_all(&framed(&slow.encode())).unwrap();
    lab.wait_for_queries("slow.wild.secure.com", 1);
    let line = change(&truename, two, one, READ_AGAIN);
    assert!(line.contains("listener dns 127.0.0.1:0 removed"), "{line}");
    let mut octets = Vec::new();
    new.read_to_end(&mut octets).unwrap();
    assert_eq!(Answered::parse(&octets[2..]).unwrap().rcode, NOERROR);
    wait_until("the port to be closed", || {
        TcpStream::connect(second).is_err()
    });
    assert!(ask_on(&mut old, &ask).is_some());
    assert_eq!(truename.ask("www.secure.com").rcode, NOERROR);
    assert_eq!(truename.out.count("listening udp"), 2);
}

#[test]
fn a_port_passes_from_one_protocol_to_another() {
    let lab = RunningLab::start();
    let setup = Setup::new();
    let upstream = lab.upstream(setup.path(), Transport::Tls);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let listen = |dot: &str, doh: &str| {
        format!("[listen]\ndns = [\"127.0.0.1:0\"]\ndot = [{dot}]\ndoq = []\ndoh = [{doh}]\n")
    };
    let there = format!("\"127.0.0.1:{port}\"");
    setup.write("truename.toml", &(listen(&there, "") + &upstream));
    let truename = setup.start();
    truename
        .setup
        .write("truename.toml", &(listen("", &there) + &upstream));
    truename.reload(READ_AGAIN);
    let ca = truename.setup.run(&["cert", "export"]).succeeded();
    let ask = Ask::new("www.secure.com", "A");
    let server = truename.address(Transport::Https);
    assert_eq!(server.port(), port);
    let answered = block_on(ask.over(Transport::Https, server, &ca, "localhost"));
    assert_eq!(answered.unwrap().rcode, NOERROR);
}

#[test]
fn what_cannot_be_opened_leaves_all_the_rest_as_it_was() {
    let lab = RunningLab::start();
    let truename = before(&lab).start();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let more = format!(
        "[access]\nallow = [\"192.0.2.0/24\"]\n[listen]\ndns = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n\
         dot = [\"{taken}\"]"
    );
    let from = "[listen]\ndns = [\"127.0.0.1:0\"]\ndot = []";
    let line = change(&truename, from, &more, STAYS);
    assert!(line.contains(&taken.to_string()), "{line}");
    assert_eq!(truename.ask("www.secure.com").rcode, NOERROR);
    assert_eq!(truename.out.count("listening "), 2);
    drop(holder);
    truename.reload(READ_AGAIN);
    truename.out.wait_for("listening dot ", 1);
}

#[test]
fn the_log_and_the_cache_change_at_once() {
    let lab = RunningLab::start();
    let truename = before(&lab).start();
    assert_eq!(truename.ask("www.secure.com").rcode, NOERROR);
    let from = "[dnssec]";
    let to = "[cache]\nsize = \"2MiB\"\n[log]\nlevel = \"debug\"\nformat = \"json\"\n[dnssec]";
    let line = change(&truename, from, to, READ_AGAIN);
    assert!(line.contains("cache.size, [log]"), "{line}");
    // The first line in the new form tells of this very change.
    let line = truename.log.wait_for(READ_AGAIN, 1);
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(json["level"], "INFO");
    let asked = lab.address_queries("www.secure.com");
    assert_eq!(truename.ask("www.secure.com").rcode, NOERROR);
    assert_eq!(lab.address_queries("www.secure.com"), asked);
}

#[test]
fn files_that_were_given_are_read_when_they_change() {
    let lab = RunningLab::start();
    let truename = before(&lab).start();
    assert_eq!(truename.ask("www.secure.com").rcode, NOERROR);
    let directory = truename.setup.path().to_owned();
    let good = fs::read_to_string(directory.join("lab.ds")).unwrap();

    // Written over in place, and first with something that is none.
    truename.setup.write("lab.ds", "half a li");
    let line = truename.log.wait_for("the trust anchors stay", 1);
    assert!(line.contains("lab.ds"), "{line}");
    assert_eq!(truename.ask("mail.secure.com").rcode, NOERROR);
    let others = good.trim_end().rsplit_once(' ').unwrap().0;
    let others = format!("{others} {}\n", "00".repeat(32));
    truename.setup.write("lab.ds", &others);
    truename
        .log
        .wait_for("dnssec.trust_anchors were read again", 1);
    wait_until("the new anchors to hold", || {
        truename.ask("www.secure.com").rcode == SERVFAIL
    });
    // Renamed over.
    truename.setup.write("lab.ds.new", &good);
    fs::rename(directory.join("lab.ds.new"), directory.join("lab.ds")).unwrap();
    wait_until("the old anchors to hold", || {
        truename.ask("www.secure.com").rcode == NOERROR
    });

    let roots = fs::read_to_string(directory.join("lab-ca.pem")).unwrap();
    let more = format!("{roots}{}", include_str!("../../../certs/other-ca.pem"));
    truename.setup.write("lab-ca.pem", "no roots");
    truename.log.wait_for("the roots of upstreams stay", 1);
    truename.setup.write("lab-ca.pem", &more);
    truename
        .log
        .wait_for("the roots of upstreams (`ca`) were replaced", 1);
    assert_eq!(truename.ask("pool.secure.com").rcode, NOERROR);
}

/// Open files and resident memory in KiB.
fn held(truename: &Truename) -> (usize, u64) {
    let process = format!("/proc/{}", truename.child.id());
    let files = fs::read_dir(format!("{process}/fd")).unwrap().count();
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.unwrap().trim().trim_end_matches(" kB");
    (files, resident.parse().unwrap())
}

#[test]
fn fifty_reloads_leave_nothing_behind() {
    /// Allocators keep some of what they are given back.
    const GROWTH_MAX_KIB: u64 = 4096;
    /// Connections that were replaced are closed a moment later.
    const FILES_MORE_MAX: usize = 4;
    let lab = RunningLab::start();
    let setup = Setup::new();
    let upstream = lab.upstream(setup.path(), Transport::Tls);
    setup.write("truename.toml", &format!("{EVERYTHING}{upstream}"));
    let truename = setup.start();
    let mut number = 0;
    let mut reload = || {
        number += 1;
        let upstream = lab.upstream(truename.setup.path(), Transport::Tls);
        // Another name, so that the upstreams are made anew and connect again.
        let upstream = upstream.replace("\"lab\"", &format!("\"lab{number}\""));
        let text = format!("{EVERYTHING}{upstream}");
        truename.setup.write("truename.toml", &text);
        truename.reload(READ_AGAIN);
        let name = format!("r{number}.wild.secure.com");
        assert_eq!(truename.ask(&name).rcode, NOERROR);
    };
    for _ in 0..10 {
        reload();
    }
    let (files_before, memory_before) = held(&truename);
    for _ in 0..50 {
        reload();
    }
    wait_until("replaced connections to be closed", || {
        held(&truename).0 <= files_before + FILES_MORE_MAX
    });
    let (_, memory) = held(&truename);
    assert!(
        memory < memory_before + GROWTH_MAX_KIB,
        "{memory_before} KiB, then {memory} KiB"
    );
}

#[test]
fn listeners_that_come_and_go_leave_no_socket_behind() {
    /// Connections to the upstream, of workers that had none at the start.
    const FILES_MORE_MAX: usize = 4;
    let lab = RunningLab::start();
    let setup = Setup::new();
    let upstream = lab.upstream(setup.path(), Transport::Tls);
    let few = format!("{EVERYTHING}{upstream}");
    let many = few.replace("[\"127.0.0.1:0\"]", "[\"127.0.0.1:0\", \"127.0.0.1:0\"]");
    setup.write("truename.toml", &few);
    let truename = setup.start();
    let ca = truename.setup.run(&["cert", "export"]).succeeded();
    let mut told = truename.out.count("listening ");
    let mut turn = || {
        truename.setup.write("truename.toml", &many);
        truename.reload(READ_AGAIN);
        told += Transport::ALL.len();
        wait_until("the new listeners to be told", || {
            truename.out.count("listening ") == told
        });
        let lines = truename.out.all();
        for transport in [Transport::Tls, Transport::Quic, Transport::Http3] {
            let part = format!("listening {} ", transport.label());
            let line = lines.iter().rev().find_map(|line| line.strip_prefix(&part));
            let server: SocketAddr = line.unwrap().parse().unwrap();
            let ask = Ask::new("www.secure.com", "A");
            let answered = block_on(ask.over(transport, server, &ca, "localhost"));
            assert_eq!(answered.unwrap().rcode, NOERROR, "{transport:?}");
        }
        truename.setup.write("truename.toml", &few);
        truename.reload(READ_AGAIN);
    };
    let files_at_start = held(&truename).0;
    for _ in 0..20 {
        turn();
    }
    wait_until("sockets to be closed", || {
        held(&truename).0 <= files_at_start + FILES_MORE_MAX
    });
}
