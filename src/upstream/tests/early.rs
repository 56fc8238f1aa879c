//! Queries in early data: 0-RTT of QUIC, and of TLS 1.3 under HTTP/2.

use std::io::Read;

use bytes::{Buf, Bytes};
use quinn::{Endpoint, crypto::rustls::QuicServerConfig};
use rustls::HandshakeKind;
use tokio_rustls::TlsAcceptor;

use super::{
    connection::{Connection, Dial, May},
    life::Life,
    *,
};

const EAGER: May = May {
    early_data: true,
    upgrade: false,
};

/// What a server saw.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    queries: AtomicUsize,
    early: AtomicUsize,
    /// Handshakes that resumed a session.
    resumed: AtomicUsize,
}

impl Seen {
    fn early(&self) -> usize {
        self.early.load(Ordering::SeqCst)
    }
}

/// A QUIC upstream, DoQ or HTTP/3 as `alpn` says.
fn quic_upstream(tls: ServerConfig, alpn: &'static [u8]) -> (Endpoint, SocketAddr, Arc<Seen>) {
    let endpoint = Endpoint::server(quic_config(tls), "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = endpoint.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let (accepting, count) = (endpoint.clone(), Arc::clone(&seen));
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            let (connection, _) = incoming.accept().unwrap().into_0rtt().unwrap();
            count.connections.fetch_add(1, Ordering::SeqCst);
            let count = Arc::clone(&count);
            if alpn == b"doq" {
                tokio::spawn(serve_doq(connection, count));
            } else {
                tokio::spawn(serve_http3(connection, count));
            }
        }
    });
    (endpoint, address, seen)
}

fn quic_config(tls: ServerConfig) -> quinn::ServerConfig {
    let crypto = QuicServerConfig::try_from(tls).unwrap();
    quinn::ServerConfig::with_crypto(Arc::new(crypto))
}

async fn serve_doq(connection: quinn::Connection, seen: Arc<Seen>) {
    while let Ok((mut sending, mut receiving)) = connection.accept_bi().await {
        seen.early
            .fetch_add(usize::from(receiving.is_0rtt()), Ordering::SeqCst);
        seen.queries.fetch_add(1, Ordering::SeqCst);
        let input = receiving.read_to_end(65_537).await.unwrap();
        if is_gone(&input[2..]) {
            connection.close(0_u32.into(), b"");
        }
        let output = framed(&answer(&input[2..]));
        if sending.write_all(&output).await.is_err() {
            return;
        }
        sending.finish().unwrap();
    }
}

/// Whether the server is to close the connection rather than answer this query.
fn is_gone(query: &[u8]) -> bool {
    query[13..].starts_with(b"gone")
}

