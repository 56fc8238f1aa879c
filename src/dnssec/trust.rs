//! Trust in RRsets: whose signatures count for a set, and which sets of a response deny.

use std::sync::Arc;

use crate::wire::{Name, Question, rtype};

use super::{
    aggressive::Proven,
    answer::push_set,
    chain::Cut,
    denial::Evidence,
    keys::{KeyCache, ZoneKeys},
    limits,
    machine::{Section, SetId, Validation},
    rrset::{RrSet, Sections, closest_first},
    signature::{self, Validated},
    verdict::{Reason, Why},
};

/// How an RRset fares.
#[derive(Clone, Debug)]
pub(super) enum Trust {
    /// Signed by this zone.
    Secure(Validated, Arc<ZoneKeys>),
    /// Insecure, bogus or indeterminate, as the reason says.
    Not(Reason),
}

/// The validated evidence of one zone, and which sets of the authority section it is made of.
#[derive(Clone, Debug)]
pub(super) struct Gathered {
    pub(super) evidence: Evidence,
    pub(super) zone: Name,
    /// Places in the authority section, SOA included.
    pub(super) sets: Vec<usize>,
    /// The least TTL of the sets, signatures considered.
    pub(super) ttl_s: u32,
}

impl Validation {
    /// How the RRset at `place` of a response fares; `None` while fetches are missing.
    pub(super) fn trust(
        &mut self,
        keys: &KeyCache,
        source: &Question,
        sections: &Arc<Sections>,
        section: Section,
        place: usize,
    ) -> Option<Trust> {
        let set = match section {
            Section::Answer => sections.answer.get(place)?,
            Section::Authority => sections.authority.get(place)?,
        };
        if let Some(zone) = self.settings.negative_above(&set.owner, self.now.unix_s) {
            let reason = Reason::new(Why::NegativeTrustAnchor, &zone, rtype::DS);
            return Some(Trust::Not(reason));
        }
        // What answers a question for DS, an alias included, is of the parent's side: following a
        // signer that is the name itself would go round in a circle.
        let parent_side = set.rtype == rtype::DS
            || (source.qtype == rtype::DS && set.owner == source.name && set.rtype != rtype::DNAME);
        let mut failure = None;
        let mut checked = false;
        for signer in set.signers() {
            if parent_side && signer == set.owner {
                continue;
            }
            match self.signer_cut(keys, &signer)? {
                Cut::Secure(zone) => {
                    checked = true;
                    let id = SetId {
                        source: source.clone(),
                        section,
                        index: place,
                        zone: signer,
                    };
                    match self.verify(id, set, &zone) {
                        Ok(validated) => return Some(Trust::Secure(validated, zone)),
                        Err(reason) => _ = failure.get_or_insert(reason),
                    }
                }
                Cut::Inside { .. } => {
                    let reason = Reason::new(Why::SignerNotZone, &set.owner, set.rtype);
                    failure.get_or_insert(reason.with_source(source));
                }
                Cut::Not(reason) => return Some(Trust::Not(reason)),
            }
        }
        if checked && let Some(reason) = failure {
            return Some(Trust::Not(reason));
        }
        let place = if parent_side {
            set.owner.parent().unwrap_or_else(Name::root)
        } else {
            set.owner.clone()
        };
        Some(Trust::Not(match self.enclosing(keys, &place)? {
            Ok(_) => failure.unwrap_or_else(|| {
                let why = if set.signatures.is_empty() {
                    Why::SignatureMissing
                } else {
                    Why::SignerNotZone
                };
                Reason::new(why, &set.owner, set.rtype).with_source(source)
            }),
            Err(reason) => reason,
        }))
    }

    /// Checks a set with a zone's keys, once.
    fn verify(&mut self, id: SetId, set: &RrSet, zone: &ZoneKeys) -> Result<Validated, Reason> {
        if let Some(result) = self.verified.get(&id) {
            return result.clone();
        }
        let result = signature::verify(set, zone, self.when, &mut self.budget)
            .map_err(|reason| reason.with_source(&id.source));
        self.verified.insert(id, result.clone());
        result
    }

