//! Answers that lie, each in a way that some validator has believed. Every test names the lie; the
//! forged records carry good signatures wherever the liar could make them.

mod bounds;
mod chain;
mod denial;
mod replaced;
mod signatures;

use crate::{
    dnssec::{Judged, Security, Why},
    wire::{Question, Record, Response, rcode, rtype},
};

use super::lab::{Client, World, Zone, bitmap, name, question, record};

#[track_caller]
fn tampered(
    world: &World,
    owner: &str,
    qtype: u16,
    tamper: impl Fn(&Question, &mut Response),
) -> Judged {
    let judged = Client::new(world).ask_tampered(&question(owner, qtype), tamper);
    if !judged.verdict.is_usable() {
        assert!(judged.answer.is_empty() && judged.authority.is_empty());
        assert_eq!(judged.rcode, rcode::SERVFAIL);
        let reason = judged.verdict.reason().unwrap();
        assert!(reason.why.extended_error().is_some(), "{reason}");
    }
    judged
}

#[track_caller]
fn is_bogus(judged: &Judged, why: Why) {
    assert_eq!(judged.verdict.security(), Security::Bogus, "{judged:?}");
    let reason = judged.verdict.reason().unwrap();
    assert_eq!(reason.why, why, "{reason}");
}

/// A root, `lab.`, and below it the honest `sec.lab.` and the liar's `evil.lab.`.
fn lab() -> World {
    World::new(vec![
        Zone::new(".", 1),
        Zone::new("lab.", 2).hosts(&["www.lab.", "zzz.lab."]),
        Zone::new("sec.lab.", 3).hosts(&["www.sec.lab.", "*.w.sec.lab.", "x.y.sec.lab."]),
        Zone::new("evil.lab.", 4).hosts(&["www.evil.lab."]),
        Zone::new("unsigned.lab.", 0).hosts(&["www.unsigned.lab."]),
    ])
}

fn only(question: &Question, owner: &str, qtype: u16) -> bool {
    question.name == name(owner) && question.qtype == qtype
}

fn without(records: &mut Vec<Record>, rtype: u16) {
    records.retain(|one| one.rtype != rtype);
}

/// An NSEC with the zone's good signature.
fn nsec(zone: &Zone, owner: &str, next: &str, types: &[u16]) -> Vec<Record> {
    let mut rdata = name(next).as_wire().to_vec();
    rdata.extend(bitmap(types));
    let owner = name(owner);
    zone.signed(&owner, rtype::NSEC, &owner, &[rdata])
}

fn forge(owner: &str, qtype: u16, rdata: &[u8]) -> Record {
    record(&name(owner), qtype, rdata)
}
