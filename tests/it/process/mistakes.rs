//! What people get wrong: one clear line each, and an exit that says so.

use std::{
    fs::Permissions,
    net::{TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    process,
};

use super::*;
use crate::lab::TestCa;

const LISTEN_AND: &str = "[listen]\ndns = []\ndot = [\"127.0.0.1:0\"]\ndoq = []\ndoh = []\n";
const FILES: &str = "[tls]\ncertificate = \"leaf.pem\"\nkey = \"leaf.key\"\n";

/// `truename` ends with this exit status and one line with all the parts, and prints nothing else.
#[track_caller]
fn check(setup: &Setup, arguments: &[&str], exit: i32, parts: &[&str]) {
    let ended = setup.run(arguments);
    assert_eq!(ended.status.code(), Some(exit), "{ended:#?}");
    assert_eq!(ended.errors.lines().count(), 1, "{ended:#?}");
    assert!(ended.errors.starts_with("truename: "), "{ended:#?}");
    assert_eq!(ended.out, "", "{ended:#?}");
    for part in parts {
        assert!(ended.errors.contains(part), "{part:?} in {ended:#?}");
    }
}

#[track_caller]
fn check_file(text: &str, parts: &[&str]) {
    check(&Setup::with_config(text), &[], 1, parts);
}

#[test]
fn a_wrong_key_is_named_with_file_line_and_the_right_one() {
    check_file(
        "[listen]\ndns = [\"127.0.0.1:0\"]\n\n[cache]\nsiez = \"1MiB\"\n",
        &["truename.toml:5:1: ", "siez", "size"],
    );
    check_file(
        "[lisen]\ndns = []\n",
        &["truename.toml:1:", "lisen", "listen"],
    );
    check_file("[listen\n", &["truename.toml:1:", "TOML"]);
    check_file(
        "[cache]\nsize = \"many\"\n",
        &["truename.toml:2:8: ", "`cache.size`", "MiB"],
    );
    check_file(
        "[names]\nrebinding_protection = true\n",
        &[
            "truename.toml:2:",
            "names.rebinding_protection",
            "not built yet",
        ],
    );
}

#[test]
fn several_mistakes_are_a_line_each() {
    let setup = Setup::with_config("[cache]\nsiez = 1\n[log]\nlevel = \"loud\"\n");
    let ended = setup.run(&["check", "--offline"]);
    assert_eq!(ended.status.code(), Some(1));
    let lines: Vec<_> = ended.errors.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].starts_with("truename: truename.toml:2:1: "));
    assert!(lines[1].starts_with("truename: truename.toml:4:9: "));
}

#[test]
fn a_taken_port_is_told_with_the_program_that_has_it() {
    // That program is this test.
    let comm = fs::read_to_string("/proc/self/comm").unwrap();
    let owner = format!("{} (pid {})", comm.trim_end(), process::id());
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for (listener, address, transport) in [
        ("", udp.local_addr().unwrap(), "udp"),
        ("dns://", tcp.local_addr().unwrap(), "tcp"),
        ("dot://", tcp.local_addr().unwrap(), "dot"),
        ("doh://", tcp.local_addr().unwrap(), "doh"),
        ("doq://", udp.local_addr().unwrap(), "doq"),
    ] {
        let listen = format!("{listener}{address}");
        let told = format!("{transport} {address}");
        let arguments = ["--listen", &listen, "--upstream", "udp://127.0.0.1:9"];
        check(
            &Setup::new(),
            &arguments,
            1,
            &[&told, &owner, "another port"],
        );
    }
}

#[test]
fn another_truename_is_recognised() {
    let lab = RunningLab::start();
    let first = before(&lab).start();
    let listen = first.address(Transport::Udp).to_string();
    let arguments = ["--listen", &listen, "--upstream", "udp://127.0.0.1:9"];
    let pid = format!("truename (pid {})", first.child.id());
    check(&Setup::new(), &arguments, 1, &[&pid, "another truename"]);
}

#[test]
fn an_address_that_is_not_ours_is_told() {
    // TEST-NET-1 (RFC 5737) is no machine's.
    let arguments = ["--listen", "192.0.2.1:0", "--upstream", "udp://127.0.0.1:9"];
    check(&Setup::new(), &arguments, 1, &["192.0.2.1:0", "ip address"]);
}

