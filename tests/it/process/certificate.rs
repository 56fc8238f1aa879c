//! What the encrypted listeners show: files that somebody renews, or the local CA's leaf.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use super::*;
use crate::lab::{Leaf, TestCa, message::NOERROR};

const DOT: &str = "[listen]\ndns = []\ndot = [\"127.0.0.1:0\"]\ndoq = []\ndoh = []\n";
const FILES: &str = "[tls]\ncertificate = \"leaf.pem\"\nkey = \"leaf.key\"\n";
const NAME: &str = "dns.example.com";

pub(super) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A DoT connection that trusts one CA, handshake done.
pub(super) fn connect_tls(server: SocketAddr, ca_pem: &str, name: &str) -> Tls {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = connect(server);
    while session.is_handshaking() {
        session.complete_io(&mut stream).unwrap();
    }
    StreamOwned::new(session, stream)
}

fn shown(connection: &Tls) -> CertificateDer<'static> {
    connection.conn.peer_certificates().unwrap()[0].clone()
}

fn der(leaf: &Leaf) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(leaf.chain_pem.as_bytes()).unwrap()
}

fn write(setup: &Setup, leaf: &Leaf) {
    setup.write("leaf.pem", &leaf.chain_pem);
    setup.write("leaf.key", &leaf.key_pem);
}

#[test]
fn replaced_files_are_shown_after_sighup_while_old_connections_live() {
    let lab = RunningLab::start();
    let ca = TestCa::new();
    let (first, second) = (ca.leaf(&[NAME], -1, 30), ca.leaf(&[NAME], -1, 60));
    let setup = Setup::new();
    write(&setup, &first);
    let upstream = lab.upstream(setup.path(), Transport::Tls);
    setup.write("truename.toml", &format!("{DOT}{FILES}{upstream}"));
    let mut truename = setup.start();
    let server = truename.address(Transport::Tls);
    let mut old = connect_tls(server, &ca.pem(), NAME);
    assert_eq!(shown(&old), der(&first));
    let ask = Ask::new("www.secure.com", "A");
    assert_eq!(ask_on(&mut old, &ask).unwrap().rcode, NOERROR);

    // Half a replacement: the old pair stays in use.
    truename.setup.write("leaf.pem", &second.chain_pem);
    let line = truename.reload("the configuration stays as it was");
    assert!(line.contains("leaf.key"), "{line}");
    let between = connect_tls(server, &ca.pem(), NAME);
    assert_eq!(shown(&between), der(&first));

    truename.setup.write("leaf.key", &second.key_pem);
    truename.reload("the configuration was read again");
    let mut new = connect_tls(server, &ca.pem(), NAME);
    assert_eq!(shown(&new), der(&second));
    for connection in [&mut old, &mut new] {
        let ask = Ask::new("mail.secure.com", "A");
        assert_eq!(ask_on(connection, &ask).unwrap().rcode, NOERROR);
    }
    truename.stop();
}

#[test]
fn replaced_files_are_shown_without_a_word_once_both_fit() {
    let lab = RunningLab::start();
    let ca = TestCa::new();
    let (first, second) = (ca.leaf(&[NAME], -1, 30), ca.leaf(&[NAME], -1, 60));
    let setup = Setup::new();
    write(&setup, &first);
    let upstream = lab.upstream(setup.path(), Transport::Tls);
    setup.write("truename.toml", &format!("{DOT}{FILES}{upstream}"));
    let truename = setup.start();
    let server = truename.address(Transport::Tls);
    let mut old = connect_tls(server, &ca.pem(), NAME);
    truename.setup.write("leaf.pem", &second.chain_pem);
    truename.log.wait_for("the certificate stays as it was", 1);
    assert_eq!(shown(&connect_tls(server, &ca.pem(), NAME)), der(&first));
    truename.setup.write("leaf.key", &second.key_pem);
    truename.log.wait_for("the certificate was replaced", 1);
    assert_eq!(shown(&connect_tls(server, &ca.pem(), NAME)), der(&second));
    let ask = Ask::new("www.secure.com", "A");
    assert_eq!(ask_on(&mut old, &ask).unwrap().rcode, NOERROR);
}

