//! Whole command lines: what they write, and how they exit.

use std::{fs, io, net::UdpSocket, path::Path, thread};

use super::*;

fn surroundings(home: &Path) -> Surroundings {
    Surroundings {
        home: Some(home.to_owned()),
        ..Surroundings::default()
    }
}

/// Runs a command line; returns the status and both outputs.
fn run_in(home: &Path, arguments: &[&str]) -> (ExitStatus, String, String) {
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let arguments = ["truename"].iter().chain(arguments).map(OsString::from);
    let status = run(arguments, &surroundings(home), &mut out, &mut errors);
    let text = |octets| String::from_utf8(octets).unwrap();
    (status, text(out), text(errors))
}

#[test]
fn help_and_version_are_output_and_mistakes_are_not() {
    let home = tempfile::tempdir().unwrap();
    let (status, out, errors) = run_in(home.path(), &["--help"]);
    assert_eq!((status, errors.as_str()), (ExitStatus::Success, ""));
    assert!(out.contains("Usage:") && out.contains("Example:"), "{out}");
    let (status, out, _) = run_in(home.path(), &["--version"]);
    assert_eq!(status, ExitStatus::Success);
    assert_eq!(out, concat!("truename ", env!("CARGO_PKG_VERSION"), "\n"));
    let (status, out, errors) = run_in(home.path(), &["qery"]);
    assert_eq!((status, out.as_str()), (ExitStatus::Usage, ""));
    assert!(errors.starts_with("truename: "), "{errors}");
    let (status, _, _) = run_in(home.path(), &["query"]);
    assert_eq!(status, ExitStatus::Usage);
}

#[test]
fn each_problem_of_a_file_is_one_line() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("bad.toml");
    fs::write(&file, "[cache]\nsize = \"32 megs\"\nprefetch = 1\n").unwrap();
    let path = file.to_str().unwrap();
    let expected = format!(
        "truename: {path}:2:8: `cache.size`: \"32 megs\" is not a size; write it as \"32MiB\"\n\
         truename: {path}:3:12: `cache.prefetch`: is a number, but must be true or false, without quotes\n"
    );
    for arguments in [
        &["check", "--config", path][..],
        &["run", "--config", path],
        &["cert", "show", "--config", path],
        &["query", "a.example", "--config", path],
    ] {
        let (status, out, errors) = run_in(home.path(), arguments);
        assert_eq!(status, ExitStatus::Failure);
        assert_eq!(out, "");
        assert_eq!(errors, expected);
    }
}

