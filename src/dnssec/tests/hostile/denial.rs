//! Lies about what does not exist.

use crate::{
    dnssec::{Security, Why},
    wire::{Question, Response, rcode, rtype},
};

use super::{
    super::{
        answers::world,
        lab::{World, Zone, bitmap, name},
    },
    forge, is_bogus, lab, nsec, only, tampered, without,
};

#[test]
fn an_nsec_whose_next_name_leaves_its_zone_denies_nothing() {
    let lab = lab();
    // The liar's last NSEC should lead back to evil.lab., and leads over its sibling.
    let forged = nsec(
        lab.zone("evil.lab."),
        "www.evil.lab.",
        "zzz.lab.",
        &[1, 46, 47],
    );
    let judged = tampered(&lab, "zzz.evil.lab.", rtype::A, |_, response| {
        if response.rcode == rcode::NXDOMAIN {
            response
                .authority
                .retain(|one| one.owner == name("evil.lab."));
            response.authority.extend(forged.clone());
        }
    });
    is_bogus(&judged, Why::DenialMissing);
    let judged = tampered(&lab, "www.sec.lab.", rtype::A, |question, response| {
        if question.qtype == rtype::A {
            response.answer.clear();
            response.rcode = rcode::NXDOMAIN;
            response.authority.extend(forged.clone());
        }
    });
    assert_eq!(judged.verdict.security(), Security::Bogus);
}

#[test]
fn an_nsec_at_a_delegation_denies_nothing_at_or_below_it() {
    let lab = lab();
    let parent = lab.zone("lab.");
    let at_cut = parent.at(&name("sec.lab."));
    for owner in ["sec.lab.", "www.sec.lab.", "no.sec.lab.", "x.y.sec.lab."] {
        for rcode in [rcode::NOERROR, rcode::NXDOMAIN] {
            let judged = tampered(&lab, owner, rtype::A, |question, response| {
                if question.qtype == rtype::A {
                    response.answer.clear();
                    response.rcode = rcode;
                    response.authority = parent.set(&name("lab."), rtype::SOA, &name("lab."));
                    response.authority.extend(at_cut.clone());
                    response.authority.extend(parent.at(&name("lab.")));
                }
            });
            assert_eq!(
                judged.verdict.security(),
                Security::Bogus,
                "{owner} {judged:?}"
            );
        }
    }
}

#[test]
fn the_childs_apex_does_not_deny_its_own_ds() {
    let lab = lab();
    let child = lab.zone("sec.lab.");
    let apex = name("sec.lab.");
    let lie = |question: &Question, response: &mut Response| {
        if only(question, "sec.lab.", rtype::DS) {
            response.answer.clear();
            response.authority = child.set(&apex, rtype::SOA, &apex);
            response.authority.extend(child.at(&apex));
        }
    };
    for (owner, qtype) in [("sec.lab.", rtype::DS), ("www.sec.lab.", rtype::A)] {
        let judged = tampered(&lab, owner, qtype, lie);
        assert_eq!(judged.verdict.security(), Security::Bogus, "{judged:?}");
    }
    // The parent's own signature under a bitmap with SOA is no better.
    let parent = lab.zone("lab.");
    let forged = nsec(parent, "sec.lab.", "unsigned.lab.", &[2, 6, 46, 47]);
    for (owner, qtype) in [("sec.lab.", rtype::DS), ("www.sec.lab.", rtype::A)] {
        let judged = tampered(&lab, owner, qtype, |question, response| {
            if only(question, "sec.lab.", rtype::DS) {
                response.answer.clear();
                response.authority = parent.set(&name("lab."), rtype::SOA, &name("lab."));
                response.authority.extend(forged.clone());
            }
        });
        is_bogus(&judged, Why::DenialContradicts);
    }
}

#[test]
fn ds_denial_with_a_bogus_soa_beside_it_is_bogus() {
    let lab = lab();
    let judged = tampered(&lab, "www.unsigned.lab.", rtype::A, |question, response| {
        if only(question, "unsigned.lab.", rtype::DS) {
            for one in &mut response.authority {
                if one.rtype == rtype::SOA {
                    one.rdata[26] ^= 1;
                }
            }
        }
    });
    is_bogus(&judged, Why::SignatureInvalid);
}

