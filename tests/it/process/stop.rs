//! Stopping: queries in flight are answered first.

use std::{net::UdpSocket, time::Duration};

use super::{certificate::connect_tls, *};
use crate::lab::message::NOERROR;

/// Long enough for the signal to arrive while all queries wait.
const LATENCY: Duration = Duration::from_millis(700);

#[test]
fn sigterm_answers_what_is_in_flight_and_exits_with_success() {
    let lab = RunningLab::start();
    let mut truename = before(&lab).start();
    lab.faults().everywhere(|set| set.latency = LATENCY);
    let server = truename.address(Transport::Udp);
    let socket = connect_udp(server);
    for id in 0..20 {
        let ask = Ask::new(&format!("n{id}.wild.secure.com"), "A").id(id);
        socket.send(&ask.encode()).unwrap();
    }
    let mut stream = connect(truename.address(Transport::Tcp));
    let ask = Ask::new("tcp.wild.secure.com", "A");
    stream.write_all(&framed(&ask.encode())).unwrap();
    lab.wait_for_queries("wild.secure.com", 21);

    truename.signal("TERM");
    for _ in 0..20 {
        assert_eq!(receive(&socket).unwrap().rcode, NOERROR);
    }
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets).unwrap();
    let answered = Answered::parse(&octets[2..]).unwrap();
    assert_eq!(answered.rcode, NOERROR);
    assert_eq!(truename.wait().code(), Some(0));
}

#[test]
fn sigint_stops_it_too() {
    let lab = RunningLab::start();
    let mut truename = before(&lab).start();
    // An idle connection does not hold it up.
    let mut idle = connect(truename.address(Transport::Tcp));
    assert!(ask_on(&mut idle, &Ask::new("www.secure.com", "A")).is_some());
    truename.signal("INT");
    assert_eq!(truename.wait().code(), Some(0));
}

#[test]
fn signals_count_from_the_first_readiness_line_on() {
    let lab = RunningLab::start();
    for _ in 0..5 {
        let mut truename = before(&lab).start_unheard();
        truename.out.wait_for("listening udp", 1);
        truename.signal("HUP");
        truename.log.wait_for("read again", 1);
        truename.stop();
    }
    for _ in 0..5 {
        let mut truename = before(&lab).start_unheard();
        truename.out.wait_for("listening udp", 1);
        truename.stop();
    }
}

#[test]
fn what_reached_the_system_before_sigterm_is_answered() {
    let lab = RunningLab::start();
    let setup = Setup::new();
    let upstream = lab.upstream(setup.path(), Transport::Tls);
    setup.write("truename.toml", &format!("{EVERYTHING}{upstream}"));
    let mut truename = setup.start();
    let ask = Ask::new("www.secure.com", "A");
    let ca = truename.setup.run(&["cert", "export"]).succeeded();
    let mut tls = connect_tls(truename.address(Transport::Tls), &ca, "localhost");
    assert!(ask_on(&mut tls, &ask).is_some());
    let mut old = connect(truename.address(Transport::Tcp));
    assert!(ask_on(&mut old, &ask).is_some());

    // While the process stands still nothing is read, and the signal waits behind all of it.
    truename.signal("STOP");
    let server = truename.address(Transport::Udp);
    let clients: Vec<UdpSocket> = (0..50)
        .map(|id| {
            let socket = connect_udp(server);
            let ask = Ask::new(&format!("u{id}.wild.secure.com"), "A").id(id);
            socket.send(&ask.encode()).unwrap();
            socket
        })
        .collect();
    let query = |name: &str| framed(&Ask::new(name, "A").encode());
    let mut streams = vec![old];
    streams.extend((0..20).map(|_| connect(truename.address(Transport::Tcp))));
    for (number, stream) in streams.iter_mut().enumerate() {
        let query = query(&format!("t{number}.wild.secure.com"));
        stream.write_all(&query).unwrap();
    }
    tls.write_all(&query("tls.wild.secure.com")).unwrap();
    truename.signal("TERM");
    truename.signal("CONT");

    for client in &clients {
        assert_eq!(receive(client).unwrap().rcode, NOERROR);
    }
    for mut stream in streams {
        let mut octets = Vec::new();
        stream.read_to_end(&mut octets).unwrap();
        assert_eq!(Answered::parse(&octets[2..]).unwrap().rcode, NOERROR);
    }
    let mut octets = Vec::new();
    tls.read_to_end(&mut octets).unwrap();
    assert_eq!(Answered::parse(&octets[2..]).unwrap().rcode, NOERROR);
    assert_eq!(truename.wait().code(), Some(0));
}

#[test]
fn a_second_sigterm_ends_it_at_once() {
    let lab = RunningLab::start();
    let mut truename = before(&lab).start();
    lab.faults().everywhere(|set| set.latency = PATIENCE);
    let mut stream = connect(truename.address(Transport::Tcp));
    let ask = Ask::new("slow.wild.secure.com", "A");
    stream.write_all(&framed(&ask.encode())).unwrap();
    lab.wait_for_queries("slow.wild.secure.com", 1);
    truename.signal("TERM");
    truename.log.wait_for("stopping", 1);
    truename.signal("TERM");
    assert_eq!(truename.wait().code(), Some(0));
    assert_eq!(truename.log.count("ending at once"), 1);
}
