//! Zones signed by tools we did not write; see `zones/README.md`.

use std::sync::Arc;

use data_encoding::BASE32HEX_NOPAD;
use ring::digest;

use crate::{
    clock::Now,
    dnssec::{
        Ds, FetchFailed, Judged, KeyCache, Security, Settings, Step, Validation, Why,
        chain::{dnskey_of, ds_of},
        rdata::{Nsec, Nsec3, Rrsig},
    },
    wire::{CLASS_IN, Name, Question, Record, Response, rcode, rtype},
};

use super::{
    lab::{name, question},
    text::{records, time},
};

const ZONES: &[(&str, &str)] = &[
    ("bind-5-nsec", include_str!("zones/bind-5-nsec.zone")),
    ("bind-7-nsec3", include_str!("zones/bind-7-nsec3.zone")),
    ("bind-8-nsec3", include_str!("zones/bind-8-nsec3.zone")),
    ("bind-10-nsec", include_str!("zones/bind-10-nsec.zone")),
    ("bind-13-optout", include_str!("zones/bind-13-optout.zone")),
    ("bind-14-nsec3", include_str!("zones/bind-14-nsec3.zone")),
    ("bind-15-nsec", include_str!("zones/bind-15-nsec.zone")),
    ("ldns-8-nsec", include_str!("zones/ldns-8-nsec.zone")),
    ("ldns-13-nsec3", include_str!("zones/ldns-13-nsec3.zone")),
    ("ldns-14-nsec", include_str!("zones/ldns-14-nsec.zone")),
    ("ldns-15-optout", include_str!("zones/ldns-15-optout.zone")),
];

/// A signed zone as a pile of records, and what is needed to find proofs in it.
struct Signed {
    label: &'static str,
    apex: Name,
    records: Vec<Record>,
    opt_out: bool,
}

impl Signed {
    fn all() -> Vec<Self> {
        ZONES
            .iter()
            .map(|(label, text)| Self {
                label,
                apex: name("example."),
                records: records(text),
                opt_out: label.ends_with("optout"),
            })
            .collect()
    }

    /// The set with its signatures; empty if there is none.
    fn set(&self, owner: &Name, rtype: u16) -> Vec<Record> {
        self.records
            .iter()
            .filter(|one| one.owner == *owner)
            .filter(|one| {
                one.rtype == rtype
                    || (one.rtype == rtype::RRSIG
                        && Rrsig::parse(&one.rdata).unwrap().type_covered == rtype)
            })
            .cloned()
            .collect()
    }