    /// Finds the zone whose records deny `name` in the authority section, and validates them all.
    /// `None` while fetches are missing; `Err` with the reason why there is no evidence.
    pub(super) fn gather(
        &mut self,
        keys: &KeyCache,
        source: &Question,
        sections: &Arc<Sections>,
        name: &Name,
        qtype: u16,
    ) -> Option<Result<Gathered, Reason>> {
        if let Some(zone) = self.settings.negative_above(name, self.now.unix_s) {
            let reason = Reason::new(Why::NegativeTrustAnchor, &zone, rtype::DS);
            return Some(Err(reason));
        }
        let parent_side = qtype == rtype::DS && !name.is_root();
        // DS and its absence come from above the cut; a child's apex does not know.
        let may_speak = |zone: &Name| name.is_within(zone) && !(parent_side && zone == name);
        let relevant = || {
            sections
                .authority
                .iter()
                .filter(|set| matches!(set.rtype, rtype::SOA | rtype::NSEC | rtype::NSEC3))
        };
        // Where a SOA stands, it says which zone denies. Without it, any signer may.
        let apex = relevant()
            .filter(|set| set.rtype == rtype::SOA && may_speak(&set.owner))
            .map(|set| &set.owner)
            .max_by_key(|owner| owner.as_wire().len());
        let mut signers: Vec<Name> = relevant()
            .flat_map(|set| {
                set.signatures
                    .iter()
                    .map(|signature| &signature.signer)
                    .filter(|signer| set.owner.is_within(signer))
            })
            .filter(|signer| may_speak(signer) && apex.is_none_or(|apex| signer.is_within(apex)))
            .cloned()
            .collect();
        closest_first(&mut signers);
        let mut failure = None;
        for signer in signers {
            match self.signer_cut(keys, &signer)? {
                Cut::Secure(zone) => return Some(self.collect(source, sections, &zone, true)),
                Cut::Inside { .. } => {
                    let reason = Reason::new(Why::SignerNotZone, name, qtype);
                    failure.get_or_insert(reason.with_source(source));
                }
                Cut::Not(reason) => return Some(Err(reason)),
            }
        }
        let place = if parent_side {
            name.parent().unwrap_or_else(Name::root)
        } else {
            name.clone()
        };
        Some(Err(match self.enclosing(keys, &place)? {
            Ok(_) => failure.unwrap_or_else(|| {
                match relevant().find(|set| may_speak(&set.owner) || set.rtype != rtype::SOA) {
                    Some(set) => Reason::new(Why::SignatureMissing, &set.owner, set.rtype),
                    None => Reason::new(Why::DenialMissing, name, qtype),
                }
                .with_source(source)
            }),
            Err(reason) => reason,
        }))
    }

    /// Validates every NSEC and NSEC3 set that `zone` signed, and with `soa` its SOA: a proof with
    /// a forged part proves nothing.
    pub(super) fn collect(
        &mut self,
        source: &Question,
        sections: &Arc<Sections>,
        zone: &ZoneKeys,
        soa: bool,
    ) -> Result<Gathered, Reason> {
        let mut gathered = Gathered {
            evidence: Evidence::new(&zone.zone),
            zone: zone.zone.clone(),
            sets: Vec::new(),
            ttl_s: u32::MAX,
        };
        for (index, set) in sections.authority.iter().enumerate() {
            let is_proof = matches!(set.rtype, rtype::NSEC | rtype::NSEC3)
                && set.signatures.iter().any(|one| one.signer == zone.zone);
            let is_soa = soa && set.rtype == rtype::SOA && set.owner == zone.zone;
            if !is_proof && !is_soa {
                continue;
            }
            if gathered.sets.len() >= limits::DENIAL_RRSETS_MAX {
                let reason = Reason::new(Why::OverBudget, &set.owner, set.rtype);
                return Err(reason.with_source(source));
            }
            let id = SetId {
                source: source.clone(),
                section: Section::Authority,
                index,
                zone: zone.zone.clone(),
            };
            let validated = self.verify(id, set, zone)?;
            self.note_proof(set, &validated, zone);
            if validated.wildcard.is_some() {
                // An NSEC expanded from a wildcard tells about the wildcard, not about its owner.
                continue;
            }
            let ttl_s = if is_soa { set.minimum_s() } else { set.ttl_s() };
            gathered.ttl_s = gathered.ttl_s.min(validated.ttl_cap_s).min(ttl_s);
            gathered.evidence.add(set);
            gathered.sets.push(index);
        }
        Ok(gathered)
    }

    /// Remembers a validated SOA, NSEC or NSEC3 set for later denials, once.
    fn note_proof(&mut self, set: &RrSet, validated: &Validated, zone: &ZoneKeys) {
        if validated.wildcard.is_some() || self.proven.iter().any(|one| one.set == *set) {
            return;
        }
        let mut records = Vec::new();
        push_set(&mut records, set, validated, &zone.zone);
        self.proven.push(Proven {
            zone: zone.zone.clone(),
            ttl_s: validated.ttl_cap_s.min(set.ttl_s()),
            set: set.clone(),
            records,
        });
    }

    /// What a verified set's signature said, if it was verified.
    pub(super) fn verified(
        &self,
        source: &Question,
        section: Section,
        index: usize,
        zone: &Name,
    ) -> Option<&Validated> {
        let id = SetId {
            source: source.clone(),
            section,
            index,
            zone: zone.clone(),
        };
        self.verified.get(&id)?.as_ref().ok()
    }
}
