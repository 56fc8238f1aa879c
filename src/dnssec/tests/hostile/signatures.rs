//! Lies with signatures: stripped, stretched, borrowed, out of time.

use crate::{
    dnssec::{Security, Why},
    wire::{Name, Question, Record, Response, rcode, rtype},
};

use super::{
    super::{
        answers::world,
        lab::{Client, EXPIRATION, INCEPTION, ToSign, World, Zone, name, question, record},
    },
    forge, is_bogus, lab, nsec, tampered, without,
};

#[test]
fn a_signature_with_fewer_labels_than_its_signer_is_no_wildcard() {
    let lab = lab();
    let zone = lab.zone("sec.lab.");
    let rdata = vec![vec![6, 6, 6, 6]];
    let wildcard = name("*.lab.");
    let rrsig = zone.signer.as_ref().unwrap().rrsig(&ToSign {
        labels: 1,
        ..zone.to_sign(&wildcard, rtype::A, &rdata)
    });
    let proof = nsec(zone, "sec.lab.", "sec.lab.", &[2, 6, 46, 47]);
    for owner in ["www.sec.lab.", "www.evil.lab.", "any.lab."] {
        let judged = tampered(&lab, owner, rtype::A, |question, response| {
            if question.qtype == rtype::A {
                response.rcode = rcode::NOERROR;
                response.answer = vec![
                    forge(owner, rtype::A, &rdata[0]),
                    forge(owner, rtype::RRSIG, &rrsig),
                ];
                response.authority.clone_from(&proof);
            }
        });
        assert_eq!(
            judged.verdict.security(),
            Security::Bogus,
            "{owner} {judged:?}"
        );
        if owner == "www.sec.lab." {
            is_bogus(&judged, Why::SignatureLabels);
        }
    }
}

#[test]
fn wildcards_need_the_proof_that_nothing_is_closer() {
    let world = world();
    for (owner, qtype) in [
        ("x.wild.example.com.", rtype::A),
        ("x.wild.example.org.", rtype::A),
        ("x.walias.example.com.", rtype::A),
        ("x.walias.example.com.", rtype::CNAME),
    ] {
        let judged = tampered(&world, owner, qtype, |question, response| {
            if question.qtype == qtype {
                response.authority.clear();
            }
        });
        is_bogus(&judged, Why::WildcardUnproven);
    }
}

#[test]
fn a_dname_out_of_a_wildcard_needs_its_proof() {
    let target = name("example.org.");
    let mut world = world();
    let zone = world.zone_mut("example.com.");
    zone.put(
        &name("*.dwild.example.com."),
        rtype::DNAME,
        target.as_wire().to_vec(),
    );
    let owner = name("x.dwild.example.com.");
    let records =
        world
            .zone("example.com.")
            .set(&name("*.dwild.example.com."), rtype::DNAME, &owner);
    let proof = world.zone("example.com.").over(&owner);
    let ask = |proof: &[Record]| {
        tampered(
            &world,
            "www.x.dwild.example.com.",
            rtype::A,
            |question, response| {
                if question.qtype == rtype::A && question.name.is_within(&owner) {
                    response.answer.clone_from(&records);
                    response.authority = proof.to_vec();
                    response.rcode = rcode::NOERROR;
                }
            },
        )
    };
    is_bogus(&ask(&[]), Why::WildcardUnproven);
    let judged = ask(&proof);
    assert_eq!(judged.verdict.security(), Security::Secure);
    assert_eq!(judged.next, Some(name("www.example.org.")));
}

#[test]
fn a_wildcard_is_no_answer_for_a_name_that_exists() {
    let lab = lab();
    let zone = lab.zone("sec.lab.");
    // y.sec.lab. exists as an ancestor of x.y.sec.lab.: the gap before it proves that much.
    let rdata = vec![vec![6, 6, 6, 6]];
    let wildcard = name("*.sec.lab.");
    let records = zone.signed(&wildcard, rtype::A, &name("a.y.sec.lab."), &rdata);
    let proof = zone.over(&name("a.y.sec.lab."));
    let judged = tampered(&lab, "a.y.sec.lab.", rtype::A, |question, response| {
        if question.qtype == rtype::A {
            response.rcode = rcode::NOERROR;
            response.answer.clone_from(&records);
            response.authority.clone_from(&proof);
        }
    });
    is_bogus(&judged, Why::WildcardUnproven);
}

