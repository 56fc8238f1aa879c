//! A revocation as BIND's dnssec-revoke and dnssec-signzone make it.

use data_encoding::BASE64;
use ring::digest::{SHA384, digest};

use super::lab::{date, name, seed, state};
use crate::{
    anchors::{Event, Keeper, Key, NotObserved, Source, times},
    dnssec::{Ds, Settings, ds_of_key, key_tag},
    wire::{CLASS_IN, Question, Record, Response, rtype},
};

const ZSK: &str = "256 3 13 /S/GBXicr3hSFT6lC4jOOIlaTvf+1uR6RnQihnUm6QXWZ5+zoi5+GD7b\
                   5QwrdcUc2fEcpm+pKSTgF9ZOOZIzJQ==";
const NEW: &str = "257 3 15 byHO1x/KFGGAEt7ZIjt3lTpJRiYQvBwZVzJymCeX4zY=";
const OLD: &str = "257 3 13 09SUcpPg39z9dAaWob5s1Q8kTEUc4s9d+CxZ03sfvntl/Xk3kcSPcuca\
                   5k/Bi8pVCN6CDVjUgQxOA99+DXDHTA==";
const OLD_REVOKED: &str = "385 3 13 09SUcpPg39z9dAaWob5s1Q8kTEUc4s9d+CxZ03sfvntl/Xk3kcSPcuca\
                           5k/Bi8pVCN6CDVjUgQxOA99+DXDHTA==";
/// Algorithm, key tag and signature over the DNSKEY set of `ZSK`, `NEW` and `OLD_REVOKED`.
const SIGNATURES: [(u8, u16, &str); 3] = [
    (
        13,
        14846,
        "yHAvXBgyGeteJ+qvLFTPtbkk1LB0G2yUU6rECADKOvl+QfPXBADlPCV/\
         GJJz9Sd3ZLreV5iBCSEnjv0tf7G4+A==",
    ),
    (
        13,
        34618,
        "OmvPDdYTwKC7H4YBAIDCLeqqz394IZTXfT8Kz1Tuza3X5aGo7XrSAi04\
         bBs+qgrKVbb1pfvShCch4XU6zT9Ixg==",
    ),
    (
        15,
        61646,
        "WYDtw+WIPwaVrTjM6agA20FyjtWGOvw5HQbD+g3ge+Ldh7X6CL0HBWO+\
         ahXPJzlxjbYqq2pQvxnTJBAwrHyvCA==",
    ),
];
const ZONE: &str = "island.example";

fn rdata(fields: &str) -> Box<[u8]> {
    let fields: Vec<&str> = fields.split(' ').collect();
    match Key::parse_any("DNSKEY", &fields).unwrap() {
        Key::Dnskey(rdata) => rdata,
        Key::Ds(_) => unreachable!(),
    }
}

/// The zone's DNSKEY response with the signatures of these keys.
fn response(signers: &[u16]) -> Response {
    let zone = name(ZONE);
    let record = |rtype, rdata: &[u8]| Record {
        owner: zone.clone(),
        rtype,
        class: CLASS_IN,
        ttl_s: 3600,
        rdata: Box::from(rdata),
    };
    let mut answer: Vec<Record> = [ZSK, NEW, OLD_REVOKED]
        .iter()
        .map(|fields| record(rtype::DNSKEY, &rdata(fields)))
        .collect();
    for (algorithm, tag, signature) in SIGNATURES {
        if !signers.contains(&tag) {
            continue;
        }
        let mut rrsig = rtype::DNSKEY.to_be_bytes().to_vec();
        rrsig.extend_from_slice(&[algorithm, 2]);
        rrsig.extend_from_slice(&3600_u32.to_be_bytes());
        for time in ["2036-11-01T00:00:00Z", "2026-11-01T00:00:00Z"] {
            let time = u32::try_from(times::from_text(time).unwrap()).unwrap();
            rrsig.extend_from_slice(&time.to_be_bytes());
        }
        rrsig.extend_from_slice(&tag.to_be_bytes());
        rrsig.extend_from_slice(zone.as_wire());
        rrsig.extend_from_slice(&BASE64.decode(signature.as_bytes()).unwrap());
        answer.push(record(rtype::RRSIG, &rrsig));
    }
    Response {
        rcode: 0,
        truncated: false,
        question: Question {
            name: zone.clone(),
            qtype: rtype::DNSKEY,
            qclass: CLASS_IN,
        },
        answer,
        authority: Vec::new(),
        extended_errors: Vec::new(),
    }
}

fn observe(keeper: &mut Keeper, signers: &[u16]) -> Result<Vec<Event>, NotObserved> {
    let settings = Settings::with_root_anchors(Vec::new());
    let now_s = date("2026-12-01");
    let changes = keeper.observe(&name(ZONE), &response(signers), &settings, now_s)?;
    Ok(changes.into_iter().map(|change| change.event).collect())
}

fn keeper(keys: &[&str]) -> Keeper {
    let zone = name(ZONE);
    let mut keeper = Keeper::new(0);
    let seeds: Vec<_> = keys
        .iter()
        .map(|fields| {
            // Written down as DS, so that the key is known by its digest only.
            let mut seed = seed(&zone, &rdata(fields));
            seed.key = Key::Ds(ds_of_key(&zone, &rdata(fields)).unwrap());
            seed
        })
        .collect();
    keeper.seed(&seeds, Source::Configured, date("2026-11-20"));
    keeper
}

#[test]
fn revoking_moves_the_tag_by_128() {
    assert_eq!(key_tag(&rdata(OLD)), 34490);
    assert_eq!(key_tag(&rdata(OLD_REVOKED)), 34618);
}

#[test]
fn revocation_is_understood_from_a_ds_anchor() {
    let mut keeper = keeper(&[OLD, NEW]);
    let events = observe(&mut keeper, &[14846, 34618, 61646]);
    assert_eq!(events, Ok(vec![Event::Revoked]));
    let zone = name(ZONE);
    assert_eq!(
        keeper.anchors()[&zone],
        [ds_of_key(&zone, &rdata(NEW)).unwrap()]
    );
    // From now on the whole key is known, whatever digest a later seed has.
    let mut again = seed(&zone, &rdata(OLD));
    let digested = [zone.as_wire(), &rdata(OLD)].concat();
    again.key = Key::Ds(Ds {
        key_tag: 34490,
        algorithm: 13,
        digest_type: 4,
        digest: Box::from(digest(&SHA384, &digested).as_ref()),
    });
    let changes = keeper.seed(&[again], Source::Configured, date("2026-12-02"));
    assert!(
        changes
            .iter()
            .any(|change| change.event == Event::SeedRevoked)
    );
}

#[test]
fn revocation_without_any_other_anchor_closes_the_zone() {
    let mut keeper = keeper(&[OLD]);
    let events = observe(&mut keeper, &[14846, 34618, 61646]);
    assert_eq!(events, Ok(vec![Event::Revoked, Event::NoneLeft]));
    assert_eq!(state(&keeper, &name(ZONE), &rdata(NEW)), None);
}

#[test]
fn the_bit_without_the_key_s_own_signature_revokes_nothing() {
    let mut keeper = keeper(&[OLD, NEW]);
    // Proved by the new key: the old one is not there in a form that counts.
    assert_eq!(observe(&mut keeper, &[61646]), Ok(vec![Event::Missing]));
    // Signed by the zone's other keys only: nothing is proved.
    let refused = observe(&mut keeper, &[14846]);
    assert!(matches!(refused, Err(NotObserved::NotProved(_))));
}
