//! A response looked at once more, for people: which sets it has, who signed them, when, and what
//! each signature is worth with the keys known now. Gives no verdict, and none rests on it.

use crate::{
    clock::Now,
    wire::{Name, Record, Response, rtype},
};

use super::{
    keys::{KeyCache, ZoneKeys, ZoneStatus},
    limits::Budget,
    rdata::{Dnskey, FLAG_REVOKE, FLAG_ZONE, Rrsig, key_tag},
    rrset::{RrSet, Sections},
    settings::Settings,
    signature::{self, When},
    trust_point::{FLAG_SEP, ds_fits_key, key_usable},
    verdict::Why,
};

/// One RRset of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedSet {
    /// The owner of the records.
    pub owner: Name,
    /// Their type.
    pub rtype: u16,
    /// The records as received.
    pub records: Vec<Record>,
    /// The signatures that cover them.
    pub signatures: Vec<InspectedSignature>,
}

/// One RRSIG and its worth (RFC 4034, section 3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedSignature {
    /// The zone that is said to have made it.
    pub signer: Name,
    /// The tag of the key that is said to have made it.
    pub key_tag: u16,
    /// The algorithm of that key.
    pub algorithm: u8,
    /// When it begins to hold, in seconds since 1970 modulo 2^32.
    pub inception: u32,
    /// When it ends to hold, likewise.
    pub expiration: u32,
    /// What it is worth.
    pub worth: Worth,
    /// The wildcard that the records came out of, by this signature.
    pub wildcard: Option<Name>,
}

/// What a signature is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It was made over these records by an authenticated key, and holds now.
    Good,
    /// Nothing is wrong with it as far as can be seen, but no authenticated key is there to check
    /// it with.
    Unproved,
    /// It does not count.
    Bad(Why),
}

/// One DNSKEY (RFC 4034, section 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedKey {
    /// Its tag.
    pub tag: u16,
    /// Its algorithm.
    pub algorithm: u8,
    /// Whether it may sign zones (ZONE).
    pub zone: bool,
    /// Whether it is meant to be pointed at from above (SEP): a key signing key.
    pub secure_entry: bool,
    /// Whether it revoked itself (RFC 5011).
    pub revoked: bool,
    /// Whether signatures by it can be checked here and count.
    pub usable: bool,
    /// Whether one of the given DS was made from it.
    pub pointed_at: bool,
}

/// The sets of both sections of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspected {
    /// The answer section.
    pub answer: Vec<InspectedSet>,
    /// The authority section.
    pub authority: Vec<InspectedSet>,
}

impl Inspected {
    /// Takes a response apart and holds its signatures against `keys`.
    #[must_use]
    pub fn new(response: &Response, keys: &KeyCache, settings: &Settings, now: &Now) -> Self {
        let sections = Sections::new(response);
        let when = When {
            unix_s: u32::try_from(now.unix_s & u64::from(u32::MAX)).unwrap_or(0),
            skew_s: settings.skew_s,
            sha1: settings.sha1,
        };
        // One budget for all: a hostile zone must not keep a person waiting either.
        let mut budget = Budget::new();
        let mut inspect = |sets: &[RrSet]| -> Vec<InspectedSet> {
            let sets = sets.iter();
            sets.map(|set| inspect_set(set, keys, when, now, &mut budget))
                .collect()
        };
        Self {
            answer: inspect(&sections.answer),
            authority: inspect(&sections.authority),
        }
    }
}

fn inspect_set(
    set: &RrSet,
    keys: &KeyCache,
    when: When,
    now: &Now,
    budget: &mut Budget,
) -> InspectedSet {
    let signatures = set.signatures.iter();
    InspectedSet {
        owner: set.owner.clone(),
        rtype: set.rtype,
        records: set.records.clone(),
        signatures: signatures
            .map(|signature| inspect_signature(set, signature, keys, when, now, budget))
            .collect(),
    }
}

fn inspect_signature(
    set: &RrSet,
    signature: &Rrsig,
    keys: &KeyCache,
    when: When,
    now: &Now,
    budget: &mut Budget,
) -> InspectedSignature {
    let alone = set.with_signature(signature);
    let zone = &signature.signer;
    let mut wildcard = None;
    let worth = if let Some(ZoneStatus::Secure(keys)) = keys.lookup(zone, now) {
        match signature::verify(&alone, keys, when, budget) {
            Ok(validated) => {
                wildcard = validated.wildcard.and_then(|above| above.child(b"*").ok());
                Worth::Good
            }
            Err(reason) => Worth::Bad(reason.why),
        }
    } else {
        // What the set's own keys say of it proves nothing, but shows what is broken.
        let own = set.rtype == rtype::DNSKEY && set.owner == *zone;
        let unproved = ZoneKeys::unproved(zone, own.then_some(set), when.sha1);
        match signature::verify(&alone, &unproved, when, budget) {
            Ok(_) => Worth::Unproved,
            Err(reason) if reason.why == Why::SignatureWithoutKey && !own => Worth::Unproved,
            Err(reason) => Worth::Bad(reason.why),
        }
    };
    InspectedSignature {
        signer: zone.clone(),
        key_tag: signature.key_tag,
        algorithm: signature.algorithm,
        inception: signature.inception,
        expiration: signature.expiration,
        worth,
        wildcard,
    }
}

/// Looks at the RDATA of a DNSKEY of `zone`; `None` when it is cut short.
#[must_use]
pub fn inspect_key(
    zone: &Name,
    rdata: &[u8],
    ds_set: &[super::Ds],
    settings: &Settings,
) -> Option<InspectedKey> {
    let key = Dnskey::parse(rdata)?;
    Some(InspectedKey {
        tag: key_tag(rdata),
        algorithm: key.algorithm,
        zone: key.flags & FLAG_ZONE != 0,
        secure_entry: key.flags & FLAG_SEP != 0,
        revoked: key.flags & FLAG_REVOKE != 0,
        usable: key_usable(rdata, settings.sha1),
        pointed_at: ds_set.iter().any(|ds| ds_fits_key(ds, zone, rdata)),
    })
}
