//! The cache on disk: what was known before a stop is known after the start, unless it cannot be
//! believed.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;
use crate::lab::message::NOERROR;

const READ: &str = "read the cache's file";

/// Truename on a free port before the lab, with a file for its cache and more lines of `[dnssec]`.
fn config(lab: &RunningLab, setup: &Setup, dnssec: &str) -> String {
    let upstream = lab.upstream(setup.path(), Transport::Udp);
    let upstream = upstream.replace("[dnssec]\n", &format!("[dnssec]\n{dnssec}"));
    format!("{PLAIN}[cache]\nfile = \"cache.bin\"\n{upstream}")
}

fn with_file(lab: &RunningLab) -> Setup {
    let setup = Setup::new();
    let text = config(lab, &setup, "");
    setup.write("truename.toml", &text);
    setup
}

/// Secure answers, negative ones, and one that is not signed.
const KNOWN: [&str; 4] = [
    "www.secure.com",
    "absent.secure.com",
    "a.wild.secure.com",
    "www.insecure.com",
];

fn answers(truename: &Truename) -> Vec<(u16, bool)> {
    let server = truename.address(Transport::Udp);
    KNOWN
        .iter()
        .map(|name| {
            let answered = ask(server, &Ask::new(name, "A").dnssec());
            (answered.rcode, answered.has(0x20))
        })
        .collect()
}

#[test]
fn a_restart_keeps_what_was_known_and_asks_nobody() {
    let lab = RunningLab::start();
    let truename = with_file(&lab).start();
    let before = answers(&truename);
    assert!(before[0].1 && !before[3].1, "{before:?}");
    let truename = truename.restart();
    assert!(truename.log.wait_for(READ, 1).contains("expired=0"));
    let asked: Vec<usize> = KNOWN.iter().map(|name| lab.address_queries(name)).collect();
    assert_eq!(answers(&truename), before);
    let asked_again: Vec<usize> = KNOWN.iter().map(|name| lab.address_queries(name)).collect();
    assert_eq!(asked_again, asked);
    let file = truename.setup.path().join("state/cache.bin");
    let mode = fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn without_the_key_no_name_reaches_the_disk() {
    let lab = RunningLab::start();
    let mut truename = before(&lab).start();
    assert_eq!(truename.ask("www.secure.com").rcode, NOERROR);
    truename.stop();
    assert!(!truename.setup.path().join("state/cache.bin").exists());
}

#[test]
fn a_damaged_file_is_set_aside_with_one_warning() {
    let lab = RunningLab::start();
    let mut truename = with_file(&lab).start();
    answers(&truename);
    truename.stop();
    let file = truename.setup.path().join("state/cache.bin");
    let mut octets = fs::read(&file).unwrap();
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    fs::write(&file, &octets).unwrap();
    let truename = truename.restart();
    truename
        .log
        .wait_for("cache.bin.bad, and the cache begins empty", 1);
    assert_eq!(truename.log.count("cache.bin"), 1);
    assert_eq!(fs::read(file.with_extension("bin.bad")).unwrap(), octets);
    let asked = lab.address_queries(KNOWN[0]);
    answers(&truename);
    assert!(lab.address_queries(KNOWN[0]) > asked);
    // The next stop writes a good one.
    let truename = truename.restart();
    truename.log.wait_for(READ, 1);
}

#[test]
fn a_file_that_others_may_write_is_not_believed() {
    let lab = RunningLab::start();
    let mut truename = with_file(&lab).start();
    answers(&truename);
    truename.stop();
    let file = truename.setup.path().join("state/cache.bin");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let truename = truename.restart();
    truename.log.wait_for("others than truename's user", 1);
}

#[test]
fn what_was_judged_by_other_settings_is_not_used() {
    let lab = RunningLab::start();
    let truename = with_file(&lab).start();
    let before = answers(&truename);
    let text = config(
        &lab,
        &truename.setup,
        "negative_trust_anchors = [\"secure.com until 2099-01-01\"]\n",
    );
    truename.setup.write("truename.toml", &text);
    let truename = truename.restart();
    truename
        .log
        .wait_for("the cache begins empty: its answers were judged", 1);
    assert_ne!(answers(&truename), before);
}

#[test]
fn a_place_that_cannot_be_written_is_said_and_changes_nothing_else() {
    let lab = RunningLab::start();
    let setup = Setup::new();
    let text = config(&lab, &setup, "").replace("\"cache.bin\"", "\"absent/cache.bin\"");
    setup.write("truename.toml", &text);
    let mut truename = setup.start();
    answers(&truename);
    truename.stop();
    truename.log.wait_for("absent/cache.bin", 1);
    assert_eq!(truename.log.count("cannot write"), 1);
}
