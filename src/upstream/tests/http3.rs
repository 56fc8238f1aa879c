//! DoH that is written down for HTTP/2, where HTTP/3 is offered.

use std::{collections::HashSet, sync::Mutex};

use bytes::{Buf, Bytes};
use quinn::{Endpoint, crypto::rustls::QuicServerConfig};
use tokio::net::UdpSocket;
use tokio_rustls::TlsAcceptor;

use super::*;

/// DoH over HTTP/2 that offers HTTP/3 at `port` and ends each connection after one answer.
async fn offering(pki: &Pki, port: u16) -> (SocketAddr, Arc<AtomicUsize>) {
    let acceptor = TlsAcceptor::from(Arc::new(pki.server(b"h2")));
    listen(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(stream).await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                connection.graceful_shutdown();
                tokio::spawn(async move {
                    let query = request.into_body().data().await.unwrap().unwrap();
                    let head = http::Response::builder()
                        .header("content-type", "application/dns-message")
                        .header("alt-svc", format!("h3=\":{port}\"; ma=3600"))
                        .body(())
                        .unwrap();
                    let mut stream = respond.send_response(head, false).unwrap();
                    stream.send_data(answer(&query).into(), true).unwrap();
                });
            }
        }
    })
    .await
}

/// DoH over HTTP/3; each connection gives `answers` answers and ends at the next query.
fn over_http3(pki: &Pki, answers: usize) -> (u16, Arc<AtomicUsize>) {
    let crypto = QuicServerConfig::try_from(pki.server(b"h3")).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let port = endpoint.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let connections = Arc::clone(&count);
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let Ok(quic) = incoming.await else {
                continue;
            };
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve_http3(quic, answers));
        }
    });
    (port, connections)
}

async fn serve_http3(quic: quinn::Connection, answers: usize) {
    let handle = quic.clone();
    let mut connection: h3::server::Connection<_, Bytes> =
        h3::server::Connection::new(h3_quinn::Connection::new(quic))
            .await
            .unwrap();
    let mut served = 0;
    while let Ok(Some(resolver)) = connection.accept().await {
        if served == answers {
            handle.close(0x102_u32.into(), b"broken");
            return;
        }
        served += 1;
        let (_, mut stream) = resolver.resolve_request().await.unwrap();
        let mut query = Vec::new();
        while let Some(mut chunk) = stream.recv_data().await.unwrap() {
            let octets = chunk.remaining();
            query.extend_from_slice(&chunk.copy_to_bytes(octets));
        }
        let head = http::Response::builder()
            .header("content-type", "application/dns-message")
            .body(())
            .unwrap();
        stream.send_response(head).await.unwrap();
        stream.send_data(answer(&query).into()).await.unwrap();
        stream.finish().await.unwrap();
    }
}

async fn transport_of(upstreams: &Upstreams, name: &str) -> Transport {
    let exchanged = ask(upstreams, name).await.unwrap();
    assert_is_answer(&exchanged, name);
    exchanged.transport
}

#[tokio::test]
async fn http3_is_taken_where_it_is_offered() {
    let pki = Pki::new("dns.test");
    let (port, over_http3) = over_http3(&pki, usize::MAX);
    let (address, over_http2) = offering(&pki, port).await;
    let upstreams = upstreams([pki.upstream(Transport::Https, address)]);
    assert_eq!(
        transport_of(&upstreams, "a.example").await,
        Transport::Https
    );
    for name in ["b.example", "c.example"] {
        assert_eq!(transport_of(&upstreams, name).await, Transport::Http3);
    }
    assert_eq!(over_http2.load(Ordering::SeqCst), 1);
    assert_eq!(upstreams.status()[0].transport, Transport::Http3);
    assert_eq!(over_http3.load(Ordering::SeqCst), 1);
    // An offer is for one network; on another it is made again.
    upstreams.network_changed();
    let (next, after) = ("d.example", "e.example");
    assert_eq!(transport_of(&upstreams, next).await, Transport::Https);
    assert_eq!(transport_of(&upstreams, after).await, Transport::Http3);
    assert_eq!(over_http3.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn where_no_udp_comes_through_http2_goes_on_and_http3_is_left_alone() {
    let pki = Pki::new("dns.test");
    let hole = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let port = hole.local_addr().unwrap().port();
    let sources = Arc::new(Mutex::new(HashSet::new()));
    let seen = Arc::clone(&sources);
    tokio::spawn(async move {
        while let Ok((_, from)) = hole.recv_from(&mut [0; 2048]).await {
            seen.lock().unwrap().insert(from);
        }
    });
    let (address, connections) = offering(&pki, port).await;
    let upstreams = upstreams([pki.upstream(Transport::Https, address)]);
    for name in ["a.example", "b.example", "c.example", "d.example"] {
        assert_eq!(transport_of(&upstreams, name).await, Transport::Https);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 4);
    assert_eq!(sources.lock().unwrap().len(), 1, "tried once");
    assert_eq!(upstreams.status()[0].transport, Transport::Https);
    // Another network may let it through, once it is offered there.
    upstreams.network_changed();
    for name in ["e.example", "f.example"] {
        assert_eq!(transport_of(&upstreams, name).await, Transport::Https);
    }
    assert_eq!(sources.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_query_whose_http3_connection_breaks_goes_over_http2() {
    let pki = Pki::new("dns.test");
    let (port, over_http3) = over_http3(&pki, 1);
    let (address, _) = offering(&pki, port).await;
    let upstreams = upstreams([pki.upstream(Transport::Https, address)]);
    assert_eq!(
        transport_of(&upstreams, "a.example").await,
        Transport::Https
    );
    assert_eq!(
        transport_of(&upstreams, "b.example").await,
        Transport::Http3
    );
    assert_eq!(
        transport_of(&upstreams, "c.example").await,
        Transport::Https
    );
    // It answered before it broke, so it is worth another try.
    assert_eq!(
        transport_of(&upstreams, "d.example").await,
        Transport::Http3
    );
    assert_eq!(over_http3.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_http3_that_never_answers_is_left_alone() {
    let pki = Pki::new("dns.test");
    let (port, over_http3) = over_http3(&pki, 0);
    let (address, _) = offering(&pki, port).await;
    let upstreams = upstreams([pki.upstream(Transport::Https, address)]);
    for name in ["a.example", "b.example", "c.example"] {
        assert_eq!(transport_of(&upstreams, name).await, Transport::Https);
    }
    assert_eq!(over_http3.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_http3_with_a_wrong_certificate_gets_no_query() {
    let pki = Pki::new("dns.test");
    let stranger = Pki::new("dns.test");
    let (port, over_http3) = over_http3(&stranger, usize::MAX);
    let (address, _) = offering(&pki, port).await;
    let upstreams = upstreams([pki.upstream(Transport::Https, address)]);
    for name in ["a.example", "b.example"] {
        assert_eq!(transport_of(&upstreams, name).await, Transport::Https);
    }
    assert_eq!(over_http3.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn http3_that_is_written_down_stays_http3() {
    let pki = Pki::new("dns.test");
    let (port, _) = over_http3(&pki, 1);
    let address = SocketAddr::new("127.0.0.1".parse().unwrap(), port);
    let upstreams = upstreams([pki.upstream(Transport::Http3, address)]);
    for name in ["a.example", "b.example", "c.example"] {
        assert_eq!(transport_of(&upstreams, name).await, Transport::Http3);
    }
}
