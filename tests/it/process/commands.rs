//! The commands that read and show: check, query, and what becomes of a reader who leaves.

use std::net::TcpListener;

use super::*;
use crate::lab::{Transport, name::Name};

#[test]
fn check_is_content_with_what_works() {
    let lab = RunningLab::start();
    let setup = before(&lab);
    let text = setup.run(&["check"]).succeeded();
    assert!(text.contains("ok    configuration truename.toml"), "{text}");
    assert!(text.contains("ok    listener dns 127.0.0.1:0"), "{text}");
    assert!(text.contains("ok    upstream lab"), "{text}");
    assert!(!text.contains("fails"), "{text}");

    let json = setup.run(&["check", "--json"]).json();
    assert_eq!(json["ok"], true);
    let checks = json["checks"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["subject"] == "upstream"));
}

#[test]
fn check_shows_what_fails_and_exits_with_1() {
    let lab = RunningLab::start();
    lab.faults().everywhere(|set| set.refuse = true);
    let setup = before(&lab);
    let ended = setup.run(&["check"]);
    assert_eq!(ended.status.code(), Some(1), "{ended:#?}");
    assert!(ended.out.contains("fails upstream lab"), "{ended:#?}");
    let ended = setup.run(&["check", "--json"]);
    assert_eq!(ended.status.code(), Some(1), "{ended:#?}");
    assert_eq!(ended.json()["ok"], false);

    let seen = lab.record().len();
    let offline = setup.run(&["check", "--offline"]).succeeded();
    assert!(offline.contains("not asked"), "{offline}");
    assert_eq!(lab.record().len(), seen);
}

#[test]
fn what_check_calls_in_force_is_a_file_that_says_the_same() {
    let lab = RunningLab::start();
    let setup = before(&lab);
    let effective = |setup: &Setup, file: &str| {
        let arguments = ["check", "--offline", "--json", "--config", file];
        let json = setup.run(&arguments).json();
        let effective = json["effective"].as_str().unwrap();
        // The first line names the file.
        effective.split_once('\n').unwrap().1.to_owned()
    };
    let first = effective(&setup, "truename.toml");
    setup.write("again.toml", &first);
    assert_eq!(effective(&setup, "again.toml"), first);
}

