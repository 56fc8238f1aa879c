//! Authenticated keys: how a zone's DNSKEY set is tied to its DS, and the cache of what is known
//! about each zone.

use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;

use crate::{
    clock::Now,
    entropy,
    wire::{Name, rtype},
};

use super::{
    crypto::{self, Algorithm, PublicKey},
    limits::{self, Budget},
    rdata::{Dnskey, Ds, FLAG_REVOKE, FLAG_ZONE, key_tag},
    rrset::RrSet,
    signature::{self, When},
    verdict::{Reason, Why},
};

/// One usable key of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) tag: u16,
    pub(super) algorithm: u8,
    /// `None` when the algorithm or the key's size is not supported.
    pub(super) public: Option<PublicKey>,
    pub(super) rdata: Box<[u8]>,
}

/// The authenticated keys of one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneKeys {
    pub(super) zone: Name,
    keys: Vec<Key>,
}

impl ZoneKeys {
    /// The zone's apex.
    #[must_use]
    pub const fn zone(&self) -> &Name {
        &self.zone
    }

    /// The tags of the keys, in the order of the RRset.
    pub fn tags(&self) -> impl Iterator<Item = u16> + '_ {
        self.keys.iter().map(|key| key.tag)
    }

    /// The usable keys of a set that nothing has authenticated, or none: for showing what is wrong
    /// with a signature, never for a verdict.
    pub(super) fn unproved(zone: &Name, set: Option<&RrSet>, sha1: bool) -> Self {
        Self {
            zone: zone.clone(),
            keys: set.map_or_else(Vec::new, |set| usable_keys(set, sha1)),
        }
    }

    /// The keys a signature may mean, few even if many collide.
    pub(super) fn candidates(&self, tag: u16, algorithm: u8) -> impl Iterator<Item = &Key> {
        self.keys
            .iter()
            .filter(move |key| key.tag == tag && key.algorithm == algorithm)
            .take(limits::KEYS_PER_TAG_MAX)
    }
}

/// What became of a DNSKEY set that was held against its DS set.
pub(super) enum Authenticated {
    /// The keys are the zone's, and hold for at most this many seconds.
    Keys(Arc<ZoneKeys>, u32),
    /// No DS can be used, so nothing can be demanded of the zone.
    Unusable(Why),
    /// A usable DS exists and does not lead to a key that signs the set.
    Failed(Reason),
}

/// The DS records that count: supported algorithm and digest, and no SHA-1 beside better digests
/// (RFC 4509, section 3).
///
/// # Errors
/// Why none counts.
pub(super) fn supported_ds(set: &[Ds], sha1: bool) -> Result<Vec<&Ds>, Why> {
    let mut by_algorithm = set
        .iter()
        .filter(|ds| Algorithm::supported(ds.algorithm, sha1).is_some())
        .peekable();
    if by_algorithm.peek().is_none() {
        return Err(Why::UnsupportedAlgorithm);
    }
    let supported: Vec<&Ds> = by_algorithm
        .filter(|ds| crypto::digest_supported(ds.digest_type, sha1))
        .collect();
    if supported.is_empty() {
        return Err(Why::UnsupportedDigest);
    }
    let better = supported.iter().any(|ds| ds.digest_type != 1);
    let mut counted: Vec<&Ds> = supported
        .into_iter()
        .filter(|ds| !better || ds.digest_type != 1)
        .collect();
    counted.sort_unstable();
    counted.dedup();
    counted.truncate(limits::DS_PER_ZONE_MAX);
    Ok(counted)
}

