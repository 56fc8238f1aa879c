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
    dnssec::InspectedSet,
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
