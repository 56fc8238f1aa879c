//! Answers that are wrong, forged, broken or no answers at all.

use std::time::Duration;

use super::{ask_fresh, assert_servfail, is_right, set};
use crate::{
    lab::{
        FaultSet, Transport,
        faults::{Damage, Forgery},
    },
    support::{CONNECTED, Cases, World},
};

#[tokio::test]
async fn no_forged_packet_ends_the_wait_for_the_true_answer() {
    let mut cases = Cases::default();
    for forgery in Forgery::ALL {
        for tcp_helps in [true, false] {
            cases
                .add(async move {
                    let world = World::start(Transport::Udp).await;
                    world.lab.faults().on(Transport::Udp, |faults| {
                        faults.forged_first = vec![forgery];
                        faults.latency = Duration::from_millis(150);
                    });
                    world
                        .lab
                        .faults()
                        .on(Transport::Tcp, |faults| faults.refuse = !tcp_helps);
                    let answered = ask_fresh(&world, "victim").await;
                    assert!(
                        is_right(&answered),
                        "{forgery:?}, tcp {tcp_helps}: {answered:?}"
                    );
                })
                .await;
        }
    }
    cases.all_hold().await;
}

#[tokio::test]
async fn all_forgeries_together_do_not_either() {
    let world = World::start(Transport::Udp).await;
    world.lab.faults().on(Transport::Udp, |faults| {
        faults.forged_first = [Forgery::ALL, Forgery::ALL].concat();
        faults.latency = Duration::from_millis(150);
    });
    for number in 0..5 {
        let answered = ask_fresh(&world, &format!("victim{number}")).await;
        assert!(is_right(&answered), "{answered:?}");
    }
}

#[tokio::test]
async fn a_wrong_message_before_the_right_one_is_passed_over_on_streams() {
    for upstream in [Transport::Tcp, Transport::Tls] {
        for forgery in [
            Forgery::WrongId,
            Forgery::Formerr,
            Forgery::Servfail,
            Forgery::Truncated,
        ] {
            let world = World::start(upstream).await;
            set(&world, upstream, |faults| {
                faults.forged_first = vec![forgery];
            });
            let answered = ask_fresh(&world, "after").await;
            assert!(
                is_right(&answered),
                "{upstream:?} {forgery:?}: {answered:?}"
            );
        }
    }
}

#[tokio::test]
async fn broken_messages_never_reach_the_client() {
    let mut cases = Cases::default();
    for upstream in Transport::ALL {
        for damage in [
            Damage::CutAt(0),
            Damage::CutAt(11),
            Damage::CutAt(30),
            Damage::Trailing(3),
            Damage::CompressionLoop,
            Damage::LyingCounts,
            Damage::ShortAddress,
            Damage::Noise(40),
            Damage::Noise(4000),
            Damage::TwoQuestions,
        ] {
            cases
                .add(async move {
                    let world = World::start(upstream).await;
                    set(&world, upstream, |faults| faults.damage = Some(damage));
                    let what = format!("{damage:?}, {upstream:?}");
                    let answered = ask_fresh(&world, "damaged").await;
                    assert_servfail(&answered, &what);
                })
                .await;
        }
    }
    cases.all_hold().await;
}

#[tokio::test]
async fn answers_to_other_questions_are_no_answers() {
    let mut cases = Cases::default();
    for upstream in Transport::ALL {
        for (what, change) in [
            ("id", (|faults| faults.wrong_id = true) as fn(&mut FaultSet)),
            ("question", |faults| faults.wrong_question = true),
            ("truncation", |faults| faults.truncate = true),
        ] {
            // HTTP and QUIC pair answers with queries by stream; the id says nothing there.
            let by_id = matches!(upstream, Transport::Udp | Transport::Tcp | Transport::Tls);
            if what == "id" && !by_id {
                continue;
            }
            cases
                .add(async move {
                    let world = World::start(upstream).await;
                    set(&world, upstream, change);
                    assert_servfail(
                        &ask_fresh(&world, "wrong").await,
                        &format!("{what}, {upstream:?}"),
                    );
                    let queries = world.lab.record().len();
                    assert!(queries <= 12, "{what}, {upstream:?}: {queries} queries");
                })
                .await;
        }
    }
    cases.all_hold().await;
}

#[tokio::test]
async fn truncation_over_udp_is_followed_by_tcp() {
    let world = World::start(Transport::Udp).await;
    world
        .lab
        .faults()
        .on(Transport::Udp, |faults| faults.truncate = true);
    assert!(is_right(&ask_fresh(&world, "truncated").await));
    let seen = world.lab.record().queries();
    let over: Vec<_> = seen.iter().map(|query| query.transport).collect();
    assert_eq!(over, [Transport::Udp, Transport::Tcp]);
}

#[tokio::test]
async fn what_is_lost_is_sent_again() {
    let world = World::start(Transport::Udp).await;
    world.lab.faults().on(Transport::Udp, |faults| {
        faults.first = Some(1);
        faults.black_hole = true;
    });
    assert!(is_right(&ask_fresh(&world, "lost").await));
}

#[tokio::test]
async fn only_status_200_with_a_dns_message_is_an_answer() {
    let mut cases = Cases::default();
    for upstream in [Transport::Https, Transport::Http3] {
        for (what, change) in [
            (
                "500",
                (|faults| faults.http_status = Some(500)) as fn(&mut FaultSet),
            ),
            ("404", |faults| faults.http_status = Some(404)),
            ("204", |faults| faults.http_status = Some(204)),
            ("302", |faults| {
                faults.http_status = Some(302);
                faults.http_location = Some("https://127.0.0.1/elsewhere".to_owned());
            }),
            ("a captive portal", |faults| {
                faults.http_type = Some("text/html".to_owned());
            }),
            ("JSON", |faults| {
                faults.http_type = Some("application/dns-json".to_owned());
            }),
            ("an endless body", |faults| {
                faults.http_body_octets = Some(4_000_000);
            }),
            ("a body of 64 KiB and one", |faults| {
                faults.http_body_octets = Some(65_536);
            }),
            ("an empty body", |faults| faults.http_body_octets = Some(0)),
        ] {
            cases
                .add(async move {
                    let world = World::start(upstream).await;
                    set(&world, upstream, change);
                    let what = format!("{what}, {upstream:?}");
                    assert_servfail(&ask_fresh(&world, "status").await, &what);
                    let queries = world.lab.record().len();
                    assert!(queries <= 3, "{what}: {queries} queries");
                })
                .await;
        }
    }
    cases.all_hold().await;
}

#[tokio::test]
async fn an_upstreams_refusal_is_not_passed_on_as_an_answer() {
    for upstream in CONNECTED {
        for rcode in [1, 2, 4, 5] {
            let world = World::start(upstream).await;
            set(&world, upstream, |faults| faults.rcode = Some(rcode));
            let what = format!("rcode {rcode}, {upstream:?}");
            assert_servfail(&ask_fresh(&world, "refused").await, &what);
        }
    }
}

#[tokio::test]
async fn answers_without_opt_or_sent_twice_are_fine() {
    for upstream in Transport::ALL {
        let world = World::start(upstream).await;
        set(&world, upstream, |faults| {
            faults.drop_opt = true;
            faults.duplicate = true;
            faults.set_ad = true;
        });
        for number in 0..3 {
            let answered = ask_fresh(&world, &format!("n{number}")).await;
            assert!(is_right(&answered), "{upstream:?}: {answered:?}");
            assert!(
                !answered.has(crate::lab::message::flag::AD),
                "the upstream's AD is hearsay"
            );
        }
    }
}
