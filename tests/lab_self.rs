//! The lab checks itself: its structure, its transports, its faults. Nothing of the resolver is
//! under test here.

#[path = "lab/mod.rs"]
mod lab;

use lab::ask::framed;
use lab::ask_encrypted::{client_config, connect_tls};
use lab::attacks::{ATTACKS, Outcome};
use lab::expectations::{Expectation, Shape, Verdict};
use lab::faults::{Damage, FORGED_ADDRESS, Forgery, Identity};
use lab::message::flag;
use lab::unbound::Unbound;
use lab::{Answered, Ask, FaultSet, Lab, LabOptions, Transport};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Every zone of the tree answers, and every name's answer has the shape that is expected of it.
#[tokio::test]
async fn every_name_has_the_shape_that_is_expected() {
    let lab = Lab::start(LabOptions::default()).await;
    for (name, rtype, expected) in lab::expectations::expectations() {
        let ask = Ask::new(name, rtype).dnssec();
        let answered = ask.over_tcp(lab.address(Transport::Tcp)).await.unwrap();
        assert!(answered.has(flag::QR) && answered.has(flag::RA), "{name}");
        assert!(!answered.has(flag::AD), "{name}: the lab validates nothing");
        // What is bogus looks sound to those who do not check.
        match expected.shape {
            Shape::Nothing => {}
            Shape::Data => assert!(!answered.rdata(rtype).is_empty(), "{name} {rtype}"),
            Shape::NoData | Shape::NoName => {
                assert_eq!(answered.rcode, expected.rcode, "{name} {rtype}");
                assert_eq!(answered.count("SOA"), 1, "{name} {rtype}");
                if expected.verdict == Verdict::Secure {
                    let denials = answered.count("NSEC") + answered.count("NSEC3");
                    assert!(denials > 0, "{name} {rtype} lacks its proof");
                }
            }
        }
    }
}

#[tokio::test]
async fn without_do_there_is_no_dnssec() {
    let lab = Lab::start(LabOptions::default()).await;
    for name in ["www.secure.com", "nothing.nsec3.com", "any.wildcard.com"] {
        let answered = Ask::new(name, "A");
        let answered = answered
            .over_udp(lab.address(Transport::Udp))
            .await
            .unwrap();
        for rtype in ["RRSIG", "NSEC", "NSEC3"] {
            assert_eq!(answered.count(rtype), 0, "{name} {rtype}");
        }
    }
}

#[tokio::test]
async fn every_transport_answers_and_is_recorded() {
    let lab = Lab::start(LabOptions::default()).await;
    for transport in Transport::ALL {
        lab.record().clear();
        let answered = ask_over(&lab, transport, "wWw.SecurE.com").await.unwrap();
        assert_eq!(answered.rdata("A"), [[192, 0, 2, 80]], "{transport:?}");
        let question = answered.question;
        assert!(question.starts_with(b"\x03wWw\x06SecurE\x03com"), "case");
        let seen = lab.record().queries();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].transport, transport);
        assert_eq!(seen[0].qname(), "www.secure.com.");
        let connections = u64::from(transport != Transport::Udp);
        assert_eq!(lab.record().connection_count(transport), connections);
    }
}

#[tokio::test]
async fn large_answers_need_a_stream() {
    let lab = Lab::start(LabOptions::default()).await;
    let ask = Ask::new("giant.secure.com", "TXT");
    let datagram = ask.over_udp(lab.address(Transport::Udp)).await.unwrap();
    assert!(datagram.has(flag::TC));
    assert!(datagram.answer().is_empty());
    let stream = ask.over_tcp(lab.address(Transport::Tcp)).await.unwrap();
    assert_eq!(stream.answer().len(), 80);
    assert!(stream.octets.len() > 20_000);
}

#[tokio::test]
async fn odd_queries_are_refused_politely() {
    let lab = Lab::start(LabOptions::default()).await;
    let udp = lab.address(Transport::Udp);
    let rcode = async |ask: Ask| ask.over_udp(udp).await.unwrap().rcode;
    assert_eq!(rcode(Ask::new("secure.com", "TYPE252")).await, 5);
    assert_eq!(rcode(Ask::new("secure.com", "A").flags(0x2000)).await, 4);
    let mut chaos = Ask::new("version.server", "TXT");
    chaos.class = 3;
    assert_eq!(rcode(chaos).await, 5);
}

