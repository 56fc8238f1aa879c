//! kdig of Knot DNS: every transport but HTTP/3, with the certificate verified.

use super::{
    stage::Stage,
    tools::{Ran, Shown, program, run},
};
use crate::lab::Transport;

/// The transports as kdig is told of them, and the listener each meets.
const WAYS: [(&str, &[&str]); 6] = [
    ("udp", &["+notcp", "+ignore"]),
    ("tcp", &["+tcp"]),
    ("dot", &["+tls"]),
    ("doh", &["+https=/dns-query"]),
    ("doh", &["+https=/dns-query", "+https-get"]),
    ("doq", &["+quic"]),
];

/// Asks as told, with the exported CA and the name `localhost` where there is TLS.
fn kdig_raw(stage: &Stage, way: (&str, &[&str]), arguments: &[&str]) -> Ran {
    let ca = format!("+tls-ca={}", stage.truename.ca().display());
    let port = stage.truename.port(way.0).to_string();
    let mut all = vec!["@127.0.0.1", "-p", &port, "+timeout=10", "+retry=0"];
    if way.0.starts_with("do") {
        all.extend([ca.as_str(), "+tls-hostname=localhost"]);
    }
    // After the CA: kdig 3.2 takes `+tls-ca` for TLS over TCP otherwise, and crashes over QUIC.
    all.extend(way.1);
    all.extend(arguments);
    run(&program("kdig", "knot-dnsutils"), &all)
}

