//! TCP: framing, pipelining, and how connections end.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpStream,
};

use super::*;

async fn connect(house: &House) -> TcpStream {
    let address = house.address(Transport::Tcp);
    within(TcpStream::connect(address)).await.unwrap()
}

/// Reads one framed message; `None` at the end of the connection.
pub(super) async fn read_frame(io: &mut (impl AsyncReadExt + Unpin)) -> Option<Vec<u8>> {
    within(async {
        let length = io.read_u16().await.ok()?;
        let mut message = vec![0; length.into()];
        io.read_exact(&mut message).await.ok()?;
        Some(message)
    })
    .await
}

#[tokio::test]
async fn pipelined_queries_are_answered_as_answers_come() {
    let house = House::start();
    let mut tcp = connect(&house).await;
    let mut octets = framed(&query(1, "wait1"));
    octets.extend(framed(&query(2, "wait2")));
    octets.extend(framed(&query(3, "now")));
    tcp.write_all(&octets).await.unwrap();
    assert_eq!(read_frame(&mut tcp).await, Some(reply_to(&query(3, "now"))));
    house.handler.open("wait2");
    assert_eq!(
        read_frame(&mut tcp).await,
        Some(reply_to(&query(2, "wait2")))
    );
    house.handler.open("wait1");
    assert_eq!(
        read_frame(&mut tcp).await,
        Some(reply_to(&query(1, "wait1")))
    );
}