#[test]
fn a_wrong_flag_is_a_usage_error() {
    let home = tempfile::tempdir().unwrap();
    for arguments in [
        ["run", "--listen", "127.0.0.1"],
        ["run", "--upstream", "gopher://a"],
        ["query", "--server=gopher://a", "a.example"],
        ["query", "--server=udp://127.0.0.1:53", "a..example"],
    ] {
        let (status, _, errors) = run_in(home.path(), &arguments);
        assert_eq!(status, ExitStatus::Usage, "{errors}");
        assert!(errors.starts_with("truename: "), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn check_tries_what_the_file_names_and_prints_what_is_in_force() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("truename.toml");
    let listen = "[listen]\ndns = [\"127.0.0.1:0\"]\ndot = []\ndoq = []\ndoh = []\n";
    fs::write(&file, format!("{listen}[state]\ndirectory = \"state\"\n")).unwrap();
    let path = file.to_str().unwrap();
    let (status, out, errors) = run_in(home.path(), &["check", "--offline", "--config", path]);
    assert_eq!(
        (status, errors.as_str()),
        (ExitStatus::Success, ""),
        "{out}"
    );
    assert!(out.contains("ok    listener dns 127.0.0.1:0: can be listened on"));
    assert!(out.contains("ok    certificate "), "{out}");
    assert!(out.contains(": not needed, as"), "{out}");
    assert!(
        out.contains("\n[listen]\ndns = [\"127.0.0.1:0\"]\n"),
        "{out}"
    );

    // A certificate that is not there, and a directory that is a file.
    fs::write(home.path().join("state"), "").unwrap();
    let tls = "[tls]\ncertificate = \"a.pem\"\nkey = \"a.key\"\n";
    fs::write(
        &file,
        format!("{listen}{tls}[state]\ndirectory = \"state/x\"\n"),
    )
    .unwrap();
    let arguments = ["check", "--offline", "--json", "--config", path];
    let (status, out, errors) = run_in(home.path(), &arguments);
    assert_eq!(
        (status, errors.as_str()),
        (ExitStatus::Failure, ""),
        "{out}"
    );
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["ok"], false);
    let failing = json["checks"].as_array().unwrap().iter();
    let failing: Vec<&str> = failing
        .filter(|check| check["result"] == "fails")
        .filter_map(|check| check["subject"].as_str())
        .collect();
    assert_eq!(failing, ["certificate", "state directory"]);
}

#[test]
fn check_asks_every_upstream() {
    let home = tempfile::tempdir().unwrap();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap();
    let file = home.path().join("truename.toml");
    let upstream = |name: &str, socket: &UdpSocket| {
        let address = socket.local_addr().unwrap();
        format!("[[upstream]]\nname = \"{name}\"\nurl = \"udp://{address}\"\n")
    };
    let listen = "[listen]\ndns = [\"127.0.0.1:0\"]\ndot = []\ndoq = []\ndoh = []\n";
    let upstreams = upstream("live", &server) + &upstream("dead", &closed);
    fs::write(&file, format!("{listen}{upstreams}")).unwrap();
    // Connected elsewhere: the system refuses what others send, and nobody else gets the port.
    closed.connect("127.0.0.1:1").unwrap();
    let answering = thread::spawn(move || {
        let mut buffer = [0; 512];
        let (octets, client) = server.recv_from(&mut buffer).unwrap();
        let response = &mut buffer[..octets];
        response[2] |= 0x80;
        server.send_to(response, client).unwrap();
    });
    let arguments = ["check", "--json", "--config", file.to_str().unwrap()];
    let (status, out, errors) = run_in(home.path(), &arguments);
    answering.join().unwrap();
    assert_eq!(
        (status, errors.as_str()),
        (ExitStatus::Failure, ""),
        "{out}"
    );
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let checks = json["checks"].as_array().unwrap().iter();
    let upstreams: Vec<_> = checks
        .filter(|check| check["subject"] == "upstream")
        .collect();
    assert_eq!(upstreams[0]["name"], "live (udp)");
    assert_eq!(upstreams[0]["result"], "ok");
    assert!(upstreams[0]["latency_ms"].is_f64());
    assert_eq!(upstreams[1]["name"], "dead (udp)");
    assert_eq!(upstreams[1]["result"], "fails");
}

#[test]
fn the_local_certificate_is_shown_and_its_authority_exported() {
    let home = tempfile::tempdir().unwrap();
    let (status, _, errors) = run_in(home.path(), &["cert", "export"]);
    assert_eq!(status, ExitStatus::Failure);
    assert!(errors.contains("start truename once"), "{errors}");

    let directory = home.path().join(".local/state/truename/certificates");
    let now_unix_s = crate::clock::unix_s();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    crate::certificates::ensure(&directory, &names, now_unix_s).unwrap();

    let (status, out, _) = run_in(home.path(), &["cert", "show"]);
    assert_eq!(status, ExitStatus::Success);
    assert!(out.starts_with("local certificate, "), "{out}");
    assert!(out.contains("localhost, 127.0.0.1"), "{out}");
    let (_, out, _) = run_in(home.path(), &["cert", "show", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["source"], "local");
    assert_eq!(json["certificate"]["names"][0], "localhost");

    let (status, pem, _) = run_in(home.path(), &["cert", "export"]);
    assert_eq!(status, ExitStatus::Success);
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
    let der = home.path().join("ca.cer");
    let arguments = ["cert", "export", "--der", "--output", der.to_str().unwrap()];
    let (status, out, _) = run_in(home.path(), &arguments);
    assert_eq!((status, out.as_str()), (ExitStatus::Success, ""));
    assert_eq!(fs::read(der).unwrap().first(), Some(&0x30));
    let (_, out, _) = run_in(home.path(), &["cert", "export", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["pem"], pem);
}

#[test]
fn a_query_shows_what_the_server_answers_and_exits_by_it() {
    let home = tempfile::tempdir().unwrap();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}", server.local_addr().unwrap());
    let answering = thread::spawn(move || {
        let mut buffer = [0; 512];
        for rcode in [0, 2] {
            let (octets, client) = server.recv_from(&mut buffer).unwrap();
            let mut response = buffer[..octets].to_vec();
            response[2] |= 0x80;
            response[3] |= 0x80 | rcode;
            server.send_to(&response, client).unwrap();
        }
    });
    let arguments = ["query", "a.example", "aaaa", "--server", &url];
    let (status, out, errors) = run_in(home.path(), &arguments);
    assert_eq!(
        (status, errors.as_str()),
        (ExitStatus::Success, ""),
        "{out}"
    );
    assert!(out.contains("status: NOERROR"), "{out}");
    assert!(out.contains(";a.example.\t\tIN\tAAAA"), "{out}");
    let arguments = ["query", "a.example", "--json", "--server", &url];
    let (status, out, _) = run_in(home.path(), &arguments);
    assert_eq!(status, ExitStatus::NoAnswer);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["status"], "SERVFAIL");
    answering.join().unwrap();
    // Nobody is there any more.
    let (status, out, errors) = run_in(home.path(), &arguments);
    assert_eq!(status, ExitStatus::NoAnswer);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(json["error"].is_string());
    assert!(
        errors.starts_with("truename: no answer from 127.0.0.1:"),
        "{errors}"
    );
}

#[test]
fn a_reader_who_leaves_early_is_no_error() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let home = tempfile::tempdir().unwrap();
    let mut errors = Vec::new();
    let arguments = ["truename", "check", "--offline"].map(OsString::from);
    let status = run(
        arguments,
        &surroundings(home.path()),
        &mut Gone,
        &mut errors,
    );
    assert_eq!(status, ExitStatus::Success);
    assert_eq!(errors, b"");
}

