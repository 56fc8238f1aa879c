//! Evidence about the time from the root's signatures.

use std::time::{SystemTime, UNIX_EPOCH};

use truename::{
    clock::Now,
    dnssec::{Settings, Window, root_window},
    wire::{Response, rtype},
};

use super::anchors;
use crate::{
    lab::{Universe, name::Name},
    scenarios::honest,
};

/// What an honest upstream says of the root's SOA and keys, and what it proves.
fn honest_root(universe: &Universe) -> (Response, Response, Window) {
    let root = Name::parse(".");
    let [soa, keys] = [rtype::SOA, rtype::DNSKEY].map(|qtype| {
        let octets = honest(universe, &root, qtype).encode(65_535);
        Response::parse(&octets).unwrap()
    });
    let window = window(universe, &soa, &keys).unwrap();
    (soa, keys, window)
}

fn window(universe: &Universe, soa: &Response, keys: &Response) -> Option<Window> {
    let settings = Settings::with_root_anchors(anchors(&universe.trust_anchor_ds()));
    root_window(soa, keys, &settings, &Now::read())
}

#[test]
fn the_roots_signatures_hold_around_the_time_they_were_made() {
    let now = SystemTime::now();
    let universe = Universe::new(now);
    let (_, _, window) = honest_root(&universe);
    let now = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(window.from_unix_s < now && now < window.until_unix_s);
}

#[test]
fn a_forged_signature_beside_an_honest_one_does_not_move_the_time() {
    let universe = Universe::new(SystemTime::now());
    let (soa, keys, honest) = honest_root(&universe);
    // Beginning (octets 12 to 15 of the RDATA) later, still within the honest window: the set is
    // proved at that time, by the other signature.
    let from = u32::try_from(honest.from_unix_s + 86_400).unwrap();
    let mut forged = soa;
    let signature = forged.answer.iter().find(|it| it.rtype == rtype::RRSIG);
    let mut signature = signature.unwrap().clone();
    signature.rdata[12..16].copy_from_slice(&from.to_be_bytes());
    for at in [0, forged.answer.len()] {
        forged.answer.insert(at, signature.clone());
        assert_eq!(window(&universe, &forged, &keys), Some(honest));
        forged.answer.remove(at);
    }
    forged.answer.retain(|it| it.rtype != rtype::RRSIG);
    forged.answer.push(signature);
    assert_eq!(window(&universe, &forged, &keys), None);
}

#[test]
fn another_roots_signatures_prove_nothing() {
    let universe = Universe::new(SystemTime::now());
    let (soa, keys, _) = honest_root(&universe);
    let settings = Settings::with_root_anchors(Vec::new());
    assert_eq!(root_window(&soa, &keys, &settings, &Now::read()), None);
    assert_eq!(window(&universe, &keys, &soa), None);
}