#[test]
fn ds_denial_by_an_nsec_out_of_a_wildcard_is_bogus() {
    let lab = lab();
    let parent = lab.zone("lab.");
    let mut rdata = name("zzz.lab.").as_wire().to_vec();
    rdata.extend(bitmap(&[2, 46, 47]));
    let forged = parent.signed(&name("*.lab."), rtype::NSEC, &name("sec.lab."), &[rdata]);
    let judged = tampered(&lab, "www.sec.lab.", rtype::A, |question, response| {
        if only(question, "sec.lab.", rtype::DS) {
            response.answer.clear();
            response.authority = parent.set(&name("lab."), rtype::SOA, &name("lab."));
            response.authority.extend(forged.clone());
        }
        if question.qtype == rtype::A {
            without(&mut response.answer, rtype::RRSIG);
        }
    });
    is_bogus(&judged, Why::DenialMissing);
}

#[test]
fn nsec3_without_opt_out_over_a_name_proves_no_unsigned_delegation() {
    let world = World::new(vec![
        Zone::new(".", 1),
        Zone::new("tld.", 2)
            .nsec3(1, false)
            .hosts(&["a.tld.", "b.tld.", "c.tld."]),
        Zone::new("sec.tld.", 3).hosts(&["www.sec.tld."]),
    ]);
    let parent = world.zone("tld.");
    let judged = tampered(&world, "www.gone.tld.", rtype::A, |question, response| {
        response.rcode = rcode::NOERROR;
        if only(question, "gone.tld.", rtype::DS) {
            response.authority = parent.set(&name("tld."), rtype::SOA, &name("tld."));
            response.authority.extend(parent.at(&name("tld.")));
            response.authority.extend(parent.over(&name("gone.tld.")));
        } else if question.qtype == rtype::A {
            response.authority.clear();
            response.answer = vec![forge("www.gone.tld.", rtype::A, &[6, 6, 6, 6])];
        }
    });
    is_bogus(&judged, Why::SignatureMissing);
}

#[test]
fn nsec3_records_of_different_parameters_prove_nothing_together() {
    let world = world();
    let twin = World::new(vec![
        Zone::new(".", 1),
        Zone::new("org.", 3),
        Zone::new("example.org.", 5)
            .nsec3(6, false)
            .hosts(&["www.example.org.", "deep.under.example.org."]),
    ]);
    let other = twin.zone("example.org.").over(&name("no.example.org."));
    let judged = tampered(&world, "no.example.org.", rtype::A, |question, response| {
        if question.qtype == rtype::A {
            response.authority.extend(other.clone());
        }
    });
    is_bogus(&judged, Why::Nsec3Mixed);
}

#[test]
fn nsec3_over_a_delegation_denies_nothing_below_it() {
    let world = World::new(vec![
        Zone::new(".", 1),
        Zone::new("tld.", 2).nsec3(1, false).hosts(&["a.tld."]),
        Zone::new("sec.tld.", 3)
            .nsec3(1, false)
            .hosts(&["www.sec.tld."]),
    ]);
    let parent = world.zone("tld.");
    for owner in ["sec.tld.", "www.sec.tld."] {
        let judged = tampered(&world, owner, rtype::A, |question, response| {
            if question.qtype == rtype::A {
                response.answer.clear();
                response.rcode = rcode::NXDOMAIN;
                response.authority = parent.set(&name("tld."), rtype::SOA, &name("tld."));
                response.authority.extend(parent.at(&name("sec.tld.")));
                response
                    .authority
                    .extend(parent.over(&name("www.sec.tld.")));
                response.authority.extend(parent.over(&name("*.sec.tld.")));
            }
        });
        is_bogus(&judged, Why::DenialContradicts);
    }
}

#[test]
fn an_opt_out_span_takes_the_secure_away() {
    let world = World::new(vec![
        Zone::new(".", 1),
        Zone::new("tld.", 2)
            .nsec3(1, true)
            .hosts(&["a.tld.", "b.tld.", "c.tld.", "*.w.tld."]),
    ]);
    for (owner, qtype) in [
        ("no.tld.", rtype::A),
        ("x.w.tld.", rtype::A),
        ("x.w.tld.", rtype::AAAA),
        ("no.tld.", rtype::DS),
    ] {
        let judged = tampered(&world, owner, qtype, |_, _| {});
        assert_eq!(
            judged.verdict.security(),
            Security::Insecure,
            "{owner} {judged:?}"
        );
        assert_eq!(judged.verdict.reason().unwrap().why, Why::OptOut);
    }
    // A name that is there denies its types by itself.
    let judged = tampered(&world, "a.tld.", rtype::AAAA, |_, _| {});
    assert_eq!(judged.verdict.security(), Security::Secure);
}

