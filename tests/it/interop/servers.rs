//! Zones signed by the tools of others, and the servers of others that serve them.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

use super::{
    resolvers::answers,
    tools::{Daemon, finish, free_port, program},
};

/// Whose tools sign a zone.
#[derive(Clone, Copy)]
pub(super) enum Signer {
    /// dnssec-signzone, ECDSA P-256, NSEC.
    Bind,
    /// ldns-signzone, RSA/SHA-256, NSEC3.
    Ldns,
    /// kzonesign, Ed25519, NSEC3.
    Knot,
}

/// A signed zone.
pub(super) struct Zone {
    pub(super) apex: &'static str,
    /// The signed zone as a file.
    pub(super) text: String,
    /// Its DS, a line each.
    pub(super) ds: String,
}

impl Zone {
    pub(super) fn signed(apex: &'static str, signer: Signer) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("zone"), unsigned(apex)).unwrap();
        let here = directory.path();
        let (text, ds) = match signer {
            Signer::Bind => sign_by_bind(here, apex),
            Signer::Ldns => sign_by_ldns(here, apex),
            Signer::Knot => sign_by_knot(here, apex),
        };
        Self { apex, text, ds }
    }

    /// Its trust anchors in BIND's syntax.
    pub(super) fn anchors(&self) -> String {
        let lines = self.ds.lines().map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let ds = fields.iter().position(|&field| field == "DS").unwrap();
            let numbers = fields[ds + 1..ds + 4].join(" ");
            let digest = fields[ds + 4..].concat();
            format!("{} static-ds {numbers} \"{digest}\";", self.apex)
        });
        format!("trust-anchors {{ {} }};\n", lines.collect::<String>())
    }
}

fn unsigned(apex: &str) -> String {
    let mut zone = format!(
        "$ORIGIN {apex}.\n\
         $TTL 300\n\
         @ SOA ns1 hostmaster 1 3600 600 86400 300\n\
         @ NS ns1\n\
         ns1 A 192.0.2.53\n\
         www A 192.0.2.80\n\
         www AAAA 2001:db8::80\n\
         alias CNAME www\n\
         *.wild A 192.0.2.42\n"
    );
    for number in 0..20 {
        zone.push_str(&format!("large TXT \"{number:02} {}\"\n", "x".repeat(200)));
    }
    zone
}

/// Runs a tool in a directory; what it printed.
fn tool(here: &Path, name: &str, package: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program(name, package));
    let ran = finish(command.current_dir(here).args(arguments));
    ran.succeeded().stdout
}

fn sign_by_bind(here: &Path, apex: &str) -> (String, String) {
    let run = |name: &str, arguments: &[&str]| tool(here, name, "bind9-utils", arguments);
    for role in [&["-f", "KSK"][..], &[]] {
        let arguments = [&["-a", "ECDSAP256SHA256"], role, &[apex]].concat();
        run("dnssec-keygen", &arguments);
    }
    let sign = ["-S", "-o", apex, "-f", "signed", "zone"];
    run("dnssec-signzone", &sign);
    let ds = run("dnssec-dsfromkey", &["-2", "-f", "signed", apex]);
    (fs::read_to_string(here.join("signed")).unwrap(), ds)
}

fn sign_by_ldns(here: &Path, apex: &str) -> (String, String) {
    let run = |name: &str, arguments: &[&str]| tool(here, name, "ldnsutils", arguments);
    let make = ["-a", "RSASHA256", "-b", "2048"];
    let key_signing = run("ldns-keygen", &[&make[..], &["-k", apex]].concat());
    let zone_signing = run("ldns-keygen", &[&make[..], &[apex]].concat());
    let [key_signing, zone_signing] = [key_signing.trim(), zone_signing.trim()];
    let sign = [
        "-n",
        "-o",
        apex,
        "-f",
        "signed",
        "zone",
        key_signing,
        zone_signing,
    ];
    run("ldns-signzone", &sign);
    let ds = run("ldns-key2ds", &["-n", "-2", &format!("{key_signing}.key")]);
    (fs::read_to_string(here.join("signed")).unwrap(), ds)
}

