//! RRsets: the records of one message section, sorted into sets with their signatures.

use std::collections::HashMap;

use crate::wire::{CLASS_IN, Name, Record, Response, rtype};

use super::{canonical, rdata::Rrsig};

/// All records of one owner and type in one section, and the RRSIGs that cover them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RrSet {
    pub(super) owner: Name,
    pub(super) rtype: u16,
    pub(super) class: u16,
    /// The records in the order received, duplicates included.
    pub(super) records: Vec<Record>,
    /// The signatures, sorted and without duplicates, so that the order in which an upstream
    /// sends them cannot change a verdict.
    pub(super) signatures: Vec<Rrsig>,
    /// The signatures as records, in the order received.
    pub(super) signature_records: Vec<Record>,
    canonical: Vec<Vec<u8>>,
}

impl RrSet {
    fn new(owner: Name, rtype: u16) -> Self {
        Self {
            owner,
            rtype,
            class: CLASS_IN,
            records: Vec::new(),
            signatures: Vec::new(),
            signature_records: Vec::new(),
            canonical: Vec::new(),
        }
    }

    /// The same records under one signature alone.
    pub(super) fn with_signature(&self, signature: &Rrsig) -> Self {
        Self {
            signatures: vec![signature.clone()],
            signature_records: Vec::new(),
            ..self.clone()
        }
    }

    /// The RDATA of the set in canonical form and order, without duplicates.
    pub(super) fn canonical_rdata(&self) -> &[Vec<u8>] {
        &self.canonical
    }

    /// The smallest TTL of the records (RFC 2181, section 5.2).
    pub(super) fn ttl_s(&self) -> u32 {
        self.records
            .iter()
            .map(|record| record.ttl_s)
            .min()
            .unwrap_or(0)
    }

    /// What a SOA allows as the TTL of denials, in seconds: its last field and its own TTL
    /// (RFC 2308, section 5).
    pub(super) fn minimum_s(&self) -> u32 {
        self.canonical
            .first()
            .and_then(|rdata| rdata.last_chunk::<4>())
            .map_or(0, |octets| u32::from_be_bytes(*octets))
            .min(self.ttl_s())
    }

    /// The number of labels of the owner, root and leading wildcard label not counted
    /// (RFC 4034, section 3.1.3).
    pub(super) fn owner_labels(&self) -> usize {
        let count = self.owner.label_count();
        if self.owner.is_wildcard() {
            count.saturating_sub(1)
        } else {
            count
        }
    }

    /// The signer names that may be right for this set, the closest first: an ancestor of the
    /// owner or the owner itself, which for DS is the wrong side of the cut.
    pub(super) fn signers(&self) -> Vec<Name> {
        let mut signers: Vec<Name> = self
            .signatures
            .iter()
            .map(|signature| &signature.signer)
            .filter(|signer| self.owner.is_within(signer))
            .filter(|signer| self.rtype != rtype::DS || **signer != self.owner)
            .cloned()
            .collect();
        closest_first(&mut signers);
        signers
    }
}

/// Sorts names that are all ancestors of one name by nearness, and drops duplicates.
pub(super) fn closest_first(signers: &mut Vec<Name>) {
    signers.sort_by_key(|signer| std::cmp::Reverse(signer.as_wire().len()));
    signers.dedup();
    signers.truncate(super::limits::SIGNERS_MAX);
}

/// Both sections of a response that matter to validation.
#[derive(Clone, Debug)]
pub(super) struct Sections {
    pub(super) rcode: u16,
    pub(super) answer: Vec<RrSet>,
    pub(super) authority: Vec<RrSet>,
}

impl Sections {
    pub(super) fn new(response: &Response) -> Self {
        Self {
            rcode: response.rcode,
            answer: group(&response.answer),
            authority: group(&response.authority),
        }
    }

    /// The set of `owner` and `rtype` in the answer section.
    pub(super) fn answer(&self, owner: &Name, rtype: u16) -> Option<&RrSet> {
        find(&self.answer, owner, rtype)
    }
}

