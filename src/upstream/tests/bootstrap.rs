//! Upstreams that are known by name: their addresses are asked of others first.

use std::{net::Ipv4Addr, sync::Mutex};

use tokio::net::UdpSocket;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    upstream::{LookUp, addresses::Addresses, error::Failure},
    wire::rtype,
};

/// What a plain server says of every name.
#[derive(Clone, Copy)]
enum Says {
    /// It is at this address, and has no other.
    At(Ipv4Addr),
    Servfail,
}

/// A plain DNS server whose words can be changed; what it was asked is kept.
struct Book {
    settings: UpstreamSettings,
    says: Mutex<Says>,
    asked: Mutex<Vec<(Name, u16)>>,
}

impl Book {
    async fn open(says: Says) -> Arc<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let book = Arc::new(Self {
            settings: upstream(Transport::Udp, socket.local_addr().unwrap()),
            says: Mutex::new(says),
            asked: Mutex::default(),
        });
        let ours = Arc::clone(&book);
        tokio::spawn(async move {
            let mut buffer = vec![0; 2048];
            while let Ok((octets, from)) = socket.recv_from(&mut buffer).await {
                let reply = ours.reply(&buffer[..octets]);
                socket.send_to(&reply, from).await.unwrap();
            }
        });
        book
    }

    fn reply(&self, query: &[u8]) -> Vec<u8> {
        let (name, end) = Name::read(query, 12).unwrap();
        let qtype = u16::from_be_bytes([query[end], query[end + 1]]);
        self.asked.lock().unwrap().push((name, qtype));
        match *self.says.lock().unwrap() {
            Says::Servfail => response(query, 2),
            Says::At(address) if qtype == rtype::A => {
                let mut reply = response(query, 0);
                let at = reply.len() - 4;
                reply[at..].copy_from_slice(&address.octets());
                reply
            }
            Says::At(_) => {
                let mut nodata = response(query, 2);
                nodata[3] = 0x80;
                nodata
            }
        }
    }

    fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    /// How often it was asked for an address of the upstream.
    fn look_ups(&self) -> usize {
        let host = Name::parse("dns.test").unwrap();
        let asked = self.asked.lock().unwrap();
        let look_ups = asked.iter().filter(|(name, _)| *name == host);
        look_ups.filter(|(_, qtype)| *qtype == rtype::A).count()
    }
}

/// A DoT server for `dns.test` that closes each connection after one query, so that each query
/// needs the addresses again. Counts the connections.
async fn dot(pki: &Pki, address: &str) -> (SocketAddr, Arc<AtomicUsize>) {
    let acceptor = TlsAcceptor::from(Arc::new(pki.server(b"dot")));
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.unwrap();
                if let Some(query) = read_query(&mut stream).await {
                    stream.write_all(&framed(&answer(&query))).await.unwrap();
                }
                drop(stream.shutdown().await);
            });
        }
    });
    (address, count)
}

fn by_name(pki: &Pki, port: u16, servers: &[&Book]) -> UpstreamSettings {
    let servers = servers.iter().map(|book| book.settings.clone());
    UpstreamSettings {
        addresses: Vec::new(),
        look_up: Some(LookUp {
            host: Name::parse("dns.test").unwrap(),
            port,
            servers: servers.collect(),
        }),
        ..pki.upstream(Transport::Tls, (Ipv4Addr::LOCALHOST, port).into())
    }
}

const HERE: Says = Says::At(Ipv4Addr::LOCALHOST);

/// Makes everything that was found as old as can be.
fn expire(upstreams: &Upstreams) {
    for addresses in upstreams.addresses() {
        if let Addresses::Found(finder) = addresses {
            finder.expire();
        }
    }
}

