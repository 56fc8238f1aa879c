//! DoT: handshakes, resumption and ALPN.

use quinn::{ConnectionError, Endpoint, TransportErrorCode, crypto::rustls::QuicClientConfig};
use rustls::{CipherSuite, HandshakeKind, pki_types::ServerName, version};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{streams::read_frame, *};

pub(super) async fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = within(TcpStream::connect(address)).await?;
    let name = ServerName::try_from("dns.test").unwrap();
    within(TlsConnector::from(Arc::clone(config)).connect(name, tcp)).await
}

async fn ask(tls: &mut TlsStream<TcpStream>) {
    let octets = framed(&query(3, "now"));
    tls.write_all(&octets).await.unwrap();
    assert_eq!(read_frame(tls).await, Some(reply_to(&query(3, "now"))));
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_and_resumed_by_every_worker() {
    for version in [&version::TLS12, &version::TLS13] {
        let house = House::with(3, |_| {});
        let mut config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(house.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"dot".to_vec()];
        let config = Arc::new(config);
        for round in 0..8 {
            let address = house.address(Transport::Tls);
            let mut tls = connect(address, &config).await.unwrap();
            ask(&mut tls).await;
            let kind = tls.get_ref().1.handshake_kind().unwrap();
            if round > 0 {
                assert_eq!(kind, HandshakeKind::Resumed, "{version:?}");
            }
        }
    }
}

#[tokio::test]
async fn the_server_chooses_the_cipher_suite_and_takes_what_there_is() {
    let house = House::start();
    let address = house.address(Transport::Tls);
    for (offered, chosen) in [
        (
            &[
                CipherSuite::TLS13_AES_256_GCM_SHA384,
                CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
                CipherSuite::TLS13_AES_128_GCM_SHA256,
            ][..],
            CipherSuite::TLS13_AES_128_GCM_SHA256,
        ),
        (
            &[
                CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            ],
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ),
        (
            &[CipherSuite::TLS13_AES_256_GCM_SHA384],
            CipherSuite::TLS13_AES_256_GCM_SHA384,
        ),
        (
            &[CipherSuite::TLS13_CHACHA20_POLY1305_SHA256],
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        ),
    ] {
        let mut provider = rustls::crypto::ring::default_provider();
        let suites = &mut provider.cipher_suites;
        suites.retain(|suite| offered.contains(&suite.suite()));
        suites.sort_by_key(|suite| offered.iter().position(|name| *name == suite.suite()));
        let is_1_3 = suites.iter().all(|suite| suite.tls13().is_some());
        let versions: &[_] = if is_1_3 {
            &[&version::TLS13]
        } else {
            &[&version::TLS12]
        };
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(house.roots.clone())
            .with_no_client_auth();
        let mut tls = connect(address, &Arc::new(config)).await.unwrap();
        ask(&mut tls).await;
        let suite = tls.get_ref().1.negotiated_cipher_suite().unwrap();
        assert_eq!(suite.suite(), chosen);
    }
}

#[tokio::test]
async fn a_client_without_alpn_is_served_and_one_with_another_is_not() {
    let house = House::start();
    let address = house.address(Transport::Tls);
    let plain = Arc::new(house.client_config(&[]));
    ask(&mut connect(address, &plain).await.unwrap()).await;
    for (transport, foreign) in [
        (Transport::Tls, &b"h2"[..]),
        (Transport::Tls, b"http/1.1"),
        (Transport::Https, b"dot"),
        (Transport::Https, b"ftp"),
    ] {
        let config = Arc::new(house.client_config(&[foreign]));
        let error = connect(house.address(transport), &config)
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("NoApplicationProtocol"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_the_next_client() {
    let house = House::start();
    let address = house.address(Transport::Tls);
    let config = Arc::new(house.client_config(&[b"dot"]));
    let mut old = connect(address, &config).await.unwrap();
    let (key, roots) = certificate();
    house.shared.tls().unwrap().replace(key);
    let trusting = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut new = connect(address, &Arc::new(trusting)).await.unwrap();
    ask(&mut new).await;
    ask(&mut old).await;
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_is_abandoned() {
    let house = House::with(1, |settings| {
        settings.handshake = Duration::from_millis(30);
    });
    let mut tcp = TcpStream::connect(house.address(Transport::Tls))
        .await
        .unwrap();
    tcp.write_all(&[22, 3, 1]).await.unwrap();
    assert_eq!(read_frame(&mut tcp).await, None);
}

#[tokio::test]
async fn strangers_are_turned_away_before_the_handshake_and_cost_nobody_a_place() {
    let house = House::with(1, |settings| settings.connections_max = 1);
    let config = Arc::new(house.client_config(&[b"dot"]));
    let mut friend = connect(house.address(Transport::Tls), &config)
        .await
        .unwrap();
    ask(&mut friend).await;
    house.handler.turns_away.store(true, Ordering::Relaxed);
    for transport in [Transport::Tcp, Transport::Tls, Transport::Https] {
        let mut tcp = TcpStream::connect(house.address(transport)).await.unwrap();
        assert_eq!(read_frame(&mut tcp).await, None, "{transport:?}");
    }
    for (transport, alpn) in [(Transport::Quic, &b"doq"[..]), (Transport::Http3, b"h3")] {
        let config = QuicClientConfig::try_from(house.client_config(&[alpn])).unwrap();
        let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(config)));
        let connecting = endpoint
            .connect(house.address(transport), "dns.test")
            .unwrap();
        let error = within(connecting).await.unwrap_err();
        let ConnectionError::ConnectionClosed(close) = error else {
            panic!("{transport:?}: {error}");
        };
        assert_eq!(close.error_code, TransportErrorCode::CONNECTION_REFUSED);
    }
    assert_eq!(house.shared.connections.evicted(), 0);
    ask(&mut friend).await;
}
