//! Connections that end when nobody wants them to.

use std::time::Duration;

use super::{ask_fresh, assert_servfail, is_right, set};
use crate::{
    lab::{FaultSet, Transport},
    support::{CONNECTED, Cases, World},
};

/// When the lab closes what nobody uses: long enough for a busy machine to send its query first.
const CLOSE_IDLE: Duration = Duration::from_millis(100);

/// What each connection-oriented upstream must be forgiven: every query is answered.
async fn all_are_answered(what: &str, transports: &[Transport], change: impl Fn(&mut FaultSet)) {
    for upstream in transports {
        let world = World::start(*upstream).await;
        set(&world, *upstream, &change);
        for number in 0..6 {
            let answered = ask_fresh(&world, &format!("n{number}")).await;
            assert!(
                is_right(&answered),
                "{what}, {upstream:?}, query {number}: {answered:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_upstream_may_close_after_each_answer() {
    all_are_answered("close after each answer", &CONNECTED, |faults| {
        faults.close_after_answer = true;
    })
    .await;
}

#[tokio::test]
async fn an_upstream_may_send_goaway_after_each_answer() {
    let transports = [Transport::Https, Transport::Http3, Transport::Quic];
    all_are_answered("GOAWAY", &transports, |faults| faults.go_away = true).await;
}

#[tokio::test]
async fn an_upstream_over_http2_may_offer_http3_whether_it_works_or_not() {
    for blocked in [false, true] {
        let world = World::start(Transport::Https).await;
        let port = world.lab.address(Transport::Http3).port();
        set(&world, Transport::Https, |faults| {
            faults.http_alt_svc = Some(format!("h3=\":{port}\"; ma=60"));
            faults.close_after_answer = true;
        });
        set(&world, Transport::Http3, |faults| faults.stall = blocked);
        for number in 0..6 {
            let answered = ask_fresh(&world, &format!("n{number}")).await;
            assert!(
                is_right(&answered),
                "blocked {blocked}, query {number}: {answered:?}"
            );
        }
        let over_http3 = world.lab.record().query_count(Transport::Http3);
        assert_eq!(over_http3 > 0, !blocked);
        if blocked {
            // Each worker may try it once before they all know.
            let tried = world.lab.record().connection_count(Transport::Http3);
            assert!((1..=4).contains(&tried), "tried {tried} times");
        }
    }
}

#[tokio::test]
async fn an_upstream_may_close_idle_connections() {
    let mut cases = Cases::default();
    for upstream in CONNECTED {
        cases
            .add(async move {
                let world = World::start(upstream).await;
                set(&world, upstream, |faults| {
                    faults.close_idle = Some(CLOSE_IDLE);
                });
                let mut number = 0;
                // Until the lab has closed two connections that were in use before.
                while world.lab.record().connection_count(upstream) < 3 {
                    let answered = ask_fresh(&world, &format!("n{number}")).await;
                    assert!(
                        is_right(&answered),
                        "{upstream:?}, query {number}: {answered:?}"
                    );
                    number += 1;
                    assert!(number < 100, "{upstream:?}: nothing was ever closed");
                    tokio::time::sleep(CLOSE_IDLE).await;
                }
            })
            .await;
    }
    cases.all_hold().await;
}

#[tokio::test]
async fn a_query_whose_connection_ends_in_the_middle_of_the_answer_is_asked_again() {
    for upstream in CONNECTED {
        let world = World::start(upstream).await;
        assert!(is_right(&ask_fresh(&world, "first").await), "{upstream:?}");
        set(&world, upstream, |faults| {
            faults.first = Some(1);
            faults.cut = true;
        });
        let answered = ask_fresh(&world, "cut").await;
        assert!(is_right(&answered), "{upstream:?}: {answered:?}");
        let seen = world.lab.record().queries_below("cut.wild.secure.com");
        assert_eq!(seen.len(), 2, "{upstream:?}: once more, and only once");
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_once_costs_no_answer() {
    for upstream in [Transport::Https, Transport::Http3, Transport::Quic] {
        let world = World::start(upstream).await;
        set(&world, upstream, |faults| {
            faults.first = Some(1);
            faults.reset_stream = true;
        });
        let answered = ask_fresh(&world, "reset").await;
        assert!(is_right(&answered), "{upstream:?}: {answered:?}");
    }
}

#[tokio::test]
async fn endless_trouble_ends_in_servfail_after_few_tries() {
    let mut cases = Cases::default();
    for upstream in CONNECTED {
        for (what, change) in [
            ("cut", (|faults| faults.cut = true) as fn(&mut FaultSet)),
            ("refuse", |faults| faults.refuse = true),
            ("reset", |faults| faults.reset_stream = true),
        ] {
            let streams = !matches!(upstream, Transport::Tcp | Transport::Tls);
            if what == "reset" && !streams {
                continue;
            }
            cases
                .add(async move {
                    let world = World::start(upstream).await;
                    set(&world, upstream, change);
                    let what = format!("{what}, {upstream:?}");
                    assert_servfail(&ask_fresh(&world, "trouble").await, &what);
                    let queries = world.lab.record().len();
                    assert!(queries <= 3, "{what}: {queries} queries");
                    set(&world, upstream, |_| {});
                    let answered = ask_fresh(&world, "afterwards").await;
                    assert!(
                        is_right(&answered),
                        "{what}: over, and not held against it: {answered:?}"
                    );
                })
                .await;
        }
    }
    cases.all_hold().await;
}

#[tokio::test]
async fn silence_is_told_as_such_and_ends() {
    let mut cases = Cases::default();
    for upstream in Transport::ALL {
        for (what, change) in [
            (
                "black hole",
                (|faults| faults.black_hole = true) as fn(&mut FaultSet),
            ),
            ("stall", |faults| faults.stall = true),
        ] {
            if upstream == Transport::Udp && what == "stall" {
                continue;
            }
            cases
                .add(async move {
                    let world = World::start(upstream).await;
                    set(&world, upstream, change);
                    let what = format!("{what}, {upstream:?}");
                    let answered = ask_fresh(&world, "silence").await;
                    assert_servfail(&answered, &what);
                    // A host that shakes hands and then says nothing is as silent as any.
                    let wanted = super::EDE_NO_REACHABLE_AUTHORITY;
                    let errors = answered.extended_errors();
                    assert_eq!(errors[0].0, wanted, "{what}: {errors:?}");
                })
                .await;
        }
    }
    cases.all_hold().await;
}