#[test]
fn unsigned_answers_from_signed_zones_are_bogus() {
    let world = world();
    for (owner, qtype) in [
        ("www.example.com.", rtype::A),
        ("www.example.com.", rtype::AAAA),
        ("no.example.com.", rtype::A),
        ("www.example.org.", rtype::AAAA),
        ("no.example.org.", rtype::A),
        ("example.com.", rtype::A),
        ("no.", rtype::A),
        ("com.", rtype::A),
        (".", rtype::A),
    ] {
        let strip = |question: &Question, response: &mut Response| {
            if question.qtype == qtype {
                without(&mut response.answer, rtype::RRSIG);
                without(&mut response.authority, rtype::RRSIG);
            }
        };
        is_bogus(
            &tampered(&world, owner, qtype, strip),
            Why::SignatureMissing,
        );
        let judged = tampered(&world, owner, qtype, |question, response| {
            if question.qtype == qtype {
                response.authority.clear();
                without(&mut response.answer, rtype::RRSIG);
            }
        });
        assert_eq!(
            judged.verdict.security(),
            Security::Bogus,
            "{owner} {judged:?}"
        );
    }
}

#[test]
fn an_upstream_without_dnssec_makes_everything_bogus_not_insecure() {
    let world = world();
    for owner in ["www.example.com.", "www.unsigned.com.", "no.org."] {
        let judged = tampered(&world, owner, rtype::A, |_, response| {
            for section in [&mut response.answer, &mut response.authority] {
                section
                    .retain(|one| !matches!(one.rtype, rtype::RRSIG | rtype::NSEC | rtype::NSEC3));
            }
        });
        assert_eq!(judged.verdict.security(), Security::Bogus, "{owner}");
    }
}

#[test]
fn unsigned_extras_are_stripped_and_the_answer_stays_secure() {
    let world = world();
    let judged = tampered(
        &world,
        "www.example.com.",
        rtype::A,
        |question, response| {
            if question.qtype == rtype::A {
                response.authority = vec![
                    forge("example.com.", rtype::NS, b"\x02ns\x00"),
                    forge("other.example.", rtype::A, &[6, 6, 6, 6]),
                ];
                response
                    .answer
                    .push(forge("unrelated.example.", rtype::A, &[6, 6, 6, 6]));
                response
                    .answer
                    .push(forge("www.example.com.", rtype::TXT, b"\x01x"));
            }
        },
    );
    assert_eq!(judged.verdict.security(), Security::Secure);
    assert_eq!((judged.answer.len(), judged.authority.len()), (2, 0));
}

#[test]
fn a_forged_cname_under_a_dname_is_replaced() {
    let world = world();
    let judged = tampered(
        &world,
        "www.tree.example.com.",
        rtype::A,
        |question, response| {
            if question.qtype == rtype::A {
                for one in &mut response.answer {
                    if one.rtype == rtype::CNAME {
                        one.rdata = Box::from(name("www.evil.").as_wire());
                    }
                }
            }
        },
    );
    assert_eq!(judged.verdict.security(), Security::Secure);
    let target = name("www.example.org.");
    assert_eq!(&*judged.answer[2].rdata, target.as_wire());
    assert_eq!(judged.answer[3].owner, target);
}

#[test]
fn an_unsigned_alias_in_a_signed_zone_is_bogus_even_at_the_apex() {
    let world = world();
    for owner in ["www.example.com.", "example.com."] {
        let judged = tampered(&world, owner, rtype::A, |question, response| {
            if question.qtype == rtype::A && question.name == name(owner) {
                response.authority.clear();
                response.rcode = rcode::NOERROR;
                response.answer = vec![forge(
                    owner,
                    rtype::CNAME,
                    name("www.unsigned.com.").as_wire(),
                )];
            }
        });
        is_bogus(&judged, Why::SignatureMissing);
    }
}

