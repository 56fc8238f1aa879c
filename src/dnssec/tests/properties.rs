//! What must hold whatever an upstream does to responses.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;

use crate::{
    dnssec::{Judged, Security, canonical},
    wire::{Name, Question, Record, Response, rtype},
};

use super::{
    answers::world,
    lab::{Client, World, question},
};

/// Questions of every class of answer in the world of the honest tests.
const QUESTIONS: &[(&str, u16)] = &[
    ("www.example.com.", rtype::A),
    ("www.example.org.", rtype::A),
    ("www.example.com.", rtype::AAAA),
    ("www.example.org.", rtype::AAAA),
    ("no.example.com.", rtype::A),
    ("no.such.example.org.", rtype::A),
    ("under.example.com.", rtype::A),
    ("under.example.org.", rtype::A),
    ("x.wild.example.com.", rtype::A),
    ("x.wild.example.org.", rtype::A),
    ("x.wild.example.org.", rtype::AAAA),
    ("alias.example.com.", rtype::A),
    ("x.walias.example.com.", rtype::A),
    ("gone.example.com.", rtype::A),
    ("out.example.com.", rtype::A),
    ("www.tree.example.com.", rtype::A),
    ("www.unsigned.org.", rtype::A),
    ("www.unsigned.com.", rtype::AAAA),
    ("back.unsigned.com.", rtype::A),
    ("example.com.", rtype::DS),
    ("unsigned.org.", rtype::DS),
    ("example.org.", rtype::DNSKEY),
    ("nothing.", rtype::A),
];

/// One thing done to the responses of a walk.
#[derive(Clone, Debug)]
enum Mischief {
    /// A bit of a record's RDATA.
    Rdata(usize, usize, u8),
    /// A letter of a record's owner.
    Owner(usize, usize),
    Ttl(usize, u32),
    Type(usize, u16),
    Remove(usize),
    /// Copies a record under the owner of another.
    Transplant(usize, usize),
    /// Moves a record to the other section.
    Move(usize),
    Rcode(u16),
    /// Puts the records of another response in.
    Mix(usize),
}

fn mischief() -> impl Strategy<Value = Mischief> {
    let place = 0..40_usize;
    prop_oneof![
        4 => (place.clone(), 0..200_usize, 0..8_u8).prop_map(|(at, octet, bit)| Mischief::Rdata(at, octet, bit)),
        1 => (place.clone(), 0..30_usize).prop_map(|(at, octet)| Mischief::Owner(at, octet)),
        1 => (place.clone(), any::<u32>()).prop_map(|(at, ttl)| Mischief::Ttl(at, ttl)),
        1 => (place.clone(), prop_oneof![Just(1_u16), Just(2), Just(5), Just(6), Just(39), Just(43), Just(46), Just(47), Just(50)])
            .prop_map(|(at, rtype)| Mischief::Type(at, rtype)),
        3 => place.clone().prop_map(Mischief::Remove),
        1 => (place.clone(), place.clone()).prop_map(|(from, to)| Mischief::Transplant(from, to)),
        1 => place.prop_map(Mischief::Move),
        1 => prop_oneof![Just(0_u16), Just(3), Just(2)].prop_map(Mischief::Rcode),
        1 => (0..QUESTIONS.len()).prop_map(Mischief::Mix),
    ]
}

/// The record at a place counted over both sections.
fn pick(response: &mut Response, at: usize) -> Option<&mut Record> {
    let answers = response.answer.len();
    if at < answers {
        response.answer.get_mut(at)
    } else {
        response.authority.get_mut(at - answers)
    }
}

fn apply(world: &World, mischief: &Mischief, response: &mut Response) {
    let total = response.answer.len() + response.authority.len();
    let at = |place: usize| if total == 0 { 0 } else { place % total };
    match *mischief {
        Mischief::Rdata(place, octet, bit) => {
            if let Some(record) = pick(response, at(place)) {
                let len = record.rdata.len().max(1);
                if let Some(octet) = record.rdata.get_mut(octet % len) {
                    *octet ^= 1 << bit;
                }
            }
        }
        Mischief::Owner(place, octet) => {
            if let Some(record) = pick(response, at(place)) {
                let mut wire = record.owner.as_wire().to_vec();
                let len = wire.len();
                if wire[octet % len].is_ascii_lowercase() {
                    wire[octet % len] = b'q';
                }
                record.owner = Name::from_wire(&wire).unwrap();
            }
        }
        Mischief::Ttl(place, ttl_s) => {
            if let Some(record) = pick(response, at(place)) {
                record.ttl_s = ttl_s;
            }
        }
        Mischief::Type(place, rtype) => {
            if let Some(record) = pick(response, at(place)) {
                record.rtype = rtype;
            }
        }
        Mischief::Remove(place) => {
            let answers = response.answer.len();
            let at = at(place);
            if at < answers {
                response.answer.remove(at);
            } else if at < total {
                response.authority.remove(at - answers);
            }
        }
        Mischief::Transplant(from, to) => {
            let copied = pick(response, at(from)).map(|record| record.clone());
            if let (Some(mut copied), Some(target)) = (copied, pick(response, at(to))) {
                copied.owner = target.owner.clone();
                response.answer.push(copied);
            }
        }
        Mischief::Move(place) => {
            let answers = response.answer.len();
            let at = at(place);
            if at < answers {
                let record = response.answer.remove(at);
                response.authority.push(record);
            } else if at < total {
                let record = response.authority.remove(at - answers);
                response.answer.push(record);
            }
        }
        Mischief::Rcode(rcode) => response.rcode = rcode,
        Mischief::Mix(other) => {
            let (owner, qtype) = QUESTIONS[other];
            let other = world.respond(&question(owner, qtype));
            response.answer.extend(other.answer);
            response.authority.extend(other.authority);
        }
    }
}

