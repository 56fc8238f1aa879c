//! What is special to TCP and DoT: queries in a row, answers in any order, and how connections
//! end.

use std::{collections::HashSet, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    lab::{Answered, Ask, Lab, Transport, ask::framed, name::Name},
    support::{Client, Options, Stream, World, in_time, read_message},
};

const OPTION_TCP_KEEPALIVE: u16 = 11;

/// The listeners that are streams of framed messages.
const STREAMS: [Transport; 2] = [Transport::Tcp, Transport::Tls];

async fn connect(world: &World, listener: Transport) -> Box<dyn Stream> {
    Client::connect(&world.truename, listener).await.stream()
}

async fn next(stream: &mut Box<dyn Stream>) -> Answered {
    let message = read_message(stream).await.expect("an answer");
    Answered::parse(&message).expect("a message")
}

/// Makes the lab think about names below `name` for a while.
fn slow_down(lab: &Lab, upstream: Transport, name: &str, latency: Duration) {
    lab.faults().on(upstream, |faults| {
        faults.below = Some(Name::parse(name));
        faults.latency = latency;
    });
}

#[tokio::test]
async fn a_slow_answer_holds_up_no_fast_one() {
    for listener in STREAMS {
        for upstream in [Transport::Udp, Transport::Tls, Transport::Https] {
            let world = World::start(upstream).await;
            slow_down(
                &world.lab,
                upstream,
                "slow.wild.secure.com",
                Duration::from_millis(300),
            );
            let mut stream = connect(&world, listener).await;
            let slow = Ask::new("slow.wild.secure.com", "A").id(1);
            let fast = Ask::new("fast.wild.secure.com", "A").id(2);
            stream.write_all(&framed(&slow.encode())).await.unwrap();
            stream.write_all(&framed(&fast.encode())).await.unwrap();
            stream.flush().await.unwrap();
            let ids = [next(&mut stream).await.id, next(&mut stream).await.id];
            assert_eq!(ids, [2, 1], "{listener:?} before {upstream:?}");
        }
    }
}

#[tokio::test]
async fn two_queries_in_one_segment_are_two_queries() {
    for listener in STREAMS {
        let world = World::start(Transport::Tls).await;
        let mut stream = connect(&world, listener).await;
        let both = [
            framed(&Ask::new("www.secure.com", "A").id(1).encode()),
            framed(&Ask::new("www.secure.com", "AAAA").id(2).encode()),
        ];
        for _ in ["missed", "cached"] {
            stream.write_all(&both.concat()).await.unwrap();
            stream.flush().await.unwrap();
            let mut ids = [next(&mut stream).await.id, next(&mut stream).await.id];
            ids.sort_unstable();
            assert_eq!(ids, [1, 2], "{listener:?}");
        }
    }
}

#[tokio::test]
async fn a_query_may_come_octet_by_octet() {
    for listener in STREAMS {
        let world = World::start(Transport::Tls).await;
        let mut stream = connect(&world, listener).await;
        for _ in ["missed", "cached"] {
            for octet in framed(&Ask::new("www.secure.com", "A").encode()) {
                stream.write_u8(octet).await.unwrap();
                stream.flush().await.unwrap();
            }
            assert_eq!(
                next(&mut stream).await.rdata("A"),
                [[192, 0, 2, 80]],
                "{listener:?}"
            );
        }
    }
}

