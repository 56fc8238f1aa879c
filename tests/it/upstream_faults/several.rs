//! Several upstreams: one that fails costs no answer.

use std::time::Duration;

use super::{SERVFAIL, ask_fresh, is_right};
use crate::{
    lab::{FaultSet, Lab, Transport, faults::Identity},
    support::{Cases, Options, Truename, World, in_time, start_lab},
};

/// The world of the second lab, behind a first one.
async fn behind(first: &Lab, over: Transport) -> World {
    let lab = start_lab().await;
    let truename = Truename::start(&[(first, over), (&lab, over)], Options::default());
    World { truename, lab }
}

#[tokio::test]
async fn the_second_answers_when_the_first_fails() {
    let mut cases = Cases::default();
    for over in Transport::ALL {
        for (what, change) in [
            (
                "SERVFAIL",
                (|faults| faults.rcode = Some(SERVFAIL)) as fn(&mut FaultSet),
            ),
            ("REFUSED", |faults| faults.rcode = Some(5)),
            ("silence", |faults| faults.black_hole = true),
            ("no connection", |faults| faults.refuse = true),
            ("a stalled connection", |faults| faults.stall = true),
        ] {
            if over == Transport::Udp && (what == "no connection" || what.starts_with("a stalled"))
            {
                continue;
            }
            cases
                .add(async move {
                    let first = start_lab().await;
                    first.faults().everywhere(change);
                    let world = behind(&first, over).await;
                    for number in 0..3 {
                        let answered = ask_fresh(&world, &format!("n{number}")).await;
                        assert!(
                            is_right(&answered),
                            "{what}, {over:?}, query {number}: {answered:?}"
                        );
                    }
                })
                .await;
        }
    }
    cases.all_hold().await;
}

#[tokio::test]
async fn a_host_that_is_gone_costs_no_answer() {
    let mut cases = Cases::default();
    for over in Transport::ALL {
        cases
            .add(async move {
                let first = start_lab().await;
                let world = behind(&first, over).await;
                assert!(is_right(&ask_fresh(&world, "before").await), "{over:?}");
                assert!(
                    !first.record().is_empty(),
                    "{over:?}: the first in order is asked first"
                );
                drop(first);
                for number in 0..3 {
                    let answered = ask_fresh(&world, &format!("n{number}")).await;
                    assert!(
                        is_right(&answered),
                        "{over:?}, query {number}: {answered:?}"
                    );
                }
            })
            .await;
    }
    cases.all_hold().await;
}

#[tokio::test]
async fn a_wrong_certificate_of_the_first_leads_to_the_second() {
    let first = start_lab().await;
    first.faults().show(Identity::WrongName);
    let world = behind(&first, Transport::Tls).await;
    assert!(is_right(&ask_fresh(&world, "secret").await));
    assert!(first.record().is_empty());
}

#[tokio::test]
async fn the_same_servfail_from_all_is_the_answer() {
    let first = start_lab().await;
    first
        .faults()
        .everywhere(|faults| faults.rcode = Some(SERVFAIL));
    let world = behind(&first, Transport::Tls).await;
    world
        .lab
        .faults()
        .everywhere(|faults| faults.rcode = Some(SERVFAIL));
    super::assert_servfail(&ask_fresh(&world, "broken").await, "both fail");
    assert_eq!(
        (
            first.record().queries().len(),
            world.lab.record().queries().len()
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn one_that_falls_silent_costs_one_query_a_little_and_is_used_again_when_it_is_back() {
    let mut cases = Cases::default();
    for over in Transport::ALL {
        cases
            .add(async move {
                let first = start_lab().await;
                let world = behind(&first, over).await;
                assert!(is_right(&ask_fresh(&world, "before").await), "{over:?}");
                first.faults().everywhere(|faults| faults.black_hole = true);
                for number in 0..10 {
                    let answered = ask_fresh(&world, &format!("silent{number}")).await;
                    assert!(
                        is_right(&answered),
                        "{over:?}, query {number}: {answered:?}"
                    );
                }
                let tried = (0..10).filter(|number| {
                    let name = format!("silent{number}.wild.secure.com");
                    !first.record().queries_below(&name).is_empty()
                });
                assert_eq!(
                    tried.count(),
                    1,
                    "{over:?}: the others were not tried on it"
                );

                first.faults().reset();
                in_time("the first is used again", async {
                    for number in 0.. {
                        let label = format!("back{number}");
                        assert!(is_right(&ask_fresh(&world, &label).await), "{over:?}");
                        let name = format!("{label}.wild.secure.com");
                        if !first.record().queries_below(&name).is_empty() {
                            return;
                        }
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                })
                .await;
            })
            .await;
    }
    cases.all_hold().await;
}
