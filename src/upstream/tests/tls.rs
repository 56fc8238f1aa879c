//! DoT: certificates, pins, resumption.

use std::sync::atomic::AtomicU64;

use rustls::HandshakeKind;
use tokio_rustls::TlsAcceptor;

use super::*;

/// A DoT upstream; counts the octets of queries it sees.
async fn dot(pki: &Pki, resumed: Arc<AtomicUsize>) -> (SocketAddr, Arc<AtomicU64>) {
    let acceptor = TlsAcceptor::from(Arc::new(pki.server(b"dot")));
    let seen = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&seen);
    let (address, _) = listen(move |_, stream| {
        let (acceptor, seen, resumed) =
            (acceptor.clone(), Arc::clone(&count), Arc::clone(&resumed));
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
                resumed.fetch_add(1, Ordering::SeqCst);
            }
            // One query for each connection.
            if let Some(query) = read_query(&mut stream).await {
                seen.fetch_add(query.len() as u64, Ordering::SeqCst);
                stream.write_all(&framed(&answer(&query))).await.unwrap();
                stream.flush().await.unwrap();
            }
            drop(stream.shutdown().await);
        }
    })
    .await;
    (address, seen)
}

#[tokio::test]
async fn queries_are_padded_and_sessions_resumed() {
    let pki = Pki::new("dns.test");
    let resumed = Arc::new(AtomicUsize::new(0));
    let (address, seen) = dot(&pki, Arc::clone(&resumed)).await;
    let upstreams = upstreams([pki.upstream(Transport::Tls, address)]);
    for round in 1..=3 {
        let exchanged = ask(&upstreams, "a.example").await.unwrap();
        assert_is_answer(&exchanged, "a.example");
        assert_eq!(seen.load(Ordering::SeqCst), 128 * round);
    }
    assert_eq!(resumed.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn no_query_leaves_before_the_certificate_is_verified() {
    let right = Pki::new("dns.test");
    let (address, seen) = dot(&right, Arc::default()).await;
    let wrong_name = UpstreamSettings {
        server_name: Some(ServerName::try_from("other.test").unwrap()),
        ..right.upstream(Transport::Tls, address)
    };
    let stranger = upstream(Transport::Tls, address);
    let wrong_pin = UpstreamSettings {
        pins: vec![Pin::Spki([0; 32]), Pin::TbsCertificate([0; 32])],
        ..right.upstream(Transport::Tls, address)
    };
    for (settings, part) in [
        (
            wrong_name,
            "certificate is valid for dns.test, not other.test",
        ),
        (stranger, "signed by nobody known"),
        (wrong_pin, "none of the pinned digests"),
    ] {
        let upstreams = upstreams([settings]);
        let error = ask(&upstreams, "secret.example").await.unwrap_err();
        assert_eq!(error.stage(), Stage::Handshake);
        assert!(!error.is_retryable());
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(seen.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_hundred_first_queries_make_one_connection() {
    let pki = Pki::new("dns.test");
    let acceptor = TlsAcceptor::from(Arc::new(pki.server(b"dot")));
    let (address, connections) = listen(move |_, stream| {
        let acceptor = acceptor.clone();
        async move { answer_all(acceptor.accept(stream).await.unwrap()).await }
    })
    .await;
    let upstreams = upstreams([pki.upstream(Transport::Tls, address)]);
    ask_many(&upstreams, 100).await;
    ask_many(&upstreams, 100).await;
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_address_that_does_not_answer_gives_way_to_the_next() {
    let pki = Pki::new("dns.test");
    let (address, _) = dot(&pki, Arc::default()).await;
    // Accepts and never says a word.
    let (silent, _) = listen(|_, stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let closed = closed_address();
    let upstreams = upstreams([UpstreamSettings {
        addresses: vec![closed, silent, address],
        ..pki.upstream(Transport::Tls, address)
    }]);
    let exchanged = ask(&upstreams, "a.example").await.unwrap();
    assert_is_answer(&exchanged, "a.example");
}
