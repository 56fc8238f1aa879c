//! Denial by NSEC (RFC 4034, section 4; RFC 4035, section 5.4; RFC 6840, section 4.1).

use crate::wire::{Name, rtype};

use super::{
    denial::{Absence, Denial},
    rdata::Nsec,
    rrset::RrSet,
    verdict::Why,
};

/// The NSEC records of one proof: validated, of one zone, owner and next name inside it.
#[derive(Clone, Debug)]
pub(super) struct NsecProof {
    zone: Name,
    records: Vec<(Name, Nsec)>,
}

impl NsecProof {
    pub(super) fn new(zone: &Name) -> Self {
        Self {
            zone: zone.clone(),
            records: Vec::new(),
        }
    }

    /// Takes in a validated NSEC RRset. A record whose next name leaves the zone is left out: it
    /// would deny names of the zone's siblings.
    pub(super) fn add(&mut self, set: &RrSet) {
        for rdata in set.canonical_rdata() {
            if let Some(nsec) = Nsec::parse(rdata)
                && set.owner.is_within(&self.zone)
                && nsec.next.is_within(&self.zone)
            {
                self.records.push((set.owner.clone(), nsec));
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Proves that `name` does not exist, or has no `qtype`.
    pub(super) fn deny(&self, name: &Name, qtype: u16) -> Result<Denial, Why> {
        if let Some(result) = self.types_at(name, qtype) {
            return result.map(|()| Denial::NO_DATA);
        }
        if self.is_empty_non_terminal(name) {
            return Ok(Denial::NO_DATA);
        }
        let closest_encloser = self.closest_encloser(name).ok_or(Why::DenialMissing)?;
        let Ok(wildcard) = closest_encloser.child(b"*") else {
            // No room for a wildcard label means there is no wildcard.
            return Ok(Denial::NX_DOMAIN);
        };
        if let Some(result) = self.types_at(&wildcard, qtype) {
            return result.map(|()| Denial::NO_DATA);
        }
        if self.is_empty_non_terminal(&wildcard) {
            return Ok(Denial::NO_DATA);
        }
        if self.is_absent(&wildcard) {
            return Ok(Denial::NX_DOMAIN);
        }
        Err(Why::DenialMissing)
    }

    /// What the absence of DS at `child`, a name below the zone's apex, says about it.
    pub(super) fn ds_absent(&self, child: &Name) -> Result<Absence, Why> {
        let mut absence = None;
        for (owner, nsec) in &self.records {
            if owner != child {
                continue;
            }
            if nsec.types.contains(rtype::DS) || nsec.types.contains(rtype::SOA) {
                return Err(Why::DenialContradicts);
            }
            if nsec.types.contains(rtype::NS) {
                return Ok(Absence::UnsignedDelegation);
            }
            absence = Some(Absence::NotACut {
                nothing_below: false,
            });
        }
        if let Some(absence) = absence {
            return Ok(absence);
        }
        if self.is_empty_non_terminal(child) {
            return Ok(Absence::NotACut {
                nothing_below: false,
            });
        }
        if self.is_absent(child) {
            return Ok(Absence::NotACut {
                nothing_below: true,
            });
        }
        Err(Why::DenialMissing)
    }

    /// Whether `name` is proved not to exist, not even as an ancestor of something.
    pub(super) fn is_absent(&self, name: &Name) -> bool {
        self.covering(name)
            .any(|(_, nsec)| !nsec.next.is_within(name))
    }

    /// Whether `name` is proved to exist only as an ancestor.
    fn is_empty_non_terminal(&self, name: &Name) -> bool {
        self.covering(name)
            .any(|(_, nsec)| nsec.next.is_within(name))
    }

    /// The records whose gap `name` lies in, and that may speak about it.
    fn covering(&self, name: &Name) -> impl Iterator<Item = &(Name, Nsec)> {
        self.records.iter().filter(move |(owner, nsec)| {
            name.is_within(&self.zone)
                && owner < name
                && (name < &nsec.next || (nsec.next == self.zone && nsec.next <= *owner))
                && !(name.is_within(owner) && leaves_zone(nsec))
        })
    }

    /// The longest existing ancestor of an absent name: what it shares with either end of its gap.
    pub(super) fn closest_encloser(&self, name: &Name) -> Option<Name> {
        self.covering(name)
            .filter(|(_, nsec)| !nsec.next.is_within(name))
            .map(|(owner, nsec)| {
                let shared = shared_labels(name, owner).max(shared_labels(name, &nsec.next));
                name.suffix(shared)
            })
            .max_by_key(Name::label_count)
    }

    /// If there are NSECs at `name`, whether they deny `qtype` there.
    fn types_at(&self, name: &Name, qtype: u16) -> Option<Result<(), Why>> {
        let mut found = None;
        for (_, nsec) in self.records.iter().filter(|(owner, _)| owner == name) {
            if denies_type(&nsec.types, name, qtype) {
                found.get_or_insert(Ok(()));
            } else {
                found = Some(Err(Why::DenialContradicts));
            }
        }
        found
    }
}

/// Whether a record's owner hands its descendants over: a delegation, or a DNAME
/// (RFC 6840, section 4.1).
fn leaves_zone(nsec: &Nsec) -> bool {
    let cut = nsec.types.contains(rtype::NS) && !nsec.types.contains(rtype::SOA);
    cut || nsec.types.contains(rtype::DNAME)
}

/// Whether the types found at `name` deny `qtype`: neither it nor an alias is there, and the
/// record comes from the side of a zone cut that knows.
pub(super) fn denies_type(types: &super::rdata::TypeBitmap, name: &Name, qtype: u16) -> bool {
    if types.contains(qtype) || types.contains(rtype::CNAME) {
        return false;
    }
    if qtype == rtype::DS {
        // DS lives at the parent; the child's apex, recognized by its SOA, does not know.
        return !types.contains(rtype::SOA) || name.is_root();
    }
    !types.contains(rtype::NS) || types.contains(rtype::SOA)
}

/// How many labels two names share, counted from the root.
fn shared_labels(one: &Name, other: &Name) -> usize {
    let one: Vec<&[u8]> = one.labels().collect();
    let other: Vec<&[u8]> = other.labels().collect();
    one.iter()
        .rev()
        .zip(other.iter().rev())
        .take_while(|(a, b)| a == b)
        .count()
}