/// Ties a DNSKEY set to the DS set of its zone (RFC 4035, section 5.2): some supported DS must fit
/// a usable key, and that key must have signed the set. One such path is enough (RFC 6840,
/// section 5.11).
pub(super) fn authenticate(
    zone: &Name,
    set: &RrSet,
    ds_set: &[Ds],
    when: When,
    budget: &mut Budget,
) -> Authenticated {
    let wanted = match supported_ds(ds_set, when.sha1) {
        Ok(wanted) => wanted,
        Err(why) => return Authenticated::Unusable(why),
    };
    let all = usable_keys(set, when.sha1);
    let mut failed_matches = 0;
    let mut unsupported_sizes = 0;
    let mut failure = None;
    let mut entry_keys: Vec<Key> = Vec::new();
    'ds: for ds in &wanted {
        let candidates = all
            .iter()
            .filter(|key| key.tag == ds.key_tag && key.algorithm == ds.algorithm)
            .take(limits::KEYS_PER_TAG_MAX);
        for key in candidates {
            let digest = crypto::ds_digest(ds.digest_type, when.sha1, zone.as_wire(), &key.rdata);
            if digest.is_none_or(|digest| digest.as_ref() != &*ds.digest) {
                failed_matches += 1;
                if failed_matches > limits::DS_FAILURES_MAX {
                    failure = Some(
                        Reason::new(Why::OverBudget, zone, rtype::DNSKEY).with_tag(ds.key_tag),
                    );
                    break 'ds;
                }
                continue;
            }
            if key.public.is_none() {
                unsupported_sizes += 1;
                continue 'ds;
            }
            if !entry_keys.contains(key) {
                entry_keys.push(key.clone());
            }
        }
    }
    if entry_keys.is_empty() {
        // Every DS fits a key, and every key is of a size we cannot check: nothing was forged. A DS
        // whose key is not here says nothing of the kind: the set is not authenticated, and whoever
        // sent it may have left the good key out.
        if unsupported_sizes == wanted.len() {
            return Authenticated::Unusable(Why::UnsupportedAlgorithm);
        }
        let tag = wanted.first().map_or(0, |ds| ds.key_tag);
        return Authenticated::Failed(failure.unwrap_or_else(|| {
            let why = if points_at_a_host_key(set, &wanted) {
                Why::KeyWithoutZoneBit
            } else {
                Why::KeyMissing
            };
            Reason::new(why, zone, rtype::DNSKEY).with_tag(tag)
        }));
    }
    let entry = ZoneKeys {
        zone: zone.clone(),
        keys: entry_keys,
    };
    match signature::verify(set, &entry, when, budget) {
        Ok(validated) => Authenticated::Keys(
            Arc::new(ZoneKeys {
                zone: zone.clone(),
                keys: all,
            }),
            validated.ttl_cap_s.min(set.ttl_s()),
        ),
        Err(reason) => Authenticated::Failed(reason),
    }
}

/// The keys of a set that may sign: ZONE bit, protocol 3, not revoked. In the order of their
/// octets, so that the order received cannot matter where bounds cut.
fn usable_keys(set: &RrSet, sha1: bool) -> Vec<Key> {
    set.canonical_rdata()
        .iter()
        .filter_map(|rdata| {
            let dnskey = Dnskey::parse(rdata)?;
            let usable = dnskey.flags & FLAG_ZONE != 0
                && dnskey.flags & FLAG_REVOKE == 0
                && dnskey.protocol == 3;
            usable.then(|| Key {
                tag: key_tag(rdata),
                algorithm: dnskey.algorithm,
                public: public_key(&dnskey, sha1),
                rdata: Box::from(rdata.as_slice()),
            })
        })
        .take(limits::KEYS_PER_ZONE_MAX)
        .collect()
}

/// The keys of a set that carry the REVOKE bit and could have signed it, each as a zone's only key,
/// so that it can be asked of each whether it revoked itself.
pub(super) fn revoked_keys(
    zone: &Name,
    set: &RrSet,
    sha1: bool,
) -> impl Iterator<Item = (Box<[u8]>, ZoneKeys)> {
    set.canonical_rdata()
        .iter()
        .filter_map(move |rdata| {
            let dnskey = Dnskey::parse(rdata)?;
            let wanted = FLAG_ZONE | FLAG_REVOKE;
            if dnskey.flags & wanted != wanted || dnskey.protocol != 3 {
                return None;
            }
            let rdata: Box<[u8]> = Box::from(rdata.as_slice());
            let key = Key {
                tag: key_tag(&rdata),
                algorithm: dnskey.algorithm,
                public: public_key(&dnskey, sha1),
                rdata: rdata.clone(),
            };
            let alone = ZoneKeys {
                zone: zone.clone(),
                keys: vec![key],
            };
            Some((rdata, alone))
        })
        .take(limits::KEYS_PER_ZONE_MAX)
}

