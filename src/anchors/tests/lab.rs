//! Keys, sets and a clock that is moved by hand.

use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::{
    anchors::{self, Change, Event, Keeper, Key, Seed, Source, State},
    dnssec::{Ds, ProvedKeys, SeenKey, ds_of_key, key_tag},
    wire::{CLASS_IN, Name, Question, Record, Response, rtype},
};

pub(super) const DAY_S: u64 = 86_400;

pub(super) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// The moment a text such as `2026-10-11` names, at midnight.
pub(super) fn date(text: &str) -> u64 {
    anchors::times::from_text(&format!("{text}T00:00:00Z")).unwrap()
}

/// The root's real keys, from `root.key`.
pub(super) fn root_keys() -> [Box<[u8]>; 2] {
    let text = include_str!("../../../trust-anchors/root.key");
    let seeds = anchors::parse("root.key".as_ref(), text).unwrap();
    let keys: Vec<Box<[u8]>> = seeds
        .into_iter()
        .map(|seed| match seed.key {
            Key::Dnskey(rdata) => rdata,
            Key::Ds(_) => panic!("root.key has a DS"),
        })
        .collect();
    keys.try_into().unwrap()
}

/// The same key with the REVOKE bit.
pub(super) fn revoked(rdata: &[u8]) -> Box<[u8]> {
    let mut rdata: Box<[u8]> = Box::from(rdata);
    rdata[1] |= 0x80;
    rdata
}

pub(super) fn seed(zone: &Name, rdata: &[u8]) -> Seed {
    Seed {
        zone: zone.clone(),
        key: Key::Dnskey(Box::from(rdata)),
        valid_from_s: None,
        valid_until_s: None,
    }
}

/// A set that is proved by an anchor; revoked keys in it have signed it.
pub(super) fn proved(zone: &Name, keys: &[&[u8]]) -> ProvedKeys {
    assumed(zone, true, keys)
}

pub(super) fn assumed(zone: &Name, by_anchor: bool, keys: &[&[u8]]) -> ProvedKeys {
    let keys = keys
        .iter()
        .map(|rdata| SeenKey {
            rdata: Box::from(*rdata),
            eligible: rdata[1] & 0x81 == 0x01,
            revoked: rdata[1] & 0x80 != 0,
        })
        .collect();
    ProvedKeys::assumed(zone.clone(), by_anchor, keys, 172_800, 1_814_400)
}

/// A keeper that has one zone with these keys at this time.
pub(super) fn keeper(zone: &Name, keys: &[&[u8]], now_s: u64) -> Keeper {
    let mut keeper = Keeper::new(0);
    let seeds: Vec<Seed> = keys.iter().map(|rdata| seed(zone, rdata)).collect();
    keeper.seed(&seeds, Source::Configured, now_s);
    keeper
}

/// The state of the key of `zone` with this RDATA.
pub(super) fn state(keeper: &Keeper, zone: &Name, rdata: &[u8]) -> Option<State> {
    let (_, point) = keeper.points().find(|(name, _)| *name == zone)?;
    let tracked = point
        .keys
        .iter()
        .find(|tracked| tracked.key.names(zone, rdata))?;
    Some(tracked.state)
}

/// The tags of the anchors the validator gets for `zone`.
pub(super) fn tags(keeper: &Keeper, zone: &Name) -> Vec<u16> {
    let mut tags: Vec<u16> = keeper.anchors()[zone].iter().map(|ds| ds.key_tag).collect();
    tags.sort_unstable();
    tags
}

pub(super) fn events(changes: &[Change]) -> Vec<(Option<u16>, Event)> {
    changes
        .iter()
        .map(|change| (change.key_tag, change.event))
        .collect()
}

/// An Ed25519 key that can sign.
pub(super) struct Signer {
    pair: Ed25519KeyPair,
    pub(super) rdata: Vec<u8>,
}

impl Signer {
    pub(super) fn new(seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let mut rdata = vec![1, 1, 3, 15];
        rdata.extend_from_slice(pair.public_key().as_ref());
        Self { pair, rdata }
    }

    /// The same key, revoked.
    pub(super) fn revoked(seed: u8) -> Self {
        let mut signer = Self::new(seed);
        signer.rdata[1] |= 0x80;
        signer
    }

    pub(super) fn ds(&self, zone: &Name) -> Ds {
        ds_of_key(zone, &self.rdata).unwrap()
    }

    fn rrsig(&self, zone: &Name, keys: &[&[u8]], now_s: u64) -> Vec<u8> {
        let labels = u8::try_from(zone.label_count()).unwrap();
        let mut head = rtype::DNSKEY.to_be_bytes().to_vec();
        head.extend_from_slice(&[15, labels]);
        head.extend_from_slice(&TTL_S.to_be_bytes());
        for time in [now_s + 21 * DAY_S, now_s - DAY_S] {
            head.extend_from_slice(&u32::try_from(time).unwrap().to_be_bytes());
        }
        head.extend_from_slice(&key_tag(&self.rdata).to_be_bytes());
        head.extend_from_slice(zone.as_wire());
        let mut message = head.clone();
        let mut sorted = keys.to_vec();
        sorted.sort_unstable();
        for rdata in sorted {
            message.extend_from_slice(zone.as_wire());
            message.extend_from_slice(&rtype::DNSKEY.to_be_bytes());
            message.extend_from_slice(&CLASS_IN.to_be_bytes());
            message.extend_from_slice(&TTL_S.to_be_bytes());
            message.extend_from_slice(&u16::try_from(rdata.len()).unwrap().to_be_bytes());
            message.extend_from_slice(rdata);
        }
        head.extend_from_slice(self.pair.sign(&message).as_ref());
        head
    }
}

const TTL_S: u32 = 172_800;

/// A response with these keys, signed by those at this time.
pub(super) fn response(zone: &Name, keys: &[&Signer], signers: &[&Signer], now_s: u64) -> Response {
    let rdata: Vec<&[u8]> = keys.iter().map(|key| key.rdata.as_slice()).collect();
    let record = |rtype, rdata: &[u8]| Record {
        owner: zone.clone(),
        rtype,
        class: CLASS_IN,
        ttl_s: 60,
        rdata: Box::from(rdata),
    };
    let mut answer: Vec<Record> = rdata
        .iter()
        .map(|rdata| record(rtype::DNSKEY, rdata))
        .collect();
    for signer in signers {
        answer.push(record(rtype::RRSIG, &signer.rrsig(zone, &rdata, now_s)));
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