fn kdig(stage: &Stage, way: (&str, &[&str]), arguments: &[&str]) -> Shown {
    let ran = kdig_raw(stage, way, arguments).succeeded();
    let shown = Shown::all(&ran.stdout);
    assert_eq!(shown.len(), 1, "{ran}");
    shown[0].clone()
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn kdig_is_answered_over_every_transport() {
    let stage = Stage::start();
    for way in WAYS {
        let ask = |arguments: &[&str]| kdig(&stage, way, arguments);
        let plain = ask(&["www.secure.com"]);
        plain.expect("NOERROR", "A", &["192.0.2.80"]);
        // kdig pads encrypted queries by itself, for which it needs EDNS.
        let edns = plain.text.contains("EDNS PSEUDOSECTION");
        assert_eq!(edns, way.0.starts_with("do"), "{}", plain.text);
        ask(&["www.secure.com", "AAAA", "+edns"])
            .expect("NOERROR", "AAAA", &["2001:db8::80"])
            .shows("EDNS PSEUDOSECTION");
        ask(&["nothing.secure.com"]).expect("NXDOMAIN", "A", &[]);
        ask(&["txt.secure.com"]).expect("NOERROR", "A", &[]);
        ask(&["alias.secure.com"])
            .expect("NOERROR", "A", &["192.0.2.80"])
            .expect("NOERROR", "CNAME", &["www.secure.com."]);
        let signed = ask(&["www.secure.com", "+dnssec"]);
        signed.expect("NOERROR", "A", &["192.0.2.80"]);
        assert_eq!(signed.data("RRSIG").len(), 1, "{}", signed.text);
        let denied = ask(&["nothing.secure.com", "+dnssec"]);
        denied.expect("NXDOMAIN", "A", &[]).shows("NSEC");
    }
    // Later repetitions came from the cache that all listeners share.
    let asked = stage.lab.record().queries_below("www.secure.com");
    assert!(asked.len() <= 3, "{} exchanges", asked.len());
    assert!(asked.iter().all(|query| query.transport == Transport::Tls));
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn kdig_gets_unusual_types_and_large_answers() {
    let stage = Stage::start();
    for way in WAYS {
        let ask = |arguments: &[&str]| kdig(&stage, way, arguments);
        ask(&["secure.com", "HTTPS"]).shows("alpn=h2,h3");
        ask(&["_dns.secure.com", "SVCB"]).shows("port=8853");
        ask(&["secure.com", "CAA"]).expect("NOERROR", "CAA", &["0 issue \"ca.secure.com\""]);
        ask(&["_sip._tcp.secure.com", "SRV"]).shows("5060");
        let unknown = ask(&["unknown.secure.com", "TYPE65280"]);
        unknown.expect("NOERROR", "TYPE65280", &["\\# 8 0123456789ABCDEF"]);
        ask(&["-x", "45.3.2.1"]).expect("NOERROR", "PTR", &["www.secure.com."]);
        ask(&["secure.com", "DNSKEY", "+dnssec"]).shows("RRSIG");
        ask(&["any.wild.secure.com"]).expect("NOERROR", "A", &["192.0.2.42"]);

        let any = ask(&["secure.com", "ANY"]);
        assert_eq!(any.status, "NOERROR", "{}", any.text);
        assert!(any.answer.len() <= 1, "{}", any.text);
        // kdig knows no transfer over HTTPS or QUIC.
        if matches!(way.0, "tcp" | "dot") {
            let refused = kdig_raw(&stage, way, &["secure.com", "AXFR"]);
            assert!(refused.to_string().contains("'REFUSED'"), "{refused}");
        }

        for (name, records) in [("large", 10), ("huge", 30), ("giant", 80)] {
            let name = format!("{name}.secure.com");
            let shown = ask(&[&name, "TXT", "+dnssec"]);
            assert_eq!(shown.status, "NOERROR", "{}", shown.text);
            if way.0 == "udp" {
                assert!(shown.has("tc"), "{}", shown.text);
            } else {
                assert!(!shown.has("tc"), "{}", shown.text);
                assert_eq!(shown.data("TXT").len(), records, "{}", shown.text);
            }
        }
    }
    // Told of truncation, kdig asks again over TCP by itself.
    let whole = kdig(&stage, ("udp", &[]), &["huge.secure.com", "TXT"]);
    assert_eq!(whole.data("TXT").len(), 30, "{}", whole.text);
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn kdig_sees_edns_as_the_standards_have_it() {
    let stage = Stage::start();
    for way in WAYS {
        let ask = |arguments: &[&str]| kdig(&stage, way, arguments);
        let encrypted = way.0.starts_with("do");
        let name = "www.secure.com";
        ask(&[name, "+edns=1"]).shows("BADVERS");
        ask(&[name, "+ednsopt=65001:c0ffee"])
            .expect("NOERROR", "A", &["192.0.2.80"])
            .hides("c0ffee");
        ask(&[name, "+subnet=198.51.100.0/24"]).expect("NOERROR", "A", &["192.0.2.80"]);
        let padded = ask(&[name, "+padding=64"]);
        padded.expect("NOERROR", "A", &["192.0.2.80"]);
        if encrypted {
            // RFC 8467: blocks of 468 octets.
            padded.shows("PADDING").shows("468 B");
        } else {
            padded.hides("PADDING");
        }
    }
    // DNS cookies (RFC 7873): the client's own eight octets come back with the server's.
    let udp = WAYS[0];
    let cookie = ["www.secure.com", "+cookie=0123456789abcdef"];
    let shown = kdig(&stage, udp, &cookie);
    shown.shows("COOKIE").shows("0123456789ABCDEF");
    let text = shown.text.to_uppercase();
    let at = text.find("0123456789ABCDEF").unwrap();
    let both: String = text[at..]
        .chars()
        .take_while(char::is_ascii_hexdigit)
        .collect();
    assert_eq!(both.len(), 48, "eight octets and sixteen: {}", shown.text);
    let again = format!("+cookie={both}");
    kdig(&stage, udp, &["www.secure.com", &again]).expect("NOERROR", "A", &["192.0.2.80"]);
    // Nothing of the client went to the upstream.
    for query in stage.lab.record().queries() {
        for option in [8, 10, 65001] {
            assert!(!query.has_option(option), "{option} in {query:?}");
        }
    }
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn kdig_refuses_another_name_or_another_authority() {
    let stage = Stage::start();
    let kdig = program("kdig", "knot-dnsutils");
    let port = stage.truename.port("dot").to_string();
    let ours = format!("+tls-ca={}", stage.truename.ca().display());
    let theirs = stage.truename.file("theirs.pem");
    std::fs::write(&theirs, stage.lab.ca_pem()).unwrap();
    let theirs = format!("+tls-ca={}", theirs.display());
    for (ca, name) in [
        (&ours, "+tls-hostname=elsewhere.com"),
        (&theirs, "+tls-hostname=localhost"),
    ] {
        let arguments = [
            "@127.0.0.1",
            "-p",
            &port,
            "+retry=0",
            ca,
            name,
            "secure.com",
        ];
        let ran = run(&kdig, &arguments);
        assert!(Shown::all(&ran.stdout).is_empty(), "{ran}");
        assert_ne!(ran.status, Some(0), "{ran}");
    }
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn kdig_keeps_a_connection_open_for_several_questions() {
    let stage = Stage::start();
    for way in [WAYS[1], WAYS[2], WAYS[3]] {
        let names = [
            "+keepopen",
            "www.secure.com",
            "secure.com",
            "sip.secure.com",
        ];
        let ran = kdig_raw(&stage, way, &names).succeeded();
        let data: Vec<_> = Shown::all(&ran.stdout)
            .iter()
            .map(|shown| shown.data("A").concat())
            .collect();
        assert_eq!(data, ["192.0.2.80", "192.0.2.1", "192.0.2.60"], "{ran}");
    }
}
