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
    for (labels, iterations, security) in [
        (100, 0, Security::Secure),
        (100, 50, Security::Bogus),
        (20, 10, Security::Secure),
        (20, 50, Security::Bogus),
        (5, 50, Security::Secure),
    ] {
        let deep = format!("{}tld.", "a.".repeat(labels));
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

#[test]
fn failures_are_counted_over_all_links_of_an_answer() {
    let world = World::new(vec![
        Zone::new(".", 1),
        Zone::new("tld.", 2)
            .hosts(&["a.tld."])
            .alias("b.tld.", "a.tld.")
            .alias("c.tld.", "b.tld.")
            .alias("d.tld.", "c.tld."),
    ]);
    let mut client = Client::new(&world);
    let judged = client.ask_tampered(&question("d.tld.", rtype::A), |question, response| {
        if question.qtype == rtype::A {
            for mut bad in std::mem::take(&mut response.answer) {
                if bad.rtype != rtype::RRSIG {
                    response.answer.push(bad);
                    continue;
                }
                let last = bad.rdata.len() - 1;
                for octet in 0..20 {
                    bad.rdata[last] = octet;
                    bad.rdata[last - 1] = 0xee;
                    response.answer.push(bad.clone());
                }
            }
        }
    });
    assert_eq!(judged.verdict.security(), Security::Bogus);
    assert_eq!(client.checks, 3 + 16);
}

#[test]
fn digests_that_fit_no_key_are_counted() {
    let mut world = World::new(vec![
        Zone::new(".", 1),
        Zone::new("tld.", 2).hosts(&["www.tld."]),
    ]);
    let root = world.zone_mut(".");
    let set = root.sets.get_mut(&name("tld.")).unwrap();
    let set = set.get_mut(&rtype::DS).unwrap();
    let honest = set[0].clone();
    set.clear();
    for octet in 0..10 {
        let mut wrong = honest.clone();
        wrong[10] = wrong[10].wrapping_add(octet + 1);
        set.push(wrong);
    }
    let judged = tampered(&world, "www.tld.", rtype::A, |_, _| {});
    is_bogus(&judged, Why::OverBudget);
}
