//! DoQ: its rules and error codes.

use quinn::{Connection, ConnectionError, Endpoint, VarInt, crypto::rustls::QuicClientConfig};

use super::*;

pub(super) fn client(house: &House, alpn: &[u8]) -> Endpoint {
    let mut config = house.client_config(&[alpn]);
    config.enable_early_data = true;
    let config = QuicClientConfig::try_from(config).unwrap();
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(config)));
    endpoint
}

async fn connect(house: &House) -> (Endpoint, Connection) {
    let endpoint = client(house, b"doq");
    let address = house.address(Transport::Quic);
    let connecting = endpoint.connect(address, "dns.test").unwrap();
    let connection = within(connecting).await.unwrap();
    (endpoint, connection)
}

pub(super) async fn exchange(
    connection: &Connection,
    octets: &[u8],
) -> Result<Vec<u8>, quinn::ReadToEndError> {
    let (mut send, mut receive) = within(connection.open_bi()).await.unwrap();
    send.write_all(octets).await.unwrap();
    send.finish().unwrap();
    within(receive.read_to_end(70_000)).await
}

async fn closed_with(connection: &Connection) -> VarInt {
    match within(connection.closed()).await {
        ConnectionError::ApplicationClosed(close) => close.error_code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn each_stream_has_its_own_answer() {
    let house = House::start();
    let (_endpoint, connection) = connect(&house).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&framed(&query(0, "wait"))).await.unwrap();
    send.finish().unwrap();
    let now = exchange(&connection, &framed(&query(0, "now"))).await;
    assert_eq!(now.unwrap(), framed(&reply_to(&query(0, "now"))));
    let large = exchange(&connection, &framed(&query(0, "large"))).await;
    assert_eq!(large.unwrap().len(), LARGE_OCTETS + 2);
    house.handler.open("wait");
    assert_eq!(
        within(receive.read_to_end(100)).await.unwrap(),
        framed(&reply_to(&query(0, "wait")))
    );
}

#[tokio::test]
async fn broken_rules_close_the_connection_with_a_protocol_error() {
    let house = House::start();
    let good = framed(&query(0, "now"));
    let twice = [&good[..], &good[..]].concat();
    let id = framed(&query(5, "now"));
    let response = framed(&reply_to(&query(0, "now")));
    for broken in [&id[..], &twice, &good[..good.len() - 1], &[], &response] {
        let (_endpoint, connection) = connect(&house).await;
        assert!(exchange(&connection, broken).await.is_err());
        assert_eq!(closed_with(&connection).await, VarInt::from_u32(2));
    }
}

#[tokio::test]
async fn a_query_without_the_streams_end_is_a_protocol_error() {
    let house = House::with(1, |settings| {
        settings.patience.query = Duration::from_millis(50);
    });
    let (_endpoint, connection) = connect(&house).await;
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(&framed(&query(0, "now"))).await.unwrap();
    assert_eq!(closed_with(&connection).await, VarInt::from_u32(2));
}

#[tokio::test]
async fn too_long_a_query_costs_only_its_stream() {
    let house = House::start();
    let (_endpoint, connection) = connect(&house).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let _ = send.write_all(&[0xff; 8000]).await;
    let _ = send.finish();
    assert!(within(receive.read_to_end(100)).await.is_err());
    let now = exchange(&connection, &framed(&query(0, "now"))).await;
    assert!(now.is_ok());
}

#[tokio::test]
async fn a_cancelled_stream_withdraws_its_query() {
    let house = House::start();
    let (_endpoint, connection) = connect(&house).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&framed(&query(0, "wait"))).await.unwrap();
    send.finish().unwrap();
    house.handler.waiting(1).await;
    receive.stop(VarInt::from_u32(3)).unwrap();
    house.handler.waiting(0).await;
}

#[tokio::test]
async fn clients_cannot_open_one_way_streams() {
    let house = House::start();
    let (_endpoint, connection) = connect(&house).await;
    let uni = connection.open_uni();
    let octets = framed(&query(0, "now"));
    let now = exchange(&connection, &octets);
    tokio::select! {
        biased;
        _ = uni => panic!("a one-way stream was allowed"),
        now = now => assert!(now.is_ok()),
    }
}

