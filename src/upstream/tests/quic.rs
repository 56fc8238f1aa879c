//! DoQ, and DoH over HTTP/3.

use bytes::{Buf, Bytes};
use quinn::{Endpoint, crypto::rustls::QuicServerConfig};

use super::*;

fn endpoint(pki: &Pki, alpn: &[u8]) -> (Endpoint, SocketAddr) {
    let crypto = QuicServerConfig::try_from(pki.server(alpn)).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = endpoint.local_addr().unwrap();
    (endpoint, address)
}

/// A DoQ upstream; the first connection closes after `first_lasts` queries.
fn doq(pki: &Pki, first_lasts: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let (endpoint, address) = endpoint(pki, b"doq");
    let count = Arc::new(AtomicUsize::new(0));
    let connections = Arc::clone(&count);
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let Ok(connection) = incoming.await else {
                continue;
            };
            let first = count.fetch_add(1, Ordering::SeqCst) == 0;
            tokio::spawn(async move {
                let mut served = 0;
                while let Ok((mut sending, mut receiving)) = connection.accept_bi().await {
                    if first && served == first_lasts {
                        connection.close(2_u32.into(), b"");
                        return;
                    }
                    served += 1;
                    tokio::spawn(async move {
                        let input = receiving.read_to_end(65_537).await.unwrap();
                        assert_eq!(input.len() % 128, 2, "padded, and the stream was finished");
                        assert_eq!(input[2..4], [0, 0], "the id is 0");
                        let output = framed(&answer(&input[2..]));
                        sending.write_all(&output).await.unwrap();
                        sending.finish().unwrap();
                        drop(sending.stopped().await);
                    });
                }
            });
        }
    });
    (address, connections)
}

#[tokio::test]
async fn doq_queries_share_one_connection() {
    let pki = Pki::new("dns.test");
    let (address, connections) = doq(&pki, usize::MAX);
    let upstreams = upstreams([pki.upstream(Transport::Quic, address)]);
    ask_many(&upstreams, 1).await;
    ask_many(&upstreams, 200).await;
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_doq_connection_that_ends_costs_no_query() {
    let pki = Pki::new("dns.test");
    let (address, connections) = doq(&pki, 1);
    let upstreams = upstreams([pki.upstream(Transport::Quic, address)]);
    for name in ["a.example", "b.example", "c.example"] {
        assert_is_answer(&ask(&upstreams, name).await.unwrap(), name);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_wrong_certificate_ends_quic_too() {
    let pki = Pki::new("other.test");
    for (transport, alpn) in [
        (Transport::Quic, b"doq".as_slice()),
        (Transport::Http3, b"h3"),
    ] {
        let (endpoint, address) = endpoint(&pki, alpn);
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                assert!(incoming.await.is_err());
            }
        });
        let upstreams = upstreams([pki.upstream(transport, address)]);
        let error = ask(&upstreams, "a.example").await.unwrap_err();
        assert_eq!(error.stage(), Stage::Handshake);
        let text = error.to_string();
        assert!(
            text.contains("other.test") && text.contains("dns.test"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn http3_queries_share_one_connection() {
    let pki = Pki::new("dns.test");
    let (endpoint, address) = endpoint(&pki, b"h3");
    let count = Arc::new(AtomicUsize::new(0));
    let connections = Arc::clone(&count);
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let quic = h3_quinn::Connection::new(incoming.await.unwrap());
                let mut connection: h3::server::Connection<_, Bytes> =
                    h3::server::Connection::new(quic).await.unwrap();
                while let Ok(Some(resolver)) = connection.accept().await {
                    tokio::spawn(async move {
                        let (request, mut stream) = resolver.resolve_request().await.unwrap();
                        assert_eq!(request.method(), "POST");
                        assert_eq!(request.uri().path(), "/dns-query");
                        let mut query = Vec::new();
                        while let Some(mut chunk) = stream.recv_data().await.unwrap() {
                            let octets = chunk.remaining();
                            query.extend_from_slice(&chunk.copy_to_bytes(octets));
                        }
                        let bad = query[13] == b'z';
                        let head = http::Response::builder()
                            .status(if bad { 503 } else { 200 })
                            .header("content-type", "application/dns-message")
                            .header("age", "250")
                            .body(())
                            .unwrap();
                        stream.send_response(head).await.unwrap();
                        stream.send_data(answer(&query).into()).await.unwrap();
                        stream.finish().await.unwrap();
                    });
                }
            });
        }
    });
    let upstreams = upstreams([pki.upstream(Transport::Http3, address)]);
    ask_many(&upstreams, 1).await;
    ask_many(&upstreams, 100).await;
    assert_eq!(ask(&upstreams, "a.example").await.unwrap().age_s, 250);
    let error = ask(&upstreams, "z.example").await.unwrap_err();
    assert!(error.to_string().contains("HTTP status 503"), "{error}");
    ask_many(&upstreams, 1).await;
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_http3_upstream_cannot_fill_memory_with_headers_that_do_not_end() {
    let pki = Pki::new("dns.test");
    let (endpoint, address) = endpoint(&pki, b"h3");
    let (took, mut taken) = tokio::sync::mpsc::channel(10);
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let connection = incoming.await.unwrap();
            let took = took.clone();
            tokio::spawn(async move {
                let (mut sending, _receiving) = connection.accept_bi().await.unwrap();
                // A HEADERS frame of nearly a gigabyte.
                drop(sending.write_all(&[0x01, 0xbf, 0xff, 0xff, 0xff]).await);
                let mut octets = 0;
                while octets < 1 << 20 && sending.write_all(&[0; 1024]).await.is_ok() {
                    octets += 1024;
                }
                let _ = took.send(octets).await;
            });
        }
    });
    let upstreams = upstreams([pki.upstream(Transport::Http3, address)]);
    let error = ask(&upstreams, "a.example").await.unwrap_err();
    assert_eq!(error.stage(), Stage::Receive, "{error}");
    assert!(taken.recv().await.unwrap() < 400_000);
}
