//! UDP: batches, misses, and who gets no answer.

use tokio::net::UdpSocket;

use super::*;

async fn client(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    socket
}

async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_535];
    let octets = within(socket.recv(&mut buffer)).await.unwrap();
    buffer.truncate(octets);
    buffer
}

#[tokio::test]
async fn hits_of_many_clients_and_misses_are_answered() {
    let house = House::with(2, |_| {});
    let server = house.address(Transport::Udp);
    let mut clients = Vec::new();
    for id in 0..40 {
        let client = client(server).await;
        let label = if id % 4 == 0 { "wait" } else { "now" };
        client.send(&query(id, label)).await.unwrap();
        clients.push((client, query(id, label)));
    }
    house.handler.waiting(10).await;
    house.handler.open("wait");
    for (client, query) in clients {
        assert_eq!(receive(&client).await, reply_to(&query));
    }
}

#[tokio::test]
async fn a_burst_of_one_client_comes_back_complete() {
    let house = House::start();
    let client = client(house.address(Transport::Udp)).await;
    for id in 0..100 {
        client.send(&query(id, "now")).await.unwrap();
    }
    let mut ids = HashSet::new();
    for _ in 0..100 {
        let reply = receive(&client).await;
        ids.insert(u16::from_be_bytes([reply[0], reply[1]]));
    }
    assert_eq!(ids.len(), 100);
}

#[tokio::test]
async fn a_reply_comes_from_the_address_that_was_asked() {
    let house = House::with(1, |settings| {
        settings.dns = vec!["0.0.0.0:0".parse().unwrap()];
    });
    let port = house.address(Transport::Udp).port();
    // A connected socket takes nothing from any other address.
    let client = client(SocketAddr::from(([127, 0, 0, 9], port))).await;
    for label in ["now", "wait"] {
        house.handler.open(label);
        client.send(&query(5, label)).await.unwrap();
        assert_eq!(receive(&client).await, reply_to(&query(5, label)));
    }
}

#[tokio::test]
async fn what_is_no_query_gets_silence() {
    let house = House::start();
    let client = client(house.address(Transport::Udp)).await;
    client.send(b"short").await.unwrap();
    client.send(&[]).await.unwrap();
    client.send(&reply_to(&query(1, "now"))).await.unwrap();
    client.send(&query(2, "refuse")).await.unwrap();
    let mut long = query(3, "now");
    long.resize(5000, 0);
    client.send(&long).await.unwrap();
    client.send(&query(4, "now")).await.unwrap();
    assert_eq!(receive(&client).await, reply_to(&query(4, "now")));
}

#[tokio::test]
async fn over_the_limit_misses_are_refused_and_hits_answered() {
    let house = House::with(1, |settings| settings.datagram_pending_max = 2);
    let client = client(house.address(Transport::Udp)).await;
    for id in 0..5 {
        client.send(&query(id, "wait")).await.unwrap();
    }
    client.send(&query(9, "now")).await.unwrap();
    for id in 2..5 {
        assert_eq!(receive(&client).await, refusal_of(&query(id, "wait")));
    }
    assert_eq!(receive(&client).await, reply_to(&query(9, "now")));
    assert_eq!(house.shared.refused_datagrams(), 3);
    house.handler.open("wait");
    receive(&client).await;
    receive(&client).await;
}

#[tokio::test]
async fn one_address_may_have_many_queries_waiting() {
    let house = House::start();
    let client = client(house.address(Transport::Udp)).await;
    for id in 0..300 {
        client.send(&query(id, "wait")).await.unwrap();
    }
    house.handler.waiting(300).await;
    house.handler.open("wait");
    for _ in 0..300 {
        receive(&client).await;
    }
}

#[tokio::test]
async fn a_miss_that_panics_costs_no_other_its_reply() {
    let house = House::start();
    let client = client(house.address(Transport::Udp)).await;
    for (id, name) in [(1, "wait"), (2, "wait-panic"), (3, "wait")] {
        client.send(&query(id, name)).await.unwrap();
    }
    house.handler.waiting(3).await;
    house.handler.open("wait-panic");
    house.handler.open("wait");
    let mut replies = [receive(&client).await, receive(&client).await];
    replies.sort();
    assert_eq!(replies, [1, 3].map(|id| reply_to(&query(id, "wait"))));
}

#[tokio::test]
async fn stopping_lets_misses_finish() {
    let house = House::start();
    let client = client(house.address(Transport::Udp)).await;
    client.send(&query(1, "wait")).await.unwrap();
    house.handler.waiting(1).await;
    house.stop.send_replace(true);
    house.handler.open("wait");
    assert_eq!(receive(&client).await, reply_to(&query(1, "wait")));
    house.stop().await;
}

#[tokio::test]
async fn a_panic_costs_one_batch_at_most() {
    let house = House::start();
    let client = client(house.address(Transport::Udp)).await;
    client.send(&query(1, "panic")).await.unwrap();
    while house.handler.asked.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    client.send(&query(2, "now")).await.unwrap();
    assert_eq!(receive(&client).await, reply_to(&query(2, "now")));
}
