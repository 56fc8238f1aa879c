//! Octets that are no query, over every listener: an error or a clean end, and good queries are
//! answered afterwards.

use crate::{
    lab::{Ask, Transport},
    support::{Client, Outcome, Truename, World},
};

const FORMERR: u16 = 1;
const REFUSED: u16 = 5;

/// What is wrong, and the octets.
fn malformed() -> Vec<(String, Vec<u8>)> {
    let good = Ask::new("www.secure.com", "A")
        .id(0)
        .udp_octets(None)
        .encode();
    let header = |counts: [u8; 8]| [&[0, 0, 1, 0][..], &counts].concat();
    let asks = |name: &[u8]| [&header([0, 1, 0, 0, 0, 0, 0, 0])[..], name, &[0, 1, 0, 1]].concat();
    let with_additional = |count: u8, records: &[u8]| {
        let mut octets = good.clone();
        octets[11] = count;
        octets.extend_from_slice(records);
        octets
    };
    let opt = |options: &[u8]| {
        let length = u16::try_from(options.len()).unwrap().to_be_bytes();
        [&[0, 0, 41, 4, 208, 0, 0, 0, 0][..], &length, options].concat()
    };
    let mut list: Vec<(String, Vec<u8>)> = [
        ("nothing", Vec::new()),
        ("one octet", vec![0]),
        ("eleven octets", vec![0; 11]),
        (
            "a header that promises a question",
            header([0, 1, 0, 0, 0, 0, 0, 0]),
        ),
        ("a header that promises nothing", header([0; 8])),
        ("a header that promises everything", header([0xff; 8])),
        ("a name that points to itself", asks(&[0xc0, 12])),
        ("a name that points forward", asks(&[0xc0, 40])),
        (
            "a name that points into the header",
            asks(&[1, b'a', 0xc0, 0]),
        ),
        ("two pointers in a circle", asks(&[0xc0, 14, 0xc0, 12])),
        ("a label of a kind nobody knows", asks(&[0x40, 1, 2, 0])),
        (
            "a name over 255 octets",
            asks(&[&[63; 64 * 4][..], &[0]].concat()),
        ),
        ("a name without an end", asks(&[63; 64])),
        ("an answer in a query", {
            let mut octets = good.clone();
            octets[7] = 1;
            octets.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4]);
            octets
        }),
        ("octets behind the message", [&good[..], &[0; 9]].concat()),
        ("records that are not there", with_additional(9, &[])),
        (
            "two OPT records",
            with_additional(2, &[opt(&[]), opt(&[])].concat()),
        ),
        (
            "an OPT record at a name",
            with_additional(1, &[&[1, b'a'][..], &opt(&[])].concat()),
        ),
        (
            "an option that is cut",
            with_additional(1, &opt(&[0, 10, 0, 99, 1, 2])),
        ),
        ("half an option", with_additional(1, &opt(&[0, 10, 0]))),
        (
            "15,000 empty options",
            with_additional(1, &opt(&[0, 3, 0, 0].repeat(15_000))),
        ),
        (
            "a hundred cookies",
            with_additional(1, &opt(&[&[0, 10, 0, 1][..], b"c"].concat().repeat(100))),
        ),
        ("64 KiB of zeros", vec![0; 65_535]),
        ("64 KiB of ones", vec![0xff; 65_535]),
        ("60,000 octets of letters", vec![b'a'; 60_000]),
        (
            "64 KiB behind a question",
            [&good[..], &vec![0; 65_535 - good.len()]].concat(),
        ),
    ]
    .map(|(what, octets)| (what.to_owned(), octets))
    .into();
    let real = Ask::new("www.secure.com", "A")
        .id(0)
        .dnssec()
        .option(10, b"acookie8");
    let real = real.option(12, &[0; 30]).encode();
    for length in 0..real.len() {
        list.push((
            format!("a query cut after {length} octets"),
            real[..length].to_vec(),
        ));
    }
    list
}

async fn survives(listener: Transport) {
    let world = World::start(Transport::Tls).await;
    let mut client = Client::connect(&world.truename, listener).await;
    for (what, octets) in malformed() {
        let outcome = client.send(&octets).await;
        let what = format!("{listener:?}, {what}: {outcome:?}");
        match &outcome {
            Outcome::Message(_) => {
                let rcode = outcome.rcode();
                assert!(matches!(rcode, Some(FORMERR | REFUSED | 4)), "{what}");
            }
            Outcome::Status(status) => assert!((400..500).contains(status), "{what}"),
            Outcome::Silence => assert_eq!(listener, Transport::Udp, "{what}"),
            Outcome::Closed => client = reconnected(&world.truename, listener).await,
        }
        if octets.len() >= 12 && octets.len() < 512 && octets[2] & 0x80 == 0 {
            let is_formerr = matches!(outcome.rcode(), Some(FORMERR));
            assert!(
                is_formerr,
                "what has a header is told what is wrong: {what}"
            );
        }
    }
    for client in [
        &mut client,
        &mut reconnected(&world.truename, listener).await,
    ] {
        let answered = client.ask(&Ask::new("www.secure.com", "A")).await;
        assert_eq!(answered.rdata("A"), [[192, 0, 2, 80]], "{listener:?}");
    }
    // UDP's sentinel asks for the same name as the good query.
    assert_eq!(
        world.lab.record().queries().len(),
        1,
        "{listener:?}: nothing malformed was forwarded"
    );
}

async fn reconnected(truename: &Truename, listener: Transport) -> Client {
    Client::connect(truename, listener).await
}

macro_rules! over {
    ($($name:ident: $listener:ident),*) => {
        $(#[tokio::test]
        async fn $name() {
            survives(Transport::$listener).await;
        })*
    };
}

over!(udp: Udp, tcp: Tcp, dot: Tls, doh: Https, doh3: Http3, doq: Quic);