#[tokio::test]
async fn faults_change_what_is_sent_and_can_be_taken_back() {
    let lab = Lab::start(LabOptions::default()).await;
    let ask = async || {
        ask_over(&lab, Transport::Udp, "www.secure.com")
            .await
            .unwrap()
    };
    let udp = |change: fn(&mut FaultSet)| lab.faults().on(Transport::Udp, change);

    udp(|faults| faults.rcode = Some(2));
    assert_eq!(ask().await.rcode, 2);
    udp(|faults| {
        *faults = FaultSet {
            first: Some(1),
            truncate: true,
            ..FaultSet::default()
        }
    });
    assert!(ask().await.has(flag::TC));
    assert!(!ask().await.has(flag::TC), "only the first");
    udp(|faults| {
        *faults = FaultSet {
            tamper: true,
            ttl_s: Some(7),
            ..FaultSet::default()
        }
    });
    let tampered = ask().await;
    assert_eq!(tampered.rdata("A"), [FORGED_ADDRESS]);
    assert_eq!(tampered.answer()[0].ttl_s, 7);
    udp(|faults| {
        *faults = FaultSet {
            wrong_id: true,
            ..FaultSet::default()
        }
    });
    assert_ne!(ask().await.id, 0x1d1d);
    for damage in [
        Damage::CutAt(20),
        Damage::Trailing(3),
        Damage::CompressionLoop,
        Damage::LyingCounts,
        Damage::Noise(40),
    ] {
        lab.faults().on(Transport::Udp, |faults| {
            *faults = FaultSet {
                damage: Some(damage),
                ..FaultSet::default()
            };
        });
        assert!(
            ask_over(&lab, Transport::Udp, "www.secure.com")
                .await
                .is_err(),
            "{damage:?}"
        );
    }
    udp(|faults| *faults = FaultSet::default());
    lab.faults()
        .edit_answer("www.secure.com", "A", |response| response.answer.clear());
    assert!(ask().await.answer().is_empty());
    lab.faults().reset();
    assert_eq!(ask().await.rdata("A"), [[192, 0, 2, 80]]);
}

#[tokio::test]
async fn forged_packets_come_before_the_true_one() {
    let lab = Lab::start(LabOptions::default()).await;
    lab.faults().on(Transport::Udp, |faults| {
        faults.forged_first = Forgery::ALL.to_vec();
        faults
            .forged_first
            .retain(|kind| *kind != Forgery::WrongPort);
    });
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let query = Ask::new("www.secure.com", "A").encode();
    socket.connect(lab.address(Transport::Udp)).await.unwrap();
    socket.send(&query).await.unwrap();
    let mut buffer = [0; 1500];
    for kind in 1..Forgery::ALL.len() {
        let length = socket.recv(&mut buffer).await.unwrap();
        let forged = Answered::parse(&buffer[..length]);
        let true_one = forged.is_some_and(|it| it.rdata("A") == [[192, 0, 2, 80]]);
        assert!(!true_one, "{kind}");
    }
    let length = socket.recv(&mut buffer).await.unwrap();
    let answered = Answered::parse(&buffer[..length]).unwrap();
    assert_eq!(answered.rdata("A"), [[192, 0, 2, 80]]);
}

#[tokio::test]
async fn wrong_certificates_are_noticed() {
    let lab = Lab::start(LabOptions::default()).await;
    for identity in [Identity::WrongName, Identity::Expired, Identity::SelfSigned] {
        lab.faults().show(identity);
        for transport in ENCRYPTED {
            let asked = ask_over(&lab, transport, "www.secure.com").await;
            assert!(asked.is_err(), "{transport:?} {identity:?}");
        }
    }
    assert!(lab.record().is_empty());
    lab.faults().show(Identity::Right);
    for transport in ENCRYPTED {
        ask_over(&lab, transport, "www.secure.com").await.unwrap();
    }
}

