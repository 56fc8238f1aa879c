//! Lies about zones, keys and cuts, and what the operator says about them.

use crate::{
    dnssec::{Security, Why},
    wire::{Question, Response, rcode, rtype},
};

use super::{
    super::{
        answers::world,
        lab::{
            Client, EXPIRATION, INCEPTION, Signer, TTL_S, ToSign, UNIX_S, World, Zone, ds_rdata,
            name, now, question, record,
        },
    },
    is_bogus, lab, only, tampered, without,
};

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
fn negative_trust_anchors_switch_off_until_they_end() {
    let lab = lab();
    let broken = |question: &Question, response: &mut Response| {
        if question.name.is_within(&name("sec.lab.")) && question.qtype != rtype::DS {
            without(&mut response.answer, rtype::RRSIG);
        }
    };
    let mut client = Client::new(&lab);
    let anchors = &mut client.settings.negative_trust_anchors;
    anchors.insert(name("sec.lab."), UNIX_S + 10);
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
    let mut validation = Validation::new(asked.clone(), &broken, settings, now());
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

#[test]
fn a_name_that_became_a_zone_is_believed_at_once() {
    let before = World::new(vec![Zone::new(".", 1), Zone::new("tld.", 2)]);
    let after = World::new(vec![
        Zone::new(".", 1),
        Zone::new("tld.", 2),
        Zone::new("new.tld.", 3).hosts(&["www.new.tld."]),
    ]);
    let mut client = Client::new(&before);
    // An unsigned lie makes the walk learn that the name is no zone.
    client.ask_tampered(&question("www.new.tld.", rtype::A), |question, response| {
        if question.qtype == rtype::A {
            response.authority.clear();
        }
    });
    assert!(client.keys.lookup(&name("new.tld."), &client.now).is_some());
    client.world = &after;
    let judged = client.ask(&question("www.new.tld.", rtype::A));
    assert_eq!(judged.verdict.security(), Security::Secure, "{judged:?}");
}

#[test]
fn an_alias_that_a_name_signs_for_itself_is_no_answer_about_its_ds() {
    let lab = lab();
    let child = lab.zone("sec.lab.");
    let apex = name("sec.lab.");
    let target = name("www.evil.lab.").as_wire().to_vec();
    let alias = child.signed(&apex, rtype::CNAME, &apex, &[target]);
    for owner in ["www.sec.lab.", "sec.lab."] {
        let judged = tampered(&lab, owner, rtype::A, |question, response| {
            if only(question, "sec.lab.", rtype::DS) {
                response.answer.clone_from(&alias);
            }
        });
        assert_eq!(judged.verdict.security(), Security::Bogus);
    }
}

#[test]
fn keys_under_another_owner_are_not_the_zones() {
    let lab = lab();
    let evil = lab.zone("evil.lab.");
    let judged = tampered(&lab, "www.sec.lab.", rtype::A, |question, response| {
        if only(question, "sec.lab.", rtype::DNSKEY) {
            response.answer = evil.set(&evil.apex, rtype::DNSKEY, &evil.apex);
        }
    });
    is_bogus(&judged, Why::KeyMissing);
}
