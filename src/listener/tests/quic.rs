//! QUIC handshakes, watched from between client and server.

use std::collections::HashSet;

use tokio::net::UdpSocket;

use super::{
    doq::{client, exchange},
    *,
};
use crate::listener::quic::UNPROVEN_MAX;

const DATAGRAM_MAX_OCTETS: usize = 2048;

/// Clients, each with a socket: their buffers hold what comes for a share of a crowd.
const CLIENTS: usize = 4;

/// Passes datagrams between one client and the server.
struct Relay {
    address: SocketAddr,
    seen: watch::Receiver<Seen>,
    treatment: watch::Sender<Treatment>,
}

/// What the server sent.
#[derive(Default)]
struct Seen {
    /// The client's ids of the connections for which it began a handshake.
    begun: HashSet<Vec<u8>>,
    retries: usize,
    lost: usize,
}

/// What becomes of what the server sends, but for Retry packets, which always pass.
#[derive(Clone, Copy)]
enum Treatment {
    Pass,
    /// Kept until it is to pass.
    Keep,
    /// So many datagrams are lost.
    Lose(usize),
}

impl Relay {
    async fn start(server: SocketAddr, treatment: Treatment) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        back.connect(server).await.unwrap();
        let address = front.local_addr().unwrap();
        let treatment = watch::Sender::new(treatment);
        let seen = watch::Sender::default();
        let watcher = seen.subscribe();
        tokio::spawn(relay(front, back, treatment.subscribe(), seen));
        Self {
            address,
            seen: watcher,
            treatment,
        }
    }
}

async fn relay(
    front: UdpSocket,
    back: UdpSocket,
    mut treatment: watch::Receiver<Treatment>,
    seen: watch::Sender<Seen>,
) {
    let mut client = None;
    let mut kept = Vec::new();
    let mut from_client = [0; DATAGRAM_MAX_OCTETS];
    let mut from_server = [0; DATAGRAM_MAX_OCTETS];
    loop {
        tokio::select! {
            received = front.recv_from(&mut from_client) => {
                let (length, address) = received.unwrap();
                client = Some(address);
                back.send(&from_client[..length]).await.unwrap();
            }
            received = back.recv(&mut from_server) => {
                let datagram = &from_server[..received.unwrap()];
                let packet = Packet::read(datagram);
                let mut passes = true;
                seen.send_modify(|seen| {
                    match packet {
                        Packet::Initial { client_id } => {
                            seen.begun.insert(client_id.to_vec());
                        }
                        Packet::Retry => {
                            seen.retries += 1;
                            return;
                        }
                        Packet::Other => {}
                    }
                    match *treatment.borrow() {
                        Treatment::Pass => {}
                        Treatment::Keep => {
                            passes = false;
                            kept.push(datagram.to_vec());
                        }
                        Treatment::Lose(datagrams) => {
                            passes = seen.lost == datagrams;
                            seen.lost += usize::from(!passes);
                        }
                    }
                });
                if passes {
                    front.send_to(datagram, client.unwrap()).await.unwrap();
                }
            }
            changed = treatment.changed() => {
                if changed.is_err() {
                    return;
                }
                for datagram in kept.drain(..) {
                    front.send_to(&datagram, client.unwrap()).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

/// The first packet of a datagram, as far as anybody on the way can tell (RFC 9000, section 17.2;
/// RFC 9287: the second bit says nothing).
enum Packet<'a> {
    Initial { client_id: &'a [u8] },
    Retry,
    Other,
}

impl<'a> Packet<'a> {
    fn read(datagram: &'a [u8]) -> Self {
        match datagram[0] & 0xb0 {
            0x80 => Self::Initial {
                client_id: &datagram[6..][..usize::from(datagram[5])],
            },
            0xb0 => Self::Retry,
            _ => Self::Other,
        }
    }
}

/// Begins so many handshakes at once, of which none can end before all have begun, and asks
/// something over each. Says how many had to prove their address.
async fn crowd(handshakes: usize) -> usize {
    let house = House::start();
    let server = house.address(Transport::Quic);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let relay = Relay::start(server, Treatment::Keep).await;
        clients.push((relay, client(&house, b"doq"), 0));
    }
    let mut connecting = Vec::new();
    for number in 0..handshakes {
        let (relay, endpoint, begins) = &mut clients[number % CLIENTS];
        connecting.push(endpoint.connect(relay.address, "dns.test").unwrap());
        *begins += 1;
    }
    for (relay, _, begins) in &mut clients {
        let all = relay.seen.wait_for(|seen| seen.begun.len() == *begins);
        within(all).await.unwrap();
    }
    for (relay, ..) in &clients {
        relay.treatment.send_replace(Treatment::Pass);
    }
    for connecting in connecting {
        let connection = within(connecting).await.unwrap();
        let reply = exchange(&connection, &framed(&query(0, "now"))).await;
        assert_eq!(reply.unwrap(), framed(&reply_to(&query(0, "now"))));
    }
    let retries = clients
        .iter()
        .map(|(relay, ..)| relay.seen.borrow().retries);
    retries.sum()
}

#[tokio::test]
async fn as_many_handshakes_as_may_be_unproven_go_on_at_once_without_a_retry() {
    assert_eq!(crowd(UNPROVEN_MAX).await, 0);
}

#[tokio::test]
async fn only_those_beyond_that_prove_their_address() {
    assert_eq!(crowd(UNPROVEN_MAX + 2).await, 2);
}

#[tokio::test]
async fn a_lost_flight_is_sent_again() {
    let house = House::start();
    let server = house.address(Transport::Quic);
    let relay = Relay::start(server, Treatment::Lose(2)).await;
    let endpoint = client(&house, b"doq");
    let connecting = endpoint.connect(relay.address, "dns.test").unwrap();
    let connection = within(connecting).await.unwrap();
    let reply = exchange(&connection, &framed(&query(0, "now"))).await;
    assert_eq!(reply.unwrap(), framed(&reply_to(&query(0, "now"))));
    assert_eq!(relay.seen.borrow().lost, 2);
}
