//! What is special to DoH: methods, statuses, headers, over three versions of HTTP.

use data_encoding::BASE64URL_NOPAD;
use http::{Method, Request, header::CONTENT_TYPE};

use crate::{
    lab::{Answered, Ask, Transport},
    support::{HttpClient, HttpReply, Version, World, post, request},
};

const NXDOMAIN: u16 = 3;
const SERVFAIL: u16 = 2;

fn query(name: &str, rtype: &str) -> Vec<u8> {
    Ask::new(name, rtype).id(0).encode()
}

fn get(query: &[u8]) -> Request<Vec<u8>> {
    let target = format!("/dns-query?dns={}", BASE64URL_NOPAD.encode(query));
    request(Method::GET, &target, b"")
}

fn typed(method: Method, target: &str, media_type: &str, body: &[u8]) -> Request<Vec<u8>> {
    let mut request = request(method, target, body);
    request
        .headers_mut()
        .insert(CONTENT_TYPE, media_type.parse().unwrap());
    request
}

/// Asks on a new connection: a refusal may end the old one.
async fn once(world: &World, version: Version, request: Request<Vec<u8>>) -> HttpReply {
    let mut client = HttpClient::connect(&world.truename, version).await;
    client.request(request).await.unwrap()
}

fn max_age(reply: &HttpReply) -> u32 {
    let value = reply.header("cache-control").strip_prefix("max-age=");
    value.expect("max-age").parse().unwrap()
}

#[tokio::test]
async fn get_and_post_give_the_same_answer_with_its_lifetime() {
    let world = World::start(Transport::Tls).await;
    let h3 = world.truename.address(Transport::Http3).port();
    for version in Version::ALL {
        let mut client = HttpClient::connect(&world.truename, version).await;
        for (name, rtype) in [
            ("ttl3600.secure.com", "A"),
            ("giant.secure.com", "TXT"),
            ("alias.secure.com", "A"),
            ("nothing.secure.com", "A"),
        ] {
            let query = query(name, rtype);
            let mut answers = Vec::new();
            for request in [get(&query), post(&query)] {
                let reply = client.request(request).await.unwrap();
                let what = format!("{version:?} {name}");
                assert_eq!(reply.status, 200, "{what}");
                assert_eq!(
                    reply.header("content-type"),
                    "application/dns-message",
                    "{what}"
                );
                let answered = Answered::parse(&reply.body).expect("a message");
                let records = answered.sections.iter().flatten();
                let shortest = records.map(|record| record.ttl_s).min().unwrap();
                assert!(shortest > 0, "{what}");
                assert_eq!(max_age(&reply), shortest, "{what}: the shortest TTL");
                let advertised = reply
                    .header("alt-svc")
                    .starts_with(&format!("h3=\":{h3}\""));
                assert_eq!(advertised, version != Version::Http3, "{what}");
                answers.push(answered);
            }
            assert_eq!(answers[0].rcode, answers[1].rcode);
            let counts = |at: usize| answers[at].sections.each_ref().map(Vec::len);
            assert_eq!(counts(0), counts(1), "{version:?} {name}");
        }
    }
}

#[tokio::test]
async fn failures_are_messages_that_must_not_be_kept() {
    let world = World::start(Transport::Tls).await;
    world
        .lab
        .faults()
        .everywhere(|faults| faults.rcode = Some(SERVFAIL));
    for version in Version::ALL {
        let reply = once(&world, version, post(&query("www.secure.com", "A"))).await;
        assert_eq!(reply.status, 200, "{version:?}");
        assert_eq!(max_age(&reply), 0, "{version:?}");
        assert_eq!(
            Answered::parse(&reply.body).unwrap().rcode,
            SERVFAIL,
            "{version:?}"
        );
    }
    world.lab.faults().reset();
    let reply = once(&world, Version::Http2, post(&query("no.nsec.com", "A"))).await;
    assert_eq!(Answered::parse(&reply.body).unwrap().rcode, NXDOMAIN);
}

#[tokio::test]
async fn each_kind_of_bad_request_has_its_status() {
    let world = World::start(Transport::Tls).await;
    let good = query("www.secure.com", "A");
    let encoded = BASE64URL_NOPAD.encode(&good);
    let media_type = "application/dns-message";
    let get = |target: &str| request(Method::GET, target, b"");
    for version in Version::ALL {
        for (status, request) in [
            (400, get("/dns-query")),
            (400, get("/dns-query?dns=")),
            (400, get("/dns-query?dns=%20%20")),
            (400, get("/dns-query?dns=AAAB")),
            (
                400,
                get(&format!("/dns-query?name=www.secure.com&DNS={encoded}")),
            ),
            (400, typed(Method::POST, "/dns-query", media_type, b"short")),
            (400, typed(Method::POST, "/dns-query", media_type, b"")),
            (404, get(&format!("/?dns={encoded}"))),
            (404, get(&format!("/dns-query/?dns={encoded}"))),
            (404, typed(Method::POST, "/resolve", media_type, &good)),
            (405, typed(Method::PUT, "/dns-query", media_type, &good)),
            (405, request(Method::DELETE, "/dns-query", b"")),
            (405, request(Method::OPTIONS, "/dns-query", b"")),
            (
                413,
                typed(Method::POST, "/dns-query", media_type, &vec![0; 70_000]),
            ),
            (
                415,
                typed(Method::POST, "/dns-query", "application/dns-json", &good),
            ),
            (415, typed(Method::POST, "/dns-query", "text/plain", &good)),
            (415, request(Method::POST, "/dns-query", &good)),
        ] {
            let what = format!("{version:?} {} {}", request.method(), request.uri());
            let reply = once(&world, version, request).await;
            assert_eq!(reply.status, status, "{what}");
            assert_ne!(reply.header("content-type"), media_type, "{what}");
            assert_eq!(
                reply.header("allow") == "GET, POST",
                status == 405,
                "{what}"
            );
        }
        let reply = once(&world, version, post(&good)).await;
        assert_eq!(reply.status, 200, "{version:?}: a good request afterwards");
    }
    assert_eq!(
        world.lab.record().queries().len(),
        1,
        "nothing bad was forwarded"
    );
}

#[tokio::test]
async fn a_connection_survives_bad_requests() {
    let world = World::start(Transport::Tls).await;
    for version in Version::ALL {
        let mut client = HttpClient::connect(&world.truename, version).await;
        for status in [404, 200, 405, 200, 415, 200] {
            let request = match status {
                404 => request(Method::GET, "/", b""),
                405 => request(Method::DELETE, "/dns-query", b""),
                415 => request(Method::POST, "/dns-query", b""),
                _ => post(&query("www.secure.com", "A")),
            };
            let reply = client.request(request).await.unwrap();
            assert_eq!(reply.status, status, "{version:?}");
        }
    }
}
