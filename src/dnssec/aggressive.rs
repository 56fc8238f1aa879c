//! Aggressive use of proofs (RFC 8198): a gap that was proved once denies every name in it, for as
//! long as it lives, without asking anybody.
//!
//! What goes in was validated here, of one zone, owner and next name inside it; NSEC3 that opts out
//! stays out, as it proves nothing about the names in its gap. What comes out has passed the same
//! proof that a response of an upstream must pass, so a delegation's record denies nothing below it
//! and a missing wildcard proof is missed. Names that the operator took out of the public tree are
//! never denied, nor does a zone deny what lies below a trust anchor under it. A gap lives as long as
//! its TTL, its signature and the SOA's minimum allow (RFC 9077), and not beyond [`GAP_TTL_MAX_S`].
//!
//! Limitations: answers are not synthesized from wildcards (RFC 8198, section 5.3).

use std::collections::{BTreeMap, HashMap};

use ahash::RandomState;

use crate::{
    clock::Now,
    entropy,
    wire::{CLASS_IN, Name, Question, Record, rcode, rtype},
};

use super::{
    denial::{Denial, Evidence},
    limits::Budget,
    machine::is_meta,
    nsec3::{Hash, Parameters},
    rdata::Nsec3,
    rrset::RrSet,
    settings::Settings,
};

/// Gaps kept, of all zones together, at about a kilooctet each.
pub const GAPS_MAX: usize = 10_000;
/// Gaps kept of one zone. A zone that makes a gap for every question cannot push out the others.
pub const GAPS_PER_ZONE_MAX: usize = 2_000;
/// The longest that a gap is used, in seconds: a name that comes into being should be seen soon.
pub const GAP_TTL_MAX_S: u32 = 900;

/// A validated set of a zone's proofs: SOA, NSEC or NSEC3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    pub(super) zone: Name,
    pub(super) set: RrSet,
    /// The records as given out, signatures included, TTLs capped.
    pub(super) records: Vec<Record>,
    pub(super) ttl_s: u32,
}

/// A denial made from stored proofs: secure, like the proofs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// NXDOMAIN, or NOERROR when the name has other types.
    pub rcode: u16,
    /// SOA and proofs with their signatures; TTLs are what is left.
    pub authority: Vec<Record>,
    /// For how many seconds it holds.
    pub ttl_s: u32,
}

/// The proved gaps of all zones. One writer, the driver of validations.
#[derive(Debug)]
pub struct Gaps {
    zones: HashMap<Name, ZoneGaps, RandomState>,
    count: usize,
}

#[derive(Debug, Default)]
struct ZoneGaps {
    soa: Option<Stored>,
    nsec: BTreeMap<Name, Stored>,
    parameters: Option<Parameters>,
    nsec3: BTreeMap<Hash, Stored>,
}

#[derive(Debug)]
struct Stored {
    set: RrSet,
    records: Vec<Record>,
    /// Uptime in seconds at which it is forgotten.
    expires_s: u32,
}

impl Default for Gaps {
    fn default() -> Self {
        Self {
            zones: HashMap::with_hasher(entropy::hasher()),
            count: 0,
        }
    }
}

impl Gaps {
    /// No gaps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many gaps are kept, expired ones included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Forgets the gaps of the zones at and below `name`, and of those above it: they may deny it.
    pub fn forget(&mut self, name: &Name) {
        self.zones
            .retain(|zone, _| !zone.is_within(name) && !name.is_within(zone));
        self.recount();
    }