#[test]
fn a_bogus_link_anywhere_spoils_the_chain() {
    let world = world();
    for (owner, victim) in [
        ("alias.example.com.", "www.example.org."),
        ("out.example.com.", "out.example.com."),
        ("back.unsigned.com.", "www.example.com."),
    ] {
        let judged = tampered(&world, owner, rtype::A, |_, response| {
            for one in &mut response.answer {
                if one.owner == name(victim) && one.rtype == rtype::RRSIG {
                    let last = one.rdata.len() - 1;
                    one.rdata[last] ^= 1;
                }
            }
        });
        is_bogus(&judged, Why::SignatureInvalid);
    }
}

#[test]
fn time_is_strict_but_for_the_skew() {
    let world = world();
    for (unix_s, why) in [
        (u64::from(INCEPTION) - 299, None),
        (u64::from(INCEPTION) - 301, Some(Why::SignatureNotYetValid)),
        (u64::from(EXPIRATION) + 299, None),
        (u64::from(EXPIRATION) + 301, Some(Why::SignatureExpired)),
        // Half the circle of serial numbers away, and once around.
        (
            u64::from(INCEPTION) + 0x9000_0000,
            Some(Why::SignatureNotYetValid),
        ),
        (u64::from(INCEPTION) + (1 << 32), None),
    ] {
        let mut client = Client::new(&world);
        client.now.unix_s = unix_s;
        let judged = client.ask(&question("www.example.org.", rtype::A));
        assert_eq!(judged.verdict.reason().map(|one| one.why), why, "{unix_s}");
    }
}

#[test]
fn labels_cannot_be_more_than_the_owners() {
    let lab = lab();
    let judged = tampered(&lab, "www.sec.lab.", rtype::A, |question, response| {
        if question.qtype == rtype::A {
            response.answer[1].rdata[3] = 9;
        }
    });
    is_bogus(&judged, Why::SignatureLabels);
}

#[test]
fn a_signature_of_a_sibling_zone_does_not_count() {
    let lab = lab();
    let evil = lab.zone("evil.lab.");
    let rdata = vec![vec![6, 6, 6, 6]];
    let owner = name("www.sec.lab.");
    let signer = evil.signer.as_ref().unwrap();
    for zone in ["evil.lab.", "sec.lab.", "lab.", "ec.lab."] {
        let zone: Name = name(zone);
        let rrsig = signer.rrsig(&ToSign {
            zone: &zone,
            ..evil.to_sign(&owner, rtype::A, &rdata)
        });
        let judged = tampered(&lab, "www.sec.lab.", rtype::A, |question, response| {
            if question.qtype == rtype::A {
                response.answer = vec![
                    record(&owner, rtype::A, &rdata[0]),
                    record(&owner, rtype::RRSIG, &rrsig),
                ];
            }
        });
        assert_eq!(
            judged.verdict.security(),
            Security::Bogus,
            "{zone} {judged:?}"
        );
    }
}

#[test]
fn two_zones_with_one_key_do_not_sign_for_each_other() {
    let lab = World::new(vec![
        Zone::new(".", 1),
        Zone::new("one.", 7).hosts(&["www.one."]),
        Zone::new("two.", 7).hosts(&["www.two."]),
    ]);
    let rdata = vec![vec![6, 6, 6, 6]];
    let owner = name("www.one.");
    let two = lab.zone("two.");
    let stolen = two.signed(&owner, rtype::A, &owner, &rdata);
    let judged = tampered(&lab, "www.one.", rtype::A, |question, response| {
        if question.qtype == rtype::A {
            // Beside a signature that names the right zone, and does not fit.
            let honest = response.answer[1].clone();
            response.answer.clone_from(&stolen);
            response.answer.push(honest);
        }
    });
    is_bogus(&judged, Why::SignatureInvalid);
}
