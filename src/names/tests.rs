use super::*;
use crate::wire::rtype::{A, AAAA, DS, MX, NS, PTR, SOA, SVCB, TXT};

fn ask_with(settings: &Settings, name: &str, qtype: u16) -> Option<Local> {
    settings.answer(&Question {
        name: Name::parse(name).unwrap(),
        qtype,
        qclass: CLASS_IN,
    })
}

fn ask(name: &str, qtype: u16) -> Option<Local> {
    ask_with(&Settings::default(), name, qtype)
}

/// The rcode and the data of the answer.
fn found(name: &str, qtype: u16) -> (u16, Vec<Vec<u8>>) {
    let local = ask(name, qtype).unwrap_or_else(|| panic!("{name} is forwarded"));
    let data = local.answer.iter().map(|record| record.rdata.to_vec());
    (local.rcode, data.collect())
}

const NODATA: (u16, Vec<Vec<u8>>) = (rcode::NOERROR, Vec::new());
const NXDOMAIN: (u16, Vec<Vec<u8>>) = (rcode::NXDOMAIN, Vec::new());

fn wire(name: &str) -> Vec<u8> {
    Name::parse(name).unwrap().as_wire().to_vec()
}

#[test]
fn every_zone_is_answered_at_and_below_its_apex() {
    let mut zones = 0;
    for apex in zones::apexes() {
        zones += 1;
        let below = apex.child(b"some").unwrap().child(b"HOST").unwrap();
        for qtype in [A, AAAA, PTR, MX, TXT, SOA, NS, SVCB, DS, 65, 48, 5] {
            let is_public = qtype == DS && apex.label_count() > 1 || qtype == AAAA;
            let at_apex = ask(&apex.to_string(), qtype);
            assert!(at_apex.is_some() || is_public, "{apex} {qtype}");
            let below = ask(&below.to_string(), qtype).unwrap();
            assert!(at_apex.is_none_or(|local| !local.document.is_empty()));
            assert!(below.authority.iter().all(|soa| soa.owner == apex));
            assert_eq!(below.answer.is_empty(), below.authority.len() == 1);
        }
        let beside = format!("x{apex}");
        assert_eq!(ask(&beside, A), None, "{beside}");
        let above = apex.parent().unwrap();
        assert_eq!(ask(&above.to_string(), A), None, "{above}");
    }
    // RFC 6303 has 33 zones, RFC 7793 has 64, and 17 stand elsewhere.
    assert_eq!(zones, 114);
}

#[test]
fn public_names_are_forwarded() {
    for name in [
        ".",
        "example.com",
        "example",
        "arpa",
        "in-addr.arpa",
        "8.8.8.8.in-addr.arpa",
        "15.172.in-addr.arpa",
        "32.172.in-addr.arpa",
        "63.100.in-addr.arpa",
        "128.100.in-addr.arpa",
        "1.0.192.in-addr.arpa",
        "7.e.f.ip6.arpa",
        "application-dns.net",
        "local.example",
        "mylocal",
        "test.com",
    ] {
        assert_eq!(ask(name, A), None, "{name}");
    }
}

#[test]
fn localhost_is_this_machine_whatever_stands_before_it() {
    for name in ["localhost", "LocalHost", "www.dev.localhost"] {
        assert_eq!(found(name, A), (0, vec![vec![127, 0, 0, 1]]));
        let loopback = Ipv6Addr::LOCALHOST.octets().to_vec();
        assert_eq!(found(name, AAAA), (0, vec![loopback]));
        assert_eq!(found(name, MX), NODATA);
        assert_eq!(found(name, 65), NODATA);
    }
    let localhost = vec![wire("localhost")];
    assert_eq!(found("1.0.0.127.in-addr.arpa", PTR), (0, localhost.clone()));
    let six = format!("1.{}ip6.arpa", "0.".repeat(31));
    assert_eq!(found(&six, PTR), (0, localhost));
    assert_eq!(found("0.0.127.in-addr.arpa", PTR), NODATA);
    assert_eq!(found("2.0.0.127.in-addr.arpa", PTR), NXDOMAIN);
}

