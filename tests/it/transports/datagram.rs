//! What is special to plain UDP: sizes, silence, cookies.

use crate::{
    lab::{Ask, Transport, message::flag},
    support::{Client, Outcome, World},
};

const OPTION_COOKIE: u16 = 10;
const FORMERR: u16 = 1;

#[tokio::test]
async fn no_datagram_is_larger_than_1232_octets_or_the_clients_limit() {
    let world = World::start(Transport::Tls).await;
    let mut client = Client::connect(&world.truename, Transport::Udp).await;
    let mut largest = 0;
    for name in ["www", "many", "large", "huge", "giant", "one-giant", "pool"] {
        for rtype in ["A", "TXT"] {
            for limit in [
                None,
                Some(0),
                Some(512),
                Some(1232),
                Some(4096),
                Some(65535),
            ] {
                let ask = Ask::new(&format!("{name}.secure.com"), rtype)
                    .dnssec()
                    .udp_octets(limit);
                let answered = client.ask(&ask).await;
                let octets = answered.octets.len();
                let allowed = limit.unwrap_or(512).clamp(512, 1232);
                assert!(
                    octets <= usize::from(allowed),
                    "{name} {rtype} {limit:?}: {octets}"
                );
                if answered.has(flag::TC) {
                    assert!(answered.answer().is_empty(), "{name} {rtype} {limit:?}");
                }
                largest = largest.max(octets);
            }
        }
    }
    assert!(largest > 512, "something used the room: {largest}");
}

#[tokio::test]
async fn responses_and_stubs_of_messages_are_met_with_silence() {
    let world = World::start(Transport::Tls).await;
    let mut client = Client::connect(&world.truename, Transport::Udp).await;
    let query = Ask::new("www.secure.com", "A").encode();
    let mut response = query.clone();
    response[2] |= 0x80;
    for octets in [&response[..], b"", b"\0", &query[..11]] {
        assert_eq!(
            client.send(octets).await,
            Outcome::Silence,
            "{} octets",
            octets.len()
        );
    }
}

#[tokio::test]
async fn a_client_cookie_comes_back_with_a_server_cookie() {
    let world = World::start(Transport::Tls).await;
    let mut client = Client::connect(&world.truename, Transport::Udp).await;
    let mut cookies = Vec::new();
    for _ in 0..2 {
        let ask = Ask::new("www.secure.com", "A").option(OPTION_COOKIE, b"my8octet");
        let options = client.ask(&ask).await.options.unwrap();
        let (_, cookie) = options
            .iter()
            .find(|(code, _)| *code == OPTION_COOKIE)
            .unwrap();
        assert!(cookie.starts_with(b"my8octet"));
        assert_eq!(
            cookie.len(),
            24,
            "client cookie and RFC 9018's sixteen octets"
        );
        cookies.push(cookie.clone());
    }
    let whole = Ask::new("www.secure.com", "A").option(OPTION_COOKIE, &cookies[0]);
    assert_eq!(client.ask(&whole).await.rdata("A").len(), 1);
    for length in [0, 7, 9, 15, 41] {
        let ask = Ask::new("www.secure.com", "A").option(OPTION_COOKIE, &vec![7; length]);
        let outcome = client.send(&ask.encode()).await;
        assert_eq!(
            outcome.rcode(),
            Some(FORMERR),
            "a cookie of {length} octets"
        );
    }
}