async fn serve_http3(connection: quinn::Connection, seen: Arc<Seen>) {
    let handle = connection.clone();
    let Ok(mut http3) =
        h3::server::Connection::<_, Bytes>::new(h3_quinn::Connection::new(connection)).await
    else {
        return;
    };
    while let Ok(Some(resolver)) = http3.accept().await {
        seen.queries.fetch_add(1, Ordering::SeqCst);
        let (_, mut stream) = resolver.resolve_request().await.unwrap();
        let mut query = Vec::new();
        while let Some(mut chunk) = stream.recv_data().await.unwrap() {
            let octets = chunk.remaining();
            query.extend_from_slice(&chunk.copy_to_bytes(octets));
        }
        if is_gone(&query) {
            return handle.close(0_u32.into(), b"");
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

async fn connect(dial: &Dial, address: SocketAddr) -> Connection {
    let life = Life::default();
    let made = dial.connect(address, life.clone(), EAGER).await.unwrap();
    Connection::new(1, life, made)
}

#[tokio::test]
async fn a_query_travels_in_the_first_packet_when_a_session_is_resumed() {
    for (transport, alpn) in [
        (Transport::Quic, b"doq".as_slice()),
        (Transport::Http3, b"h3"),
    ] {
        let pki = Pki::new("dns.test");
        let (_endpoint, address, seen) = quic_upstream(pki.early_server(alpn), alpn);
        let dial = Dial::new(&pki.upstream(transport, address), None).unwrap();
        let first = connect(&dial, address).await;
        assert!(!first.is_early());
        first.exchange(&question("a.example")).await.unwrap();
        let second = connect(&dial, address).await;
        assert!(second.is_early());
        second.exchange(&question("b.example")).await.unwrap();
        assert_eq!(seen.queries.load(Ordering::SeqCst), 2);
        if transport == Transport::Quic {
            assert_eq!(seen.early(), 1);
        }
    }
}

#[tokio::test]
async fn early_data_that_is_refused_costs_no_query() {
    for (transport, alpn) in [
        (Transport::Quic, b"doq".as_slice()),
        (Transport::Http3, b"h3"),
    ] {
        let pki = Pki::new("dns.test");
        let tls = pki.early_server(alpn);
        let mut refusing = tls.clone();
        refusing.max_early_data_size = 0;
        let (endpoint, address, seen) = quic_upstream(tls.clone(), alpn);
        let upstreams = upstreams([pki.upstream(transport, address)]);
        for round in 0..10 {
            // Each connection is followed by one to a server of the other mind.
            let (new, before) = if round % 2 == 0 {
                (&refusing, &tls)
            } else {
                (&tls, &refusing)
            };
            assert_ne!(new.max_early_data_size, before.max_early_data_size);
            let name = format!("r{round}.example");
            assert_is_answer(&ask(&upstreams, &name).await.unwrap(), &name);
            ask_many(&upstreams, 20).await;
            endpoint.set_server_config(Some(quic_config(new.clone())));
            upstreams.lose_connections();
            // All at once on a connection that may take early data or not.
            ask_many(&upstreams, 20).await;
            upstreams.lose_connections();
        }
        assert!(seen.connections.load(Ordering::SeqCst) >= 10);
    }
}

#[tokio::test]
async fn a_connection_whose_early_data_was_refused_is_used_no_more() {
    for (transport, alpn) in [
        (Transport::Quic, b"doq".as_slice()),
        (Transport::Http3, b"h3"),
    ] {
        let pki = Pki::new("dns.test");
        let tls = pki.early_server(alpn);
        let (endpoint, address, _) = quic_upstream(tls.clone(), alpn);
        let dial = Dial::new(&pki.upstream(transport, address), None).unwrap();
        let first = connect(&dial, address).await;
        first.exchange(&question("a.example")).await.unwrap();
        let mut refusing = tls;
        refusing.max_early_data_size = 0;
        endpoint.set_server_config(Some(quic_config(refusing)));
        let second = connect(&dial, address).await;
        assert!(second.is_early() && second.is_open());
        let failure = second.exchange(&question("b.example")).await.unwrap_err();
        assert!(failure.is_of_connection(), "{failure}");
        // Later queries on it could wait for ever.
        let ended = async {
            while second.is_open() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE / 4, ended).await.unwrap();
    }
}

#[tokio::test]
async fn an_upstream_that_restarts_with_a_wrong_certificate_costs_no_query() {
    for (transport, alpn) in [
        (Transport::Quic, b"doq".as_slice()),
        (Transport::Http3, b"h3"),
    ] {
        let pki = Pki::new("dns.test");
        let (endpoint, address, _) = quic_upstream(pki.early_server(alpn), alpn);
        let (standing_by, _) = listen(|_, stream| answer_all(stream)).await;
        let upstreams = upstreams([
            pki.upstream(transport, address),
            upstream(Transport::Tcp, standing_by),
        ]);
        ask_many(&upstreams, 5).await;
        // The connection that is used ends, early data is refused on the next, and the one after
        // fails: each of them costs the query that is under way a try.
        let wrong = Pki::new("other.test").early_server(alpn);
        endpoint.set_server_config(Some(quic_config(wrong)));
        let exchanged = ask(&upstreams, "gone.example").await.unwrap();
        assert_eq!(exchanged.transport, Transport::Tcp, "{transport:?}");
    }
}

/// DoH over HTTP/2 that takes early data up to `early_octets`; the octets that came early are
/// counted.
async fn early_doh(pki: &Pki, early_octets: u32, status: u16) -> (SocketAddr, Arc<Seen>) {
    let mut tls = pki.server(b"h2");
    tls.max_early_data_size = early_octets;
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let seen = Arc::new(Seen::default());
    let count = Arc::clone(&seen);
    let (address, _) = listen(move |_, stream| {
        let (acceptor, seen) = (acceptor.clone(), Arc::clone(&count));
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            seen.connections.fetch_add(1, Ordering::SeqCst);
            let is_resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
            seen.resumed
                .fetch_add(usize::from(is_resumed), Ordering::SeqCst);
            let mut early = Vec::new();
            if let Some(mut data) = stream.get_mut().1.early_data() {
                data.read_to_end(&mut early).unwrap();
            }
            let was_early = !early.is_empty();
            seen.early
                .fetch_add(usize::from(was_early), Ordering::SeqCst);
            let (reader, writer) = tokio::io::split(stream);
            let reader = AsyncReadExt::chain(std::io::Cursor::new(early), reader);
            let stream = tokio::io::join(reader, writer);
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    let query = request.into_body().data().await.unwrap().unwrap();
                    seen.queries.fetch_add(1, Ordering::SeqCst);
                    let head = http::Response::builder()
                        .status(if was_early { status } else { 200 })
                        .header("content-type", "application/dns-message")
                        .body(())
                        .unwrap();
                    let mut stream = respond.send_response(head, false).unwrap();
                    stream.send_data(answer(&query).into(), true).unwrap();
                });
            }
        }
    })
    .await;
    (address, seen)
}