#[tokio::test]
async fn more_queries_than_are_worked_on_at_once_are_all_answered() {
    const QUERIES: u16 = 350;
    for listener in STREAMS {
        let world = World::start(Transport::Tls).await;
        let mut stream = connect(&world, listener).await;
        let mut queries = Vec::new();
        for id in 0..QUERIES {
            let name = format!("n{id}.wild.secure.com");
            queries.extend(framed(&Ask::new(&name, "A").id(id).encode()));
        }
        stream.write_all(&queries).await.unwrap();
        stream.flush().await.unwrap();
        let mut ids = HashSet::new();
        for _ in 0..QUERIES {
            let answered = next(&mut stream).await;
            assert_eq!(answered.rdata("A"), [[192, 0, 2, 42]], "{listener:?}");
            assert!(
                ids.insert(answered.id),
                "{listener:?}: {} twice",
                answered.id
            );
            let label = format!("n{}", answered.id);
            assert_eq!(
                answered.question[1..=label.len()],
                *label.as_bytes(),
                "{listener:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_client_that_has_said_all_still_gets_its_answers() {
    for listener in STREAMS {
        let world = World::start(Transport::Tls).await;
        slow_down(
            &world.lab,
            Transport::Tls,
            "slow.wild.secure.com",
            Duration::from_millis(100),
        );
        let mut stream = connect(&world, listener).await;
        for (id, name) in [(1, "www.secure.com"), (2, "slow.wild.secure.com")] {
            stream
                .write_all(&framed(&Ask::new(name, "A").id(id).encode()))
                .await
                .unwrap();
        }
        stream.shutdown().await.unwrap();
        let mut ids = [next(&mut stream).await.id, next(&mut stream).await.id];
        ids.sort_unstable();
        assert_eq!(ids, [1, 2], "{listener:?}");
        assert_eq!(
            read_message(&mut stream).await,
            None,
            "{listener:?}: then the end"
        );
    }
}

#[tokio::test]
async fn keepalive_is_told_on_streams_to_those_who_ask() {
    let world = World::start(Transport::Tls).await;
    for listener in [
        Transport::Udp,
        Transport::Tcp,
        Transport::Tls,
        Transport::Https,
    ] {
        let ask = Ask::new("www.secure.com", "A");
        let told = |options: Option<Vec<(u16, Vec<u8>)>>| {
            let mut options = options.into_iter().flatten();
            options
                .find(|(code, _)| *code == OPTION_TCP_KEEPALIVE)
                .map(|(_, data)| data)
        };
        assert_eq!(
            told(world.ask(listener, &ask).await.options),
            None,
            "{listener:?}"
        );
        let asking = ask.option(OPTION_TCP_KEEPALIVE, &[]);
        let wanted = STREAMS
            .contains(&listener)
            .then(|| 300u16.to_be_bytes().to_vec());
        assert_eq!(
            told(world.ask(listener, &asking).await.options),
            wanted,
            "{listener:?}"
        );
    }
}

#[tokio::test]
async fn idle_connections_are_closed_but_not_those_that_wait_for_an_answer() {
    let options = Options {
        idle: Duration::from_millis(200),
        ..Options::default()
    };
    let world = World::with(Transport::Tls, options).await;
    slow_down(
        &world.lab,
        Transport::Tls,
        "slow.wild.secure.com",
        Duration::from_millis(900),
    );
    for listener in STREAMS {
        let mut silent = connect(&world, listener).await;
        assert_eq!(
            read_message(&mut silent).await,
            None,
            "{listener:?}: never asked"
        );
        let mut stream = connect(&world, listener).await;
        let slow = format!("{}.slow.wild.secure.com", listener.label());
        stream
            .write_all(&framed(&Ask::new(&slow, "A").encode()))
            .await
            .unwrap();
        stream.flush().await.unwrap();
        assert_eq!(
            next(&mut stream).await.rdata("A"),
            [[192, 0, 2, 42]],
            "{listener:?}"
        );
        assert_eq!(
            read_message(&mut stream).await,
            None,
            "{listener:?}: idle afterwards"
        );
    }
}

#[tokio::test]
async fn a_broken_frame_ends_the_connection_after_the_answers_before_it() {
    for listener in STREAMS {
        let world = World::start(Transport::Tls).await;
        for broken in [
            &b"\0\0"[..],
            b"\0\x0bshort frame",
            b"\xff\xffa frame that is too long",
        ] {
            let mut stream = connect(&world, listener).await;
            let query = framed(&Ask::new("www.secure.com", "A").encode());
            stream.write_all(&[&query, broken].concat()).await.unwrap();
            stream.flush().await.unwrap();
            assert_eq!(
                next(&mut stream).await.rdata("A"),
                [[192, 0, 2, 80]],
                "{listener:?}"
            );
            let mut rest = Vec::new();
            let ended = in_time("the end", stream.read_to_end(&mut rest)).await;
            assert!(
                ended.is_err() || rest.is_empty(),
                "{listener:?}: {rest:02x?}"
            );
        }
    }
}