#[tokio::test]
async fn early_data_is_answered_once_the_client_is_known() {
    let house = House::start();
    let (endpoint, connection) = connect(&house).await;
    // The ticket comes before this answer.
    assert!(
        exchange(&connection, &framed(&query(0, "now")))
            .await
            .is_ok()
    );
    connection.close(VarInt::from_u32(0), b"");
    let address = house.address(Transport::Quic);
    let connecting = endpoint.connect(address, "dns.test").unwrap();
    let Ok((connection, accepted)) = connecting.into_0rtt() else {
        panic!("there is no ticket for early data");
    };
    let reply = exchange(&connection, &framed(&query(0, "now"))).await;
    assert_eq!(reply.unwrap(), framed(&reply_to(&query(0, "now"))));
    assert!(within(accepted).await, "early data was refused");
}

#[tokio::test]
async fn early_data_that_is_no_query_waits_for_the_handshake() {
    let house = House::start();
    let (endpoint, connection) = connect(&house).await;
    assert!(
        exchange(&connection, &framed(&query(0, "now")))
            .await
            .is_ok()
    );
    connection.close(VarInt::from_u32(0), b"");
    let connecting = endpoint.connect(house.address(Transport::Quic), "dns.test");
    let Ok((connection, _accepted)) = connecting.unwrap().into_0rtt() else {
        panic!("there is no ticket for early data");
    };
    let mut update = query(0, "now");
    update[2] = 5 << 3;
    let reply = exchange(&connection, &framed(&update)).await;
    assert_eq!(reply.unwrap(), framed(&reply_to(&update)));
}

#[tokio::test]
async fn another_alpn_is_refused() {
    let house = House::start();
    let endpoint = client(&house, b"h3");
    let address = house.address(Transport::Quic);
    let connecting = endpoint.connect(address, "dns.test").unwrap();
    assert!(within(connecting).await.is_err());
}

#[tokio::test]
async fn a_client_over_its_share_loses_its_idle_connection() {
    let house = House::with(1, |settings| settings.connections_per_client_max = 1);
    let (_endpoint, first) = connect(&house).await;
    assert!(exchange(&first, &framed(&query(0, "now"))).await.is_ok());
    let (_endpoint, second) = connect(&house).await;
    assert!(exchange(&second, &framed(&query(0, "now"))).await.is_ok());
    assert_eq!(closed_with(&first).await, VarInt::from_u32(0));
}

#[tokio::test]
async fn stopping_answers_and_says_goodbye() {
    let house = House::start();
    let (_endpoint, connection) = connect(&house).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&framed(&query(0, "wait"))).await.unwrap();
    send.finish().unwrap();
    house.handler.waiting(1).await;
    house.stop.send_replace(true);
    house.handler.open("wait");
    assert!(within(receive.read_to_end(100)).await.is_ok());
    assert_eq!(closed_with(&connection).await, VarInt::from_u32(0));
    house.stop().await;
}

#[tokio::test]
async fn what_was_asked_just_before_the_end_is_answered() {
    for _ in 0..20 {
        let house = House::start();
        let (_endpoint, connection) = connect(&house).await;
        assert!(
            exchange(&connection, &framed(&query(0, "now")))
                .await
                .is_ok()
        );
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&framed(&query(0, "now"))).await.unwrap();
        send.finish().unwrap();
        house.stop.send_replace(true);
        assert!(!within(receive.read_to_end(100)).await.unwrap().is_empty());
        house.stop().await;
    }
}

#[tokio::test]
async fn a_crowd_of_handshakes_is_let_in_after_a_retry() {
    let house = House::start();
    let endpoint = client(&house, b"doq");
    let address = house.address(Transport::Quic);
    // More than may go on without proof of address, all at once.
    let crowd: Vec<_> = (0..100)
        .map(|_| endpoint.connect(address, "dns.test").unwrap())
        .collect();
    for connecting in crowd {
        let connection = within(connecting).await.unwrap();
        assert!(
            exchange(&connection, &framed(&query(0, "now")))
                .await
                .is_ok()
        );
    }
}

#[tokio::test]
async fn octets_that_are_no_quic_are_ignored() {
    let house = House::start();
    let noise = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = house.address(Transport::Quic);
    for length in 0..1300_usize {
        let mut octets = vec![0; length];
        crate::entropy::fill(&mut octets);
        if let Some(first) = octets.first_mut() {
            *first |= 0xc0;
        }
        if length > 5 && length % 2 == 0 {
            octets[1..5].copy_from_slice(&[0, 0, 0, 1]);
        }
        noise.send_to(&octets, address).await.unwrap();
        tokio::task::yield_now().await;
    }
    let (_endpoint, connection) = connect(&house).await;
    assert!(
        exchange(&connection, &framed(&query(0, "now")))
            .await
            .is_ok()
    );
}