    fn of_type(&self, rtype: u16) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |one| one.rtype == rtype)
    }

    /// The NSEC or NSEC3 that stands at `owner`, or whose gap it lies in.
    fn proof(&self, owner: &Name) -> Vec<Record> {
        if let Some(first) = self.of_type(rtype::NSEC3).next() {
            let parameters = Nsec3::parse(&first.rdata).unwrap();
            let mut hash = owner.as_wire().to_vec();
            for _ in 0..=parameters.iterations {
                hash.extend_from_slice(&parameters.salt);
                let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &hash);
                hash = sha1.as_ref().to_vec();
            }
            let label = BASE32HEX_NOPAD.encode(&hash).to_lowercase();
            let exact = self.apex.child(label.as_bytes()).unwrap();
            let mut owners: Vec<&Name> = self.of_type(rtype::NSEC3).map(|one| &one.owner).collect();
            owners.sort();
            let at = owners.iter().rev().find(|one| ***one <= exact);
            let at = at.or(owners.last()).unwrap();
            return self.set(at, rtype::NSEC3);
        }
        let before = self.of_type(rtype::NSEC).map(|one| &one.owner);
        let at = before.filter(|one| *one <= owner).max().unwrap();
        self.set(at, rtype::NSEC)
    }

    fn denial(&self, owners: &[&str]) -> Vec<Record> {
        let mut all = self.set(&self.apex, rtype::SOA);
        for owner in owners {
            for record in self.proof(&name(owner)) {
                if !all.contains(&record) {
                    all.push(record);
                }
            }
        }
        all
    }

    fn settings(&self) -> Settings {
        let anchors = self
            .of_type(rtype::DNSKEY)
            .filter(|one| one.rdata[1] & 1 == 1)
            .map(|one| {
                let octets = [self.apex.as_wire(), &one.rdata].concat();
                Ds {
                    key_tag: crate::dnssec::key_tag(&one.rdata),
                    algorithm: one.rdata[3],
                    digest_type: 2,
                    digest: Box::from(digest::digest(&digest::SHA256, &octets).as_ref()),
                }
            })
            .collect();
        let mut settings = Settings::with_root_anchors(Vec::new());
        settings.anchors = [(self.apex.clone(), anchors)].into();
        settings.sha1 = true;
        settings
    }

    /// Judges a response, while the zone answers for its keys and for the DS of its children.
    fn judge(
        &self,
        question: &Question,
        rcode: u16,
        answer: Vec<Record>,
        authority: Vec<Record>,
    ) -> Judged {
        let response = |question: &Question, rcode, answer, authority| Response {
            rcode,
            truncated: false,
            question: question.clone(),
            answer,
            authority,
            extended_errors: Vec::new(),
        };
        let now = Now {
            unix_s: u64::from(time("20300101000000")),
            ..Now::read()
        };
        let main = response(question, rcode, answer, authority);
        let settings = Arc::new(self.settings());
        let mut validation = Validation::new(question.clone(), &main, settings, now);
        loop {
            let questions = match validation.step(&KeyCache::new()) {
                Step::Done(judged) => return *judged,
                Step::Need(questions) => questions,
            };
            for one in questions {
                let reply = if one == dnskey_of(&self.apex) {
                    Ok(response(
                        &one,
                        0,
                        self.set(&self.apex, rtype::DNSKEY),
                        Vec::new(),
                    ))
                } else if one == ds_of(&name("unsigned.example.")) {
                    let proof = self.denial(&["unsigned.example.", "example."]);
                    Ok(response(&one, 0, Vec::new(), proof))
                } else {
                    Err(FetchFailed::Network)
                };
                validation.supply(one, reply.as_ref().map_err(|failed| *failed));
            }
        }
    }

    fn denies(&self, owner: &str, qtype: u16, owners: &[&str]) -> Judged {
        // The rcode is a lie half of the time: the proof decides.
        let lie = if owner.len().is_multiple_of(2) {
            rcode::NOERROR
        } else {
            rcode::NXDOMAIN
        };
        self.judge(
            &question(owner, qtype),
            lie,
            Vec::new(),
            self.denial(owners),
        )
    }
}

#[track_caller]
fn is_secure(zone: &Signed, judged: &Judged, rcode: u16) {
    assert_eq!(
        judged.verdict.security(),
        Security::Secure,
        "{} {judged:?}",
        zone.label
    );
    assert_eq!(judged.rcode, rcode, "{}", zone.label);
}

#[test]
fn every_set_of_every_zone_is_secure_and_bogus_when_changed() {
    for zone in Signed::all() {
        let mut sets: Vec<(Name, u16)> = zone
            .of_type(rtype::RRSIG)
            .map(|one| {
                (
                    one.owner.clone(),
                    Rrsig::parse(&one.rdata).unwrap().type_covered,
                )
            })
            .collect();
        sets.sort();
        sets.dedup();
        assert!(sets.len() > 20);
        for (owner, rtype) in sets {
            let asked = Question {
                name: owner.clone(),
                qtype: rtype,
                qclass: CLASS_IN,
            };
            let set = zone.set(&owner, rtype);
            let judged = zone.judge(&asked, 0, set.clone(), Vec::new());
            is_secure(&zone, &judged, rcode::NOERROR);
            let mut changed = set;
            let octet = changed[0].rdata.last_mut().unwrap();
            *octet ^= 1;
            let judged = zone.judge(&asked, 0, changed, Vec::new());
            assert_eq!(
                judged.verdict.security(),
                Security::Bogus,
                "{} {owner} {rtype}",
                zone.label
            );
        }
    }
}