#[tokio::test]
async fn a_query_may_come_octet_by_octet() {
    let house = House::start();
    let mut tcp = connect(&house).await;
    tcp.set_nodelay(true).unwrap();
    for _ in 0..2 {
        for octet in framed(&query(7, "now")) {
            tcp.write_all(&[octet]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(read_frame(&mut tcp).await, Some(reply_to(&query(7, "now"))));
    }
}

#[tokio::test]
async fn thirty_thousand_pipelined_queries_are_all_answered() {
    const QUERIES: u16 = 30_000;
    let house = House::start();
    let (mut read, mut write) = connect(&house).await.into_split();
    let writer = tokio::spawn(async move {
        for id in 0..QUERIES {
            write.write_all(&framed(&query(id, "now"))).await.unwrap();
        }
        write
    });
    for id in 0..QUERIES {
        assert_eq!(
            read_frame(&mut read).await,
            Some(reply_to(&query(id, "now")))
        );
    }
    within(writer).await.unwrap();
}

#[tokio::test]
async fn more_misses_than_the_limit_wait_their_turn() {
    let house = House::with(1, |settings| settings.queries_per_connection_max = 3);
    let mut tcp = connect(&house).await;
    for id in 0..5 {
        let octets = framed(&query(id, &format!("wait{id}")));
        tcp.write_all(&octets).await.unwrap();
    }
    house.handler.waiting(3).await;
    for id in 0..5 {
        house.handler.open(&format!("wait{id}"));
        assert_eq!(
            read_frame(&mut tcp).await,
            Some(reply_to(&query(id, &format!("wait{id}"))))
        );
    }
    assert_eq!(house.handler.asked.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn a_broken_frame_ends_the_connection_after_earlier_answers() {
    let house = House::start();
    let response = framed(&reply_to(&query(1, "now")));
    let long = [&[0x10, 0x01][..], &[0; 64]].concat();
    for broken in [&[0, 0][..], &[0, 5, 1, 2, 3, 4, 5], &response, &long] {
        let mut tcp = connect(&house).await;
        let octets = [&framed(&query(9, "now")), broken].concat();
        tcp.write_all(&octets).await.unwrap();
        assert_eq!(read_frame(&mut tcp).await, Some(reply_to(&query(9, "now"))));
        assert_eq!(read_frame(&mut tcp).await, None);
    }
}

#[tokio::test]
async fn who_may_not_ask_is_hung_up_on() {
    let house = House::start();
    let mut tcp = connect(&house).await;
    let octets = framed(&query(1, "refuse"));
    tcp.write_all(&octets).await.unwrap();
    assert_eq!(read_frame(&mut tcp).await, None);
}

#[tokio::test]
async fn after_the_clients_end_what_is_in_flight_is_answered() {
    let house = House::start();
    let mut tcp = connect(&house).await;
    let octets = framed(&query(4, "wait"));
    tcp.write_all(&octets).await.unwrap();
    tcp.shutdown().await.unwrap();
    house.handler.waiting(1).await;
    house.handler.open("wait");
    assert_eq!(
        read_frame(&mut tcp).await,
        Some(reply_to(&query(4, "wait")))
    );
    assert_eq!(read_frame(&mut tcp).await, None);
}

#[tokio::test]
async fn a_lost_client_withdraws_its_queries() {
    let house = House::start();
    let mut tcp = connect(&house).await;
    let octets = framed(&query(4, "wait"));
    tcp.write_all(&octets).await.unwrap();
    house.handler.waiting(1).await;
    tcp.set_zero_linger().unwrap();
    drop(tcp);
    house.handler.waiting(0).await;
}

#[tokio::test]
async fn large_answers_to_a_slow_reader_all_arrive() {
    let house = House::start();
    let mut tcp = connect(&house).await;
    for id in 0..60 {
        let octets = framed(&query(id, "large"));
        tcp.write_all(&octets).await.unwrap();
    }
    for id in 0..60_u16 {
        let reply = read_frame(&mut tcp).await.unwrap();
        assert_eq!(reply.len(), LARGE_OCTETS);
        assert_eq!(reply[..2], id.to_be_bytes());
    }
}

#[tokio::test]
async fn silence_and_half_queries_end_the_connection() {
    let house = House::with(1, |settings| settings.idle = Duration::from_millis(30));
    let mut silent = connect(&house).await;
    assert_eq!(read_frame(&mut silent).await, None);
    let mut asked = connect(&house).await;
    asked.write_all(&framed(&query(1, "now"))).await.unwrap();
    assert!(read_frame(&mut asked).await.is_some());
    assert_eq!(read_frame(&mut asked).await, None);
}

#[tokio::test]
async fn the_longest_idle_of_a_client_makes_room() {
    let house = House::with(1, |settings| settings.connections_per_client_max = 2);
    let mut first = connect(&house).await;
    first.write_all(&framed(&query(1, "now"))).await.unwrap();
    assert!(read_frame(&mut first).await.is_some());
    let mut second = connect(&house).await;
    second.write_all(&framed(&query(1, "wait"))).await.unwrap();
    house.handler.waiting(1).await;
    let mut third = connect(&house).await;
    third.write_all(&framed(&query(1, "now"))).await.unwrap();
    assert!(read_frame(&mut third).await.is_some());
    assert_eq!(read_frame(&mut first).await, None);
    assert_eq!(house.shared.connections.evicted(), 1);
    house.handler.open("wait");
    assert!(read_frame(&mut second).await.is_some());
}

#[tokio::test]
async fn a_panic_costs_one_connection_and_its_place_is_free_again() {
    let house = House::start();
    let mut tcp = connect(&house).await;
    tcp.write_all(&framed(&query(1, "panic"))).await.unwrap();
    assert_eq!(read_frame(&mut tcp).await, None);
    let mut tcp = connect(&house).await;
    tcp.write_all(&framed(&query(1, "now"))).await.unwrap();
    assert!(read_frame(&mut tcp).await.is_some());
    assert_eq!(house.shared.connections.open(Transport::Tcp), 1);
}

#[tokio::test]
async fn stopping_answers_what_is_in_flight_and_takes_nothing_new() {
    let house = House::start();
    let address: SocketAddr = house.address(Transport::Tcp);
    let mut tcp = connect(&house).await;
    tcp.write_all(&framed(&query(1, "wait"))).await.unwrap();
    let mut idle = connect(&house).await;
    house.handler.waiting(1).await;
    house.stop.send_replace(true);
    assert_eq!(read_frame(&mut idle).await, None);
    within(async { while TcpStream::connect(address).await.is_ok() {} }).await;
    house.handler.open("wait");
    assert!(read_frame(&mut tcp).await.is_some());
    assert_eq!(read_frame(&mut tcp).await, None);
    house.stop().await;
}

#[tokio::test]
async fn a_query_that_comes_in_drips_gets_no_more_time() {
    let house = House::with(1, |settings| {
        settings.patience.query = Duration::from_millis(50);
    });
    let (mut read, mut write) = connect(&house).await.into_split();
    let drip = async {
        for octet in framed(&[0; 400]) {
            if write.write_all(&[octet]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        frame = read_frame(&mut read) => assert_eq!(frame, None),
        () = drip => {}
    }
    // The answer to 400 zeros would have come, had it been waited for.
    assert_eq!(house.handler.asked.load(Ordering::Relaxed), 0);
}

impl turn::Source for DuplexStream {}

#[tokio::test]
async fn replies_that_are_read_in_drips_get_no_more_time() {
    let house = House::with(1, |settings| {
        settings.patience.reply = Duration::from_millis(100);
    });
    let (mut near, far) = tokio::io::duplex(64);
    let service = serve::Service {
        handler: Arc::clone(&house.handler),
        shared: Arc::clone(&house.shared),
    };
    let client = Client {
        address: "127.0.0.1:4000".parse().unwrap(),
        transport: Transport::Tcp,
    };
    let admission = house
        .shared
        .connections
        .admit(client.address, client.transport);
    let stop = house.stop.subscribe();
    let serving = tokio::spawn(async move {
        stream::converse(far, client, &service, &admission.unwrap(), stop).await;
    });
    near.write_all(&framed(&query(1, "large"))).await.unwrap();
    let mut octets = 0;
    while !serving.is_finished() && octets < 2000 {
        let _ = within(near.read(&mut [0])).await;
        octets += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(
        serving.is_finished(),
        "it was still served after {octets} octets"
    );
}
