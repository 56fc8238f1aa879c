//! SIGHUP a thousand times under load, every other time with a broken file.

use std::{fs, path::Path, thread::sleep, time::Duration};

use super::{Labs, held, load::Load, note};
use crate::{
    lab::Transport,
    process::{PLAIN, Setup, wait_until},
};

/// Queries a second.
const RATE: u32 = 200;

/// What the log says when a file is taken, and when it is not.
const READ_AGAIN: &str = "the configuration was read again";
const STAYS: &str = "the configuration stays as it was";

/// Reloads before anything is counted: caches and allocators fill first.
const WARM_UP: usize = 20;

/// Connections that were replaced are closed a moment later; so many more than before may stand.
const FILES_MORE_MAX: usize = 8;

/// A small cache is full soon, so that its growth hides no other.
const CACHE: &str = "[cache]\nsize = \"1MiB\"\n";

/// The configuration of the nth reload: other names make other upstreams, which connect anew.
fn good(labs: &Labs, here: &Path, number: usize) -> String {
    let upstreams = labs.config(here);
    let upstreams = match number % 3 {
        0 => upstreams,
        1 => upstreams.replace("\"lab0\"", "\"nearest\""),
        _ => upstreams.replace("name = \"lab1\"\n", ""),
    };
    let access = ["\"all\"", "\"loopback\""][number / 3 % 2];
    format!("{PLAIN}{CACHE}[access]\nallow = [{access}]\n{upstreams}")
}

/// A file that must not be taken.
fn broken(good: &str, number: usize) -> String {
    match number % 5 {
        0 => format!("{good}[cahe]\nsize = \"1MiB\"\n"),
        1 => good[..good.len() / 2].to_owned() + "[\"",
        2 => good.replace("lab0-ca.pem", "gone.pem"),
        3 => format!("{good}[tls]\ncertificate = \"no.pem\"\n"),
        _ => good.replace("lab.ds", "gone.ds"),
    }
}

fn reload(times: usize) {
    let labs = Labs::start(&[Transport::Tls, Transport::Https]);
    let setup = Setup::new();
    setup.write("truename.toml", &good(&labs, setup.path(), 0));
    let truename = setup.start();
    let load = Load::start(truename.address(Transport::Udp), RATE);
    let here = truename.setup.path().to_owned();
    let mut number = 0;
    let mut next = || {
        number += 1;
        let good = good(&labs, &here, number);
        fs::write(here.join("truename.toml"), &good).unwrap();
        truename.reload(READ_AGAIN);
        fs::write(here.join("truename.toml"), broken(&good, number)).unwrap();
        truename.reload(STAYS);
    };
    for _ in 0..WARM_UP / 2 {
        next();
    }
    // The cache fills by queries, not by reloads.
    wait_until("memory to be used", || {
        let before = held(&truename).resident_kib;
        sleep(Duration::from_secs(1));
        held(&truename).resident_kib <= before + before / 100
    });
    let before = held(&truename);
    for _ in 0..times / 2 {
        next();
    }
    let settled = |files: usize| files <= before.files + FILES_MORE_MAX;
    wait_until("replaced connections to be closed", || {
        settled(held(&truename).files)
    });
    let after = held(&truename);
    let outcomes = load.finish();
    let bad: Vec<_> = outcomes
        .iter()
        .filter(|outcome| !outcome.is_good())
        .collect();
    note(&format!(
        "{times} reloads, every other one broken, {} queries: {} failed; files {} then {}, \
         threads {} then {}, resident {} KiB then {} KiB",
        outcomes.len(),
        bad.len(),
        before.files,
        after.files,
        before.threads,
        after.threads,
        before.resident_kib,
        after.resident_kib,
    ));
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(after.threads, before.threads);
    after.is_flat(&before);
}

#[test]
fn fifty_reloads_under_load_lose_no_query_and_leave_nothing_behind() {
    reload(50);
}

#[test]
#[ignore = "a minute on a slow machine; .ci/run has it"]
fn a_thousand_reloads_under_load_lose_no_query_and_leave_nothing_behind() {
    reload(1000);
}
