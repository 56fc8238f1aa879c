//! What is special to DoQ (RFC 9250): one message and the end of the stream, and the error codes.

use quinn::{Connection, ConnectionError, Endpoint, ReadError, ReadToEndError, VarInt};
use tokio::task::JoinSet;

use crate::{
    lab::{Answered, Ask, Transport, ask::framed},
    support::{World, connect_quic, in_time, quic_endpoint},
};

const DOQ_PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
const DOQ_REQUEST_CANCELLED: VarInt = VarInt::from_u32(3);
const OPTION_TCP_KEEPALIVE: u16 = 11;

async fn connect(world: &World) -> (Endpoint, Connection) {
    let endpoint = quic_endpoint(b"doq");
    let connection = connect_quic(&endpoint, world.truename.address(Transport::Quic)).await;
    (endpoint, connection)
}

fn query() -> Ask {
    Ask::new("www.secure.com", "A").id(0)
}

async fn exchange(connection: &Connection, ask: &Ask) -> Answered {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&framed(&ask.encode())).await.unwrap();
    send.finish().unwrap();
    let octets = receive.read_to_end(70_000).await.unwrap();
    Answered::parse(&octets[2..]).unwrap()
}

/// The code with which the server closes the connection.
async fn closed_with(connection: &Connection) -> VarInt {
    match in_time("the server's close", connection.closed()).await {
        ConnectionError::ApplicationClosed(close) => close.error_code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection() {
    let world = World::start(Transport::Tls).await;
    let good = framed(&query().encode());
    let mut response = query().encode();
    response[2] |= 0x80;
    for (what, octets) in [
        ("an id", framed(&query().id(7).encode())),
        ("two messages", [good.clone(), good.clone()].concat()),
        ("an end within the message", good[..good.len() - 1].to_vec()),
        ("an end within the length", good[..1].to_vec()),
        ("nothing", Vec::new()),
        ("less than a header", framed(b"too short")),
        (
            "keepalive",
            framed(&query().option(OPTION_TCP_KEEPALIVE, &[]).encode()),
        ),
        ("a response", framed(&response)),
    ] {
        let (_endpoint, connection) = connect(&world).await;
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(&octets).await.unwrap();
        send.finish().unwrap();
        assert_eq!(closed_with(&connection).await, DOQ_PROTOCOL_ERROR, "{what}");
    }
    let (_endpoint, connection) = connect(&world).await;
    assert_eq!(exchange(&connection, &query()).await.rdata("A").len(), 1);
}

#[tokio::test]
async fn a_query_without_the_streams_end_is_not_answered() {
    let world = World::start(Transport::Tls).await;
    let (_endpoint, connection) = connect(&world).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&framed(&query().encode())).await.unwrap();
    // Another stream is served meanwhile, and shows that this one had its turn.
    assert_eq!(exchange(&connection, &query()).await.rdata("A").len(), 1);
    let read = in_time("the server's verdict", receive.read_to_end(70_000)).await;
    assert!(
        matches!(
            read,
            Err(ReadToEndError::Read(ReadError::ConnectionLost(_)))
        ),
        "{read:?}"
    );
    assert_eq!(closed_with(&connection).await, DOQ_PROTOCOL_ERROR);
}

#[tokio::test]
async fn clients_may_open_no_one_way_stream() {
    let world = World::start(Transport::Tls).await;
    let (_endpoint, connection) = connect(&world).await;
    let query = query();
    tokio::select! {
        biased;
        opened = connection.open_uni() => panic!("{:?}", opened.map(|_| "opened")),
        answered = exchange(&connection, &query) => assert_eq!(answered.rdata("A").len(), 1),
    }
}

#[tokio::test]
async fn a_withdrawn_query_is_acknowledged_and_harms_no_other() {
    let world = World::start(Transport::Tls).await;
    let (_endpoint, connection) = connect(&world).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&framed(&query().encode())[..10])
        .await
        .unwrap();
    send.reset(DOQ_REQUEST_CANCELLED).unwrap();
    let read = in_time("the server's reset", receive.read_to_end(70_000)).await;
    let Err(ReadToEndError::Read(ReadError::Reset(code))) = read else {
        panic!("{read:?}");
    };
    assert_eq!(code, DOQ_REQUEST_CANCELLED);
    assert_eq!(exchange(&connection, &query()).await.rdata("A").len(), 1);
}

#[tokio::test]
async fn hundreds_of_streams_are_all_answered() {
    let world = World::start(Transport::Tls).await;
    let (_endpoint, connection) = connect(&world).await;
    let mut exchanges = JoinSet::new();
    for number in 0..300 {
        let connection = connection.clone();
        exchanges.spawn(async move {
            let ask = Ask::new(&format!("n{number}.wild.secure.com"), "A").id(0);
            exchange(&connection, &ask).await.rdata("A").len()
        });
    }
    let counts = in_time("all answers", exchanges.join_all()).await;
    assert_eq!(counts, vec![1; 300]);
}

#[tokio::test]
async fn each_port_speaks_only_its_own_protocol() {
    let world = World::start(Transport::Tls).await;
    for (listener, protocol) in [
        (Transport::Quic, &b"h3"[..]),
        (Transport::Http3, b"doq"),
        (Transport::Quic, b"dot"),
    ] {
        let endpoint = quic_endpoint(protocol);
        let address = world.truename.address(listener);
        let connecting = endpoint.connect(address, "localhost").unwrap();
        let connected = in_time("the handshake", connecting).await;
        assert!(connected.is_err(), "{listener:?} took {protocol:?}");
    }
}
