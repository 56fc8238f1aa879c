//! Lifetimes that an upstream makes up.

use crate::{
    lab::{Ask, Transport},
    support::World,
};

const DAY_S: u32 = 86_400;
const THREE_HOURS_S: u32 = 10_800;

#[tokio::test]
async fn no_ttl_is_longer_than_a_day_and_the_top_bit_means_none() {
    for (sent_s, least_s, most_s) in [
        (0, 0, 0),
        (1, 0, 1),
        (300, 290, 300),
        (DAY_S, DAY_S - 10, DAY_S),
        (DAY_S + 1, DAY_S - 10, DAY_S),
        (0x7fff_ffff, DAY_S - 10, DAY_S),
        (0x8000_0000, 0, 0),
        (0xffff_ffff, 0, 0),
    ] {
        let world = World::start(Transport::Tls).await;
        world
            .lab
            .faults()
            .everywhere(|faults| faults.ttl_s = Some(sent_s));
        let what = format!("TTL {sent_s:#x}");
        for _ in 0..2 {
            let answered = world
                .ask(Transport::Udp, &Ask::new("www.secure.com", "A"))
                .await;
            let ttl_s = answered.answer()[0].ttl_s;
            assert!((least_s..=most_s).contains(&ttl_s), "{what}: {ttl_s}");
            let denied = world
                .ask(Transport::Udp, &Ask::new("no.secure.com", "A"))
                .await;
            assert_eq!((denied.rcode, denied.count("SOA")), (3, 1), "{what}");
            let ttl_s = denied.sections[1][0].ttl_s;
            assert!(
                ttl_s <= most_s.min(THREE_HOURS_S),
                "{what}: {ttl_s} for a denial"
            );
        }
        let queries = world.lab.record().queries_below("www.secure.com").len();
        if most_s == 0 {
            assert_eq!(queries, 2, "{what}: not kept");
        } else if most_s > 1 {
            assert_eq!(queries, 1, "{what}: kept");
        }
    }
}

#[tokio::test]
async fn failures_are_remembered_shortly() {
    let world = World::start(Transport::Tls).await;
    world
        .lab
        .faults()
        .everywhere(|faults| faults.rcode = Some(2));
    let ask = Ask::new("www.secure.com", "A");
    for _ in 0..20 {
        assert_eq!(world.ask(Transport::Udp, &ask).await.rcode, 2);
    }
    let queries = world.lab.record().len();
    assert!(
        queries <= 4,
        "{queries} queries for twenty askers (RFC 9520)"
    );
    world.lab.faults().reset();
    // Nothing but time ends a remembered failure, and it must be short.
    crate::support::in_time("the failure is forgotten", async {
        while world.ask(Transport::Udp, &ask).await.rcode != 0 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;
}