fn sign_by_knot(here: &Path, apex: &str) -> (String, String) {
    let config = format!(
        "database:\n  storage: {here}\n\
         policy:\n  - id: all\n    algorithm: ed25519\n    nsec3: on\n    nsec3-iterations: 0\n    nsec3-salt-length: 0\n\
         zone:\n  - domain: {apex}\n    storage: {here}\n    file: zone\n    dnssec-signing: on\n    dnssec-policy: all\n",
        here = here.display()
    );
    fs::write(here.join("knot.conf"), config).unwrap();
    let out = here.join("signed");
    fs::create_dir(&out).unwrap();
    let sign = ["-c", "knot.conf", "-o", "signed", apex];
    tool(here, "kzonesign", "knot-dnssecutils", &sign);
    let ds = tool(here, "keymgr", "knot", &["-c", "knot.conf", apex, "ds"]);
    (fs::read_to_string(out.join("zone")).unwrap(), ds)
}

/// A running server.
pub(super) struct Server {
    _daemon: Daemon,
    pub(super) port: u16,
    _directory: TempDir,
}

/// NSD with zones.
pub(super) fn nsd(zones: &[Zone]) -> Server {
    nsd_with(zones.iter().map(|zone| (zone.apex, zone.text.as_str())))
}

/// NSD with zones, each a name and the text of its file.
pub(super) fn nsd_with<'a>(zones: impl IntoIterator<Item = (&'a str, &'a str)>) -> Server {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let port = free_port();
    let shown = here.display();
    let mut config = format!(
        "server:\n\
         \x20 ip-address: 127.0.0.1@{port}\n\
         \x20 username: \"\"\n\
         \x20 chroot: \"\"\n\
         \x20 zonesdir: \"{shown}\"\n\
         \x20 pidfile: \"{shown}/pid\"\n\
         \x20 zonelistfile: \"{shown}/zone.list\"\n\
         \x20 xfrdfile: \"{shown}/xfrd.state\"\n\
         \x20 xfrdir: \"{shown}\"\n\
         \x20 server-count: 1\n\
         remote-control:\n\
         \x20 control-enable: no\n"
    );
    for (apex, text) in zones {
        let file = format!("{apex}.zone");
        fs::write(here.join(&file), text).unwrap();
        config.push_str(&format!("zone:\n  name: {apex}\n  zonefile: \"{file}\"\n"));
    }
    let path = here.join("nsd.conf");
    fs::write(&path, config).unwrap();
    let mut command = Command::new(program("nsd", "nsd"));
    command.arg("-d").arg("-c").arg(&path);
    let daemon = Daemon::start(&mut command, here.join("log"), || answers(port));
    Server {
        _daemon: daemon,
        port,
        _directory: directory,
    }
}

/// Knot DNS with zones.
pub(super) fn knot(zones: &[Zone]) -> Server {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let port = free_port();
    let shown = here.display();
    let mut config = format!(
        "server:\n\
         \x20 rundir: {shown}\n\
         \x20 listen: 127.0.0.1@{port}\n\
         database:\n\
         \x20 storage: {shown}\n\
         zone:\n"
    );
    for zone in zones {
        let apex = zone.apex;
        fs::write(here.join(apex), &zone.text).unwrap();
        config.push_str(&format!(
            "\x20 - domain: {apex}\n    storage: {shown}\n    file: {apex}\n"
        ));
    }
    let path = here.join("knot.conf");
    fs::write(&path, config).unwrap();
    let mut command = Command::new(program("knotd", "knot"));
    command.arg("-c").arg(&path);
    let daemon = Daemon::start(&mut command, here.join("log"), || answers(port));
    Server {
        _daemon: daemon,
        port,
        _directory: directory,
    }
}
