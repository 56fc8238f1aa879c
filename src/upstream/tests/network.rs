//! Another network, or a sleep: what was connected is silent without having ended.

use std::sync::Mutex;

use tokio::{net::UdpSocket, sync::Notify};
use tokio_rustls::TlsAcceptor;

use super::{
    profile::{Profile, Upstream},
    tries::Tries,
    *,
};

/// The octets that came on a connection after it was to be silent.
type Swallowed = Arc<Mutex<Vec<u8>>>;

/// Answers the first `answers` queries of the first connection and then is silent on it, without
/// ending it; all others work.
async fn falls_silent(answers: usize) -> (SocketAddr, Arc<AtomicUsize>, Swallowed, Arc<Notify>) {
    let swallowed = Swallowed::default();
    let heard = Arc::new(Notify::new());
    let (into, tell) = (Arc::clone(&swallowed), Arc::clone(&heard));
    let (address, connections) = listen(move |number, mut stream| {
        let (into, tell) = (Arc::clone(&into), Arc::clone(&tell));
        async move {
            if number > 0 {
                return answer_all(stream).await;
            }
            for _ in 0..answers {
                let query = read_query(&mut stream).await.unwrap();
                stream.write_all(&framed(&answer(&query))).await.unwrap();
            }
            let mut buffer = [0; 1024];
            while let Ok(octets) = stream.read(&mut buffer).await {
                if octets == 0 {
                    break;
                }
                into.lock().unwrap().extend_from_slice(&buffer[..octets]);
                tell.notify_one();
            }
            std::future::pending::<()>().await;
        }
    })
    .await;
    (address, connections, swallowed, heard)
}

#[tokio::test]
async fn on_another_network_the_next_query_goes_over_a_fresh_connection() {
    let (address, connections, swallowed, _) = falls_silent(1).await;
    let upstreams = upstreams([upstream(Transport::Tcp, address)]);
    ask(&upstreams, "a.example").await.unwrap();
    upstreams.network_changed();
    assert_is_answer(&ask(&upstreams, "b.example").await.unwrap(), "b.example");
    assert_eq!(connections.load(Ordering::SeqCst), 2);
    assert!(swallowed.lock().unwrap().is_empty());
}

