//! Answers made to cost: iterations, depth, collisions.

use crate::{
    dnssec::{Security, Why},
    wire::rtype,
};

use super::{
    super::lab::{Client, World, Zone, name, question},
    is_bogus, lab, tampered,
};

#[test]
fn nsec3_iterations_are_limited_before_anything_is_hashed() {
    for (iterations, security) in [
        (0, Security::Secure),
        (50, Security::Secure),
        (51, Security::Insecure),
        (500, Security::Insecure),
        (501, Security::Bogus),
        (2500, Security::Bogus),
    ] {
        let world = World::new(vec![
            Zone::new(".", 1),
            Zone::new("tld.", 2)
                .nsec3(iterations, false)
                .hosts(&["www.tld."]),
        ]);
        let judged = tampered(&world, "no.tld.", rtype::A, |_, _| {});
        assert_eq!(judged.verdict.security(), security, "{iterations}");
        if security != Security::Secure {
            let reason = judged.verdict.reason().unwrap();
            assert_eq!(reason.why.extended_error(), Some(27));
        }
    }
}

#[test]
fn deep_names_cost_a_bounded_number_of_hashes() {
    let deep = format!("{}tld.", "a.".repeat(100));
    for (iterations, security) in [(0, Security::Secure), (50, Security::Bogus)] {
        let world = World::new(vec![
            Zone::new(".", 1),
            Zone::new("tld.", 2)
                .nsec3(iterations, false)
                .hosts(&["www.tld."]),
        ]);
        let judged = tampered(&world, &deep, rtype::A, |_, _| {});
        assert_eq!(judged.verdict.security(), security, "{iterations}");
    }
}

#[test]
fn many_signatures_that_fail_end_in_a_bogus_verdict_soon() {
    let lab = lab();
    let mut client = Client::new(&lab);
    let judged = client.ask_tampered(&question("www.sec.lab.", rtype::A), |question, response| {
        if question.qtype == rtype::A {
            let mut bad = response.answer[1].clone();
            response.answer.truncate(1);
            let last = bad.rdata.len() - 1;
            for octet in 0..200 {
                bad.rdata[last] = octet;
                bad.rdata[last - 1] = 0xee;
                response.answer.push(bad.clone());
            }
        }
    });
    is_bogus(&judged, Why::OverBudget);
    assert!(client.checks <= 16, "{}", client.checks);
}

#[test]
fn a_few_signatures_that_fail_are_borne() {
    let lab = lab();
    let judged = tampered(&lab, "www.sec.lab.", rtype::A, |question, response| {
        if question.qtype == rtype::A {
            let mut bad = response.answer[1].clone();
            let last = bad.rdata.len() - 1;
            for octet in 0..8 {
                bad.rdata[last] = octet;
                bad.rdata[last - 1] = 0;
                response.answer.push(bad.clone());
            }
        }
    });
    assert_eq!(judged.verdict.security(), Security::Secure, "{judged:?}");
}

/// A key with the tag wanted, made of `seed`, which nobody can sign with.
fn colliding(tag: u16, seed: u8) -> Vec<u8> {
    let mut dnskey = vec![1, 1, 3, 15];
    dnskey.extend_from_slice(&[seed; 30]);
    dnskey.extend_from_slice(&[0, 0]);
    for octets in 0..=u16::MAX {
        dnskey.truncate(34);
        dnskey.extend_from_slice(&octets.to_be_bytes());
        if crate::dnssec::key_tag(&dnskey) == tag {
            break;
        }
    }
    dnskey
}

#[test]
fn colliding_keys_and_signatures_cost_a_bounded_number_of_checks() {
    let mut world = World::new(vec![
        Zone::new(".", 1),
        Zone::new("trap.", 2).hosts(&["www.trap."]),
    ]);
    let zone = world.zone_mut("trap.");
    let tag = zone.signer.as_ref().unwrap().tag;
    // Sorted behind the honest key, so that the set itself proves good.
    for seed in 0x90..0xcc {
        zone.put(&name("trap."), rtype::DNSKEY, colliding(tag, seed));
    }
    let mut client = Client::new(&world);
    let judged = client.ask_tampered(&question("www.trap.", rtype::A), |question, response| {
        if question.qtype == rtype::A {
            let mut bad = response.answer[1].clone();
            response.answer.truncate(1);
            let last = bad.rdata.len() - 1;
            for octet in 0..60 {
                bad.rdata[last] = octet;
                bad.rdata[last - 1] = 0xee;
                response.answer.push(bad.clone());
            }
        }
    });
    is_bogus(&judged, Why::OverBudget);
    // The root's keys, the DS, the keys, and the failures that are borne.
    assert_eq!(client.checks, 3 + 9);
}