    /// Takes in what a validation proved.
    pub fn learn(&mut self, proven: Vec<Proven>, now: &Now) {
        if proven.is_empty() {
            return;
        }
        // SOAs first: their minimum caps the gaps.
        let (soas, gaps): (Vec<Proven>, Vec<Proven>) = proven
            .into_iter()
            .partition(|one| one.set.rtype == rtype::SOA);
        for one in soas {
            let expires_s = now.uptime_s.saturating_add(one.ttl_s.min(GAP_TTL_MAX_S));
            let soa = Stored {
                set: one.set,
                records: one.records,
                expires_s,
            };
            let zone = self.zones.entry(one.zone).or_default();
            // A zone without gaps counts as one.
            self.count += usize::from(zone.soa.replace(soa).is_none() && zone.len() == 0);
        }
        for one in gaps {
            // Without a SOA there is nothing to answer with; it comes with the next denial.
            if let Some(zone) = self.zones.get_mut(&one.zone) {
                let before = zone.len().max(1);
                zone.learn(one, now);
                self.count = (self.count + zone.len().max(1)).saturating_sub(before);
            }
        }
        if self.count > GAPS_MAX {
            let uptime_s = now.uptime_s;
            for zone in self.zones.values_mut() {
                zone.drop_expired(uptime_s);
                zone.soa.take_if(|soa| uptime_s >= soa.expires_s);
            }
            self.recount();
            if self.count > GAPS_MAX {
                self.zones.clear();
                self.count = 0;
            }
        }
    }

    /// Denies the question's name or type from what is proved, if that is enough. `settings` say
    /// where the word of the public tree counts.
    #[must_use]
    pub fn deny(&self, question: &Question, settings: &Settings, now: &Now) -> Option<Denied> {
        let name = &question.name;
        if self.is_empty() || question.qclass != CLASS_IN || is_meta(question.qtype) {
            return None;
        }
        if settings.negative_above(name, now.unix_s).is_some() || settings.is_private(name) {
            return None;
        }
        let anchor = settings.anchor_above(name)?;
        let uptime_s = now.uptime_s;
        let mut at = Some(question.name.clone());
        while let Some(apex) = at {
            // The absence of a DS is for the zone above to say.
            let own_ds = question.qtype == rtype::DS && apex == question.name && !apex.is_root();
            if !own_ds
                && let Some(zone) = self.zones.get(&apex)
                && let Some(denied) = zone.deny(&apex, question, uptime_s)
            {
                return Some(denied);
            }
            if apex == anchor {
                return None;
            }
            at = apex.parent();
        }
        None
    }

    fn recount(&mut self) {
        self.zones
            .retain(|_, zone| zone.soa.is_some() || zone.len() > 0);
        self.count = self.zones.values().map(|zone| zone.len().max(1)).sum();
    }
}

impl ZoneGaps {
    fn len(&self) -> usize {
        self.nsec.len() + self.nsec3.len()
    }

    fn drop_expired(&mut self, uptime_s: u32) {
        let lives = |stored: &Stored| uptime_s < stored.expires_s;
        self.nsec.retain(|_, stored| lives(stored));
        self.nsec3.retain(|_, stored| lives(stored));
    }

    fn learn(&mut self, one: Proven, now: &Now) {
        let minimum_s = self.soa.as_ref().map_or(0, |soa| soa.set.minimum_s());
        let ttl_s = one.ttl_s.min(minimum_s).min(GAP_TTL_MAX_S);
        if self.len() >= GAPS_PER_ZONE_MAX {
            self.drop_expired(now.uptime_s);
            if self.len() >= GAPS_PER_ZONE_MAX {
                self.nsec.clear();
                self.nsec3.clear();
            }
        }
        let stored = Stored {
            expires_s: now.uptime_s.saturating_add(ttl_s),
            set: one.set,
            records: one.records,
        };
        match stored.set.rtype {
            rtype::NSEC => {
                self.nsec.insert(stored.set.owner.clone(), stored);
            }
            rtype::NSEC3 => {
                let Some((hash, parameters)) = usable_nsec3(&stored.set) else {
                    return;
                };
                if self.parameters.as_ref() != Some(&parameters) {
                    // The zone was hashed anew: old and new records prove nothing together.
                    self.nsec3.clear();
                    self.parameters = Some(parameters);
                }
                self.nsec3.insert(hash, stored);
            }
            _ => {}
        }
    }