#[tokio::test]
async fn after_an_outage_the_next_query_goes_over_a_fresh_connection() {
    let (address, connections, swallowed, _) = falls_silent(1).await;
    let settings = upstream(Transport::Tcp, address);
    let all = Settings {
        upstreams: vec![settings.clone()],
        routes: Vec::new(),
        strategy: Strategy::Fastest,
        timeout: PATIENCE,
    };
    let profile = Arc::new(Profile::new(&settings, &all, None).unwrap());
    let worker = Upstream::new(Arc::clone(&profile), 1);
    let ask = async |name| worker.exchange(&question(name), &Tries::new()).await;
    ask("a.example").await.unwrap();
    // Another worker found out.
    let gone = Failure::Lost("gone".to_owned());
    profile.health.failed(clock::instant(), &gone);
    ask("b.example").await.unwrap();
    assert_eq!(connections.load(Ordering::SeqCst), 2);
    assert!(swallowed.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_query_under_way_is_repeated_when_the_network_changes() {
    // A connection that was just made is not suspected, so only the change can save the query.
    let (address, connections, _, heard) = falls_silent(0).await;
    let upstreams = upstreams([upstream(Transport::Tcp, address)]);
    let (asked, ()) = tokio::join!(ask(&upstreams, "a.example"), async {
        heard.notified().await;
        upstreams.network_changed();
    });
    assert_is_answer(&asked.unwrap(), "a.example");
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn the_answer_on_the_old_connection_is_taken_if_it_still_comes() {
    let (asked, was_asked) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let tell = Arc::clone(&asked);
    let go_on = Arc::clone(&was_asked);
    let (address, _) = listen(move |number, mut stream| {
        let (tell, go_on) = (Arc::clone(&tell), Arc::clone(&go_on));
        async move {
            let query = read_query(&mut stream).await.unwrap();
            tell.notify_one();
            if number == 0 {
                go_on.notified().await;
                stream.write_all(&framed(&answer(&query))).await.unwrap();
            }
            std::future::pending::<()>().await;
        }
    })
    .await;
    let upstreams = upstreams([upstream(Transport::Tcp, address)]);
    let (outcome, ()) = tokio::join!(ask(&upstreams, "a.example"), async {
        asked.notified().await;
        upstreams.network_changed();
        // Now the fresh connection carries it too.
        asked.notified().await;
        was_asked.notify_one();
    });
    assert_is_answer(&outcome.unwrap(), "a.example");
}

#[tokio::test]
async fn a_connect_under_way_begins_anew_when_the_network_changes() {
    let pki = Pki::new("dns.test");
    let acceptor = TlsAcceptor::from(Arc::new(pki.server(b"dot")));
    let connected = Arc::new(Notify::new());
    let tell = Arc::clone(&connected);
    let (address, connections) = listen(move |number, stream| {
        let (acceptor, tell) = (acceptor.clone(), Arc::clone(&tell));
        async move {
            if number == 0 {
                tell.notify_one();
                std::future::pending::<()>().await;
            }
            answer_all(acceptor.accept(stream).await.unwrap()).await;
        }
    })
    .await;
    let upstreams = upstreams([pki.upstream(Transport::Tls, address)]);
    let (outcome, ()) = tokio::join!(ask(&upstreams, "a.example"), async {
        connected.notified().await;
        upstreams.network_changed();
    });
    assert_is_answer(&outcome.unwrap(), "a.example");
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_datagram_under_way_is_sent_from_a_fresh_socket_when_the_network_changes() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let heard = Arc::new(Notify::new());
    let tell = Arc::clone(&heard);
    tokio::spawn(async move {
        let mut buffer = vec![0; 2048];
        let (_, first) = socket.recv_from(&mut buffer).await.unwrap();
        tell.notify_one();
        loop {
            // The old address is gone: nothing that is sent to it arrives.
            let (octets, from) = socket.recv_from(&mut buffer).await.unwrap();
            if from != first {
                let response = answer(&buffer[..octets]);
                socket.send_to(&response, from).await.unwrap();
            }
        }
    });
    let upstreams = upstreams([upstream(Transport::Udp, address)]);
    let (outcome, ()) = tokio::join!(ask(&upstreams, "a.example"), async {
        heard.notified().await;
        upstreams.network_changed();
    });
    assert_is_answer(&outcome.unwrap(), "a.example");
}

#[tokio::test]
async fn a_dead_address_of_a_plain_upstream_costs_one_wait_per_network() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let silent = UdpSocket::bind("[::1]:0").await.unwrap();
    let addresses = vec![socket.local_addr().unwrap(), silent.local_addr().unwrap()];
    let settings = UpstreamSettings {
        addresses: addresses.clone(),
        ..upstream(Transport::Udp, addresses[0])
    };
    tokio::spawn(async move {
        let mut buffer = vec![0; 2048];
        loop {
            let (octets, from) = socket.recv_from(&mut buffer).await.unwrap();
            let response = answer(&buffer[..octets]);
            socket.send_to(&response, from).await.unwrap();
        }
    });
    let datagrams = || {
        let mut count = 0;
        while silent.try_recv(&mut [0; 2048]).is_ok() {
            count += 1;
        }
        count
    };
    let upstreams = upstreams([settings]);
    // IPv6 goes first as long as nothing is known.
    ask(&upstreams, "a.example").await.unwrap();
    silent.readable().await.unwrap();
    assert_eq!(datagrams(), 1);
    for name in ["b.example", "c.example"] {
        ask(&upstreams, name).await.unwrap();
    }
    assert_eq!(datagrams(), 0);
    upstreams.network_changed();
    ask(&upstreams, "d.example").await.unwrap();
    assert_eq!(datagrams(), 1);
}

#[tokio::test]
async fn a_query_waits_for_a_network_only_where_one_may_soon_be_there() {
    // No TCP connection leads to a broadcast address; the kernel says the same without a route.
    let nowhere = || upstream(Transport::Tcp, "255.255.255.255:53".parse().unwrap());
    let exchanges = |upstreams: &Upstreams| upstreams.status()[0].exchanges;

    let settled = upstreams([nowhere()]);
    settled.network_is_old();
    let error = ask(&settled, "a.example").await.unwrap_err();
    assert!(error.is_for_want_of_network(), "{error}");
    assert_eq!(exchanges(&settled), 1);

    settled.network_changed();
    let began = clock::instant();
    ask(&settled, "b.example").await.unwrap_err();
    let waited = clock::instant() - began;
    assert!(waited >= Duration::from_millis(300), "{waited:?}");

    // Whoever is there but does not answer is no question of the network.
    let closed = upstream(Transport::Tcp, closed_address());
    let mixed = upstreams([closed, nowhere()]);
    let error = ask(&mixed, "a.example").await.unwrap_err();
    assert!(!error.is_for_want_of_network(), "{error}");
    assert_eq!(exchanges(&mixed), 1);
}