#[tokio::test]
async fn doh_resumes_with_early_data() {
    let pki = Pki::new("dns.test");
    let (address, seen) = early_doh(&pki, 16_384, 200).await;
    let upstreams = upstreams([pki.upstream(Transport::Https, address)]);
    ask_many(&upstreams, 10).await;
    assert_eq!(seen.early(), 0);
    upstreams.lose_connections();
    ask_many(&upstreams, 10).await;
    assert_eq!(seen.early(), 1);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 2);
    assert_eq!(seen.resumed.load(Ordering::SeqCst), 1);
    // Another network is another address to be seen from: nothing leaves early there, and nothing
    // shows that it is us again.
    upstreams.network_changed();
    ask_many(&upstreams, 10).await;
    assert_eq!(seen.early(), 1);
    assert_eq!(seen.resumed.load(Ordering::SeqCst), 1);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn more_queries_than_fit_early_data_go_after_the_handshake() {
    let pki = Pki::new("dns.test");
    let (address, seen) = early_doh(&pki, 300, 200).await;
    let upstreams = upstreams([pki.upstream(Transport::Https, address)]);
    ask_many(&upstreams, 1).await;
    upstreams.lose_connections();
    ask_many(&upstreams, 300).await;
    assert_eq!(seen.early(), 1);
    assert_eq!(seen.queries.load(Ordering::SeqCst), 301);
}

#[tokio::test]
async fn too_early_is_asked_again_without_early_data() {
    let pki = Pki::new("dns.test");
    let (address, seen) = early_doh(&pki, 16_384, 425).await;
    let upstreams = upstreams([pki.upstream(Transport::Https, address)]);
    ask(&upstreams, "a.example").await.unwrap();
    upstreams.lose_connections();
    ask(&upstreams, "b.example").await.unwrap();
    assert_eq!(seen.early(), 1);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn other_pins_mean_other_sessions() {
    let pki = Pki::new("dns.test");
    let (_endpoint, address, seen) = quic_upstream(pki.early_server(b"doq"), b"doq");
    let right = pki.upstream(Transport::Quic, address);
    ask(&upstreams([right.clone()]), "a.example").await.unwrap();
    let wrong = UpstreamSettings {
        pins: vec![Pin::Spki([0; 32])],
        ..right
    };
    let error = ask(&upstreams([wrong]), "secret.example")
        .await
        .unwrap_err();
    assert_eq!(error.stage(), Stage::Handshake);
    assert_eq!(seen.queries.load(Ordering::SeqCst), 1);
}
