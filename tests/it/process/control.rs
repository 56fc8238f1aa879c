//! The control socket, and the commands that use it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
};

use serde_json::{Value, json};

use super::*;
use crate::lab::message::NOERROR;

fn socket(truename: &Truename) -> PathBuf {
    truename.setup.path().join("state/truename.sock")
}

fn status(truename: &Truename) -> Value {
    let ended = truename.setup.run(&["status", "--json"]);
    assert!(ended.status.success(), "{ended:#?}");
    ended.json()
}

#[test]
fn status_tells_of_every_part() {
    let lab = RunningLab::start();
    let truename = before(&lab).start();
    assert_eq!(truename.ask("www.secure.com").rcode, NOERROR);
    assert_eq!(truename.ask("www.secure.com").rcode, NOERROR);
    truename.ask("www.insecure.com");
    let _open = connect(truename.address(Transport::Tcp));
    let mode = fs::metadata(socket(&truename))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let status = status(&truename);
    assert_eq!(status["program"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["pid"], truename.child.id());
    assert!(status["uptime_s"].is_u64());
    let config = status["config"].as_str().unwrap();
    assert!(config.ends_with("truename.toml"), "{config}");
    assert_eq!(status["last_reload"], Value::Null);
    let udp = truename.address(Transport::Udp).to_string();
    assert_eq!(
        status["listeners"][0],
        json!({"transport": "udp", "addresses": [udp], "connections": null})
    );
    assert_eq!(status["listeners"][1]["transport"], "tcp");
    assert!(status["listeners"][1]["connections"].is_u64());
    let upstream = &status["upstreams"][0];
    assert_eq!(upstream["name"], "lab");
    assert_eq!(upstream["transport"], "dot");
    assert_eq!(upstream["state"], "up");
    assert!(upstream["rtt_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(upstream["loss"], 0.0);
    assert!(upstream["exchanges"].as_u64().unwrap() > 0);
    assert_eq!(upstream["failures"], 0);
    assert_eq!(upstream["last_error"], Value::Null);
    let dnssec = &status["dnssec"];
    assert_eq!(dnssec["validating"], true);
    assert_eq!(dnssec["anchors"][0]["zone"], ".");
    assert_eq!(dnssec["anchors"][0]["state"], "valid");
    assert_eq!(dnssec["anchors"][0]["trusted"], true);
    assert!(dnssec["anchors"][0]["key_tag"].is_u64());
    assert!(dnssec["verdicts"]["secure"].as_u64().unwrap() >= 1);
    assert!(dnssec["verdicts"]["insecure"].as_u64().unwrap() >= 1);
    assert_eq!(dnssec["verdicts"]["bogus"], 0);
    let clock = status["clock"]["state"].as_str().unwrap();
    assert!(["plausible", "synced"].contains(&clock), "{clock}");
    assert!(status["clock"]["shows"].as_str().unwrap().ends_with('Z'));
    let cache = &status["cache"];
    assert!(cache["answers"].as_u64().unwrap() >= 2);
    assert!(cache["octets"].as_u64().unwrap() > 100);
    assert_eq!(cache["limit_octets"], 32 * 1024 * 1024);
    assert_eq!(cache["hits"], 1);
    assert_eq!(cache["stale"], 0);
    let rate = cache["hit_rate"].as_f64().unwrap();
    assert!((rate - 1.0 / 3.0).abs() < 0.01, "{rate}");
    assert_eq!(status["queries"]["udp"], 3);

    let words = truename.setup.run(&["status"]).succeeded();
    for part in [
        "up ",
        "listeners",
        &udp,
        "lab",
        "validating",
        "verdicts",
        "cache",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
}

#[test]
fn status_tells_of_a_broken_upstream() {
    let lab = RunningLab::start();
    let setup = Setup::new();
    let (_socket, closed) = refused();
    let upstream = lab.upstream(setup.path(), Transport::Udp);
    let dead = format!("[[upstream]]\nname = \"dead\"\nurl = \"tcp://{closed}\"\n");
    let strategy = "[forward]\nstrategy = \"ordered\"\n";
    setup.write(
        "truename.toml",
        &format!("{PLAIN}{strategy}{dead}{upstream}"),
    );
    let truename = setup.start();
    truename.ask("www.secure.com");
    let status = status(&truename);
    assert_eq!(status["upstreams"][0]["name"], "dead");
    assert!(status["upstreams"][0]["failures"].as_u64().unwrap() > 0);
    assert!(
        status["upstreams"][0]["last_error"].is_string(),
        "{status:#}"
    );
}

#[test]
fn flush_forgets_a_name_and_what_is_below_it_or_all() {
    let lab = RunningLab::start();
    let truename = before(&lab).start();
    let asked = |name: &str| {
        truename.ask(name);
        lab.address_queries(name)
    };
    let before = (asked("www.secure.com"), asked("www.insecure.com"));
    assert_eq!((asked("www.secure.com"), asked("www.insecure.com")), before);
    let flush = |arguments: &[&str]| truename.setup.run(&[&["flush"], arguments].concat());
    let told = flush(&["secure.com"]).succeeded();
    assert!(told.contains("at and below secure.com."), "{told}");
    assert_eq!(asked("www.insecure.com"), before.1);
    assert!(asked("www.secure.com") > before.0);
    let told = flush(&["secure.com", "--json"]).json();
    assert_eq!(told["name"], "secure.com.");
    assert!(told["answers"].as_u64().unwrap() >= 1);
    let told = flush(&["--all"]).succeeded();
    assert!(told.starts_with("forgot all "), "{told}");
    assert!(asked("www.insecure.com") > before.1);
    // Neither, both, and no name.
    for wrong in [&[][..], &["secure.com", "--all"], &["a..b"]] {
        assert_eq!(flush(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn reload_says_what_changed_or_what_is_wrong() {
    let lab = RunningLab::start();
    let truename = before(&lab).start();
    let reload = |arguments: &[&str]| truename.setup.run(&[&["reload"], arguments].concat());
    assert!(reload(&[]).succeeded().contains("no changes"));
    let upstream = lab.upstream(truename.setup.path(), Transport::Tls);
    let good = format!("{PLAIN}[access]\nrate_limit = 7000\n{upstream}");
    truename.setup.write("truename.toml", &good);
    assert!(reload(&[]).succeeded().contains("[access]"));
    let told = &status(&truename)["last_reload"];
    assert_eq!(told["succeeded"], true);
    assert!(told["text"].as_str().unwrap().contains("[access]"));

    truename
        .setup
        .write("truename.toml", &format!("{good}[cache]\nsiez = 1\n"));
    let ended = reload(&[]);
    assert_eq!(ended.status.code(), Some(1));
    for part in [
        "truename.toml:",
        "cache.siez",
        "cache.size",
        "stays as it was",
    ] {
        assert!(ended.errors.contains(part), "{part}: {}", ended.errors);
    }
    let ended = reload(&["--json"]);
    assert_eq!(ended.status.code(), Some(1));
    let told = ended.json();
    assert_eq!(told["reloaded"], false);
    assert!(told["error"].as_str().unwrap().contains("cache.siez"));
    // The broken file does not keep people from asking.
    assert_eq!(status(&truename)["last_reload"]["succeeded"], false);
    assert_eq!(truename.ask("www.secure.com").rcode, NOERROR);
    truename.setup.write("truename.toml", &good);
    assert_eq!(reload(&["--json"]).json()["reloaded"], true);
}

#[test]
fn a_second_instance_does_not_take_the_state_of_the_first() {
    let lab = RunningLab::start();
    let truename = before(&lab).start();
    let ended = truename.setup.run(&["run"]);
    assert_eq!(ended.status.code(), Some(1));
    for part in [
        "another truename is running",
        "truename.sock",
        "admin.socket",
    ] {
        assert!(ended.errors.contains(part), "{part}: {}", ended.errors);
    }
    // The first is not disturbed.
    assert_eq!(status(&truename)["pid"], truename.child.id());
    assert_eq!(truename.ask("www.secure.com").rcode, NOERROR);
}

#[test]
fn what_a_killed_process_leaves_is_no_obstacle() {
    let lab = RunningLab::start();
    let mut truename = before(&lab).start();
    truename.signal("KILL");
    truename.wait();
    assert!(socket(&truename).exists());
    let mut truename = truename.restart();
    assert_eq!(status(&truename)["pid"], truename.child.id());
    truename.stop();
    assert!(!socket(&truename).exists());
    for command in [&["status"][..], &["flush", "--all"], &["reload"]] {
        let ended = truename.setup.run(command);
        assert_eq!(ended.status.code(), Some(1), "{command:?}");
        assert!(ended.errors.contains("is it running?"), "{}", ended.errors);
        assert!(ended.errors.contains("truename.sock"), "{}", ended.errors);
    }
}

#[test]
fn without_a_socket_truename_runs_and_says_so() {
    let lab = RunningLab::start();
    let setup = before(&lab);
    let text = fs::read_to_string(setup.path().join("truename.toml")).unwrap();
    setup.write("truename.toml", &format!("{text}[admin]\nsocket = \"\"\n"));
    let truename = setup.start();
    assert!(!socket(&truename).exists());
    let ended = truename.setup.run(&["status"]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.errors.contains("admin.socket"), "{}", ended.errors);
    // A place where it cannot be is no reason not to serve.
    truename.setup.write(
        "truename.toml",
        &format!("{text}[admin]\nsocket = \"absent/a.sock\"\n"),
    );
    let truename = truename.restart();
    truename.log.wait_for("cannot open the control socket", 1);
    assert_eq!(truename.ask("www.secure.com").rcode, NOERROR);
}

#[test]
fn the_protocol_is_lines_of_json() {
    let lab = RunningLab::start();
    let truename = before(&lab).start();
    let mut stream = UnixStream::connect(socket(&truename)).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut say = |line: &str| -> Value {
        stream.write_all(line.as_bytes()).unwrap();
        serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()
    };
    let told = say("{\"version\":1,\"command\":\"flush\",\"name\":\"absent.example\"}\n");
    let flushed = json!({"name": "absent.example.", "answers": 0});
    assert_eq!(told, json!({"version": 1, "flushed": flushed}));
    let told = say("{\"version\":1,\"command\":\"status\"}\n");
    assert_eq!(told["status"]["pid"], truename.child.id());
    assert!(say("quit\n")["error"].is_string());
    let told = say("{\"version\":1,\"command\":\"reload\"}\n");
    assert_eq!(told["reloaded"]["changes"], "no changes");
}