#[test]
fn anchors_are_shown_before_and_after_the_first_start() {
    use crate::{
        anchors::{Keeper, STATE_FILE, Source, built_in, store},
        clock,
    };
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("truename.toml");
    fs::write(&file, "[state]\ndirectory = \"state\"\n").unwrap();
    let config = ["--config", file.to_str().unwrap()];
    let show = |more: &[&str]| {
        run_in(
            home.path(),
            &[&["anchors", "show"], &config[..], more].concat(),
        )
    };

    let (status, out, errors) = show(&[]);
    assert_eq!((status, errors.as_str()), (ExitStatus::Success, ""));
    for line in [
        "trust anchors that are built in; ",
        "\nzone .\n",
        "\n  20326 algorithm 8  valid   built-in   trusted\n",
        "\n  38696 algorithm 8  valid   built-in   trusted\n",
    ] {
        assert!(out.contains(line), "{out}");
    }

    let path = home.path().join("state").join(STATE_FILE);
    fs::create_dir(home.path().join("state")).unwrap();
    let mut keeper = Keeper::new(clock::FLOOR_UNIX_S);
    keeper.seed(&built_in(), Source::BuiltIn, clock::FLOOR_UNIX_S);
    let text = keeper.to_text().replace(
        "key valid since 2026-11-20T00:00:00Z until - built-in DS 20326",
        "key revoked since 2027-01-11T00:00:00Z until 2027-04-21T00:00:00Z built-in DS 20326",
    );
    fs::write(&path, &text).unwrap();
    let (status, out, _) = show(&[]);
    assert_eq!(status, ExitStatus::Success);
    let expected = format!(
        "trust anchors of {}\n\n\
         zone ., keys not proved yet, asked again 2026-11-20T00:00:00Z\n  \
         20326 algorithm 8  revoked since 2027-01-11T00:00:00Z built-in   never trusted again; \
         removed 2027-04-21T00:00:00Z if not seen before\n  \
         38696 algorithm 8  valid   since 2026-11-20T00:00:00Z built-in   trusted\n",
        path.display()
    );
    assert_eq!(out, expected);
    let (_, out, _) = show(&["--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["stored"], true);
    let keys = &json["zones"][0]["keys"];
    assert_eq!(keys[0]["state"], "revoked");
    assert_eq!(keys[0]["trusted"], false);
    assert_eq!(keys[0]["until"], "2027-04-21T00:00:00Z");
    assert_eq!(keys[1]["key_tag"], 38696);

    fs::write(&path, text.replace("\nend\n", "\n")).unwrap();
    let (status, out, errors) = show(&[]);
    assert_eq!((status, out.as_str()), (ExitStatus::Failure, ""));
    assert!(
        errors.contains("cut short") && errors.contains(STATE_FILE),
        "{errors}"
    );
    store::save(&path, &keeper).unwrap();
    assert_eq!(show(&[]).0, ExitStatus::Success);
}
