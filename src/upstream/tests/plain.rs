//! UDP and TCP.

use std::{collections::HashSet, sync::Mutex};

use tokio::net::UdpSocket;

use super::*;

async fn udp_socket() -> (Arc<UdpSocket>, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (Arc::new(socket), address)
}

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 2048];
    let (octets, from) = socket.recv_from(&mut buffer).await.unwrap();
    buffer.truncate(octets);
    (buffer, from)
}

#[tokio::test]
async fn forged_datagrams_do_not_end_the_wait() {
    let (socket, address) = udp_socket().await;
    let (stranger, _) = udp_socket().await;
    tokio::spawn(async move {
        let (query, from) = receive(&socket).await;
        let good = answer(&query);
        let changed = |at: usize, bits: u8| {
            let mut forged = response(&query, 1);
            forged[at] ^= bits;
            forged
        };
        let forgeries = [
            changed(0, 0x01),  // another id
            changed(2, 0x80),  // not a response
            changed(2, 0x28),  // another opcode
            changed(5, 0x01),  // no question
            changed(13, 0x01), // another name
            changed(13, 0x20), // another letter case
            good[..11].to_vec(),
            Vec::new(),
        ];
        for forged in forgeries {
            socket.send_to(&forged, from).await.unwrap();
        }
        // From another address, everything guessed right.
        let elsewhere = response(&query, 3);
        stranger.send_to(&elsewhere, from).await.unwrap();
        socket.send_to(&good, from).await.unwrap();
    });
    let upstreams = upstreams([upstream(Transport::Udp, address)]);
    let exchanged = ask(&upstreams, "a.example").await.unwrap();
    assert_is_answer(&exchanged, "a.example");
}

#[tokio::test]
async fn every_query_has_its_own_port_id_and_letter_case() {
    const QUERIES: usize = 300;
    let (socket, address) = udp_socket().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (query, from) = receive(&socket).await;
            socket.send_to(&answer(&query), from).await.unwrap();
            // `. NS` asks whether an upstream that was slow is well.
            if query[12] != 0 {
                log.lock().unwrap().push((from.port(), query));
            }
        }
    });
    let upstreams = upstreams([upstream(Transport::Udp, address)]);
    for _ in 0..QUERIES {
        ask(&upstreams, "some.long.name.example").await.unwrap();
    }
    let mut seen = seen.lock().unwrap();
    // What is answered late, as on a busy machine, was sent again.
    seen.dedup();
    assert_eq!(seen.len(), QUERIES);
    // 300 draws out of 64,512 ports or 65,536 ids collide 0.7 times on average.
    let ports: HashSet<u16> = seen.iter().map(|(port, _)| *port).collect();
    assert!(ports.len() > QUERIES - 10);
    let ids: HashSet<u16> = seen.iter().map(|(_, query)| message::id(query)).collect();
    assert!(ids.len() > QUERIES - 10);
    let names: HashSet<&[u8]> = seen.iter().map(|(_, query)| &query[12..36]).collect();
    assert!(names.len() > QUERIES - 10);
}

/// UDP and TCP on the same port.
async fn both() -> (Arc<UdpSocket>, TcpListener, SocketAddr) {
    loop {
        let (socket, address) = udp_socket().await;
        if let Ok(listener) = TcpListener::bind(address).await {
            return (socket, listener, address);
        }
    }
}

#[tokio::test]
async fn a_cut_answer_is_fetched_over_tcp() {
    let (socket, listener, address) = both().await;
    tokio::spawn(async move {
        let (query, from) = receive(&socket).await;
        let mut cut = response(&query, 0);
        cut[2] |= 0x02;
        socket.send_to(&cut, from).await.unwrap();
    });
    tokio::spawn(async move { answer_all(listener.accept().await.unwrap().0).await });
    let upstreams = upstreams([upstream(Transport::Udp, address)]);
    let exchanged = ask(&upstreams, "a.example").await.unwrap();
    assert_is_answer(&exchanged, "a.example");
    assert!(!message::is_truncated(&exchanged.octets));
}

