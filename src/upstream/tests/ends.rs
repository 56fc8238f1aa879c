//! How connections end, and that it costs no query.

use quinn::{Endpoint, crypto::rustls::QuicServerConfig};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::{
    connection::{Connection, Dial, May},
    life::Life,
    *,
};

const PLAINLY: May = May {
    early_data: false,
    upgrade: false,
};

async fn connect(settings: &UpstreamSettings) -> Connection {
    let life = Life::default();
    let dial = Dial::new(settings, None).unwrap();
    let made = dial.connect(settings.addresses[0], life.clone(), PLAINLY);
    Connection::new(1, life, made.await.unwrap())
}

/// The end is noticed though nothing is asked and nothing will be.
async fn assert_end_is_noticed(connection: &Connection, end: &Notify) {
    assert!(connection.is_open());
    end.notify_one();
    let noticed = async {
        while connection.is_open() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, noticed).await.unwrap();
    assert_eq!(connection.begun(), 0);
}

#[tokio::test]
async fn the_end_of_an_idle_stream_is_noticed() {
    let pki = Pki::new("dns.test");
    // Plain; DoT with and without a farewell; HTTP/2 with GOAWAY and without a word.
    for (transport, says_goodbye) in [
        (Transport::Tcp, false),
        (Transport::Tls, true),
        (Transport::Tls, false),
        (Transport::Https, true),
        (Transport::Https, false),
    ] {
        let end = Arc::new(Notify::new());
        let alpn: &[u8] = if transport == Transport::Https {
            b"h2"
        } else {
            b"dot"
        };
        let acceptor = TlsAcceptor::from(Arc::new(pki.server(alpn)));
        let told = Arc::clone(&end);
        let (address, _) = listen(move |_, stream| {
            let (acceptor, told) = (acceptor.clone(), Arc::clone(&told));
            async move {
                if transport == Transport::Tcp {
                    told.notified().await;
                    return;
                }
                let mut stream = acceptor.accept(stream).await.unwrap();
                if transport == Transport::Tls {
                    told.notified().await;
                    if says_goodbye {
                        stream.shutdown().await.unwrap();
                        // Ours stays open: the goodbye alone must do.
                        std::future::pending::<()>().await;
                    }
                    return;
                }
                let mut connection = h2::server::handshake(stream).await.unwrap();
                tokio::select! {
                    _ = connection.accept() => return,
                    () = told.notified() => {}
                }
                if says_goodbye {
                    connection.graceful_shutdown();
                    while connection.accept().await.is_some() {}
                }
            }
        })
        .await;
        let connection = connect(&pki.upstream(transport, address)).await;
        assert_end_is_noticed(&connection, &end).await;
    }
}

#[tokio::test]
async fn the_end_of_an_idle_quic_connection_is_noticed() {
    let pki = Pki::new("dns.test");
    for (transport, alpn) in [
        (Transport::Quic, b"doq".as_slice()),
        (Transport::Http3, b"h3"),
    ] {
        let crypto = QuicServerConfig::try_from(pki.server(alpn)).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = endpoint.local_addr().unwrap();
        let end = Arc::new(Notify::new());
        let told = Arc::clone(&end);
        tokio::spawn(async move {
            let connection = endpoint.accept().await.unwrap().await.unwrap();
            told.notified().await;
            connection.close(0_u32.into(), b"idle");
            endpoint.wait_idle().await;
        });
        let connection = connect(&pki.upstream(transport, address)).await;
        assert_end_is_noticed(&connection, &end).await;
    }
}

/// A DoQ upstream on whose first connection queries from the second on end as `ending` says.
fn doq(
    pki: &Pki,
    ending: fn(&quinn::Connection, quinn::SendStream, quinn::RecvStream),
) -> (SocketAddr, Arc<AtomicUsize>) {
    let crypto = QuicServerConfig::try_from(pki.server(b"doq")).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = endpoint.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let connections = Arc::clone(&count);
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let connection = incoming.await.unwrap();
            let first = count.fetch_add(1, Ordering::SeqCst) == 0;
            tokio::spawn(async move {
                let mut served = 0;
                while let Ok((mut sending, mut receiving)) = connection.accept_bi().await {
                    served += 1;
                    if first && served > 1 {
                        ending(&connection, sending, receiving);
                        continue;
                    }
                    let input = receiving.read_to_end(65_537).await.unwrap();
                    let output = framed(&answer(&input[2..]));
                    sending.write_all(&output).await.unwrap();
                    sending.finish().unwrap();
                }
            });
        }
    });
    (address, connections)
}

