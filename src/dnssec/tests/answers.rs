//! Honest answers from every kind of zone.

use crate::{
    dnssec::{Judged, Learned, Security, Why, ZoneStatus, foresee},
    wire::{rcode, rtype},
};

use super::lab::{Client, World, Zone, name, question};

/// The root, two top-level domains, signed and unsigned zones below, in every style of denial.
pub(super) fn world() -> World {
    let long = [
        "a".repeat(60),
        "b".repeat(60),
        "c".repeat(60),
        "d".repeat(40),
    ]
    .join(".");
    World::new(vec![
        Zone::new(".", 1),
        Zone::new("com.", 2).nsec3(0, true),
        Zone::new("org.", 3),
        Zone::new("example.com.", 4)
            .hosts(&[
                "www.example.com.",
                "deep.under.example.com.",
                "*.wild.example.com.",
            ])
            .alias("alias.example.com.", "www.example.org.")
            .alias("local.example.com.", "www.example.com.")
            .alias("out.example.com.", "www.unsigned.org.")
            .alias("gone.example.com.", "nothing.example.org.")
            .alias("*.walias.example.com.", "www.example.org.")
            .alias("loop.example.com.", "loop2.example.com.")
            .alias("loop2.example.com.", "loop.example.com.")
            .with(
                "tree.example.com.",
                rtype::DNAME,
                name("example.org.").as_wire(),
            )
            .with("longtree.example.com.", rtype::DNAME, name(&long).as_wire()),
        Zone::new("example.org.", 5).nsec3(5, false).hosts(&[
            "www.example.org.",
            "deep.under.example.org.",
            "*.wild.example.org.",
        ]),
        Zone::new("unsigned.org.", 0).hosts(&["www.unsigned.org."]),
        Zone::new("unsigned.com.", 0)
            .hosts(&["www.unsigned.com."])
            .alias("back.unsigned.com.", "www.example.com."),
        Zone::new("island.unsigned.com.", 6).hosts(&["www.island.unsigned.com."]),
    ])
}

fn ask(owner: &str, qtype: u16) -> Judged {
    let world = world();
    let mut cold = Client::new(&world);
    let judged = cold.ask(&question(owner, qtype));
    let warm = cold.ask(&question(owner, qtype));
    let mut again = warm;
    again.learned.clone_from(&judged.learned);
    again.proven.clone_from(&judged.proven);
    assert_eq!(again, judged, "warm keys change nothing");
    let mut early = Client::new(&world);
    early.speculate = true;
    let mut again = early.ask(&question(owner, qtype));
    again.learned.clone_from(&judged.learned);
    again.proven.clone_from(&judged.proven);
    assert_eq!(again, judged, "speculation changes nothing");
    judged
}

#[track_caller]
fn is_secure(owner: &str, qtype: u16, rcode: u16, answers: usize) -> Judged {
    let judged = ask(owner, qtype);
    assert_eq!(judged.verdict.security(), Security::Secure, "{judged:?}");
    assert_eq!(judged.rcode, rcode, "{judged:?}");
    assert_eq!(judged.answer.len(), answers, "{judged:?}");
    judged
}

#[track_caller]
fn is_insecure(owner: &str, qtype: u16, rcode: u16, why: Why) -> Judged {
    let judged = ask(owner, qtype);
    assert_eq!(
        judged.verdict.reason().map(|one| one.why),
        Some(why),
        "{judged:?}"
    );
    assert_eq!(judged.verdict.security(), Security::Insecure, "{judged:?}");
    assert_eq!(judged.rcode, rcode, "{judged:?}");
    judged
}

#[test]
fn positive_answers_are_secure_with_their_signatures() {
    is_secure("www.example.com.", rtype::A, rcode::NOERROR, 2);
    is_secure("www.example.org.", rtype::A, rcode::NOERROR, 2);
    is_secure("example.com.", rtype::SOA, rcode::NOERROR, 2);
    is_secure(".", rtype::NS, rcode::NOERROR, 2);
}

#[test]
fn questions_for_keys_and_their_digests_are_answered_from_the_right_side() {
    is_secure("example.com.", rtype::DNSKEY, rcode::NOERROR, 2);
    is_secure("example.com.", rtype::DS, rcode::NOERROR, 2);
    is_secure(".", rtype::DNSKEY, rcode::NOERROR, 2);
    is_secure("unsigned.org.", rtype::DS, rcode::NOERROR, 0);
    is_secure("www.example.com.", rtype::DS, rcode::NOERROR, 0);
    is_secure(".", rtype::DS, rcode::NOERROR, 0);
    is_insecure("unsigned.com.", rtype::DS, rcode::NOERROR, Why::OptOut);
    is_insecure(
        "island.unsigned.com.",
        rtype::DS,
        rcode::NOERROR,
        Why::OptOut,
    );
}