#[tokio::test]
async fn an_upstream_that_loses_the_letter_case_is_asked_over_tcp() {
    let (socket, listener, address) = both().await;
    tokio::spawn(async move {
        loop {
            let (query, from) = receive(&socket).await;
            let lower = answer(&query).to_ascii_lowercase();
            socket.send_to(&lower, from).await.unwrap();
        }
    });
    tokio::spawn(async move { answer_all(listener.accept().await.unwrap().0).await });
    let upstreams = upstreams([upstream(Transport::Udp, address)]);
    let exchanged = ask(&upstreams, "abcdefghijklmnopqrstuvwxyz.example").await;
    assert_is_answer(&exchanged.unwrap(), "abcdefghijklmnopqrstuvwxyz.example");
}

#[tokio::test]
async fn after_many_forgeries_only_tcp_counts() {
    let (socket, listener, address) = both().await;
    tokio::spawn(async move {
        let (query, from) = receive(&socket).await;
        let mut forged = response(&query, 3);
        forged[0] ^= 1;
        for _ in 0..20 {
            socket.send_to(&forged, from).await.unwrap();
        }
        // Now the forger has guessed right.
        forged[0] ^= 1;
        socket.send_to(&forged, from).await.unwrap();
        // TCP answers only after that.
        answer_all(listener.accept().await.unwrap().0).await;
    });
    let upstreams = upstreams([upstream(Transport::Udp, address)]);
    let exchanged = ask(&upstreams, "a.example").await.unwrap();
    assert_is_answer(&exchanged, "a.example");
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again() {
    let (socket, address) = udp_socket().await;
    tokio::spawn(async move {
        let (first, _) = receive(&socket).await;
        // Meanwhile a probe may ask whether anybody is there.
        loop {
            let (second, from) = receive(&socket).await;
            if first == second {
                socket.send_to(&answer(&second), from).await.unwrap();
            }
        }
    });
    let upstreams = upstreams([upstream(Transport::Udp, address)]);
    let exchanged = ask(&upstreams, "a.example").await.unwrap();
    assert_is_answer(&exchanged, "a.example");
}

#[tokio::test]
async fn one_port_unreachable_ends_nothing() {
    let address = closed_address();
    let upstreams = upstreams([upstream(Transport::Udp, address)]);
    let answering = async {
        // In a few turns of the event loop the query has left and was refused.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let socket = UdpSocket::bind(address).await.unwrap();
        let (query, from) = receive(&socket).await;
        socket.send_to(&answer(&query), from).await.unwrap();
        std::future::pending::<()>().await;
    };
    let exchanged = tokio::select! {
        biased;
        exchanged = ask(&upstreams, "a.example") => exchanged.unwrap(),
        () = answering => unreachable!("it never ends"),
    };
    assert_is_answer(&exchanged, "a.example");
}

#[tokio::test]
async fn a_closed_port_is_told_as_such() {
    let upstreams = upstreams([upstream(Transport::Udp, closed_address())]);
    let error = ask(&upstreams, "a.example").await.unwrap_err();
    assert_eq!(error.stage(), Stage::Connect);
    assert!(!error.is_silent());
    let upstreams = super::upstreams([upstream(Transport::Tcp, closed_address())]);
    let error = ask(&upstreams, "a.example").await.unwrap_err();
    assert_eq!(error.label(), "connect");
}

#[tokio::test]
async fn answers_may_come_in_any_order_and_queries_leave_in_one_write() {
    const QUERIES: usize = 50;
    let (address, connections) = listen(|_, mut stream| async move {
        let mut input = vec![0; 64 * 1024];
        let octets = stream.read(&mut input).await.unwrap();
        let mut rest = &input[..octets];
        let mut answers = Vec::new();
        while let Some((query, taken)) = crate::net::framing::split(rest) {
            answers.push(framed(&answer(query)));
            rest = &rest[taken..];
        }
        assert_eq!(
            answers.len(),
            QUERIES,
            "all queries of one turn in one write"
        );
        answers.reverse();
        stream.write_all(&answers.concat()).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let upstreams = upstreams([upstream(Transport::Tcp, address)]);
    ask_many(&upstreams, QUERIES).await;
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn seventy_thousand_queries_share_one_connection() {
    let (address, connections) =
        listen(|_, stream| answer_all(tokio::io::BufReader::new(stream))).await;
    let upstreams = upstreams([upstream(Transport::Tcp, address)]);
    for _ in 0..700 {
        ask_many(&upstreams, 100).await;
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_query_whose_connection_ends_is_asked_again_once() {
    let (address, connections) = listen(|number, mut stream| async move {
        if number > 0 {
            return answer_all(stream).await;
        }
        let query = read_query(&mut stream).await.unwrap();
        stream.write_all(&framed(&answer(&query))).await.unwrap();
        // The second query gets half an answer.
        let query = read_query(&mut stream).await.unwrap();
        let half = framed(&answer(&query));
        stream.write_all(&half[..20]).await.unwrap();
    })
    .await;
    let upstreams = upstreams([upstream(Transport::Tcp, address)]);
    for name in ["a.example", "b.example", "c.example"] {
        assert_is_answer(&ask(&upstreams, name).await.unwrap(), name);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_closed_between_queries_costs_no_query() {
    let (address, connections) = listen(|_, mut stream| async move {
        let query = read_query(&mut stream).await.unwrap();
        stream.write_all(&framed(&answer(&query))).await.unwrap();
    })
    .await;
    let upstreams = upstreams([upstream(Transport::Tcp, address)]);
    for number in 1..=5 {
        ask(&upstreams, "a.example").await.unwrap();
        assert_eq!(connections.load(Ordering::SeqCst), number);
    }
}

#[tokio::test]
async fn an_upstream_that_always_closes_is_given_up_after_few_tries() {
    let (address, connections) = listen(|_, mut stream| async move {
        read_query(&mut stream).await;
    })
    .await;
    let upstreams = upstreams([upstream(Transport::Tcp, address)]);
    let error = ask(&upstreams, "a.example").await.unwrap_err();
    assert_eq!(error.stage(), Stage::Receive);
    assert!(error.is_retryable());
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_that_went_dead_is_replaced_before_the_client_gives_up() {
    let (address, connections) = listen(|number, mut stream| async move {
        if number > 0 {
            return answer_all(stream).await;
        }
        let query = read_query(&mut stream).await.unwrap();
        stream.write_all(&framed(&answer(&query))).await.unwrap();
        // As after sleep: neither answers nor a close.
        std::future::pending::<()>().await;
    })
    .await;
    let upstreams = upstreams([upstream(Transport::Tcp, address)]);
    ask(&upstreams, "a.example").await.unwrap();
    let exchanged = ask(&upstreams, "b.example").await.unwrap();
    assert_is_answer(&exchanged, "b.example");
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_suspicion_that_proves_wrong_costs_no_connection() {
    let (address, connections) = listen(|number, mut stream| async move {
        if number > 0 {
            return;
        }
        let query = read_query(&mut stream).await.unwrap();
        stream.write_all(&framed(&answer(&query))).await.unwrap();
        // Long enough to be suspected.
        let query = read_query(&mut stream).await.unwrap();
        tokio::time::sleep(Duration::from_millis(900)).await;
        stream.write_all(&framed(&answer(&query))).await.unwrap();
        answer_all(stream).await;
    })
    .await;
    let upstreams = upstreams([upstream(Transport::Tcp, address)]);
    for name in ["a.example", "b.example", "c.example"] {
        assert_is_answer(&ask(&upstreams, name).await.unwrap(), name);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_slow_path_keeps_its_connection() {
    let (address, connections) = listen(|_, mut stream| async move {
        while let Some(query) = read_query(&mut stream).await {
            tokio::time::sleep(Duration::from_millis(700)).await;
            stream.write_all(&framed(&answer(&query))).await.unwrap();
        }
    })
    .await;
    let upstreams = upstreams([upstream(Transport::Tcp, address)]);
    for name in ["a.example", "b.example", "c.example"] {
        assert_is_answer(&ask(&upstreams, name).await.unwrap(), name);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_response_to_another_question_is_a_mismatch() {
    let (address, _) = listen(|_, mut stream| async move {
        while let Some(mut query) = read_query(&mut stream).await {
            query[13] ^= 0x01;
            stream.write_all(&framed(&answer(&query))).await.unwrap();
        }
    })
    .await;
    let upstreams = upstreams([upstream(Transport::Tcp, address)]);
    let error = ask(&upstreams, "a.example").await.unwrap_err();
    assert_eq!(error.stage(), Stage::Mismatch);
}