/// Whether signatures by this key can be checked.
pub(super) fn is_checkable(dnskey: &Dnskey<'_>, sha1: bool) -> bool {
    public_key(dnskey, sha1).is_some()
}

fn public_key(dnskey: &Dnskey<'_>, sha1: bool) -> Option<PublicKey> {
    let algorithm = Algorithm::supported(dnskey.algorithm, sha1)?;
    PublicKey::parse(algorithm, dnskey.public_key)
}

/// Whether some DS names a key that exists but lacks the ZONE bit, for a better message.
fn points_at_a_host_key(set: &RrSet, wanted: &[&Ds]) -> bool {
    set.canonical_rdata().iter().any(|rdata| {
        Dnskey::parse(rdata).is_some_and(|key| key.flags & FLAG_ZONE == 0)
            && wanted.iter().any(|ds| ds.key_tag == key_tag(rdata))
    })
}

/// What is known about a name as a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZoneStatus {
    /// It is the apex of a signed zone with these keys.
    Secure(Arc<ZoneKeys>),
    /// It is proved insecure, and everything below it is.
    Insecure(Reason),
    /// It is proved to be no zone cut.
    NotACut {
        /// Whether the proof says that no cut is below it either.
        nothing_below: bool,
    },
}

/// Something learned about a name, and for how long it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// The name.
    pub name: Name,
    /// What it is.
    pub status: ZoneStatus,
    /// For how many seconds that is known.
    pub ttl_s: u32,
}

/// Zones known at once. A key set takes about a kilooctet, so a full cache some ten megaoctets.
pub const ZONES_KNOWN_MAX: usize = 10_000;
/// The longest that a zone's status is believed, in seconds: a revoked key or a new DS shows
/// within a day even if its records have a longer TTL.
pub const ZONE_TTL_MAX_S: u32 = 86_400;

/// What was learnt later than this is not doubted, in seconds.
const DOUBT_AFTER_S: u32 = 60;

/// The longest that the absence of a zone cut, or of its DS, is believed, in seconds: what does
/// not exist yet should not wait for a day once it does.
pub const ABSENCE_TTL_MAX_S: u32 = 3600;

/// What is known about zones. Filled only with what [`super::Validation`] learned; one writer, the
/// driver of validations.
#[derive(Debug)]
pub struct KeyCache {
    zones: HashMap<Name, Known, RandomState>,
}

#[derive(Debug)]
struct Known {
    status: ZoneStatus,
    /// Uptime in seconds at which it was learnt.
    learnt_s: u32,
    /// Uptime in seconds at which it is forgotten.
    expires_s: u32,
    /// Signed and unsigned delegations seen from this zone, for foresight.
    signed_children: u16,
    unsigned_children: u16,
    /// Somebody sees to it that it is learnt anew before it is forgotten.
    claimed: bool,
}

impl Default for KeyCache {
    fn default() -> Self {
        Self {
            zones: HashMap::with_hasher(entropy::hasher()),
        }
    }
}

impl KeyCache {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known about `name` itself.
    #[must_use]
    pub fn lookup(&self, name: &Name, now: &Now) -> Option<&ZoneStatus> {
        self.zones
            .get(name)
            .filter(|known| now.uptime_s < known.expires_s)
            .map(|known| &known.status)
    }

    /// How many zones are known, expired ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.zones.len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }

    /// Takes in what a validation learned.
    pub fn learn(&mut self, learned: Vec<Learned>, now: &Now) {
        for one in learned {
            self.count_child(&one);
            if self.zones.len() >= ZONES_KNOWN_MAX && !self.zones.contains_key(&one.name) {
                self.make_room(now);
            }
            let ttl_s = one.ttl_s.min(ZONE_TTL_MAX_S);
            let (signed_children, unsigned_children) =
                self.zones.get(&one.name).map_or((0, 0), |known| {
                    (known.signed_children, known.unsigned_children)
                });
            self.zones.insert(
                one.name,
                Known {
                    status: one.status,
                    learnt_s: now.uptime_s,
                    expires_s: now.uptime_s.saturating_add(ttl_s),
                    signed_children,
                    unsigned_children,
                    claimed: false,
                },
            );
        }
    }

