//! `truename query --explain`: the chain of trust from the root to the answer, as a tree for
//! people and as JSON for programs.

mod draw;
mod json;
mod words;

#[cfg(test)]
mod tests;

pub(super) use draw::write_text;
pub(super) use json::{json, reason_json};

use crate::{
    dnssec::{Ds, InspectedKey, InspectedSet, Settings, inspect_key},
    resolver::explain::{ExplainedZone, Explanation},
    wire::{Name, rtype},
};

/// The zone among `zones` that a set belongs to: its signer, else the closest one around its
/// owner. DS records belong to the parent.
fn home(zones: &[ExplainedZone], set: &InspectedSet) -> Option<usize> {
    let mut signers = set.signatures.iter().map(|signature| &signature.signer);
    let by_signer = signers.find_map(|signer| zones.iter().position(|zone| zone.name == *signer));
    by_signer.or_else(|| {
        let parent_side = set.rtype == rtype::DS;
        closest(zones, &set.owner, parent_side)
    })
}

/// The zone closest around `name`; with `above`, not at it.
fn closest(zones: &[ExplainedZone], name: &Name, above: bool) -> Option<usize> {
    let around = zones.iter().enumerate().filter(|(_, zone)| {
        name.is_within(&zone.name) && !(above && zone.name == *name && !name.is_root())
    });
    around
        .max_by_key(|(_, zone)| zone.name.label_count())
        .map(|(place, _)| place)
}

/// The sets that the answer is made of, in the order of the chain of aliases; and the proofs.
fn answer_sets(explanation: &Explanation) -> (Vec<&InspectedSet>, Vec<&InspectedSet>) {
    let looked = || {
        let links = explanation.links.iter();
        links.filter_map(|link| link.looked.as_ref())
    };
    let answer = looked().flat_map(|looked| &looked.inspected.answer);
    let proof = looked().flat_map(|looked| &looked.inspected.authority);
    let proof = proof.filter(|set| is_proof(set) || set.rtype == rtype::SOA);
    (answer.collect(), proof.collect())
}

/// Whether a set is there to prove that something is not.
fn is_proof(set: &InspectedSet) -> bool {
    matches!(set.rtype, rtype::NSEC | rtype::NSEC3)
}

/// The DS and anchors that lead to a zone's keys.
fn pointers(zone: &ExplainedZone) -> Vec<Ds> {
    let sets = zone.ds.iter().flat_map(|looked| &looked.inspected.answer);
    let records = sets
        .filter(|set| set.rtype == rtype::DS && set.owner == zone.name)
        .flat_map(|set| &set.records);
    let from_parent = records.filter_map(|record| Ds::parse(&record.rdata));
    // An anchor stands in for what the parent says.
    if zone.anchors.is_empty() {
        from_parent.collect()
    } else {
        zone.anchors.clone()
    }
}

/// The zone's DNSKEY set, if its response has one.
fn key_set(zone: &ExplainedZone) -> Option<&InspectedSet> {
    let mut sets = zone.dnskey.as_ref()?.inspected.answer.iter();
    sets.find(|set| set.rtype == rtype::DNSKEY && set.owner == zone.name)
}

/// The zone's keys, held against DS records; `None` when they are not known.
fn keys_of(zone: &ExplainedZone, ds_set: &[Ds], settings: &Settings) -> Option<Vec<InspectedKey>> {
    let records = key_set(zone)?.records.iter();
    let keys = records.filter_map(|key| inspect_key(&zone.name, &key.rdata, ds_set, settings));
    Some(keys.collect())
}

/// What the zone uses a key for, as people call it.
const fn role(key: &InspectedKey) -> &'static str {
    match (key.zone, key.secure_entry) {
        (true, true) => "KSK",
        (true, false) => "ZSK",
        (false, _) => "no zone key",
    }
}
