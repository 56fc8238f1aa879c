//! Denial of existence: which proofs there are, whatever records carry them.
//!
//! | class | what the records must say |
//! |---|---|
//! | NXDOMAIN | the name does not exist, nor a wildcard at its closest encloser |
//! | NODATA | the name exists without the type and without CNAME, or only as an ancestor |
//! | wildcard NODATA | the name does not exist; the wildcard does, without the type |
//! | wildcard answer | the next closer name does not exist |
//! | DS absence | as NODATA, from the parent's side of the cut |
//!
//! The records have been validated and belong to one zone. What they say decides the rcode; the
//! message's own rcode is not signed.

use crate::wire::{Name, rtype};

use super::{limits::Budget, nsec::NsecProof, nsec3::Nsec3Proof, rrset::RrSet, verdict::Why};

/// What a proof of absence proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Denial {
    /// The name does not exist; else it exists without the type.
    pub(super) nx_domain: bool,
    /// The proof leaves room for unsigned delegations, and makes the answer insecure.
    pub(super) opt_out: bool,
}

impl Denial {
    pub(super) const NX_DOMAIN: Self = Self {
        nx_domain: true,
        opt_out: false,
    };
    pub(super) const NO_DATA: Self = Self {
        nx_domain: false,
        opt_out: false,
    };

    pub(super) const fn opting_out(self, opt_out: bool) -> Self {
        Self { opt_out, ..self }
    }
}

/// What the absence of a DS says about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    /// A delegation without DS: everything from here on is insecure.
    UnsignedDelegation,
    /// There may be an unsigned delegation in an opt-out span; to us that is the same.
    OptOut,
    /// No delegation is at this name.
    NotACut {
        /// The name does not exist at all, so no delegation is below it either.
        nothing_below: bool,
    },
}

/// The validated NSEC and NSEC3 records of one zone out of one response.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    nsec: NsecProof,
    nsec3: Nsec3Proof,
}

impl Evidence {
    pub(super) fn new(zone: &Name) -> Self {
        Self {
            nsec: NsecProof::new(zone),
            nsec3: Nsec3Proof::new(zone),
        }
    }

    /// Takes in a set that was validated with the zone's keys and did not come out of a wildcard.
    pub(super) fn add(&mut self, set: &RrSet) {
        match set.rtype {
            rtype::NSEC => self.nsec.add(set),
            rtype::NSEC3 => self.nsec3.add(set),
            _ => {}
        }
    }

    /// Proves that `name` does not exist, or has no `qtype`.
    pub(super) fn deny(
        &mut self,
        name: &Name,
        qtype: u16,
        budget: &mut Budget,
    ) -> Result<Denial, Why> {
        let first = self.nsec.deny(name, qtype);
        if first.is_ok() || self.nsec3.is_empty() {
            return first;
        }
        self.nsec3.deny(name, qtype, budget)
    }

    /// What the absence of DS at `child` says about it.
    pub(super) fn ds_absent(&mut self, child: &Name, budget: &mut Budget) -> Result<Absence, Why> {
        let first = self.nsec.ds_absent(child);
        if first.is_ok() || self.nsec3.is_empty() {
            return first;
        }
        self.nsec3.ds_absent(child, budget)
    }

    /// Proves that the name next closer than a wildcard's closest encloser does not exist, so that
    /// the wildcard applied. Returns whether the proof opts out.
    pub(super) fn no_closer_match(
        &mut self,
        next_closer: &Name,
        budget: &mut Budget,
    ) -> Result<bool, Why> {
        if self.nsec.is_absent(next_closer) {
            return Ok(false);
        }
        if self.nsec3.is_empty() {
            return Err(Why::WildcardUnproven);
        }
        self.nsec3
            .is_absent(next_closer, budget)?
            .ok_or(Why::WildcardUnproven)
    }

    /// The wildcard that a name which NSEC proves absent might come out of.
    pub(super) fn wildcard_by_nsec(&self, name: &Name) -> Option<Name> {
        self.nsec.closest_encloser(name)?.child(b"*").ok()
    }

    /// Whether there is nothing to prove with.
    pub(super) fn is_empty(&self) -> bool {
        self.nsec.is_empty() && self.nsec3.is_empty()
    }
}