/// The data a client would see, without TTLs and signatures.
fn data(judged: &Judged) -> BTreeSet<(Name, u16, Vec<u8>)> {
    judged
        .answer
        .iter()
        .filter(|one| one.rtype != rtype::RRSIG)
        .map(|one| {
            let rdata = canonical::rdata(one.rtype, &one.rdata);
            (one.owner.clone(), one.rtype, rdata)
        })
        .collect()
}

fn honest(world: &World) -> HashMap<Question, Judged> {
    QUESTIONS
        .iter()
        .map(|(owner, qtype)| {
            let question = question(owner, *qtype);
            let judged = Client::new(world).ask(&question);
            (question, judged)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// The heart of the matter: whatever is done to any response of the walk, what comes out as
    /// secure is the truth, and what is secure in truth never comes out as insecure.
    #[test]
    fn no_mischief_is_believed(
        asked in 0..QUESTIONS.len(),
        deeds in prop::collection::vec((0..8_usize, mischief()), 1..4),
        everywhere in any::<bool>(),
    ) {
        let world = world();
        let (owner, qtype) = QUESTIONS[asked];
        let question = question(owner, qtype);
        let truth = Client::new(&world).ask(&question);
        let judged = Client::new(&world).ask_tampered(&question, |one, response| {
            // Which response a deed hits depends on its question alone.
            let number = one.name.as_wire().len() + usize::from(one.qtype);
            for (target, deed) in &deeds {
                if everywhere || number % 8 == *target || (*target < 3 && *one == question) {
                    apply(&world, deed, response);
                }
            }
        });
        match judged.verdict.security() {
            Security::Bogus | Security::Indeterminate => {
                prop_assert!(judged.answer.is_empty() && judged.authority.is_empty());
            }
            Security::Insecure => {
                prop_assert_eq!(truth.verdict.security(), Security::Insecure, "{:?}", judged);
            }
            Security::Secure if judged.next.is_some() => {
                prop_assert!(data(&judged).is_subset(&data(&truth)), "{:?}", judged);
            }
            Security::Secure => {
                prop_assert_eq!(data(&judged), data(&truth), "{:?}", judged);
                prop_assert_eq!(judged.rcode, truth.rcode, "{:?}", judged);
                prop_assert!(judged.answer.iter().all(|one| one.ttl_s <= super::lab::TTL_S));
            }
        }
    }

    /// Order, duplicates and the case of letters are the upstream's to choose.
    #[test]
    fn order_duplicates_and_case_do_not_change_the_verdict(
        asked in 0..QUESTIONS.len(),
        seed in any::<u64>(),
    ) {
        let world = world();
        let (owner, qtype) = QUESTIONS[asked];
        let question = question(owner, qtype);
        let truth = Client::new(&world).ask(&question);
        let judged = Client::new(&world).ask_tampered(&question, |_, response| {
            let mut state = seed | 1;
            let mut draw = |bound: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                usize::try_from(state >> 40).unwrap() % bound.max(1)
            };
            for section in [&mut response.answer, &mut response.authority] {
                for _ in 0..draw(3) {
                    if let Some(copy) = section.get(draw(section.len())).cloned() {
                        section.push(copy);
                    }
                }
                for place in (1..section.len()).rev() {
                    section.swap(place, draw(place + 1));
                }
                for one in section.iter_mut() {
                    // Names in these types are folded before they are signed.
                    if matches!(one.rtype, rtype::CNAME | rtype::NS | rtype::DNAME) {
                        for octet in &mut one.rdata {
                            if draw(2) == 0 {
                                octet.make_ascii_uppercase();
                            }
                        }
                    }
                }
            }
        });
        prop_assert_eq!(judged.verdict.security(), truth.verdict.security(), "{:?}", judged);
        prop_assert_eq!(data(&judged), data(&truth));
        prop_assert_eq!(judged.rcode, truth.rcode);
    }

    /// Octets of every kind in place of records end in a verdict, within bounds.
    #[test]
    fn any_octets_end_in_a_verdict(
        records in prop::collection::vec(
            (0..6_usize, 0..9_usize, prop::collection::vec(any::<u8>(), 0..60), any::<bool>()),
            0..12,
        ),
        asked in 0..QUESTIONS.len(),
    ) {
        let world = world();
        let (owner, qtype) = QUESTIONS[asked];
        let owners = ["www.example.com.", "example.com.", "com.", ".", "x.y.z.example.org.", "*.example.org."];
        let types = [1, 5, 6, 39, 43, 46, 47, 48, 50];
        let judged = Client::new(&world).ask_tampered(&question(owner, qtype), |_, response| {
            for (owner, rtype, rdata, in_answer) in &records {
                let one = super::lab::record(&super::lab::name(owners[*owner]), types[*rtype], rdata);
                if *in_answer {
                    response.answer.push(one);
                } else {
                    response.authority.push(one);
                }
            }
        });
        prop_assert!(judged.verdict.is_usable() || judged.answer.is_empty());
    }
}

#[test]
fn the_honest_answers_are_as_varied_as_they_should_be() {
    let world = world();
    let honest = honest(&world);
    let count = |security| {
        honest
            .values()
            .filter(|judged| judged.verdict.security() == security)
            .count()
    };
    assert_eq!(count(Security::Secure), 19);
    assert_eq!(count(Security::Insecure), 4);
}
