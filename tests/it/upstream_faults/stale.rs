//! All upstreams down with a warm cache: what was asked before is answered at once, though its time
//! is over; what was not fails soon; and all is as before when one upstream is back.

use std::sync::atomic::{AtomicU32, Ordering};

use truename::clock::Now;

use super::{ask_fresh, assert_servfail, is_right};
use crate::{
    lab::{Answered, Ask, FaultSet, Transport},
    support::{Cases, Options, Truename, World, in_time, start_lab},
};

/// Names that are known. One after the other, each waiting for an upstream, they would take longer
/// than a test may.
const KNOWN: usize = 60;

/// How far time has been moved, seconds.
static AHEAD_S: AtomicU32 = AtomicU32::new(0);

fn now() -> Now {
    let now = Now::read();
    Now {
        uptime_s: now.uptime_s + AHEAD_S.load(Ordering::Relaxed),
        ..now
    }
}

async fn ask_known(world: &World, number: usize) -> Answered {
    ask_fresh(world, &format!("known{number}")).await
}

fn is_stale(answered: &Answered) -> bool {
    let errors = answered.extended_errors();
    let records = answered.answer();
    is_right(answered) && errors.iter().any(|(code, _)| *code == 3) && records[0].ttl_s == 30
}

#[tokio::test]
async fn a_warm_cache_outlives_all_upstreams() {
    let options = Options {
        now,
        ..Options::default()
    };
    let mut worlds = Vec::new();
    for transport in [Transport::Udp, Transport::Tls, Transport::Https] {
        let first = start_lab().await;
        let lab = start_lab().await;
        let upstreams = [(&first, transport), (&lab, transport)];
        let truename = Truename::start(&upstreams, options.clone());
        let world = World { truename, lab };
        for number in 0..KNOWN {
            let answered = ask_known(&world, number).await;
            assert!(is_right(&answered) && !is_stale(&answered), "{answered:?}");
        }
        worlds.push((transport, first, world));
    }
    // All that is in the caches expires.
    AHEAD_S.store(400, Ordering::Relaxed);
    let mut cases = Cases::default();
    for (transport, first, world) in worlds {
        cases
            .add(async move {
                let silent: fn(&mut FaultSet) = |faults| {
                    faults.black_hole = true;
                    faults.stall = true;
                };
                first.faults().everywhere(silent);
                world.lab.faults().everywhere(silent);
                outage(&world, transport).await;

                // One of the two is back.
                world.lab.faults().reset();
                let recovery = async {
                    while !is_right(&ask_fresh(&world, "after").await) {
                        // A failure is remembered for a second.
                        AHEAD_S.fetch_add(1, Ordering::Relaxed);
                    }
                    while is_stale(&ask_known(&world, 0).await) {}
                };
                in_time("recovery", recovery).await;
                for number in 0..KNOWN {
                    let known = ask_known(&world, number).await;
                    assert!(is_right(&known), "{transport:?}, {number}: {known:?}");
                }
            })
            .await;
    }
    cases.all_hold().await;
}

async fn outage(world: &World, transport: Transport) {
    let all = async {
        for number in 0..KNOWN {
            let known = ask_known(world, number).await;
            assert!(is_stale(&known), "{transport:?}, {number}: {known:?}");
        }
    };
    in_time("names that are known", all).await;
    let others = async {
        for number in 0..4 {
            let new = ask_fresh(world, &format!("new{number}")).await;
            assert_servfail(&new, "a name that is not known");
        }
    };
    in_time("names that are not known", others).await;
    let alias = Ask::new("known1.wild.secure.com", "AAAA");
    assert_servfail(
        &world.ask(Transport::Tcp, &alias).await,
        "a type that is not known",
    );
    assert!(world.truename.shared().counters.stale.value() >= KNOWN as u64);
}
