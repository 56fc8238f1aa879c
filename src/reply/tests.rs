use super::*;
use crate::{
    cache::{Fill, Stored},
    wire::{Records, rcode},
};

const NAME: &[u8] = b"\x03wWw\x07example\x03com\x00";

/// A query for `wWw.example.com. A`; flags, payload size and options of the OPT record if any.
fn query(flags: u16, edns: Option<(u16, bool, &[u8])>) -> Vec<u8> {
    let mut octets = vec![0xab, 0xcd];
    octets.extend_from_slice(&flags.to_be_bytes());
    octets.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())]);
    octets.extend_from_slice(NAME);
    octets.extend_from_slice(&[0, 1, 0, 1]);
    if let Some((payload, dnssec_ok, options)) = edns {
        octets.extend_from_slice(&[0, 0, 41]);
        octets.extend_from_slice(&payload.to_be_bytes());
        octets.extend_from_slice(&[0, 0, if dnssec_ok { 0x80 } else { 0 }, 0]);
        octets.extend_from_slice(&u16::try_from(options.len()).unwrap().to_be_bytes());
        octets.extend_from_slice(options);
    }
    octets
}

/// `count` address records of the question's name with a TTL of 300 seconds.
fn records(count: u16) -> Records {
    let mut records = Records {
        answers: count,
        ..Records::default()
    };
    for _ in 0..count {
        records
            .octets
            .extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0x2c, 0, 4, 192, 0, 2, 1]);
    }
    records
}

fn stored(count: u16, secure: bool, stored_s: u32) -> Stored {
    let records = records(count);
    let fill = Fill {
        rcode: 0,
        ttl_s: 300,
        secure,
        signed_s: 0,
        ends: false,
        failure: None,
        extended_error: None,
        with_dnssec: &records,
        plain: &records,
    };
    Stored::pack(b"key", &fill, stored_s).unwrap()
}

fn client(transport: Transport) -> Client {
    Client {
        address: "127.0.0.1:4000".parse().unwrap(),
        transport,
    }
}

fn reply(query: &[u8], transport: Transport, stored: &Stored, now: &Now) -> (Vec<u8>, Answer) {
    let settings = Settings {
        idle: Duration::from_secs(30),
        cookie_secret: [7; 16],
    };
    let mut out = Vec::new();
    let query = Query::peek(query).unwrap();
    let said = answer(
        &settings,
        &query,
        &client(transport),
        &stored.entry(),
        now,
        &mut out,
    );
    (out, said)
}

#[test]
fn id_question_and_flags_are_the_clients() {
    let now = Now::read();
    let (out, _) = reply(
        &query(0x0110, None),
        Transport::Udp,
        &stored(1, false, now.uptime_s),
        &now,
    );
    assert_eq!(out[..4], [0xab, 0xcd, 0x81, 0x90]);
    assert_eq!(out[4..12], [0, 1, 0, 1, 0, 0, 0, 0]);
    assert_eq!(out[12..29], *NAME);
    assert_eq!(out.len(), 12 + 17 + 4 + 16);
}

#[test]
fn ttls_age_and_never_wrap() {
    let now = Now::read();
    let stored = stored(2, false, now.uptime_s);
    let ttl = |seconds| {
        let later = now.plus(Duration::from_secs(seconds));
        let (out, said) = reply(&query(0x0100, None), Transport::Tcp, &stored, &later);
        let first = u32::from_be_bytes(*out[39..].first_chunk().unwrap());
        let second = u32::from_be_bytes(*out[55..].first_chunk().unwrap());
        assert_eq!(first, second);
        assert_eq!(first, said.ttl_s);
        first
    };
    assert_eq!(ttl(0), 300);
    assert_eq!(ttl(299), 1);
    assert_eq!(ttl(100_000), 0);
}

#[test]
fn ad_is_for_secure_answers_and_those_who_ask() {
    let now = Now::read();
    let ad = |flags, edns, secure| {
        let (out, _) = reply(
            &query(flags, edns),
            Transport::Tcp,
            &stored(1, secure, now.uptime_s),
            &now,
        );
        out[3] & 0x20 != 0
    };
    assert!(ad(0x0120, None, true));
    assert!(ad(0x0100, Some((1232, true, &[][..])), true));
    assert!(!ad(0x0100, Some((1232, false, &[][..])), true));
    assert!(!ad(0x0120, Some((1232, true, &[][..])), false));
}

