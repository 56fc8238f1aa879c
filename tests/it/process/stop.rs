//! Stopping: queries in flight are answered first.

use std::{net::UdpSocket, time::Duration};

use super::*;
use crate::lab::message::NOERROR;

/// Long enough for the signal to arrive while all queries wait.
const LATENCY: Duration = Duration::from_millis(700);

#[test]
fn sigterm_answers_what_is_in_flight_and_exits_with_success() {
    let lab = RunningLab::start();
    let mut truename = before(&lab).start();
    lab.faults().everywhere(|set| set.latency = LATENCY);
    let server = truename.address(Transport::Udp);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for id in 0..20 {
        let ask = Ask::new(&format!("n{id}.wild.secure.com"), "A").id(id);
        socket.send_to(&ask.encode(), server).unwrap();
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
