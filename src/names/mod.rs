//! Names that are answered here and asked of nobody: those reserved for special use, which the
//! public DNS does not have, or has only so that somebody answers (RFC 6761, RFC 6303 and their
//! kin; the table with the document of each is in `zones`).
//!
//! Pure: a question in, an answer out. Knows no upstream, no cache and no client. A zone with a
//! route of its own is no business of this room.

#[cfg(test)]
mod tests;
mod zones;

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::{CLASS_IN, Name, Question, Record, rcode, rtype};
use zones::{Kind, Zone};

/// The TTL of what is answered here, negative answers included, seconds: these names do not change,
/// but a person who gives one a route of its own should not wait for long (RFC 6303, section 3, has
/// three hours).
const TTL_S: u32 = 3_600;

/// Which names are answered here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether special-use names are.
    pub special_use: bool,
    /// Zones that have upstreams of their own: at and below them nothing is answered here.
    pub routed: Vec<Name>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            special_use: true,
            routed: Vec::new(),
        }
    }
}

/// An answer made here. Nothing of it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// NOERROR or NXDOMAIN.
    pub rcode: u16,
    /// The records asked for.
    pub answer: Vec<Record>,
    /// The SOA of a negative answer, which makes it one that can be cached (RFC 2308, section 5).
    pub authority: Vec<Record>,
    /// Where it is said so, such as `RFC 6761`.
    pub document: &'static str,
}

impl Settings {
    /// The answer to `question`, if it is to be answered here.
    #[must_use]
    pub fn answer(&self, question: &Question) -> Option<Local> {
        if !self.special_use || question.qclass != CLASS_IN {
            return None;
        }
        let (apex, zone) = zones::of(&question.name)?;
        // A DS record stands in the zone above, which is public and proves that there is none: a
        // validating client needs that proof to take the rest of our word (RFC 8375, section 4).
        if question.qtype == rtype::DS && question.name == apex && zone.has_public_parent(&apex) {
            return None;
        }
        let routed = |route: &Name| question.name.is_within(route);
        if self
            .routed
            .iter()
            .any(|route| route.is_within(&apex) && routed(route))
        {
            return None;
        }
        // Whether there is a NAT64, and with which prefix, only the network's own resolver knows
        // (RFC 8880, section 7.1).
        if zone.kind == Kind::Ipv4Only && question.name == apex && question.qtype == rtype::AAAA {
            return None;
        }
        Some(zone.answer(&apex, question))
    }
}

impl Zone {
    fn answer(&self, apex: &Name, question: &Question) -> Local {
        let at_apex = question.name == *apex;
        let (exists, mut data) = self.records(at_apex, question);
        if at_apex && self.kind != Kind::Absent {
            match question.qtype {
                rtype::SOA => data.push(soa(apex)),
                // No name server is named that anybody could look for (RFC 6303, section 3).
                rtype::NS => data.push(Box::from(apex.as_wire())),
                _ => {}
            }
        }
        let record = |owner: &Name, rtype, rdata| Record {
            owner: owner.clone(),
            rtype,
            class: CLASS_IN,
            ttl_s: TTL_S,
            rdata,
        };
        let answer: Vec<Record> = data
            .into_iter()
            .map(|rdata| record(&question.name, question.qtype, rdata))
            .collect();
        let authority = if answer.is_empty() {
            vec![record(apex, rtype::SOA, soa(apex))]
        } else {
            Vec::new()
        };
        Local {
            rcode: if exists {
                rcode::NOERROR
            } else {
                rcode::NXDOMAIN
            },
            answer,
            authority,
            document: self.document,
        }
    }

    /// Whether the name asked for exists, and the data of the records of its type beside the apex's
    /// SOA and NS.
    fn records(&self, at_apex: bool, question: &Question) -> (bool, Vec<Box<[u8]>>) {
        let (kind, qtype) = (self.kind, question.qtype);
        let address = |octets: &[u8]| vec![Box::from(octets)];
        match (kind, qtype) {
            (Kind::Absent, _) => (false, Vec::new()),
            (Kind::Localhost, rtype::A) => (true, address(&Ipv4Addr::LOCALHOST.octets())),
            (Kind::Localhost, rtype::AAAA) => (true, address(&Ipv6Addr::LOCALHOST.octets())),
            (Kind::Localhost, _) => (true, Vec::new()),
            (Kind::Ipv4Only, rtype::A) if at_apex => {
                let well_known = [[192, 0, 0, 170], [192, 0, 0, 171]];
                (true, well_known.map(|octets| Box::from(&octets[..])).into())
            }
            (Kind::Empty | Kind::Ipv4Only, _) => (at_apex, Vec::new()),
            (Kind::Pointer { owner, target }, _) => {
                let owner = zones::name(owner);
                let exists = owner.is_within(&question.name);
                let points = question.name == owner && qtype == rtype::PTR;
                let target = points.then(|| Box::from(zones::name(target).as_wire()));
                (exists, target.into_iter().collect())
            }
            // Whether clients find an encrypted resolver behind this name: none is designated
            // (RFC 9462, section 6.4), and none describes itself (RFC 9606).
            (Kind::Resolver, _) => {
                let labels: Vec<&[u8]> = question.name.labels().collect();
                let designates = labels.len() == 3 && labels.first() == Some(&&b"_dns"[..]);
                (at_apex || designates, Vec::new())
            }
        }
    }
}

/// The data of a zone's SOA record: `@ nobody.invalid. 1 3600 1200 604800 TTL` (RFC 6303,
/// section 3).
fn soa(apex: &Name) -> Box<[u8]> {
    let mut rdata = apex.as_wire().to_vec();
    rdata.extend_from_slice(b"\x06nobody\x07invalid\x00");
    for number in [1, 3_600, 1_200, 604_800, TTL_S] {
        rdata.extend_from_slice(&u32::to_be_bytes(number));
    }
    rdata.into_boxed_slice()
}