#[tokio::test]
async fn connections_end_badly_on_demand() {
    let lab = Lab::start(LabOptions::default()).await;
    for transport in Transport::ALL {
        if transport == Transport::Udp {
            continue;
        }
        for (fault, change) in [
            ("cut", (|faults| faults.cut = true) as fn(&mut FaultSet)),
            ("refuse", |faults| faults.refuse = true),
        ] {
            lab.faults().on(transport, change);
            let asked = ask_over(&lab, transport, "www.secure.com").await;
            assert!(asked.is_err(), "{transport:?} {fault}");
            lab.faults().reset();
        }
        lab.faults()
            .on(transport, |faults| faults.close_after_answer = true);
        ask_over(&lab, transport, "www.secure.com").await.unwrap();
        lab.faults().reset();
    }
    for transport in [Transport::Https, Transport::Http3] {
        for (fault, change) in [
            (
                "status",
                (|faults| faults.http_status = Some(500)) as fn(&mut FaultSet),
            ),
            ("body", |faults| faults.http_body_octets = Some(200_000)),
            ("reset", |faults| faults.reset_stream = true),
        ] {
            lab.faults().on(transport, change);
            let asked = ask_over(&lab, transport, "www.secure.com").await;
            assert!(asked.is_err(), "{transport:?} {fault}");
            lab.faults().reset();
        }
    }
}

#[tokio::test]
async fn pipelined_answers_can_come_in_reverse() {
    let lab = Lab::start(LabOptions::default()).await;
    lab.faults()
        .on(Transport::Tcp, |faults| faults.reorder = Some(3));
    let mut stream = tokio::net::TcpStream::connect(lab.address(Transport::Tcp))
        .await
        .unwrap();
    for id in 1..=3 {
        let query = Ask::new("www.secure.com", "A").id(id).encode();
        stream.write_all(&framed(&query)).await.unwrap();
        // Answers are made at once, but by tasks of their own: keep them in order.
        lab.record().wait_for(usize::from(id)).await;
        tokio::task::yield_now().await;
    }
    let mut ids = Vec::new();
    for _ in 1..=3 {
        let length = stream.read_u16().await.unwrap();
        let mut message = vec![0; usize::from(length)];
        stream.read_exact(&mut message).await.unwrap();
        ids.push(Answered::parse(&message).unwrap().id);
    }
    assert_eq!(ids, [3, 2, 1]);
}

#[tokio::test]
async fn resumed_sessions_are_counted() {
    let lab = Lab::start(LabOptions::default()).await;
    let address = lab.address(Transport::Tls);
    let config = Arc::new(client_config(Transport::Tls, lab.ca_pem()));
    let query = framed(&Ask::new("www.secure.com", "A").encode());
    for resumed in 0..3 {
        let mut stream = connect_tls(address, lab.server_name(), config.clone())
            .await
            .unwrap();
        stream.write_all(&query).await.unwrap();
        stream.read_u16().await.unwrap();
        assert_eq!(lab.record().resumption_count(Transport::Tls), resumed);
        assert_eq!(lab.record().connection_count(Transport::Tls), resumed + 1);
    }
}

#[tokio::test]
async fn quic_takes_early_data_and_records_it() {
    let lab = Lab::start(LabOptions::default()).await;
    let config = client_config(Transport::Quic, lab.ca_pem());
    let config = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(config));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let query = framed(&Ask::new("www.secure.com", "A").id(0).encode());
    for early in [false, true] {
        let address = lab.address(Transport::Quic);
        let connecting = endpoint
            .connect_with(config.clone(), address, lab.server_name())
            .unwrap();
        let connection = if early {
            connecting.into_0rtt().map_err(|_| "no ticket").unwrap().0
        } else {
            connecting.await.unwrap()
        };
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&query).await.unwrap();
        send.finish().unwrap();
        recv.read_to_end(1000).await.unwrap();
        assert_eq!(lab.record().queries().last().unwrap().early_data, early);
    }
    assert_eq!(lab.record().resumption_count(Transport::Quic), 1);
}

