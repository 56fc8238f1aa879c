//! DoH over HTTP/2.

use bytes::Bytes;
use h2::server::SendResponse;
use http::Response;
use tokio_rustls::TlsAcceptor;

use super::*;

/// A DoH upstream; `serve` gets the number of the connection, the number of the request on it, the
/// query, and what to answer with.
async fn doh<S>(pki: &Pki, serve: S) -> (SocketAddr, Arc<AtomicUsize>)
where
    S: Fn(usize, usize, Vec<u8>, SendResponse<Bytes>) + Clone + Send + 'static,
{
    let acceptor = TlsAcceptor::from(Arc::new(pki.server(b"h2")));
    listen(move |connection_number, stream| {
        let (acceptor, serve) = (acceptor.clone(), serve.clone());
        async move {
            let stream = acceptor.accept(stream).await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let mut number = 0;
            while let Some(Ok((request, respond))) = connection.accept().await {
                assert_eq!(request.method(), "POST");
                assert_eq!(request.uri().path(), "/dns-query");
                assert_eq!(request.uri().authority().unwrap(), "dns.test");
                assert_eq!(request.headers()["content-type"], "application/dns-message");
                assert!(!request.headers().contains_key("user-agent"));
                let serve = serve.clone();
                let mut body = request.into_body();
                tokio::spawn(async move {
                    let mut query = Vec::new();
                    while let Some(Ok(chunk)) = body.data().await {
                        query.extend_from_slice(&chunk);
                    }
                    assert_eq!(query[..2], [0, 0]);
                    assert_eq!(query.len() % 128, 0);
                    serve(connection_number, number, query, respond);
                });
                number += 1;
            }
        }
    })
    .await
}

fn reply(mut respond: SendResponse<Bytes>, status: u16, content_type: &str, body: Vec<u8>) {
    let head = Response::builder()
        .status(status)
        .header("content-type", content_type)
        .header("location", "https://elsewhere.test/")
        .header("age", "250")
        .body(())
        .unwrap();
    let mut stream = respond.send_response(head, false).unwrap();
    stream.send_data(Bytes::from(body), true).unwrap();
}

#[tokio::test]
async fn many_queries_share_one_connection() {
    let pki = Pki::new("dns.test");
    let (address, connections) = doh(&pki, |_, _, query, respond| {
        reply(respond, 200, "application/dns-message", answer(&query));
    })
    .await;
    let upstreams = upstreams([pki.upstream(Transport::Https, address)]);
    ask_many(&upstreams, 1).await;
    ask_many(&upstreams, 200).await;
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_time_in_an_http_cache_is_told() {
    let pki = Pki::new("dns.test");
    let (address, _) = doh(&pki, |_, _, query, respond| {
        reply(respond, 200, "application/dns-message", answer(&query));
    })
    .await;
    let upstreams = upstreams([pki.upstream(Transport::Https, address)]);
    assert_eq!(ask(&upstreams, "a.example").await.unwrap().age_s, 250);
}

#[tokio::test]
async fn only_200_with_a_dns_message_is_an_answer() {
    let pki = Pki::new("dns.test");
    for (status, content_type, octets, part) in [
        (302, "application/dns-message", 0, "HTTP status 302"),
        (500, "text/plain", 0, "HTTP status 500"),
        (429, "text/plain", 0, "HTTP status 429"),
        (200, "text/html", 0, "content type \"text/html\""),
        (200, "application/dns-message", 65_536, "longer than 65535"),
    ] {
        let (address, connections) = doh(&pki, move |_, _, query, respond| {
            let mut body = answer(&query);
            body.resize(body.len().max(octets), 0);
            reply(respond, status, content_type, body);
        })
        .await;
        let upstreams = upstreams([pki.upstream(Transport::Https, address)]);
        let error = ask(&upstreams, "a.example").await.unwrap_err();
        assert_eq!(error.stage(), Stage::Receive);
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(connections.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_reset_stream_is_asked_again_on_a_fresh_connection() {
    let pki = Pki::new("dns.test");
    for reason in [h2::Reason::REFUSED_STREAM, h2::Reason::INTERNAL_ERROR] {
        let (address, connections) = doh(&pki, move |connection, number, query, mut respond| {
            if connection == 0 && number > 0 {
                respond.send_reset(reason);
            } else {
                reply(respond, 200, "application/dns-message", answer(&query));
            }
        })
        .await;
        let upstreams = upstreams([pki.upstream(Transport::Https, address)]);
        for name in ["a.example", "b.example", "c.example"] {
            assert_is_answer(&ask(&upstreams, name).await.unwrap(), name);
        }
        assert_eq!(connections.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn a_goaway_costs_no_query() {
    let pki = Pki::new("dns.test");
    let acceptor = TlsAcceptor::from(Arc::new(pki.server(b"h2")));
    let (address, connections) = listen(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(stream).await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            // Each connection answers one query and says goodbye with it.
            while let Some(Ok((request, respond))) = connection.accept().await {
                connection.graceful_shutdown();
                tokio::spawn(async move {
                    let query = request.into_body().data().await.unwrap().unwrap();
                    reply(respond, 200, "application/dns-message", answer(&query));
                });
            }
        }
    })
    .await;
    let upstreams = upstreams([pki.upstream(Transport::Https, address)]);
    for number in 1..=4 {
        ask(&upstreams, "a.example").await.unwrap();
        assert_eq!(connections.load(Ordering::SeqCst), number);
    }
}

#[tokio::test]
async fn a_server_without_http2_is_told_as_such() {
    let pki = Pki::new("dns.test");
    let mut config = pki.server(b"h2");
    config.alpn_protocols.clear();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (address, _) = listen(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            drop(acceptor.accept(stream).await);
        }
    })
    .await;
    let upstreams = upstreams([pki.upstream(Transport::Https, address)]);
    let error = ask(&upstreams, "a.example").await.unwrap_err();
    assert!(
        error.to_string().contains("does not speak HTTP/2"),
        "{error}"
    );
}
