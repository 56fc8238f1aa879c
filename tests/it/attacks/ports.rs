//! What an attacker off the path has to guess (SAD DNS, RebirthDay and their kin).

use std::{collections::HashSet, time::Duration};

use tokio::{net::UdpSocket, task::JoinSet};

use crate::{
    lab::{Answered, Ask, Transport},
    support::{Cases, Client, World, in_time},
};

const OPTION_CLIENT_SUBNET: u16 = 8;

const QUERIES: usize = 300;
const CLIENTS: u16 = 200;

#[tokio::test]
async fn ports_ids_and_case_are_fresh_for_each_query() {
    let world = World::start(Transport::Udp).await;
    let mut client = Client::connect(&world.truename, Transport::Https).await;
    for number in 0..QUERIES {
        let name = format!("name{number}.wild.secure.com");
        let answered = client.ask(&Ask::new(&name, "A").id(0)).await;
        assert_eq!(answered.id, 0);
        assert_eq!(answered.rdata("A"), [[192, 0, 2, 42]]);
    }
    let mut seen = world.lab.record().queries();
    seen.retain(|query| query.transport == Transport::Udp);
    assert!(seen.len() >= QUERIES, "{}", seen.len());
    // 300 draws out of 64,512 ports or 65,536 ids collide 0.7 times on average.
    let ports: HashSet<u16> = seen.iter().map(|query| query.peer.port()).collect();
    assert!(ports.len() > QUERIES - 10, "{} ports", ports.len());
    let ids: HashSet<u16> = seen
        .iter()
        .map(super::super::lab::record::Received::id)
        .collect();
    assert!(ids.len() > QUERIES - 10, "{} ids", ids.len());
    let mixed = seen.iter().filter(|query| {
        let spelt = query.query.as_ref().unwrap().qname_as_received();
        let letters = || spelt.iter().filter(|octet| octet.is_ascii_alphabetic());
        letters().any(u8::is_ascii_uppercase) && letters().any(u8::is_ascii_lowercase)
    });
    assert!(mixed.count() > QUERIES - 10);
}

#[tokio::test]
async fn equal_questions_share_one_exchange_whatever_the_subnet() {
    let mut cases = Cases::default();
    for upstream in Transport::ALL {
        cases
            .add(async move {
                let world = World::start(upstream).await;
                world
                    .lab
                    .faults()
                    .everywhere(|faults| faults.latency = Duration::from_millis(200));
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                socket
                    .connect(world.truename.address(Transport::Udp))
                    .await
                    .unwrap();
                for id in 0..CLIENTS {
                    let mut ask = Ask::new("www.secure.com", "A").id(id);
                    if id % 2 == 0 {
                        let subnet = [0, 1, 24, 0, 198, 51, u8::try_from(id).unwrap()];
                        ask = ask.option(OPTION_CLIENT_SUBNET, &subnet);
                    }
                    socket.send(&ask.encode()).await.unwrap();
                }
                let mut ids = HashSet::new();
                let mut buffer = [0; 1500];
                in_time("all answers", async {
                    while ids.len() < usize::from(CLIENTS) {
                        let length = socket.recv(&mut buffer).await.unwrap();
                        let answered = Answered::parse(&buffer[..length]).unwrap();
                        assert_eq!(answered.rdata("A"), [[192, 0, 2, 80]]);
                        ids.insert(answered.id);
                    }
                })
                .await;
                let seen = world.lab.record().queries();
                assert_eq!(seen.len(), 1, "{upstream:?}");
                assert!(
                    seen.iter()
                        .all(|query| !query.has_option(OPTION_CLIENT_SUBNET))
                );
            })
            .await;
    }
    cases.all_hold().await;
}

#[tokio::test]
async fn listeners_share_the_flight_and_the_cache() {
    let world = World::start(Transport::Tls).await;
    world
        .lab
        .faults()
        .everywhere(|faults| faults.latency = Duration::from_millis(100));
    let world = std::sync::Arc::new(world);
    for _ in ["missed", "cached"] {
        let mut asking = JoinSet::new();
        for listener in Transport::ALL {
            let world = std::sync::Arc::clone(&world);
            asking
                .spawn(async move { world.ask(listener, &Ask::new("www.secure.com", "A")).await });
        }
        for answered in asking.join_all().await {
            assert_eq!(answered.rdata("A"), [[192, 0, 2, 80]]);
        }
        assert_eq!(world.lab.record().queries().len(), 1);
    }
    // CD is part of the question: what is not validated is never mixed with what is.
    let ask = Ask::new("www.secure.com", "A").flags(crate::lab::message::flag::CD);
    assert!(
        world
            .ask(Transport::Udp, &ask)
            .await
            .has(crate::lab::message::flag::CD)
    );
    assert_eq!(world.lab.record().queries().len(), 2);
}