#[test]
fn the_local_ca_is_made_once_kept_private_and_can_be_trusted() {
    let lab = RunningLab::start();
    let setup = Setup::new();
    let upstream = lab.upstream(setup.path(), Transport::Tls);
    let names = "[tls]\nnames = [\"router.lan\", \"127.0.0.1\"]\n";
    setup.write("truename.toml", &format!("{DOT}{names}{upstream}"));

    let absent = setup.run(&["cert", "show"]);
    assert_eq!(absent.status.code(), Some(1));
    assert_eq!(absent.errors.lines().count(), 1, "{}", absent.errors);
    assert!(absent.errors.contains("start truename once"), "{absent:?}");

    let mut truename = setup.start();
    let directory = truename.setup.path().join("state/certificates");
    let mut keys = 0;
    for file in fs::read_dir(&directory).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap_or_default();
        if text.contains("PRIVATE KEY") {
            keys += 1;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
    }
    assert_eq!(keys, 2, "one of the CA, one of the leaf");

    let exported = truename.setup.run(&["cert", "export"]).succeeded();
    let server = truename.address(Transport::Tls);
    let first = connect_tls(server, &exported, "router.lan");
    assert_eq!(
        shown(&first),
        shown(&connect_tls(server, &exported, "127.0.0.1"))
    );

    let told = truename
        .setup
        .run(&["cert", "export", "--output", "ca.pem"]);
    assert_eq!(told.succeeded(), "");
    let written = fs::read_to_string(truename.setup.path().join("ca.pem")).unwrap();
    assert_eq!(written, exported);
    let der = ["cert", "export", "--der", "--output", "ca.cer"];
    truename.setup.run(&der).succeeded();
    let der = fs::read(truename.setup.path().join("ca.cer")).unwrap();
    let pem = CertificateDer::from_pem_slice(exported.as_bytes()).unwrap();
    assert_eq!(der, pem.as_ref());

    let shown_text = truename.setup.run(&["cert", "show"]).succeeded();
    for expected in ["router.lan", "127.0.0.1", "local CA"] {
        assert!(shown_text.contains(expected), "{shown_text}");
    }
    let json = truename.setup.run(&["cert", "show", "--json"]).json();
    assert_eq!(json["source"], "local");
    assert!(json["authority"]["certificate"].is_object(), "{json}");
    let json = truename.setup.run(&["cert", "export", "--json"]).json();
    assert_eq!(json["pem"], exported);

    truename.stop();
    let setup = std::mem::replace(&mut truename.setup, Setup::new());
    let again = setup.start();
    let server = again.address(Transport::Tls);
    let second = connect_tls(server, &exported, "router.lan");
    assert_eq!(shown(&first), shown(&second));
    assert_eq!(again.log.count("local certification authority"), 0);
}

#[test]
fn a_configured_certificate_is_shown_and_has_no_ca_to_export() {
    let ca = TestCa::new();
    let setup = Setup::with_config(&format!("{DOT}{FILES}"));
    write(&setup, &ca.leaf(&[NAME], -1, 30));
    let text = setup.run(&["cert", "show"]).succeeded();
    assert!(text.contains(NAME), "{text}");
    let json = setup.run(&["cert", "show", "--json"]).json();
    assert_eq!(json["source"], "configured");
    let export = setup.run(&["cert", "export"]);
    assert_eq!(export.status.code(), Some(1));
    assert_eq!(
        (export.out.as_str(), export.errors.lines().count()),
        ("", 1)
    );
}

#[test]
fn other_names_take_another_certificate_at_once() {
    let lab = RunningLab::start();
    let setup = Setup::new();
    let upstream = lab.upstream(setup.path(), Transport::Tls);
    let config = |names: &str| format!("{DOT}[tls]\nnames = [{names}]\n{upstream}");
    setup.write("truename.toml", &config("\"router.lan\""));
    let truename = setup.start();
    let server = truename.address(Transport::Tls);
    let export = || truename.setup.run(&["cert", "export"]).succeeded();
    let first = connect_tls(server, &export(), "router.lan");

    let names = "\"router.lan\", \"dns.router.lan\"";
    truename.setup.write("truename.toml", &config(names));
    truename.reload("the configuration was read again");
    let second = connect_tls(server, &export(), "dns.router.lan");
    assert_ne!(shown(&first), shown(&second));
}