pub(super) fn find<'a>(sets: &'a [RrSet], owner: &Name, rtype: u16) -> Option<&'a RrSet> {
    sets.iter()
        .find(|set| set.rtype == rtype && set.owner == *owner)
}

/// Sets of a section that are found by comparing; honest sections have no more.
const SETS_USUAL: usize = 8;

/// Which sets of a section there are, and where.
#[derive(Default)]
struct Places {
    sets: Vec<RrSet>,
    /// Those behind the first [`SETS_USUAL`]: a section has at most a thousand records, but a
    /// thousand sets must not be a million comparisons.
    more: HashMap<(Name, u16), usize>,
}

impl Places {
    fn find(&self, owner: &Name, rtype: u16) -> Option<usize> {
        let mut first = self.sets.iter().take(SETS_USUAL);
        let usual = first.position(|set| set.rtype == rtype && set.owner == *owner);
        if usual.is_some() || self.more.is_empty() {
            return usual;
        }
        self.more.get(&(owner.clone(), rtype)).copied()
    }

    fn add(&mut self, owner: &Name, rtype: u16) -> usize {
        let place = self.sets.len();
        self.sets.push(RrSet::new(owner.clone(), rtype));
        if place >= SETS_USUAL {
            self.more.insert((owner.clone(), rtype), place);
        }
        place
    }
}

/// Sorts records into sets, in the order in which the sets first appear. Records of other classes
/// and signatures that cover nothing are left out.
fn group(records: &[Record]) -> Vec<RrSet> {
    let mut places = Places::default();
    let in_class = || records.iter().filter(|record| record.class == CLASS_IN);
    for record in in_class().filter(|record| record.rtype != rtype::RRSIG) {
        let place = places
            .find(&record.owner, record.rtype)
            .unwrap_or_else(|| places.add(&record.owner, record.rtype));
        if let Some(set) = places.sets.get_mut(place) {
            set.canonical
                .push(canonical::rdata(record.rtype, &record.rdata));
            set.records.push(record.clone());
        }
    }
    for record in in_class().filter(|record| record.rtype == rtype::RRSIG) {
        let Some(signature) = Rrsig::parse(&record.rdata) else {
            continue;
        };
        let place = places.find(&record.owner, signature.type_covered);
        if let Some(set) = place.and_then(|place| places.sets.get_mut(place)) {
            set.signatures.push(signature);
            set.signature_records.push(record.clone());
        }
    }
    let mut sets = places.sets;
    for set in &mut sets {
        set.canonical.sort_unstable();
        set.canonical.dedup();
        set.signatures.sort_unstable();
        set.signatures.dedup();
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_sets_and_many_are_sorted_alike() {
        let owner = |i: usize| Name::parse(&format!("n{i}.example")).unwrap();
        let record = |i: usize, rtype, rdata: &[u8]| Record {
            owner: owner(i),
            rtype,
            class: CLASS_IN,
            ttl_s: 60,
            rdata: Box::from(rdata),
        };
        // An RRSIG over A: head, signer (the root), signature.
        let mut signature = vec![0; 20];
        signature[1] = 1;
        for count in [1, SETS_USUAL, SETS_USUAL + 1, 300] {
            let mut records = Vec::new();
            for turn in [1, 2, 1] {
                records.extend((0..count).map(|i| record(i, rtype::A, &[192, 0, 2, turn])));
            }
            records.extend((0..count).map(|i| record(i, rtype::RRSIG, &signature)));
            records.push(record(count, rtype::RRSIG, &signature));
            let sets = group(&records);
            assert_eq!(sets.len(), count);
            for (i, set) in sets.iter().enumerate() {
                assert_eq!((&set.owner, set.rtype), (&owner(i), rtype::A));
                assert_eq!((set.records.len(), set.canonical_rdata().len()), (3, 2));
                assert_eq!((set.signatures.len(), set.signature_records.len()), (1, 1));
            }
        }
    }
}
