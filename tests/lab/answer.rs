//! Answers as an honest recursive resolver gives them (RFC 1034, section 4.3.2; RFC 4035, section
//! 3.1; RFC 5155, section 7.2; RFC 6672): the whole CNAME and DNAME chain across zones, with
//! signatures and proofs when wanted. Validates nothing and never sets AD.

use super::message::{
    BADVERS, FORMERR, NOTIMP, NXDOMAIN, Query, REFUSED, Record, Response, SERVFAIL, YXDOMAIN,
};
use super::name::Name;
use super::rdata::rtype;
use super::universe::Universe;
use super::zone::{Node, RRset, Zone};
use super::zones::{Defect, Denial};

/// The most CNAME and DNAME steps in one answer; more is a loop.
pub const CHAIN_MAX: usize = 24;

impl Universe {
    /// The honest response to any query.
    pub fn answer(&self, query: &Query) -> Response {
        if query.opcode() != 0 {
            return Response::failure(query, NOTIMP);
        }
        if !query.well_formed {
            return Response::failure(query, FORMERR);
        }
        if query.edns.as_ref().is_some_and(|edns| edns.version > 0) {
            return Response::failure(query, BADVERS);
        }
        if query.qclass != 1 || matches!(query.qtype, 249..=252) {
            return Response::failure(query, REFUSED);
        }
        let mut walk = Walk {
            universe: self,
            dnssec: query.dnssec_ok(),
            qtype: query.qtype,
            response: Response::to(query),
        };
        walk.run(query.qname.clone());
        walk.response
    }
}

/// What follows after one name.
enum Step {
    /// The chain goes on here.
    Next(Name),
    /// The response is complete.
    Done,
}

/// One resolution on its way.
struct Walk<'a> {
    universe: &'a Universe,
    dnssec: bool,
    qtype: u16,
    response: Response,
}

impl<'a> Walk<'a> {
    fn run(&mut self, mut name: Name) {
        for _ in 0..CHAIN_MAX {
            match self.step(&name) {
                Step::Next(next) => name = next,
                Step::Done => return,
            }
        }
        // A loop: what was found says nothing.
        self.fail(SERVFAIL);
    }

    /// Answers for one name, or gives the name to go on with.
    fn step(&mut self, name: &Name) -> Step {
        let zone = self.zone_for(name);
        if let Some(step) = self.dname(zone, name) {
            return step;
        }
        if self.is_lame(zone, name) {
            return self.fail(SERVFAIL);
        }
        match zone.node(name) {
            Some(node) => self.existing(zone, name, node),
            None => self.missing(zone, name),
        }
    }