#[test]
fn absent_types_and_names_are_secure_with_their_proofs() {
    for zone in ["example.com.", "example.org."] {
        let under = |label: &str| format!("{label}.{zone}");
        is_secure(&under("www"), rtype::AAAA, rcode::NOERROR, 0);
        is_secure(zone, rtype::AAAA, rcode::NOERROR, 0);
        is_secure(&under("under"), rtype::A, rcode::NOERROR, 0);
        is_secure(&under("nothing"), rtype::A, rcode::NXDOMAIN, 0);
        is_secure(&under("nothing.at.all"), rtype::A, rcode::NXDOMAIN, 0);
        is_secure(&under("below.www"), rtype::A, rcode::NXDOMAIN, 0);
        is_secure(&under("x.wild"), rtype::AAAA, rcode::NOERROR, 0);
    }
    is_secure("nothing.", rtype::A, rcode::NXDOMAIN, 0);
    is_secure("www.nothing.", rtype::A, rcode::NXDOMAIN, 0);
    is_insecure("nothing.com.", rtype::A, rcode::NXDOMAIN, Why::OptOut);
}

#[test]
fn wildcards_are_secure_with_their_proofs() {
    for owner in ["x.wild.example.com.", "y.x.wild.example.org."] {
        let judged = is_secure(owner, rtype::A, rcode::NOERROR, 2);
        assert!(judged.wildcard);
        assert_eq!(judged.authority.len(), 2);
    }
    assert!(!is_secure("*.wild.example.com.", rtype::A, rcode::NOERROR, 2).wildcard);
}

#[test]
fn aliases_are_as_secure_as_their_weakest_link() {
    is_secure("alias.example.com.", rtype::A, rcode::NOERROR, 4);
    is_secure("local.example.com.", rtype::A, rcode::NOERROR, 4);
    is_secure("x.walias.example.com.", rtype::A, rcode::NOERROR, 4);
    is_secure("gone.example.com.", rtype::A, rcode::NXDOMAIN, 2);
    is_secure("alias.example.com.", rtype::CNAME, rcode::NOERROR, 2);
    is_insecure(
        "out.example.com.",
        rtype::A,
        rcode::NOERROR,
        Why::UnsignedDelegation,
    );
    is_insecure("back.unsigned.com.", rtype::A, rcode::NOERROR, Why::OptOut);
}

#[test]
fn redirections_are_synthesized_here() {
    let judged = is_secure("www.tree.example.com.", rtype::A, rcode::NOERROR, 5);
    assert_eq!(judged.answer[2].rtype, rtype::CNAME);
    is_secure("x.wild.tree.example.com.", rtype::A, rcode::NOERROR, 5);
    is_secure("no.tree.example.com.", rtype::A, rcode::NXDOMAIN, 3);
    is_secure("tree.example.com.", rtype::A, rcode::NOERROR, 0);
    let long = format!("{}.longtree.example.com.", "x".repeat(60));
    is_secure(&long, rtype::A, rcode::YXDOMAIN, 2);
}

#[test]
fn unsigned_zones_are_insecure_by_their_parents_word() {
    is_insecure(
        "www.unsigned.org.",
        rtype::A,
        rcode::NOERROR,
        Why::UnsignedDelegation,
    );
    is_insecure(
        "no.unsigned.org.",
        rtype::A,
        rcode::NXDOMAIN,
        Why::UnsignedDelegation,
    );
    is_insecure("www.unsigned.com.", rtype::A, rcode::NOERROR, Why::OptOut);
    is_insecure(
        "www.unsigned.com.",
        rtype::AAAA,
        rcode::NOERROR,
        Why::OptOut,
    );
    is_insecure(
        "www.island.unsigned.com.",
        rtype::A,
        rcode::NOERROR,
        Why::OptOut,
    );
    is_insecure(
        "no.island.unsigned.com.",
        rtype::A,
        rcode::NXDOMAIN,
        Why::OptOut,
    );
}

#[test]
fn a_circle_of_aliases_is_bogus() {
    let judged = ask("loop.example.com.", rtype::A);
    let reason = judged.verdict.reason().unwrap();
    assert_eq!(reason.why, Why::AliasLoop);
    assert!(judged.answer.is_empty());
}

#[test]
fn a_response_that_stops_at_an_alias_says_what_to_ask_next() {
    let world = world();
    let judged = Client::new(&world).ask_tampered(
        &question("alias.example.com.", rtype::A),
        |question, response| {
            if question.qtype == rtype::A {
                response.answer.truncate(2);
            }
        },
    );
    assert_eq!(judged.verdict.security(), Security::Secure);
    assert_eq!(judged.next, Some(name("www.example.org.")));
    // A SOA of some other place denies nothing, and is not given out.
    let judged = Client::new(&world).ask_tampered(
        &question("alias.example.com.", rtype::A),
        |question, response| {
            if question.qtype == rtype::A {
                response.answer.truncate(2);
                let soa = world.respond(&super::lab::question("example.com.", rtype::SOA));
                response.authority = soa.answer;
            }
        },
    );
    assert_eq!(judged.verdict.security(), Security::Secure);
    assert_eq!(judged.next, Some(name("www.example.org.")));
    assert!(judged.authority.is_empty());
}