#[test]
fn reserved_tlds_do_not_exist() {
    for name in ["invalid", "test", "local", "onion", "alt", "internal"] {
        for qtype in [A, SOA, NS, DS] {
            assert_eq!(found(name, qtype), NXDOMAIN);
            assert_eq!(found(&format!("printer.{name}"), qtype), NXDOMAIN);
        }
    }
    assert_eq!(found("use-application-dns.net", A), NXDOMAIN);
    assert_eq!(found("use-application-dns.net", AAAA), NXDOMAIN);
}

#[test]
fn empty_zones_have_an_apex_only() {
    for zone in ["10.in-addr.arpa", "99.100.in-addr.arpa", "home.arpa"] {
        assert_eq!(found(zone, PTR), NODATA);
        assert_eq!(found(zone, NS), (0, vec![wire(zone)]));
        assert_eq!(found(zone, SOA).1.len(), 1);
        assert_eq!(found(&format!("1.{zone}"), PTR), NXDOMAIN);
        assert_eq!(found(&format!("1.{zone}"), NS), NXDOMAIN);
    }
}

#[test]
fn the_resolver_designates_nobody() {
    assert_eq!(found("_dns.resolver.arpa", SVCB), NODATA);
    assert_eq!(found("resolver.arpa", 261), NODATA);
    assert_eq!(found("other.resolver.arpa", SVCB), NXDOMAIN);
    assert_eq!(found("_dns.other.resolver.arpa", SVCB), NXDOMAIN);
}

#[test]
fn the_nat64_prefix_is_the_networks_to_say() {
    let well_known = [[192, 0, 0, 170], [192, 0, 0, 171]].map(Vec::from);
    assert_eq!(found("ipv4only.arpa", A), (0, well_known.into()));
    assert_eq!(ask("ipv4only.arpa", AAAA), None);
    assert_eq!(found("ipv4only.arpa", MX), NODATA);
    assert_eq!(found("x.ipv4only.arpa", AAAA), NXDOMAIN);
    let name = vec![wire("ipv4only.arpa")];
    assert_eq!(found("170.0.0.192.in-addr.arpa", PTR), (0, name));
}

#[test]
fn what_is_absent_can_be_cached() {
    let local = ask("printer.local", A).unwrap();
    let soa = &local.authority[0];
    assert_eq!(
        (&soa.owner, soa.rtype),
        (&Name::parse("local").unwrap(), SOA)
    );
    assert_eq!(soa.ttl_s, TTL_S);
    assert!(soa.rdata.ends_with(&TTL_S.to_be_bytes()));
}

#[test]
fn the_parent_speaks_for_delegations() {
    assert_eq!(ask("10.in-addr.arpa", DS), None);
    assert_eq!(ask("home.arpa", DS), None);
    assert_eq!(found("1.10.in-addr.arpa", DS), NXDOMAIN);
}

#[test]
fn a_route_wins_at_and_below_its_zone() {
    let settings = Settings {
        routed: ["corp.internal", "168.192.in-addr.arpa", "arpa"]
            .map(|zone| Name::parse(zone).unwrap())
            .into(),
        ..Settings::default()
    };
    for (name, is_here) in [
        ("corp.internal", false),
        ("WWW.corp.INTERNAL", false),
        ("badcorp.internal", true),
        ("internal", true),
        ("1.168.192.in-addr.arpa", false),
        // A route for what is above says nothing of what is special below.
        ("1.10.in-addr.arpa", true),
    ] {
        for qtype in [A, DS] {
            assert_eq!(
                ask_with(&settings, name, qtype).is_some(),
                is_here,
                "{name}"
            );
        }
    }
}

#[test]
fn switched_off_everything_is_forwarded() {
    let settings = Settings {
        special_use: false,
        ..Settings::default()
    };
    assert_eq!(ask_with(&settings, "localhost", A), None);
}