    /// DS is the parent's (RFC 4035, section 3.1.4.1).
    fn zone_for(&self, name: &Name) -> &'a Zone {
        match name.parent() {
            Some(parent) if self.qtype == rtype::DS && self.universe.is_apex(name) => {
                self.universe.zone_of(&parent)
            }
            _ => self.universe.zone_of(name),
        }
    }

    fn fail(&mut self, rcode: u16) -> Step {
        self.response.answer.clear();
        self.response.authority.clear();
        self.response.rcode = rcode;
        Step::Done
    }

    /// A delegation to a zone that the lab does not hold.
    fn is_lame(&self, zone: &Zone, name: &Name) -> bool {
        let mut at = name.clone();
        while at != zone.apex {
            let asks_parent = at == *name && self.qtype == rtype::DS;
            if zone.rrset(&at, rtype::NS).is_some() && !asks_parent {
                return true;
            }
            match at.parent() {
                Some(parent) => at = parent,
                None => break,
            }
        }
        false
    }

    /// A DNAME above the name: what to do instead, if there is one.
    fn dname(&mut self, zone: &'a Zone, name: &Name) -> Option<Step> {
        let mut above = name.parent()?;
        while above.is_at_or_below(&zone.apex) {
            if let Some(rrset) = zone.rrset(&above, rtype::DNAME) {
                return self.follow_dname(zone, rrset, name);
            }
            above = above.parent()?;
        }
        None
    }

    fn follow_dname(&mut self, zone: &'a Zone, rrset: &RRset, name: &Name) -> Option<Step> {
        self.add_answer(zone, rrset, &rrset.owner);
        let target = &rrset.rdata.first()?.served;
        let kept = name.as_wire().len() - rrset.owner.as_wire().len();
        let mut octets = name.as_wire()[..kept].to_vec();
        octets.extend(target);
        if octets.len() > super::name::NAME_MAX_OCTETS {
            self.response.rcode = YXDOMAIN;
            return Some(Step::Done);
        }
        self.response.answer.push(Record {
            owner: name.as_wire().to_vec(),
            rtype: rtype::CNAME,
            ttl_s: rrset.ttl_s,
            rdata: octets.clone(),
        });
        Some(match self.qtype {
            rtype::CNAME => Step::Done,
            _ => Step::Next(Name::from_wire(&octets)),
        })
    }

    fn existing(&mut self, zone: &'a Zone, name: &Name, node: &'a Node) -> Step {
        if let Some(step) = self.found(zone, name, node) {
            return step;
        }
        self.add_soa(zone);
        self.add_match(zone, name);
        Step::Done
    }

    /// Answers from a node's RRsets, at its own name or expanded; none when the type is not there.
    fn found(&mut self, zone: &'a Zone, name: &Name, node: &'a Node) -> Option<Step> {
        match self.qtype {
            rtype::ANY if !node.is_empty() => {
                for rrset in node.values() {
                    self.add_answer(zone, rrset, name);
                }
                return Some(Step::Done);
            }
            rtype::RRSIG if zone.is_signed() && !node.is_empty() => {
                for rrset in node.values() {
                    let records = zone.records(rrset, name, true).into_iter();
                    self.response
                        .answer
                        .extend(records.filter(|record| record.rtype == rtype::RRSIG));
                }
                return Some(Step::Done);
            }
            rtype::NSEC if zone.is_signed() && zone.spec.denial == Denial::Nsec => {
                let rrset = zone.nsec_for(name).filter(|rrset| rrset.owner == *name)?;
                self.add_answer(zone, rrset, name);
                return Some(Step::Done);
            }
            _ => {}
        }
        if let Some(rrset) = node.get(&self.qtype) {
            self.add_answer(zone, rrset, name);
            return Some(Step::Done);
        }
        let cname = node.get(&rtype::CNAME)?;
        self.add_answer(zone, cname, name);
        Some(Step::Next(Name::from_wire(&cname.rdata.first()?.served)))
    }

    /// The name does not exist: a wildcard's expansion, or NXDOMAIN.
    fn missing(&mut self, zone: &'a Zone, name: &Name) -> Step {
        let encloser = zone.closest_encloser(name);
        let next_closer = next_closer(name, &encloser);
        let wildcard = encloser.wildcard();
        let Some(node) = zone.node(&wildcard) else {
            self.response.rcode = NXDOMAIN;
            self.add_soa(zone);
            if zone.spec.denial != Denial::Nsec {
                self.add_match(zone, &encloser);
            }
            self.add_cover(zone, &next_closer);
            self.add_cover(zone, &wildcard);
            return Step::Done;
        };
        let found = self.found(zone, name, node);
        if found.is_none() {
            self.add_soa(zone);
            if zone.spec.denial != Denial::Nsec {
                self.add_match(zone, &encloser);
            }
        }
        self.add_cover(zone, &next_closer);
        if found.is_none() {
            self.add_match(zone, &wildcard);
        }
        found.unwrap_or(Step::Done)
    }

    fn add_answer(&mut self, zone: &Zone, rrset: &RRset, owner: &Name) {
        let records = zone.records(rrset, owner, self.dnssec);
        self.response.answer.extend(records);
    }

    fn add_authority(&mut self, zone: &Zone, rrset: &RRset) {
        for record in zone.records(rrset, &rrset.owner, self.dnssec) {
            if !self.response.authority.contains(&record) {
                self.response.authority.push(record);
            }
        }
    }

    fn add_soa(&mut self, zone: &Zone) {
        if let Some(soa) = zone.rrset(&zone.apex, rtype::SOA) {
            self.add_authority(zone, soa);
        }
    }

    fn wants_denial(&self, zone: &Zone) -> bool {
        self.dnssec && zone.is_signed() && zone.spec.defect != Some(Defect::StrippedDenial)
    }

    /// The record that says which types a name has; under opt-out the closest provable encloser
    /// when the name itself has none (RFC 5155, section 7.2.4).
    fn add_match(&mut self, zone: &Zone, name: &Name) {
        if !self.wants_denial(zone) {
            return;
        }
        if zone.spec.denial == Denial::Nsec {
            if let Some(rrset) = zone.nsec_for(name) {
                self.add_authority(zone, rrset);
            }
            return;
        }
        if let Some(rrset) = zone.nsec3_matching(name) {
            self.add_authority(zone, rrset);
            return;
        }
        let mut encloser = name.clone();
        while let Some(parent) = encloser.parent() {
            let below = std::mem::replace(&mut encloser, parent);
            if let Some(rrset) = zone.nsec3_matching(&encloser) {
                self.add_authority(zone, rrset);
                self.add_cover(zone, &below);
                return;
            }
        }
    }

    /// The record whose span holds a name that does not exist.
    fn add_cover(&mut self, zone: &Zone, name: &Name) {
        if !self.wants_denial(zone) {
            return;
        }
        let rrset = match zone.spec.denial {
            Denial::Nsec => zone.nsec_for(name),
            Denial::Nsec3 { .. } => zone.nsec3_covering(name),
        };
        if let Some(rrset) = rrset {
            self.add_authority(zone, rrset);
        }
    }
}

/// The name one label below the closest encloser, towards `name`.
fn next_closer(name: &Name, encloser: &Name) -> Name {
    let mut at = name.clone();
    while let Some(parent) = at.parent() {
        if parent == *encloser {
            break;
        }
        at = parent;
    }
    at
}
