//! Unbound, as an upstream of truename and as its client, with servers of others behind it.

use std::{fs, path::PathBuf, process::Command};

use tempfile::TempDir;

use super::{
    servers::{Signer, Zone, knot, nsd},
    stage::Truename,
    tools::{Daemon, Shown, bind9_client, finish, free_port, program},
};
use crate::lab::{SERVER_NAME, TestCa, testca::Leaf};

/// A running Unbound on two free ports of 127.0.0.1: plain, and TLS if it was given a
/// certificate.
pub(super) struct Unbound {
    daemon: Daemon,
    pub(super) port: u16,
    pub(super) tls_port: u16,
    _directory: TempDir,
}

impl Unbound {
    /// Starts it with what the configuration shall say beside the ports.
    pub(super) fn start(config: &str) -> Self {
        Self::start_with(config, None)
    }

    fn start_with(config: &str, leaf: Option<&Leaf>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let [port, tls_port] = [free_port(), free_port()];
        let tls = leaf.map_or_else(String::new, |leaf| {
            fs::write(at("leaf.pem"), &leaf.chain_pem).unwrap();
            fs::write(at("leaf.key"), &leaf.key_pem).unwrap();
            format!(
                "\x20 interface: 127.0.0.1@{tls_port}\n\
                 \x20 tls-port: {tls_port}\n\
                 \x20 tls-service-pem: \"{}\"\n\
                 \x20 tls-service-key: \"{}\"\n",
                at("leaf.pem").display(),
                at("leaf.key").display()
            )
        });
        let here = directory.path().display();
        let own = format!(
            "server:\n\
             \x20 interface: 127.0.0.1@{port}\n\
             {tls}\
             \x20 directory: \"{here}\"\n\
             \x20 chroot: \"\"\n\
             \x20 username: \"\"\n\
             \x20 pidfile: \"\"\n\
             \x20 use-syslog: no\n\
             \x20 verbosity: 1\n\
             \x20 val-log-level: 2\n\
             \x20 log-servfail: yes\n\
             \x20 do-daemonize: no\n\
             \x20 do-ip6: no\n\
             \x20 do-not-query-localhost: no\n\
             \x20 num-threads: 1\n\
             remote-control:\n\
             \x20 control-enable: no\n"
        );
        fs::write(at("unbound.conf"), own + config).unwrap();
        let daemon = Daemon::start(
            Command::new(program("unbound", "unbound"))
                .args(["-d", "-p", "-c"])
                .arg(at("unbound.conf")),
            at("log"),
            || answers(port),
        );
        Self {
            daemon,
            port,
            tls_port,
            _directory: directory,
        }
    }

    /// What dig shows of its answer.
    pub(super) fn ask(&self, arguments: &[&str]) -> Shown {
        dig(self.port, arguments)
    }

    /// What it printed so far.
    pub(super) fn log(&self) -> String {
        self.daemon.log()
    }
}

/// Whether a DNS server answers on a port, whatever it says.
pub(super) fn answers(port: u16) -> bool {
    let mut dig = bind9_client("dig", port);
    let ran = finish(dig.args(["+time=1", "+tries=1", ".", "NS"]));
    ran.status == Some(0)
}

/// Asks a server on a port of 127.0.0.1 by dig.
pub(super) fn dig(port: u16, arguments: &[&str]) -> Shown {
    let mut dig = bind9_client("dig", port);
    let ran = finish(dig.args(["+time=10", "+tries=1"]).args(arguments)).succeeded();
    let shown = Shown::all(&ran.stdout);
    assert_eq!(shown.len(), 1, "{ran}");
    shown[0].clone()
}

/// What a client of truename must see of a zone of `servers`, whoever signed and served it.
fn check_zone(truename: &Truename, apex: &str) {
    let name = |label: &str| format!("{label}.{apex}");
    let ask = |arguments: &[&str]| dig(truename.port("udp"), arguments);
    ask(&[&name("www")]).expect("NOERROR", "A", &["192.0.2.80"]);
    ask(&[&name("www"), "AAAA"]).expect("NOERROR", "AAAA", &["2001:db8::80"]);
    ask(&[&name("any.wild")]).expect("NOERROR", "A", &["192.0.2.42"]);
    ask(&[&name("alias")])
        .expect("NOERROR", "A", &["192.0.2.80"])
        .expect("NOERROR", "CNAME", &[&format!("www.{apex}.")]);
    ask(&[&name("nothing")]).expect("NXDOMAIN", "A", &[]);
    ask(&[&name("large"), "TXT"]).shows("ANSWER: 20");
    for (label, kind, status) in [
        ("www", "A", "NOERROR"),
        ("any.wild", "A", "NOERROR"),
        ("nothing", "A", "NXDOMAIN"),
        ("www", "MX", "NOERROR"),
    ] {
        let signed = ask(&[&name(label), kind, "+dnssec"]);
        assert_eq!(signed.status, status, "{}", signed.text);
        signed.shows("RRSIG");
        if signed.answer.is_empty() {
            signed.shows("NSEC");
        }
        let unsigned = ask(&[&name(label), kind]);
        unsigned.hides("RRSIG").hides("NSEC");
    }
    let keys = ask(&[apex, "DNSKEY", "+dnssec"]);
    assert!(!keys.data("DNSKEY").is_empty(), "{}", keys.text);
}