#[tokio::test]
async fn however_a_doq_stream_ends_its_query_is_asked_again() {
    let pki = Pki::new("dns.test");
    let endings: [fn(&quinn::Connection, quinn::SendStream, quinn::RecvStream); 6] = [
        // DOQ_INTERNAL_ERROR, DOQ_EXCESSIVE_LOAD and one nobody knows (RFC 9250, section 4.3).
        |_, mut sending, _| sending.reset(1_u32.into()).unwrap(),
        |_, mut sending, _| sending.reset(4_u32.into()).unwrap(),
        |_, mut sending, _| sending.reset(0xd098_ea5e_u32.into()).unwrap(),
        // Stopped before it was read; ended without an answer; the connection with it.
        |_, mut sending, mut receiving| {
            receiving.stop(1_u32.into()).unwrap();
            sending.reset(1_u32.into()).unwrap();
        },
        |_, mut sending, _| sending.finish().unwrap(),
        |connection, _, _| connection.close(4_u32.into(), b"too much"),
    ];
    for ending in endings {
        let (address, connections) = doq(&pki, ending);
        let upstreams = upstreams([pki.upstream(Transport::Quic, address)]);
        for name in ["a.example", "b.example", "c.example"] {
            assert_is_answer(&ask(&upstreams, name).await.unwrap(), name);
        }
        assert_eq!(connections.load(Ordering::SeqCst), 2);
    }
}

/// Connection ids of which none looks foreign to the next process.
struct AnyId;

impl quinn::ConnectionIdGenerator for AnyId {
    fn generate_cid(&mut self) -> quinn::ConnectionId {
        quinn::ConnectionId::new(&crate::entropy::u64().to_be_bytes())
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[tokio::test]
async fn a_doq_upstream_that_forgot_the_connection_says_so() {
    let pki = Pki::new("dns.test");
    let crypto = QuicServerConfig::try_from(pki.server(b"doq")).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    // The key survives the restart, the connections do not: a stateless reset (RFC 9000, section
    // 10.3).
    let mut endpoint_config = quinn::EndpointConfig::default();
    endpoint_config.cid_generator(|| Box::new(AnyId));
    let start = |socket: std::net::UdpSocket| {
        Endpoint::new(
            endpoint_config.clone(),
            Some(config.clone()),
            socket,
            Arc::new(quinn::TokioRuntime),
        )
        .unwrap()
    };
    let serve = |endpoint: Endpoint| async move {
        while let Some(incoming) = endpoint.accept().await {
            let connection = incoming.await.unwrap();
            while let Ok((mut sending, mut receiving)) = connection.accept_bi().await {
                let input = receiving.read_to_end(65_537).await.unwrap();
                let output = framed(&answer(&input[2..]));
                sending.write_all(&output).await.unwrap();
                sending.finish().unwrap();
            }
        }
    };
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let copy = socket.try_clone().unwrap();
    let before = start(socket);
    let serving = tokio::spawn(serve(before.clone()));
    let connection = connect(&pki.upstream(Transport::Quic, address)).await;
    connection.exchange(&question("a.example")).await.unwrap();
    // The process that served it is gone without a word: it is moved to a socket nobody writes to.
    let nowhere = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    before.rebind(nowhere).unwrap();
    serving.abort();
    tokio::spawn(serve(start(copy)));
    // By itself a connection waits for long; so it was told.
    let failure = connection.exchange(&question("b.example")).await;
    let failure = failure.unwrap_err();
    assert!(failure.is_of_connection(), "{failure}");
    assert!(failure.to_string().contains("reset"), "{failure}");
    assert!(!connection.is_open());
}

#[tokio::test]
async fn however_http2_refuses_a_stream_its_query_is_asked_again() {
    let pki = Pki::new("dns.test");
    let acceptor = TlsAcceptor::from(Arc::new(pki.server(b"h2")));
    for reason in [
        h2::Reason::REFUSED_STREAM,
        h2::Reason::ENHANCE_YOUR_CALM,
        h2::Reason::INTERNAL_ERROR,
        h2::Reason::NO_ERROR,
    ] {
        for whole_connection in [false, true] {
            let acceptor = acceptor.clone();
            let (address, connections) = listen(move |number, stream| {
                let acceptor = acceptor.clone();
                async move {
                    let stream = acceptor.accept(stream).await.unwrap();
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        if number == 0 && whole_connection {
                            // GOAWAY with a last stream below ours.
                            connection.abrupt_shutdown(reason);
                        } else if number == 0 {
                            respond.send_reset(reason);
                        } else {
                            tokio::spawn(async move {
                                let query = request.into_body().data().await.unwrap().unwrap();
                                let head = http::Response::builder()
                                    .header("content-type", "application/dns-message")
                                    .body(())
                                    .unwrap();
                                let mut body = respond.send_response(head, false).unwrap();
                                body.send_data(answer(&query).into(), true).unwrap();
                            });
                        }
                    }
                }
            })
            .await;
            let upstreams = upstreams([pki.upstream(Transport::Https, address)]);
            for name in ["a.example", "b.example"] {
                assert_is_answer(&ask(&upstreams, name).await.unwrap(), name);
            }
            assert_eq!(connections.load(Ordering::SeqCst), 2, "{reason}");
        }
    }
}