#[test]
fn the_soa_says_which_zone_denies_the_end_of_a_chain() {
    // The wildcard's proof is of the zone above; the denial is of the unsigned zone below.
    let world = World::new(vec![
        Zone::new(".", 1),
        Zone::new("tld.", 2).alias("*.w.tld.", "no.sub.tld."),
        Zone::new("sub.tld.", 0),
    ]);
    let judged = Client::new(&world).ask(&question("x.w.tld.", rtype::A));
    assert_eq!(judged.verdict.security(), Security::Insecure, "{judged:?}");
    assert_eq!(judged.rcode, rcode::NXDOMAIN);
    let reason = judged.verdict.reason().unwrap();
    assert_eq!(reason.why, Why::UnsignedDelegation);
}

#[test]
fn a_cold_chain_takes_one_round_when_foreseen_and_none_when_known() {
    let world = world();
    let mut client = Client::new(&world);
    client.speculate = true;
    client.ask(&question("www.example.org.", rtype::A));
    // The root's keys; DS and keys of org and the zone.
    assert_eq!((client.rounds, client.fetches), (0, 5));
    client.ask(&question("deep.under.example.org.", rtype::A));
    assert_eq!((client.rounds, client.fetches), (0, 0));
    client.ask(&question("www.unsigned.org.", rtype::A));
    assert_eq!(client.rounds, 0);
    client.speculate = false;
    client.keys = crate::dnssec::KeyCache::new();
    client.ask(&question("www.example.org.", rtype::A));
    assert_eq!(client.rounds, 1);
    assert_eq!(client.checks, 6);
}

#[test]
fn below_an_unknown_name_a_leaf_is_taken_for_a_zone_where_people_register_names() {
    let world = World::new(vec![Zone::new(".", 1)]);
    let client = Client::new(&world);
    let foreseen = |qname: &str| {
        let question = question(qname, rtype::A);
        foresee(&question, &client.keys, &client.settings, &client.now)
    };
    for (qname, deepest) in [
        ("www.example.org.", "example.org."),
        ("example.co.uk.", "example.co.uk."),
        ("www.example.co.uk.", "example.co.uk."),
        ("example.org.", "example.org."),
    ] {
        let foreseen = foreseen(qname);
        for qtype in [rtype::DS, rtype::DNSKEY] {
            let of_type = foreseen.iter().filter(|one| one.qtype == qtype);
            let names: Vec<_> = of_type.map(|one| &one.name).collect();
            assert_eq!(names.last(), Some(&&name(deepest)), "{qname} {qtype}");
        }
    }
}

#[test]
fn ttls_are_capped_by_the_original_ttl_and_by_the_signatures_end() {
    let world = world();
    let mut client = Client::new(&world);
    let judged = client.ask_tampered(&question("www.example.org.", rtype::A), |_, response| {
        for one in &mut response.answer {
            one.ttl_s = 1_000_000;
        }
    });
    assert!(
        judged
            .answer
            .iter()
            .all(|one| one.ttl_s == super::lab::TTL_S)
    );
    client.now.unix_s = u64::from(super::lab::EXPIRATION) - 100;
    let judged = client.ask(&question("www.example.org.", rtype::A));
    assert!(
        judged.answer.iter().all(|one| one.ttl_s == 100),
        "{judged:?}"
    );
    assert_eq!(judged.ttl_cap_s, 100);
}

#[test]
fn a_child_that_came_into_being_unsigned_is_found_when_its_answer_is_doubted() {
    let world = world();
    let mut client = Client::new(&world);
    let asked = question("www.unsigned.org.", rtype::A);
    client.ask(&question("www.example.org.", rtype::A));
    // What was known before the delegation was made.
    let no_cut = Learned {
        name: name("unsigned.org."),
        status: ZoneStatus::NotACut {
            nothing_below: true,
        },
        ttl_s: 3600,
    };
    client.keys.learn(vec![no_cut], &client.now);
    assert_eq!(client.ask(&asked).verdict.security(), Security::Bogus);
    // Just learnt, so not doubted yet.
    client.keys.doubt(&asked.name, &client.now);
    assert_eq!(client.ask(&asked).verdict.security(), Security::Bogus);
    client.now = client.now.plus(std::time::Duration::from_secs(61));
    client.keys.doubt(&asked.name, &client.now);
    assert_eq!(client.ask(&asked).verdict.security(), Security::Insecure);
}