#[test]
fn datagrams_keep_the_clients_limit_and_1232() {
    let now = Now::read();
    let octets = |payload: Option<u16>, count, transport| {
        let edns = payload.map(|payload| (payload, false, &[][..]));
        let (out, _) = reply(
            &query(0x0100, edns),
            transport,
            &stored(count, false, now.uptime_s),
            &now,
        );
        (
            out.len(),
            out[2] & 0x02 != 0,
            u16::from_be_bytes([out[6], out[7]]),
        )
    };
    // 33 octets without records, 11 of OPT, 16 a record.
    assert_eq!(octets(None, 29, Transport::Udp), (33 + 29 * 16, false, 29));
    assert_eq!(octets(None, 30, Transport::Udp), (33, true, 0));
    assert_eq!(
        octets(Some(100), 29, Transport::Udp),
        (44 + 29 * 16, false, 29)
    );
    assert_eq!(
        octets(Some(65_535), 74, Transport::Udp),
        (44 + 74 * 16, false, 74)
    );
    assert_eq!(octets(Some(65_535), 75, Transport::Udp), (44, true, 0));
    assert_eq!(octets(None, 75, Transport::Tcp), (33 + 75 * 16, false, 75));
}

#[test]
fn an_opt_record_comes_only_when_asked_and_copies_do() {
    let now = Now::read();
    let stored = stored(0, false, now.uptime_s);
    let (out, _) = reply(
        &query(0x0100, Some((4096, true, b"\x00\x0b\x00\x00"))),
        Transport::Udp,
        &stored,
        &now,
    );
    assert_eq!(out[33..], [0, 0, 41, 0x04, 0xd0, 0, 0, 0x80, 0, 0, 0]);
    let (out, _) = reply(&query(0x0100, None), Transport::Udp, &stored, &now);
    assert_eq!(out.len(), 33);
}

#[test]
fn keep_alive_is_told_on_streams() {
    let now = Now::read();
    let stored = stored(0, false, now.uptime_s);
    let (out, _) = reply(
        &query(0x0100, Some((4096, false, b"\x00\x0b\x00\x00"))),
        Transport::Tls,
        &stored,
        &now,
    );
    assert_eq!(out[42..], [0, 6, 0, 11, 0, 2, 1, 0x2c]);
}

#[test]
fn padding_fills_blocks_of_468_on_encrypted_transports() {
    let now = Now::read();
    let padded = query(0x0100, Some((4096, false, b"\x00\x0c\x00\x00")));
    for count in [0, 1, 26, 27, 28, 80] {
        let stored = stored(count, false, now.uptime_s);
        for transport in [
            Transport::Tls,
            Transport::Https,
            Transport::Http3,
            Transport::Quic,
        ] {
            let (out, _) = reply(&padded, transport, &stored, &now);
            assert_eq!(out.len() % 468, 0, "{count} records");
        }
        let (out, _) = reply(&padded, Transport::Tcp, &stored, &now);
        assert_eq!(out.len(), 44 + usize::from(count) * 16);
        let (out, _) = reply(
            &query(0x0100, Some((4096, false, b""))),
            Transport::Tls,
            &stored,
            &now,
        );
        assert_eq!(out.len(), 44 + usize::from(count) * 16);
    }
}

#[test]
fn a_cookie_is_answered_with_the_servers_part() {
    let now = Now::read();
    let stored = stored(0, false, now.uptime_s);
    let (out, _) = reply(
        &query(0x0100, Some((4096, false, b"\x00\x0a\x00\x08clientco"))),
        Transport::Udp,
        &stored,
        &now,
    );
    assert_eq!(out[42..48], [0, 28, 0, 10, 0, 24]);
    assert_eq!(out[48..56], *b"clientco");
    assert_eq!(out.len(), 72);
}

#[test]
fn failures_say_why() {
    let settings = Settings::new(Duration::from_secs(1));
    let mut out = Vec::new();
    let asked = query(0x0100, Some((4096, false, b"")));
    let query = Query::peek(&asked).unwrap();
    let why = Failure::Upstream("é".repeat(200));
    failure(
        &settings,
        &query,
        &client(Transport::Udp),
        &why,
        &Now::read(),
        &mut out,
    );
    assert_eq!(out[3] & 0x0f, 2);
    assert_eq!(out[44..50], [0, 15, 0, 162, 0, 23]);
    assert!(std::str::from_utf8(&out[50..]).is_ok());
}

#[test]
fn faults_are_answered_without_records() {
    let mut asked = query(0x0100, Some((4096, false, b"")));
    asked[39] = 1; // EDNS version 1
    let why = Query::peek(&asked).unwrap_err();
    let mut out = Vec::new();
    assert!(fault(&asked, why, &mut out));
    assert_eq!(out[..12], [0xab, 0xcd, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 1]);
    assert_eq!(out[33..], [0, 0, 41, 0x04, 0xd0, 1, 0, 0, 0, 0, 0]);
    out.clear();
    let short = [0xab, 0xcd, 0x28, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    assert!(fault(&short, Query::peek(&short).unwrap_err(), &mut out));
    assert_eq!(out, [0xab, 0xcd, 0xa8, 0x84, 0, 0, 0, 0, 0, 0, 0, 0]);
    out.clear();
    assert!(!fault(&[1, 2], Fault::NotAQuery, &mut out));
    assert_eq!(u16::from(out.is_empty()), 1 + rcode::NOERROR);
}