#[test]
fn denials_of_every_zone_hold() {
    for zone in Signed::all() {
        let types = zone.denies("mail.example.", rtype::TXT, &["mail.example."]);
        is_secure(&zone, &types, rcode::NOERROR);
        let apex = zone.denies("example.", rtype::TXT, &["example."]);
        is_secure(&zone, &apex, rcode::NOERROR);
        let ancestor = zone.denies("b.c.example.", rtype::A, &["b.c.example."]);
        is_secure(&zone, &ancestor, rcode::NOERROR);
        for (owner, closest, next_closer, wildcard) in [
            ("no.example.", "example.", "no.example.", "*.example."),
            (
                "x.no.mail.example.",
                "mail.example.",
                "no.mail.example.",
                "*.mail.example.",
            ),
            ("zz.example.", "example.", "zz.example.", "*.example."),
        ] {
            let judged = zone.denies(owner, rtype::A, &[next_closer, wildcard, closest]);
            if zone.opt_out {
                assert_eq!(judged.verdict.reason().unwrap().why, Why::OptOut);
            } else {
                is_secure(&zone, &judged, rcode::NXDOMAIN);
            }
        }
    }
}

#[test]
fn wildcards_of_every_zone_hold() {
    for zone in Signed::all() {
        let proof = ["y.wild.example.", "wild.example.", "*.wild.example."];
        let judged = zone.denies("x.y.wild.example.", rtype::AAAA, &proof);
        let asked = question("x.y.wild.example.", rtype::A);
        let answer: Vec<Record> = zone
            .set(&name("*.wild.example."), rtype::A)
            .into_iter()
            .map(|one| Record {
                owner: asked.name.clone(),
                ..one
            })
            .collect();
        let positive = zone.judge(&asked, 0, answer.clone(), zone.denial(&proof[..1]));
        if zone.opt_out {
            assert_eq!(judged.verdict.reason().unwrap().why, Why::OptOut);
            assert_eq!(positive.verdict.reason().unwrap().why, Why::OptOut);
        } else {
            is_secure(&zone, &judged, rcode::NOERROR);
            is_secure(&zone, &positive, rcode::NOERROR);
        }
        let unproven = zone.judge(&asked, 0, answer, Vec::new());
        assert_eq!(
            unproven.verdict.reason().unwrap().why,
            Why::WildcardUnproven
        );
    }
}

#[test]
fn unsigned_children_of_every_zone_are_insecure() {
    for zone in Signed::all() {
        let asked = question("www.unsigned.example.", rtype::A);
        let answer = vec![super::lab::record(&asked.name, rtype::A, &[192, 0, 2, 9])];
        let judged = zone.judge(&asked, 0, answer, Vec::new());
        // ldns keeps unsigned delegations in the chain of an opt-out zone; BIND leaves them out.
        let why = if zone.label == "bind-13-optout" {
            Why::OptOut
        } else {
            Why::UnsignedDelegation
        };
        assert_eq!(judged.verdict.reason().unwrap().why, why, "{}", zone.label);
        let asked = question("www.example.", rtype::A);
        let answer = vec![super::lab::record(&asked.name, rtype::A, &[192, 0, 2, 9])];
        let judged = zone.judge(&asked, 0, answer, Vec::new());
        assert!(!judged.verdict.is_usable());
    }
}

#[test]
fn the_gap_records_read_back() {
    for zone in Signed::all() {
        assert!(
            zone.of_type(rtype::NSEC)
                .all(|one| Nsec::parse(&one.rdata).is_some())
        );
        assert!(
            zone.of_type(rtype::NSEC3)
                .all(|one| Nsec3::parse(&one.rdata).is_some())
        );
    }
}