#[tokio::test]
async fn a_dropped_lab_is_gone() {
    let lab = Lab::start(LabOptions::default()).await;
    let address = lab.address(Transport::Tcp);
    drop(lab);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn both_families_are_served_when_asked_for() {
    let options = LabOptions {
        ipv6: true,
        ..LabOptions::default()
    };
    // A machine without IPv6 has nothing to check.
    let Ok(lab) = Lab::try_start(options).await else {
        return;
    };
    for transport in Transport::ALL {
        let ask = Ask::new("www.secure.com", "A");
        let address = lab.address_v6(transport);
        ask.over(transport, address, lab.ca_pem(), lab.server_name())
            .await
            .unwrap();
    }
}

const ENCRYPTED: [Transport; 4] = [
    Transport::Tls,
    Transport::Https,
    Transport::Http3,
    Transport::Quic,
];

async fn ask_over(lab: &Lab, transport: Transport, name: &str) -> std::io::Result<Answered> {
    let ask = Ask::new(name, "A");
    let address = lab.address(transport);
    ask.over(transport, address, lab.ca_pem(), lab.server_name())
        .await
}

/// Serves on fixed ports until interrupted, to be asked by other people's programs.
#[tokio::test]
#[ignore = "runs until it is stopped, for trying the lab by hand"]
async fn serve_for_trying() {
    let ports = lab::Ports {
        plain: 5399,
        tls: 8599,
        https: 4499,
    };
    let lab = Lab::start(LabOptions {
        ports,
        ipv6: true,
        ..LabOptions::default()
    })
    .await;
    println!("{}", lab.trust_anchor_ds());
    println!("{}", lab.ca_pem());
    for transport in Transport::ALL {
        println!("{}", lab.url(transport));
    }
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "current_thread")]
#[ignore = "needs unbound"]
async fn unbound_agrees_with_every_expectation() {
    let lab = Lab::start(LabOptions::default()).await;
    let unbound = Unbound::start(&lab).await;
    let mut disagreements = Vec::new();
    for (name, rtype, expected) in lab::expectations::expectations() {
        let ask = Ask::new(name, rtype).dnssec();
        let answered = ask.over_tcp(unbound.address).await.unwrap();
        let seen = Seen::of(&answered, rtype);
        let wanted = Seen::expected(expected);
        if seen != wanted && !UNBOUND_DIFFERS.contains(name) {
            disagreements.push(format!(
                "{name} {rtype}: expected {wanted:?}, unbound says {seen:?} {:?}",
                answered.extended_errors()
            ));
        }
    }
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
}

#[tokio::test(flavor = "current_thread")]
#[ignore = "needs unbound"]
async fn unbound_believes_no_attack() {
    let mut believed = Vec::new();
    for attack in ATTACKS {
        let lab = Lab::start(LabOptions::default()).await;
        let unbound = Unbound::start(&lab).await;
        attack.install(&lab);
        let ask = Ask::new(attack.name, attack.rtype).dnssec();
        let answered = ask.over_tcp(unbound.address).await.unwrap();
        let right = match attack.outcome {
            Outcome::Refused => answered.rcode == 2,
            Outcome::RefusedOrTrue => {
                answered.rcode == 2
                    || !answered.rdata("A").contains(&&FORGED_ADDRESS[..]) && answered.has(flag::AD)
            }
            Outcome::NotSecure => !answered.has(flag::AD),
            Outcome::Rcode(rcode) => answered.rcode == rcode,
        };
        if !right && !UNBOUND_ERRS.contains(&attack.claim) {
            believed.push(format!("{}: {:?}", attack.claim, answered));
        }
    }
    assert!(believed.is_empty(), "{}", believed.join("\n"));
}

/// What Unbound believes, or refuses though the proof is sound.
const UNBOUND_ERRS: [&str; 2] = [
    "NSEC3 records of different parameters in one proof",
    "NOERROR with the proof that the name does not exist",
];

/// Names that this project judges otherwise: Unbound still takes SHA-1 digests even beside better
/// ones, lets a DS vouch for a revoked key, and calls no number of iterations bogus.
const UNBOUND_DIFFERS: [&str; 4] = [
    "www.sha1ds.com",
    "www.sha1beside.com",
    "www.revoked.com",
    "nothing.iterations.com",
];

/// What of an answer an expectation speaks about.
#[derive(Debug, PartialEq)]
struct Seen {
    rcode: u16,
    authentic: bool,
    data: bool,
}

impl Seen {
    fn of(answered: &Answered, rtype: &str) -> Self {
        Self {
            rcode: answered.rcode,
            authentic: answered.has(flag::AD),
            data: !answered.rdata(rtype).is_empty(),
        }
    }

    fn expected(expectation: &Expectation) -> Self {
        Self {
            rcode: expectation.rcode,
            authentic: expectation.verdict == Verdict::Secure,
            data: expectation.shape == Shape::Data,
        }
    }
}