#[test]
fn check_says_what_becomes_of_the_zones_of_routes() {
    let lab = RunningLab::start();
    let setup = Setup::new();
    let upstream = lab.upstream(setup.path(), Transport::Tls);
    let routes = "
        [[route]]
        zones = [\"corp.lan\", \"gone.lan\", \"insecure.com\", \"secure.com\"]
        upstreams = [\"lab\"]
        [[route]]
        zones = [\"off.lan\"]
        upstreams = [\"lab\"]
        dnssec = \"off\"
    ";
    setup.write("truename.toml", &format!("{PLAIN}{upstream}{routes}"));
    // As the servers of a private zone answer: without proofs.
    lab.faults().edit_answer("corp.lan", "SOA", |response| {
        response.rcode = 0;
        response.authority.clear();
    });
    let text = setup.run(&["check"]).succeeded();
    for line in [
        "note  route gone.lan.: does not exist",
        "ok    route corp.lan.: is not in the public tree (proved); its answers are taken unvalidated",
        "ok    route insecure.com.: is unsigned in the public tree (proved",
        "ok    route secure.com.: is signed in the public tree, and its answers validate",
        "ok    route off.lan.: its answers are taken unvalidated (dnssec = \"off\")",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    lab.faults().everywhere(|set| {
        set.below = Some(Name::parse("secure.com"));
        set.strip_types = vec![46];
    });
    let ended = setup.run(&["check"]);
    let line = "fails route secure.com.: is signed in the public tree, so its answers must";
    assert!(ended.out.contains(line), "{ended:#?}");
}

#[test]
fn query_asks_nobody_for_special_use_names() {
    let lab = RunningLab::start();
    let setup = before(&lab);
    let text = setup.run(&["query", "printer.local"]).succeeded();
    assert!(text.contains("status: NXDOMAIN"), "{text}");
    assert!(
        text.contains("SERVER: nobody, a special-use name (RFC 6762)"),
        "{text}"
    );
    let json = setup.run(&["query", "localhost", "--json"]).json();
    assert_eq!(json["answer"][0]["data"], "127.0.0.1");
    assert_eq!(lab.record().len(), 0);
}

/// Ctrl-Z while it waits, then `fg`.
#[test]
fn query_that_was_stopped_goes_on_waiting() {
    let (datagrams, streams) = udp_and_tcp();
    let server = streams.local_addr().unwrap();
    for transport in ["udp", "tcp"] {
        let url = format!("{transport}://{server}");
        let arguments = ["query", "www.example", "--server", &url];
        let mut asking = Setup::new().arguments(&arguments).start_unheard();
        let mut query = [0; 512];
        if transport == "udp" {
            let mut client = None;
            let length = uninterrupted(|| {
                let (length, from) = datagrams.recv_from(&mut query)?;
                client = Some(from);
                Ok(length)
            });
            asking.stop_and_continue();
            let response = empty_response(&query[..length.unwrap()]);
            datagrams.send_to(&response, client.unwrap()).unwrap();
        } else {
            let mut stream = None;
            wait_until("a connection", || {
                stream = streams.accept().ok();
                stream.is_some()
            });
            let (mut stream, _) = stream.unwrap();
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let length = uninterrupted(|| stream.read(&mut query)).unwrap();
            asking.stop_and_continue();
            let response = framed(&empty_response(&query[2..length]));
            stream.write_all(&response).unwrap();
        }
        let status = asking.wait();
        assert!(status.success(), "{transport}: {:?}", asking.log.all());
    }
}

/// Sockets of one port, neither of which waits for ever.
fn udp_and_tcp() -> (UdpSocket, TcpListener) {
    loop {
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        // The port may be another's for TCP.
        if let Ok(streams) = TcpListener::bind(datagrams.local_addr().unwrap()) {
            datagrams.set_read_timeout(Some(PATIENCE)).unwrap();
            streams.set_nonblocking(true).unwrap();
            return (datagrams, streams);
        }
    }
}

/// A response without records to a query that ends with an OPT record without options.
fn empty_response(query: &[u8]) -> Vec<u8> {
    let mut response = query[..query.len() - 11].to_vec();
    response[2] |= 0x80;
    response[10..12].copy_from_slice(&[0, 0]);
    response
}

#[test]
fn query_shows_the_answer_of_a_running_instance() {
    let lab = RunningLab::start();
    let truename = before(&lab).start();
    let server = format!("udp://{}", truename.address(Transport::Udp));
    let query = |arguments: &[&str]| {
        let all = [&["query"], arguments, &["--server", &server]].concat();
        truename.setup.run(&all)
    };
    let text = query(&["www.secure.com"]).succeeded();
    for part in [
        "status: NOERROR",
        "flags: qr rd ra",
        "www.secure.com.",
        "192.0.2.80",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let json = query(&["www.secure.com", "AAAA", "--json"]);
    assert!(json.status.success());
    let json = json.json();
    assert_eq!(json["status"], "NOERROR");
    assert!(json.to_string().contains("2001:db8::80"), "{json}");

    let absent = query(&["no-such-name.secure.com"]).succeeded();
    assert!(absent.contains("status: NXDOMAIN"), "{absent}");

    // Too long for a datagram: asked again over TCP.
    let long = query(&["big.secure.com", "TXT"]);
    assert!(long.status.success(), "{long:#?}");

    let unknown = query(&["www.secure.com", "NOTYPE"]);
    assert_eq!(unknown.status.code(), Some(2));

    lab.faults().everywhere(|set| set.rcode = Some(2));
    let failed = query(&["mail.secure.com"]);
    assert_eq!(failed.status.code(), Some(4), "{failed:#?}");
    assert!(failed.out.contains("status: SERVFAIL"), "{failed:#?}");
}

#[test]
fn query_works_without_a_running_instance() {
    let lab = RunningLab::start();
    let setup = before(&lab);
    let text = setup.run(&["query", "www.secure.com"]).succeeded();
    assert!(text.contains("192.0.2.80"), "{text}");

    let (_socket, address) = refused();
    let server = format!("tcp://{address}");
    let arguments = ["query", "www.secure.com", "--server", &server];
    let ended = setup.run(&arguments);
    assert_eq!(ended.status.code(), Some(4), "{ended:#?}");
    assert_eq!((ended.out.as_str(), ended.errors.lines().count()), ("", 1));
    let json = setup.run(&[&arguments[..], &["--json"]].concat());
    assert_eq!(json.status.code(), Some(4));
    assert!(json.json()["error"].is_string());
}

#[test]
fn anchors_that_a_first_start_would_take_are_shown() {
    let lab = RunningLab::start();
    let setup = before(&lab);
    let tag = lab.trust_anchor_ds();
    let tag: u16 = tag.split_whitespace().nth(3).unwrap().parse().unwrap();
    let text = setup.run(&["anchors", "show"]).succeeded();
    assert!(
        text.starts_with("trust anchors that are configured; "),
        "{text}"
    );
    assert!(
        text.contains(&format!("\n  {tag:>5} algorithm 8  valid ")),
        "{text}"
    );
    let json = setup.run(&["anchors", "show", "--json"]).json();
    assert_eq!(json["zones"][0]["keys"][0]["key_tag"], tag);
    assert_eq!(json["zones"][0]["keys"][0]["source"], "configured");
    assert!(!setup.path().join("state").exists());
}

#[test]
fn a_reader_who_leaves_is_no_failure() {
    for arguments in [
        &["check", "--offline"] as &[_],
        &["check", "--offline", "--json"],
        &["--help"],
    ] {
        let setup = Setup::with_config(PLAIN);
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut command = setup.command();
        command
            .args(arguments)
            .stdout(writer)
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut errors = String::new();
        let mut stderr = child.stderr.take().unwrap();
        let status = Ending(child).wait();
        stderr.read_to_string(&mut errors).unwrap();
        assert_eq!(
            (status.code(), errors.as_str()),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}

#[test]
fn help_and_version_are_on_standard_output() {
    let setup = Setup::new();
    let version = setup.run(&["--version"]).succeeded();
    assert_eq!(version, format!("truename {}\n", env!("CARGO_PKG_VERSION")));
    let help = setup.run(&["query", "--help"]).succeeded();
    assert!(help.contains("Example:"), "{help}");
}
