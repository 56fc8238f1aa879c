//! Denial by NSEC3 (RFC 5155, section 8; RFC 9276).

use std::collections::HashMap;

use data_encoding::BASE32HEX_NOPAD;

use crate::wire::{Name, rtype};

use super::{
    crypto::{NSEC3_HASH_OCTETS, nsec3_hash},
    denial::{Absence, Denial},
    limits::{
        Budget, NSEC3_ITERATIONS_BOGUS, NSEC3_ITERATIONS_INSECURE, NSEC3_ROUNDS_PER_PROOF_MAX,
        NSEC3_SALT_MAX_OCTETS,
    },
    nsec::denies_type,
    rdata::{FLAG_OPT_OUT, Nsec3, TypeBitmap},
    rrset::RrSet,
    verdict::Why,
};

/// The only hash algorithm there is, SHA-1 (RFC 5155, section 11).
const HASH_SHA1: u8 = 1;

pub(super) type Hash = [u8; NSEC3_HASH_OCTETS];

/// One gap between hashed names.
#[derive(Clone, Debug)]
struct Gap {
    hash: Hash,
    next: Hash,
    opt_out: bool,
    types: TypeBitmap,
}

/// The NSEC3 records of one proof: validated, of one zone, all with the same parameters.
#[derive(Clone, Debug)]
pub(super) struct Nsec3Proof {
    zone: Name,
    salt: Box<[u8]>,
    iterations: u16,
    mixed: bool,
    gaps: Vec<Gap>,
    hashes: HashMap<Name, Hash>,
    rounds_left: u32,
}

impl Nsec3Proof {
    pub(super) fn new(zone: &Name) -> Self {
        Self {
            zone: zone.clone(),
            salt: Box::from([]),
            iterations: 0,
            mixed: false,
            gaps: Vec::new(),
            hashes: HashMap::new(),
            rounds_left: NSEC3_ROUNDS_PER_PROOF_MAX,
        }
    }

