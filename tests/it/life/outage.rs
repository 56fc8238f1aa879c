//! All upstreams are down, and the cache is warm.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{Labs, ms, note};
use crate::{
    lab::{
        Answered, Ask, Transport,
        message::{NOERROR, SERVFAIL},
    },
    process::{PLAIN, Setup, ask, wait_until},
};

/// Names that were asked for before.
const NAMES: usize = 20;

/// The TTL of everything, seconds: it has run out soon.
const TTL_S: u32 = 1;

const EDE_STALE_ANSWER: u16 = 3;
const EDE_NO_REACHABLE_AUTHORITY: u16 = 22;
const EDE_NETWORK_ERROR: u16 = 23;

/// The longest TTL of a stale answer (RFC 8767, section 5), seconds.
const STALE_TTL_MAX_S: u32 = 30;

fn timed(server: SocketAddr, name: &str) -> (Answered, Duration) {
    let start = Instant::now();
    let answered = ask(server, &Ask::new(name, "A"));
    (answered, start.elapsed())
}

fn codes(answered: &Answered) -> Vec<u16> {
    let errors = answered.extended_errors();
    errors.into_iter().map(|(code, _)| code).collect()
}

fn is_stale(answered: &Answered) -> bool {
    let records = answered.answer();
    answered.rcode == NOERROR
        && codes(answered).contains(&EDE_STALE_ANSWER)
        && !records.is_empty()
        && records.iter().all(|record| record.ttl_s <= STALE_TTL_MAX_S)
}

#[test]
#[ignore = "half a minute; .ci/run has it"]
fn with_all_upstreams_down_old_names_are_answered_stale_and_new_ones_fail_and_say_why() {
    note(
        "| outage | first stale ms | later stale, slowest ms | first new name ms | later new names, slowest ms | after the return ms |\n|---|---|---|---|---|---|",
    );
    for silent in [false, true] {
        let labs = Labs::start(&[Transport::Tls, Transport::Https]);
        for (lab, _) in &labs.labs {
            lab.faults().everywhere(|faults| faults.ttl_s = Some(TTL_S));
        }
        let setup = Setup::new();
        let config = format!("{PLAIN}{}", labs.config(setup.path()));
        setup.write("truename.toml", &config);
        let truename = setup.start();
        let server = truename.address(Transport::Udp);
        let name = |number: usize| format!("seen{number}.wild.secure.com");
        for number in 0..NAMES {
            let (answered, _) = timed(server, &name(number));
            assert_eq!(answered.rcode, NOERROR, "{answered:?}");
        }
        for (lab, _) in &labs.labs {
            if silent {
                lab.faults().vanish(true);
            } else {
                lab.faults().crash(true);
                lab.close();
            }
        }
        // Until the TTL has run out, answers are as good as ever. That of the last ends last.
        let mut first = None;
        wait_until("a stale answer", || {
            let (answered, took) = timed(server, &name(NAMES - 1));
            first = is_stale(&answered).then_some(took);
            assert_eq!(answered.rcode, NOERROR, "{answered:?}");
            first.is_some()
        });
        let mut slowest = Duration::ZERO;
        for number in 0..NAMES {
            let (answered, took) = timed(server, &name(number));
            assert!(is_stale(&answered), "{}: {answered:?}", name(number));
            slowest = slowest.max(took);
        }
        let mut new = Vec::new();
        for number in 0..NAMES {
            let (answered, took) = timed(server, &format!("new{number}.wild.secure.com"));
            assert_eq!(answered.rcode, SERVFAIL, "{answered:?}");
            let codes = codes(&answered);
            let says_why = [EDE_NO_REACHABLE_AUTHORITY, EDE_NETWORK_ERROR];
            assert!(
                codes.iter().any(|code| says_why.contains(code)),
                "{:?}",
                answered.extended_errors()
            );
            new.push(took);
        }
        let returned = Instant::now();
        let (lab, _) = &labs.labs[1];
        lab.faults().reset();
        if !silent {
            lab.reopen();
        }
        let mut number = 0;
        wait_until("an answer after the return", || {
            number += 1;
            let (answered, _) = timed(server, &format!("back{number}.wild.secure.com"));
            answered.rcode == NOERROR
        });
        let back = returned.elapsed();
        note(&format!(
            "| {} | {} | {} | {} | {} | {} |",
            if silent { "silence" } else { "nobody listens" },
            ms(first.unwrap_or_default()),
            ms(slowest),
            ms(new[0]),
            ms(new[1..].iter().copied().max().unwrap_or_default()),
            ms(back)
        ));
        let (answered, _) = timed(server, &name(0));
        assert_eq!(answered.rcode, NOERROR, "{answered:?}");
    }
}