#[test]
fn a_bad_certificate_is_told_with_its_file() {
    let ca = TestCa::new();
    let leaf = ca.leaf(&["dns.example.com"], -1, 30);
    let other = ca.leaf(&["dns.example.com"], -1, 30);
    let setup = Setup::with_config(&format!("{LISTEN_AND}{FILES}"));
    check(&setup, &[], 1, &["leaf.pem", "No such file"]);
    setup.write("leaf.pem", "not PEM\n");
    setup.write("leaf.key", &leaf.key_pem);
    check(&setup, &[], 1, &["leaf.pem"]);
    setup.write("leaf.pem", &leaf.chain_pem);
    setup.write("leaf.key", &other.key_pem);
    check(&setup, &[], 1, &["leaf.pem", "leaf.key"]);
    setup.write(
        "leaf.key",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    );
    check(&setup, &[], 1, &["leaf.key"]);
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    let missing = ["--config", "missing.toml"];
    check(&Setup::new(), &missing, 1, &["missing.toml", "--config"]);

    let setup = Setup::new();
    fs::create_dir(setup.path().join("truename.toml")).unwrap();
    check(&setup, &[], 1, &["cannot read truename.toml"]);

    let setup = Setup::with_config(PLAIN);
    let path = setup.path().join("truename.toml");
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    // The superuser reads everything.
    if fs::read(&path).is_err() {
        check(&setup, &[], 1, &["cannot read truename.toml", "user"]);
    }

    let setup = Setup::new();
    fs::write(setup.path().join("truename.toml"), [0xff, 0xfe, 0, 0]).unwrap();
    check(&setup, &[], 1, &["truename.toml:1", "UTF-8"]);
}

#[test]
fn a_state_directory_that_cannot_be_is_told() {
    let setup = Setup::with_config(&format!(
        "{LISTEN_AND}[state]\ndirectory = \"occupied\"\n[[upstream]]\nurl = \"udp://127.0.0.1:9\"\n"
    ));
    setup.write("occupied", "a file\n");
    check(&setup, &[], 1, &["occupied"]);
}

#[test]
fn a_bad_upstream_is_told_at_its_line() {
    let upstream = |url: &str| format!("{PLAIN}[[upstream]]\nurl = \"{url}\"\n");
    for (url, parts) in [
        ("sdns://", &["stamp"] as &[_]),
        ("sdns://AgcAAAAAAAAABzEuMC4wLjE", &["stamp"]),
        ("sdns://!!!", &["stamp"]),
        ("quadnine", &["quadnine", "quad9"]),
        ("gopher://192.0.2.1", &["gopher"]),
        ("tls://", &["neither an address nor a host name"]),
    ] {
        let parts: Vec<_> = parts.iter().chain(&["truename.toml:7:"]).copied().collect();
        check_file(&upstream(url), &parts);
    }
    // The same from a flag is the command line's fault.
    let flag = ["--listen", "127.0.0.1:0", "--upstream", "sdns://!!!"];
    check(&Setup::new(), &flag, 2, &["--upstream", "stamp"]);
}

#[test]
fn roots_that_are_missing_or_none_are_told_at_their_line() {
    let text = format!("{PLAIN}[[upstream]]\nurl = \"tls://127.0.0.1\"\nca = \"ca.pem\"\n");
    let setup = Setup::with_config(&text);
    let place = "truename.toml:8:";
    check(
        &setup,
        &[],
        1,
        &[place, "upstream.ca", "ca.pem", "No such file"],
    );
    setup.write("ca.pem", "nothing\n");
    check(&setup, &[], 1, &[place, "ca.pem", "BEGIN CERTIFICATE"]);
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [
        &["--no-such-flag"] as &[_],
        &["walk"],
        &["query"],
        &["run", "--listen", "nowhere"],
        &["--listen", "gopher://127.0.0.1:0"],
        &["query", "example.com", "--server", "no such thing"],
        &["query", "example.com", "NOTYPE"],
        &["query", "a..b"],
    ] {
        let ended = Setup::new().run(arguments);
        assert_eq!(ended.status.code(), Some(2), "{ended:#?}");
        assert!(ended.errors.starts_with("truename: "), "{ended:#?}");
        assert_eq!(ended.out, "");
    }
}
