//! Upstream messages made to hurt whoever reads or forwards them.

use crate::{
    lab::{
        Ask, Transport,
        faults::Override,
        message::{Query, Record, Response},
        name::wire,
    },
    support::{Client, STUCK, World},
};

fn record(owner: &str, rtype: u16, rdata: &[u8]) -> Record {
    Record {
        owner: wire(owner),
        rtype,
        ttl_s: 60,
        rdata: rdata.to_vec(),
    }
}

/// RDATA of a wrong length for its type never leaves as it came: dropped, or the whole answer.
#[tokio::test]
async fn records_that_do_not_parse_are_not_forwarded() {
    let name = "bad.secure.com";
    for (rtype, rdata) in [
        ("A", &b"\xc0\0\x02"[..]),
        ("A", b"\xc0\0\x02\x01\x01"),
        ("A", b""),
        ("AAAA", b"\x20\x01\x0d\xb8"),
        ("MX", b"\0"),
        ("MX", b"\0\x0a"),
        ("MX", b"\0\x0a\x3fshort"),
        ("CNAME", b"\x05ab"),
        ("SOA", b"\0\0\0\0"),
        ("SRV", b"\0\0\0\0\0"),
        ("TXT", b"\xffcut"),
        ("CNAME", b"\x40name\0"),
    ] {
        let world = World::start(Transport::Tls).await;
        let forged = record(name, crate::lab::rdata::type_number(rtype), rdata);
        world
            .lab
            .faults()
            .edit_answer(name, rtype, move |response| {
                response.rcode = 0;
                response.authority.clear();
                response.answer = vec![forged.clone()];
            });
        let answered = world.ask(Transport::Tcp, &Ask::new(name, rtype)).await;
        let mut records = answered.sections.iter().flatten();
        let forwarded = records.any(|found| found.rdata == rdata);
        assert!(!forwarded, "{rtype} {rdata:02x?}: {answered:?}");
    }
}

#[tokio::test]
async fn huge_and_twisted_answers_are_read_in_time() {
    let many_owners = |response: &mut Response| {
        for number in 0..2400 {
            let owner = format!("n{number}.a.b.c.d.e.f.secure.com");
            response.answer.push(record(&owner, 1, &[192, 0, 2, 1]));
        }
    };
    let one_owner = |response: &mut Response| {
        for number in 0..3000_u16 {
            let [high, low] = number.to_be_bytes();
            response
                .answer
                .push(record("big.secure.com", 1, &[192, 1, high, low]));
        }
    };
    for (what, make) in [
        (
            "2400 owners",
            Box::new(many_owners) as Box<dyn Fn(&mut Response) + Send + Sync>,
        ),
        ("3000 records", Box::new(one_owner)),
    ] {
        let world = World::start(Transport::Tls).await;
        world
            .lab
            .faults()
            .edit_answer("big.secure.com", "A", move |response| {
                response.rcode = 0;
                response.authority.clear();
                response.answer.clear();
                make(response);
            });
        let big = world
            .ask(Transport::Tcp, &Ask::new("big.secure.com", "A"))
            .await;
        assert!(big.octets.len() <= 65_535, "{what}");
        let other = world
            .ask(Transport::Udp, &Ask::new("www.secure.com", "A"))
            .await;
        assert_eq!(other.rdata("A"), [[192, 0, 2, 80]], "{what}");
    }
}

/// Hundreds of pointers, each to the one before it: legal backwards, but endless to follow.
#[tokio::test]
async fn chained_pointers_end() {
    let world = World::start(Transport::Tcp).await;
    world
        .lab
        .faults()
        .answer_with("chain.secure.com", "TXT", |query: &Query, _| {
            let mut octets = query.id.to_be_bytes().to_vec();
            octets.extend([0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0]);
            octets.extend(&query.question);
            octets.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 9]);
            let pointers = 600_u16;
            octets.extend((pointers * 2).to_be_bytes());
            let mut target = 12_usize;
            for _ in 0..pointers {
                let here = octets.len();
                octets.extend((0xc000 | u16::try_from(target).unwrap()).to_be_bytes());
                target = here;
            }
            octets.extend((0xc000 | u16::try_from(target).unwrap()).to_be_bytes());
            octets.extend([0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
            Override::Raw(octets)
        });
    let answered = world
        .ask(Transport::Tcp, &Ask::new("chain.secure.com", "TXT"))
        .await;
    assert_eq!(answered.rcode, 2);
    assert!(answered.answer().is_empty());
}

/// TSIG, SIG(0), TKEY, NOTIFY and UPDATE are met locally and change nothing.
#[tokio::test]
async fn transactions_are_refused_and_leave_the_cache_alone() {
    let world = World::start(Transport::Tls).await;
    let kept = Ask::new("www.secure.com", "A").id(0);
    for listener in Transport::ALL {
        let mut client = Client::connect(&world.truename, listener).await;
        assert_eq!(client.ask(&kept).await.rdata("A"), [[192, 0, 2, 80]]);
        let bare = kept.clone().udp_octets(None).encode();
        for (what, opcode) in [("NOTIFY", 4), ("UPDATE", 5)] {
            let mut octets = bare.clone();
            octets[2] = opcode << 3 | 4;
            assert_eq!(
                client.send(&octets).await.rcode(),
                Some(4),
                "{what}, {listener:?}"
            );
        }
        for rtype in [250, 24] {
            let mut octets = bare.clone();
            octets[11] = 1;
            octets.extend([0, 0, rtype, 0, 255, 0, 0, 0, 0, 0, 0]);
            let outcome = client.send(&octets).await;
            assert_eq!(outcome.rcode(), Some(5), "type {rtype}, {listener:?}");
        }
        assert_eq!(client.ask(&kept).await.rdata("A"), [[192, 0, 2, 80]]);
    }
    assert_eq!(
        world.lab.record().queries().len(),
        1,
        "asked once, kept ever since"
    );
}

/// Long option lists cost no more than short ones, on whatever connection they come.
#[tokio::test]
async fn option_floods_are_answered_or_closed_at_once() {
    let world = World::start(Transport::Tls).await;
    for listener in Transport::ALL {
        for (count, option) in [
            (15_000, &b"\0\x03\0\0"[..]),
            (900, b"\0\x03\0\0"),
            (100, b"\0\x0a\0\x08abcdefgh"),
        ] {
            let mut client = Client::connect(&world.truename, listener).await;
            let options = option.repeat(count);
            let mut octets = Ask::new("www.secure.com", "A")
                .id(0)
                .udp_octets(None)
                .encode();
            octets[11] = 1;
            octets.extend([0, 0, 41, 4, 208, 0, 0, 0, 0]);
            octets.extend(u16::try_from(options.len()).unwrap().to_be_bytes());
            octets.extend(options);
            let begun = std::time::Instant::now();
            let outcome = client.send(&octets).await;
            assert!(begun.elapsed() < STUCK, "{outcome:?}");
            let mut client = Client::connect(&world.truename, listener).await;
            let answered = client.ask(&Ask::new("www.secure.com", "A")).await;
            assert_eq!(answered.rdata("A"), [[192, 0, 2, 80]], "{listener:?}");
        }
    }
}
