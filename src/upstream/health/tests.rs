//! The health of one upstream as its exchanges and probes change it.

use std::{io, net::Ipv4Addr, sync::Arc};

use nix::errno::Errno;

use super::*;
use crate::clock;

const MS: Duration = Duration::from_millis(1);

fn question(name: &str) -> Question {
    Question {
        name: Name::parse(name).unwrap(),
        qtype: 1,
        qclass: 1,
    }
}

fn standing(health: &Health) -> Standing {
    health.facts(clock::instant()).standing
}

#[test]
fn what_we_lack_ourselves_is_not_held_against_the_upstream() {
    let now = clock::instant();
    let health = Health::new("test");
    health.failed(now, &Failure::Busy);
    for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS] {
        let source = Arc::new(io::Error::from_raw_os_error(errno as i32));
        health.failed(now, &Failure::Send(Arc::clone(&source)));
        let address = (Ipv4Addr::LOCALHOST, 53).into();
        health.failed(now, &Failure::Connect { address, source });
    }
    assert_eq!(standing(&health), Standing::Good);
    let refused = Arc::new(io::ErrorKind::ConnectionRefused.into());
    health.failed(now, &Failure::Send(refused));
    assert_eq!(standing(&health), Standing::Down);
}

#[test]
fn questions_that_others_answer_take_an_upstream_down_when_there_are_several_in_a_row() {
    let now = clock::instant();
    let health = Health::new("test");
    let names = ["a", "b", "c", "d", "e"].map(question);
    for _ in 0..10 {
        for name in &names[1..] {
            health.refused();
            health.bettered(now, name, false);
        }
        health.failed(now, &Failure::Timeout);
        health.failed(now, &Failure::Status(500));
    }
    health.answered(now, MS);
    assert_eq!(standing(&health), Standing::Good);
    for name in &names {
        assert_eq!(standing(&health), Standing::Good);
        health.bettered(now, name, false);
    }
    assert_eq!(standing(&health), Standing::Down);
    // It is not enough that it says anything: it must pass where it failed.
    health.refused();
    health.passed(false);
    assert_eq!(standing(&health), Standing::Down);
    let due = health.probe(now, false).unwrap();
    assert_eq!(due.question.as_ref(), names.last());
    assert!(due.is_test);
    health.passed(true);
    assert_eq!(standing(&health), Standing::Good);
}

fn down_for_refusals(would_not: bool) -> Health {
    let health = Health::new("test");
    for name in ["a", "b", "c", "d", "e"].map(question) {
        health.bettered(clock::instant(), &name, would_not);
    }
    assert_eq!(standing(&health), Standing::Down);
    health
}

#[test]
fn an_upstream_that_blocks_names_need_not_answer_those_to_be_back() {
    let now = clock::instant();
    let due = down_for_refusals(true).probe(now, false).unwrap();
    assert!(due.question.is_none() && due.is_test);
}

#[test]
fn one_name_that_never_gets_well_does_not_keep_an_upstream_down() {
    let now = clock::instant();
    let health = down_for_refusals(false);
    for second in 0..10 {
        health.probe_failed(now + Duration::from_secs(second), &Failure::Silent);
    }
    let due = health.probe(now, false).unwrap();
    assert!(due.question.is_none() && due.is_test);
}

#[test]
fn whoever_was_not_reached_is_back_with_any_response() {
    let now = clock::instant();
    let health = Health::new("test");
    health.failed(now, &Failure::Silent);
    assert_eq!(standing(&health), Standing::Down);
    assert_eq!(health.probe(now, false).unwrap().question, None);
    health.refused();
    assert_eq!(standing(&health), Standing::Good);
}

#[test]
fn nobody_is_probed_for_when_nobody_asks() {
    let now = clock::instant();
    let health = Health::new("test");
    health.failed(now, &Failure::Silent);
    assert!(health.probe(now, false).is_none());
    assert!(health.facts(now).needs_watch);
    assert!(health.probe(now, false).is_some());
    assert!(health.probe(now + WANTED_FOR, false).is_none());
}

#[test]
fn being_down_is_news_only_while_somebody_looks_after_it() {
    let now = clock::instant();
    let health = Health::new("test");
    health.failed(now, &Failure::Silent);
    assert!(!health.is_down());
    assert!(health.begin_watch());
    assert!(!health.begin_watch(), "one task at a time");
    assert!(health.is_down() && !health.facts(now).needs_watch);
    health.end_watch();
    assert!(!health.is_down());
}

#[test]
fn an_answer_is_late_after_the_upstreams_own_habits() {
    let now = clock::instant();
    let late_after = |took: u32| {
        let health = Health::new("test");
        for _ in 0..100 {
            health.answered(now, MS * took);
        }
        health.facts(now).late_after
    };
    assert_eq!(Health::new("test").facts(now).late_after, LATE_DEFAULT);
    assert_eq!(late_after(3), LATE_MIN);
    assert!((MS * 200..MS * 240).contains(&late_after(200)));
    assert_eq!(late_after(5000), LATE_MAX);
}

#[test]
fn losses_cost_time() {
    let now = clock::instant();
    let health = Health::new("test");
    health.answered(now, MS * 20);
    let before = health.facts(now).cost.unwrap();
    for _ in 0..3 {
        health.failed(now, &Failure::Silent);
    }
    let after = health.facts(now).cost.unwrap();
    assert!(after > before + MS * 50, "{after:?}");
    let report = health.report(now);
    assert!(report.loss > 0.1 && report.failures == 3);
    assert_eq!(report.last_error.unwrap(), Failure::Silent.to_string());
}

#[test]
fn what_was_lost_in_an_outage_is_not_held_against_whoever_is_back() {
    let now = clock::instant();
    let health = Health::new("test");
    for _ in 0..100 {
        health.answered(now, MS * 5);
    }
    let outage = || {
        for name in ["a", "b", "c", "d", "e", "f"].map(question) {
            health.bettered(now, &name, false);
            health.failed(now, &Failure::Silent);
        }
        assert!(health.facts(now).cost.unwrap() > MS * 200);
        health.passed(true);
        assert_eq!(standing(&health), Standing::Good);
        health.facts(now).cost.unwrap()
    };
    // One is worth less than what tells a near upstream from a far one; many are not.
    assert!(outage() < MS * 15);
    for _ in 0..5 {
        outage();
    }
    let after = health.facts(now).cost.unwrap();
    assert!((MS * 50..MS * 80).contains(&after), "{after:?}");
    for _ in 0..100 {
        health.answered(now, MS * 5);
    }
    assert!(health.facts(now).cost.unwrap() < MS * 6);
}

#[test]
fn first_measurements_are_few_and_one_at_a_time() {
    let health = Health::new("test");
    assert!(health.begin_first_measuring());
    assert!(!health.begin_first_measuring() && !health.begin_measuring());
    health.end_measuring();
    for _ in 1..FIRST_MEASUREMENTS_MAX {
        assert!(health.begin_first_measuring());
        health.end_measuring();
    }
    assert!(!health.begin_first_measuring());
    assert!(health.begin_measuring(), "later ones are paid for");
}

#[test]
fn an_upstream_that_leaves_records_out_comes_back_after_a_time() {
    let now = clock::instant();
    let health = Health::new("test");
    health.incomplete(now);
    assert_eq!(health.facts(now).standing, Standing::Incomplete);
    assert_eq!(health.facts(now + INCOMPLETE_FOR).standing, Standing::Good);
}
