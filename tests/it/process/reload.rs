//! SIGHUP: what changes, what stays, and that nobody notices.

use std::{
    fs,
    net::UdpSocket,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::*;
use crate::lab::message::NOERROR;

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
                    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                    socket.set_read_timeout(Some(PATIENCE)).unwrap();
                    let mut lost = Vec::new();
                    let mut number = 0;
                    while !stop.load(Ordering::Relaxed) {
                        number += 1;
                        let name = format!("c{client}-{number}.wild.secure.com");
                        let query = Ask::new(&name, "A").encode();
                        socket.send_to(&query, server).unwrap();
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

#[test]
fn the_cache_and_open_connections_survive() {
    let lab = RunningLab::start();
    let truename = before(&lab).start();
    let mut stream = connect(truename.address(Transport::Tcp));
    let ask = Ask::new("www.secure.com", "A");
    assert!(ask_on(&mut stream, &ask).is_some());
    let asked = lab.record().queries_below("www.secure.com").len();
    let text = config(&lab, &truename.setup, Transport::Udp, "\"all\"");
    truename.setup.write("truename.toml", &text);
    truename.reload(READ_AGAIN);
    assert_eq!(ask_on(&mut stream, &ask).unwrap().rcode, NOERROR);
    let asked_again = lab.record().queries_below("www.secure.com").len();
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
    let text =
        format!("{good}[cache]\nsize = \"1MiB\"\n").replace("dot = []", "dot = [\"127.0.0.1:0\"]");
    truename.setup.write("truename.toml", &text);
    truename.reload(READ_AGAIN);
    for part in ["[listen]", "cache.size"] {
        let line = truename.log.wait_for(part, 1);
        assert!(line.contains("started again"), "{line}");
    }
    assert_eq!(truename.ask("www.secure.com").rcode, NOERROR);
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