    /// The closest zone at or above `name`, secure or insecure, that is to be learnt anew before it is
    /// forgotten, and that nobody has claimed: `is_ending` decides, told for how long it was to be
    /// known and how long ago it was learnt, in seconds.
    pub fn ending(
        &self,
        name: &Name,
        now: &Now,
        is_ending: impl Fn(u32, u32) -> bool,
    ) -> Option<Name> {
        let mut at = Some(name.clone());
        while let Some(zone) = at {
            let known = self.zones.get(&zone).filter(|known| {
                !matches!(known.status, ZoneStatus::NotACut { .. })
                    && !known.claimed
                    && now.uptime_s < known.expires_s
            });
            if let Some(known) = known {
                let ttl_s = known.expires_s.saturating_sub(known.learnt_s);
                let age_s = now.uptime_s.saturating_sub(known.learnt_s);
                if is_ending(ttl_s, age_s) {
                    return Some(zone);
                }
            }
            at = zone.parent();
        }
        None
    }

    /// Takes the duty to learn `zone` anew; `false` when somebody has it, or nothing is known.
    pub fn claim(&mut self, zone: &Name) -> bool {
        self.zones
            .get_mut(zone)
            .is_some_and(|known| !std::mem::replace(&mut known.claimed, true))
    }

    /// Forgets `name` and everything at and below it, so that a repair or an operator starts
    /// afresh.
    pub fn forget(&mut self, name: &Name) {
        self.zones.retain(|known, _| !known.is_within(name));
    }

    /// Forgets the closest zone known at or above `name`, and what between them was no cut, unless
    /// that was learnt just now: the keys may have been replaced since, or a zone made. A zone whose
    /// answers are bogus costs one look at its chain in `DOUBT_AFTER_S`, not one for each answer.
    pub fn doubt(&mut self, name: &Name, now: &Now) {
        let mut at = Some(name.clone());
        while let Some(zone) = at {
            if let Some(known) = self.zones.get(&zone) {
                let is_zone = !matches!(known.status, ZoneStatus::NotACut { .. });
                if now.uptime_s >= known.learnt_s.saturating_add(DOUBT_AFTER_S) {
                    self.zones.remove(&zone);
                }
                if is_zone {
                    return;
                }
            }
            at = zone.parent();
        }
    }

    /// Drops what is expired, and if nothing is, the half that expires first.
    fn make_room(&mut self, now: &Now) {
        let uptime_s = now.uptime_s;
        self.zones.retain(|_, known| uptime_s < known.expires_s);
        if self.zones.len() < ZONES_KNOWN_MAX {
            return;
        }
        let mut times: Vec<u32> = self.zones.values().map(|known| known.expires_s).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        self.zones
            .retain(|name, known| name.is_root() || known.expires_s > median);
    }

    /// Counts a delegation at the zone it leaves.
    fn count_child(&mut self, one: &Learned) {
        let signed = match one.status {
            ZoneStatus::Secure(_) => true,
            ZoneStatus::Insecure(_) => false,
            ZoneStatus::NotACut { .. } => return,
        };
        let mut at = one.name.parent();
        while let Some(name) = at {
            if let Some(parent) = self.zones.get_mut(&name)
                && matches!(parent.status, ZoneStatus::Secure(_))
            {
                let count = if signed {
                    &mut parent.signed_children
                } else {
                    &mut parent.unsigned_children
                };
                *count = count.saturating_add(1);
                return;
            }
            at = name.parent();
        }
    }

    /// Signed and unsigned delegations seen from `zone`.
    pub(super) fn children(&self, zone: &Name) -> (u16, u16) {
        self.zones.get(zone).map_or((0, 0), |known| {
            (known.signed_children, known.unsigned_children)
        })
    }
}

#[cfg(test)]
impl ZoneKeys {
    /// A zone with this one DNSKEY, for checking a set by itself.
    pub(super) fn for_test(zone: &Name, rdata: &[u8]) -> Self {
        let algorithm = rdata[3];
        let public = Algorithm::supported(algorithm, false)
            .and_then(|algorithm| PublicKey::parse(algorithm, &rdata[4..]));
        Self {
            zone: zone.clone(),
            keys: vec![Key {
                tag: key_tag(rdata),
                algorithm,
                public,
                rdata: Box::from(rdata),
            }],
        }
    }
}
