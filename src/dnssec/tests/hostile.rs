//! Answers that lie, each in a way that some validator has believed. Every test names the lie; the
//! forged records carry good signatures wherever the liar could make them.

use crate::{
    dnssec::{Judged, Security, Why},
    wire::{Name, Question, Record, Response, rcode, rtype},
};

use super::{
    answers::world,
    lab::{
        Client, EXPIRATION, INCEPTION, Signer, TTL_S, ToSign, World, Zone, bitmap, ds_rdata, name,
        question, record,
    },
};

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
fn a_ds_out_of_a_wildcard_is_bogus() {
    let lab = lab();
    let parent = lab.zone("lab.");
    let liar = Signer::new(99);
    let apex = name("new.lab.");
    let ds = vec![ds_rdata(&liar.ds(&apex))];
    let records = parent.signed(&name("*.lab."), rtype::DS, &apex, &ds);
    let judged = tampered(&lab, "new.lab.", rtype::A, |question, response| {
        response.rcode = rcode::NOERROR;
        if question.name == apex {
            response.authority.clear();
            match question.qtype {
                rtype::DS => {
                    response.answer.clone_from(&records);
                    response.authority = parent.over(&apex);
                }
                other => {
                    let rdata = if other == rtype::DNSKEY {
                        vec![liar.dnskey.clone()]
                    } else {
                        vec![vec![6, 6, 6, 6]]
                    };
                    let rrsig = liar.rrsig(&ToSign {
                        zone: &apex,
                        labels: 2,
                        ..parent.to_sign(&apex, other, &rdata)
                    });
                    response.answer = vec![
                        record(&apex, other, &rdata[0]),
                        record(&apex, rtype::RRSIG, &rrsig),
                    ];
                }
            }
        }
    });
    is_bogus(&judged, Why::DsFromWildcard);
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
fn a_signer_below_the_owners_zone_is_no_zone() {
    let lab = lab();
    let liar = Signer::new(99);
    let owner = name("www.sec.lab.");
    let rdata = vec![vec![6, 6, 6, 6]];
    let rrsig = |rtype, rdata: &[Vec<u8>]| {
        liar.rrsig(&ToSign {
            zone: &owner,
            owner: &owner,
            labels: 3,
            rtype,
            ttl_s: TTL_S,
            rdata,
            inception: INCEPTION,
            expiration: EXPIRATION,
        })
    };
    let judged = tampered(&lab, "www.sec.lab.", rtype::A, |question, response| {
        if only(question, "www.sec.lab.", rtype::A) {
            response.answer = vec![
                record(&owner, rtype::A, &rdata[0]),
                record(&owner, rtype::RRSIG, &rrsig(rtype::A, &rdata)),
            ];
        }
        if only(question, "www.sec.lab.", rtype::DNSKEY) {
            let keys = vec![liar.dnskey.clone()];
            response.answer = vec![
                record(&owner, rtype::DNSKEY, &keys[0]),
                record(&owner, rtype::RRSIG, &rrsig(rtype::DNSKEY, &keys)),
            ];
        }
    });
    is_bogus(&judged, Why::SignerNotZone);
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
fn failed_fetches_are_indeterminate_and_give_nothing_out() {
    let world = world();
    for (lost, qtype) in [
        (".", rtype::DNSKEY),
        ("com.", rtype::DS),
        ("com.", rtype::DNSKEY),
        ("example.com.", rtype::DS),
        ("example.com.", rtype::DNSKEY),
    ] {
        let mut client = Client::new(&world);
        let judged = client.ask_through(&question("www.example.com.", rtype::A), |question| {
            (!only(question, lost, qtype)).then(|| world.respond(question))
        });
        assert_eq!(judged.verdict.security(), Security::Indeterminate);
        let reason = judged.verdict.reason().unwrap();
        assert_eq!((reason.why, reason.rtype), (Why::FetchFailed, qtype));
        assert!(judged.answer.is_empty());
        let judged = Client::new(&world).ask_tampered(
            &question("www.example.com.", rtype::A),
            |question, response| {
                if only(question, lost, qtype) {
                    response.answer.clear();
                    response.rcode = rcode::SERVFAIL;
                }
            },
        );
        assert_eq!(judged.verdict.reason().unwrap().why, Why::UpstreamFailure);
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
fn keys_that_may_not_sign_do_not_exist() {
    for (flags, protocol, why) in [
        (0x0181, 3, Why::KeyMissing),
        (0x0001, 3, Why::KeyWithoutZoneBit),
        (0x0101, 2, Why::KeyMissing),
    ] {
        let mut zone = Zone::new("tld.", 2).hosts(&["www.tld."]);
        let signer = Signer::with(2, flags, protocol, 15);
        zone.sets
            .get_mut(&zone.apex)
            .unwrap()
            .remove(&rtype::DNSKEY);
        let dnskey = signer.dnskey.clone();
        zone.put(&name("tld."), rtype::DNSKEY, dnskey);
        zone.signer = Some(signer);
        let world = World::new(vec![Zone::new(".", 1), zone]);
        let judged = tampered(&world, "www.tld.", rtype::A, |_, _| {});
        is_bogus(&judged, why);
    }
}

/// A signed `tld.` whose DS set at the root is what the caller makes of the honest one.
fn with_ds(change: impl Fn(&mut Vec<Vec<u8>>)) -> World {
    let mut world = World::new(vec![
        Zone::new(".", 1),
        Zone::new("tld.", 2).hosts(&["www.tld."]),
    ]);
    let root = world.zone_mut(".");
    let set = root.sets.get_mut(&name("tld.")).unwrap();
    change(set.get_mut(&rtype::DS).unwrap());
    world
}

#[test]
fn unknown_algorithms_and_digests_make_a_zone_insecure_never_bogus() {
    for (place, value, why) in [
        (2, 16, Why::UnsupportedAlgorithm),
        (2, 12, Why::UnsupportedAlgorithm),
        (2, 5, Why::UnsupportedAlgorithm),
        (2, 7, Why::UnsupportedAlgorithm),
        (2, 3, Why::UnsupportedAlgorithm),
        (2, 200, Why::UnsupportedAlgorithm),
        (3, 1, Why::UnsupportedDigest),
        (3, 3, Why::UnsupportedDigest),
        (3, 99, Why::UnsupportedDigest),
    ] {
        let world = with_ds(|set| set[0][place] = value);
        let judged = tampered(&world, "www.tld.", rtype::A, |_, _| {});
        assert_eq!(judged.verdict.security(), Security::Insecure, "{judged:?}");
        assert_eq!(judged.verdict.reason().unwrap().why, why);
        assert_eq!(judged.answer.len(), 2);
    }
}

#[test]
fn a_supported_ds_beside_unsupported_ones_decides() {
    let good = with_ds(|set| {
        let mut unknown = set[0].clone();
        unknown[2] = 200;
        set.push(unknown);
    });
    let judged = tampered(&good, "www.tld.", rtype::A, |_, _| {});
    assert_eq!(judged.verdict.security(), Security::Secure);
    let bad = with_ds(|set| {
        let mut unknown = set[0].clone();
        unknown[2] = 200;
        set[0][10] ^= 1;
        set.push(unknown);
    });
    is_bogus(
        &tampered(&bad, "www.tld.", rtype::A, |_, _| {}),
        Why::KeyMissing,
    );
}

#[test]
fn one_good_ds_among_bad_ones_is_enough() {
    let world = with_ds(|set| {
        let mut wrong = set[0].clone();
        wrong[10] ^= 1;
        set.push(wrong);
        let mut other_key = set[0].clone();
        other_key[0] ^= 1;
        set.push(other_key);
    });
    let judged = tampered(&world, "www.tld.", rtype::A, |_, _| {});
    assert_eq!(judged.verdict.security(), Security::Secure, "{judged:?}");
}

#[test]
fn sha1_digests_do_not_count_beside_better_ones() {
    let sha1_of_the_key = |set: &[Vec<u8>]| {
        let signer = Signer::new(2);
        let octets = [name("tld.").as_wire(), &signer.dnskey].concat();
        let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &octets);
        let mut rdata = set[0][..4].to_vec();
        rdata[3] = 1;
        rdata.extend_from_slice(digest.as_ref());
        rdata
    };
    let both = with_ds(|set| {
        let sha1 = sha1_of_the_key(set);
        set[0][10] ^= 1;
        set.push(sha1);
    });
    let mut client = Client::new(&both);
    client.settings.sha1 = true;
    is_bogus(
        &client.ask(&question("www.tld.", rtype::A)),
        Why::KeyMissing,
    );
    let alone = with_ds(|set| set[0] = sha1_of_the_key(set));
    let mut client = Client::new(&alone);
    client.settings.sha1 = true;
    let judged = client.ask(&question("www.tld.", rtype::A));
    assert_eq!(judged.verdict.security(), Security::Secure);
}

#[test]
fn a_key_set_trusted_by_digest_alone_is_not_trusted() {
    let world = world();
    let liar = Signer::new(99);
    for zone in [".", "example.com."] {
        let judged = tampered(
            &world,
            "www.example.com.",
            rtype::A,
            |question, response| {
                if only(question, zone, rtype::DNSKEY) {
                    let extra = record(&name(zone), rtype::DNSKEY, &liar.dnskey);
                    response.answer.push(extra);
                }
            },
        );
        is_bogus(&judged, Why::SignatureInvalid);
        let judged = tampered(
            &world,
            "www.example.com.",
            rtype::A,
            |question, response| {
                if only(question, zone, rtype::DNSKEY) {
                    without(&mut response.answer, rtype::DNSKEY);
                }
            },
        );
        assert_eq!(judged.verdict.security(), Security::Bogus);
    }
}

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
fn negative_trust_anchors_switch_off_until_they_end() {
    let lab = lab();
    let broken = |question: &Question, response: &mut Response| {
        if question.name.is_within(&name("sec.lab.")) && question.qtype != rtype::DS {
            without(&mut response.answer, rtype::RRSIG);
        }
    };
    let mut client = Client::new(&lab);
    let anchors = &mut client.settings.negative_trust_anchors;
    anchors.insert(name("sec.lab."), super::lab::UNIX_S + 10);
    let judged = client.ask_tampered(&question("www.sec.lab.", rtype::A), broken);
    assert_eq!(
        judged.verdict.reason().unwrap().why,
        Why::NegativeTrustAnchor
    );
    assert_eq!(judged.verdict.security(), Security::Insecure);
    client.now.unix_s += 10;
    let judged = client.ask_tampered(&question("www.sec.lab.", rtype::A), broken);
    assert_eq!(judged.verdict.security(), Security::Bogus);
}

#[test]
fn without_an_anchor_nothing_is_known() {
    let lab = lab();
    let mut client = Client::new(&lab);
    client.settings.anchors.clear();
    let judged = client.ask(&question("www.sec.lab.", rtype::A));
    assert_eq!(judged.verdict.security(), Security::Indeterminate);
    assert_eq!(judged.verdict.reason().unwrap().why, Why::NoAnchor);
}

#[test]
fn an_island_with_its_own_anchor_is_secure() {
    let world = world();
    let mut client = Client::new(&world);
    let island = name("island.unsigned.com.");
    let ds = world
        .zone("island.unsigned.com.")
        .signer
        .as_ref()
        .unwrap()
        .ds(&island);
    client.settings.anchors.insert(island, vec![ds]);
    let judged = client.ask(&question("www.island.unsigned.com.", rtype::A));
    assert_eq!(judged.verdict.security(), Security::Secure);
    let judged = client.ask(&question("www.unsigned.com.", rtype::A));
    assert_eq!(judged.verdict.security(), Security::Insecure);
}

#[test]
fn a_repaired_response_is_judged_anew() {
    use crate::dnssec::{KeyCache, Step, Validation};
    let lab = lab();
    let asked = question("www.sec.lab.", rtype::A);
    let settings = lab.settings().shared();
    let mut broken = lab.respond(&asked);
    without(&mut broken.answer, rtype::RRSIG);
    let keys = KeyCache::new();
    let mut validation = Validation::new(asked.clone(), &broken, settings, super::lab::now());
    let run = |validation: &mut Validation| loop {
        match validation.step(&keys) {
            Step::Done(judged) => return *judged,
            Step::Need(questions) => {
                for one in questions {
                    let response = lab.respond(&one);
                    validation.supply(one, Ok(&response));
                }
            }
        }
    };
    let judged = run(&mut validation);
    is_bogus(&judged, Why::SignatureMissing);
    assert_eq!(judged.verdict.reason().unwrap().source, Some(asked.clone()));
    validation.supply(asked.clone(), Ok(&lab.respond(&asked)));
    assert_eq!(run(&mut validation).verdict.security(), Security::Secure);
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

#[test]
fn a_private_zone_is_insecure_where_the_public_tree_has_no_such_name() {
    let lab = lab();
    let private = |question: &Question, response: &mut Response| {
        if question.name.is_within(&name("corp.")) && question.name != name("corp.") {
            *response = lab.respond(question);
            response.authority.clear();
            response.answer.clear();
            response.rcode = rcode::NOERROR;
            if question.qtype == rtype::A {
                response.answer = vec![record(&question.name, rtype::A, &[10, 0, 0, 1])];
            }
        }
    };
    let ask = |zones: &[&str], owner: &str| {
        let mut client = Client::new(&lab);
        client.settings.private_zones = zones.iter().map(|zone| name(zone)).collect();
        client.ask_tampered(&question(owner, rtype::A), private)
    };
    let judged = ask(&["corp."], "www.corp.");
    assert_eq!(judged.verdict.reason().unwrap().why, Why::PrivateZone);
    assert_eq!(judged.answer.len(), 1);
    is_bogus(&ask(&[], "www.corp."), Why::SignatureMissing);
    is_bogus(&ask(&["other."], "www.corp."), Why::SignatureMissing);
    // A zone that exists in public is what its parent says, whoever routes it where.
    let mut client = Client::new(&lab);
    client.settings.private_zones.insert(name("sec.lab."));
    let judged = client.ask_tampered(&question("www.sec.lab.", rtype::A), |_, response| {
        if response.question.qtype == rtype::A {
            without(&mut response.answer, rtype::RRSIG);
        }
    });
    is_bogus(&judged, Why::SignatureMissing);
}