    /// Takes in a validated NSEC3 RRset. Records of unknown hashes or flags are ignored
    /// (RFC 5155, sections 8.1 and 8.2), as are owners that are not one label below the zone.
    pub(super) fn add(&mut self, set: &RrSet) {
        let Some(hash) = set
            .owner
            .labels()
            .next()
            .and_then(decode)
            .filter(|_| set.owner.parent().as_ref() == Some(&self.zone))
        else {
            return;
        };
        for rdata in set.canonical_rdata() {
            let Some(nsec3) = Nsec3::parse(rdata) else {
                continue;
            };
            let Ok(next) = Hash::try_from(&*nsec3.next_hash) else {
                continue;
            };
            if nsec3.hash_algorithm != HASH_SHA1 || nsec3.flags & !FLAG_OPT_OUT != 0 {
                continue;
            }
            if self.gaps.is_empty() {
                self.iterations = nsec3.iterations;
                self.salt = nsec3.salt;
            } else if self.iterations != nsec3.iterations || self.salt != nsec3.salt {
                self.mixed = true;
            }
            self.gaps.push(Gap {
                hash,
                next,
                opt_out: nsec3.flags & FLAG_OPT_OUT != 0,
                types: nsec3.types,
            });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.gaps.is_empty()
    }

    /// Refuses parameters that do not belong together or cost too much, before anything is hashed.
    fn check_parameters(&self) -> Result<(), Why> {
        if self.gaps.is_empty() {
            return Err(Why::DenialMissing);
        }
        if self.mixed {
            return Err(Why::Nsec3Mixed);
        }
        if self.iterations > NSEC3_ITERATIONS_BOGUS {
            return Err(Why::Nsec3IterationsAbsurd);
        }
        if self.iterations > NSEC3_ITERATIONS_INSECURE || self.salt.len() > NSEC3_SALT_MAX_OCTETS {
            return Err(Why::Nsec3Iterations);
        }
        Ok(())
    }

    /// Proves that `name` does not exist, or has no `qtype` (RFC 5155, sections 8.4 to 8.7).
    pub(super) fn deny(
        &mut self,
        name: &Name,
        qtype: u16,
        budget: &mut Budget,
    ) -> Result<Denial, Why> {
        self.check_parameters()?;
        if let Some(gap) = self.matching(name, budget)? {
            return if denies_type(&gap.types, name, qtype) {
                Ok(Denial::NO_DATA)
            } else {
                Err(Why::DenialContradicts)
            };
        }
        let (closest_encloser, opt_out) = self.closest_encloser(name, budget)?;
        let Ok(wildcard) = closest_encloser.child(b"*") else {
            return Ok(Denial::NX_DOMAIN.opting_out(opt_out));
        };
        if let Some(gap) = self.matching(&wildcard, budget)? {
            return if denies_type(&gap.types, &wildcard, qtype) {
                Ok(Denial::NO_DATA.opting_out(opt_out))
            } else {
                Err(Why::DenialContradicts)
            };
        }
        if let Some(gap) = self.covering(&wildcard, budget)? {
            let opt_out = opt_out || gap.opt_out;
            return Ok(Denial::NX_DOMAIN.opting_out(opt_out));
        }
        // An unsigned delegation, or an ancestor of one, inside an opt-out span: section 8.6.
        if opt_out {
            return Ok(Denial::NO_DATA.opting_out(true));
        }
        Err(Why::DenialMissing)
    }

    /// What the absence of DS at `child`, a name below the zone's apex, says about it.
    pub(super) fn ds_absent(&mut self, child: &Name, budget: &mut Budget) -> Result<Absence, Why> {
        self.check_parameters()?;
        if let Some(gap) = self.matching(child, budget)? {
            if gap.types.contains(rtype::DS) || gap.types.contains(rtype::SOA) {
                return Err(Why::DenialContradicts);
            }
            if gap.types.contains(rtype::NS) {
                return Ok(Absence::UnsignedDelegation);
            }
            return Ok(Absence::NotACut {
                nothing_below: false,
            });
        }
        let (_, opt_out) = self.closest_encloser(child, budget)?;
        if opt_out {
            return Ok(Absence::OptOut);
        }
        Ok(Absence::NotACut {
            nothing_below: true,
        })
    }

    /// Whether `name` is proved absent, and whether the gap opts out; `None` without such a proof.
    pub(super) fn is_absent(
        &mut self,
        name: &Name,
        budget: &mut Budget,
    ) -> Result<Option<bool>, Why> {
        self.check_parameters()?;
        Ok(self.covering(name, budget)?.map(|gap| gap.opt_out))
    }

    /// The closest encloser of an absent name, and whether the gap over the next closer name opts
    /// out (RFC 5155, section 8.3).
    fn closest_encloser(&mut self, name: &Name, budget: &mut Budget) -> Result<(Name, bool), Why> {
        let mut next_closer = name.clone();
        while next_closer != self.zone {
            let Some(candidate) = next_closer.parent() else {
                break;
            };
            if let Some(gap) = self.matching(&candidate, budget)? {
                let cut = gap.types.contains(rtype::NS) && !gap.types.contains(rtype::SOA);
                if cut || gap.types.contains(rtype::DNAME) {
                    // What is below a delegation or a DNAME is not for this zone to deny.
                    return Err(Why::DenialContradicts);
                }
                return match self.covering(&next_closer, budget)? {
                    Some(gap) => Ok((candidate, gap.opt_out)),
                    None => Err(Why::DenialMissing),
                };
            }
            next_closer = candidate;
        }
        Err(Why::DenialMissing)
    }

    /// The record at `name`.
    fn matching(&mut self, name: &Name, budget: &mut Budget) -> Result<Option<&Gap>, Why> {
        let hash = self.hash(name, budget)?;
        Ok(self.gaps.iter().find(|gap| gap.hash == hash))
    }

    /// The record whose gap `name` lies in.
    fn covering(&mut self, name: &Name, budget: &mut Budget) -> Result<Option<&Gap>, Why> {
        let hash = self.hash(name, budget)?;
        // Of two gaps that both cover, the one that opts out is believed.
        Ok(self
            .gaps
            .iter()
            .filter(|gap| gap.covers(&hash))
            .max_by_key(|gap| gap.opt_out))
    }

    fn hash(&mut self, name: &Name, budget: &mut Budget) -> Result<Hash, Why> {
        if let Some(hash) = self.hashes.get(name) {
            return Ok(*hash);
        }
        let [high, low] = self.iterations.to_be_bytes();
        let what = [&[high, low], &*self.salt, name.as_wire()].concat();
        if let Some(hash) = budget.known_hash(&what) {
            return Ok(hash);
        }
        let rounds = u32::from(self.iterations) + 1;
        self.rounds_left = self
            .rounds_left
            .checked_sub(rounds)
            .ok_or(Why::OverBudget)?;
        budget.hash(rounds).map_err(|_| Why::OverBudget)?;
        let hash = nsec3_hash(name.as_wire(), &self.salt, self.iterations);
        self.hashes.insert(name.clone(), hash);
        budget.remember_hash(&what, hash);
        Ok(hash)
    }
}

/// What a zone's names are hashed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameters {
    salt: Box<[u8]>,
    iterations: u16,
}

impl Parameters {
    /// The parameters of a record that is known, cheap and does not opt out.
    pub(super) fn accepted(nsec3: &Nsec3) -> Option<Self> {
        let accepted = nsec3.hash_algorithm == HASH_SHA1
            && nsec3.flags == 0
            && nsec3.iterations <= NSEC3_ITERATIONS_INSECURE
            && nsec3.salt.len() <= NSEC3_SALT_MAX_OCTETS;
        accepted.then(|| Self {
            salt: nsec3.salt.clone(),
            iterations: nsec3.iterations,
        })
    }

    /// The hash of a name, while the budget lasts.
    pub(super) fn hash(&self, name: &Name, budget: &mut Budget) -> Option<Hash> {
        budget.hash(u32::from(self.iterations) + 1).ok()?;
        Some(nsec3_hash(name.as_wire(), &self.salt, self.iterations))
    }
}

impl Gap {
    fn covers(&self, hash: &Hash) -> bool {
        if self.hash < self.next {
            self.hash < *hash && *hash < self.next
        } else {
            // The last gap of the zone wraps around; a single record's gap is everything else.
            *hash > self.hash || *hash < self.next
        }
    }
}

/// The hash in an owner's first label (base32hex, RFC 4648, section 7).
pub(super) fn decode(label: &[u8]) -> Option<Hash> {
    let octets = BASE32HEX_NOPAD.decode(&label.to_ascii_uppercase()).ok()?;
    Hash::try_from(octets.as_slice()).ok()
}
