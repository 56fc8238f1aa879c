//! Special-use names: answered here, and never asked of upstreams.

use truename::{names, wire::Name};

use crate::{
    lab::{Ask, Transport},
    support::{Options, World},
};

const RA: u16 = 0x0080;
const AD: u16 = 0x0020;
const CD: u16 = 0x0010;
const RD: u16 = 0x0100;

/// Name, type, rcode, records of that type in the answer.
const CASES: &[(&str, &str, u16, usize)] = &[
    ("localhost", "A", 0, 1),
    ("LocalHost", "AAAA", 0, 1),
    ("app.dev.localhost", "A", 0, 1),
    ("localhost", "MX", 0, 0),
    ("1.0.0.127.in-addr.arpa", "PTR", 0, 1),
    ("9.0.0.127.in-addr.arpa", "PTR", 3, 0),
    ("invalid", "A", 3, 0),
    ("some.thing.invalid", "TXT", 3, 0),
    ("test", "SOA", 3, 0),
    ("www.test", "A", 3, 0),
    ("www.test", "DS", 3, 0),
    ("Printer.Local", "A", 3, 0),
    ("_ipp._tcp.local", "PTR", 3, 0),
    ("expyuzz4wqqyqhjn.onion", "A", 3, 0),
    ("gnunet.alt", "AAAA", 3, 0),
    ("db.corp.internal", "A", 3, 0),
    ("internal", "DS", 3, 0),
    ("use-application-dns.net", "A", 3, 0),
    ("use-application-dns.net", "AAAA", 3, 0),
    ("home.arpa", "SOA", 0, 1),
    ("home.arpa", "A", 0, 0),
    ("nas.home.arpa", "A", 3, 0),
    ("nas.home.arpa", "DS", 3, 0),
    ("_dns.resolver.arpa", "SVCB", 0, 0),
    ("resolver.arpa", "TXT", 0, 0),
    ("ipv4only.arpa", "A", 0, 2),
    ("170.0.0.192.in-addr.arpa", "PTR", 0, 1),
    ("default.service.arpa", "SRV", 3, 0),
    ("x.6tisch.arpa", "A", 3, 0),
    ("1.1.168.192.in-addr.arpa", "PTR", 3, 0),
    ("168.192.IN-ADDR.arpa", "NS", 0, 1),
    ("7.3.2.10.in-addr.arpa", "PTR", 3, 0),
    ("1.0.20.172.in-addr.arpa", "PTR", 3, 0),
    ("1.0.100.100.in-addr.arpa", "PTR", 3, 0),
    ("1.0.254.169.in-addr.arpa", "PTR", 3, 0),
    ("1.2.d.f.ip6.arpa", "PTR", 3, 0),
    ("1.0.8.b.d.0.1.0.0.2.ip6.arpa", "PTR", 3, 0),
    ("0.0.0.0.8.e.f.ip6.arpa", "PTR", 3, 0),
];

#[tokio::test]
async fn special_use_names_are_answered_here_and_never_leak() {
    let world = World::start(Transport::Tls).await;
    for listener in [Transport::Udp, Transport::Https] {
        for flags in [RD, RD | AD, RD | CD] {
            for &(name, rtype, rcode, records) in CASES {
                let ask = Ask::new(name, rtype).flags(flags).dnssec();
                let answered = world.ask(listener, &ask).await;
                let what = format!("{name} {rtype} {flags:#x}");
                assert_eq!(answered.rcode, rcode, "{what}");
                assert_eq!(answered.answer().len(), records, "{what}");
                assert_eq!(answered.count("SOA") > 0, records == 0 || rtype == "SOA");
                assert!(answered.has(RA) && !answered.has(AD), "{what}");
                assert_eq!(answered.has(CD), flags & CD != 0, "{what}");
                let explained = answered.extended_errors();
                assert_eq!(explained.iter().any(|(code, _)| *code == 29), records == 0);
            }
        }
    }
    assert_eq!(world.lab.record().len(), 0, "something was forwarded");
}

#[tokio::test]
async fn a_route_of_its_own_wins_over_special_use() {
    let options = Options {
        names: names::Settings {
            routed: vec![Name::parse("corp.internal").unwrap()],
            ..names::Settings::default()
        },
        ..Options::default()
    };
    let world = World::with(Transport::Tls, options).await;
    let asked = |name: &str| world.lab.record().queries_below(name).len();
    let _ = world
        .ask(Transport::Udp, &Ask::new("db.corp.internal", "A"))
        .await;
    assert_eq!(asked("corp.internal"), 1);
    let other = Ask::new("db.other.internal", "A");
    assert_eq!(world.ask(Transport::Udp, &other).await.rcode, 3);
    assert_eq!(asked("other.internal"), 0);
}

#[tokio::test]
async fn switching_it_off_forwards_and_switching_it_on_forgets_what_was_forwarded() {
    let world = World::start(Transport::Tls).await;
    let ask = Ask::new("www.localhost", "A");
    let off = names::Settings {
        special_use: false,
        ..names::Settings::default()
    };
    world.truename.shared().apply_names(off);
    let forwarded = world.ask(Transport::Udp, &ask).await;
    assert_eq!(forwarded.answer().len(), 0);
    assert_eq!(world.lab.record().queries_below("localhost").len(), 1);
    world
        .truename
        .shared()
        .apply_names(names::Settings::default());
    let here = world.ask(Transport::Udp, &ask).await;
    assert_eq!(here.rdata("A"), [[127, 0, 0, 1]]);
}