#[test]
fn nxdomain_without_the_proof_that_no_wildcard_matches_is_bogus() {
    let world = world();
    for zone in ["example.com.", "example.org."] {
        let apex = name(zone);
        let covering = world.zone(zone).over(&apex.child(b"*").unwrap());
        let others = (b'a'..=b'z')
            .map(|letter| apex.child(&[letter; 5]).unwrap())
            .filter(|owner| world.zone(zone).over(owner) != covering);
        for owner in others.take(3) {
            let judged = tampered(
                &world,
                &owner.to_string(),
                rtype::A,
                |question, response| {
                    if question.qtype == rtype::A {
                        // The apex's own record may be the one, and is needed for NSEC3.
                        let needed = world.zone(zone).at(&apex);
                        let nsec3 = zone == "example.org.";
                        response.authority.retain(|one| {
                            !covering.contains(one) || (nsec3 && needed.contains(one))
                        });
                    }
                },
            );
            if zone == "example.com." || covering != world.zone(zone).at(&apex) {
                is_bogus(&judged, Why::DenialMissing);
            }
        }
    }
}

#[test]
fn a_negative_answer_with_signatures_elsewhere_only_is_bogus() {
    let world = world();
    let stray = world.zone("example.com.").set(
        &name("www.example.com."),
        rtype::A,
        &name("www.example.com."),
    );
    let judged = tampered(&world, "no.example.com.", rtype::A, |question, response| {
        if question.qtype == rtype::A {
            response.answer.clone_from(&stray);
            response.authority.clear();
            response.rcode = rcode::NOERROR;
        }
    });
    is_bogus(&judged, Why::DenialMissing);
}

#[test]
fn a_ds_response_without_proof_makes_nothing_insecure() {
    let lab = lab();
    let judged = tampered(&lab, "www.sec.lab.", rtype::A, |question, response| {
        if only(question, "sec.lab.", rtype::DS) {
            response.answer.clear();
        }
    });
    assert_eq!(judged.verdict.security(), Security::Bogus);
    let judged = tampered(&lab, "www.sec.lab.", rtype::A, |question, response| {
        if question.qtype == rtype::DS {
            response.answer.clear();
            response.rcode = rcode::NXDOMAIN;
        } else {
            without(&mut response.answer, rtype::RRSIG);
        }
    });
    assert_eq!(judged.verdict.security(), Security::Bogus);
}

#[test]
fn a_forged_absence_above_does_not_make_data_below_insecure() {
    let lab = lab();
    // The name below lies in a gap; what is found there all the same is unsigned, and bogus.
    let judged = tampered(&lab, "www.aaa.lab.", rtype::A, |question, response| {
        if question.qtype == rtype::A {
            response.rcode = rcode::NOERROR;
            response.authority.clear();
            response.answer = vec![forge("www.aaa.lab.", rtype::A, &[6, 6, 6, 6])];
        }
    });
    is_bogus(&judged, Why::SignatureMissing);
}

#[test]
fn the_proof_decides_the_rcode() {
    let world = world();
    for (owner, truth) in [
        ("www.example.com.", rcode::NOERROR),
        ("under.example.com.", rcode::NOERROR),
        ("under.example.org.", rcode::NOERROR),
        ("no.example.com.", rcode::NXDOMAIN),
        ("no.example.org.", rcode::NXDOMAIN),
    ] {
        for lie in [rcode::NOERROR, rcode::NXDOMAIN] {
            let judged = tampered(&world, owner, rtype::AAAA, |question, response| {
                if question.qtype == rtype::AAAA {
                    response.rcode = lie;
                }
            });
            assert_eq!(judged.verdict.security(), Security::Secure);
            assert_eq!(judged.rcode, truth, "{owner}");
        }
    }
}