#[tokio::test]
async fn a_host_name_is_asked_of_its_own_servers_once() {
    let pki = Pki::new("dns.test");
    let (address, _) = dot(&pki, "127.0.0.1:0").await;
    let (own, other) = (Book::open(HERE).await, Book::open(HERE).await);
    let settings = [
        by_name(&pki, address.port(), &[&own]),
        other.settings.clone(),
    ];
    let upstreams = upstreams(settings);
    for name in ["a.example", "b.example"] {
        let exchanged = ask(&upstreams, name).await.unwrap();
        assert_is_answer(&exchanged, name);
        assert_eq!(exchanged.transport, Transport::Tls);
    }
    assert_eq!((own.look_ups(), other.look_ups()), (1, 0));
    // Both families were asked for, and nothing else.
    assert_eq!(own.asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn other_upstreams_are_asked_when_there_are_no_servers_of_its_own() {
    let pki = Pki::new("dns.test");
    let (address, connections) = dot(&pki, "127.0.0.1:0").await;
    let other = Book::open(HERE).await;
    let settings = [by_name(&pki, address.port(), &[]), other.settings.clone()];
    let upstreams = upstreams(settings);
    ask(&upstreams, "a.example").await.unwrap();
    assert_eq!(other.look_ups(), 1);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn nobody_to_ask_is_told_at_set_up() {
    let pki = Pki::new("dns.test");
    let settings = Settings {
        upstreams: vec![by_name(&pki, 853, &[])],
        routes: Vec::new(),
        strategy: Strategy::Ordered,
        timeout: PATIENCE,
    };
    let error = Upstreams::new(&settings).err().unwrap().to_string();
    assert!(error.contains("add bootstrap = [\"9.9.9.9\"]"), "{error}");
}

#[tokio::test]
async fn equal_look_ups_are_one_for_all_workers() {
    let pki = Pki::new("dns.test");
    let acceptor = TlsAcceptor::from(Arc::new(pki.server(b"dot")));
    let (address, _) = listen(move |_, stream| {
        let acceptor = acceptor.clone();
        async move { answer_all(acceptor.accept(stream).await.unwrap()).await }
    })
    .await;
    let own = Book::open(HERE).await;
    let first = upstreams([by_name(&pki, address.port(), &[&own])]);
    let second = first.for_worker();
    tokio::join!(ask_many(&first, 20), ask_many(&second, 20));
    assert_eq!(own.look_ups(), 1);
}

#[tokio::test]
async fn a_failure_is_told_and_tried_again_until_it_is_over() {
    let pki = Pki::new("dns.test");
    let (address, _) = dot(&pki, "127.0.0.1:0").await;
    let own = Book::open(Says::Servfail).await;
    let upstreams = upstreams([by_name(&pki, address.port(), &[&own])]);
    let error = ask(&upstreams, "a.example").await.unwrap_err();
    assert!(matches!(error.failure(), Failure::LookUp { .. }), "{error}");
    assert!(error.to_string().contains("dns.test."), "{error}");
    // Nobody hammers the server: those who ask meanwhile are told the same.
    let before = own.look_ups();
    ask(&upstreams, "b.example").await.unwrap_err();
    assert_eq!(own.look_ups(), before);
    own.say(HERE);
    let recovered = async {
        while ask(&upstreams, "c.example").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, recovered).await.unwrap();
}

#[tokio::test]
async fn old_addresses_are_used_while_nobody_has_newer_ones() {
    let pki = Pki::new("dns.test");
    let (address, _) = dot(&pki, "127.0.0.1:0").await;
    let own = Book::open(HERE).await;
    let upstreams = upstreams([by_name(&pki, address.port(), &[&own])]);
    ask(&upstreams, "a.example").await.unwrap();
    own.say(Says::Servfail);
    for name in ["b.example", "c.example"] {
        expire(&upstreams);
        ask(&upstreams, name).await.unwrap();
    }
    assert!(own.look_ups() > 1);
}

#[tokio::test]
async fn the_next_connection_goes_to_the_addresses_found_last() {
    let pki = Pki::new("dns.test");
    let (address, before) = dot(&pki, "127.0.0.1:0").await;
    let moved = format!("127.0.0.2:{}", address.port());
    let (_, after) = dot(&pki, &moved).await;
    let own = Book::open(HERE).await;
    let upstreams = upstreams([by_name(&pki, address.port(), &[&own])]);
    ask(&upstreams, "a.example").await.unwrap();
    own.say(Says::At(Ipv4Addr::new(127, 0, 0, 2)));
    expire(&upstreams);
    ask(&upstreams, "b.example").await.unwrap();
    assert_eq!(before.load(Ordering::SeqCst), 1);
    assert_eq!(after.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_look_up_that_comes_back_is_named_a_loop() {
    let pki = Pki::new("dns.test");
    // A forwarder that asks those who ask it, and says what they say.
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let forwarder = Book {
        settings: upstream(Transport::Udp, socket.local_addr().unwrap()),
        says: Mutex::new(Says::Servfail),
        asked: Mutex::default(),
    };
    let truename = upstreams([by_name(&pki, 853, &[&forwarder])]);
    let asked_again = truename.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 2048];
        while let Ok((octets, from)) = socket.recv_from(&mut buffer).await {
            let failed = ask(&asked_again, "dns.test").await.is_err();
            let reply = response(&buffer[..octets], if failed { 2 } else { 0 });
            socket.send_to(&reply, from).await.unwrap();
        }
    });
    let error = ask(&truename, "a.example").await.unwrap_err().to_string();
    assert!(error.contains("is a loop if"), "{error}");
}

#[tokio::test]
async fn a_false_address_is_no_way_in() {
    let (right, wrong) = (Pki::new("dns.test"), Pki::new("dns.test"));
    let (address, _) = dot(&wrong, "127.0.0.1:0").await;
    let liar = Book::open(HERE).await;
    let upstreams = upstreams([by_name(&right, address.port(), &[&liar])]);
    let error = ask(&upstreams, "a.example").await.unwrap_err();
    assert!(matches!(error.failure(), Failure::Handshake { .. }));
}

#[tokio::test]
async fn check_is_told_who_was_asked_and_what_came_of_it() {
    let pki = Pki::new("dns.test");
    let (here, nowhere) = (Book::open(HERE).await, Book::open(Says::Servfail).await);
    let mut lost = by_name(&pki, 853, &[&nowhere]);
    lost.name = "lost".to_owned();
    let upstreams = upstreams([by_name(&pki, 853, &[&here]), lost, here.settings.clone()]);
    let looked_up = upstreams.look_up().await;
    assert_eq!(looked_up.len(), 2);
    assert_eq!(
        looked_up[0].addresses.as_deref().unwrap(),
        ["127.0.0.1:853".parse().unwrap()]
    );
    assert_eq!(&*looked_up[0].servers[0], here.settings.name);
    assert_eq!(&*looked_up[1].upstream, "lost");
    assert!(looked_up[1].addresses.is_err());
}