    fn deny(&self, apex: &Name, question: &Question, uptime_s: u32) -> Option<Denied> {
        let soa = self.soa.as_ref().filter(|soa| uptime_s < soa.expires_s)?;
        let (denial, mut used) = self
            .deny_by_nsec(apex, question, uptime_s)
            .or_else(|| self.deny_by_nsec3(apex, question, uptime_s))?;
        if denial.opt_out {
            return None;
        }
        used.insert(0, soa);
        let ttl_s = used
            .iter()
            .map(|stored| stored.expires_s.saturating_sub(uptime_s))
            .min()
            .unwrap_or(0)
            .min(soa.set.minimum_s());
        let mut authority: Vec<Record> = Vec::new();
        for record in used.iter().flat_map(|stored| &stored.records) {
            if !authority
                .iter()
                .any(|one| one.owner == record.owner && one.rdata == record.rdata)
            {
                authority.push(Record {
                    ttl_s,
                    ..record.clone()
                });
            }
        }
        Some(Denied {
            rcode: if denial.nx_domain {
                rcode::NXDOMAIN
            } else {
                rcode::NOERROR
            },
            authority,
            ttl_s,
        })
    }

    fn deny_by_nsec<'a>(
        &'a self,
        apex: &Name,
        question: &Question,
        uptime_s: u32,
    ) -> Option<(Denial, Vec<&'a Stored>)> {
        let at_or_before = |name: &Name| {
            let (_, stored) = self.nsec.range(..=name).next_back()?;
            (uptime_s < stored.expires_s).then_some(stored)
        };
        let mut budget = Budget::new();
        let mut evidence = Evidence::new(apex);
        let first = at_or_before(&question.name)?;
        evidence.add(&first.set);
        if let Ok(denial) = evidence.deny(&question.name, question.qtype, &mut budget) {
            return Some((denial, vec![first]));
        }
        // The gap has the name; now what the wildcard at its closest encloser would say.
        let wildcard = evidence.wildcard_by_nsec(&question.name)?;
        let second = at_or_before(&wildcard)?;
        evidence.add(&second.set);
        let denial = evidence.deny(&question.name, question.qtype, &mut budget);
        Some((denial.ok()?, vec![first, second]))
    }

    fn deny_by_nsec3<'a>(
        &'a self,
        apex: &Name,
        question: &Question,
        uptime_s: u32,
    ) -> Option<(Denial, Vec<&'a Stored>)> {
        let parameters = self.parameters.as_ref()?;
        let mut budget = Budget::new();
        let mut evidence = Evidence::new(apex);
        let mut used: Vec<&Stored> = Vec::new();
        let mut next_closer = question.name.clone();
        let mut take = |name: &Name, exact: bool, budget: &mut Budget| {
            let hash = parameters.hash(name, budget)?;
            let stored = if exact {
                self.nsec3.get(&hash)
            } else {
                let before = self.nsec3.range(..=hash).next_back();
                // In front of the first record lies the gap of the last one.
                before
                    .or_else(|| self.nsec3.last_key_value())
                    .map(|(_, stored)| stored)
            };
            let stored = stored.filter(|stored| uptime_s < stored.expires_s)?;
            evidence.add(&stored.set);
            used.push(stored);
            Some(())
        };
        if take(&question.name, true, &mut budget).is_none() {
            let closest_encloser = loop {
                if next_closer == *apex {
                    return None;
                }
                let candidate = next_closer.parent()?;
                if take(&candidate, true, &mut budget).is_some() {
                    break candidate;
                }
                next_closer = candidate;
            };
            take(&next_closer, false, &mut budget)?;
            take(&closest_encloser.child(b"*").ok()?, false, &mut budget)?;
        }
        let denial = evidence.deny(&question.name, question.qtype, &mut budget);
        Some((denial.ok()?, used))
    }
}

/// The hash and parameters of an NSEC3 set that proves by itself: one record, not opting out.
fn usable_nsec3(set: &RrSet) -> Option<(Hash, Parameters)> {
    let [rdata] = set.canonical_rdata() else {
        return None;
    };
    let nsec3 = Nsec3::parse(rdata)?;
    let parameters = Parameters::accepted(&nsec3)?;
    let hash = super::nsec3::decode(set.owner.labels().next()?)?;
    Some((hash, parameters))
}
