//! dig of BIND: UDP, TCP, TLS and HTTPS, and the EDNS options it knows.

use super::{
    stage::Stage,
    tools::{Ran, Shown, bind9_client, finish},
};

/// The transports as dig is told of them, and the listener each meets.
const WAYS: [(&str, &[&str]); 5] = [
    ("udp", &["+notcp", "+ignore"]),
    ("tcp", &["+tcp"]),
    ("dot", &["+tls"]),
    ("doh", &["+https=/dns-query"]),
    ("doh", &["+https-get=/dns-query"]),
];

fn dig_raw(stage: &Stage, way: (&str, &[&str]), arguments: &[&str]) -> Ran {
    let ca = format!("+tls-ca={}", stage.truename.ca().display());
    let mut dig = bind9_client("dig", stage.truename.port(way.0));
    dig.args(["+time=10", "+tries=1"]).args(way.1);
    if way.0.starts_with("do") {
        dig.args([ca.as_str(), "+tls-hostname=localhost"]);
    }
    finish(dig.args(arguments))
}

fn dig(stage: &Stage, way: (&str, &[&str]), arguments: &[&str]) -> Shown {
    let ran = dig_raw(stage, way, arguments).succeeded();
    assert!(!ran.stdout.contains("WARNING"), "{ran}");
    let shown = Shown::all(&ran.stdout);
    assert_eq!(shown.len(), 1, "{ran}");
    shown[0].clone()
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn dig_is_answered_over_every_transport() {
    let stage = Stage::start();
    for way in WAYS {
        let ask = |arguments: &[&str]| dig(&stage, way, arguments);
        ask(&["www.secure.com"]).expect("NOERROR", "A", &["192.0.2.80"]);
        ask(&["www.secure.com", "+noedns"])
            .expect("NOERROR", "A", &["192.0.2.80"])
            .hides("EDNS");
        // The name keeps the case it is asked with, in the cache's answer too.
        ask(&["wWw.sEcUrE.cOm"]).shows(";wWw.sEcUrE.cOm.");
        ask(&["nothing.secure.com"]).expect("NXDOMAIN", "A", &[]);
        ask(&["secure.com", "HTTPS"]).shows("h2,h3");
        ask(&["unknown.secure.com", "TYPE65280"]).shows("0123456789ABCDEF");
        ask(&["many.secure.com"]).shows("ANSWER: 60");
        let signed = ask(&["any.wild.secure.com", "+dnssec"]);
        signed.expect("NOERROR", "A", &["192.0.2.42"]).shows("NSEC");
        assert_eq!(signed.data("RRSIG").len(), 1, "{}", signed.text);
        let large = ask(&["giant.secure.com", "TXT"]);
        assert_eq!(large.has("tc"), way.0 == "udp", "{}", large.text);
    }
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn dig_sees_edns_as_the_standards_have_it() {
    let stage = Stage::start();
    for way in WAYS {
        let ask = |arguments: &[&str]| dig(&stage, way, arguments);
        let name = "www.secure.com";
        for option in ["+ednsopt=65001:c0ffee", "+subnet=198.51.100.0/24", "+nsid"] {
            ask(&[name, option]).expect("NOERROR", "A", &["192.0.2.80"]);
        }
        ask(&[name, "+edns=1", "+noednsneg"]).shows("BADVERS");
        ask(&[name, "+opcode=update", "+noedns"]).shows("NOTIMP");
        let padded = ask(&[name, "+padding=128"]);
        padded.expect("NOERROR", "A", &["192.0.2.80"]);
        // RFC 8467: blocks of 468 octets, and only where it hides something.
        let size = padded.text.contains("MSG SIZE  rcvd: 468");
        assert_eq!(size, way.0.starts_with("do"), "{}", padded.text);
        // Asking again over TCP with the cookie is dig's own check of it.
        ask(&[name, "+cookie"]).expect("NOERROR", "A", &["192.0.2.80"]);
    }
    let cookie = dig(&stage, WAYS[0], &["www.secure.com", "+cookie"]);
    cookie.shows("COOKIE: ").shows("(good)");
    // The client's datagram size is a limit, and so is ours.
    let udp = |size: &str| dig(&stage, WAYS[0], &["huge.secure.com", "TXT", size]);
    for size in ["+bufsize=512", "+bufsize=1232", "+bufsize=4096"] {
        assert!(udp(size).has("tc"), "{size}");
    }
    let fits = dig(&stage, WAYS[0], &["many.secure.com", "+bufsize=512"]);
    assert!(fits.has("tc"), "{}", fits.text);
    let fits = dig(&stage, WAYS[0], &["many.secure.com", "+bufsize=1232"]);
    assert!(!fits.has("tc"), "{}", fits.text);
    // Left to itself it asks again over TCP.
    let both = ("udp", &[][..]);
    let whole = dig_raw(&stage, both, &["huge.secure.com", "TXT"]).succeeded();
    let shown = Shown::all(&whole.stdout);
    assert_eq!(shown[0].data("TXT").len(), 30, "{whole}");
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn dig_keeps_a_connection_open_for_several_questions() {
    let stage = Stage::start();
    let wanted = [
        ("www.secure.com", "192.0.2.80"),
        ("secure.com", "192.0.2.1"),
        ("sip.secure.com", "192.0.2.60"),
        ("any.wild.secure.com", "192.0.2.42"),
    ];
    let mut arguments = vec!["+keepopen"];
    arguments.extend(wanted.map(|(name, _)| name));
    let ran = dig_raw(&stage, WAYS[1], &arguments).succeeded();
    let shown = Shown::all(&ran.stdout);
    assert_eq!(shown.len(), wanted.len(), "{ran}");
    for (shown, (_, address)) in shown.iter().zip(wanted) {
        shown.expect("NOERROR", "A", &[address]);
    }
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn dig_refuses_another_name() {
    let stage = Stage::start();
    for way in [WAYS[2], WAYS[3]] {
        let name = ["+tls-hostname=elsewhere.com", "www.secure.com"];
        let ran = dig_raw(&stage, way, &name);
        assert!(Shown::all(&ran.stdout).is_empty(), "{ran}");
    }
}