/// Has delv validate names through truename, from the zone's own anchor.
fn check_signatures(truename: &Truename, zone: &Zone) {
    let anchors = truename.file("zone-anchors");
    fs::write(&anchors, zone.anchors()).unwrap();
    let root = format!("+root={}", zone.apex);
    for (label, verdict) in [
        ("www", "; fully validated"),
        ("alias", "; fully validated"),
        ("any.wild", "; fully validated"),
        ("large", "; negative response, fully validated"),
        ("nothing", "; negative response, fully validated"),
    ] {
        let name = format!("{label}.{}", zone.apex);
        let mut delv = bind9_client("delv", truename.port("udp"));
        let ran = finish(delv.arg("-a").arg(&anchors).args([&root, &name, "A"]));
        assert!(ran.stdout.contains(verdict), "{verdict}: {ran}");
    }
}

/// Unbound's configuration that sends it to a server for a zone, which it validates.
fn stub(zone: &Zone, directory: &TempDir, server_port: u16) -> String {
    let anchor: PathBuf = directory.path().join(format!("{}.ds", zone.apex));
    fs::write(&anchor, &zone.ds).unwrap();
    format!(
        "server:\n\
         \x20 trust-anchor-file: \"{}\"\n\
         stub-zone:\n\
         \x20 name: \"{}\"\n\
         \x20 stub-addr: 127.0.0.1@{server_port}\n",
        anchor.display(),
        zone.apex,
    )
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn unbound_over_tls_with_nsd_behind_it() {
    let zones = [
        Zone::signed("bind-signed.com", Signer::Bind),
        Zone::signed("ldns-signed.com", Signer::Ldns),
        Zone::signed("knot-signed.com", Signer::Knot),
    ];
    let server = nsd(&zones);
    let directory = tempfile::tempdir().unwrap();
    let stubs = zones.iter().map(|zone| stub(zone, &directory, server.port));
    let ca = TestCa::new();
    let leaf = ca.leaf(&[SERVER_NAME, "127.0.0.1"], -1, 30);
    let unbound = Unbound::start_with(&stubs.collect::<String>(), Some(&leaf));
    for zone in &zones {
        let name = format!("www.{}", zone.apex);
        let shown = unbound.ask(&[&name, "+dnssec"]);
        assert!(shown.has("ad"), "{}\n{}", shown.text, unbound.log());
    }
    let upstream = format!("tls://127.0.0.1:{}", unbound.tls_port);
    let truename = Truename::start(&upstream, Some(&ca.pem()), None);
    for zone in &zones {
        check_zone(&truename, zone.apex);
        check_signatures(&truename, zone);
    }
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn unbound_over_plain_dns_with_knot_behind_it() {
    let zones = [
        Zone::signed("bind-signed.com", Signer::Bind),
        Zone::signed("ldns-signed.com", Signer::Ldns),
    ];
    let server = knot(&zones);
    let directory = tempfile::tempdir().unwrap();
    let stubs = zones.iter().map(|zone| stub(zone, &directory, server.port));
    let unbound = Unbound::start(&stubs.collect::<String>());
    for scheme in ["udp", "tcp"] {
        let upstream = format!("{scheme}://127.0.0.1:{}", unbound.port);
        let truename = Truename::start(&upstream, None, None);
        for zone in &zones {
            check_zone(&truename, zone.apex);
            check_signatures(&truename, zone);
        }
    }
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn a_server_of_a_zone_is_an_upstream_for_it() {
    let zones = [Zone::signed("bind-signed.com", Signer::Bind)];
    for server in [knot(&zones), nsd(&zones)] {
        let upstream = format!("udp://127.0.0.1:{}", server.port);
        let truename = Truename::start(&upstream, None, None);
        check_zone(&truename, zones[0].apex);
        check_signatures(&truename, &zones[0]);
    }
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn unbound_with_a_wrong_certificate_is_not_believed() {
    let ca = TestCa::new();
    let leaf = ca.leaf(&["elsewhere.lab-dns.com"], -1, 30);
    let answers = "server:\n\x20 local-data: \"www.elsewhere.com. A 192.0.2.1\"\n";
    let unbound = Unbound::start_with(answers, Some(&leaf));
    let upstream = format!("tls://127.0.0.1:{}", unbound.tls_port);
    let truename = Truename::start(&upstream, Some(&ca.pem()), None);
    let shown = dig(truename.port("udp"), &["www.elsewhere.com"]);
    assert_eq!(shown.status, "SERVFAIL", "{}", shown.text);
    shown.shows("EDE: ");
}
